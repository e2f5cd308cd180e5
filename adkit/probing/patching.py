"""Activation patching: the effect of one history's activations on the behaviour in another.

Patch with histories that could have happened, not with noise: the corruption decides the conclusion
(Zhang & Nanda 2024). A subspace patch can work through a pathway that is otherwise dormant, so that
the whole component is patched beside it (Makelov et al. 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from adkit.histories import Histories
from adkit.models.taps import matching
from adkit.probing.leace import Eraser
from adkit.probing.outcomes import Outcome
from adkit.probing.record import record

PAIRS = 8  # lifetimes that run at once, and as many donors


@dataclass(frozen=True, eq=False)
class Patched:
    """An outcome of N lifetimes, of their donors, and with the donors' activations.

    L taps and P sets of tokens are patched.
    """

    taps: tuple[str, ...]
    positions: tuple[str, ...]
    base: np.ndarray
    """(N,)"""
    donor: np.ndarray
    """(N,)"""
    patched: np.ndarray
    """(L, P, N) with the donor's activation, or its part in the subspace."""
    full: np.ndarray
    """(L, P, N) with the donor's whole activation: `patched` itself without a subspace."""

    @property
    def share(self) -> np.ndarray:
        """(L, P) the share of the way from base to donor, of means over lifetimes: 1 is all."""
        return (self.patched - self.base).mean(-1) / (self.donor - self.base).mean()

    @property
    def illusion(self) -> np.ndarray:
        """(L, P) bool: the subspace moves over twice what the whole moves, so do not believe it."""
        part, whole = (np.abs((x - self.base).mean(-1)) for x in (self.patched, self.full))
        return part > 2 * whole


def patch(
    model: torch.nn.Module,
    base: Histories,
    donor: Histories,
    tap: str,
    outcome: Outcome,
    *,
    positions: Mapping[str, np.ndarray] | None = None,
    subspace: np.ndarray | Eraser | None = None,
) -> Patched:
    """Run N base lifetimes with their donors' activations, at each tap and each set of tokens.

    `tap` may have wildcards; every match is patched on its own. `positions` names sets of decisions
    or tokens that both histories have, all by default. `subspace` (D, k) patches only the donor's
    part in its span; an eraser, only the coordinate that it would remove.
    """
    shape = len(base), base.n_episodes, base.spec.horizon + 1
    if donor.spec != base.spec or (len(donor), donor.n_episodes) != shape[:2]:
        raise ValueError(
            f"`donor` must have one history per history of `base`, {shape[:2]} lifetimes and "
            f"episodes in {base.spec.name}, "
            f"got {(len(donor), donor.n_episodes)} in {donor.spec.name}"
        )
    if positions is None:
        length = np.minimum(base.length, donor.length)
        positions = {"every token": np.arange(shape[2]) <= length[..., None]}
    taps, both, matrix = matching(model, tap), _stacked(base, donor), _projection(subspace)

    def run(name: str | None = None, at: np.ndarray | None = None, project=None) -> np.ndarray:
        """Return (2, N) the outcomes of base and donor, which run side by side in each batch."""
        logits = []
        for rows in np.array_split(np.arange(shape[0]), -(-shape[0] // PAIRS)):
            pairs = both[np.concatenate([rows, rows + shape[0]])]
            here, slot = None if at is None else at[np.tile(rows, 2)], _slots(pairs)
            change = lambda x, cut, here=here, slot=slot: _swapped(x, cut(here), cut(slot), project)
            found = record(model, pairs, batch=len(pairs), changes={name: change} if name else {})
            logits.append(np.split(found.array, 2))
        return np.stack([outcome(np.concatenate(side)) for side in zip(*logits, strict=True)])

    mine, theirs = run()
    every = [[(name, at) for at in positions.values()] for name in taps]
    full = np.array([[run(*one)[0] for one in row] for row in every])
    part = full
    if matrix is not None:
        part = np.array([[run(*one, matrix)[0] for one in row] for row in every])
    return Patched(tuple(taps), tuple(positions), mine, theirs, part, full)


def _projection(subspace: np.ndarray | Eraser | None) -> np.ndarray | None:
    """Return (D, D) what takes a difference of activations to its part in the subspace."""
    if subspace is None:
        return None
    if isinstance(subspace, Eraser):
        return subspace.readers.T @ subspace.directions.T
    basis, _ = np.linalg.qr(np.reshape(subspace, (len(subspace), -1)))
    return basis @ basis.T


def _stacked(base: Histories, donor: Histories) -> Histories:
    """Return both, base first, with the arrays that both have."""
    names = base.arrays.keys() & donor.arrays.keys()
    arrays = {name: np.concatenate([base.arrays[name], donor.arrays[name]]) for name in names}
    return replace(base, arrays=arrays, task=np.concatenate([base.task, base.task]))


def _slots(histories: Histories) -> np.ndarray:
    """Return (N, E, H + 1) the number of each token in its lifetime, if no episode ended early."""
    shape = len(histories), histories.n_episodes, histories.spec.horizon + 1
    return np.broadcast_to(np.arange(shape[1] * shape[2]).reshape(shape[1:]), shape)


def _swapped(
    x: torch.Tensor, here: torch.Tensor, slot: torch.Tensor, project: np.ndarray | None
) -> torch.Tensor:
    """Return x (2b, ..., S, D) with the donors' activations in the first half, at tokens `here`.

    Where episodes end early tokens are packed, so that a token's column differs between base and
    donor: they are matched by `slot` (2b, S).
    """
    (own, other), (mine, theirs) = x.chunk(2), slot.chunk(2)
    column = torch.zeros(len(mine), int(slot.max()) + 1, dtype=torch.long, device=x.device)
    column.scatter_(1, theirs, torch.arange(theirs.shape[1], device=x.device).expand_as(theirs))
    wide = lambda values: values[:, None, :, None] if x.ndim == 4 else values[..., None]
    matched = other.gather(x.ndim - 2, wide(column.gather(1, mine)).expand_as(own))
    if project is not None:
        matched = own + (matched - own) @ x.new_tensor(project)
    return torch.cat([torch.where(wide(here[: len(own)]), matched, own), other])
