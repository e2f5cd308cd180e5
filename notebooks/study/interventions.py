"""Counterfactual histories: copies of a history with one event changed on a given day, and the
effect of the change on predicted actions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

import adkit as ad
from adkit.cookieworld import world
from adkit.cookieworld.world import DECOY, EAT, GIFT, HIDE, JAR, LID, POSITION, STOCK, VISIBLE
from study.corpora import directed, log_odds, sites, table

DELAY = 4  # steps spent at home by the edit "delay"
COPIED = ("obs", "final_obs", "action", "reward", "terminated", "truncated")
LOGS = [f"log_{action}" for action in world.ACTIONS]


@dataclass(frozen=True, eq=False)
class Edit:
    """The n lifetimes that can be edited, up to a day, as they were and with one event changed."""

    rows: np.ndarray  # (n,) among all lifetimes
    before: ad.Histories
    after: ad.Histories
    at: np.ndarray  # (n,) step of the last day at which predictions are compared, before the edit
    moved: np.ndarray  # (n,) the same step after the edit
    sign: np.ndarray  # (n,) 1, or -1 where the effect is "before minus after"


def edit(kind: str, histories: ad.Histories, day: int) -> Edit:
    """Make one of `EDITS` to all lifetimes that allow it on one day (from 0).

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
    arrays = before.arrays | {name: before.arrays[name].copy() for name in COPIED}
    change, column = EDITS[kind]
    if kind in MORNING_EDITS:
        step, allowed = np.zeros(len(before), int), sites(before)["home late"][:, day, 0]
    else:
        visible = sites(before)["all"][:, day] & (arrays["obs"][:, day, :, VISIBLE] > 0)
        visible[:, 0] = False  # in the morning HIDE is possible too
        step, allowed = visible.argmax(1), visible.any(1)
    moved, possible = change(arrays, day, step) or (step, True)
    if column is None:
        sign = np.full(len(before), 1 if kind == "delay" else -1)
    else:
        sign = np.where(arrays["obs"][:, day, 0, column] == 2, 1, -1)
    rows, after = np.flatnonzero(allowed & possible), replace(before, arrays=arrays)
    return Edit(rows, before[rows], after[rows], step[rows], moved[rows], sign[rows])


# Each edit changes `arrays` in place on `day`. One that moves the compared step, or is not always
# possible, returns where the step has moved to, and whether the edit was possible, both (N,).


def _stock(arrays: dict, day: int, step: np.ndarray) -> None:
    morning = arrays["obs"][:, day, 0]
    morning[:, STOCK] = 3 - morning[:, STOCK]
    morning[:, VISIBLE] = (morning[:, JAR] > 0) & (morning[:, STOCK] == 2)


def _decoy(arrays: dict, day: int, step: np.ndarray) -> None:
    arrays["obs"][:, day, 0, DECOY] = 3 - arrays["obs"][:, day, 0, DECOY]


def _cue(arrays: dict, day: int, step: np.ndarray) -> None:
    arrays["obs"][:, day, 0, STOCK] = 1
    arrays["obs"][:, day, :, VISIBLE] = 0


def _delay(arrays: dict, day: int, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    obs, action, reward = (arrays[name][:, day] for name in ("obs", "action", "reward"))
    at_home = obs[:, 0].copy()
    at_home[:, [STOCK, DECOY, GIFT]] = 0  # shown in the morning only
    obs[:, DELAY + 1 :] = obs[:, 1:-DELAY]
    obs[:, 1 : DELAY + 1] = at_home[:, None]
    action[:, DELAY:], reward[:, DELAY:] = action[:, :-DELAY].copy(), reward[:, :-DELAY].copy()
    action[:, :DELAY], reward[:, :DELAY] = world.STAY, 0
    arrays["terminated"][:, day], arrays["truncated"][:, day] = False, False
    arrays["truncated"][:, day, -1] = True  # no prediction after the compared step is read
    return step + DELAY, step + DELAY < obs.shape[1]


def _lapse(arrays: dict, day: int, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    past = (arrays[name][:, :day] for name in ("obs", "final_obs", "action", "reward"))
    obs, final, action, reward = past
    ate = (reward > 0) & (reward < world.MEAL)
    full = obs[:, :, :1, STOCK] == 2
    for shown, stocked in ((obs, full), (final, full[..., 0])):
        # with nothing eaten, an open jar in view always shows a cookie
        shown[..., VISIBLE][(shown[..., JAR] > 0) & (shown[..., LID] == 1) & stocked] = 1
    # EAT at a jar that was empty goes too: in the edited history it would have been rewarded
    at_jar = (action == EAT) & (obs[..., JAR] == obs[..., POSITION] + 1)
    action[at_jar], reward[at_jar] = world.STAY, 0
    return step, ate.sum((1, 2)) >= 3


EDITS = {  # kind: the change, and the column whose bit gives the effect's sign
    "stock": (_stock, STOCK),
    "decoy": (_decoy, DECOY),
    "decoy seen": (_decoy, DECOY),
    "cue": (_cue, None),
    "delay": (_delay, None),
    "lapse": (_lapse, None),
}
MORNING_EDITS = ("stock", "decoy", "lapse")  # the others are compared where the cookie is visible


def outcome(kind: str, histories: ad.Histories, p: np.ndarray) -> np.ndarray:
    """Return what an edit is about (N, E, H), from action probabilities (N, E, H, 8).

    p(HIDE) for an edit that is compared in the morning, else the log odds of going for the jar.
    """
    if kind in MORNING_EDITS:
        return p[..., HIDE]
    return log_odds(np.where(directed(histories), p, 0).sum(-1))


def effects(
    histories: ad.Histories,
    predict: Callable[[ad.Histories], np.ndarray],
    days: Sequence[int],
    kinds: Sequence[str] = tuple(EDITS),
) -> pd.DataFrame:
    """Measure what edits do to predicted actions: a row per edit, day and lifetime.

    `predict` returns action probabilities (N, E, H, 8) and must be causal. Columns are `effect`,
    with the sign that `edit` says, and the change of each action's log probability.
    """
    about, p, frames = table(histories), predict(histories), []
    for kind, day in ((kind, day) for kind in kinds for day in days):
        made = edit(kind, histories, day)
        if not len(made.rows):
            continue
        q, lifetimes = predict(made.after), np.arange(len(made.rows))
        here, there = (lifetimes, day, made.at), (lifetimes, day, made.moved)
        before = p[made.rows, : day + 1]
        change = outcome(kind, made.after, q)[there] - outcome(kind, made.before, before)[here]
        logs = np.log(np.maximum(q[there], 1e-4)) - np.log(np.maximum(before[here], 1e-4))
        logs = made.sign[:, None] * (logs - logs.mean(1, keepdims=True))
        columns = {"kind": kind, "day": day, "effect": made.sign * change}
        columns |= dict(zip(LOGS, logs.T, strict=True))
        frames.append(about.iloc[made.rows].assign(**columns))
    return pd.concat(frames, ignore_index=True)
