"""The package as a whole: public names and reproducible addresses."""

import numpy as np
import pytest

import adkit as ad


@pytest.mark.parametrize("module", [ad, ad.envs, ad.sources, ad.views])
def test_every_public_name_exists_and_is_described(module):
    for name in module.__all__:
        assert getattr(module, name).__doc__, f"{module.__name__}.{name} has no docstring"
    with pytest.raises(AttributeError, match="it has"):
        _ = module.nonsense


def test_draws_are_uniform_and_addresses_are_independent():
    keys = ad.Rng.of(0, "agent", np.arange(20000))
    draws = np.stack([keys.at(step).uniform(draw) for step in range(3) for draw in range(3)])
    assert abs(draws.mean() - 0.5) < 0.003 and abs(draws.var() - 1 / 12) < 0.002
    assert np.abs(np.corrcoef(draws) - np.eye(9)).max() < 0.03
    others = [ad.Rng.of(1, "agent", np.arange(20000)), ad.Rng.of(0, "env", np.arange(20000))]
    assert all(abs(np.corrcoef(keys.uniform(), other.uniform())[0, 1]) < 0.03 for other in others)
    assert (keys[5:7].at(3).uniform() == keys.at(3).uniform()[5:7]).all()
