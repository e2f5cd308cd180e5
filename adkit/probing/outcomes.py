"""Outcomes of interventions: functions from logits (N, E, H + 1, A) to a number per lifetime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from adkit.histories import Histories
from adkit.probing.record import pick

Outcome = Callable[[np.ndarray], np.ndarray]


def action_loss(
    histories: Histories, where: np.ndarray | None = None, policy: np.ndarray | None = None
) -> Outcome:
    """Return an outcome: the mean cross-entropy in nats of logits against the actions taken.

    With the source's exact `policy` (N, E, H, A), against that policy, which has no sampling noise.
    `where` (N, E, H) bool chooses decisions, all by default; a lifetime without any is NaN.
    """
    taken = np.arange(histories.spec.horizon) < histories.length[..., None]
    where = taken if where is None else where & taken
    if policy is None:
        policy = np.eye(histories.spec.n_actions)[histories.arrays["action"]]
    return lambda logits: _mean(-(policy[where] * log_probabilities(logits, where)).sum(-1), where)


def action_probability(wanted: np.ndarray, where: np.ndarray) -> Outcome:
    """Return an outcome: the mean probability of `wanted` actions (N, E, H, A) bool.

    `where` (N, E, H) bool chooses decisions; a lifetime without any is NaN.
    """
    return lambda logits: _mean(
        (np.exp(log_probabilities(logits, where)) * wanted[where]).sum(-1), where
    )


def log_probabilities(logits: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the log probabilities (n, A), in float64, at chosen decisions or tokens."""
    return torch.as_tensor(pick(logits, where)).double().log_softmax(-1).numpy()


def _mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return (N,) means of values (n,) at the decisions of each lifetime."""
    lifetime, count = np.nonzero(where)[0], where.sum((1, 2))
    total = np.bincount(lifetime, values, len(where))
    return np.divide(total, count, out=np.full(len(where), np.nan), where=count > 0)
