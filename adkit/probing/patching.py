"""Activation patching: give one history's activations to another, and see how much of the other's behaviour comes along.

Patch with in-distribution histories (see `counterfactual`), not with noise: the corruption decides the conclusion
(Zhang & Nanda 2024). A subspace patch can work through a pathway that is dormant otherwise, so that the patch of the
whole component is made beside it (Makelov et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from adkit.histories import Histories
from adkit.models.taps import matching
from adkit.probing.record import record

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Patched:
    """An outcome of N lifetimes: their own, the donors', and with the donors' activations at L taps and P positions."""

    taps: tuple[str, ...]
    positions: tuple[str, ...]
    base: np.ndarray
    """(N,)"""
    donor: np.ndarray
    """(N,)"""
    patched: np.ndarray
    """(L, P, N) with the donor's activation, or its part in the subspace."""
    full: np.ndarray
    """(L, P, N) with the donor's whole activation: `patched` itself unless a subspace was given."""

    @property
    def moved(self) -> np.ndarray:
        """(L, P, N) how far the outcome moved; average it over histories, or give it to `stats.bootstrap`."""
        return self.patched - self.base

    @property
    def share(self) -> np.ndarray:
        """(L, P) the share of the way from base to donor, both averaged over lifetimes: 0 nothing, 1 all of it."""
        return self._share(self.patched)

    @property
    def illusion(self) -> np.ndarray:
        """(L, P) bool: the subspace moves more than twice what the whole component moves, so do not believe it."""
        return np.abs(self._share(self.patched)) > 2 * np.abs(self._share(self.full))

    def to_frame(self) -> pd.DataFrame:
        """One row per tap, position and lifetime."""
        import pandas as pd

        tap, position, history = np.indices(self.patched.shape).reshape(3, -1)
        names = {
            "tap": np.array(self.taps)[tap],
            "position": np.array(self.positions)[position],
            "history": history,
        }
        values = {"base": self.base[history], "donor": self.donor[history]}
        return pd.DataFrame(
            names | values | {"patched": self.patched.ravel(), "full": self.full.ravel()}
        )

    def _share(self, patched: np.ndarray) -> np.ndarray:
        gap = (self.donor - self.base).mean()
        return (patched - self.base).mean(-1) / gap if gap else np.zeros(patched.shape[:2])


def patch(
    model: torch.nn.Module,
    base: Histories,
    donor: Histories,
    tap: str,
    outcome: Callable[[np.ndarray], np.ndarray],
    *,
    positions: Mapping[str, np.ndarray] | None = None,
    subspace: np.ndarray | None = None,
    keep: int | None = None,
    batch: int = 16,
) -> Patched:
    """Run N base lifetimes with activations of their donors, lifetime by lifetime, at each tap and each set of positions.

    `tap` may have wildcards; every match is patched on its own. `outcome` makes (N,) numbers of logits (N, E, H + 1, A).
    `positions` name (N, E, H + 1) bool sets of tokens, which must exist in both; every such token by default. `subspace`
    (D, k) patches only the donor's coordinates in its span. A history patched with itself is unchanged.
    """
    size = len(base), base.n_episodes, base.spec.horizon + 1
    if donor.spec != base.spec or (len(donor), donor.n_episodes) != size[:2]:
        raise ValueError(
            f"base is {size[:2]} lifetimes x episodes, donor {(len(donor), donor.n_episodes)}; patch like with like: a donor for "
            f"each lifetime, of as many episodes in the same environment, {base.spec.name}."
        )
    exists = np.arange(size[2]) <= np.minimum(base.length, donor.length)[..., None]
    positions = {"every token": exists} if positions is None else dict(positions)
    for name, mask in positions.items():
        if np.shape(mask) != size or np.asarray(mask).dtype != bool or (mask & ~exists).any():
            raise ValueError(
                f"positions {name!r} of shape {np.shape(mask)}; give bool {size}, of tokens that both histories have."
            )
    taps = matching(model, tap)
    slot = np.broadcast_to(np.arange(size[1] * size[2]).reshape(size[1:]), size)
    basis = (
        None
        if subspace is None
        else torch.as_tensor(np.linalg.qr(np.reshape(subspace, (len(subspace), -1)))[0]).float()
    )

    def run(name: str | None, mask: np.ndarray, basis: torch.Tensor | None) -> np.ndarray:
        """Base and donor run side by side in one batch, so that the donor's activation is that of the very same window."""
        logits = []
        for rows in np.array_split(np.arange(size[0]), -(-2 * size[0] // max(batch, 2))):
            both = _stacked(base[rows], donor[rows])
            here, both_slots = (
                np.concatenate([mask[rows], np.zeros_like(mask[rows])]),
                np.concatenate([slot[rows], slot[rows]]),
            )
            change = lambda x, cut, here=here, slots=both_slots: _swapped(
                x, cut(here), cut(slots), basis
            )
            swap = {} if name is None else {name: change}
            logits.append(
                record(model, both, "logits", keep=keep, batch=2 * len(rows), changes=swap).array
            )
        halves = [np.array_split(part, 2) for part in logits]
        return outcome(np.concatenate([half[0] for half in halves])), outcome(
            np.concatenate([half[1] for half in halves])
        )

    mine, theirs = run(None, exists, None)
    whole = np.array([[run(name, mask, None)[0] for mask in positions.values()] for name in taps])
    part = (
        whole
        if basis is None
        else np.array([[run(name, mask, basis)[0] for mask in positions.values()] for name in taps])
    )
    return Patched(tuple(taps), tuple(positions), mine, theirs, part, whole)


def _stacked(base: Histories, donor: Histories) -> Histories:
    """Both, base first; what the model reads and no more."""
    names = base.arrays.keys() & donor.arrays.keys()
    arrays = {name: np.concatenate([base.arrays[name], donor.arrays[name]]) for name in names}
    return replace(base, arrays=arrays, task=np.concatenate([base.task, base.task]))


def _swapped(
    x: torch.Tensor, here: torch.Tensor, slot: torch.Tensor, basis: torch.Tensor | None
) -> torch.Tensor:
    """The second half's activations (2b, ..., S, D) put in the first half's, at tokens `here` (2b, S).

    Where days ended early tokens are packed, so that one's column is another's in the donor: they meet at the same `slot` (2b, S).
    """
    own, other = x.chunk(2)
    mine, theirs = slot.chunk(2)
    column = torch.zeros(len(mine), int(slot.max()) + 1, dtype=torch.long, device=x.device)
    column.scatter_(1, theirs, torch.arange(theirs.shape[1], device=x.device).expand_as(theirs))
    wide = lambda values: (
        values[:, None, :, None] if x.ndim == 4 else values[..., None]
    )  # per-head ones are (b, heads, S, d)
    other = other.gather(x.ndim - 2, wide(column.gather(1, mine)).expand_as(own))
    new = other if basis is None else own + (other - own) @ basis.to(x) @ basis.to(x).T
    return torch.cat([torch.where(wide(here[: len(own)]), new, own), x.chunk(2)[1]])
