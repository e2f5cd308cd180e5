"""H2a and H2a_future: does the residual stream hold more of the drifting strength than a cookie
counter knows?

Lifetimes come in parts, {"probe train", "probe val", "test": histories} of `corpora.judged`.
Probes, penalties and layers see the first two; the tables are about the third. Beside each table
stands one of random draws with the columns kind, draw, value.

Read-outs of the label, besides the probe and its twins: B1, cookies eaten and day, quadratic; B3,
what a patient observer would count; B4, the particle filter's estimate; the model's own logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
from torch import Generator, nn

from adkit.cookieworld.world import TOLERANCE
from adkit.histories import Histories
from adkit.models.transformer import CausalTransformer
from adkit.probing import Probe, erase, fit
from adkit.stats import Interval
from study.corpora import balance, interval, pick, table
from study.readouts import PARTS, Label, Lifetimes, features, recording, streams
from study.statistics import draws_of

STREAMS = "embed", "blocks.*.resid"
USE, DRIFT, YOKED = 1, 2, 5  # regimes
BASELINES = "B1", "B3", "B4", "logits"
TWINS = "untrained", "drift free", "episode shuffled", "action only"
YOKED_AUC = {
    "yoked_auc": "wins",
    "yoked_auc_of_filter": "wins: filter",
    "yoked_auc_of_gifts": "wins: gifts",
}
PLANTED = 0.2  # length of the planted estimate, in standard deviations of the activations
LEVEL = ["level missed", "level spread"]
WITHIN = ["within product", "within read", "within label"]


def untrained(model: CausalTransformer) -> CausalTransformer:
    """Return the same architecture and seed before training.

    Weights that start at 0 are drawn too, or the layers would do nothing.
    """
    twin = type(model)(model.spec, **model.config)
    generator = Generator().manual_seed(model.config["seed"])
    for parameter in twin.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5, generator=generator)
    return twin.eval()


def tolerance(histories: Histories) -> np.ndarray:
    """Return the label (N, E, H) of gate G2, shown in the corpus "tolerance visible"."""
    return histories.arrays["obs"][..., TOLERANCE].astype(float)


# ---- tables ----


def per_lifetime(
    model: CausalTransformer,
    lifetimes: Lifetimes,
    twins: Mapping[str, CausalTransformer],
    site: str = "first visible",
    *,
    label: Label = balance,
    regime: int = DRIFT,
    permutations: int = 200,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fit probes of a label in lifetimes of one regime; return errors per test lifetime, and nulls.

    "missed: x" is the squared error of a read-out summed over a lifetime's decisions, "spread"
    that of the training mean. Besides the read-outs above there are the same fit to `twins`;
    probes of other labels, "belief" and "unrelated" (a random walk); and probes of "planted"
    activations, to which the filter's estimate was added. "level x" and "within x" are the sums
    behind R2 between and within lifetimes. Rows of regimes D1 and D5 hold "pairs" and "wins", see
    `_matched`.
    """
    days = features(lifetimes, site, label)
    activations = streams(model, lifetimes, site, *STREAMS, "logits")
    days["logits"] = activations.pop("logits")
    mine = days["regime"] == regime
    of = {name: values[mine] for name, values in days.items()}
    plain = _plain_fit(of, seed)
    others = {
        name: streams(twin, lifetimes, site, *STREAMS, regime=regime)
        for name, twin in twins.items()
    }
    probe = plain(
        recording({tap: values[mine] for tap, values in activations.items()}),
        of["label"],
        permutations=permutations,
        stratum=of["type"],
        kinds=of["kind"],
        compare={name: of[name] for name in BASELINES}
        | {name: recording(values) for name, values in others.items()},
    )
    columns = _errors(probe, _planted(plain, activations[probe.tap][mine], of, seed))
    if label is balance:  # the filter's estimate as it is, not as it is best fitted
        error = np.where(of["used"], of["label"] - of["B4"], 0)[probe.history]
        columns["missed: B4"] = (error**2).sum(1)
    begin = len(mine) - len(lifetimes["test"])
    rows = np.flatnonzero(mine)[probe.history] - begin
    about = table(lifetimes["test"])
    frames = [about.iloc[rows].assign(**columns)]
    taps = {f"tap: {tap}": score for tap, score in probe.taps.items()}
    draws = draws_of(permutation=probe.null, selectivity=probe.controls["selectivity"], **taps)
    test = {name: values[begin:] for name, values in days.items()}
    if YOKED in test["regime"]:
        frames.append(_yoked(probe, activations[probe.tap][begin:], test, about))
    return pd.concat(frames, ignore_index=True), draws


def _plain_fit(of: Mapping[str, np.ndarray], seed: int) -> Callable:
    """Return `fit` on the days' decisions, with no controls but those that a call asks for."""
    split = {"where": of["used"], "groups": of["orbit"], "holdout": of["part"]}
    return partial(fit, **split, permutations=0, seed=seed)


