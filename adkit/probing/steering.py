"""Steering: doses of a vector added to activations, and doses of others that do as much."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from adkit.histories import Histories
from adkit.models.transformer import CausalTransformer
from adkit.probing.record import Recording, log_probabilities, only_at, pick, record, tokens_of

DOSES = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)
ENDS = (-4.0, 4.0)


def difference_of_means(
    activations: np.ndarray, high: np.ndarray, match: np.ndarray | None = None
) -> np.ndarray:
    """Return (D,) the mean activation (n, D) where `high` (n,) minus that where it is not.

    Means are compared within each stratum of `match` (n, ...), what must not differ; strata weigh
    n_high n_low / (n_high + n_low), as in a regression with one constant per stratum.
    """
    match = np.zeros(len(high), int) if match is None else match
    stratum = np.unique(match, axis=0, return_inverse=True)[1].ravel()
    count = np.stack([np.bincount(stratum, side) for side in (high, ~high)])
    weight = np.prod(count, axis=0) / count.sum(0)
    if not weight.any():
        raise ValueError(
            "no stratum of `match` contains both high and low; use fewer matching variables"
        )
    share = weight[stratum] / np.where(high, *count[:, stratum])  # of its side's mean
    return (np.where(high, share, -share) / weight.sum()) @ np.asarray(activations, float)


def off_unembedding(vector: np.ndarray, model: CausalTransformer) -> tuple[np.ndarray, float]:
    """Return a vector (D,) without the part that the action head reads, and that part's share.

    The head reads the layer norm of the stream, which takes out the mean. What is left acts through
    later layers only.
    """
    head = model.head.weight.detach().cpu().double().numpy()
    span, _ = np.linalg.qr((head - head.mean(1, keepdims=True)).T)
    inside = span @ (span.T @ vector)
    return vector - inside, float(np.linalg.norm(inside) / np.linalg.norm(vector))


class Steering:
    """A model that is steered at one tap while it runs over histories.

    `at` names the decisions (N, E, H) or tokens (N, E, H + 1) at which a vector is added, all by
    default; `stream` is a recording of the tap, if there is one already. Dose 1 of a vector has a
    tenth of the mean norm of the activations that it is added to.
    """

    def __init__(
        self,
        model: CausalTransformer,
        histories: Histories,
        tap: str,
        at: np.ndarray | None = None,
        stream: Recording | None = None,
    ):
        self.model, self.histories, self.tap = model, histories, tap
        self.at = tokens_of(histories) if at is None else at
        self.stream = stream or record(model, histories, tap)
        norms = np.linalg.norm(pick(self.stream[tap], self.at), axis=-1)
        self.size = float(norms.mean()) / 10

    def logits(self, vector: np.ndarray, dose: float) -> np.ndarray:
        """Return (N, E, H + 1, A) the logits of the steered model."""
        add = dose * (self.size * vector / np.linalg.norm(vector))
        changes = {self.tap: only_at(self.at, lambda x: x + x.new_tensor(add))}
        return record(self.model, self.histories, changes=changes, resume=self.stream).array

    @cached_property
    def _unsteered(self) -> np.ndarray:
        clean = record(self.model, self.histories, resume=self.stream).array
        return log_probabilities(clean, self.at)

    def kl(self, vector: np.ndarray, factor: float = 1.0) -> float:
        """Return KL(unsteered || steered) in nats at the steered tokens, the mean of both `ENDS`.

        `factor` scales the doses.
        """
        p, logits = self._unsteered, (self.logits(vector, factor * dose) for dose in ENDS)
        steered = (log_probabilities(found, self.at) for found in logits)
        return float(np.mean([(np.exp(p) * (p - q)).sum(-1).mean() for q in steered]))

    def factor(self, vector: np.ndarray, kl: float, start: float = 1.0) -> float:
        """Return the factor at which the vector's doses have about this KL, within 10%."""
        factor = start
        for _ in range(5):  # KL grows about as the square of the norm
            mine = self.kl(vector, factor)
            if abs(mine - kl) < 0.1 * kl:
                break
            factor *= float(np.clip(np.sqrt(kl / max(mine, 1e-12)), 0.1, 10))
        return factor
