"""Steering: add a multiple of a vector to an activation, and ask for a dose response that random vectors do not have.

Per-history slopes and the share that goes the wrong way, because means hide them (Tan et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from adkit.histories import Histories
from adkit.models.taps import matching
from adkit.models.transformer import CausalTransformer
from adkit.probing.record import record
from adkit.stats import Interval, bootstrap

DOSES = (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0)


def difference_of_means(
    activations: np.ndarray, high: np.ndarray, match: np.ndarray | None = None
) -> np.ndarray:
    """(D,) mean activation (n, D) where `high` (n,) bool, minus where it is not, within each cell of `match` (n,).

    A cell is what must not differ: a pair of histories that differ by one edit, or a day x cookie count x layout orbit. Cells
    weigh n_high n_low / (n_high + n_low), as in a regression with one constant per cell. ValueError if none has both.
    """
    activations, high = np.asarray(activations, float), np.asarray(high)
    match = np.zeros(len(high), int) if match is None else np.asarray(match)
    if (
        activations.ndim != 2
        or high.dtype != bool
        or {high.shape, match.shape} != {activations.shape[:1]}
    ):
        raise ValueError(
            f"activations {activations.shape}, high {high.dtype} {high.shape}, match {match.shape}; give (n, D), bool (n,), (n,)."
        )
    _, cell = np.unique(match, axis=0, return_inverse=True)
    count = np.stack([np.bincount(cell, side) for side in (high, ~high)])
    weight = np.prod(count, axis=0) / count.sum(0)
    if not weight.any():
        raise ValueError(
            f"none of {count.shape[1]} cells of match has both high and low; match on less."
        )
    share = np.divide(
        weight[cell], np.where(high, *count[:, cell])
    )  # a token's share of its cell's mean
    return (np.where(high, share, -share) / weight.sum()) @ activations


def off_unembedding(vector: np.ndarray, model: CausalTransformer) -> tuple[np.ndarray, float]:
    """The vector (D,) without what the action head reads directly, and the share of its length that was in that span.

    The head reads the layer norm of the stream, which takes out the mean; what is left acts through later layers only.
    """
    head, vector = model.head.weight.detach().double().cpu().numpy(), np.asarray(vector, float)
    if vector.shape != head.shape[1:] or not 0 < np.linalg.norm(vector) < np.inf:
        raise ValueError(
            f"vector {vector.shape}; give a finite vector {head.shape[1:]} that is not 0: a direction of the stream."
        )
    span, _ = np.linalg.qr((head - head.mean(1, keepdims=True)).T)
    inside = span @ (span.T @ vector)
    return vector - inside, float(np.linalg.norm(inside) / np.linalg.norm(vector))


@dataclass(frozen=True, eq=False)
class Steering:
    """How an outcome of N lifetimes follows the dose of a vector, and of random vectors."""

    doses: np.ndarray
    """(A,) ascending, 0 among them."""
    response: np.ndarray
    """(A, N) the outcome."""
    kl: np.ndarray
    """(A,) KL(unsteered || steered) in nats at unrelated tokens; NaN if none were named."""
    random_norm: np.ndarray
    """(R, N) swings of random vectors of equal norm."""
    random_kl: np.ndarray
    """(R, N) swings of the same vectors scaled to do as much at unrelated tokens; NaN without those."""
    reached_kl: np.ndarray
    """(R,) the KL they do, mean of both ends; to be compared with `kl`'s ends."""
    unit: np.ndarray
    """(D,) what dose 1 adds."""
    groups: np.ndarray
    """(N,) lifetimes of one group are not independent."""

    @property
    def slopes(self) -> np.ndarray:
        """(N,) least-squares slope of each lifetime's outcome on the dose."""
        doses = self.doses - self.doses.mean()
        return doses @ self.response / (doses @ doses)

    @property
    def slope(self) -> Interval:
        """The mean slope, with its bootstrap over groups and lifetimes."""
        return bootstrap(self.slopes, [self.groups])

    @property
    def swing(self) -> np.ndarray:
        """(N,) outcome at the highest dose minus at the lowest: what the random vectors are compared in."""
        return self.response[-1] - self.response[0]

    @property
    def spearman(self) -> float:
        """Rank correlation of the mean outcome with the dose: 1 is monotone."""
        from scipy.stats import spearmanr

        mean = self.response.mean(1)
        return float(spearmanr(self.doses, mean).statistic) if np.ptp(mean) > 0 else 0.0

    @property
    def ed50(self) -> float:
        """The positive dose with half of the largest mean effect of positive doses, between doses by a straight line."""
        positive = self.doses >= 0
        effect, doses = self.response[positive].mean(1), self.doses[positive]
        effect = (effect - effect[0]) * np.sign(self.slopes.mean())
        if not effect.max() > 0:
            return float("nan")
        i = int(np.argmax(effect >= effect.max() / 2))
        return float(np.interp(effect.max() / 2, effect[i - 1 : i + 1], doses[i - 1 : i + 1]))

    @property
    def anti_steerable(self) -> float:
        """The share of lifetimes that go against the mean slope."""
        return float((self.slopes * np.sign(self.slopes.mean()) < 0).mean())

    def p(self, null: str = "norm") -> float:
        """Share of random vectors of equal "norm" or "kl" that swing the mean as far, either way; the vector itself counted."""
        swings = {"norm": self.random_norm, "kl": self.random_kl}[null].mean(1)
        return float((1 + (np.abs(swings) >= abs(self.swing.mean())).sum()) / (1 + len(swings)))


