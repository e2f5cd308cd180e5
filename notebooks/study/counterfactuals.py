"""Counterfactual histories: change some tokens, and refuse what the world could never have shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from adkit import checks
from adkit.histories import Histories
from adkit.protocols import Env
from adkit.tables import of_rows


@runtime_checkable
class Replays(Protocol):
    """An environment that can say what was possible. One with `tables` need not: they say it."""

    def replay(self, histories: Histories) -> np.ndarray:
        """(N, E, H + 1) bool: whether each token could follow all that precede it in its lifetime, whatever chance does.

        Token t of an episode shows obs t, and the reward and the end that action t - 1 brought; t = length shows
        `final_obs`. Tokens after the end of an episode are True.
        """


def possible(
    env: Env | Replays | Callable[[Histories], np.ndarray], histories: Histories
) -> np.ndarray:
    """(N, E, H + 1) bool: whether each token could follow those before it. False from the first impossible one of an episode.

    Asks `env.replay`, or `env` itself if it is a function like that; else follows every state that `env.tables` allows.
    """
    shape = len(checks.histories(histories)), histories.n_episodes, histories.spec.horizon + 1
    replay = getattr(env, "replay", env if callable(env) else None)
    if replay is None and not hasattr(env, "tables"):
        name = env.spec.name if hasattr(env, "spec") else type(env).__name__
        raise ValueError(
            f"{name} publishes neither replay(histories) nor tables; give it one, see probing.Replays."
        )
    could = np.asarray(_followed(env, histories) if replay is None else replay(histories))
    if could.shape != shape or could.dtype != bool:
        raise ValueError(
            f"replay answered {could.dtype} {could.shape}; it must say bool {shape}, one for each token."
        )
    return np.logical_and.accumulate(could, axis=2)


def counterfactual(
    histories: Histories,
    env: Env | Replays | Callable[[Histories], np.ndarray],
    *,
    read: np.ndarray | None = None,
    **edits: np.ndarray,
) -> Histories:
    """The same lifetimes with some arrays changed, such as `action=` (N, E, H); ValueError if they were impossible.

    `read` (N, E, H + 1) bool names the tokens whose predictions will be looked at: what comes later in a lifetime than the
    last of them is not seen by a causal model, and need not be possible. By default everything must be.
    """
    for name, values in edits.items():
        if name not in histories.arrays or np.shape(values) != histories.arrays[name].shape:
            shapes = {name: array.shape for name, array in histories.arrays.items()}
            raise ValueError(
                f"an edit of {name!r}, {np.shape(values)}; give one of the arrays, in its shape: {shapes}."
            )
    arrays = {
        name: np.asarray(values, histories.arrays[name].dtype) for name, values in edits.items()
    }
    edited = replace(histories, arrays={**histories.arrays, **arrays})
    could = possible(env, edited)
    needed = np.ones(could.shape, bool) if read is None else np.asarray(read)
    if needed.shape != could.shape or needed.dtype != bool:
        raise ValueError(
            f"read is {needed.dtype} {needed.shape}; name the tokens with bool {could.shape}."
        )
    n = len(histories)
    needed = np.logical_or.accumulate(needed.reshape(n, -1)[:, ::-1], axis=1)[:, ::-1].reshape(
        could.shape
    )
    if (wrong := np.argwhere(needed & ~could)).size:
        i, e, t = wrong[0]
        shown = (
            edited.arrays["obs"][i, e, t]
            if t < edited.length[i, e]
            else edited.arrays["final_obs"][i, e]
        )
        after = "at the start of an episode"
        if t:
            after = f"after action {edited.arrays['action'][i, e, t - 1]}, with reward {edited.arrays['reward'][i, e, t - 1]}"
        raise ValueError(
            f"lifetime {i}, episode {e}, step {t}: observation {shown.tolist()} {after} cannot have been; "
            f"{len(np.unique(wrong[:, 0]))} of {n} edited lifetimes are impossible. Edit what follows from the change too, or "
            "name with read= the tokens that are looked at, if they are all before this."
        )
    return edited


def _followed(env: Env, histories: Histories) -> np.ndarray:
    """`possible` for a world of tables: the set of states that fit all that was seen, episode by episode."""
    table, row = of_rows(env, histories.task_values[histories.task])
    arrays, (n, e, h) = histories.arrays, histories.arrays["action"].shape
    row, flat = (
        np.repeat(row, e),
        {
            name: values.reshape(n * e, *values.shape[2:])
            for name, values in histories.arrays.items()
        },
    )
    length, every = histories.length.ravel(), np.arange(n * e)
    chance = np.diff(table.cumulative, axis=3, prepend=0.0) > 0
    looks = lambda obs: (table.observation[row] == obs[:, None]).all(-1)  # (N E, S)
    states = (np.diff(table.start, axis=1, prepend=0.0) > 0)[row] & looks(flat["obs"][:, 0])
    could = np.ones((n * e, h + 1), bool)
    could[:, 0] = states.any(1)
    for t in range(h):
        action, lasts = flat["action"][:, t], t < length
        ends = flat["terminated"][:, t]
        fits = (
            states[..., None]
            & chance[row, :, action]
            & (table.reward[row, :, action] == flat["reward"][:, t, None, None])
        )
        fits &= table.terminated[row, :, action] == ends[:, None, None]
        fits &= (flat["truncated"][:, t] == (~ends & (t == h - 1)))[:, None, None]
        which, state, k = np.nonzero(fits)
        states = np.zeros_like(states)
        states[which, table.next_state[row[which], state, action[which], k]] = True
        following = flat["obs"][every, np.minimum(t + 1, h - 1)]
        states &= looks(
            np.where(
                (t + 1 == length).reshape(-1, *(1,) * (following.ndim - 1)),
                flat["final_obs"],
                following,
            )
        )
        could[:, t + 1] = states.any(1) | ~lasts
    return could.reshape(arrays["action"].shape[:2] + (h + 1,))
