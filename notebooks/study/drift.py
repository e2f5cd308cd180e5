"""H2a and H2a_future: does the residual stream hold more of the drifting strength than a cookie
counter knows?

Lifetimes come in parts, {"probe train", "probe val", "test": histories} of `corpora.judged`.
Probes, penalties and layers see the first two; the tables are about the third. Beside each table
stands one of random draws with the columns kind, draw, value.

Read-outs of the label, besides the probe and its twins: B1, cookies eaten and day, quadratic; B3,
what a patient observer would count; B4, the particle filter's estimate; the model's own logits.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
from torch import Generator, nn

import adkit as ad
from adkit.cookieworld.world import TOLERANCE
from adkit.probing import Probe, erase, fit
from adkit.stats import Interval
from study.corpora import Lifetimes, balance, table
from study.readouts import Label, features, of_regime, recording, streams
from study.statistics import Measures, draws_of, explained, interval, of_kind, pick, share

STREAMS = "embed", "blocks.*.resid"
USE, DRIFT, YOKED = 1, 2, 5  # regimes
BASELINES = "B1", "B3", "B4", "logits"
TWINS = "untrained", "drift free", "episode shuffled", "action only"
SHOWN = 24  # lifetimes in the table of readings
YOKED_AUC = {
    "yoked_auc": "wins",
    "yoked_auc_of_filter": "wins: filter",
    "yoked_auc_of_gifts": "wins: gifts",
}
PLANTED = 0.2  # length of the planted estimate, in standard deviations of the activations
# the label (N, E, H) of gate G2, shown in the corpus "tolerance visible"
tolerance = lambda histories: histories.arrays["obs"][..., TOLERANCE].astype(float)
LEVEL = ["level missed", "level spread"]
WITHIN = ["within product", "within read", "within label"]


def untrained(model: ad.CausalTransformer) -> ad.CausalTransformer:
    """Return the same architecture and seed before training.

    Weights that start at 0 are drawn too, or the layers would do nothing.
    """
    twin = type(model)(model.spec, **model.config)
    generator = Generator().manual_seed(model.config["seed"])
    for parameter in twin.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5, generator=generator)
    return twin.eval()


# ---- tables ----


def per_lifetime(
    model: ad.CausalTransformer,
    lifetimes: Lifetimes,
    twins: Mapping[str, ad.CausalTransformer],
    site: str = "first visible",
    *,
    label: Label = balance,
    regime: int = DRIFT,
    permutations: int = 200,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fit probes of a label in lifetimes of one regime; return errors per test lifetime, and nulls.

    "missed: x" is the squared error of a read-out summed over a lifetime's decisions, "spread"
    that of the training mean. Besides the read-outs above there are the same fit to `twins`; a
    probe of an "unrelated" label, a random walk; and probes of "planted" activations, to which the
    filter's estimate was added. "level x" and "within x" are the sums behind R2 between and within
    lifetimes. Rows of regimes D1 and D5 hold "pairs" and "wins", see `_matched`.
    """
    days = features(lifetimes, site, label)
    activations = streams(model, lifetimes, site, *STREAMS, "logits")
    days["logits"] = activations.pop("logits")
    mine = days["regime"] == regime
    begin = len(mine) - len(lifetimes["test"])
    of = {name: values[mine] for name, values in days.items()}
    compare = {name: of[name] for name in BASELINES}
    same_regime = of_regime(lifetimes, regime)
    for name, twin in twins.items():
        compare[name] = recording(streams(twin, same_regime, site, *STREAMS))
    own = recording({tap: values[mine] for tap, values in activations.items()})
    how = {"permutations": permutations, "stratum": of["type"], "kinds": of["kind"]}
    probe = _fit(of)(own, of["label"], compare=compare, **how)
    columns = _errors(probe, _planted(own[probe.tap], of))
    if label is balance:  # the filter's estimate as it is, not as it is best fitted
        error = np.where(of["used"], of["label"] - of["B4"], 0)[probe.history]
        columns["missed: B4"] = (error**2).sum(1)
    about, rows = table(lifetimes["test"]), np.flatnonzero(mine)[probe.history] - begin
    frames = [about.iloc[rows].assign(**columns)]
    test = {name: values[begin:] for name, values in days.items()}
    if YOKED in test["regime"]:
        frames.append(_yoked(probe, activations[probe.tap][begin:], test, about))
    draws = draws_of(permutation=probe.null, selectivity=probe.controls["selectivity"])
    return pd.concat(frames, ignore_index=True), draws


