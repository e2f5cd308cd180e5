"""Layout of learning histories as a sequence of tokens: the only file that lays tokens out.

One token per step. Token t of an episode carries (o_t, a_{t-1}, r_{t-1}); the first token carries
"restart" in place of the previous action, and reward 0. After the last step one more token carries
(o_H, a_{H-1}, r_{H-1}), so that a reward keeps the observation it came with. An episode has H + 1
slots; a window is W episodes; the action a_t is predicted at every token that has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from adkit.histories import Histories
from adkit.protocols import EnvSpec

NO_TARGET = -100  # the class that torch's cross_entropy ignores


@dataclass(frozen=True)
class Tokens:
    """B windows of S = W * (H + 1) slots, as NumPy arrays or torch tensors."""

    obs: np.ndarray
    """(B, S, *obs_shape)."""
    previous_action: np.ndarray
    """(B, S) int64; n_actions stands for "restart"."""
    previous_reward: np.ndarray
    """(B, S) float32; 0 at a restart."""
    valid: np.ndarray | None = None
    """(B, S) bool: slots that hold a token; None when all do."""
    slot: np.ndarray | None = None
    """(B, S) int64: each token's slot before packing; None if not packed."""
    target: np.ndarray | None = None
    """(B, S) int64: the action taken at each token, NO_TARGET where there is none."""
    label: np.ndarray | None = None
    """(B, S) float32: a number to predict at the first token of each episode, NaN elsewhere."""

    def map(self, change: Callable) -> Tokens:
        """Return the tokens with every array that is present passed through `change`."""
        return Tokens(*(None if x is None else change(x) for x in vars(self).values()))

    def to(self, device: torch.device) -> Tokens:
        """Return the tokens as tensors on a device."""
        return self.map(lambda x: torch.as_tensor(x).to(device))


