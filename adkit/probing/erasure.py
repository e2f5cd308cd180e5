"""Erasing: take out what is linearly readable of a label, and see whether behaviour needed it (LEACE; Belrose et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from adkit.histories import Histories
from adkit.probing.labels import Sessions
from adkit.probing.leace import Eraser, leace
from adkit.probing.record import Recording, record


def erase(
    stream: Recording | np.ndarray,
    labels,
    *,
    where: np.ndarray | None = None,
    groups=None,
    classes: bool = False,
) -> Eraser:
    """What removes all that is linearly readable of `labels` from activations: `ad.edit(model, {tap: erase(...)})`.

    Arguments are as in `fit`, of one tap; fit it on lifetimes that are not judged later. What non-linear probes still read is
    `fit(stream, labels, leftover=300).controls["leftover"]`.
    """
    values = stream.array if isinstance(stream, Recording) else np.asarray(stream)
    task = np.asarray(
        stream.task
        if isinstance(stream, Recording)
        else np.arange(len(values))
        if groups is None
        else groups
    )
    sessions = Sessions.of(values.shape[:-1], task, labels, where)
    y = sessions.labels(sessions.session)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError(
            "labels hold NaN or infinity; give finite numbers, or leave those tokens out with where=."
        )
    return leace(
        sessions.tokens(values).astype(float),
        (y == np.unique(y)).astype(float) if classes else y.astype(float),
    )


@dataclass(frozen=True, eq=False)
class ErasureEffect:
    """What erasing did to an outcome of N lifetimes, and what erasing at random did."""

    clean: np.ndarray
    """(N,) the outcome with nothing erased."""
    erased: np.ndarray
    """(N,) with the label erased."""
    random: np.ndarray
    """(R, N) with random subspaces erased, of the same rank and removed variance."""

    @property
    def excess(self) -> np.ndarray:
        """(N,) what erasing the label changed beyond what erasing at random changes on average."""
        return self.erased - self.random.mean(0)

    @property
    def p(self) -> float:
        """Share of random erasures whose mean effect is as large: (1 + how many) / (1 + R)."""
        effect, random = (self.erased - self.clean).mean(), (self.random - self.clean).mean(1)
        return float((1 + (random >= effect).sum()) / (1 + len(random)))


def erasure_effect(
    model: torch.nn.Module,
    histories: Histories,
    erasers: Mapping[str, Eraser],
    outcome: Callable[[np.ndarray], np.ndarray],
    *,
    at: np.ndarray | None = None,
    random: int = 100,
    seed: int = 0,
    keep: int | None = None,
    batch: int = 16,
) -> ErasureEffect:
    """Run N lifetimes with labels erased, tap by tap, and with as much variance erased in `random` random subspaces.

    `outcome` makes (N,) numbers of logits (N, E, H + 1, A), such as `action_loss`. `at` (N, E, H + 1) bool says where to
    erase, everywhere by default. The difference of two corpora's `excess` (drifting, stable) is the effect of drift.
    """
    if random < 1 or not erasers:
        raise ValueError(
            f"random={random}, {len(erasers)} erasers; give at least one of each: erasing shows nothing without both."
        )

    def run(erasers: Mapping[str, Callable]) -> np.ndarray:
        def change(eraser):
            return lambda x, cut: (
                eraser(x) if at is None else torch.where(cut(at)[..., None], eraser(x), x)
            )

        changes = {tap: change(eraser) for tap, eraser in erasers.items()}
        return outcome(
            record(
                model, histories, "logits", keep=keep, batch=batch, changes=changes, resume=stream
            ).array
        )

    stream = record(model, histories, *erasers, keep=keep, batch=batch)
    draws = {
        tap: eraser.random(random, seed + i) for i, (tap, eraser) in enumerate(erasers.items())
    }
    at_random = [run({tap: drawn[i] for tap, drawn in draws.items()}) for i in range(random)]
    return ErasureEffect(run({}), run(erasers), np.stack(at_random))


def action_loss(
    histories: Histories, where: np.ndarray | None = None, policy: np.ndarray | None = None
) -> Callable:
    """The outcome (N,) in nats per decision: cross-entropy of logits (N, E, H + 1, A) against the actions taken.

    With the source's exact `policy` (N, E, H, A) against that, which has no sampling noise. `where` (N, E, H) bool chooses
    decisions, all by default; a lifetime without any is NaN.
    """
    real = np.arange(histories.spec.horizon) < histories.length[..., None]
    where = real if where is None else np.asarray(where)
    if where.shape != real.shape or where.dtype != bool or (where & ~real).any():
        raise ValueError(
            f"where is {where.dtype} {where.shape}; choose decisions that were taken with bool {real.shape}."
        )

    target = (
        np.eye(histories.spec.n_actions)[histories.arrays["action"]]
        if policy is None
        else np.asarray(policy)
    )

    def loss(logits: np.ndarray) -> np.ndarray:
        log_p = torch.as_tensor(logits[:, :, :-1]).double().log_softmax(-1).numpy()
        nats = np.where(where, -(target * log_p).sum(-1), 0).sum((1, 2))
        count = where.sum((1, 2))
        return np.divide(nats, count, out=np.full(len(nats), np.nan), where=count > 0)

    return loss
