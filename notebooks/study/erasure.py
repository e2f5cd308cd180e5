"""H2b: does the model use the drifting strength w?

If it does, erasing the linear representation of w, or holding it at the lifetime's own mean, should
raise the loss on drifting agents. Activations are changed at cookie-visible tokens, in the stream
after one block; the loss is judged at the same tokens against the source's exact policy. Lifetimes
come in parts, see `drift`; erasers are never fitted on the test lifetimes.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

import adkit as ad
from adkit.cookieworld.world import POSITION
from adkit.probing import Eraser, erasure_effect, fit, gather, off_unembedding, patch
from adkit.probing.record import log_probabilities, only_at
from adkit.stats import Interval
from study import corpora
from study.corpora import balance, directed, evenly, population, sites
from study.erasers import Choice
from study.statistics import (
    Measures,
    draws_of,
    exchange_p,
    explained,
    interval,
    mean_of,
    of_kind,
    pick,
    ratio,
)

SIDES = {"drifting": ("D2",), "stable": ("D0", "D5")}
CONTROL_DRAWS = 10  # random erasures beside the control concept
PARTNERS = 4, 5, 6  # seeds of other agents in the same worlds


def half_and_half(histories: ad.Histories, n: int) -> ad.Histories:
    """Return at most `n` lifetimes, half of them drifting and half stable, evenly spaced."""
    regime = corpora.table(histories)["regime"]
    rows = [evenly(np.flatnonzero(regime.isin(kinds)), n // 2) for kinds in SIDES.values()]
    return histories[np.sort(np.concatenate(rows))]


# ---- the table ----


class Bench:
    """One model on some decisions of lifetimes, and the effect of changing its activations."""

    def __init__(self, model: ad.CausalTransformer, histories: ad.Histories, here: np.ndarray):
        self.model, self.histories, self.here = model, histories, here
        self.lifetime, self.w = np.nonzero(here)[0], balance(histories)[here]
        self.jar, self.pi = directed(histories)[here], histories.arrays["pi"][here]

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum values (n,) of decisions over lifetimes (N,)."""
        return np.bincount(self.lifetime, values, minlength=len(self.histories))

    def nats(self, p: np.ndarray) -> np.ndarray:
        """Return the cross-entropy (N,) of the source's policy under predictions p (n, 8)."""
        return self.sum(corpora.cross_entropy(self.pi, p))

    def odds(self, logits: np.ndarray) -> np.ndarray:
        """Return the log odds (n,) of going for the jar, of logits (N, E, H + 1, 8)."""
        p = np.exp(log_probabilities(logits, self.here))
        return corpora.log_odds((p * self.jar).sum(-1))

    def outcome(self, logits: np.ndarray) -> np.ndarray:
        """Return (N, 3): nats, log odds, and log odds times w, each summed over decisions."""
        odds, nats = self.odds(logits), self.nats(np.exp(log_probabilities(logits, self.here)))
        return np.stack([nats, self.sum(odds), self.sum(self.w * odds)], -1)

    def erased(self, erasers: Mapping[str, Eraser], at: np.ndarray) -> np.ndarray:
        """Return the outcome with erasers at their taps, at the decisions `at`."""
        changes = {tap: only_at(at, eraser) for tap, eraser in erasers.items()}
        return self.outcome(ad.record(self.model, self.histories, changes=changes).array)