def steer(
    model: CausalTransformer,
    histories: Histories,
    tap: str,
    vector: np.ndarray,
    outcome: Callable[[np.ndarray], np.ndarray],
    *,
    doses: Sequence[float] = DOSES,
    fraction: float = 0.1,
    at: np.ndarray | None = None,
    unrelated: np.ndarray | None = None,
    random: int | np.ndarray = 100,
    groups: np.ndarray | None = None,
    seed: int = 0,
    keep: int | None = None,
    batch: int = 16,
) -> Steering:
    """Add doses of `vector` (D,) to one tap, and measure `outcome`, which makes (N,) numbers of logits (N, E, H + 1, A).

    Dose 1 has `fraction` of the mean norm of the tap's activations. `at` (N, E, H + 1) bool says where, everywhere by default.
    `unrelated` (N, E, H + 1) bool are tokens at which nothing should happen: random vectors are compared at equal norm and
    at equal KL there. `random` is how many, or (R, D) vectors of your own, such as differences of shuffled means. To steer
    rollouts, use `ad.edit(model, {tap: lambda x: x + x.new_tensor(dose * steering.unit)})`.
    """
    (tap,), doses = matching(model, tap), np.unique([0.0, *doses])
    recording, n = record(model, histories, tap, keep=keep, batch=batch), len(histories)
    stream, resume = recording.array, recording
    vector = np.asarray(vector, float)
    if (
        vector.shape != stream.shape[-1:]
        or not np.linalg.norm(vector) > 0
        or doses[0] >= 0
        or doses[-1] <= 0
    ):
        raise ValueError(
            f"vector {vector.shape}, doses {doses}; give a vector ({stream.shape[-1]},) that is not 0, and doses of both signs."
        )
    drawn = (
        np.random.default_rng(seed).normal(size=(random, len(vector)))
        if isinstance(random, int)
        else np.asarray(random, float)
    )
    if not drawn.size or drawn.shape[1:] != vector.shape:
        raise ValueError(
            f"random vectors {drawn.shape}; give how many, at least 1, or (R, {len(vector)}) of your own."
        )
    exists = np.arange(stream.shape[2]) <= histories.length[..., None]
    typical = fraction * np.linalg.norm(stream, axis=-1)[exists if at is None else at].mean()
    of_size = lambda v: v * typical / np.linalg.norm(v)

    def run(added: np.ndarray) -> np.ndarray:
        def change(x, cut):
            return x + x.new_tensor(added) * (1 if at is None else cut(at)[..., None])

        return record(
            model, histories, "logits", keep=keep, batch=batch, changes={tap: change}, resume=resume
        ).array

    clean = run(np.zeros_like(vector))

    def damage(logits: np.ndarray) -> float:
        if unrelated is None:
            return np.nan
        p, q = (
            torch.as_tensor(values[unrelated]).double().log_softmax(-1)
            for values in (clean, logits)
        )
        return float((p.exp() * (p - q)).sum(-1).mean())

    def swing(unit: np.ndarray) -> tuple[np.ndarray, float]:
        low, high = run(doses[0] * unit), run(doses[-1] * unit)
        return outcome(high) - outcome(low), (damage(low) + damage(high)) / 2

    unit = of_size(vector)
    logits = [clean if dose == 0 else run(dose * unit) for dose in doses]
    kl = np.array([damage(values) for values in logits])
    done, by_norm, by_kl, reached = (kl[0] + kl[-1]) / 2, [], [], []
    for other in map(of_size, drawn):
        moved, harm = swing(other)
        by_norm.append(moved)
        for _ in range(5):  # KL grows about as the square of the norm
            if unrelated is None or abs(harm - done) < 0.1 * done:
                break
            other = other * np.clip(np.sqrt(done / max(harm, 1e-12)), 0.1, 10)
            moved, harm = swing(other)
        by_kl.append(moved if unrelated is not None else np.full(n, np.nan))
        reached.append(harm)
    response = np.stack([outcome(values) for values in logits])
    groups = histories.task if groups is None else np.asarray(groups)
    return Steering(
        doses, response, kl, np.stack(by_norm), np.stack(by_kl), np.array(reached), unit, groups
    )
