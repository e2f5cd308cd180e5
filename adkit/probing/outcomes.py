"""Outcomes of interventions: functions from logits (N, E, H + 1, A) to a number per lifetime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from adkit.probing.record import pick

Outcome = Callable[[np.ndarray], np.ndarray]


def action_probability(wanted: np.ndarray, where: np.ndarray) -> Outcome:
    """Return an outcome: the mean probability of `wanted` actions (N, E, H, A) bool.

    `where` (N, E, H) bool chooses decisions; a lifetime without any is NaN.
    """
    lifetime, count = np.nonzero(where)[0], where.sum((1, 2))

    def outcome(logits: np.ndarray) -> np.ndarray:
        p = (np.exp(log_probabilities(logits, where)) * wanted[where]).sum(-1)
        total = np.bincount(lifetime, p, len(where))
        return np.divide(total, count, out=np.full(len(where), np.nan), where=count > 0)

    return outcome


def log_probabilities(logits: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the log probabilities (n, A), in float64, at chosen decisions or tokens."""
    return torch.as_tensor(pick(logits, where)).double().log_softmax(-1).numpy()
