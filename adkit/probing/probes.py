"""Linear probes: is a label written in the activations? Judged on tasks the probe never saw, beside a control."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adkit.stats import Interval
from adkit.taps import Recording


@dataclass(frozen=True, eq=False)
class Probe:
    """A ridge read-out, its score on held-out groups, and the same fit where it must fail."""

    score: float
    """R2 on held-out groups, averaged over label dimensions; 0 is guessing the training mean."""
    interval: Interval
    """95% bootstrap of the score over held-out groups."""
    controls: dict[str, float]
    """`shuffled`: the highest R2 of 20 fits whose labels were dealt to the wrong groups."""
    weights: np.ndarray
    """(D, labels) of the read-out on centred activations."""
    directions: np.ndarray
    """(D, rank) what `erase` removes: the span of the covariance between activations and labels."""
    readers: np.ndarray
    """(rank, D) how much of each direction an activation holds."""
    mean: np.ndarray
    """(D,) of the training activations."""

    def erase(self, activation):
        """The activation (..., D), torch or NumPy, with everything linearly readable about the label removed (LEACE).

        The smallest change, in the activations' own metric, after which no linear probe beats the mean on the training
        distribution (Belrose et al. 2023).
        """
        cast = lambda a: a.astype(activation.dtype) if isinstance(activation, np.ndarray) else activation.new_tensor(a)
        directions, readers, mean = cast(self.directions), cast(self.readers), cast(self.mean)
        return activation - ((activation - mean) @ readers.T) @ directions.T


def fit(
    stream: Recording | np.ndarray,
    labels,
    *,
    holdout: str = "task",
    share: float = 0.3,
    l2: float = 1.0,
    seed: int = 0,
    groups=None,
) -> Probe:
    """Fit a ridge probe from activations to per-task labels, and score it on tasks held out from the fit.

    `stream` is a recording of one tap, (N, E, H + 1, D), or an array (N, ..., D) with `groups` (N,) naming each row's
    task. `labels` has one row per task, numbers or tuples. `holdout="task"` keeps a `share` of tasks for the score;
    "lifetime" keeps lifetimes, and tasks may recur. `l2` is the ridge penalty in units of one training activation.
    """
    if holdout not in ("task", "lifetime"):
        raise ValueError(f'holdout={holdout!r}; choose "task" or "lifetime".')
    values, task = (stream.array, stream.task) if isinstance(stream, Recording) else (np.asarray(stream), np.asarray(groups))
    label = np.array([np.ravel(row) for row in labels], float)  # (tasks, labels)
    if task.ndim != 1 or len(task) != len(values) or task.max(initial=0) >= len(label):
        raise ValueError(f"{len(values)} lifetimes, {len(label)} labels and groups {task.shape} do not belong together.")
    unit = task if holdout == "task" else np.arange(len(task))
    units = np.random.default_rng(seed).permutation(np.unique(unit))
    cut = round(len(units) * share)
    if not 2 <= cut <= len(units) - 2:
        raise ValueError(f"{len(units)} {holdout}s with share={share} leave {cut} held out; both sides need at least 2.")
    test = np.isin(unit, units[:cut])
    x = values.reshape(len(values), -1, values.shape[-1]).astype(float)  # (N, tokens, D)

    def scores(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Held-out squared errors (units, 2): of the probe and of the training mean; and the weights."""
        y = np.broadcast_to(label[task][:, None], (*x.shape[:2], label.shape[1]))
        weights, x_mean, y_mean = _ridge(x[~test].reshape(-1, x.shape[-1]), y[~test].reshape(-1, label.shape[1]), l2)
        missed = y[test] - ((x[test] - x_mean) @ weights + y_mean)
        errors = np.stack([(missed**2).mean((1, 2)), ((y[test] - y_mean) ** 2).mean((1, 2))], axis=-1)
        return np.array([errors[unit[test] == u].mean(0) for u in units[:cut]]), weights

    errors, weights = scores(label)
    rng = np.random.default_rng(seed + 1)
    shuffled = [_r2(scores(label[rng.permutation(len(label))])[0]) for _ in range(20)]
    draws = [_r2(errors[rng.integers(cut, size=cut)]) for _ in range(1000)]
    interval = Interval(_r2(errors), *map(float, np.quantile(draws, [0.025, 0.975])))
    train = x[~test].reshape(-1, x.shape[-1])
    directions, readers = _leace(train, np.repeat(label[task[~test]], x.shape[1], 0))
    return Probe(_r2(errors), interval, {"shuffled": max(shuffled)}, weights, directions, readers, train.mean(0))


def _r2(errors: np.ndarray) -> float:
    probe, mean = errors.mean(0)
    return float(1 - probe / mean)


def _ridge(x: np.ndarray, y: np.ndarray, l2: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x_mean, y_mean = x.mean(0), y.mean(0)
    x = x - x_mean
    scale = l2 * np.trace(x.T @ x) / len(x)
    return np.linalg.solve(x.T @ x + scale * np.eye(x.shape[1]), x.T @ (y - y_mean)), x_mean, y_mean


def _leace(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Closed-form LEACE: erase(x) = x - W^+ P W (x - mean), W = S^(-1/2), P the projector on the range of W Cov(x, y)."""
    x, y = x - x.mean(0), y - y.mean(0)
    variance, basis = np.linalg.eigh(x.T @ x / len(x))
    alive = variance > 1e-8 * variance.max()
    root = np.sqrt(np.where(alive, variance, 1.0))
    whiten = (basis * np.where(alive, 1 / root, 0.0)) @ basis.T
    colour = (basis * np.where(alive, root, 0.0)) @ basis.T
    u, s, _ = np.linalg.svd(whiten @ (x.T @ y / len(x)), full_matrices=False)
    u = u[:, s > 1e-10 * max(s.max(), 1e-30)]
    return colour @ u, u.T @ whiten
