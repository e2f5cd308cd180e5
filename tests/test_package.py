"""The package as a whole: import order, lazy loading, reproducible addresses, statistics and pictures."""

import subprocess
import sys

import numpy as np
import pytest
from helpers import same

import adkit as ad


def test_importing_adkit_loads_nothing_heavy_and_changes_nothing():
    code = """
import random, sys, numpy as np
before = random.getstate(), np.random.get_state()[1].tobytes()
import adkit
heavy = {"torch", "numba", "pandas", "scipy", "sklearn", "statsmodels", "yaml", "plotly", "matplotlib", "ipywidgets"}
heavy &= set(sys.modules)
assert not heavy, heavy
assert before == (random.getstate(), np.random.get_state()[1].tobytes())
import gymnasium
assert gymnasium.make("adkit/DarkRoom-v0", goal=(3, 4)).reset(seed=0)[0].tolist() == [4, 4]
from adkit.rollout import collect
assert adkit.collect is collect and callable(adkit.distill)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


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


def test_the_bootstrap_covers_the_truth_and_respects_tasks():
    """100 worlds of 12 tasks x 20 lifetimes with shared task effects: the interval holds the mean about 95 times, and is no wider
    than 12 tasks make it."""
    rng = np.random.default_rng(0)
    covered, widths = 0, []
    for _ in range(100):
        values = rng.normal(size=(12, 1)) + 0.2 * rng.normal(size=(12, 20))
        interval = ad.stats.bootstrap(values, draws=200)
        covered += interval.low <= 0 <= interval.high
        widths.append((interval.high - interval.low, 2 * 1.96 * values.mean(1).std() / np.sqrt(12)))
    width, known = np.mean(widths, axis=0)
    assert covered >= 85 and width == pytest.approx(known, rel=0.2)


def test_curves_are_summarised_as_defined():
    returns = np.concatenate([np.zeros((2, 3, 10)), np.full((2, 3, 10), 8.0)], axis=2)
    assert (
        ad.stats.improvement(returns).estimate == 8
        and ad.stats.regret(returns, [8, 8])[0, 0, -1] == 80
    )
    assert (
        ad.stats.episodes_to(returns, 8.0, smooth=1) == 11
        and ad.stats.episodes_to(returns, 8.0, smooth=5) == 15
    )
    assert ad.stats.episodes_to(returns, 9.0) == np.inf
    assert ad.stats.speed_up(returns, returns[:, :, 8:], 7.9, draws=50).estimate == pytest.approx(
        15 / 7
    )
    assert ad.stats.iqm(np.array([0, 0, 4, 4, 4, 4, 100, 100])) == 4
    assert ad.stats.equivalent(np.random.default_rng(0).normal(size=500), 0.5) < 0.01
    np.testing.assert_allclose(ad.stats.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])


def test_seeds_make_runs_repeatable(env):
    live = lambda seed: ad.collect(env, env.tasks(), ad.sources.Random(), episodes=3, seed=seed)
    assert same(live(0), live(0)) and not same(live(0), live(1))
