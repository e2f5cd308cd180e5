"""Statistics of returns, with bootstrap intervals that respect lifetimes sharing a task.

Returns are (task, lifetime, episode), as `Histories.returns` has them. Lifetimes of one task are
not independent, so the bootstrap draws tasks first and then lifetimes within them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3g} [{self.low:.3g}, {self.high:.3g}]"


# ---- the bootstrap ----


def bootstrap(
    values: np.ndarray,
    levels: Sequence[np.ndarray] | None = None,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    skip_nan: bool = False,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    crossed: np.ndarray | None = None,
) -> Interval:
    """Return the mean and its percentile bootstrap interval, with nested resampling.

    Without `levels`, `values` are (task, lifetime, ...): tasks are drawn, then lifetimes within
    them; or (n,) independent numbers. With `levels` and `crossed`, as in `resamples`, they are
    (n,), one per unit, or (n, k): then `statistic` turns means (..., k) into estimates (...), such
    as a ratio of sums or a difference. `skip_nan` leaves out units without a measurement. Equal
    seeds draw equal units: intervals of two measurements of the same units are paired. One unit has
    no interval: its ends are NaN.
    """
    values = np.asarray(values, float)
    if not values.size:
        raise ValueError(f"`values` must hold at least one number, got shape {values.shape}")
    if levels is None:
        tasks = np.repeat(np.arange(len(values)), values.shape[1]) if values.ndim > 1 else None
        levels = () if tasks is None else [tasks]
        values = values if tasks is None else values.reshape(len(tasks), -1).mean(1)
    if skip_nan:
        there = ~np.isnan(values)
        values = np.stack([np.where(there, values, 0), there], axis=1)
        statistic = _measured_mean
    statistic = statistic or (lambda mean: mean)
    samples = bootstrap_draws(values, levels, statistic, draws, seed, crossed)
    low = high = np.nan  # one unit tells nothing of others
    if len(values) > 1:
        low, high = np.nanquantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(values.mean(0))), float(low), float(high))


def _measured_mean(mean: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a draw may hold no measurement
        return mean[..., 0] / mean[..., 1]


def bootstrap_draws(
    values: np.ndarray,
    levels: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray] = lambda mean: mean,
    draws: int = 2000,
    seed: int = 0,
    crossed: np.ndarray | None = None,
) -> np.ndarray:
    """Return the (draws,) estimates whose quantiles are the interval of `bootstrap`."""
    values = np.asarray(values, float)
    if not np.isfinite(values).all():
        raise ValueError("`values` must be finite; leave out what was not measured: skip_nan=True")
    times = resamples(len(values), levels, draws, seed, crossed).astype(float)
    return statistic((times / times.sum(1, keepdims=True)) @ values)


def resamples(
    n: int,
    levels: Sequence[np.ndarray] = (),
    draws: int = 2000,
    seed: int = 0,
    crossed: np.ndarray | None = None,
) -> np.ndarray:
    """Return (draws, n): how often each of n units occurs in each draw of a nested bootstrap.

    `levels`, outermost first, are (n,) names of the nests each unit lies in, such as
    [task, lifetime]; names may recur in other nests. Drawing a nest c times, and its m members anew
    each time, is one multinomial draw of c * m: no loop over draws is needed.

    `crossed` (n,) names the model under which a unit was measured, where each was measured under
    several. Models are drawn on their own; units with the same names at every level are drawn once
    for all models. As nested units they would count as independent, and intervals be too narrow.
    """
    if any(np.shape(level) != (n,) for level in levels):
        shapes = [np.shape(level) for level in levels]
        raise ValueError(f"`levels` must have one name per unit, shape ({n},), got {shapes}")
    if crossed is not None:
        names = np.stack([np.unique(level, return_inverse=True)[1].ravel() for level in levels])
        _, first, unit = np.unique(names, axis=1, return_index=True, return_inverse=True)
        models, model = np.unique(crossed, return_inverse=True)
        units = resamples(len(first), [np.asarray(level)[first] for level in levels], draws, seed)
        return units[:, unit.ravel()] * resamples(len(models), (), draws, seed + 1)[:, model]
    rng = np.random.default_rng(seed)
    counts, nest = np.ones((draws, 1), np.int64), np.zeros(n, int)
    for level in (*levels, np.arange(n)):
        _, name = np.unique(level, return_inverse=True)
        pairs, inner = np.unique(np.stack([nest, name]), axis=1, return_inverse=True)
        drawn = np.empty((draws, pairs.shape[1]), np.int64)
        for outer in range(counts.shape[1]):
            members = np.flatnonzero(pairs[0] == outer)
            drawn[:, members] = rng.multinomial(
                counts[:, outer] * len(members), np.full(len(members), 1 / len(members))
            )
        counts, nest = drawn, inner.ravel()
    return counts[:, nest]


# ---- learning curves ----


def improvement(returns: np.ndarray, share: float = 0.2, **options) -> Interval:
    """Return the mean return in the last `share` of episodes minus that in the first `share`.

    `options` are those of `bootstrap`.
    """
    _check_returns(returns)
    if not 0 < share <= 0.5:
        raise ValueError(f"`share` must be in (0, 0.5], got {share}")
    late = max(1, round(share * returns.shape[2]))
    return bootstrap(returns[:, :, -late:].mean(2) - returns[:, :, :late].mean(2), **options)


def episodes_to(returns: np.ndarray, target: np.ndarray | float, smooth: int = 5) -> float:
    """Return the number of episodes until the mean curve first reaches `target`; infinity if never.

    The curve is averaged over the last `smooth` episodes. `target` is a number or one per task.
    """
    _check_returns(returns)
    return float(_first_at(returns.mean((0, 1)), np.mean(target), smooth))


def speed_up(
    slow: np.ndarray, fast: np.ndarray, target: float, draws: int = 1000, seed: int = 0
) -> Interval:
    """Return how many times fewer episodes `fast` needs than `slow` to reach `target`.

    Where `slow` never reaches the target, its whole length counts; where `fast` never does, the
    speed-up is 0. The interval is a bootstrap over tasks and lifetimes.
    """

    def needed(returns: np.ndarray, seed: int) -> np.ndarray:
        """Return the episodes needed by the mean curve and by each bootstrapped mean curve."""
        _check_returns(returns)
        task = np.repeat(np.arange(len(returns)), returns.shape[1])
        curves = returns.reshape(len(task), -1)  # (N, E)
        drawn = bootstrap_draws(curves, [task], draws=draws, seed=seed)  # (draws, E)
        return _first_at(np.concatenate([curves.mean(0)[None], drawn]), np.mean(target))

    ratio = np.minimum(needed(slow, seed), slow.shape[2]) / needed(fast, seed + 1)
    return Interval(float(ratio[0]), *map(float, np.quantile(ratio[1:], [0.025, 0.975])))


def _first_at(curve: np.ndarray, target: float, smooth: int = 5) -> np.ndarray:
    """Return the first episode, from 1, at which smoothed curves (..., E) reach `target`."""
    episode = np.arange(1, curve.shape[-1] + 1)
    begin = np.maximum(episode - smooth, 0)
    sums = np.cumsum(curve, axis=-1, dtype=float)
    before = np.where(begin > 0, sums[..., begin - 1], 0)
    reached = (sums - before) / (episode - begin) >= target
    return np.where(reached.any(-1), reached.argmax(-1) + 1.0, np.inf)


def _check_returns(returns: np.ndarray) -> None:
    if np.ndim(returns) != 3:
        raise ValueError(
            "`returns` must be (task, lifetime, episode), such as histories.returns, got shape "
            f"{np.shape(returns)}"
        )
    if not np.isfinite(returns).all():
        raise ValueError("`returns` must be finite; leave out the lifetimes that were not measured")


# ---- many tests ----


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values adjusted for their number, controlling the family-wise error (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    if not ((np.asarray(p_values) >= 0) & (np.asarray(p_values) <= 1)).all():
        raise ValueError(f"`p_values` must be in [0, 1], got {p_values}")
    return multipletests(p_values, method="holm")[1]
