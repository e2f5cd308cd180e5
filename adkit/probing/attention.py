"""Attention over episodes: how much of it falls on what kind of past, and what changes when a head or an episode goes.

A mass is an observation. `ablate_head` under `edit`, and `erase_episode` before a prompt, are the interventions beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from adkit.histories import Histories
from adkit.models.taps import matching
from adkit.models.tokens import slots, tokenize
from adkit.models.transformer import CausalTransformer
from adkit.probing.record import record

PATTERNS = "blocks.*.attn.pattern"
KINDS = ("rewarded", "rewarded earlier", "restart", "same cell", "this episode", "earlier episodes")


@dataclass(frozen=True, eq=False)
class AttentionMasses:
    """Where N lifetimes' decisions look: the share of each decision's attention that falls on each kind of token.

    Kinds: "rewarded" tokens carry a positive previous reward, "rewarded earlier" those of earlier episodes; "restart"
    opens an episode; "same cell" tokens of earlier episodes show what the deciding token shows; "this episode" and
    "earlier episodes" share all there is. The deciding token attends to itself too.
    """

    mass: dict[str, np.ndarray]
    """Per kind (N, E, H, L, heads) float32, 0 where no decision was taken."""
    uniform: dict[str, np.ndarray]
    """Per kind (N, E, H): the mass under equal weight on every token of the window up to the deciding one."""
    decided: np.ndarray
    """(N, E, H) bool: an action was taken here."""

    def ratio(self, kind: str, where: np.ndarray | None = None) -> np.ndarray:
        """(N, L, heads) attention to a kind over uniform attention to it, each summed over the decisions in `where`.

        `where` is (N, E, H) bool, every decision by default. NaN where a lifetime had nothing of the kind to look at.
        """
        if kind not in self.mass:
            raise ValueError(f"kind={kind!r}; attention was measured on {', '.join(self.mass)}.")
        where = self.decided if where is None else np.asarray(where)
        if where.shape != self.decided.shape or where.dtype != bool:
            raise ValueError(
                f"where is {where.dtype} {where.shape}; choose decisions with bool {self.decided.shape}."
            )
        mass = np.einsum("nehlk,neh->nlk", self.mass[kind], where, dtype=float)
        uniform = np.einsum("neh,neh->n", self.uniform[kind], where, dtype=float)[:, None, None]
        return np.divide(mass, uniform, out=np.full(mass.shape, np.nan), where=uniform > 0)


def attention_masses(
    model: CausalTransformer, histories: Histories, keep: int | None = None, batch: int = 8
) -> AttentionMasses:
    """Measure, for every decision of N lifetimes and every head, how much attention falls on each kind of past.

    Every decision is seen in the window it was taken in; `keep` is as in `InContext`. `batch` lifetimes are held in
    memory at once: patterns are large, masses are not.
    """
    if batch < 1 or not len(histories):
        raise ValueError(f"batch={batch}, {len(histories)} lifetimes; give at least 1 of each.")
    n, e, h = len(histories), histories.n_episodes, histories.spec.horizon
    layers, heads = len(matching(model, PATTERNS)), model.config["heads"]
    mass = np.zeros((n, e, h, layers, heads, len(KINDS)), np.float32)
    uniform = np.zeros((n, e, h, len(KINDS)), np.float32)
    for rows in np.array_split(np.arange(n), -(-n // batch)):
        recording = record(model, histories[rows], PATTERNS, keep=keep, batch=batch)
        for start in np.unique(recording.window_start):
            here = np.flatnonzero(recording.window_start == start)
            at = np.ix_(rows, here)
            kinds, equal = _window(histories, rows, start, here)  # (n, Q, S, K), (n, Q, S)
            decisions = lambda values: values.reshape(
                len(rows), len(here), h + 1, *values.shape[2:]
            )[:, :, :h]
            uniform[at] = decisions((equal[:, :, None] @ kinds)[:, :, 0])
            for layer, pattern in enumerate(recording.values.values()):
                pattern = pattern[:, here].reshape(*equal.shape[:2], heads, -1)[
                    ..., : equal.shape[2]
                ]  # (n, Q, heads, S)
                mass[at + (slice(None), layer)] = decisions(pattern @ kinds)
    decided = np.arange(h) < histories.length[..., None]
    mass[~decided], uniform[~decided] = 0, 0
    by_kind = lambda values: {kind: values[..., k] for k, kind in enumerate(KINDS)}
    return AttentionMasses(by_kind(mass), by_kind(uniform), decided)


def _window(
    histories: Histories, rows: np.ndarray, start: int, here: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For the window at `start` and the tokens of episodes `here`: which tokens are of which kind, and equal weights.

    Kinds (n, query, key, K) and weights (n, query, key), both float32 and 0 where a query may not look.
    """
    per = slots(histories.spec)
    tokens = tokenize(
        histories.spec, histories.windows(rows, np.full(len(rows), start), here[-1] + 1 - start)
    )
    slot = np.arange(tokens.previous_action.shape[1])
    query, episode = slot[-len(here) * per :], slot // per
    valid = np.ones(tokens.previous_action.shape, bool) if tokens.valid is None else tokens.valid
    _, seen = np.unique(tokens.obs.reshape(valid.size, -1), axis=0, return_inverse=True)
    seen = seen.reshape(valid.shape)  # (n, S) which observation, numbered
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
    return (
        np.stack([allowed & kinds[kind] for kind in KINDS], axis=-1).astype(np.float32),
        (allowed / allowed.sum(-1, keepdims=True)).astype(np.float32),
    )


