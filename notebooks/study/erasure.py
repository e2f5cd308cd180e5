"""H2b: does the model use the drifting strength w?

If it does, erasing the linear representation of w, or holding it at the lifetime's own mean, should
raise the loss on drifting agents. Activations are changed at cookie-visible tokens, in the stream
after one block; the loss is judged at the same tokens against the source's exact policy. Lifetimes
come in parts, see `drift`; erasers are never fitted on the test lifetimes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from adkit.cookieworld.observer import ParticleFilter
from adkit.cookieworld.world import POSITION
from adkit.histories import Histories
from adkit.models.transformer import CausalTransformer
from adkit.probing import Eraser, erasure_effect, fit, gather, off_unembedding, patch
from adkit.probing.outcomes import log_probabilities
from adkit.probing.record import only_at, record
from adkit.rollout import collect
from adkit.stats import Interval
from study.corpora import (
    balance,
    directed,
    interval,
    log_odds,
    population,
    ratio,
    sites,
    table,
    world,
)
from study.erasers import Choice, near_jar
from study.statistics import draws_of, exchange_p

DRIFTING, STABLE = ("D2",), ("D0", "D5")
CONTROL_DRAWS = 10  # random erasures beside the control concept
PARTNERS = 4, 5, 6  # seeds of other agents in the same worlds


def half_and_half(histories: Histories, n: int) -> Histories:
    """Return at most `n` lifetimes, half of them drifting and half stable, evenly spaced."""
    regime = np.char.add("D", histories.arrays["regime"].astype(str))
    taken = []
    for kinds in (DRIFTING, STABLE):
        side = np.flatnonzero(np.isin(regime, kinds))
        taken.append(side[np.linspace(0, len(side) - 1, min(n // 2, len(side))).astype(int)])
    return histories[np.sort(np.concatenate(taken))]


# ---- the table ----


class Bench:
    """One model on some lifetimes, and the effect of changing its activations there."""

    def __init__(self, model: CausalTransformer, histories: Histories):
        self.model, self.histories = model, histories
        self.here = sites(histories)["cookie visible"]
        self.lifetime, self.w = np.nonzero(self.here)[0], balance(histories)[self.here]
        self.jar = directed(histories)[self.here]

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum values (n,) of decisions over lifetimes (N,)."""
        return np.bincount(self.lifetime, values, minlength=len(self.histories))

    def nats(self, p: np.ndarray) -> np.ndarray:
        """Return the cross-entropy (N,) of the source's policy under predictions p (n, 8)."""
        pi = self.histories.arrays["pi"][self.here]
        return self.sum(-(pi * np.log(np.maximum(p, 1e-9))).sum(-1))

    def odds(self, logits: np.ndarray) -> np.ndarray:
        """Return the log odds (n,) of going for the jar, of logits (N, E, H + 1, 8)."""
        return log_odds((self.softmax(logits) * self.jar).sum(-1))

    def softmax(self, logits: np.ndarray) -> np.ndarray:
        return np.exp(log_probabilities(logits, self.here))

    def outcome(self, logits: np.ndarray) -> np.ndarray:
        """Return (N, 3): nats, log odds, and log odds times w, each summed over decisions."""
        odds = self.odds(logits)
        sums = self.nats(self.softmax(logits)), self.sum(odds), self.sum(self.w * odds)
        return np.stack(sums, -1)

    def erased(self, erasers: Mapping[str, Eraser], at: np.ndarray) -> np.ndarray:
        """Return the outcome with erasers at their taps, at the decisions `at`."""
        changes = {tap: only_at(at, eraser) for tap, eraser in erasers.items()}
        return self.outcome(record(self.model, self.histories, changes=changes).array)


