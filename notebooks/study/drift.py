"""H2a and H2a_future: is the strength that drifts written in the residual stream, beyond what a cookie counter knows?

Sets of lives are {"probe train", "probe val", "test": histories} of `cookies.judged`. Probes, penalties and layers see the first
two; what is kept is about the third. Beside the frame goes a small one of draws: kind, draw, value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from torch import Generator, nn

from adkit import checks
from adkit.cookieworld.world import EAT, GIFT, HIDE, MEAL, STOCK, TOLERANCE, VISIBLE
from adkit.histories import Histories
from adkit.models.transformer import CausalTransformer
from adkit.probing import Probe, fit
from adkit.probing.record import Recording, gather
from adkit.stats import Interval, draws_of
from study.corpora import balance, directed, eaten, exposure, interval, sites, table

if TYPE_CHECKING:
    import pandas as pd

PARTS = {"probe train": "train", "probe val": "val", "test": "test"}
NEEDED = "belief_rel", "orbit", "type", "regime"
PER_LIFE = "drift.per_life, with a column seed"
STREAMS = "embed", "blocks.*.resid"
USE, DRIFT, YOKED = 1, 2, 5  # regimes
TWINS = "untrained", "drift free", "episode shuffled", "action only"
YOKED_BY = {"": "", "_of_filter": ": filter", "_of_gifts": ": gifts"}
PLANTED = 0.2  # of the activations' deviation: the length of a belief that is planted in them


def untrained(model: CausalTransformer) -> CausalTransformer:
    """The same architecture and seed before training; what starts at 0 is drawn too, or its layers would do nothing at all."""
    if not isinstance(model, CausalTransformer):
        raise ValueError(
            f"{type(model).__name__} given for a model; give the network itself, such as student.model."
        )
    twin = type(model)(model.spec, **model.config)
    generator = Generator().manual_seed(model.config["seed"])
    for parameter in twin.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5, generator=generator)
    return twin.eval()


def tolerance(histories: Histories) -> np.ndarray:
    """(N, E, H) the label of gate G2, in lives and a model of the corpus "tolerance visible"."""
    return checks.creatures(histories).arrays["obs"][..., TOLERANCE].astype(float)


def per_life(
    model: CausalTransformer,
    lives: Mapping[str, Histories],
    twins: Mapping[str, CausalTransformer],
    site: str = "first visible",
    *,
    label: Callable[[Histories], np.ndarray] = balance,
    regime: int = DRIFT,
    permutations: int = 200,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lives of D2, or another `regime`, with what probes of `label` miss of it at one decision a day; and nulls.

    "missed: x" is the squared error of a read-out, summed over the life's decisions, "spread" that of the training mean: of the
    probe, the same fit to `twins` (such as "untrained", "drift free"), to B1, cookies eaten and day, to B3, what an observer
    would count, to B4, the filter's belief, and to the model's logits. "belief" and "unrelated" are probes of other labels, a
    belief and a random walk; "planted" ones read activations to which the belief was added. "level" and "within" are the sums
    of `Probe.level` and `Probe.within`. Lives of D1 and D5 have "pairs", how many decisions of the other regime at the same
    exposure theirs meet, and "wins", in how many of these D1 is read higher: by the same probe, which never met D1 or D5 and cannot
    have learned to tell them apart otherwise, by the filter, and by the count of gifts, which D5 gets to have eaten as much.
    """
    import pandas as pd

    lives = dict(zip(PARTS, checks.parts(lives, *PARTS), strict=True))  # the test lives last
    days = [_site(histories, site, label) for histories in lives.values()]
    days = {name: np.concatenate([day[name] for day in days]) for name in days[0]}
    days |= {name: _quadratic(days[name]) for name in ("B1", "B3")}
    part = np.repeat(
        [PARTS[name] for name in lives], [len(histories) for histories in lives.values()]
    )
    mine = days["regime"] == regime
    streams = _streams(model, lives, site, *STREAMS, "logits")
    days["logits"] = streams.pop("logits")
    of = {name: values[mine] for name, values in days.items()}
    recording = lambda values: Recording(values, np.arange(mine.sum()), np.zeros(0, int))
    alone = {"kinds": np.arange(mine.sum()), "permutations": 0}  # no controls but those asked for
    plain = partial(
        fit, where=of["used"], groups=of["orbit"], holdout=part[mine], seed=seed, **alone
    )
    probe = plain(
        recording({tap: values[mine] for tap, values in streams.items()}), of["label"], permutations=permutations,
        stratum=of["type"], kinds=of["kind"], baselines={name: of[name] for name in ("B1", "B3", "B4", "logits")},
        twins={name: recording(_streams(twin, lives, site, *STREAMS, regime=regime)) for name, twin in twins.items()},
    )  # fmt: skip
    sums = probe.sums | {
        name: other.sums["probe"]
        for name, other in _others(plain, streams[probe.tap][mine], of, seed).items()
    }
    columns = {f"missed: {name}": values[:, 0] for name, values in sums.items()}
    if label is balance:  # the belief as it is, not as it is best fitted
        columns["missed: B4"] = (
            np.where(of["used"], of["label"] - of["B4"], 0)[probe.history] ** 2
        ).sum(1)
    columns |= {"spread": probe.sums["probe"][:, 1]} | {
        f"spread: {name}": sums[name][:, 1] for name in ("belief", "unrelated")
    }
    names = "level missed", "level spread", "within product", "within read", "within label"
    for who in ("probe", "B4"):
        columns |= {f"{name}: {who}": probe.sums[who][:, i] for i, name in enumerate(names, 2)}
    begin = len(part) - len(lives["test"])
    drifting = (
        table(lives["test"]).iloc[np.flatnonzero(mine)[probe.history] - begin].assign(**columns)
    )
    scalars = {"selectivity": probe.controls["selectivity"]} | {
        f"tap: {tap}": score for tap, score in probe.taps.items()
    }
    draws = draws_of(permutation=probe.null, **scalars)
    others = days["regime"][begin:]
    if YOKED not in others:  # a corpus without anybody to compare with
        return drifting.reset_index(drop=True), draws
    test = {name: values[begin:] for name, values in days.items()}
    read = probe.read(streams[probe.tap][begin:].reshape(-1, streams[probe.tap].shape[-1])).reshape(
        test["used"].shape
    )
    pairs, wins = zip(
        *(_matched(values, test) for values in (read, test["B4"], -test["gifts"])), strict=True
    )
    columns = {"pairs": pairs[0]} | dict(
        zip(("wins", "wins: filter", "wins: gifts"), wins, strict=True)
    )
    yoked = table(lives["test"]).assign(**columns)[np.isin(others, (USE, YOKED))]
    return pd.concat([drifting, yoked], ignore_index=True), draws


