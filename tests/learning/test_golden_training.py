"""Losses of short trainings, and a rollout's actions, as before the rebuild."""

import pytest
from golden import differences


@pytest.mark.parametrize("group", ["training", "rollouts"])
def test_nothing_changed(group):
    assert differences(group) == []