def _fit(of: Mapping[str, np.ndarray]) -> Callable:
    """Return `fit` on the days' decisions, with no controls but those that a call asks for."""
    split = {"where": of["used"], "groups": of["orbit"], "holdout": of["part"]}
    return partial(fit, **split, permutations=0)


def _planted(x: np.ndarray, of: Mapping[str, np.ndarray]) -> dict[str, Probe]:
    """Return probes of other labels, and of activations that the estimate was planted in."""
    rng, belief, plain = np.random.default_rng(0), of["B4"], _fit(of)
    direction = rng.normal(size=x.shape[-1])
    length = PLANTED * np.sqrt(x[of["used"]].var(0).sum()) / belief[of["used"]].std()
    planted = x + length * belief[..., None] * direction / np.linalg.norm(direction)
    fitted = of["used"] & (of["part"] != "test")[:, None]
    eraser = erase(planted, belief, where=fitted)
    return {
        "unrelated": plain(x, rng.normal(size=belief.shape).cumsum(1)),
        "planted": plain(planted, of["label"]),
        "planted belief": plain(planted, belief),
        "planted erased": plain(eraser(planted), belief),
    }


def _errors(probe: Probe, planted: Mapping[str, Probe]) -> dict[str, np.ndarray]:
    """Return the columns of the table that are sums over a lifetime's decisions."""
    sums = probe.sums | {name: other.sums["probe"] for name, other in planted.items()}
    columns = {f"missed: {name}": of.missed for name, of in sums.items()}
    columns["spread"] = sums["probe"].spread
    columns["spread: belief"] = sums["planted belief"].spread
    columns["spread: unrelated"] = sums["unrelated"].spread
    for name in ("probe", "B4"):
        for column in (*LEVEL, *WITHIN):
            columns[f"{column}: {name}"] = getattr(sums[name], column.replace(" ", "_"))
    return columns


def _yoked(
    probe: Probe, stream: np.ndarray, test: Mapping[str, np.ndarray], about: pd.DataFrame
) -> pd.DataFrame:
    """Return "pairs" and "wins" of the test lifetimes of D1 and D5.

    The probe never met D1 or D5 and cannot have learned to tell them apart otherwise. D5 is given
    cookies so as to have eaten as many; what the count of gifts alone tells stands beside it.
    """
    read = probe.read(stream)[..., 0]
    pairs, wins = _matched(read, test)
    columns = {"pairs": pairs, "wins": wins, "wins: filter": _matched(test["B4"], test)[1]}
    columns["wins: gifts"] = _matched(-test["gifts"], test)[1]
    return about.assign(**columns)[np.isin(test["regime"], (USE, YOKED))]


