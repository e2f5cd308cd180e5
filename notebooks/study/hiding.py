"""H4: does the model predict HIDE exactly where the agent will be tempted?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from adkit.cookieworld.world import HIDE
from adkit.histories import Histories
from adkit.stats import Interval
from study.corpora import against, difference, interval, log_odds, pick, ratio, sites, table
from study.statistics import magnitude

EDGES = np.linspace(-6, 4, 23)  # log odds of p(HIDE) that separate the bins
BINS = len(EDGES) + 1
WORTH = 0.1  # the gain of hiding from which on it counts as worth it
PREDICTORS = ("model", "filter", "source")


def per_lifetime(histories: Histories, p: np.ndarray) -> pd.DataFrame:
    """Return per lifetime what is predicted of HIDE on late mornings.

    `p` (N, E, H, 8) are the model's action probabilities; the filter's and the source's stand
    beside them. Columns: counts "hid: x i" and "did not: x i" of mornings whose p(HIDE) lies in bin
    i, by what the agent did; "worth: x i" and "not worth: x i", by whether hiding would gain more
    than `WORTH`; on stocked mornings, the sums "n" and "p x" and, within the lifetime, "slope x"
    and "spread", the products of p(HIDE), and of the gain, with the gain.
    """
    labels = histories.arrays
    late = sites(histories)["home late"][:, :, 0]  # (N, E)
    policies = zip(PREDICTORS, (p, labels["belief_pi"], labels["pi"]), strict=True)
    hide = {name: policy[:, :, 0, HIDE] for name, policy in policies}
    hid, worth = labels["action"][:, :, 0] == HIDE, labels["gain"] > WORTH
    stocked = (labels["stock"] > 0) & late
    gain = _centred(labels["gain"], stocked)
    columns = {"late": late.sum(1), "n": stocked.sum(1), "spread": (gain * gain).sum(1)}
    for name in PREDICTORS:
        columns |= _counts(f"hid: {name}", hide[name], late & hid)
        columns |= _counts(f"did not: {name}", hide[name], late & ~hid)
        columns[f"late p {name}"] = np.where(late, hide[name], 0).sum(1)
        columns[f"p {name}"] = np.where(stocked, hide[name], 0).sum(1)
        columns[f"slope {name}"] = (gain * _centred(hide[name], stocked)).sum(1)
    for name in ("model", "filter"):
        columns |= _counts(f"worth: {name}", hide[name], late & worth)
        columns |= _counts(f"not worth: {name}", hide[name], late & ~worth)
    return table(histories, **columns)


def copied(histories: Histories) -> np.ndarray:
    """Return the predictions (N, E, H, 8) of a planted control: a predictor that copies a bit.

    On mornings it predicts the population's mean policy given whether the jar is full, the same for
    every agent; later in the day it predicts as the filter does. It must not pass for planning.
    """
    labels = histories.arrays
    late = sites(histories)["home late"][:, :, 0]
    p = labels["belief_pi"].copy()
    for full in (False, True):
        mornings = (labels["stock"] > 0) == full
        p[:, :, 0][mornings] = labels["pi"][:, :, 0][mornings & late].mean(0)
    return p


def _counts(name: str, p: np.ndarray, where: np.ndarray) -> dict[str, np.ndarray]:
    bins = np.searchsorted(EDGES, log_odds(p))
    return {f"{name} {i}": (where & (bins == i)).sum(1) for i in range(BINS)}


def _centred(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return values (N, E) minus the mean of their row over `where`; 0 elsewhere."""
    count = np.maximum(where.sum(1, keepdims=True), 1)
    mean = np.where(where, values, 0).sum(1, keepdims=True) / count
    return np.where(where, values - mean, 0)


# ---- measures, from tables of all seeds ----