def readings(
    model: CausalTransformer,
    lives: Mapping[str, Histories],
    site: str = "first visible",
    seed: int = 0,
) -> pd.DataFrame:
    """The test lives of D2 day by day: `label`, the true w_rel at the site's decision, as `read` by the probe, as `believed`."""
    import pandas as pd

    parts = zip(PARTS, checks.parts(lives, *PARTS), strict=True)  # the test lives last
    lives = {
        name: histories[checks.creatures(histories, *NEEDED).arrays["regime"] == DRIFT]
        for name, histories in parts
    }
    days = [_site(histories, site, balance) for histories in lives.values()]
    days = {name: np.concatenate([day[name] for day in days]) for name in days[0]}
    part = np.repeat(
        [PARTS[name] for name in lives], [len(histories) for histories in lives.values()]
    )
    streams, n = _streams(model, lives, site, *STREAMS), len(part)
    how = {
        "where": days["used"],
        "groups": days["orbit"],
        "kinds": np.arange(n),
        "holdout": part,
        "permutations": 0,
    }
    probe = fit(Recording(streams, np.arange(n), np.zeros(0, int)), days["label"], **how, seed=seed)
    life, day = np.nonzero(days["used"] & (part == "test")[:, None])
    read = probe.read(streams[probe.tap][life, day]).ravel()
    about = table(lives["test"]).iloc[life - (n - len(lives["test"]))].reset_index(drop=True)
    return pd.concat(
        [
            about,
            pd.DataFrame(
                {
                    "day": day,
                    "label": days["label"][life, day],
                    "read": read,
                    "believed": days["B4"][life, day],
                }
            ),
        ],
        axis=1,
    )


def _others(
    plain: Callable, x: np.ndarray, of: Mapping[str, np.ndarray], seed: int
) -> dict[str, Probe]:
    """Probes of other labels, and of activations to which the belief was added along a random direction."""
    rng, belief = np.random.default_rng(seed), of["B4"]
    direction = rng.normal(size=x.shape[-1])
    length = PLANTED * np.sqrt(x[of["used"]].var(0).sum()) / belief[of["used"]].std()
    planted = x + length * belief[..., None] * direction / np.linalg.norm(direction)
    found, walk = plain(planted, belief), rng.normal(size=belief.shape).cumsum(1)
    return {
        "belief": plain(x, belief), "unrelated": plain(x, walk), "planted": plain(planted, of["label"]),
        "planted belief": found, "planted erased": plain(found.erase(planted), belief),
    }  # fmt: skip


