"""LEACE: the smallest change of activations that removes what is linearly readable of a label."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


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
