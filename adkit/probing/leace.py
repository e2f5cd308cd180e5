"""Linear read-outs and their removal: ridge fits that share one factorisation, and LEACE with erasures to compare it to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


class Ridges:
    """Ridge fits of many labels to one set of activations: X'X is factored once, a label then costs one product.

    w = (X'X + l2 n I)^-1 X'(y - mean y), with n training tokens: `l2` is in units of a standardised activation's variance.
    """

    def __init__(self, x: np.ndarray, part: np.ndarray):
        """`x` (n, D); `part` (n,) is 0 for training, 1 for validation, 2 for test, anything else for none."""
        x = x - x[part == 0].mean(0)
        self.part, self.x = part, [x[part == p] for p in range(3)]
        self.gram = [x.T @ x for x in self.x]
        variance, self.basis = np.linalg.eigh(self.gram[0])
        self.variance = variance.clip(min=0)

    def errors(self, y: np.ndarray, l2: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Summed squared errors of Q labels `y` (n, Q) by part: (l2, 3, Q) under every penalty, (3, Q) of the training mean."""
        y = y - y[self.part == 0].mean(0)
        y = [y[self.part == p] for p in range(3)]
        cross = [x.T @ values for x, values in zip(self.x, y, strict=True)]  # (D, Q)
        squares = np.array([np.einsum("nq,nq->q", values, values) for values in y])
        errors = np.empty((len(l2), *squares.shape))
        for i, penalty in enumerate(l2):
            shrunk = (self.variance + penalty * len(self.x[0]))[:, None]
            w = self.basis @ (self.basis.T @ cross[0] / shrunk)
            for p in range(3):
                errors[i, p] = (
                    squares[p] - 2 * (w * cross[p]).sum(0) + (w * (self.gram[p] @ w)).sum(0)
                )
        return errors, squares


@dataclass(frozen=True, eq=False)
class Eraser:
    """Takes a subspace out of activations: erase(x) = x - directions readers (x - mean). Call it on (..., D)."""

    directions: np.ndarray
    """(D, rank) what is subtracted."""
    readers: np.ndarray
    """(rank, D) how much of each direction an activation holds."""
    mean: np.ndarray
    """(D,) of the activations it was fitted on."""
    variance: np.ndarray
    """(D',) of those activations along their principal axes, without the dead ones."""
    axes: np.ndarray
    """(D, D') the principal axes."""

    def __call__(self, activation):
        """The activation (..., D), torch or NumPy, with the subspace removed."""
        shape = getattr(activation, "shape", None)
        if shape is None or tuple(shape[-1:]) != self.mean.shape:
            given = (
                type(activation).__name__
                if shape is None
                else f"activation of shape {tuple(shape)}"
            )
            raise ValueError(
                f"{given} given; this eraser takes (..., {len(self.mean)}), torch or NumPy, such as recording[tap]."
            )
        cast = lambda a: (
            a.astype(activation.dtype)
            if isinstance(activation, np.ndarray)
            else activation.new_tensor(a)
        )
        directions, readers, mean = cast(self.directions), cast(self.readers), cast(self.mean)
        return activation - ((activation - mean) @ readers.T) @ directions.T

    @property
    def removed(self) -> float:
        """The variance it removes, E |x - erase(x)|^2, in the activations' own units."""
        return float((self.directions**2).sum())

    def random(self, n: int, seed: int = 0) -> list[Eraser]:
        """`n` erasers of random subspaces, of this one's rank and removed variance, that know nothing of the label.

        A random subspace of the whitened activations, tilted towards the large or the small axes until as much goes.
        """
        if not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"{n} random erasers; give a whole number of at least 1, such as 100.")
        rng, rank = np.random.default_rng(seed), self.directions.shape[1]
        tilt = np.log(self.variance) / 2
        tilt = tilt - tilt.mean()
        steepest = 30 / max(np.abs(tilt).max(), 1e-9)
        return [
            self._of(self._tilted(rng.normal(size=(len(tilt), rank)), tilt, steepest))
            for _ in range(n)
        ]

    def _tilted(self, drawn: np.ndarray, tilt: np.ndarray, steepest: float) -> np.ndarray:
        low, high = -steepest, steepest
        for _ in range(60):  # the removed variance grows with the tilt: bisect
            middle = (low + high) / 2
            u, _ = np.linalg.qr(np.exp(middle * tilt)[:, None] * drawn)
            low, high = (
                (middle, high)
                if (u**2 * self.variance[:, None]).sum() < self.removed
                else (low, middle)
            )
        return u

    def _of(self, u: np.ndarray) -> Eraser:
        """The eraser of the span of `u` (D', rank), orthonormal in whitened activations."""
        root = np.sqrt(self.variance)
        return replace(self, directions=(self.axes * root) @ u, readers=u.T @ (self.axes / root).T)


def leace(x: np.ndarray, y: np.ndarray) -> Eraser:
    """The smallest change of x (n, D) after which no linear read-out of y (n, k) beats the mean (Belrose et al. 2023).

    directions readers = W^+ P W, with W = Cov(x)^(-1/2) and P the projector on the range of W Cov(x, y): for one label it
    is x - s (g . (x - mean)) / (s . g), s = Cov(x, y), g = Cov(x)^-1 s. Of what x does not vary in, nothing is removed.
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