def _streams(
    model, lives: Mapping[str, Histories], site: str, *taps: str, regime: int | None = None
) -> dict[str, np.ndarray]:
    """Per tap (N, E, D) at the site's decision of each day, 0 where there is none; of all sets, or their lives of one regime."""
    joined: dict[str, list] = {}
    for histories in lives.values():
        histories = histories if regime is None else histories[histories.arrays["regime"] == regime]
        at = _first(sites(histories)[site])
        for tap, values in gather(model, histories, at, *taps).items():
            placed = np.zeros((*at.shape[:2], values.shape[1]), np.float32)
            placed[at.any(2)] = values
            joined.setdefault(tap, []).append(placed)
    return {tap: np.concatenate(parts) for tap, parts in joined.items()}


def _first(at: np.ndarray) -> np.ndarray:
    return at & (at.cumsum(2) == 1)


def _site(histories: Histories, site: str, label) -> dict[str, np.ndarray]:
    """Labels and what is compared with activations, (N, E, ...) at the site's decision of each day, or (N,)."""
    a, at = checks.creatures(histories, *NEEDED).arrays, _first(sites(histories)[site])
    pick = lambda values: np.take_along_axis(values, at.argmax(2)[..., None], 2)[..., 0]
    day = np.broadcast_to(np.arange(at.shape[1]), at.shape[:2])
    jar = histories.task_values["jar"][histories.task] @ (5, 1)
    return {
        "used": at.any(2), "label": pick(label(histories)), "exposure": pick(exposure(histories)), "B4": pick(a["belief_rel"]),
        "B1": np.stack([pick(eaten(histories)), day], -1), "B3": _observed(histories),
        "gifts": (a["obs"][:, :, 0, GIFT] > 1).cumsum(1),
        "orbit": a["orbit"], "type": a["type"], "regime": a["regime"], "kind": 100 * a["type"].astype(int) + jar,
    }  # fmt: skip


def _observed(histories: Histories) -> np.ndarray:
    """(N, E, 27) what a patient observer would have counted by each morning, in all days before and in the last five."""
    a = histories.arrays
    seen = sites(histories)["all"] & (a["obs"][..., VISIBLE] > 0)
    seen[:, :, 0] = False
    toward = (
        seen
        & np.take_along_axis(directed(histories), a["action"][..., None].astype(int), -1)[..., 0]
    )
    ate = (a["reward"] > 0) & (a["reward"] < MEAL)
    morning = a["obs"][:, :, 0]
    counts = (
        seen.any(2), ate.any(2), ate.sum(2), toward.sum(2), seen.sum(2), a["action"][:, :, 0] == HIDE, histories.length,
        a["terminated"].any(2), (a["action"] == EAT).sum(2), morning[..., STOCK] == 2, morning[..., GIFT],
    )  # fmt: skip
    today = np.stack(counts, -1).astype(float)
    total = today.cumsum(1) - today
    recent = total - np.pad(total, [(0, 0), (5, 0), (0, 0)])[:, :-5]
    shares = [(part[..., [1, 3]] + 1) / (part[..., [0, 4]] + 2) for part in (total, recent)]
    day = np.broadcast_to(np.arange(today.shape[1])[:, None], (*today.shape[:2], 1))
    return np.concatenate([total, recent, *shares, day], axis=-1)


def _quadratic(x: np.ndarray) -> np.ndarray:
    """Features (..., k), and their products."""
    x = (x - x.mean((0, 1))) / np.maximum(x.std((0, 1)), 1e-9)
    i, j = np.triu_indices(x.shape[-1])
    return np.concatenate([x, x[..., i] * x[..., j]], axis=-1)


