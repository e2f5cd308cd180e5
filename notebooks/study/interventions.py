"""Counterfactual lives: the same up to some day, with something changed on the way to one token of it, and what that does to
predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from adkit.checks import creatures, probabilities
from adkit.cookieworld.world import (
    ACTIONS,
    DECOY,
    EAT,
    GIFT,
    HIDE,
    JAR,
    LID,
    MEAL,
    POSITION,
    STAY,
    STOCK,
    VISIBLE,
)
from adkit.histories import Histories
from study.corpora import directed, log_odds, sites, table

if TYPE_CHECKING:
    import pandas as pd

DELAY = 4  # steps that the edit "delay" spends at home


@dataclass(frozen=True, eq=False)
class Edit:
    """The same lives up to some day, with something changed on the way to one token of it."""

    before: Histories
    """The lives up to that day, (N, day + 1)."""
    after: Histories
    """The same, edited."""
    ok: np.ndarray
    """(N,) bool: the edit can be made here."""
    at: np.ndarray
    """(N,) the token of the last day that is looked at, before;"""
    moved: np.ndarray
    """(N,) and after."""
    sign: np.ndarray
    """(N,) 1, or -1 where the effect is what was before less what is after."""


def edit(kind: str, histories: Histories, day: int) -> Edit:
    """One of `EDITS`, made to all lives on one day (from 0).

    stock   the jar is full in the morning, or empty; looked at in the morning, full less empty
    decoy   the bit that means nothing is on, or off; looked at in the morning, on less off
    decoy seen  the same; looked at where a cookie is first seen
    cue     the jar is empty that day, so that no cookie is seen; looked at where one had been seen first, seen less not seen
    delay   four steps are spent at home first, during which one gets hungrier; looked at where a cookie is first seen
    lapse   every cookie eaten so far was left in the jar; looked at in the morning, lapses less none
    """
    if kind not in EDITS or not 0 < day < histories.n_episodes:
        raise ValueError(
            f"edit {kind!r} on day {day}; there are {', '.join(EDITS)}, on days 1 to {histories.n_episodes - 1}."
        )
    before = creatures(histories).episodes[: day + 1]
    arrays = {name: values.copy() if name in ("obs", "final_obs", "action", "reward", "terminated", "truncated") else values
              for name, values in before.arrays.items()}  # fmt: skip
    seen = sites(before)["all"][:, day] & (before.arrays["obs"][:, day, :, VISIBLE] > 0)
    seen[:, 0] = False  # in the morning one may also hide them
    at, ok = np.zeros(len(before), int), np.ones(len(before), bool)
    if kind in ASKS:
        ok = sites(before)["home late"][:, day, 0]
    else:
        at, ok = seen.argmax(1), seen.any(1)
    moved, could = EDITS[kind](arrays, day, at)
    sign = np.full(len(before), -1 if kind in ("cue", "lapse") else 1)
    if column := {"stock": STOCK, "decoy": DECOY, "decoy seen": DECOY}.get(kind):
        sign = np.where(arrays["obs"][:, day, 0, column] == 2, 1, -1)
    return Edit(
        before, replace(before, arrays=arrays), ok & could, at, np.where(ok & could, moved, 0), sign
    )


def _stock(arrays, day, at):
    morning = arrays["obs"][:, day, 0]
    morning[:, STOCK] = 3 - morning[:, STOCK]
    morning[:, VISIBLE] = (morning[:, JAR] > 0) & (morning[:, STOCK] == 2)
    return at, np.ones(len(at), bool)


def _decoy(arrays, day, at):
    arrays["obs"][:, day, 0, DECOY] = 3 - arrays["obs"][:, day, 0, DECOY]
    return at, np.ones(len(at), bool)


def _cue(arrays, day, at):
    arrays["obs"][:, day, 0, STOCK] = 1
    arrays["obs"][:, day, :, VISIBLE] = 0
    return at, np.ones(len(at), bool)


def _delay(arrays, day, at):
    obs, action, reward = (arrays[name][:, day] for name in ("obs", "action", "reward"))
    later = obs[:, 0].copy()
    later[:, [STOCK, DECOY, GIFT]] = 0
    obs[:, DELAY + 1 :] = obs[:, 1:-DELAY]
    obs[:, 1 : DELAY + 1] = later[:, None]
    action[:, DELAY:], reward[:, DELAY:] = action[:, :-DELAY].copy(), reward[:, :-DELAY].copy()
    action[:, :DELAY], reward[:, :DELAY] = STAY, 0
    arrays["terminated"][:, day], arrays["truncated"][:, day] = False, False
    arrays["truncated"][:, day, -1] = (
        True  # what comes after the token that is looked at is not read
    )
    return at + DELAY, at + DELAY < obs.shape[1]


def _lapse(arrays, day, at):
    obs, final, action, reward = (
        arrays[name][:, :day] for name in ("obs", "final_obs", "action", "reward")
    )
    ate = (action == EAT) & (reward > 0) & (reward < MEAL)
    full = obs[:, :, :1, STOCK] == 2
    for shown, stocked in (
        (obs, full),
        (final, full[..., 0]),
    ):  # nothing having been eaten, there is always one to see
        shown[..., VISIBLE][(shown[..., JAR] > 0) & (shown[..., LID] == 1) & stocked] = 1
    pressed = (action == EAT) & (
        obs[..., JAR] == obs[..., POSITION] + 1
    )  # an emptied jar too: now it would have given
    action[pressed], reward[pressed] = STAY, 0
    return at, ate.sum((1, 2)) >= 3


EDITS = {
    "stock": _stock,
    "decoy": _decoy,
    "decoy seen": _decoy,
    "cue": _cue,
    "delay": _delay,
    "lapse": _lapse,
}
ASKS = {
    "stock": HIDE,
    "decoy": HIDE,
    "lapse": HIDE,
}  # whose probability is asked for; else the log odds of going for the jar
LOGS = [f"log_{action}" for action in ACTIONS]


def asked(kind: str, histories: Histories, p: np.ndarray) -> np.ndarray:
    """(N, E, H) what an edit is about, of action probabilities p (N, E, H, 8): p(HIDE), or the log odds of going for the jar."""
    if kind not in EDITS:
        raise ValueError(f"no edit {kind!r}; there are {', '.join(EDITS)}.")
    probabilities(p, creatures(histories))
    return (
        p[..., ASKS[kind]]
        if kind in ASKS
        else log_odds(np.where(directed(histories), p, 0).sum(-1))
    )


def effects(
    histories: Histories,
    predict: Callable,
    days: Sequence[int],
    kinds: Sequence[str] = tuple(EDITS),
) -> pd.DataFrame:
    """What edits do to predicted actions: a row per edit, day and life, with `effect` and the change of each log probability.

    `predict` makes action probabilities (N, E, H, 8) of histories; it must be causal. Effects have the sign that `edit` says.
    """
    import pandas as pd

    about, p, rows = table(histories), probabilities(predict(histories), histories), []
    for kind in kinds:
        for day in days:
            made = edit(kind, histories, day)
            lives = np.flatnonzero(made.ok)
            if not len(lives):
                continue
            before, after = histories[lives].episodes[: day + 1], made.after[lives]
            q = p[lives, : day + 1], predict(after)
            here = (
                (np.arange(len(lives)), day, made.at[lives]),
                (np.arange(len(lives)), day, made.moved[lives]),
            )
            change = asked(kind, after, q[1])[here[1]] - asked(kind, before, q[0])[here[0]]
            logs = np.log(np.maximum(q[1][here[1]], 1e-4)) - np.log(np.maximum(q[0][here[0]], 1e-4))
            sign = made.sign[lives]
            columns = dict(
                zip(LOGS, (sign[:, None] * (logs - logs.mean(1, keepdims=True))).T, strict=True)
            )
            rows.append(
                about.iloc[lives].assign(kind=kind, day=day, effect=sign * change, **columns)
            )
    if not rows:
        raise ValueError(
            f"edits {list(kinds)} on days {list(days)} can be made to none of these lives; give other days, or more lives."
        )
    return pd.concat(rows, ignore_index=True)
