"""Returns, improvement and regret with intervals that respect who shares a task: thin over scipy and statsmodels.

Arrays are (task, lifetime, episode), as `Histories.returns` gives them. Lifetimes of one task are not independent, so
the bootstrap draws tasks first and then lifetimes within them. Where nests are uneven or deeper - histories in layout
orbits in seeds - give one row per history and the nests it lies in to `hierarchical`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


class Interval(NamedTuple):
    """An estimate with its bootstrap interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3g} [{self.low:.3g}, {self.high:.3g}]"

    @property
    def size(self) -> Interval:
        """Of the absolute value: from 0 where the interval holds 0."""
        low, high = sorted(map(abs, self[1:]))
        return Interval(abs(self.estimate), 0.0 if self.low < 0 < self.high else low, high)


def bootstrap(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], float] = np.mean,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Hierarchical percentile bootstrap of `statistic` over (task, lifetime, ...): tasks, then lifetimes within tasks."""
    values = np.asarray(values, float)
    if values.ndim < 2 or 0 in values.shape:
        raise ValueError(
            f"values of shape {values.shape}; give (task, lifetime, ...), with at least one of each."
        )
    _check_level(level)
    _check_draws(draws)
    rng = np.random.default_rng(seed)
    samples = [statistic(_resample(values, rng)) for _ in range(draws)]
    low, high = np.nanquantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(values)), float(low), float(high))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(
            f"level={level}; an interval holds a share between 0 and 1 of the draws. Try level=0.95."
        )


def _check_draws(draws: int) -> None:
    if draws < 1:
        raise ValueError(f"draws={draws}; a bootstrap takes at least 1. Try draws=2000.")


def _check_returns(returns: np.ndarray) -> None:
    shape = getattr(returns, "shape", None)
    if shape is None or len(shape) != 3 or 0 in shape:
        given = type(returns).__name__ if shape is None else f"array of shape {shape}"
        raise ValueError(
            f"{given} given for returns; give (task, lifetime, episode), such as histories.returns."
        )


def _check_per_task(name: str, values: np.ndarray | float, returns: np.ndarray) -> None:
    tasks = len(returns)
    if np.shape(values) not in ((), (tasks,)) or not np.isfinite(values).all():
        raise ValueError(
            f"{name} of shape {np.shape(values)} or not finite; give a number, or one for each of {tasks} tasks."
        )


def _resample(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One bootstrap sample of (task, lifetime, ...): tasks with replacement, then lifetimes within each."""
    tasks, lifetimes = values.shape[:2]
    return values[
        rng.integers(tasks, size=(tasks, 1)), rng.integers(lifetimes, size=(tasks, lifetimes))
    ]


def resamples(
    n: int,
    levels: Sequence[np.ndarray] = (),
    draws: int = 2000,
    seed: int = 0,
    crossed: np.ndarray | None = None,
) -> np.ndarray:
    """(draws, n) how often each of n units counts in each draw of a nested bootstrap.

    `levels`, outermost first, are (n,) names of the nests each unit lies in, such as [task, lifetime]; names may recur in
    other nests. Drawing a nest c times and its m members anew each time is one multinomial draw of c * m, hence no loop over
    draws. Raises ValueError when a level does not name every unit.

    `crossed` (n,) names what the same things were measured under several times, such as the model: it is drawn for itself, and
    units of the same names at every level are one thing, drawn once for all models. Taken for nested, intervals were too narrow.
    """
    if crossed is not None:
        names = np.stack([np.unique(level, return_inverse=True)[1].ravel() for level in levels])
        _, first, unit = np.unique(names, axis=1, return_index=True, return_inverse=True)
        models, under = np.unique(crossed, return_inverse=True)
        things = resamples(len(first), [np.asarray(level)[first] for level in levels], draws, seed)
        return things[:, unit.ravel()] * resamples(len(models), (), draws, seed + 1)[:, under]
    if n < 1 or any(np.shape(level) != (n,) for level in levels):
        raise ValueError(
            f"levels of shapes {[np.shape(level) for level in levels]} for {n} units; give (n,) names per level, n > 0."
        )
    _check_draws(draws)
    rng = np.random.default_rng(seed)
    counts, nest = np.ones((draws, 1), np.int64), np.zeros(n, int)
    for level in (*levels, np.arange(n)):
        _, name = np.unique(level, return_inverse=True)
        pairs, inner = np.unique(np.stack([nest, name]), axis=1, return_inverse=True)
        drawn = np.empty((draws, pairs.shape[1]), np.int64)
        for outer in range(counts.shape[1]):
            mine = np.flatnonzero(pairs[0] == outer)
            drawn[:, mine] = rng.multinomial(
                counts[:, outer] * len(mine), np.full(len(mine), 1 / len(mine))
            )
        counts, nest = drawn, inner.ravel()
    return counts[:, nest]


