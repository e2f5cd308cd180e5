"""Attention over episodes: how much of it falls on which kind of token, and the ablation of heads.

A mass is an observation; `ablate_head` inside `ad.edit` is the intervention beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from adkit.histories import Histories
from adkit.models.taps import matching
from adkit.models.tokens import slots, tokenize
from adkit.models.transformer import CausalTransformer
from adkit.probing.record import Recording, record

PATTERNS = "blocks.*.attn.pattern"
KINDS = ("rewarded", "rewarded earlier", "restart", "same cell", "this episode", "earlier episodes")
LIFETIMES = 8  # are held in memory at once: patterns are large, masses are not


@dataclass(frozen=True, eq=False)
class AttentionMasses:
    """The share of each decision's attention that falls on each kind of token, in N lifetimes.

    "rewarded" tokens carry a positive previous reward, "rewarded earlier" ones in earlier episodes;
    "restart" tokens open an episode; "same cell" tokens of earlier episodes show the deciding
    token's observation. "this episode" and "earlier episodes" add up to 1.
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
    n, e, h = len(histories), histories.n_episodes, histories.spec.horizon
    layers, heads = len(matching(model, PATTERNS)), model.config["heads"]
    mass = np.zeros((n, e, h, layers, heads, len(KINDS)), np.float32)
    uniform = np.zeros((n, e, h, len(KINDS)), np.float32)
    for rows in np.array_split(np.arange(n), -(-n // LIFETIMES)):
        some = histories[rows]
        recording = record(model, some, PATTERNS, keep=keep)
        for start in np.unique(recording.window_start):
            new = np.flatnonzero(recording.window_start == start)
            at = np.ix_(rows, new)
            mass[at], uniform[at] = _window_masses(some, recording, start, new)
    decided = np.arange(h) < histories.length[..., None]
    mass[~decided], uniform[~decided] = 0, 0
    by_kind = lambda values: {kind: values[..., k] for k, kind in enumerate(KINDS)}
    return AttentionMasses(by_kind(mass), by_kind(uniform), decided)


def _window_masses(
    histories: Histories, recording: Recording, start: int, new: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the window's new masses (n, e, H, L, heads, K) and uniform ones (n, e, H, K)."""
    kinds, equal = _kinds(histories, start, new)  # (n, query, key, K), (n, query, key)
    n, query, key = equal.shape

    def by_decision(values: np.ndarray) -> np.ndarray:
        return values.reshape(n, len(new), -1, *values.shape[2:])[:, :, :-1]

    masses = []
    for pattern in recording.values.values():
        pattern = pattern[:, new].reshape(n, query, -1, pattern.shape[-1])[..., :key]
        masses.append(by_decision(pattern @ kinds))  # (n, e, H, heads, K)
    return np.stack(masses, 3), by_decision((equal[:, :, None] @ kinds)[:, :, 0])


def _kinds(histories: Histories, start: int, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the kinds (n, query, key, K) of a window's tokens, and equal weights (n, query, key).

    Queries are the tokens of the `new` episodes. Both are 0 where a query may not look.
    """
    per, rows = slots(histories.spec), np.arange(len(histories))
    windows = histories.windows(rows, np.full(len(rows), start), new[-1] + 1 - start)
    tokens = tokenize(histories.spec, windows)
    shape = tokens.previous_action.shape  # (n, S)
    slot = np.arange(shape[1])
    query, episode = slot[-len(new) * per :], slot // per
    valid = np.ones(shape, bool) if tokens.valid is None else tokens.valid
    _, seen = np.unique(tokens.obs.reshape(valid.size, -1), axis=0, return_inverse=True)
    seen = seen.reshape(shape)  # which observation, numbered
    allowed = valid[:, None] & (slot <= query[:, None])
    earlier = episode < episode[query][:, None]  # (query, key)
    rewarded = (tokens.previous_reward > 0)[:, None]
    kinds = {
        "rewarded": rewarded,
        "rewarded earlier": rewarded & earlier,
        "restart": slot % per == 0,
        "same cell": (seen[:, query, None] == seen[:, None]) & earlier,
        "this episode": ~earlier,
        "earlier episodes": earlier,
    }
    stacked = np.stack([allowed & kinds[kind] for kind in KINDS], axis=-1)
    equal = allowed / allowed.sum(-1, keepdims=True)
    return stacked.astype(np.float32), equal.astype(np.float32)


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
        if z.ndim != 4 or not 0 <= head < z.shape[1]:
            raise ValueError(
                f"`ablate_head` needs an activation blocks.*.attn.z (B, heads, S, d) with a head "
                f"{head}, got {tuple(z.shape)}"
            )
        return z.index_fill(1, torch.tensor(head, device=z.device), 0.0)

    return ablate
