"""Where observation, action and reward sit in the sequence: the only file that knows.

One token per step. Token t of an episode carries (o_t, a_{t-1}, r_{t-1}); the first carries "restart" in place of the
previous action and reward, and after the last step one more token carries (o_H, a_{H-1}, r_{H-1}), so that a reward
keeps the cell it was received in. An episode is H + 1 slots; a window is W episodes; the action is predicted at every
token that has one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from adkit.histories import Histories
from adkit.protocols import EnvSpec

NO_TARGET = -100  # what torch's cross_entropy ignores


@dataclass(frozen=True)
class Tokens:
    """B windows of S = W * (H + 1) slots, as NumPy arrays or torch tensors."""

    obs: np.ndarray
    """(B, S, *obs_shape)."""
    action: np.ndarray
    """(B, S) int64: the previous action; n_actions stands for "restart"."""
    reward: np.ndarray
    """(B, S) float32: the previous reward, 0 at a restart."""
    valid: np.ndarray | None = None
    """(B, S) bool: slots that hold a token; None when all do."""
    slot: np.ndarray | None = None
    """(B, S) int64: the slot of its window that each token belongs to, once packed; None when that is its place."""


def slots(spec: EnvSpec) -> int:
    """Slots per episode, H + 1."""
    return spec.horizon + 1


def window_episodes(spec: EnvSpec, context: int) -> int:
    """W: whole episodes in a context counted in transitions."""
    if context < 2 * spec.horizon:
        raise ValueError(
            f"context={context} is shorter than two episodes (horizon={spec.horizon}); in-context learning needs "
            f"several. Try context={10 * spec.horizon}."
        )
    return context // spec.horizon


def kept(window: int, keep: int | None = None) -> int:
    """Episodes that survive a full window: a third by default, which leaves room to explore anew if nothing was found."""
    if keep is not None and not 0 <= keep < window:
        raise ValueError(f"keep={keep}; a window of {window} episodes can keep 0 to {window - 1}.")
    return max(1, window // 3) if keep is None else keep


def window_starts(episodes: int, window: int, keep: int) -> np.ndarray:
    """(E,) the first episode in the window each episode is acted in: when W episodes are full, all but `keep` are dropped."""
    starts, start = [], 0
    for episode in range(episodes):
        if episode - start == window:
            start = episode - keep
        starts.append(start)
    return np.array(starts)


def tokenize(spec: EnvSpec, windows: dict[str, np.ndarray]) -> tuple[Tokens, np.ndarray]:
    """Tokens and targets (B, S) int64 of `Histories.windows`: the actions taken, NO_TARGET where there is none."""
    action, reward = windows["action"], windows["reward"]  # (B, W, H)
    batch, episodes, horizon = action.shape
    shape = batch, episodes, horizon + 1
    length = (windows["terminated"] | windows["truncated"]).argmax(2) + 1  # (B, W)

    obs = np.zeros((*shape, *spec.obs_shape), windows["obs"].dtype)
    obs[:, :, :-1] = windows["obs"]
    b, w = np.indices((batch, episodes))
    obs[b, w, length] = windows["final_obs"]
    previous, paid = np.full(shape, spec.n_actions, np.int64), np.zeros(shape, np.float32)
    previous[:, :, 1:], paid[:, :, 1:] = action, reward
    target = np.full(shape, NO_TARGET, np.int64)
    target[:, :, :-1] = action

    valid = None
    if (length < horizon).any():
        slot = np.arange(horizon + 1)
        valid = slot <= length[..., None]
        target[slot >= length[..., None]] = NO_TARGET
        valid = valid.reshape(batch, -1)
    flat = lambda values: values.reshape(batch, episodes * (horizon + 1), *values.shape[3:])
    return Tokens(flat(obs), flat(previous), flat(paid), valid), flat(target)


def alike(tokens: Tokens, *targets: np.ndarray, groups: int = 4) -> Iterator[tuple]:
    """The same windows in `groups` of like length, each packed: all but the longest would else be mostly padding."""
    if tokens.valid is None:
        yield tokens, *targets
        return
    take = lambda values, rows: None if values is None else values[rows]
    parts = tokens.obs, tokens.action, tokens.reward, tokens.valid, tokens.slot
    for rows in np.array_split(
        np.argsort(tokens.valid.sum(1), kind="stable"), min(groups, len(tokens.valid))
    ):
        yield pack(
            Tokens(*(take(values, rows) for values in parts)), *(target[rows] for target in targets)
        )


def pack(tokens: Tokens, *targets: np.ndarray) -> tuple:
    """Move each window's tokens together where episodes ended early, so that no attention is paid to what never was."""
    if tokens.valid is None:
        return tokens, *targets
    order = np.argsort(~tokens.valid, axis=1, kind="stable")[:, : tokens.valid.sum(1).max()]
    take = lambda values: np.take_along_axis(
        values, order.reshape(*order.shape, *(values.ndim - 2) * (1,)), axis=1
    )
    packed = Tokens(
        *(take(v) for v in (tokens.obs, tokens.action, tokens.reward, tokens.valid)), slot=order
    )
    return packed, *(take(target) for target in targets)


def pad(tokens: Tokens, *targets: np.ndarray, multiple: int) -> tuple:
    """A few empty slots at the end if they make up a multiple: later than every token, without a target, they change nothing."""
    size = tokens.action.shape[1]
    more = -size % multiple
    if more > 0.05 * size:
        return tokens, *targets
    grow = lambda values, fill: np.pad(
        values, [(0, 0), (0, more)] + [(0, 0)] * (values.ndim - 2), constant_values=fill
    )
    valid, slot = (
        None if values is None else grow(values, 0) for values in (tokens.valid, tokens.slot)
    )
    padded = Tokens(*(grow(v, 0) for v in (tokens.obs, tokens.action, tokens.reward)), valid, slot)
    return padded, *(
        grow(target, np.nan if target.dtype.kind == "f" else NO_TARGET) for target in targets
    )


def outcomes(spec: EnvSpec, values: np.ndarray) -> np.ndarray:
    """(B, S, k) targets of `values` (B, W, k), a number or more per episode to be foretold at its first token; NaN elsewhere."""
    target = np.full((*values.shape[:2], slots(spec), values.shape[2]), np.nan, np.float32)
    target[:, :, 0] = values
    return target.reshape(len(values), -1, values.shape[2])


def sample_windows(
    histories: Histories, episodes: int, batch: int, first: float, rng, labels: bool = False
) -> dict[str, np.ndarray]:
    """Training windows of uniformly drawn lifetimes; a share `first` of them opens the lifetime, the rest start anywhere."""
    u = rng.uniform(0), rng.uniform(1), rng.uniform(2)  # (B,) each
    lifetime = (u[0] * len(histories)).astype(int)
    anywhere = (u[1] * (histories.n_episodes - episodes + 1)).astype(int)
    return histories.windows(lifetime, np.where(u[2] < first, 0, anywhere), episodes, labels)


def ahead(work: Callable, items: Iterable, threads: int = 2) -> Iterator:
    """`work(item)` of each item, in order: while one result is used, threads are at the next, which may wait for a disk."""
    with ThreadPoolExecutor(threads, "ahead") as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
