"""H4: is hiding foretold where, and only where, temptation is foreseeable?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from adkit import checks
from adkit.cookieworld.world import HIDE
from adkit.histories import Histories
from adkit.stats import Interval
from study.corpora import against, interval, log_odds, sites, table

if TYPE_CHECKING:
    import pandas as pd

EDGES = np.linspace(-6, 4, 23)  # log odds of p(HIDE) between which it is counted: 24 bins
WORTH = 0.1  # what hiding must gain for a planner to want it
WHO = ("model", "filter", "source")
NEEDED = "pi", "belief_pi", "gain", "stock"
PER_LIFE = "hiding.per_life, with a column seed"


def per_life(histories: Histories, p: np.ndarray) -> pd.DataFrame:
    """Judged lives: what is foretold of HIDE on late mornings, p (N, E, H, 8) being the model's probabilities.

    Counts "hid: who i", "did not: who i", of mornings whose p(HIDE) lies in bin i; "worth: who i", "not worth: who i" the same by
    whether hiding would gain more than `WORTH`; sums over stocked mornings "n", "p who" and, within the life, "slope who" and
    "spread" of p(HIDE) on what hiding would gain.
    """
    a = checks.creatures(histories, *NEEDED).arrays
    late = sites(histories)["home late"][:, :, 0]  # (N, E)
    hide = {
        "model": checks.probabilities(p, histories)[:, :, 0, HIDE],
        "filter": a["belief_pi"][:, :, 0, HIDE],
        "source": a["pi"][:, :, 0, HIDE],
    }
    did, worth, stocked = a["action"][:, :, 0] == HIDE, a["gain"] > WORTH, (a["stock"] > 0) & late
    columns = {}
    for name in WHO:
        columns |= _counts(f"hid: {name}", hide[name], late & did) | _counts(
            f"did not: {name}", hide[name], late & ~did
        )
    for name in ("model", "filter"):
        columns |= _counts(f"worth: {name}", hide[name], late & worth) | _counts(
            f"not worth: {name}", hide[name], late & ~worth
        )
    columns["late"], columns["n"] = late.sum(1), stocked.sum(1)
    gain = _centred(a["gain"], stocked)
    columns["spread"] = (gain * gain).sum(1)
    for name in WHO:
        columns[f"late p {name}"] = np.where(late, hide[name], 0).sum(1)
        columns[f"p {name}"] = np.where(stocked, hide[name], 0).sum(1)
        columns[f"slope {name}"] = (gain * _centred(hide[name], stocked)).sum(1)
    return table(histories, **columns)


def copied(histories: Histories) -> np.ndarray:
    """(N, E, H, 8) what somebody foretells who copies a bit: on mornings the population's mean policy by whether the jar is full,
    whosever morning it is; the filter's later on. A control: the bit alone must not pass for foresight."""
    a = checks.creatures(histories, *NEEDED).arrays
    late = sites(histories)["home late"][:, :, 0]
    p = a["belief_pi"].copy()
    for full in (False, True):
        mine = (a["stock"] > 0) == full
        p[:, :, 0][mine] = a["pi"][:, :, 0][mine & late].mean(0)
    return p


def _counts(name: str, p: np.ndarray, where: np.ndarray) -> dict[str, np.ndarray]:
    bins = np.searchsorted(EDGES, log_odds(p))
    return {f"{name} {i}": (where & (bins == i)).sum(1) for i in range(len(EDGES) + 1)}


