"""Statistics for probes and verdicts: nested bootstraps, equivalence, multiplicity, and what could have been detected."""

import numpy as np
import pytest

from adkit import stats
from adkit.stats import Interval


def nests(rng, seeds=4, orbits=10, histories=5):
    """(seed, orbit, value) of histories whose orbits and seeds share effects."""
    seed, orbit = (
        np.repeat(np.arange(seeds), orbits * histories),
        np.tile(np.repeat(np.arange(orbits), histories), seeds),
    )
    shared = rng.normal(size=(seeds, orbits))[seed, orbit] + 0.2 * rng.normal(size=seeds)[seed]
    return seed, orbit, shared + 0.5 * rng.normal(size=len(seed))


def test_resampling_by_multinomials_is_resampling_by_loops():
    """Draw seeds, then orbits, then histories with replacement, one by one: the same mean and spread of every count."""
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


def test_the_nested_bootstrap_covers_the_truth_and_one_of_histories_does_not():
    rng, covered = np.random.default_rng(1), np.zeros(2)
    for _ in range(60):
        seed, orbit, value = nests(rng)
        for i, levels in enumerate(([seed, orbit], [])):
            interval = stats.hierarchical(value, levels, draws=300)
            covered[i] += interval.low <= 0 <= interval.high
    assert covered[0] / 60 >= 0.85 and covered[1] / 60 < 0.75


def test_the_same_things_under_several_models_tell_no_more_than_under_one():
    """Copies of a model's results are no new results; what differs between models widens the interval."""
    rng = np.random.default_rng(0)
    orbit = np.repeat(np.arange(20), 3)
    value, names = rng.normal(size=60), [orbit, np.arange(60)]
    one = stats.hierarchical(value, names)
    copies = [np.tile(name, 3) for name in names], np.repeat([0, 1, 2], 60)
    three = stats.hierarchical(np.tile(value, 3), copies[0], crossed=copies[1])
    assert three == pytest.approx(one, abs=1e-12)
    nested = stats.hierarchical(np.tile(value, 3), [copies[1], copies[0][0]])
    assert nested.high - nested.low < 0.75 * (one.high - one.low)
    apart = stats.hierarchical(np.tile(value, 3) + 2 * copies[1], copies[0], crossed=copies[1])
    assert apart.high - apart.low > 1.5 * (one.high - one.low)


def test_a_p_value_of_draws_counts_them_and_itself():
    samples = np.array([-1.0, 0.0, 1.0, 2.0, np.nan])
    assert stats.above(samples) == 4 / 6 and stats.above(samples, 1.5) == 5 / 6
    assert stats.above(np.ones(1999)) == 1 / 2000


def test_a_statistic_of_means_is_bootstrapped_and_equal_seeds_are_paired():
    _, orbit, value = nests(np.random.default_rng(2))
    both = np.stack([value + 1, 2 * value + 2], axis=1)
    ratio = stats.hierarchical(both, [orbit], lambda mean: mean[..., 1] / mean[..., 0])
    np.testing.assert_allclose(ratio, [2, 2, 2])  # numerator and denominator of the same draws
    assert (
        stats.hierarchical(value, [orbit])
        == stats.hierarchical(value, [orbit], seed=0)
        != stats.hierarchical(value, [orbit], seed=1)
    )


def test_what_is_detectable_is_detected_four_times_in_five():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(2000, 100))
    error = values.std(1) / 10
    mde = stats.detectable(Interval(0.0, -0.196, 0.196))
    assert mde == pytest.approx(0.28, abs=0.001) and mde == stats.detectable((0.0, -0.196, 0.196))
    assert (np.abs(values.mean(1) + mde) > 1.96 * error).mean() == pytest.approx(0.8, abs=0.03)


def test_equivalence_counts_groups_and_not_their_values():
    group = np.repeat(np.arange(6), 50)
    values = np.random.default_rng(4).normal(size=6)[group] * 0.5
    assert stats.equivalent(values, 0.3) < 0.05 < stats.equivalent(values, 0.3, groups=group)
    assert stats.equivalent(np.random.default_rng(5).normal(0.3, 0.1, 200), 0.3) > 0.05, (
        "an effect at the margin is not equivalent"
    )


def test_p_values_are_adjusted_as_published():
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(stats.fdr(p), [0.02, 0.04, 0.04, 0.02])
    np.testing.assert_allclose(stats.holm(p), [0.03, 0.06, 0.06, 0.02])


def test_five_seeds_have_a_t_interval():
    mean, low, high = stats.over_seeds([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (
        mean == 3
        and high - mean == pytest.approx(2.7764 * np.sqrt(0.5), abs=1e-3)
        and mean - low == pytest.approx(high - mean)
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stats.resamples(3, [np.zeros(2)]), r"levels of shapes \[\(2,\)\] for 3 units"),
        (lambda: stats.hierarchical(np.zeros((3, 2))), "say what to make of 2 means"),
        (
            lambda: stats.hierarchical(np.ones(4), statistic=np.mean),
            r"makes \(\) of 2000 draws; say what to make of a mean",
        ),
        (lambda: stats.hierarchical(np.array([1.0, np.nan])), "not finite"),
        (lambda: stats.over_seeds([1.0]), "at least 2 seeds"),
        (
            lambda: stats.equivalent(np.zeros(3), 1.0, groups=np.zeros(2)),
            r"3 values and groups of shape \(2,\)",
        ),
    ],
)
def test_a_wrong_call_is_refused_kindly(call, says):
    with pytest.raises(ValueError, match=says):
        call()
