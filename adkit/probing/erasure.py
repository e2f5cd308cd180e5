"""Erasure of a label from activations, and its effect beside that of random erasures.

LEACE makes the smallest change of activations that removes what is linearly readable of a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from adkit.histories import Histories
from adkit.probing.labels import Sessions, taps_of
from adkit.probing.outcomes import Outcome
from adkit.probing.record import Change, Recording, only_at, pick, record, tokens_of


@dataclass(frozen=True, eq=False)
class Eraser:
    """A function that removes a subspace: erase(x) = x - directions readers (x - mean).

    It takes activations (..., D), torch or NumPy: `ad.edit(model, {tap: eraser})`.
    """

    directions: np.ndarray
    """(D, rank) what is subtracted."""
    readers: np.ndarray
    """(rank, D) how much of each direction an activation holds."""
    mean: np.ndarray
    """(D,) of the activations it was fitted on."""
    variance: np.ndarray
    """(D',) of those activations along their principal axes, where there is any."""
    axes: np.ndarray
    """(D, D') the principal axes."""

    def __call__(self, activation):
        cast = getattr(activation, "new_tensor", lambda a: a.astype(activation.dtype))
        directions, readers, mean = map(cast, (self.directions, self.readers, self.mean))
        return activation - ((activation - mean) @ readers.T) @ directions.T

    @property
    def removed(self) -> float:
        """The variance that is removed, E |x - erase(x)|^2."""
        return float((self.directions**2).sum())

    def random(self, n: int, seed: int = 0) -> list[Eraser]:
        """Draw `n` erasers of random subspaces with this one's rank and removed variance.

        A random subspace of the whitened activations is tilted towards their large or small axes
        until it holds as much variance.
        """
        rng, rank = np.random.default_rng(seed), self.directions.shape[1]
        tilt = np.log(self.variance) / 2
        tilt = tilt - tilt.mean()
        return [self._of(self._tilted(rng.normal(size=(len(tilt), rank)), tilt)) for _ in range(n)]

    def _tilted(self, drawn: np.ndarray, tilt: np.ndarray) -> np.ndarray:
        """Return an orthonormal basis (D', rank) that removes as much, by bisection of the tilt."""
        high = 30 / max(np.abs(tilt).max(), 1e-9)
        low = -high
        for _ in range(60):
            middle = (low + high) / 2
            u, _ = np.linalg.qr(np.exp(middle * tilt)[:, None] * drawn)
            less = (u**2 * self.variance[:, None]).sum() < self.removed
            low, high = (middle, high) if less else (low, middle)
        return u

    def _of(self, u: np.ndarray) -> Eraser:
        """Return the eraser of the span of `u` (D', rank), orthonormal in whitened activations."""
        root = np.sqrt(self.variance)
        return replace(self, directions=(self.axes * root) @ u, readers=u.T @ (self.axes / root).T)


def leace(x: np.ndarray, y: np.ndarray) -> Eraser:
    """Fit the eraser of labels y (n, k) from activations x (n, D) (Belrose et al. 2023).

    directions readers = W^+ P W, with W = Cov(x)^(-1/2) and P the projector on W Cov(x, y). After
    it no linear read-out of y beats the mean. Nothing is removed where x does not vary.
    """
    mean = x.mean(0)
    x, y = x - mean, y - y.mean(0)
    variance, axes = np.linalg.eigh(x.T @ x / len(x))
    alive = variance > 1e-8 * variance.max()
    variance, axes = variance[alive], axes[:, alive]
    whitened = (axes / np.sqrt(variance)).T @ (x.T @ y / len(x))
    u, s, _ = np.linalg.svd(whitened, full_matrices=False)
    nothing = Eraser(np.zeros((len(mean), 0)), np.zeros((0, len(mean))), mean, variance, axes)
    return nothing._of(u[:, s > 1e-10 * max(s.max(initial=0), 1e-30)])


def erase(
    stream: Recording | np.ndarray,
    labels,
    *,
    where: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> Eraser:
    """Fit an eraser of what is linearly readable of `labels`: `ad.edit(model, {tap: eraser})`.

    Arguments are as in `fit`, for one tap. Fit it on lifetimes that are not judged later.
    """
    (values,) = taps_of(stream).values()
    sessions = Sessions.of(stream, labels, where, groups)
    return leace(sessions.tokens(values), sessions.own())


@dataclass(frozen=True, eq=False)
class ErasureEffect:
    """An outcome of N lifetimes without an erasure, with it, and with random erasures."""

    clean: np.ndarray
    """(N, ...) with nothing erased."""
    erased: np.ndarray
    """(N, ...) with the label erased."""
    random: np.ndarray
    """(R, N, ...) with random subspaces erased, of the same rank and removed variance."""

    @property
    def p(self) -> float:
        """The share of random erasures whose mean effect is as large: (1 + how many) / (1 + R)."""
        effect, random = (self.erased - self.clean).mean(), (self.random - self.clean).mean(1)
        return float((1 + (random >= effect).sum()) / (1 + len(random)))


def erasure_effect(
    model: torch.nn.Module,
    histories: Histories,
    erasers: Mapping[str, Eraser],
    outcome: Outcome,
    *,
    at: np.ndarray | None = None,
    random: int = 100,
    seed: int = 0,
    freeze: bool = False,
) -> ErasureEffect:
    """Run the model over histories with erasers at their taps, and with `random` random ones.

    `outcome`, such as that of `action_probability`, returns (N,) or (N, k) of logits
    (N, E, H + 1, A). `at` names decisions (N, E, H) or tokens (N, E, H + 1), all by default.
    `freeze` holds what would be erased at its mean over the lifetime's tokens `at`, instead of at
    its mean over all lifetimes.
    """
    stream = record(model, histories, *erasers)
    at = tokens_of(histories) if at is None else at

    def run(chosen: Mapping[str, Eraser]) -> np.ndarray:
        changes = {
            tap: _frozen(eraser, at, stream[tap], erasers[tap]) if freeze else only_at(at, eraser)
            for tap, eraser in chosen.items()
        }
        return outcome(record(model, histories, changes=changes, resume=stream).array)

    drawn = [eraser.random(random, seed + i) for i, eraser in enumerate(erasers.values())]
    draws = [dict(zip(erasers, others, strict=True)) for others in zip(*drawn, strict=True)]
    return ErasureEffect(run({}), run(erasers), np.stack([run(draw) for draw in draws]))


def _frozen(eraser: Eraser, at: np.ndarray, stream: np.ndarray, like: Eraser) -> Change:
    """Return a change that holds an eraser's coordinates, at tokens `at`, at their lifetime's mean.

    Coordinates of another eraser than `like` move only so far that activations move by as much.
    """
    moved = _moved(eraser, at, stream)
    if eraser is not like:
        size = lambda one, by: ((pick(by, at) @ one.directions.T) ** 2).sum()
        moved *= np.sqrt(size(like, _moved(like, at, stream)) / size(eraser, moved))
    return lambda x, cut: x + cut(moved) @ x.new_tensor(eraser.directions.T)


def _moved(eraser: Eraser, at: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """Return (N, E, H + 1 or H, rank) from each coordinate to its lifetime's mean; 0 not `at`."""
    read = stream[:, :, : at.shape[2]] @ eraser.readers.T.astype(np.float32)
    count = np.maximum(at.sum((1, 2)), 1)[:, None, None, None]
    mean = np.where(at[..., None], read, 0).sum((1, 2), keepdims=True) / count
    return np.where(at[..., None], mean - read, 0).astype(np.float32)
