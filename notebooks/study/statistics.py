"""Statistics of the study: p-values of bootstraps and of nulls, t-intervals, detectable effects."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import norm, sem, t

from adkit.stats import Interval


def magnitude(interval: Interval) -> Interval:
    """Return the interval of the absolute value; its lower end is 0 if the interval contains 0."""
    estimate, *ends = interval
    low, high = sorted(map(abs, ends))
    return Interval(abs(estimate), 0.0 if ends[0] < 0 < ends[1] else low, high)


def over_seeds(values: np.ndarray, level: float = 0.95) -> Interval:
    """Return the mean and t-interval of one number per seed, of at least two seeds."""
    values = np.asarray(values, float)
    half = float(t.ppf((1 + level) / 2, len(values) - 1) * sem(values))
    return Interval(float(values.mean()), float(values.mean()) - half, float(values.mean()) + half)


def detectable(
    interval: Interval, level: float = 0.95, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Return the smallest true effect that a measurement this precise finds with `power`.

    This is (z(1 - alpha / 2) + z(power)) standard errors, if the interval of the given `level` is
    that of a normal distribution: what a null result could have missed.
    """
    _, low, high = interval
    error = (high - low) / (2 * norm.ppf((1 + level) / 2))
    return float((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * error)


def above(samples: np.ndarray, null: float = 0.0) -> float:
    """Return the one-sided p-value of bootstrap draws: the share that is not above `null`.

    (1 + how many of the draws are not above it) / (1 + draws).
    """
    return float((1 + (~(np.asarray(samples) > null)).sum()) / (1 + len(samples)))


def exchange_p(observed: np.ndarray, null: np.ndarray, most: int = 200_000) -> float:
    """Return the p-value of the mean of `observed` (S,), given draws of a null (S, R) per seed.

    Under the null, any of a seed's R + 1 values might have been the observed one. The p-value is
    the share of all (R + 1)^S ways to take one from each seed, or of `most` of them, whose mean is
    at least as large.
    """
    rng, sums = np.random.default_rng(0), np.zeros(1)
    for value, draws in zip(np.asarray(observed, float), np.asarray(null, float), strict=True):
        sums = np.add.outer(sums, [value, *draws]).ravel()  # the first is the observed one
        if len(sums) > most:
            sums = np.concatenate([sums[:1], rng.choice(sums[1:], most - 1, replace=False)])
    return float((sums >= sums[0]).mean())


def draws_of(**kinds: np.ndarray | float) -> pd.DataFrame:
    """Return one row per draw of each kind of null, or per single number: kind, draw, value."""
    rows = [
        pd.DataFrame({"kind": kind, "value": np.atleast_1d(values)}).rename_axis("draw")
        for kind, values in kinds.items()
    ]
    names = ["kind", "draw", "value"]
    return pd.concat([row.reset_index() for row in rows], ignore_index=True)[names]