def hierarchical(
    values: np.ndarray,
    levels: Sequence[np.ndarray] = (),
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    crossed: np.ndarray | None = None,
) -> Interval:
    """Percentile bootstrap over nested levels of the mean of `values` (n,), one per unit, or of a function of means.

    With `values` (n, k), `statistic` turns means (..., k) into estimates (...): a ratio of sums, an R2, a difference of two.
    `levels` and `crossed` are as in `resamples`; equal seeds draw equal units, so intervals of things measured on the same units
    are paired.
    """
    _check_level(level)
    statistic = statistic or (lambda mean: mean)
    samples = drawn(values, levels, statistic, draws, seed, crossed)
    low, high = np.nanquantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(np.mean(values, axis=0, dtype=float))), float(low), float(high))


def drawn(
    values: np.ndarray,
    levels: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray],
    draws: int = 2000,
    seed: int = 0,
    crossed: np.ndarray | None = None,
) -> np.ndarray:
    """(draws,) the estimates that `hierarchical` makes an interval of."""
    values = np.asarray(values, float)
    if values.ndim not in (1, 2) or not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"values of shape {values.shape} or not finite; give finite (n,), or (n, k) and a statistic of k means."
        )
    times = resamples(len(values), levels, draws, seed, crossed).astype(float)
    samples = statistic((times / times.sum(1, keepdims=True)) @ values)
    if np.shape(samples) != (draws,):
        means = f"{values.shape[1]} means" if values.ndim == 2 else "a mean"
        raise ValueError(
            f"the statistic makes {np.shape(samples)} of {draws} draws; say what to make of {means}, draw by draw."
        )
    return samples


def over_seeds(values: np.ndarray, level: float = 0.95) -> Interval:
    """Mean and t-interval of one number per seed: with five of them no bootstrap knows better."""
    from scipy.stats import sem, t

    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            f"values of shape {values.shape}; give one number for each of at least 2 seeds."
        )
    _check_level(level)
    half = float(t.ppf((1 + level) / 2, len(values) - 1) * sem(values))
    return Interval(float(values.mean()), float(values.mean()) - half, float(values.mean()) + half)