def _matched(read: np.ndarray, of: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pair decisions of D1 with decisions of D5 at the same exposure.

    Return for each lifetime (N,) its number of pairs, and in how many the one of D1 is read higher.
    """
    pairs, wins = np.zeros((2, len(read)))
    lifetime, day = np.nonzero(of["used"] & np.isin(of["regime"], (USE, YOKED))[:, None])
    is_use, stratum = of["regime"][lifetime] == USE, of["exposure"][lifetime, day]
    for one in np.unique(stratum):
        a, b = (np.flatnonzero((stratum == one) & side) for side in (is_use, ~is_use))
        gap = read[lifetime[a], day[a]][:, None] - read[lifetime[b], day[b]]  # (D1, D5)
        higher = (np.sign(gap) + 1) / 2
        for side, own in ((a, higher), (b, higher.T)):
            np.add.at(wins, lifetime[side], own.sum(1))
            np.add.at(pairs, lifetime[side], own.shape[1])
    return pairs, wins


def readings(model: ad.CausalTransformer, lifetimes: Lifetimes) -> pd.DataFrame:
    """Return some drifting test lifetimes day by day, where the cookie is first visible.

    Columns: `label`, the true w_rel; `read` by the probe; `believed`, the filter's estimate.
    """
    drifting, site = of_regime(lifetimes, DRIFT), "first visible"
    days = features(drifting, site, balance)
    activations = streams(model, drifting, site, *STREAMS)
    probe = _fit(days)(recording(activations), days["label"])
    row, day = np.nonzero(days["used"] & (days["part"] == "test")[:, None])
    begin = len(days["part"]) - len(drifting["test"])
    about = table(drifting["test"]).iloc[row - begin].reset_index(drop=True)
    found = about.assign(
        day=day,
        label=days["label"][row, day],
        read=probe.read(activations[probe.tap][row, day]).ravel(),
        believed=days["B4"][row, day],
    )
    return found[found["history"].isin(found["history"].unique()[:SHOWN])]


# ---- measures, from tables of all seeds ----


# R2 gained, of (missed by the weaker, by the better, spread); the weaker has at least R2 = 0
_gain = lambda m: (np.minimum(m[..., 0], m[..., 2]) - m[..., 1]) / m[..., 2]
# signed squared correlation within lifetimes, of the sums `WITHIN`
_within = lambda m: m[..., 0] * np.abs(m[..., 0]) / (m[..., 1] * m[..., 2])


def measured(frame: pd.DataFrame, draws: pd.DataFrame) -> Measures:
    """Measure what H2a and H2a_future name; `null` is phi with labels of other lifetimes."""
    drifts = frame[frame["spread"].notna()]
    missed = lambda *names: [f"missed: {name}" for name in names]
    over = lambda name: interval(drifts, [*missed(name, "probe"), "spread"], _gain)
    phi = lambda name: interval(drifts, missed("B1", name, "B4"), share)
    b1, probe, b4 = (r2(drifts, name).estimate for name in ("B1", "probe", "B4"))
    within = [f"{column}: {name}" for name in ("probe", "B4") for column in WITHIN]
    over_filter = lambda m: _within(m[..., :3]) / _within(m[..., 3:])
    permuted = of_kind(draws, "permutation").mean(0)
    p = float((1 + (permuted >= probe).sum()) / (1 + len(permuted)))
    found = {
        "phi": phi("probe"),
        "over_logits": over("logits"),
        "over_rich_features": over("B3"),
        "headroom": interval(drifts, [*missed("B1", "B4"), "spread"], _gain),
        "planted_phi": phi("planted"),
        "unrelated_r2": r2(drifts, "unrelated", "spread: unrelated"),
        "level_r2": interval(drifts, [f"{x}: probe" for x in LEVEL], explained),
        "within_r2": interval(drifts, within[:3], _within),
        "within_share_of_filter": interval(drifts, within, over_filter),
        "selectivity": float(of_kind(draws, "selectivity").mean()),
        "permutation_p": p,
        "p": p,
        "null": (permuted - b1) / (b4 - b1),
    }
    twins = [name for name in TWINS if f"missed: {name}" in frame]
    found |= {f"over_{name.replace(' ', '_')}": over(name) for name in twins}
    if "action only" in twins:
        found["action_only_phi"] = phi("action only")
    if "wins" in frame:
        found |= {name: _yoked_area(frame, wins) for name, wins in YOKED_AUC.items()}
    return found


def r2(frame: pd.DataFrame, name: str, spread: str = "spread") -> Interval:
    """Return the R2 of a read-out or twin in the rows of one regime."""
    return interval(frame, [f"missed: {name}", spread], explained)


def _yoked_area(frame: pd.DataFrame, wins: str) -> Interval:
    """Return the share of pairs in which D1 is read higher.

    Both lifetimes of a pair count it, so it varies with the lifetimes of both regimes.
    """
    pairs = pick(frame, regime=("D1", "D5"))
    columns = {}
    for regime in ("D1", "D5"):
        for name in (wins, "pairs"):
            columns[f"{regime} {name}"] = np.where(pairs["regime"] == regime, pairs[name], 0)
    once = columns[f"D1 {wins}"].sum() / columns["D1 pairs"].sum()
    area = lambda m: m[..., 0] / m[..., 1] + m[..., 2] / m[..., 3] - once
    return interval(pairs.assign(**columns), list(columns), area)


def over_counting(frame: pd.DataFrame) -> Interval:
    """Return the R2 of the probe over that of a cookie counter, or of the mean if better."""
    return interval(pick(frame, regime="D2"), ["missed: B1", "missed: probe", "spread"], _gain)
