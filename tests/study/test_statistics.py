"""P-values, t-intervals and detectable effects of the study."""

import numpy as np
import pytest
from study import statistics as stats

from adkit.stats import Interval


def test_a_p_value_of_draws_counts_them_and_itself():
    samples = np.array([-1.0, 0.0, 1.0, 2.0, np.nan])
    assert stats.above(samples) == 4 / 6 and stats.above(samples, 1.5) == 5 / 6
    assert stats.above(np.ones(1999)) == 1 / 2000


def test_what_is_detectable_is_detected_four_times_in_five():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(2000, 100))
    error = values.std(1) / 10
    mde = stats.detectable(Interval(0.0, -0.196, 0.196))
    assert mde == pytest.approx(0.28, abs=0.001) and mde == stats.detectable((0.0, -0.196, 0.196))
    assert (np.abs(values.mean(1) + mde) > 1.96 * error).mean() == pytest.approx(0.8, abs=0.03)


def test_five_seeds_have_a_t_interval():
    mean, low, high = stats.over_seeds([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (
        mean == 3
        and high - mean == pytest.approx(2.7764 * np.sqrt(0.5), abs=1e-3)
        and mean - low == pytest.approx(high - mean)
    )


def test_a_magnitude_starts_at_zero_if_the_interval_holds_zero():
    assert stats.magnitude(Interval(-0.1, -0.4, 0.2)) == (0.1, 0, 0.4)
    assert stats.magnitude(Interval(-0.3, -0.4, -0.2)) == (0.3, 0.2, 0.4)


def test_an_effect_beyond_all_draws_of_the_null_is_rare_in_every_seed():
    """Two seeds, each above its nine draws: one of the 100 ways to take a value from each."""
    null = np.arange(18.0).reshape(2, 9)
    assert stats.exchange_p(np.array([20.0, 30.0]), null) == pytest.approx(0.01)