def detectable(
    interval: Interval, level: float = 0.95, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest true effect that a measurement this precise finds with `power`: what a null result could have missed.

    (z(1 - alpha / 2) + z(power)) standard errors, the interval being taken for a normal one of the given `level`.
    """
    from scipy.stats import norm

    _check_level(level)
    if not isinstance(interval, tuple) or len(interval) != 3 or interval[1] > interval[2]:
        raise ValueError(
            f"{interval!r} is no interval; give Interval(estimate, low, high), such as stats.bootstrap(values)."
        )
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(
            f"alpha={alpha}, power={power}; both lie between 0 and 1. Try alpha=0.05, power=0.8."
        )
    _, low, high = interval
    error = (high - low) / (2 * norm.ppf((1 + level) / 2))
    return float((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * error)


def above(samples: np.ndarray, null: float = 0.0) -> float:
    """One-sided p-value of a bootstrap: (1 + how many of its draws are not above `null`) / (1 + draws)."""
    if np.ndim(samples) != 1 or not len(samples):
        raise ValueError(
            f"samples of shape {np.shape(samples)}; give (draws,), such as stats.drawn(values, levels, statistic)."
        )
    return float((1 + (~(np.asarray(samples) > null)).sum()) / (1 + len(samples)))


def improvement(returns: np.ndarray, share: float = 0.2, **options) -> Interval:
    """Mean return in the last `share` of episodes minus the first `share`: what was learned within a lifetime."""
    _check_returns(returns)
    if not 0 < share <= 0.5:
        raise ValueError(
            f"share={share}; the first and the last share of episodes lie in (0, 0.5]. Try share=0.2."
        )
    late = max(1, round(share * returns.shape[2]))
    return bootstrap(returns[:, :, -late:].mean(2) - returns[:, :, :late].mean(2), **options)


def regret(returns: np.ndarray, optimum: np.ndarray) -> np.ndarray:
    """(task, lifetime, episode) cumulative shortfall from the optimum (task,), or one for all."""
    _check_returns(returns)
    _check_per_task("optimum", optimum, returns)
    return np.cumsum(np.reshape(optimum, (-1, 1, 1)) - returns, axis=2)


def iqm(values: np.ndarray) -> float:
    """Interquartile mean: the mean of the middle half (Agarwal et al. 2021)."""
    from scipy.stats import trim_mean

    values = np.ravel(values)
    if values.dtype.kind not in "biuf" or not values.size or not np.isfinite(values).all():
        raise ValueError(
            f"values {values[:4].tolist()}, {values.size} in all; give at least one, and finite numbers alone."
        )
    return float(trim_mean(values, 0.25))


def episodes_to(returns: np.ndarray, target: np.ndarray | float, smooth: int = 5) -> float:
    """Episodes until the mean curve, smoothed over the last `smooth` episodes, first reaches `target`; infinity if never.

    `returns` is (task, lifetime, episode); `target` is a number or (task,), averaged like the returns.
    """
    _check_returns(returns)
    _check_per_task("target", target, returns)
    if smooth < 1:
        raise ValueError(
            f"smooth={smooth}; a curve is smoothed over at least 1 episode. Try smooth=5."
        )
    curve = returns.mean((0, 1))
    sums = np.cumsum(np.concatenate([[0.0], curve]))
    begin = np.maximum(np.arange(1, len(curve) + 1) - smooth, 0)
    smoothed = (sums[1:] - sums[begin]) / (np.arange(1, len(curve) + 1) - begin)
    reached = np.flatnonzero(smoothed >= np.mean(target))
    return float(reached[0] + 1) if len(reached) else float("inf")


def speed_up(
    slow: np.ndarray, fast: np.ndarray, target: float, draws: int = 1000, seed: int = 0
) -> Interval:
    """How many times fewer episodes `fast` needs than `slow` to reach `target`, with a bootstrap over tasks and lifetimes.

    A bootstrap sample in which `slow` never reaches it counts `slow`'s whole length, one in which `fast` never does
    counts as no speed-up at all (0).
    """
    _check_returns(slow)
    _check_returns(fast)
    _check_draws(draws)
    rng = np.random.default_rng(seed)

    def ratio(a: np.ndarray, b: np.ndarray) -> float:
        needed = episodes_to(b, target)
        return 0.0 if np.isinf(needed) else min(episodes_to(a, target), a.shape[2]) / needed

    samples = [ratio(_resample(slow, rng), _resample(fast, rng)) for _ in range(draws)]
    return Interval(ratio(slow, fast), *map(float, np.quantile(samples, [0.025, 0.975])))


def exchange_p(observed: np.ndarray, null: np.ndarray, most: int = 200_000) -> float:
    """p-value of the mean of `observed` (S,), one per seed, each of which has draws `null` (S, R) that know of no effect.

    Were there none, any of a seed's R + 1 values might have been the observed one: the share of all (R + 1)^S ways to take one
    from each whose mean is as large, or of `most` of them.
    """
    observed, null = np.asarray(observed, float), np.asarray(null, float)
    if (
        observed.ndim != 1
        or null.ndim != 2
        or len(null) != len(observed)
        or not np.isfinite(null).all()
    ):
        raise ValueError(
            f"observed {observed.shape}, null {null.shape} or not finite; give (seeds,) and finite (seeds, draws)."
        )
    rng, sums = np.random.default_rng(0), np.zeros(1)
    for value, draws in zip(observed, null, strict=True):
        sums = np.add.outer(sums, [value, *draws]).ravel()  # the first is the observed one
        if len(sums) > most:
            sums = np.concatenate([sums[:1], rng.choice(sums[1:], most - 1, replace=False)])
    return float((sums >= sums[0]).mean())


def draws_of(**kinds: np.ndarray | float) -> pd.DataFrame:
    """One row per draw of a null, and per number of which there is one a model: kind, draw, value."""
    import pandas as pd

    shapes = {kind: np.shape(values) for kind, values in kinds.items()}
    numbers = all(np.asarray(values).dtype.kind in "biuf" for values in kinds.values())
    if not kinds or not numbers or any(len(shape) > 1 for shape in shapes.values()):
        raise ValueError(
            f"draws of shapes {shapes}; give a number or numbers (draws,) under the name of at least one kind."
        )
    rows = [
        pd.DataFrame({"kind": kind, "value": np.atleast_1d(values)}).rename_axis("draw")
        for kind, values in kinds.items()
    ]
    return pd.concat([row.reset_index() for row in rows], ignore_index=True)[
        ["kind", "draw", "value"]
    ]


def equivalent(values: np.ndarray, margin: float, groups: np.ndarray | None = None) -> float:
    """p-value of the two one-sided tests that the mean lies within +-margin of 0 (TOST, Schuirmann 1987).

    With `groups`, one name per value, group means are tested: values of one history, orbit or task are not independent.
    """
    from statsmodels.stats.weightstats import DescrStatsW

    values = np.ravel(values)
    if groups is not None:
        _, group = np.unique(groups, return_inverse=True)
        if group.shape != values.shape:
            raise ValueError(
                f"{values.size} values and groups of shape {np.shape(groups)}; name the group of each value."
            )
        values = np.bincount(group, values) / np.bincount(group)
    if not margin > 0 or len(values) < 2:
        raise ValueError(
            f"margin={margin}, {len(values)} values or groups; give a margin above 0, and at least 2 of them."
        )
    return float(DescrStatsW(values).ttost_mean(-margin, margin)[0])


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for their number: family-wise, for endpoints (Holm 1979)."""
    return _adjusted(p_values, "holm")


def fdr(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for the share of false discoveries: for maps (Benjamini & Hochberg 1995)."""
    return _adjusted(p_values, "fdr_bh")


def _adjusted(p_values: Sequence[float], method: str) -> np.ndarray:
    from statsmodels.stats.multitest import multipletests

    p_values = np.asarray(p_values, float)
    if p_values.ndim != 1 or not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError(
            f"p-values {p_values.tolist()}; give a row of numbers in [0, 1], one for each test."
        )
    return multipletests(p_values, method=method)[1]
