"""Losses of short trainings, learners' returns, and a rollout's actions, as before the rebuild."""

import pytest
from golden import differences


@pytest.mark.parametrize("group", ["learned sources", "training", "rollouts"])
def test_nothing_changed(group):
    assert differences(group) == []
