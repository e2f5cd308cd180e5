"""Returns, improvement and regret with intervals that respect who shares a task: thin over scipy and statsmodels.

Arrays are (task, lifetime, episode), as `Histories.returns` gives them. Lifetimes of one task are not independent, so
the bootstrap draws tasks first and then lifetimes within them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """An estimate with its bootstrap interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3g} [{self.low:.3g}, {self.high:.3g}]"


def bootstrap(
    values: np.ndarray, statistic: Callable[[np.ndarray], float] = np.mean, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Interval:
    """Hierarchical percentile bootstrap of `statistic` over (task, lifetime, ...): tasks, then lifetimes within tasks."""
    values = np.asarray(values, float)
    if values.ndim < 2 or 0 in values.shape:
        raise ValueError(f"values of shape {values.shape}; give (task, lifetime, ...), with at least one of each.")
    rng = np.random.default_rng(seed)
    samples = [statistic(_resample(values, rng)) for _ in range(draws)]
    low, high = np.nanquantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(values)), float(low), float(high))


def _resample(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One bootstrap sample of (task, lifetime, ...): tasks with replacement, then lifetimes within each."""
    tasks, lifetimes = values.shape[:2]
    return values[rng.integers(tasks, size=(tasks, 1)), rng.integers(lifetimes, size=(tasks, lifetimes))]


def improvement(returns: np.ndarray, share: float = 0.2, **options) -> Interval:
    """Mean return in the last `share` of episodes minus the first `share`: what was learned within a lifetime."""
    late = max(1, round(share * returns.shape[2]))
    return bootstrap(returns[:, :, -late:].mean(2) - returns[:, :, :late].mean(2), **options)


def regret(returns: np.ndarray, optimum: np.ndarray) -> np.ndarray:
    """(task, lifetime, episode) cumulative shortfall from the optimum (task,)."""
    return np.cumsum(np.asarray(optimum)[:, None, None] - returns, axis=2)


def iqm(values: np.ndarray) -> float:
    """Interquartile mean: the mean of the middle half (Agarwal et al. 2021)."""
    from scipy.stats import trim_mean

    return float(trim_mean(np.ravel(values), 0.25))


def episodes_to(returns: np.ndarray, target: np.ndarray | float, smooth: int = 5) -> float:
    """Episodes until the mean curve, smoothed over the last `smooth` episodes, first reaches `target`; infinity if never.

    `returns` is (task, lifetime, episode); `target` is a number or (task,), averaged like the returns.
    """
    curve = returns.mean((0, 1))
    sums = np.cumsum(np.concatenate([[0.0], curve]))
    begin = np.maximum(np.arange(1, len(curve) + 1) - smooth, 0)
    smoothed = (sums[1:] - sums[begin]) / (np.arange(1, len(curve) + 1) - begin)
    reached = np.flatnonzero(smoothed >= np.mean(target))
    return float(reached[0] + 1) if len(reached) else float("inf")


def speed_up(slow: np.ndarray, fast: np.ndarray, target: float, draws: int = 1000, seed: int = 0) -> Interval:
    """How many times fewer episodes `fast` needs than `slow` to reach `target`, with a bootstrap over tasks and lifetimes.

    A bootstrap sample in which `slow` never reaches it counts `slow`'s whole length, one in which `fast` never does
    counts as no speed-up at all (0).
    """
    rng = np.random.default_rng(seed)

    def ratio(a: np.ndarray, b: np.ndarray) -> float:
        needed = episodes_to(b, target)
        return 0.0 if np.isinf(needed) else min(episodes_to(a, target), a.shape[2]) / needed

    samples = [ratio(_resample(slow, rng), _resample(fast, rng)) for _ in range(draws)]
    return Interval(ratio(slow, fast), *map(float, np.quantile(samples, [0.025, 0.975])))


def equivalent(values: np.ndarray, margin: float) -> float:
    """p-value of the two one-sided tests that the mean lies within +-margin of 0 (TOST, Schuirmann 1987)."""
    from statsmodels.stats.weightstats import DescrStatsW

    return float(DescrStatsW(np.ravel(values)).ttost_mean(-margin, margin)[0])


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for their number (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    return multipletests(p_values, method="holm")[1]
