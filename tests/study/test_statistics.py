"""P-values, t-intervals and detectable effects of the study."""

import numpy as np
import pandas as pd
import pytest
from study import statistics as stats

from adkit.stats import Interval


def test_a_p_value_counts_draws_below_the_null_and_itself():
    same = pd.DataFrame({"x": 1.0, "orbit": range(4), "history": range(4), "seed": 0})
    found = stats.against(same, ["x"], stats.first)
    assert found["p"] == pytest.approx(1 / (1 + len(found["null"]))) and not found["null"].any()
    assert stats.against(same, ["x"], stats.first, null=1.0)["p"] == 1
    assert stats.against(same, ["x"], lambda m: m[..., 0] * np.nan)["p"] == 1


def test_what_is_detectable_is_detected_four_times_in_five():
    values = np.random.default_rng(3).normal(size=(2000, 100))
    mde = stats.detectable(Interval(0.0, -0.196, 0.196))
    assert mde == pytest.approx(0.28, abs=0.001)
    found = np.abs(values.mean(1) + mde) > 1.96 * values.std(1) / 10
    assert found.mean() == pytest.approx(0.8, abs=0.03)


def test_five_seeds_have_a_t_interval():
    half = 2.7764 * np.sqrt(0.5)
    found = stats.over_seeds([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found == pytest.approx((3, 3 - half, 3 + half), abs=1e-3)


def test_a_magnitude_starts_at_zero_if_the_interval_holds_zero():
    assert stats.magnitude(Interval(-0.1, -0.4, 0.2)) == (0.1, 0, 0.4)
    assert stats.magnitude(Interval(-0.3, -0.4, -0.2)) == (0.3, 0.2, 0.4)


def test_an_effect_beyond_all_draws_of_the_null_is_rare_in_every_seed():
    """Two seeds, each above its nine draws: one of the 100 ways to take a value from each."""
    null = np.arange(18.0).reshape(2, 9)
    assert stats.exchange_p(np.array([20.0, 30.0]), null) == pytest.approx(0.01)