def kept(window: int, keep: int | None = None) -> int:
    """Return how many episodes survive a full window: a third, which leaves room to explore."""
    if keep is not None and not 0 <= keep < window:
        raise ValueError(
            f"`keep` must be in 0 to {window - 1} for a window of {window} episodes, got {keep}"
        )
    return max(1, window // 3) if keep is None else keep


def window_starts(episodes: int, window: int, keep: int) -> np.ndarray:
    """Return (E,) the first episode of each episode's window; full ones drop all but `keep`."""
    drop = window - keep
    beyond = np.arange(episodes) - window + 1  # episodes that do not fit
    return -(-beyond.clip(min=0) // drop) * drop


def episode_lengths(windows: dict[str, np.ndarray]) -> np.ndarray:
    """Return (B, W) the number of transitions of each episode."""
    return (windows["terminated"] | windows["truncated"]).argmax(2) + 1


def tokenize(
    spec: EnvSpec, windows: dict[str, np.ndarray], label: np.ndarray | None = None
) -> Tokens:
    """Return the tokens of `Histories.windows`; `label` (B, W): a number per episode to predict."""
    action = windows["action"]  # (B, W, H)
    batch, episodes, horizon = action.shape
    shape = batch, episodes, horizon + 1
    length = episode_lengths(windows)

    obs = np.zeros((*shape, *spec.obs_shape), windows["obs"].dtype)
    obs[:, :, :-1] = windows["obs"]
    b, w = np.indices((batch, episodes))
    obs[b, w, length] = windows["final_obs"]
    previous_action = np.full(shape, spec.n_actions, np.int64)
    previous_reward = np.zeros(shape, np.float32)
    previous_action[:, :, 1:], previous_reward[:, :, 1:] = action, windows["reward"]
    target = np.full(shape, NO_TARGET, np.int64)
    target[:, :, :-1] = action

    valid = None
    if (length < horizon).any():
        slot = np.arange(horizon + 1)
        valid = slot <= length[..., None]
        target[slot >= length[..., None]] = NO_TARGET
    if label is not None:
        values, label = label, np.full(shape, np.nan, np.float32)
        label[:, :, 0] = values
    tokens = Tokens(obs, previous_action, previous_reward, valid, None, target, label)
    return tokens.map(lambda x: x.reshape(batch, episodes * (horizon + 1), *x.shape[3:]))


def by_length(tokens: Tokens, groups: int = 4) -> Iterator[Tokens]:
    """Yield the windows in packed groups of similar length: less padding than all at once."""
    if tokens.valid is None:
        yield tokens
        return
    order = np.argsort(tokens.valid.sum(1), kind="stable")
    for rows in np.array_split(order, min(groups, len(order))):
        yield pack(tokens.map(lambda x, rows=rows: x[rows]))


def pack(tokens: Tokens) -> Tokens:
    """Move tokens together where episodes ended early, so that attention skips empty slots."""
    if tokens.valid is None:
        return tokens
    order = np.argsort(~tokens.valid, axis=1, kind="stable")[:, : tokens.valid.sum(1).max()]
    return replace(tokens.map(lambda x: take_along(x, order)), slot=order)


def take_along(x: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return (B, S, ...) the entries of each row of x at the positions `order` (B, S)."""
    return np.take_along_axis(x, order.reshape(*order.shape, *(x.ndim - 2) * (1,)), 1)


def sample_windows(
    histories: Histories, episodes: int, batch: int, from_start: float, rng, labels: bool = False
) -> dict[str, np.ndarray]:
    """Draw windows of uniform lifetimes, a share `from_start` of which open the lifetime."""
    u = rng.uniform(0), rng.uniform(1), rng.uniform(2)  # (B,) each
    lifetime = (u[0] * len(histories)).astype(int)
    anywhere = (u[1] * (histories.n_episodes - episodes + 1)).astype(int)
    start = np.where(u[2] < from_start, 0, anywhere)
    return histories.windows(lifetime, start, episodes, labels)


class RollingWindow:
    """The tokens of N lifetimes in progress; a full window drops all but `keep` episodes.

    Call `open` when episodes begin, `append` with each observation, `step` after each transition.
    """

    def __init__(self, spec: EnvSpec, n: int, episodes: int, keep: int):
        self.spec, self.keep, self.per_episode = spec, keep, spec.horizon + 1
        shape = n, episodes * self.per_episode
        obs = np.zeros((*shape, *spec.obs_shape), spec.obs_dtype)
        self.tokens = Tokens(obs, *(np.zeros(shape, kind) for kind in (np.int64, np.float32, bool)))
        self.slot = np.full(n, -self.per_episode)  # of each lifetime's next token

    def open(self, rows: np.ndarray) -> np.ndarray:
        """Begin an episode in `rows`; return the rows whose full window dropped episodes."""
        tokens, size = self.tokens, self.tokens.valid.shape[1]
        self.slot[rows] = (self.slot[rows] // self.per_episode + 1) * self.per_episode
        full = rows[self.slot[rows] == size]
        self.slot[full] = end = self.keep * self.per_episode
        for x in (tokens.obs, tokens.previous_action, tokens.previous_reward, tokens.valid):
            x[full, :end] = x[full, size - end :]
        tokens.valid[full, end:] = False
        tokens.previous_action[rows, self.slot[rows]] = self.spec.n_actions
        tokens.previous_reward[rows, self.slot[rows]] = 0.0
        return full

    def append(self, rows: np.ndarray, obs: np.ndarray) -> np.ndarray:
        """Write the next token of `rows`; return its slots (R,)."""
        slot = self.slot[rows]
        self.tokens.obs[rows, slot], self.tokens.valid[rows, slot] = obs, True
        return slot

    def step(self, action: np.ndarray, reward: np.ndarray) -> None:
        """Go on to the next step, after all lifetimes took actions and received rewards."""
        self.slot += 1
        row = np.arange(len(self.slot))
        self.tokens.previous_action[row, self.slot] = action
        self.tokens.previous_reward[row, self.slot] = reward

    def prepend(self, tokens: Tokens) -> None:
        """Fill the front of the windows with whole episodes of earlier experience."""
        size = tokens.previous_action.shape[1]
        for name in ("obs", "previous_action", "previous_reward", "valid"):
            values = getattr(tokens, name)
            getattr(self.tokens, name)[:, :size] = True if values is None else values
        self.slot += size
