"""H4: does the model predict HIDE exactly where the agent will be tempted?"""

from collections.abc import Callable

import numpy as np
import pandas as pd

import adkit as ad
from adkit.cookieworld.world import HIDE
from adkit.stats import Interval
from study.competence import effect, effect_ratio
from study.corpora import log_odds, sites, table
from study.statistics import Measures, against, difference, interval, magnitude, pick, ratio

EDGES = np.linspace(-6, 4, 23)  # log odds of p(HIDE) that separate the bins
BINS = len(EDGES) + 1
WORTH = 0.1  # the gain of hiding from which on it counts as worth it
PREDICTORS = ("model", "filter", "source")
GAINS = ("worth", "not worth")


def per_lifetime(histories: ad.Histories, p: np.ndarray) -> pd.DataFrame:
    """Return per lifetime what is predicted of HIDE on late mornings.

    `p` (N, E, H, 8) are the model's action probabilities; the filter's and the source's stand
    beside them. Columns: counts "hid: x i" and "did not: x i" of mornings whose p(HIDE) lies in bin
    i, by what the agent did; "worth: x i" and "not worth: x i", by whether hiding would gain more
    than `WORTH`; on stocked mornings, the sums "n" and "p x" and, within the lifetime, "slope x",
    the products of p(HIDE) with the gain.
    """
    labels = histories.arrays
    late = sites(histories)["home late"][:, :, 0]  # (N, E)
    policies = zip(PREDICTORS, (p, labels["belief_pi"], labels["pi"]), strict=True)
    hide = {name: policy[:, :, 0, HIDE] for name, policy in policies}
    hid, worth = labels["action"][:, :, 0] == HIDE, labels["gain"] > WORTH
    stocked = (labels["stock"] > 0) & late
    gain = _centred(labels["gain"], stocked)
    columns = {"late": late.sum(1), "n": stocked.sum(1)}
    mornings = {"hid": hid, "did not": ~hid, "worth": worth, "not worth": ~worth}
    for name, p_hide in hide.items():
        bins = np.searchsorted(EDGES, log_odds(p_hide))
        for kind, where in mornings.items():
            for i in range(BINS):
                columns[f"{kind}: {name} {i}"] = (late & where & (bins == i)).sum(1)
        columns[f"late p {name}"] = np.where(late, p_hide, 0).sum(1)
        columns[f"p {name}"] = np.where(stocked, p_hide, 0).sum(1)
        columns[f"slope {name}"] = (gain * _centred(p_hide, stocked)).sum(1)
    return table(histories, **columns)


def copied(histories: ad.Histories) -> np.ndarray:
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


def _centred(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return values (N, E) minus the mean of their row over `where`; 0 elsewhere."""
    count = np.maximum(where.sum(1, keepdims=True), 1)
    mean = np.where(where, values, 0).sum(1, keepdims=True) / count
    return np.where(where, values - mean, 0)


# ---- measures, from tables of all seeds ----


def _area(counts: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve of counts (..., 2 x bins) of yes and no, bins ascending.

    Ties count half.
    """
    yes, no = np.split(counts, 2, axis=-1)
    below = no.cumsum(-1) - no / 2
    return (yes * below).sum(-1) / (yes.sum(-1) * no.sum(-1))


def _bins(name: str, sides: tuple[str, str] = ("hid", "did not")) -> list[str]:
    return [f"{side}: {name} {i}" for side in sides for i in range(BINS)]


def auc(frame: pd.DataFrame, name: str = "model", sides=("hid", "did not")) -> Interval:
    """Return the area of p(HIDE) for telling mornings of one side from those of the other."""
    return interval(frame, _bins(name, sides), _area)


def auc_share(frame: pd.DataFrame, make: Callable = interval) -> Interval | dict:
    """Return how far the model's area is above chance, as a share of the source's own."""
    share = lambda m: (_area(m[..., : 2 * BINS]) - 0.5) / (_area(m[..., 2 * BINS :]) - 0.5)
    return make(frame, _bins("model") + _bins("source"), share)


def measured(frame: pd.DataFrame, edits: pd.DataFrame, twin_edits: pd.DataFrame) -> Measures:
    """Measure what H4 names.

    `frame` is `per_lifetime`'s, `edits` are those of `competence.compared`, `twin_edits` those of a
    twin that never met planners.
    """
    planners, primitive, random = (pick(frame, type=name) for name in "SPR")
    stock, decoy = (pick(edits, kind=kind, type="S") for kind in ("stock", "decoy"))
    excess = lambda rows, *columns: interval(rows, [*columns], lambda m: difference(m) / m[..., 2])
    return {
        "auc_share": auc_share(planners),
        **auc_share(planners, against),
        "stock_ratio": effect_ratio(edits, "stock", "S"),
        "stock_effect": effect(edits, "stock", "S"),
        "decoy_effect": effect(edits, "decoy"),
        "stock_minus_decoy": _minus(stock, decoy),
        "lapse_effect": effect(edits, "lapse", "S"),
        "lapse_ratio": effect_ratio(edits, "lapse", "S"),
        "primitive_excess": excess(primitive, "p model", "p filter", "n"),
        "primitive_twin_effect": effect(twin_edits, "stock", "S"),
        "over_primitive_twin": _minus(stock, pick(twin_edits, kind="stock", type="S")),
        "within_slope_share": interval(planners, ["slope model", "slope filter"], ratio),
        "hide_rate_error": magnitude(excess(frame, "late p model", "late p source", "late")),
        "filter_auc": auc(planners, "filter"),
        "random_hider_auc": auc(random, "model", GAINS),
        "random_hider_flip": effect(edits, "stock", "R"),
    }


def _minus(edits: pd.DataFrame, others: pd.DataFrame) -> Interval:
    """Return the mean effect of edits minus that of other edits of the same lifetimes."""
    keys = ["seed", "history", "orbit"]
    both = edits.merge(others[[*keys, "effect"]], on=keys, suffixes=("", "_other"))
    return interval(both, ["effect", "effect_other"], difference)