def _matched(read: np.ndarray, of: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(N,) pairs of a life's decisions with those of the other of D1 and D5 at the same exposure; in how many D1 is read higher."""
    pairs, wins = np.zeros((2, len(read)))
    life, day = np.nonzero(of["used"] & np.isin(of["regime"], (USE, YOKED))[:, None])
    used, cell = of["regime"][life] == USE, of["exposure"][life, day]
    for one in np.unique(cell):
        a, b = (np.flatnonzero((cell == one) & side) for side in (used, ~used))
        higher = read[life[a], day[a]][:, None] - read[life[b], day[b]]  # (D1, D5)
        higher = (np.sign(higher) + 1) / 2
        for side, own in ((a, higher), (b, higher.T)):
            np.add.at(wins, life[side], own.sum(1))
            np.add.at(pairs, life[side], own.shape[1])
    return pairs, wins


# ---- from frames of all seeds ----


def measured(lives: pd.DataFrame, draws: pd.DataFrame) -> dict[str, Interval | float]:
    """What H2a and H2a_future name, of frames of all seeds; `null` is phi with the labels dealt to other lives."""
    checks.columns(lives, "seed", "orbit", "regime", "spread", "missed: probe", made_by=PER_LIFE)
    checks.columns(draws, "kind", "draw", "value", made_by="draws that drift.per_life makes too")
    drifts = lives[lives["spread"].notna()]
    of = lambda names, statistic: interval(
        drifts, names, lambda m: statistic(*np.moveaxis(m, -1, 0))
    )
    r2 = lambda name, spread="spread": of(
        [f"missed: {name}", spread], lambda missed, all: 1 - missed / all
    )
    gain = lambda low, high, all: (
        (np.minimum(low, all) - high) / all
    )  # who reads worse than the mean is told the mean
    over = lambda name: of([f"missed: {name}", "missed: probe", "spread"], gain)
    phi = lambda name: of(
        [f"missed: {who}" for who in ("B1", name, "B4")],
        lambda low, mid, high: (low - mid) / (low - high),
    )
    withins = [
        f"within {part}: {who}" for who in ("probe", "B4") for part in ("product", "read", "label")
    ]
    within = lambda product, read, label: product * np.abs(product) / (read * label)
    null = draws[draws["kind"] == "permutation"].groupby("draw")["value"].mean().to_numpy()
    p = float((1 + (null >= r2("probe").estimate).sum()) / (1 + len(null)))
    twins = [name for name in TWINS if f"missed: {name}" in lives]
    found = {
        "phi": phi("probe"),
        "over_logits": over("logits"),
        "over_rich_features": over("B3"),
        "headroom": of(["missed: B1", "missed: B4", "spread"], gain),
        "planted_phi": phi("planted"),
        "unrelated_r2": r2("unrelated", "spread: unrelated"),
        "belief_r2": r2("belief", "spread: belief"),
        "level_r2": of(["level missed: probe", "level spread: probe"], lambda missed, all: 1 - missed / all),
        "within_r2": of(withins[:3], within),
        "within_share_of_filter": of(withins, lambda *m: within(*m[:3]) / within(*m[3:])),
        "selectivity": float(draws.loc[draws["kind"] == "selectivity", "value"].mean()),
        "permutation_p": p, "p": p, "null": (null - r2("B1").estimate) / (r2("B4").estimate - r2("B1").estimate),
    }  # fmt: skip
    found |= {f"over_{name.replace(' ', '_')}": over(name) for name in twins}
    if "wins" in lives:
        found |= {f"yoked_auc{who}": _area(lives, f"wins{wins}") for who, wins in YOKED_BY.items()}
    return found | ({"action_only_phi": phi("action only")} if "action only" in twins else {})


def _area(lives: pd.DataFrame, wins: str) -> Interval:
    """The share of pairs in which D1 is read higher. Both of a pair count it, hence twice, and vary with the lives of both."""
    sides = [(lives["regime"] == side).to_numpy() for side in ("D1", "D5")]
    columns = [np.where(side, lives[name], 0) for side in sides for name in (wins, "pairs")]
    once = columns[0].sum() / columns[1].sum()
    yoked = lives.assign(**{f"side {i}": values for i, values in enumerate(columns)})[
        sides[0] | sides[1]
    ]
    return interval(
        yoked,
        [f"side {i}" for i in range(4)],
        lambda m: m[..., 0] / m[..., 1] + m[..., 2] / m[..., 3] - once,
    )


def measured_controls(
    lives: pd.DataFrame, tolerance: pd.DataFrame | None = None
) -> dict[str, Interval]:
    """What gates G2 and G3 name of `per_life`; `tolerance` is that of the corpus, and the label, in which reward shows it."""
    drifts = checks.rows(lives, PER_LIFE, regime=["D2"])
    r2 = lambda name, spread: interval(
        drifts, [f"missed: {name}", spread], lambda m: 1 - m[..., 0] / m[..., 1]
    )
    found = {
        "planted_found": r2("planted belief", "spread: belief"),
        "planted_erased": r2("planted erased", "spread: belief"),
    }
    found["untrained_r2"] = r2("untrained", "spread")
    if tolerance is not None:
        found["tolerance_visible_r2"] = over_counting(tolerance)
    return found


def over_counting(lives: pd.DataFrame) -> Interval:
    """R2 of the probe over that of B1, who counts cookies, or of the mean."""
    columns = ["missed: B1", "missed: probe", "spread"]
    drifts = checks.rows(lives, PER_LIFE, regime=["D2"])
    return interval(
        drifts, columns, lambda m: (np.minimum(m[..., 0], m[..., 2]) - m[..., 1]) / m[..., 2]
    )
