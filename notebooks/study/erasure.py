"""H2b: does the model use the drifting strength w?

If it does, erasing the linear representation of w, or holding it at the lifetime's own mean, should
raise the loss on drifting agents. Activations are changed at cookie-visible tokens, in the stream
after one block; the loss is judged at the same tokens against the source's exact policy. Lifetimes
come in parts, see `drift`; erasers are never fitted on the test lifetimes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

import adkit as ad
from adkit.cookieworld.world import POSITION
from adkit.models.taps import matching
from adkit.probing import Eraser, erasure_effect, fit, gather, patch
from adkit.probing.erasure import leace
from adkit.probing.outcomes import log_probabilities
from adkit.probing.probes import PENALTIES, ridge_errors
from adkit.probing.record import only_at
from adkit.stats import Interval
from study import corpora
from study import statistics as stats
from study.corpora import Lifetimes, balance, directed, evenly, population, sites

SIDES = {"drifting": ("D2",), "stable": ("D0", "D5")}
PARTNERS = 4, 5, 6  # seeds of other agents in the same worlds
TOKENS = 15_000  # of each part, on which the probe of what erasing leaves is fitted


# ---- what is erased, and where ----


@dataclass(frozen=True, eq=False)
class Choice:
    """Where w is read best, and what erases it there."""

    tap: str
    r2: dict[str, float]
    """R2 of w on validation lifetimes, by tap."""
    w: Eraser
    cue: Eraser
    read: dict[str, tuple[np.ndarray, np.ndarray]]
    """By part: activations (n, D) at the tap, and w (n,), at cookie-visible tokens."""


def choose(model: ad.CausalTransformer, lifetimes: Lifetimes) -> Choice:
    """Choose the block, of all but the last, where w is read best on validation lifetimes."""
    taps = matching(model, "blocks.*.resid")[:-1]  # after the last only the head reads
    x, w, visible = {}, {}, {}
    for part in ("probe train", "probe val"):
        where = sites(lifetimes[part])
        found = gather(model, lifetimes[part], where["jar in view"], *taps)
        x[part] = {tap: values.astype(float) for tap, values in found.items()}
        visible[part] = where["cookie visible"][where["jar in view"]]
        w[part] = balance(lifetimes[part])[where["cookie visible"]].astype(float)
    reads = {tap: {part: (x[part][tap][visible[part]], w[part]) for part in x} for tap in taps}
    r2 = {tap: _r2(*read.values()) for tap, read in reads.items()}
    tap = max(r2, key=r2.get)
    cue = leace(x["probe train"][tap], visible["probe train"][:, None].astype(float))
    of_w, label = reads[tap]["probe train"]
    return Choice(tap, r2, leace(of_w, label[:, None]), cue, reads[tap])


def _r2(train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the validation R2 of the best ridge for a label (n,) from activations (n, D)."""
    (x, y), (x_val, y_val) = train, val
    joined = (np.concatenate([x, x_val]) - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    part = np.repeat([0, 1], [len(x), len(x_val)])
    errors = ridge_errors(joined, np.concatenate([y, y_val])[:, None], part, PENALTIES)
    return float(1 - errors[:, 0].min() / ((y_val - y.mean()) ** 2).sum())


def half_and_half(histories: ad.Histories, n: int) -> ad.Histories:
    """Return at most `n` lifetimes, half of them drifting and half stable, evenly spaced."""
    regime = corpora.table(histories)["regime"]
    rows = [evenly(np.flatnonzero(regime.isin(kinds)), n // 2) for kinds in SIDES.values()]
    return histories[np.sort(np.concatenate(rows))]


# ---- the table ----


class Decisions:
    """Some decisions of lifetimes, and what a model makes of them."""

    def __init__(self, model: ad.CausalTransformer, histories: ad.Histories, here: np.ndarray):
        self.model, self.histories, self.here = model, histories, here
        self.lifetime, self.w = np.nonzero(here)[0], balance(histories)[here]
        self.jar, self.pi = directed(histories)[here], histories.arrays["pi"][here]

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum values (n,) of decisions over lifetimes (N,)."""
        return np.bincount(self.lifetime, values, minlength=len(self.histories))

    def predicted(self, logits: np.ndarray) -> np.ndarray:
        """Return the action probabilities (n, 8) of logits (N, E, H + 1, 8)."""
        return np.exp(log_probabilities(logits, self.here))

    def nats(self, p: np.ndarray) -> np.ndarray:
        """Return the cross-entropy (N,) of the source's policy under predictions p (n, 8)."""
        return self.sum(corpora.cross_entropy(self.pi, p))

    def odds(self, logits: np.ndarray) -> np.ndarray:
        """Return the log odds (n,) of going for the jar, of logits (N, E, H + 1, 8)."""
        return corpora.log_odds((self.predicted(logits) * self.jar).sum(-1))


def per_lifetime(
    model: ad.CausalTransformer, lifetimes: Lifetimes, n: int, random: int, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the effects of erasing on test lifetimes of D2, D0 and D5, and draws of the null.

    Sums over a lifetime's "n" cookie-visible decisions: "nats: x" is the cross-entropy with nothing
    done ("clean"), w "erased", w "frozen" at the lifetime's mean, or the "cue" erased; "x at
    random", the mean over random coordinates. Of filters: "filter", and "static", which assumes
    that nobody drifts. "l: clean" and "wl: clean" sum the log odds of going for the jar, and their
    products with w. "missed: erased" and "spread" are squared errors of a probe of w after erasing.
    "pair x" belongs to `_exchanged`.
    """
    choice, histories = choose(model, lifetimes), half_and_half(lifetimes["test"], n)
    where = sites(histories)
    made = Decisions(model, histories, where["cookie visible"])
    outcome = lambda logits: made.nats(made.predicted(logits))
    without_cue = {choice.tap: only_at(where["jar in view"], choice.cue)}
    nats = {"cue": outcome(ad.record(model, histories, changes=without_cue).array)}
    nulls, how = {}, {"at": made.here, "random": random, "seed": seed}
    for name, freeze in {"erased": False, "frozen": True}.items():
        erasers = {choice.tap: choice.w}
        effect = erasure_effect(model, histories, erasers, outcome, freeze=freeze, **how)
        nats |= {"clean": effect.clean, name: effect.erased}
        nats[f"{name} at random"] = effect.random.mean(0)
        nulls[f"{name} at random"] = effect.random - effect.clean
    nats["filter"] = made.nats(histories.arrays["belief_pi"][made.here])
    static = ad.ParticleFilter(replace(population(), walk=(0.0, 0.0))).follow(histories)
    nats["static"] = made.nats(static["belief_pi"][made.here])
    w, odds = made.w, made.odds(ad.record(model, histories).array)
    sums = {"n": np.ones(len(w)), "w": w, "ww": w * w, "l: clean": odds, "wl: clean": w * odds}
    columns = {name: made.sum(values) for name, values in sums.items()}
    columns |= {f"nats: {name}": values for name, values in nats.items()}
    columns |= _left(choice, made, seed) | _exchanged(choice, made)
    frame = corpora.table(histories, **columns)
    draws = {name: [_contrast(frame, lost) for lost in null] for name, null in nulls.items()}
    return frame, stats.draws_of(**draws)


def _left(choice: Choice, made: Decisions, seed: int) -> dict[str, np.ndarray]:
    """Return the errors of a probe of w after erasing.

    It trains on probe val, which the eraser was not fitted on.
    """
    tests = gather(made.model, made.histories, made.here, choice.tap)[choice.tap], made.w
    thin = [tuple(v[:: -(-len(v) // TOKENS)] for v in read) for read in choice.read.values()]
    x, w = (np.concatenate(values)[:, None] for values in zip(*thin, tests, strict=True))
    part = np.repeat(["val", "train", "test"], [len(y) for _, y in (*thin, tests)])
    how = {"groups": np.arange(len(x)), "holdout": part, "permutations": 0, "seed": seed}
    sums = fit(choice.w(x), w, **how).sums["probe"]
    return {"missed: erased": made.sum(sums.missed), "spread": made.sum(sums.spread)}


def _exchanged(choice: Choice, made: Decisions) -> dict[str, np.ndarray]:
    """Return what partners' streams, and their w coordinates alone, do to the log odds.

    A partner is another agent of D2 in the same world, compared where both stand at the same place
    at the same time. Tokens count in the direction from the weaker to the stronger w; "pair w" is
    how much stronger. 0 for lifetimes that do not drift.
    """
    drifting = made.histories.arrays["regime"] == 2
    base, source = made.histories[drifting], replace(population(), regimes={"D2": 1})
    tasks, how = base.task_values[base.task], {"episodes": base.n_episodes}
    names = ("w", "base", "donor", "full", "coordinate")
    totals = {f"pair {name}": np.zeros(len(drifting)) for name in names}
    for seed in PARTNERS:
        donor = ad.collect(corpora.world(), tasks, source, seed=seed, **how)
        here = sites(base)["cookie visible"] & sites(donor)["cookie visible"]
        here &= base.arrays["obs"][..., POSITION] == donor.arrays["obs"][..., POSITION]
        pairs, gap = Decisions(made.model, base, here), (balance(donor) - balance(base))[here]
        odds = lambda logits, pairs=pairs, gap=gap: pairs.sum(np.sign(gap) * pairs.odds(logits))
        where = {"positions": {"here": here}, "subspace": choice.w}
        found = patch(made.model, base, donor, choice.tap, odds, **where)
        patched = found.base, found.donor, found.full[0, 0], found.patched[0, 0]
        for name, values in zip(names, (pairs.sum(np.abs(gap)), *patched), strict=True):
            totals[f"pair {name}"][drifting] += values
    return totals


# ---- measures, from tables of all seeds ----


_apart = lambda m: m[..., 0] / m[..., 1] - m[..., 2] / m[..., 3]
# the nats that one change costs more than another, per lifetime
_lost = lambda frame, change, instead: frame[f"nats: {change}"] - frame[f"nats: {instead}"]


def _contrast(frame: pd.DataFrame, lost: np.ndarray, make: Callable = stats.mean_of):
    """Return the nats (N,) lost per decision of drifting lifetimes minus those of stable ones."""
    columns = {}
    for side, kinds in SIDES.items():
        inside = frame["regime"].isin(kinds)
        columns |= {f"{side} lost": lost * inside, f"{side} n": frame["n"] * inside}
    return make(frame.assign(**columns), list(columns), _apart)


def _loss(frame: pd.DataFrame, change: str, instead: str) -> Interval:
    """Return the nats per decision that one change costs more than another."""
    frame = frame.assign(lost=_lost(frame, change, instead))
    return stats.interval(frame, ["lost", "n"], stats.ratio)


def _fidelity(m: np.ndarray) -> np.ndarray:
    """Return what exchanging w does per unit of w, over the slope of the log odds on w."""
    n, w, ww, odds, product, base, coordinate, gap = np.moveaxis(m, -1, 0)
    slope = (product / n - w * odds / n**2) / (ww / n - w * w / n**2)  # least squares
    return (coordinate - base) / gap / slope


def measured(frame: pd.DataFrame, draws: pd.DataFrame) -> stats.Measures:
    """Measure what H2b names; `null` is `frozen_delta` of the random coordinates."""
    drifting, stable = (stats.pick(frame, regime=kinds) for kinds in SIDES.values())
    contrast = lambda *changes: _contrast(frame, _lost(frame, *changes), stats.interval)
    null = {change: stats.of_kind(draws, f"{change} at random") for change in ("erased", "frozen")}
    seeds = [of for _, of in frame.groupby("seed")]
    by_seed = lambda change: [_contrast(of, _lost(of, change, "clean")) for of in seeds]
    p = {change: stats.exchange_p(by_seed(change), others) for change, others in null.items()}
    pairs = [f"pair {name}" for name in ("base", "full", "donor")]
    read = frame[frame["n"] > 0]
    exchanged = ["n", "w", "ww", "l: clean", "wl: clean", "pair base", "pair coordinate", "pair w"]
    return {
        "random_p": p["erased"],
        "drifting_loss": _loss(drifting, "erased", "erased at random"),
        "stable_loss": _loss(stable, "erased", "erased at random"),
        "erased_contrast": contrast("erased", "clean"),
        "frozen_contrast": contrast("frozen", "clean"),
        "frozen_delta": contrast("frozen", "frozen at random"),
        "frozen_p": p["frozen"],
        "frozen_stable_loss": _loss(stable, "frozen", "clean"),
        "frozen_stable_excess": _loss(stable, "frozen", "frozen at random"),
        "drift_tracking_value": contrast("static", "filter"),
        "cue_erasure": _loss(frame, "cue", "clean"),
        "full_patch_share": stats.interval(drifting, pairs, stats.share),
        "interchange_fidelity": stats.interval(drifting, exchanged, _fidelity),
        "after_erasure_r2": stats.interval(read, ["missed: erased", "spread"], stats.explained),
        "p": p["frozen"],
        "null": null["frozen"].mean(0) - null["frozen"].mean(),
    }
