"""The nested bootstrap, learning curves and multiplicity."""

import numpy as np
import pytest

from adkit import stats


def test_resampling_by_multinomials_is_resampling_by_loops():
    """Draw seeds, then orbits, then histories with replacement, one by one: each count has the
    same mean and spread."""
    rng = np.random.default_rng(0)
    seed, orbit = np.array([0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 0, 1, 1, 2])
    loops = np.zeros((4000, 7))
    for draw in loops:
        for s in rng.integers(2, size=2):
            inside = np.unique(orbit[seed == s])
            for o in rng.choice(inside, len(inside)):
                mine = np.flatnonzero((seed == s) & (orbit == o))
                np.add.at(draw, rng.choice(mine, len(mine)), 1)
    counts = stats.resamples(7, [seed, orbit], draws=20000)
    assert counts.shape == (20000, 7) and np.abs(counts.mean(0) - 1).max() < 0.05
    np.testing.assert_allclose(np.cov(counts.T), np.cov(loops.T), atol=0.15)


def test_the_same_things_under_several_models_tell_no_more_than_under_one():
    """Copies of a model's results are no new results; differences of models widen the interval."""
    rng = np.random.default_rng(0)
    orbit = np.repeat(np.arange(20), 3)
    value, names = rng.normal(size=60), [orbit, np.arange(60)]
    one = stats.bootstrap(value, names)
    copies = [np.tile(name, 3) for name in names], np.repeat([0, 1, 2], 60)
    three = stats.bootstrap(np.tile(value, 3), copies[0], crossed=copies[1])
    assert three == pytest.approx(one, abs=1e-12)
    nested = stats.bootstrap(np.tile(value, 3), [copies[1], copies[0][0]])
    assert nested.high - nested.low < 0.75 * (one.high - one.low)
    apart = stats.bootstrap(np.tile(value, 3) + 2 * copies[1], copies[0], crossed=copies[1])
    assert apart.high - apart.low > 1.5 * (one.high - one.low)


def test_a_statistic_of_means_is_bootstrapped_and_equal_seeds_are_paired():
    orbit, value = np.arange(200) // 5, np.random.default_rng(2).normal(size=200)
    both = np.stack([value + 1, 2 * value + 2], axis=1)
    ratio = stats.bootstrap(both, [orbit], lambda mean: mean[..., 1] / mean[..., 0])
    np.testing.assert_allclose(ratio, [2, 2, 2])  # numerator and denominator of the same draws
    assert stats.bootstrap(value, [orbit]) != stats.bootstrap(value, [orbit], seed=1)


def test_returns_are_drawn_by_task_and_lifetime():
    values = np.random.default_rng(0).normal(size=(12, 20))
    nested = stats.bootstrap(values.ravel(), [np.repeat(np.arange(12), 20)])
    assert stats.bootstrap(values) == nested != stats.bootstrap(values.ravel())


def test_lifetimes_without_a_measurement_are_left_out_when_asked():
    values = np.array([[1.0, np.nan], [3.0, 5.0]])
    assert stats.bootstrap(values, skip_nan=True).estimate == 3
    with pytest.raises(ValueError, match="`values` must be finite"):
        stats.bootstrap(values)


def test_curves_are_summarised_as_defined():
    returns = np.concatenate([np.zeros((2, 3, 10)), np.full((2, 3, 10), 8.0)], axis=2)
    assert stats.improvement(returns).estimate == 8
    assert stats.episodes_to(returns, 8.0, smooth=1) == 11
    assert stats.episodes_to(returns, 8.0) == 15
    assert stats.episodes_to(returns, 9.0) == np.inf
    fast = returns[:, :, 8:]
    assert stats.speed_up(returns, fast, 7.9, draws=50) == pytest.approx((15 / 7,) * 3)
    assert stats.speed_up(returns, fast, 9.0, draws=50) == (0, 0, 0)
    begin = np.arange(10, 70, 10)[:, None, None]  # six tasks that learn one after the other
    slow = np.broadcast_to(np.arange(100) >= begin, (6, 4, 100)).astype(float)
    ratio = stats.speed_up(slow, np.ones((6, 4, 100)), 0.5)
    assert ratio.low < ratio.estimate < ratio.high