def _centred(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(N, E) less the mean of each row where it counts, 0 elsewhere."""
    mean = np.where(where, values, 0).sum(1, keepdims=True) / np.maximum(
        where.sum(1, keepdims=True), 1
    )
    return np.where(where, values - mean, 0)


# ---- from frames of all seeds ----


def _area(yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of counts (..., bins) in ascending order; ties count half."""
    below = no.cumsum(-1) - no / 2
    return (yes * below).sum(-1) / (yes.sum(-1) * no.sum(-1))


def auc(lives: pd.DataFrame, who: str = "model", yes: str = "hid", no: str = "did not") -> Interval:
    """Of p(HIDE) for telling mornings that are `yes` from those that are `no`."""
    bins = len(EDGES) + 1
    columns = [f"{part}: {who} {i}" for part in (yes, no) for i in range(bins)]
    return interval(lives, columns, lambda m: _area(m[..., :bins], m[..., bins:]))


def auc_share(
    lives: pd.DataFrame, make: Callable = interval, chance: float = 0.5
) -> Interval | dict:
    """What the model's area is above chance, as a share of what the source's own is."""
    bins = len(EDGES) + 1
    columns = [
        f"{part}: {who} {i}"
        for who in ("model", "source")
        for part in ("hid", "did not")
        for i in range(bins)
    ]
    area = lambda m, k: _area(
        m[..., k * bins : (k + 1) * bins], m[..., (k + 1) * bins : (k + 2) * bins]
    )
    return make(lives, columns, lambda m: (area(m, 0) - chance) / (area(m, 2) - chance))


def measured_random(lives: pd.DataFrame) -> Interval:
    """What gate G2 names: whether the random hider's foretold hiding follows what hiding would gain."""
    return auc(checks.rows(lives, PER_LIFE, type=["R"]), "model", "worth", "not worth")


def measured(
    lives: pd.DataFrame, edits: pd.DataFrame, twin_edits: pd.DataFrame
) -> dict[str, Interval | float]:
    """What H4 names, of `per_life` frames, the edits of `competence.compared`, and those of a twin that never met planners."""
    checks.columns(lives, "type", made_by=PER_LIFE)
    for frame in (edits, twin_edits):
        checks.columns(
            frame,
            "seed",
            "history",
            "orbit",
            "type",
            "kind",
            "effect",
            made_by="competence.compared, with a column seed",
        )
    planners, primitive, random = (lives[lives["type"] == name] for name in "SPR")
    edits_of = lambda frame, kind, who: frame[(frame["kind"] == kind) & (frame["type"] == who)]
    mean = lambda frame: interval(frame, ["effect"])
    stock, twin = edits_of(edits, "stock", "S"), edits_of(twin_edits, "stock", "S")
    keys = ["seed", "history", "orbit"]
    beside = lambda other: stock.merge(other[[*keys, "effect"]], on=keys, suffixes=("", "_other"))
    less = lambda other: interval(
        beside(other), ["effect", "effect_other"], lambda m: m[..., 0] - m[..., 1]
    )
    per_morning = lambda frame, a, b, n: interval(
        frame, [a, b, n], lambda m: (m[..., 0] - m[..., 1]) / m[..., 2]
    )
    slope = lambda who, over: interval(
        planners, [f"slope {who}", over], lambda m: m[..., 0] / m[..., 1]
    )
    flip = mean(edits_of(edits, "stock", "R"))
    lapse, ratio = (
        edits_of(edits, "lapse", "S"),
        lambda of: interval(of, ["effect", "filter"], lambda m: m[..., 0] / m[..., 1]),
    )
    return {
        "auc_share": auc_share(planners),
        **auc_share(planners, against),
        "stock_ratio": ratio(stock),
        "stock_effect": mean(stock),
        "decoy_effect": mean(edits[edits["kind"] == "decoy"]),
        "stock_minus_decoy": less(edits_of(edits, "decoy", "S")),
        "lapse_effect": mean(lapse),
        "lapse_effect_of_filter": interval(lapse, ["filter"]),
        "lapse_ratio": ratio(lapse),
        "primitive_excess": per_morning(primitive, "p model", "p filter", "n"),
        "primitive_twin_effect": mean(twin),
        "over_primitive_twin": less(twin),
        "within_slope_share": slope("model", "slope filter"),
        "within_slope_of_filter": slope("filter", "spread"),
        "hide_rate_error": per_morning(lives, "late p model", "late p source", "late").size,
        "model_auc": auc(planners),
        "filter_auc": auc(planners, "filter"),
        "source_auc": auc(planners, "source"),
        "random_hider_auc": measured_random(lives),
        "random_hider_auc_of_filter": auc(random, "filter", "worth", "not worth"),
        "random_hider_flip": flip,
    }