def attention_rollout(patterns: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Attention through all layers up to each one, half of it staying in the residual stream (Abnar & Zuidema 2020).

    From every layer's patterns (N, E, H + 1, heads, S) of whole windows, as `record` gives them: (N, E, H + 1, S) a layer.
    """
    shapes = [np.shape(pattern) for pattern in patterns]
    if not shapes or len(set(shapes)) > 1 or len(shapes[0]) != 5:
        raise ValueError(
            f'patterns of shapes {shapes}; give (N, E, H + 1, heads, S) a layer: record(model, lives, "*.pattern").'
        )
    n, episodes, per, _, width = shapes[0]
    size = episodes * per
    if size > width:
        raise ValueError(
            f"{size} tokens attend to {width}; attention rollout needs windows that start at the first episode."
        )
    rollout, rolled = np.broadcast_to(np.eye(size, dtype=np.float32), (n, size, size)), []
    for pattern in patterns:
        mean = pattern.mean(3).reshape(n, size, width)[..., :size]
        rollout = 0.5 * (mean @ rollout + rollout)
        rolled.append(
            np.pad(rollout, [(0, 0), (0, 0), (0, width - size)]).reshape(n, episodes, per, width)
        )
    return rolled


def after_first_reward(histories: Histories) -> np.ndarray:
    """(N, E, H) bool: decisions taken after any positive reward was received in this lifetime."""
    paid = histories.reward > 0  # (N, T)
    before = (paid.cumsum(1) - paid).reshape(histories.arrays["reward"].shape)
    return (before > 0) & (np.arange(histories.spec.horizon) < histories.length[..., None])


def ablate_head(head: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """What silences one head: `with ad.edit(model, {"blocks.1.attn.z": ablate_head(0)})`.

    `z` (B, heads, S, d) is what the heads read out; the rest of the model gets zeros from this one, as if its columns of
    `out.weight` were zero. Raises ValueError when the edited layer has no such head.
    """

    if not isinstance(head, int | np.integer):
        raise ValueError(f"ablate_head({head!r}); give the number of a head, counted from 0.")

    def ablate(z: torch.Tensor) -> torch.Tensor:
        if z.ndim != 4:
            raise ValueError(
                f'ablate_head got an activation of {tuple(z.shape)}; edit a "blocks.*.attn.z" (B, heads, S, d).'
            )
        if head not in range(z.shape[1]):
            raise ValueError(
                f"ablate_head({head}) of a layer with heads 0 to {z.shape[1] - 1}; give one of these."
            )
        return z.index_fill(1, torch.tensor(int(head), device=z.device), 0.0)

    return ablate


def erase_episode(histories: Histories, episode: np.ndarray) -> Histories:
    """The same lifetimes without one episode each: what they would have lived had it not happened.

    `episode` (N,) is its place in each lifetime, 0 to E - 1. Later episodes move up, so the last number goes.
    """
    n, e = len(histories), histories.n_episodes
    episode = np.asarray(episode)
    if episode.shape != (n,) or not np.issubdtype(episode.dtype, np.integer):
        raise ValueError(
            f"episode is {episode.dtype} {episode.shape}; give one whole number for each of {n} lifetimes."
        )
    if e < 2 or (episode < 0).any() or (episode >= e).any():
        raise ValueError(
            f"episodes {episode.min()} to {episode.max()} to erase, of {e}; at least one must be left of 0 to {e - 1}."
        )
    left = np.arange(e - 1)
    left = left + (left >= episode[:, None])  # (N, E - 1)
    arrays = {
        name: values[np.arange(n)[:, None], left] for name, values in histories.arrays.items()
    }
    return replace(histories, arrays=arrays, episode=histories.episode[:-1])
