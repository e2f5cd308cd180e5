"""Attention over episodes: how much of it falls on which kind of token, and the ablation of heads.

A mass is an observation; `ablate_head` inside `ad.edit` is the intervention beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from adkit.histories import Histories
from adkit.models.tokens import tokenize
from adkit.models.transformer import CausalTransformer
from adkit.probing.record import Recording, batches, record, tokens_of

PATTERNS = "blocks.*.attn.pattern"
KINDS = ("rewarded", "restart", "same cell", "this episode", "earlier episodes")
LIFETIMES = 8  # are held in memory at once: patterns are large, masses are not


@dataclass(frozen=True, eq=False)
class AttentionMasses:
    """The share of each decision's attention that falls on each kind of token, in N lifetimes.

    "rewarded" tokens carry a positive previous reward; "restart" tokens open an episode; "same
    cell" tokens of earlier episodes show the deciding token's observation. "this episode" and
    "earlier episodes" add up to 1.
    """

    mass: dict[str, np.ndarray]
    """Per kind (N, E, H, L, heads) float32, 0 where no decision was taken."""
    uniform: dict[str, np.ndarray]
    """Per kind (N, E, H): the mass under equal weight on all tokens up to the deciding one."""
    decided: np.ndarray
    """(N, E, H) bool: an action was taken."""

    def ratio(self, kind: str, where: np.ndarray | None = None) -> np.ndarray:
        """Return (N, L, heads) attention to a kind over uniform attention to it.

        Each is summed over the decisions `where` (N, E, H) bool, all by default. NaN where a
        lifetime has no token of the kind to look at.
        """
        where = self.decided if where is None else where
        mass = np.einsum("nehlk,neh->nlk", self.mass[kind], where, dtype=float)
        uniform = np.einsum("neh,neh->n", self.uniform[kind], where, dtype=float)[:, None, None]
        return np.divide(mass, uniform, out=np.full(mass.shape, np.nan), where=uniform > 0)


def attention_masses(
    model: CausalTransformer, histories: Histories, keep: int | None = None
) -> AttentionMasses:
    """Measure how much of each head's attention falls on each kind of token, at every decision.

    Every decision is measured in the window in which it was taken; `keep` is as in `InContext`.
    """
    parts = []
    for rows in batches(len(histories), LIFETIMES):
        some = histories[rows]
        parts.append(_masses(some, record(model, some, PATTERNS, keep=keep)))
    mass, uniform = (np.concatenate(side) for side in zip(*parts, strict=True))
    decided = np.arange(histories.spec.horizon) < histories.length[..., None]
    by_kind = lambda values: {kind: values[..., k] for k, kind in enumerate(KINDS)}
    return AttentionMasses(by_kind(mass), by_kind(uniform), decided)


def _masses(histories: Histories, recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Return the masses (n, E, H, L, heads, K) and the uniform ones (n, E, H, K)."""
    tokens, per = tokenize(histories.spec, histories.arrays), histories.spec.horizon + 1
    by_episode = lambda values: values.reshape(len(histories), -1, per)
    _, cell = np.unique(tokens.obs.reshape(-1, tokens.obs[0, 0].size), axis=0, return_inverse=True)
    cell, rewarded = by_episode(cell), by_episode(tokens.previous_reward > 0)
    slot = np.arange(per)
    exists = tokens_of(histories)  # (n, E, H + 1)
    patterns = np.stack(list(recording.values.values()), axis=3)  # (n, E, H + 1, L, heads, S)
    masses, uniform = [], []
    for e, start in enumerate(recording.window_start):
        window = (slice(None), None, slice(start, e + 1))  # (n, query, w, H + 1) by broadcasting
        earlier = np.arange(start, e + 1)[:, None] < e  # (w, 1)
        decides = slot[:-1] < histories.length[:, e, None]  # (n, H)
        seen = exists[window] & (earlier | (slot <= slot[:-1, None, None]))
        seen = seen & decides[..., None, None]
        is_kind = {
            "rewarded": rewarded[window],
            "restart": slot == 0,
            "same cell": earlier & (cell[window] == cell[:, e, :-1, None, None]),
            "this episode": ~earlier,
            "earlier episodes": earlier,
        }
        kinds = np.stack([seen & is_kind[kind] for kind in KINDS], axis=-1).astype(np.float32)
        kinds = kinds.reshape(*seen.shape[:2], -1, len(KINDS))  # (n, H, key, K)
        pattern = patterns[:, e, :-1, :, :, : kinds.shape[2]]  # (n, H, L, heads, key)
        masses.append(pattern @ kinds[:, :, None])
        count = np.maximum(seen.sum((2, 3)), 1)[..., None]
        uniform.append((kinds.sum(2) / count).astype(np.float32))
    return np.stack(masses, axis=1), np.stack(uniform, axis=1)


def attention_rollout(patterns: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return attention through all layers up to each one (Abnar & Zuidema 2020), (N, E, H + 1, S).

    Half of it stays in the residual stream. `patterns` (N, E, H + 1, heads, S), one per layer, are
    those that `record` returns for histories that fit in one window.
    """
    n, episodes, per, _, width = patterns[0].shape
    size = episodes * per
    rollout, rolled = np.broadcast_to(np.eye(size, dtype=np.float32), (n, size, size)), []
    for pattern in patterns:
        mean = pattern.mean(3).reshape(n, size, width)[..., :size]
        rollout = 0.5 * (mean @ rollout + rollout)
        padded = np.pad(rollout, [(0, 0), (0, 0), (0, width - size)])
        rolled.append(padded.reshape(n, episodes, per, width))
    return rolled


def after_first_reward(histories: Histories) -> np.ndarray:
    """Return (N, E, H) bool: decisions after the first positive reward of the lifetime."""
    rewarded = histories.reward > 0  # (N, T)
    before = (rewarded.cumsum(1) - rewarded).reshape(histories.arrays["reward"].shape)
    return (before > 0) & (np.arange(histories.spec.horizon) < histories.length[..., None])


def ablate_head(head: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return an edit that silences a head: `ad.edit(model, {"blocks.1.attn.z": ablate_head(0)})`.

    The head's output becomes 0, as if its columns of `out.weight` were.
    """

    def ablate(z: torch.Tensor) -> torch.Tensor:
        if z.ndim != 4:
            raise ValueError(
                f"`ablate_head` needs blocks.*.attn.z (B, heads, S, d), got {tuple(z.shape)}"
            )
        return z.index_fill(1, torch.tensor(head, device=z.device), 0.0)

    return ablate