def per_lifetime(
    model: CausalTransformer,
    test: Histories,
    choice: Choice,
    *,
    n: int = 160,
    random: int = 30,
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
    histories = half_and_half(test, n)
    bench, tap, erasers = Bench(model, histories), choice.tap, choice.erasers
    found = {
        "cue": bench.erased({tap: erasers["cue"]}, near_jar(histories)),
        "all layers": bench.erased(choice.everywhere, bench.here),
    }
    cases = {
        "erased": (erasers["w"], {"random": random}),
        "frozen": (erasers["w"], {"random": random, "freeze": True}),
        "control": (erasers["control"], {"random": CONTROL_DRAWS}),
    }
    draws, how = {}, {"at": bench.here, "seed": seed}
    for name, (eraser, more) in cases.items():
        effect = erasure_effect(model, histories, {tap: eraser}, bench.outcome, **how, **more)
        draws[name] = effect.random
        found |= {"clean": effect.clean, name: effect.erased}
        found[f"{name} at random"] = effect.random.mean(0)
    columns = _columns(bench, found)
    stream = gather(model, histories, bench.here, tap)[tap]
    columns |= _left(choice, stream, bench, seed)
    columns |= _exchanged(model, histories, choice)
    frame = table(histories, **columns)
    nulls = {}
    for name in ("erased", "frozen"):
        lost = [draw[:, 0] - columns["nats: clean"] for draw in draws[name]]
        nulls[f"{name} at random"] = np.array([contrast(frame, nats) for nats in lost])
    share = off_unembedding(erasers["w"].directions[:, 0], model)[1]
    return frame, draws_of(**nulls, unembedding=share, **choice.r2)


def _columns(bench: Bench, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the columns about predictions: counts, nats, log odds, and the filters' nats."""
    labels, w = bench.histories.arrays, bench.w
    observer = ParticleFilter(replace(population(labelled=True), walk=(0.0, 0.0)))
    static = observer.follow(bench.histories)["belief_pi"]
    filters = {"filter": labels["belief_pi"], "static": static, "prior": labels["prior_pi"]}
    columns = {"n": bench.sum(np.ones(len(w))), "w": bench.sum(w), "ww": bench.sum(w * w)}
    columns |= {f"nats: {name}": values[:, 0] for name, values in found.items()}
    columns |= {f"nats: {name}": bench.nats(p[bench.here]) for name, p in filters.items()}
    for i, name in ((1, "l"), (2, "wl")):
        for case in ("clean", "erased", "frozen"):
            columns[f"{name}: {case}"] = found[case][:, i]
    return columns


def _left(choice: Choice, x: np.ndarray, bench: Bench, seed: int) -> dict[str, np.ndarray]:
    """Return the errors of probes of w before and after erasing, and of a non-linear one after."""
    read, label, part = choice.train
    x = np.concatenate([read, x])[:, None]
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


def _exchanged(model: CausalTransformer, histories: Histories, choice: Choice) -> dict:
    """Return what partners' streams, and their w coordinates alone, do to the log odds.

    A partner is another agent of D2 in the same world, compared where both stand at the same place
    at the same time. Tokens count in the direction from the weaker to the stronger w; "pair w" is
    how much stronger. 0 for lifetimes that do not drift.
    """
    drifting = np.flatnonzero(histories.arrays["regime"] == 2)
    base = histories[drifting]
    totals = dict.fromkeys(("n", "w", "base", "donor", "full", "coordinate"), 0.0)
    tasks = base.task_values[base.task]
    source = replace(population(labelled=True), regimes={"D2": 1})
    for seed in PARTNERS:
        donor = collect(world(), tasks, source, episodes=base.n_episodes, seed=seed)
        for name, values in _exchange(model, base, donor, choice).items():
            totals[name] = totals[name] + values
    placed = np.zeros((len(totals), len(histories)))
    placed[:, drifting] = list(totals.values())
    return {f"pair {name}": values for name, values in zip(totals, placed, strict=True)}


def _exchange(model, base: Histories, donor: Histories, choice: Choice) -> dict:
    """Return the sums of `_exchanged` (N,) for one partner of each lifetime."""
    here = sites(base)["cookie visible"] & sites(donor)["cookie visible"]
    here &= base.arrays["obs"][..., POSITION] == donor.arrays["obs"][..., POSITION]
    gap, lifetime = (balance(donor) - balance(base))[here], np.nonzero(here)[0]
    jar, n = directed(base)[here], len(base)

    def odds(logits: np.ndarray) -> np.ndarray:
        p = np.exp(log_probabilities(logits, here))
        return np.bincount(lifetime, np.sign(gap) * log_odds((p * jar).sum(-1)), n)

    where = {"positions": {"here": here}, "subspace": choice.erasers["w"]}
    patched = patch(model, base, donor, choice.tap, odds, **where)
    return {
        "n": np.bincount(lifetime, minlength=n),
        "w": np.bincount(lifetime, np.abs(gap), n),
        "base": patched.base,
        "donor": patched.donor,
        "full": patched.full[0, 0],
        "coordinate": patched.patched[0, 0],
    }


def contrast(frame: pd.DataFrame, nats: np.ndarray) -> float:
    """Return the nats per decision of drifting lifetimes minus those of stable ones."""
    sides = [frame["regime"].isin(kinds).to_numpy() for kinds in (DRIFTING, STABLE)]
    n = frame["n"].to_numpy()
    drifting, stable = (np.asarray(nats)[side].sum() / n[side].sum() for side in sides)
    return float(drifting - stable)


# ---- measures, from tables of all seeds ----


class Sides:
    """The table of all seeds, with its drifting and its stable lifetimes."""

    def __init__(self, frame: pd.DataFrame):
        self.frame = frame
        self.drifting, self.stable = (frame["regime"].isin(of) for of in (DRIFTING, STABLE))

    def lost(self, change: str, instead: str) -> np.ndarray:
        """Return the nats that one change costs more than another, per lifetime."""
        return (self.frame[f"nats: {change}"] - self.frame[f"nats: {instead}"]).to_numpy()

    def loss(self, side: pd.Series, change: str, instead: str) -> Interval:
        """Return the nats per decision on one side."""
        frame = self.frame.assign(lost=self.lost(change, instead))[side]
        return interval(frame, ["lost", "n"], ratio)

    def contrast(self, change: str, instead: str, *minus: str) -> Interval:
        """Return the nats per decision of drifting lifetimes minus those of stable ones.

        `minus` names another (change, instead) whose cost is taken off first.
        """
        lost = self.lost(change, instead) - (self.lost(*minus) if minus else 0)
        columns = {}
        for name, side in (("drifting", self.drifting), ("stable", self.stable)):
            columns[f"{name} lost"] = np.where(side, lost, 0)
            columns[f"{name} n"] = np.where(side, self.frame["n"], 0)
        per_decision = lambda m: m[..., 0] / m[..., 1] - m[..., 2] / m[..., 3]
        return interval(self.frame.assign(**columns), list(columns), per_decision)

    def within_slope_loss(self, change: str) -> Interval:
        """Return the share of the slope of log odds on w within lifetimes that a change removes."""
        frame = self.frame
        inner = lambda name: frame[f"wl: {name}"] - frame["w"] * frame[f"l: {name}"] / frame["n"]
        frame = frame.assign(changed=inner(change), clean=inner("clean"))
        frame = frame[self.drifting & (frame["n"] > 0)]
        return interval(frame, ["changed", "clean"], lambda m: 1 - ratio(m))

    def of_drifting(self, columns: list[str], statistic) -> Interval:
        return interval(self.frame[self.drifting], columns, statistic)

    def r2(self, name: str) -> Interval:
        frame = self.frame[self.frame["n"] > 0]
        return interval(frame, [f"missed: {name}", "spread"], lambda m: 1 - ratio(m))

    def exchange_p(self, change: str, null: np.ndarray) -> float:
        """Return the exact p of a change among random coordinates (seeds, draws), over seeds."""
        seeds = [of for _, of in self.frame.groupby("seed")]
        lost = [contrast(of, Sides(of).lost(change, "clean")) for of in seeds]
        return exchange_p(lost, null)


def _slope(m: np.ndarray, odds: int, product: int) -> np.ndarray:
    """Return the least-squares slope of log odds on w from the means (n, w, ww, ...)."""
    n, w, ww = m[..., 0], m[..., 1], m[..., 2]
    return (m[..., product] / n - w * m[..., odds] / n**2) / (ww / n - w * w / n**2)


def _fidelity(m: np.ndarray) -> np.ndarray:
    """Return what exchanging w does per unit of w, over the slope of the log odds on w."""
    base, coordinate, gap = m[..., 5], m[..., 6], m[..., 7]
    return (coordinate - base) / gap / _slope(m, 3, 4)


def measured(frame: pd.DataFrame, draws: pd.DataFrame) -> dict[str, Interval | float]:
    """Measure what H2b names; `null` is `frozen_delta` of the random coordinates."""
    sides = Sides(frame)
    everyone = sides.drifting | sides.stable
    sums, clean = ["n", "w", "ww"], ["l: clean", "wl: clean"]
    null = {
        change: draws[draws["kind"] == f"{change} at random"]
        .pivot(index="seed", columns="draw", values="value")
        .to_numpy()
        for change in ("erased", "frozen")
    }
    p = {change: sides.exchange_p(change, null[change]) for change in null}
    fall = lambda m: 1 - _slope(m, 5, 6) / _slope(m, 3, 4)
    pairs = ["pair base", "pair donor", "pair full"]
    share = lambda m: (m[..., 2] - m[..., 0]) / (m[..., 1] - m[..., 0])
    exchanged = [*sums, *clean, "pair base", "pair coordinate", "pair w"]
    return {
        "delta": sides.contrast("erased", "erased at random", "control", "control at random"),
        "random_p": p["erased"],
        "slope_loss": sides.of_drifting([*sums, *clean, "l: erased", "wl: erased"], fall),
        "within_slope_loss": sides.within_slope_loss("erased"),
        "drifting_loss": sides.loss(sides.drifting, "erased", "erased at random"),
        "stable_loss": sides.loss(sides.stable, "erased", "erased at random"),
        "control_delta": sides.contrast("control", "control at random"),
        "all_layers_delta": sides.contrast("all layers", "clean"),
        "erased_contrast": sides.contrast("erased", "clean"),
        "frozen_contrast": sides.contrast("frozen", "clean"),
        "frozen_delta": sides.contrast("frozen", "frozen at random"),
        "frozen_p": p["frozen"],
        "frozen_stable_loss": sides.loss(sides.stable, "frozen", "clean"),
        "frozen_stable_excess": sides.loss(sides.stable, "frozen", "frozen at random"),
        "frozen_slope_loss": sides.within_slope_loss("frozen"),
        "tracking_value": sides.contrast("prior", "filter"),
        "drift_tracking_value": sides.contrast("static", "filter"),
        "level_value": sides.loss(everyone, "prior", "static"),
        "cue_erasure": sides.loss(everyone, "cue", "clean"),
        "full_patch_share": sides.of_drifting(pairs, share),
        "interchange_fidelity": sides.of_drifting(exchanged, _fidelity),
        "before_erasure_r2": sides.r2("clean"),
        "after_erasure_r2": sides.r2("erased"),
        "leftover_r2": sides.r2("erased, curved"),
        "unembedding_share": float(draws.loc[draws["kind"] == "unembedding", "value"].mean()),
        "p": p["frozen"],
        "null": null["frozen"].mean(0) - null["frozen"].mean(),
    }