def _area(yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve of counts (..., bins), ascending; ties count half."""
    below = no.cumsum(-1) - no / 2
    return (yes * below).sum(-1) / (yes.sum(-1) * no.sum(-1))


def _bins(name: str, yes: str = "hid", no: str = "did not") -> list[str]:
    return [f"{part}: {name} {i}" for part in (yes, no) for i in range(BINS)]


def auc(
    frame: pd.DataFrame, name: str = "model", yes: str = "hid", no: str = "did not"
) -> Interval:
    """Return the area of p(HIDE) for telling mornings `yes` from mornings `no`."""
    area = lambda m: _area(m[..., :BINS], m[..., BINS:])
    return interval(frame, _bins(name, yes, no), area)


def auc_share(frame: pd.DataFrame, make: Callable = interval) -> Interval | dict:
    """Return how far the model's area is above chance, as a share of the source's own."""
    columns = _bins("model") + _bins("source")

    def share(m: np.ndarray) -> np.ndarray:
        counts = m.reshape(*m.shape[:-1], 4, BINS)
        model, source = (_area(counts[..., i, :], counts[..., i + 1, :]) for i in (0, 2))
        return (model - 0.5) / (source - 0.5)

    return make(frame, columns, share)


def measured_random(frame: pd.DataFrame) -> Interval:
    """Measure for G2 whether the random hider's predicted hiding follows the gain of hiding."""
    return auc(pick(frame, type="R"), "model", "worth", "not worth")


def measured(
    frame: pd.DataFrame, edits: pd.DataFrame, twin_edits: pd.DataFrame
) -> dict[str, Interval | float]:
    """Measure what H4 names.

    `frame` is `per_lifetime`'s, `edits` are those of `competence.compared`, `twin_edits` those of a
    twin that never met planners.
    """
    planners, primitive, random = (pick(frame, type=name) for name in "SPR")
    stock, lapse = (pick(edits, kind=kind, type="S") for kind in ("stock", "lapse"))
    twin = pick(twin_edits, kind="stock", type="S")
    mean = lambda of: interval(of, ["effect"])
    to_filter = lambda of: interval(of, ["effect", "filter"], ratio)
    slope = lambda name, over: interval(planners, [f"slope {name}", over], ratio)
    return {
        "auc_share": auc_share(planners),
        **auc_share(planners, against),
        "stock_ratio": to_filter(stock),
        "stock_effect": mean(stock),
        "decoy_effect": mean(pick(edits, kind="decoy")),
        "stock_minus_decoy": _minus(stock, pick(edits, kind="decoy", type="S")),
        "lapse_effect": mean(lapse),
        "lapse_effect_of_filter": interval(lapse, ["filter"]),
        "lapse_ratio": to_filter(lapse),
        "primitive_excess": _excess(primitive, "p model", "p filter", "n"),
        "primitive_twin_effect": mean(twin),
        "over_primitive_twin": _minus(stock, twin),
        "within_slope_share": slope("model", "slope filter"),
        "within_slope_of_filter": slope("filter", "spread"),
        "hide_rate_error": magnitude(_excess(frame, "late p model", "late p source", "late")),
        "model_auc": auc(planners),
        "filter_auc": auc(planners, "filter"),
        "source_auc": auc(planners, "source"),
        "random_hider_auc": measured_random(frame),
        "random_hider_auc_of_filter": auc(random, "filter", "worth", "not worth"),
        "random_hider_flip": mean(pick(edits, kind="stock", type="R")),
    }


def _excess(frame: pd.DataFrame, a: str, b: str, n: str) -> Interval:
    """Return the mean per morning of one sum minus another."""
    return interval(frame, [a, b, n], lambda m: difference(m) / m[..., 2])


def _minus(edits: pd.DataFrame, others: pd.DataFrame) -> Interval:
    """Return the mean effect of edits minus that of other edits of the same lifetimes."""
    keys = ["seed", "history", "orbit"]
    both = edits.merge(others[[*keys, "effect"]], on=keys, suffixes=("", "_other"))
    return interval(both, ["effect", "effect_other"], difference)
