"""H6: does the direction of w move cookie approach at the jar and hiding at home, which no action
vector does?

Vectors are fitted on probe train and judged on test lifetimes, whose layouts are of other orbits.
All vectors are added with one norm: dose 1 is a tenth of the stream's mean norm where it is added.
Beside the table stands one of random draws with the columns kind, draw, value.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

import adkit as ad
from adkit.cookieworld.world import EAT, HIDE
from adkit.probing import Steering, action_probability, difference_of_means, gather, off_unembedding
from adkit.probing.steering import DOSES, ENDS
from adkit.stats import Interval
from study.corpora import Lifetimes, balance, directed, evenly, exposure, sites, table
from study.erasure import choose
from study.interventions import edit
from study.statistics import Measures, difference, draws_of, exchange_p, interval, of_kind, pick

UP = DOSES[3:]
PAIRS, PAIR_DAY = 100, 20  # lifetimes whose cookie is hidden, and when, for the vector of the cue
KL_LIFETIMES = 12  # on which random vectors are scaled to equal KL
PLANNERS, HIDERS = "SL", "SLP"  # agents whose mornings are steered

Steer = Callable[[np.ndarray, float], np.ndarray]
"""A function of a vector (D,) and a dose."""


# ---- vectors ----


def vectors(
    model: ad.CausalTransformer, histories: ad.Histories, tap: str
) -> dict[str, np.ndarray]:
    """Return directions (D,) of the stream, fitted on probe train.

    w: mean activation at cookie-visible tokens where w is above its median, minus below, within
    strata of day and cookies eaten. off: w without what the head reads directly. cue: from pairs of
    the same lifetime that differ in whether a cookie is there. action: the head's row of EAT minus
    the mean of the others, HIDE left out.
    """
    here = sites(histories)["cookie visible"]
    x, w = gather(model, histories, here, tap)[tap], balance(histories)[here]
    of_w = difference_of_means(x, w > np.median(w), exposure(histories)[here])
    head = model.head.weight.detach().double().cpu().numpy()
    return {
        "w": of_w,
        "off": off_unembedding(of_w, model)[0],
        "cue": _cue(model, histories[:: -(-len(histories) // PAIRS)], tap),
        "action": head[EAT] - np.delete(head, [EAT, HIDE], 0).mean(0),
    }


def _cue(model: ad.CausalTransformer, histories: ad.Histories, tap: str) -> np.ndarray:
    made, sides = edit("cue", histories, PAIR_DAY), []
    pair = np.arange(len(made.rows))
    for version, step in ((made.before, made.at), (made.after, made.moved)):
        at = np.zeros(version.arrays["action"].shape, bool)
        at[pair, PAIR_DAY, step] = True
        sides.append(gather(model, version, at, tap)[tap])
    visible = np.repeat([True, False], len(pair))
    return difference_of_means(np.concatenate(sides), visible, np.tile(pair, 2))


# ---- steering ----


def steered(steering: Steering, actions: np.ndarray) -> Steer:
    """Return a function giving the mean probability (N,) of `actions` (N, E, H, 8)."""
    outcome = action_probability(actions, steering.at)
    return lambda vector, dose: outcome(steering.logits(vector, dose))


# ---- the table ----


def per_lifetime(
    model: ad.CausalTransformer, lifetimes: Lifetimes, n: int, random: int, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the effects of steering on `n` test lifetimes and `n` of probe val, and draws.

    Vectors are added at the layer where H2b erases. "jar: dose" is the mean probability of going
    for the jar at cookie-visible tokens with w added; "garden: dose" of going for the garden where
    it alone is in view; "hide: dose" p(HIDE) on late mornings of S, L and P. "jar, x: dose" and
    "hide, x: dose" are the same with another vector. "random kl" is the mean swing from dose -4 to
    4 at the jar of random vectors of equal KL where nothing is in view, each turned so that it
    raises the mean. The draws hold their means unturned, those of random vectors of equal norm,
    and, as "hide random kl", what the turned vectors do to p(HIDE) of planners.
    """
    tap = choose(model, lifetimes).tap
    of = vectors(model, lifetimes["probe train"], tap)
    test, val = (evenly(lifetimes[part], n) for part in ("test", "probe val"))
    stream, where = ad.record(model, test, tap), sites(test)
    hiders, planners = (table(test)["type"].isin([*types]) for types in (HIDERS, PLANNERS))
    late = where["home late"] & hiders.to_numpy()[:, None, None]
    hide = np.broadcast_to(np.arange(8) == HIDE, test.arrays["pi"].shape)
    at = lambda here: Steering(model, test, tap, here, stream=stream)
    jar = steered(at(where["cookie visible"]), directed(test))
    garden = steered(at(where["garden alone in view"]), directed(test, "garden"))
    mornings = steered(at(late), hide)  # NaN for other agents
    cases = [("jar", jar, "w", DOSES), ("garden", garden, "w", UP), ("hide", mornings, "w", DOSES)]
    cases += [(f"jar, {name}", jar, name, ENDS) for name in ("off", "cue", "action")]
    cases += [(f"hide, {name}", mornings, name, ENDS) for name in ("off", "action")]
    columns = {
        f"{name}: {dose:g}": steer(of[vector], dose)
        for name, steer, vector, doses in cases
        for dose in doses
    }
    few = test[:: -(-len(test) // KL_LIFETIMES)]
    unrelated = Steering(model, few, tap, sites(few)["unrelated"])
    of_planners = lambda vector, dose: mornings(vector, dose)[planners]
    swings, draws = _random_swings(of["w"], jar, of_planners, unrelated, random, seed)
    frame = table(test, **columns, **{"random kl": swings}).assign(part="test")
    at_val = steered(Steering(model, val, tap, sites(val)["cookie visible"]), directed(val))
    in_training = {f"jar: {dose:g}": at_val(of["w"], dose) for dose in ENDS}
    frames = [frame, table(val, **in_training).assign(part="probe val")]
    share = off_unembedding(of["w"], model)[1]
    return pd.concat(frames, ignore_index=True), draws_of(**draws, unembedding=share)


def _random_swings(
    w: np.ndarray, jar: Steer, hide: Steer, unrelated: Steering, random: int, seed: int
) -> tuple[np.ndarray, dict]:
    """Return the mean swing (N,) that random vectors of equal KL give, and the draws."""

    def swing(steer: Steer, vector: np.ndarray, factor: float = 1.0) -> np.ndarray:
        low, high = (steer(vector, factor * end) for end in ENDS)
        return high - low

    drawn = np.random.default_rng(seed).normal(size=(random, len(w)))
    target, factors = unrelated.kl(w), [1.0]
    for vector in drawn:  # start where the last one ended: they are much alike
        factors.append(unrelated.factor(vector, target, factors[-1]))
    pairs = list(zip(drawn, factors[1:], strict=True))
    of_kl = np.array([swing(jar, vector, factor) for vector, factor in pairs])
    hidden = np.array([np.nanmean(swing(hide, vector, factor)) for vector, factor in pairs])
    mean = np.nanmean(of_kl, axis=1)
    draws = {
        "random norm": np.array([np.nanmean(swing(jar, vector)) for vector in drawn]),
        "random kl": mean,
        "hide random kl": np.sign(mean) * hidden,
    }
    return (np.sign(mean)[:, None] * of_kl).mean(0), draws


# ---- measures, from tables of all seeds ----


_columns = lambda name, doses: [f"{name}: {dose:g}" for dose in doses]


def _slope(frame: pd.DataFrame, name: str, doses: tuple[float, ...] = DOSES) -> Interval:
    """Return the least-squares slope on the dose, mean over lifetimes."""
    columns, dose = _columns(name, doses), np.array(doses)  # symmetric around 0
    return interval(frame.dropna(subset=columns), columns, lambda m: m @ dose / (dose @ dose))


def _swing(frame: pd.DataFrame, name: str) -> Interval:
    """Return the response to the highest dose minus that to the lowest, mean over lifetimes."""
    columns = [f"{name}: {ENDS[1]:g}", f"{name}: {ENDS[0]:g}"]
    return interval(frame.dropna(subset=columns), columns, difference)


def spearman(mean: np.ndarray) -> np.ndarray:
    """Return the rank correlation of responses (..., doses) with the dose."""
    order = np.arange(mean.shape[-1]) - (mean.shape[-1] - 1) / 2
    return (mean.argsort(-1).argsort(-1) - order[-1]) @ order / (order @ order)


def ed50(mean: np.ndarray) -> float:
    """Return the dose with half of the largest effect, of responses (4,) to doses 0, 1, 2 and 4."""
    effect = mean - mean[0]
    if not effect.max() > 0:
        return float("nan")
    i = int(np.argmax(effect >= effect.max() / 2))
    return float(np.interp(effect.max() / 2, effect[i - 1 : i + 1], UP[i - 1 : i + 1]))


def measured(frame: pd.DataFrame, draws: pd.DataFrame) -> Measures:
    """Measure what H6 names; `null` is `over_random_kl` of the random vectors."""
    test = pick(frame, part="test")
    planners, primitive = pick(test, type=tuple(PLANNERS)), pick(test, type="P")
    test = test.dropna(subset=_columns("jar", DOSES))  # an agent that always hides sees no cookie
    moved = test.assign(swing=test["jar: 4"] - test["jar: -4"])
    by_seed = lambda swing, frame: swing.groupby(frame["seed"]).mean().to_numpy()
    swings, hides = by_seed(moved["swing"], test), planners["hide: 4"] - planners["hide: -4"]
    norm, kl = (np.abs(of_kind(draws, kind)) for kind in ("random norm", "random kl"))
    at_home = of_kind(draws, "hide random kl")
    p = {"random_norm_p": exchange_p(swings, norm), "random_kl_p": exchange_p(swings, kl)}
    alone = [max(exchange_p([x], null[[i]]) for null in (norm, kl)) for i, x in enumerate(swings)]
    slopes = test[_columns("jar", DOSES)].to_numpy() @ np.array(DOSES)
    against = test.assign(against=(slopes * np.sign(slopes.mean()) < 0).astype(float))
    half = ed50(test[_columns("jar", UP)].to_numpy().mean(0))
    return {
        "over_random_kl": interval(moved, ["swing", "random kl"], difference),
        **p,
        "seeds_agreeing": float(np.mean(np.array(alone) <= 0.05)),
        "spearman": interval(test, _columns("jar", DOSES), spearman),
        "anti_steerable": interval(against, ["against"]),
        "ed50": half,
        "home_hide_random_p": exchange_p(by_seed(hides, planners), at_home),
        "home_hide_slope": _slope(planners, "hide"),
        "home_hide_slope_projected": _slope(planners, "hide, off", ENDS),
        "primitive_hide_slope": _slope(primitive, "hide"),
        "meals_change": _meals_change(test, half),
        "transfer_ratio": _transfer(frame),
        "projected_swing": _swing(test, "jar, off"),
        "cue_swing": _swing(test, "jar, cue"),
        "action_vector_swing": _swing(test, "jar, action"),
        "action_vector_hide": _swing(planners, "hide, action"),
        "unembedding_share": float(of_kind(draws, "unembedding").mean()),
        "p": max(p.values()),
        "null": kl.mean(0) - kl.mean(),
    }


def _meals_change(test: pd.DataFrame, half: float) -> Interval:
    """Return the change of going for the garden at the dose of half effect."""
    garden, dose = test.dropna(subset=_columns("garden", UP)), ENDS[1] if np.isnan(half) else half
    rows = garden[_columns("garden", UP)].to_numpy()
    change = [np.interp(dose, UP, row) - row[0] for row in rows]
    return interval(garden.assign(change=change), ["change"])


def _transfer(frame: pd.DataFrame) -> Interval:
    """Return the swing on held-out orbits over that on training orbits."""
    both = frame.dropna(subset=_columns("jar", ENDS))
    swing, columns = both["jar: 4"] - both["jar: -4"], {}
    for part in ("test", "probe val"):
        inside = (both["part"] == part).astype(float)
        columns |= {f"{part} swing": swing * inside, f"{part} n": inside}
    ratio = lambda m: m[..., 0] / m[..., 1] / (m[..., 2] / m[..., 3])
    return interval(both.assign(**columns), list(columns), ratio)