def _planted(
    plain: Callable, x: np.ndarray, of: Mapping[str, np.ndarray], seed: int
) -> dict[str, Probe]:
    """Return probes of other labels, and of activations that the estimate was planted in."""
    rng, belief = np.random.default_rng(seed), of["B4"]
    direction = rng.normal(size=x.shape[-1])
    length = PLANTED * np.sqrt(x[of["used"]].var(0).sum()) / belief[of["used"]].std()
    planted = x + length * belief[..., None] * direction / np.linalg.norm(direction)
    fitted = of["used"] & (of["part"] != "test")[:, None]
    eraser = erase(planted, belief, where=fitted)
    return {
        "belief": plain(x, belief),
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
    for name in ("belief", "unrelated"):
        columns[f"spread: {name}"] = sums[name].spread
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


def readings(
    model: CausalTransformer, lifetimes: Lifetimes, site: str = "first visible", seed: int = 0
) -> pd.DataFrame:
    """Return the drifting test lifetimes day by day.

    Columns: `label`, the true w_rel at the site's decision; `read` by the probe; `believed`, the
    particle filter's estimate.
    """
    drifting = {part: lifetimes[part][lifetimes[part].arrays["regime"] == DRIFT] for part in PARTS}
    days = features(drifting, site, balance)
    activations = streams(model, drifting, site, *STREAMS)
    probe = _plain_fit(days, seed)(recording(activations), days["label"])
    row, day = np.nonzero(days["used"] & (days["part"] == "test")[:, None])
    begin = len(days["part"]) - len(drifting["test"])
    about = table(drifting["test"]).iloc[row - begin].reset_index(drop=True)
    return about.assign(
        day=day,
        label=days["label"][row, day],
        read=probe.read(activations[probe.tap][row, day]).ravel(),
        believed=days["B4"][row, day],
    )


# ---- measures, from tables of all seeds ----


def _explained(m: np.ndarray) -> np.ndarray:
    """R2 of (missed, spread)."""
    return 1 - m[..., 0] / m[..., 1]


def _gain(m: np.ndarray) -> np.ndarray:
    """R2 gained from (missed by the weaker, missed by the better, spread); the weaker has at least
    the R2 of the mean, 0.
    """
    return (np.minimum(m[..., 0], m[..., 2]) - m[..., 1]) / m[..., 2]


def _share(m: np.ndarray) -> np.ndarray:
    """The share of the way from the first to the third that the second has come."""
    return (m[..., 0] - m[..., 1]) / (m[..., 0] - m[..., 2])


def _within(m: np.ndarray) -> np.ndarray:
    """Signed squared correlation within lifetimes, of the sums `WITHIN`."""
    return m[..., 0] * np.abs(m[..., 0]) / (m[..., 1] * m[..., 2])


def measured(frame: pd.DataFrame, draws: pd.DataFrame) -> dict[str, Interval | float]:
    """Measure what H2a and H2a_future name; `null` is phi with labels of other lifetimes."""
    drifts = frame[frame["spread"].notna()]
    missed = lambda *names: [f"missed: {name}" for name in names]
    over = lambda name: interval(drifts, [*missed(name, "probe"), "spread"], _gain)
    r2 = lambda name, spread="spread": interval(drifts, [*missed(name), spread], _explained)
    phi = lambda name: interval(drifts, missed("B1", name, "B4"), _share)
    within = [f"{column}: {name}" for name in ("probe", "B4") for column in WITHIN]
    permuted = draws[draws["kind"] == "permutation"].groupby("draw")["value"].mean().to_numpy()
    b1, b4 = r2("B1").estimate, r2("B4").estimate
    p = float((1 + (permuted >= r2("probe").estimate).sum()) / (1 + len(permuted)))
    found = {
        "phi": phi("probe"),
        "over_logits": over("logits"),
        "over_rich_features": over("B3"),
        "headroom": interval(drifts, [*missed("B1", "B4"), "spread"], _gain),
        "planted_phi": phi("planted"),
        "unrelated_r2": r2("unrelated", "spread: unrelated"),
        "belief_r2": r2("belief", "spread: belief"),
        "level_r2": interval(drifts, [f"{x}: probe" for x in LEVEL], _explained),
        "within_r2": interval(drifts, within[:3], _within),
        "within_share_of_filter": interval(
            drifts, within, lambda m: _within(m[..., :3]) / _within(m[..., 3:])
        ),
        "selectivity": float(draws.loc[draws["kind"] == "selectivity", "value"].mean()),
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


def _yoked_area(frame: pd.DataFrame, wins: str) -> Interval:
    """Return the share of pairs in which D1 is read higher.

    Both lifetimes of a pair count it, so it varies with the lifetimes of both regimes.
    """
    sides = [(frame["regime"] == regime).to_numpy() for regime in ("D1", "D5")]
    columns = {
        f"side {i}": np.where(side, frame[name], 0)
        for i, (side, name) in enumerate((side, name) for side in sides for name in (wins, "pairs"))
    }
    once = columns["side 0"].sum() / columns["side 1"].sum()
    yoked = frame.assign(**columns)[sides[0] | sides[1]]
    area = lambda m: m[..., 0] / m[..., 1] + m[..., 2] / m[..., 3] - once
    return interval(yoked, list(columns), area)


def measured_controls(
    frame: pd.DataFrame, tolerance: pd.DataFrame | None = None
) -> dict[str, Interval]:
    """Measure what gates G2 and G3 name; `tolerance` is the table of the positive control."""
    drifts = pick(frame, regime="D2")
    r2 = lambda name, spread: interval(drifts, [f"missed: {name}", spread], _explained)
    found = {
        "planted_found": r2("planted belief", "spread: belief"),
        "planted_erased": r2("planted erased", "spread: belief"),
        "untrained_r2": r2("untrained", "spread"),
    }
    if tolerance is not None:
        found["tolerance_visible_r2"] = over_counting(tolerance)
    return found


def over_counting(frame: pd.DataFrame) -> Interval:
    """Return the R2 of the probe over that of a cookie counter, or of the mean if better."""
    return interval(pick(frame, regime="D2"), ["missed: B1", "missed: probe", "spread"], _gain)
