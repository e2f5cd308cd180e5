"""Activation patching: the effect of one history's activations on the behaviour in another.

Patch with histories that could have happened, not with noise: the corruption decides the conclusion
(Zhang & Nanda 2024). A subspace patch can work through a pathway that is otherwise dormant, so that
the whole component is patched beside it (Makelov et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from adkit.histories import Histories
from adkit.probing.erasure import Eraser
from adkit.probing.outcomes import Outcome
from adkit.probing.record import record, tokens_of


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

    Histories must fit in the model's window: there every token has one activation. `tap` may have
    wildcards; every match is patched on its own. `positions` names sets of decisions or tokens that
    both histories have, all by default. `subspace` (D, k) patches only the donor's part in its
    span; an eraser, only the coordinate that it would remove.
    """
    _check_pair(model, base, donor)
    if positions is None:
        positions = {"every token": tokens_of(base) & tokens_of(donor)}
    theirs = record(model, donor, tap)

    def run(name: str, at: np.ndarray, project: np.ndarray | None = None) -> np.ndarray:
        """Return (N,) the outcome with the donors' activations of one tap, at tokens `at`."""

        def swap(x: torch.Tensor, cut: Callable[[np.ndarray], torch.Tensor]) -> torch.Tensor:
            there, here = cut(theirs[name]), cut(at)[..., None]
            if x.ndim == 4:  # (b, heads, S, d)
                there, here = there.transpose(1, 2), here[:, None]
            difference = there - x
            if project is not None:
                difference = difference @ x.new_tensor(project)
            return torch.where(here, x + difference, x)

        return outcome(record(model, base, changes={name: swap}).array)

    def grid(project: np.ndarray | None = None) -> np.ndarray:
        every = [[run(name, at, project) for at in positions.values()] for name in theirs.values]
        return np.array(every)  # (L, P, N)

    full = grid()
    part = full if subspace is None else grid(_projection(subspace))
    ends = (outcome(record(model, histories).array) for histories in (base, donor))
    return Patched(tuple(theirs.values), tuple(positions), *ends, part, full)


def _check_pair(model: torch.nn.Module, base: Histories, donor: Histories) -> None:
    shapes = [(len(histories), histories.n_episodes) for histories in (base, donor)]
    if donor.spec != base.spec or shapes[0] != shapes[1]:
        raise ValueError(
            f"`donor` must have one history per history of `base`, {shapes[0]} lifetimes and "
            f"episodes in {base.spec.name}, got {shapes[1]} in {donor.spec.name}"
        )
    if base.n_episodes > model.window:
        raise ValueError(
            f"`base` and `donor` must fit in the model's window of {model.window} episodes, got "
            f"{base.n_episodes}; try base.episodes[:{model.window}]"
        )


def _projection(subspace: np.ndarray | Eraser) -> np.ndarray:
    """Return (D, D) what takes a difference of activations to its part in the subspace."""
    if isinstance(subspace, Eraser):
        return subspace.readers.T @ subspace.directions.T
    basis, _ = np.linalg.qr(np.reshape(subspace, (len(subspace), -1)))
    return basis @ basis.T