def per_lifetime(
    model: ad.CausalTransformer,
    test: ad.Histories,
    choice: Choice,
    n: int,
    random: int,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the effects of erasing on test lifetimes of D2, D0 and D5, and draws of the null.

    Sums over a lifetime's "n" cookie-visible decisions: "nats: x" is the cross-entropy with nothing
    done ("clean"), w "erased", the "control" concept or the "cue" erased, w "frozen" at the
    lifetime's mean, w erased in "all layers"; "x at random", the mean over random coordinates. Of
    filters: "filter", "static" (assumes that nobody drifts), "prior" (learns nothing). "l: x" and
    "wl: x" sum the log odds of going for the jar, and their products with w. "spread" and
    "missed: x" are squared errors of probes of w. "pair x" belongs to `_exchanged`.
    """
    histories, tap, erasers = half_and_half(test, n), choice.tap, choice.erasers
    where = sites(histories)
    bench = Bench(model, histories, where["cookie visible"])
    found = {
        "cue": bench.erased({tap: erasers["cue"]}, where["jar in view"]),
        "all layers": bench.erased(choice.everywhere, bench.here),
    }
    cases = {
        "erased": (erasers["w"], {"random": random}),
        "frozen": (erasers["w"], {"random": random, "freeze": True}),
        "control": (erasers["control"], {"random": CONTROL_DRAWS}),
    }
    nulls, how = {}, {"at": bench.here, "seed": seed}
    for name, (eraser, more) in cases.items():
        effect = erasure_effect(model, histories, {tap: eraser}, bench.outcome, **how, **more)
        nulls[name] = effect.random[:, :, 0] - effect.clean[:, 0]
        found |= {"clean": effect.clean, name: effect.erased}
        found[f"{name} at random"] = effect.random.mean(0)
    columns = _columns(bench, found) | _left(choice, bench, seed) | _exchanged(bench, choice)
    frame = corpora.table(histories, **columns)
    apart = lambda name: [_contrast(frame, lost) for lost in nulls[name]]
    draws = {f"{name} at random": apart(name) for name in ("erased", "frozen")}
    share = off_unembedding(erasers["w"].directions[:, 0], model)[1]
    return frame, draws_of(**draws, unembedding=share, **choice.r2)


def _columns(bench: Bench, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the columns about predictions: counts, nats, log odds, and the filters' nats."""
    labels, w = bench.histories.arrays, bench.w
    observer = ad.ParticleFilter(replace(population(), walk=(0.0, 0.0)))
    static = observer.follow(bench.histories)["belief_pi"]
    filters = {"filter": labels["belief_pi"], "static": static, "prior": labels["prior_pi"]}
    columns = {"n": bench.sum(np.ones(len(w))), "w": bench.sum(w), "ww": bench.sum(w * w)}
    columns |= {f"nats: {name}": values[:, 0] for name, values in found.items()}
    columns |= {f"nats: {name}": bench.nats(p[bench.here]) for name, p in filters.items()}
    for case in ("clean", "erased", "frozen"):
        columns[f"l: {case}"], columns[f"wl: {case}"] = found[case][:, 1:].T
    return columns


def _left(choice: Choice, bench: Bench, seed: int) -> dict[str, np.ndarray]:
    """Return the errors of probes of w before and after erasing, and of a non-linear one after."""
    read, label, part = choice.train
    stream = gather(bench.model, bench.histories, bench.here, choice.tap)[choice.tap]
    x = np.concatenate([read, stream])[:, None]
    w = np.concatenate([label, bench.w])[:, None]
    part = [*part, *["test"] * len(bench.w)]
    how = {"groups": np.arange(len(x)), "holdout": part, "permutations": 0, "seed": seed}
    gone = choice.erasers["w"](x)
    probes = {
        "clean": fit(x, w, **how),
        "erased": fit(gone, w, **how),
        "erased, curved": fit(gone, w, curved=True, **how),
    }
    sums = {name: probe.sums["probe"] for name, probe in probes.items()}
    columns = {f"missed: {name}": bench.sum(values.missed) for name, values in sums.items()}
    return columns | {"spread": bench.sum(sums["clean"].spread)}


def _exchanged(bench: Bench, choice: Choice) -> dict[str, np.ndarray]:
    """Return what partners' streams, and their w coordinates alone, do to the log odds.

    A partner is another agent of D2 in the same world, compared where both stand at the same place
    at the same time. Tokens count in the direction from the weaker to the stronger w; "pair w" is
    how much stronger. 0 for lifetimes that do not drift.
    """
    drifting = bench.histories.arrays["regime"] == 2
    base, source = bench.histories[drifting], replace(population(), regimes={"D2": 1})
    tasks, how = base.task_values[base.task], {"episodes": base.n_episodes}
    names = ("w", "base", "donor", "full", "coordinate")
    totals = {f"pair {name}": np.zeros(len(drifting)) for name in names}
    for seed in PARTNERS:
        donor = ad.collect(corpora.world(), tasks, source, seed=seed, **how)
        here = sites(base)["cookie visible"] & sites(donor)["cookie visible"]
        here &= base.arrays["obs"][..., POSITION] == donor.arrays["obs"][..., POSITION]
        pairs, gap = Bench(bench.model, base, here), (balance(donor) - balance(base))[here]
        odds = lambda logits, pairs=pairs, gap=gap: pairs.sum(np.sign(gap) * pairs.odds(logits))
        where = {"positions": {"here": here}, "subspace": choice.erasers["w"]}
        found = patch(bench.model, base, donor, choice.tap, odds, **where)
        patched = found.base, found.donor, found.full[0, 0], found.patched[0, 0]
        for name, values in zip(names, (pairs.sum(np.abs(gap)), *patched), strict=True):
            totals[f"pair {name}"][drifting] += values
    return totals


# ---- measures, from tables of all seeds ----


_apart = lambda m: m[..., 0] / m[..., 1] - m[..., 2] / m[..., 3]
# the nats that one change costs more than another, per lifetime
_lost = lambda frame, change, instead: frame[f"nats: {change}"] - frame[f"nats: {instead}"]


def _contrast(frame: pd.DataFrame, lost: np.ndarray, make: Callable = mean_of):
    """Return the nats (N,) lost per decision of drifting lifetimes minus those of stable ones."""
    columns = {}
    for side, kinds in SIDES.items():
        inside = frame["regime"].isin(kinds)
        columns |= {f"{side} lost": lost * inside, f"{side} n": frame["n"] * inside}
    return make(frame.assign(**columns), list(columns), _apart)


def _loss(frame: pd.DataFrame, change: str, instead: str) -> Interval:
    """Return the nats per decision that one change costs more than another."""
    return interval(frame.assign(lost=_lost(frame, change, instead)), ["lost", "n"], ratio)


def _within_slope_loss(frame: pd.DataFrame, change: str) -> Interval:
    """Return the share of the slope of log odds on w within lifetimes that a change removes."""
    inner = lambda name: frame[f"wl: {name}"] - frame["w"] * frame[f"l: {name}"] / frame["n"]
    frame = frame.assign(changed=inner(change), clean=inner("clean"))
    return interval(frame[frame["n"] > 0], ["changed", "clean"], explained)


def _slope(m: np.ndarray, odds: int, product: int) -> np.ndarray:
    """Return the least-squares slope of log odds on w from the means (n, w, ww, ...)."""
    n, w, ww = m[..., 0], m[..., 1], m[..., 2]
    return (m[..., product] / n - w * m[..., odds] / n**2) / (ww / n - w * w / n**2)


def _fidelity(m: np.ndarray) -> np.ndarray:
    """Return what exchanging w does per unit of w, over the slope of the log odds on w."""
    base, coordinate, gap = m[..., 5], m[..., 6], m[..., 7]
    return (coordinate - base) / gap / _slope(m, 3, 4)


def measured(frame: pd.DataFrame, draws: pd.DataFrame) -> Measures:
    """Measure what H2b names; `null` is `frozen_delta` of the random coordinates."""
    drifting, stable = (pick(frame, regime=kinds) for kinds in SIDES.values())
    lost = lambda *changes: _lost(frame, *changes)
    contrast = lambda *changes: _contrast(frame, lost(*changes), interval)
    beyond_control = lost("erased", "erased at random") - lost("control", "control at random")
    clean = ["n", "w", "ww", "l: clean", "wl: clean"]
    null = {change: of_kind(draws, f"{change} at random") for change in ("erased", "frozen")}
    seeds = [of for _, of in frame.groupby("seed")]
    by_seed = lambda change: [_contrast(of, _lost(of, change, "clean")) for of in seeds]
    p = {change: exchange_p(by_seed(change), others) for change, others in null.items()}
    fall = lambda m: 1 - _slope(m, 5, 6) / _slope(m, 3, 4)
    share = lambda m: (m[..., 2] - m[..., 0]) / (m[..., 1] - m[..., 0])
    pairs = [f"pair {name}" for name in ("base", "donor", "full")]
    exchanged = [f"pair {name}" for name in ("base", "coordinate", "w")]
    r2 = lambda name: interval(frame[frame["n"] > 0], [f"missed: {name}", "spread"], explained)
    return {
        "delta": _contrast(frame, beyond_control, interval),
        "random_p": p["erased"],
        "slope_loss": interval(drifting, [*clean, "l: erased", "wl: erased"], fall),
        "within_slope_loss": _within_slope_loss(drifting, "erased"),
        "drifting_loss": _loss(drifting, "erased", "erased at random"),
        "stable_loss": _loss(stable, "erased", "erased at random"),
        "control_delta": contrast("control", "control at random"),
        "all_layers_delta": contrast("all layers", "clean"),
        "erased_contrast": contrast("erased", "clean"),
        "frozen_contrast": contrast("frozen", "clean"),
        "frozen_delta": contrast("frozen", "frozen at random"),
        "frozen_p": p["frozen"],
        "frozen_stable_loss": _loss(stable, "frozen", "clean"),
        "frozen_stable_excess": _loss(stable, "frozen", "frozen at random"),
        "frozen_slope_loss": _within_slope_loss(drifting, "frozen"),
        "tracking_value": contrast("prior", "filter"),
        "drift_tracking_value": contrast("static", "filter"),
        "level_value": _loss(frame, "prior", "static"),
        "cue_erasure": _loss(frame, "cue", "clean"),
        "full_patch_share": interval(drifting, pairs, share),
        "interchange_fidelity": interval(drifting, [*clean, *exchanged], _fidelity),
        "before_erasure_r2": r2("clean"),
        "after_erasure_r2": r2("erased"),
        "leftover_r2": r2("erased, curved"),
        "unembedding_share": float(of_kind(draws, "unembedding").mean()),
        "p": p["frozen"],
        "null": null["frozen"].mean(0) - null["frozen"].mean(),
    }
