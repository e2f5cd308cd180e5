"""From tables of per-lifetime results to measures: bootstrap intervals, p-values, null draws.

A statistic is a function of the means (..., columns) of some columns.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import norm, sem, t

from adkit.stats import Interval, bootstrap, bootstrap_draws

Measures = dict[str, Interval | float | np.ndarray]


first = lambda mean: mean[..., 0]
ratio = lambda mean: mean[..., 0] / mean[..., 1]
difference = lambda mean: mean[..., 0] - mean[..., 1]
# the share of the way from the first to the third that the second has come
share = lambda mean: (mean[..., 0] - mean[..., 1]) / (mean[..., 0] - mean[..., 2])
explained = lambda mean: 1 - ratio(mean)  # R2, of the means of (missed, spread)


def interval(frame: pd.DataFrame, columns: list[str], statistic: Callable = first) -> Interval:
    """Bootstrap a statistic over seeds, orbits and lifetimes.

    Models of all seeds are judged on the same lifetimes. Orbits and lifetimes are therefore drawn
    once for all seeds, and seeds are drawn beside them.
    """
    return _bootstrapped(bootstrap, frame, columns, statistic)


def mean_of(frame: pd.DataFrame, columns: list[str], statistic: Callable = first) -> float:
    """Return a statistic without an interval."""
    return float(statistic(frame[columns].to_numpy(float).mean(0)))


def against(
    frame: pd.DataFrame, columns: list[str], statistic: Callable, null: float = 0.0
) -> dict[str, float | np.ndarray]:
    """Return `p`, that the measure is at most `null`, and draws of the null, same bootstrap."""
    samples = _bootstrapped(bootstrap_draws, frame, columns, statistic)
    measure = mean_of(frame, columns, statistic)
    not_above = (~(samples > null)).sum()  # a draw that is not a number counts too
    return {"p": float((1 + not_above) / (1 + len(samples))), "null": samples + (null - measure)}


def _bootstrapped(make: Callable, frame: pd.DataFrame, columns: list[str], statistic: Callable):
    nests = [frame["orbit"].to_numpy(), frame["history"].to_numpy()]
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold nothing to divide by
        return make(frame[columns].to_numpy(float), nests, statistic, crossed=frame["seed"])


def pick(frame: pd.DataFrame, **wanted) -> pd.DataFrame:
    """Return the rows whose columns hold the wanted value, or one of the wanted values.

    Raises ValueError if there are none, so that no measure is taken of nothing.
    """
    for name, values in wanted.items():
        there = frame[name]
        frame = frame[there.isin(values if isinstance(values, tuple) else (values,))]
        if frame.empty:
            raise ValueError(f"no row has {name} = {values}; there are {list(there.unique())}")
    return frame


def magnitude(interval: Interval) -> Interval:
    """Return the interval of the absolute value; its lower end is 0 if the interval contains 0."""
    estimate, *ends = interval
    low, high = sorted(map(abs, ends))
    return Interval(abs(estimate), 0.0 if ends[0] < 0 < ends[1] else low, high)


def over_seeds(values: list[float]) -> Interval:
    """Return the mean and 95% t-interval of one number per seed, of at least two seeds."""
    mean = float(np.mean(values))
    return Interval(mean, *map(float, t.interval(0.95, len(values) - 1, mean, sem(values))))


def detectable(interval: Interval) -> float:
    """Return the smallest true effect found in 8 of 10 studies as precise as this one.

    This is (z(.975) + z(.8)) standard errors, if the 95% interval is that of a normal distribution:
    what a null result could have missed.
    """
    _, low, high = interval
    return float((norm.ppf(0.975) + norm.ppf(0.8)) * (high - low) / (2 * norm.ppf(0.975)))


def exchange_p(observed: np.ndarray, null: np.ndarray, most: int = 200_000) -> float:
    """Return the p-value of the mean of `observed` (S,), given draws of a null (S, R) per seed.

    Under the null, any of a seed's R + 1 values might have been the observed one. The p-value is
    the share of all (R + 1)^S ways to take one from each seed, or of `most` of them, whose mean is
    at least as large.
    """
    rng, sums = np.random.default_rng(0), np.zeros(1)
    if not (np.isfinite(observed).all() and np.isfinite(null).all()):
        return float("nan")  # nothing was measured
    for value, draws in zip(observed, null, strict=True):
        sums = np.add.outer(sums, [value, *draws]).ravel()  # the first is the observed one
        if len(sums) > most:
            sums = np.concatenate([sums[:1], rng.choice(sums[1:], most - 1, replace=False)])
    return float((sums >= sums[0]).mean())


# ---- tables of random draws: kind, draw, value, and later the seed ----


def draws_of(**kinds: np.ndarray | float) -> pd.DataFrame:
    """Return one row per draw of each kind of null, or per single number."""
    series = {kind: pd.Series(np.atleast_1d(values)) for kind, values in kinds.items()}
    return pd.concat(series, names=["kind", "draw"]).rename("value").reset_index()


def of_kind(draws: pd.DataFrame, kind: str) -> np.ndarray:
    """Return the draws (seeds, draws) of one kind."""
    rows = draws[draws["kind"] == kind]
    return rows.pivot(index="seed", columns="draw", values="value").to_numpy()
