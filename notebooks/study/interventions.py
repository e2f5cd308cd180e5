"""Counterfactual histories: copies of a history with one event changed on a given day, and the
effect of the change on predicted actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

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

DELAY = 4  # steps spent at home by the edit "delay"
COPIED = ("obs", "final_obs", "action", "reward", "terminated", "truncated")
LOGS = [f"log_{action}" for action in ACTIONS]


@dataclass(frozen=True, eq=False)
class Edit:
    """Lifetimes up to a day, as they were and with one event changed."""

    before: Histories
    """(N, day + 1) as they were."""
    after: Histories
    """(N, day + 1) edited."""
    ok: np.ndarray
    """(N,) bool: the edit can be made to this lifetime."""
    at: np.ndarray
    """(N,) the step of the last day at which predictions are compared, before the edit."""
    moved: np.ndarray
    """(N,) the same step after the edit."""
    sign: np.ndarray
    """(N,) 1, or -1 where the effect is "before minus after"."""


def edit(kind: str, histories: Histories, day: int) -> Edit:
    """Make one of `EDITS` to all lifetimes on one day (from 0).

    kind        change                              compared at             effect
    stock       the jar is full, or empty           in the morning          full minus empty
    decoy       the irrelevant bit is on, or off    in the morning          on minus off
    decoy seen  the same                            cookie first visible    on minus off
    cue         the jar is empty that day           cookie first visible    seen minus not seen
    delay       four steps at home come first,      cookie first visible    delayed minus not
                so the agent is hungrier
    lapse       no cookie was eaten before          in the morning          eaten minus not
    """
    before = histories.episodes[: day + 1]
    arrays = dict(before.arrays)
    arrays |= {name: arrays[name].copy() for name in COPIED}
    change, moment, column = EDITS[kind]
    step = np.zeros(len(before), int)
    if moment == "morning":
        ok = sites(before)["home late"][:, day, 0]
    else:
        visible = sites(before)["all"][:, day] & (arrays["obs"][:, day, :, VISIBLE] > 0)
        visible[:, 0] = False  # in the morning HIDE is possible too
        step, ok = visible.argmax(1), visible.any(1)
    moved, possible = change(arrays, day, step)
    ok = ok & possible
    if column is None:
        sign = np.full(len(before), -1 if kind in ("cue", "lapse") else 1)
    else:
        sign = np.where(arrays["obs"][:, day, 0, column] == 2, 1, -1)
    after = replace(before, arrays=arrays)
    return Edit(before, after, ok, step, np.where(ok, moved, 0), sign)


# Each edit changes `arrays` in place on `day` and returns where the compared step has moved to, and
# whether the edit was possible, both (N,).


def _stock(arrays: dict, day: int, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    morning = arrays["obs"][:, day, 0]
    morning[:, STOCK] = 3 - morning[:, STOCK]
    morning[:, VISIBLE] = (morning[:, JAR] > 0) & (morning[:, STOCK] == 2)
    return step, np.ones(len(step), bool)


def _decoy(arrays: dict, day: int, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    arrays["obs"][:, day, 0, DECOY] = 3 - arrays["obs"][:, day, 0, DECOY]
    return step, np.ones(len(step), bool)


def _cue(arrays: dict, day: int, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    arrays["obs"][:, day, 0, STOCK] = 1
    arrays["obs"][:, day, :, VISIBLE] = 0
    return step, np.ones(len(step), bool)


def _delay(arrays: dict, day: int, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    obs, action, reward = (arrays[name][:, day] for name in ("obs", "action", "reward"))
    at_home = obs[:, 0].copy()
    at_home[:, [STOCK, DECOY, GIFT]] = 0  # shown in the morning only
    obs[:, DELAY + 1 :] = obs[:, 1:-DELAY]
    obs[:, 1 : DELAY + 1] = at_home[:, None]
    action[:, DELAY:], reward[:, DELAY:] = action[:, :-DELAY].copy(), reward[:, :-DELAY].copy()
    action[:, :DELAY], reward[:, :DELAY] = STAY, 0
    arrays["terminated"][:, day], arrays["truncated"][:, day] = False, False
    arrays["truncated"][:, day, -1] = True  # no prediction after the compared step is read
    return step + DELAY, step + DELAY < obs.shape[1]


def _lapse(arrays: dict, day: int, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    past = (arrays[name][:, :day] for name in ("obs", "final_obs", "action", "reward"))
    obs, final, action, reward = past
    ate = (action == EAT) & (reward > 0) & (reward < MEAL)
    full = obs[:, :, :1, STOCK] == 2
    for shown, stocked in ((obs, full), (final, full[..., 0])):
        # with nothing eaten, an open jar in view always shows a cookie
        shown[..., VISIBLE][(shown[..., JAR] > 0) & (shown[..., LID] == 1) & stocked] = 1
    # EAT at a jar that was empty goes too: in the edited history it would have been rewarded
    at_jar = (action == EAT) & (obs[..., JAR] == obs[..., POSITION] + 1)
    action[at_jar], reward[at_jar] = STAY, 0
    return step, ate.sum((1, 2)) >= 3


EDITS = {  # kind: the change, when predictions are compared, the column whose bit gives the sign
    "stock": (_stock, "morning", STOCK),
    "decoy": (_decoy, "morning", DECOY),
    "decoy seen": (_decoy, "cookie visible", DECOY),
    "cue": (_cue, "cookie visible", None),
    "delay": (_delay, "cookie visible", None),
    "lapse": (_lapse, "morning", None),
}
MORNING_EDITS = tuple(kind for kind, (_, moment, _) in EDITS.items() if moment == "morning")


def outcome(kind: str, histories: Histories, p: np.ndarray) -> np.ndarray:
    """Return what an edit is about (N, E, H), from action probabilities (N, E, H, 8).

    p(HIDE) for an edit that is compared in the morning, else the log odds of going for the jar.
    """
    if kind in MORNING_EDITS:
        return p[..., HIDE]
    return log_odds(np.where(directed(histories), p, 0).sum(-1))


def effects(
    histories: Histories,
    predict: Callable[[Histories], np.ndarray],
    days: Sequence[int],
    kinds: Sequence[str] = tuple(EDITS),
) -> pd.DataFrame:
    """Measure what edits do to predicted actions: a row per edit, day and lifetime.

    `predict` returns action probabilities (N, E, H, 8) and must be causal. Columns are `effect`,
    with the sign that `edit` says, and the change of each action's log probability.
    """
    about, p = table(histories), predict(histories)
    rows = [_effects(histories, about, p, predict, kind, day) for kind in kinds for day in days]
    return pd.concat(rows, ignore_index=True)


def _effects(
    histories: Histories,
    about: pd.DataFrame,
    p: np.ndarray,
    predict: Callable[[Histories], np.ndarray],
    kind: str,
    day: int,
) -> pd.DataFrame:
    """Return the effects of one edit on one day; no rows if no lifetime can be edited."""
    made = edit(kind, histories, day)
    chosen = np.flatnonzero(made.ok)
    if not len(chosen):
        return about.iloc[:0]
    before, after = made.before[chosen], made.after[chosen]
    rows, sign = np.arange(len(chosen)), made.sign[chosen]
    here, there = (rows, day, made.at[chosen]), (rows, day, made.moved[chosen])
    p, q = p[chosen, : day + 1], predict(after)
    change = outcome(kind, after, q)[there] - outcome(kind, before, p)[here]
    logs = np.log(np.maximum(q[there], 1e-4)) - np.log(np.maximum(p[here], 1e-4))
    logs = sign[:, None] * (logs - logs.mean(1, keepdims=True))
    columns = dict(zip(LOGS, logs.T, strict=True))
    return about.iloc[chosen].assign(kind=kind, day=day, effect=sign * change, **columns)
