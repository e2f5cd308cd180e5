"""H6: does the direction of w move cookie approach at the jar and hiding at home, which no action vector does?

Vectors come from probe train, and are judged on test lives, whose layouts are of other orbits. All are added with one norm: dose 1
is a tenth of the mean norm of the stream where it is added. Beside the frame goes one of draws: kind, draw, value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from adkit import checks
from adkit.cookieworld.population import TYPES
from adkit.cookieworld.world import EAT, GARDEN, HIDE, JAR
from adkit.histories import Histories
from adkit.models.transformer import CausalTransformer
from adkit.probing import difference_of_means, off_unembedding
from adkit.probing.record import Recording, gather, record
from adkit.stats import Interval, draws_of, exchange_p
from study.corpora import LATE, balance, directed, exposure, interval, sites, table
from study.interventions import edit

if TYPE_CHECKING:
    import pandas as pd

FRACTION = 0.1
DOSES, ENDS = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0), (-4.0, 4.0)
PAIRS, PAIR_DAY = 100, 20  # lives in which a cue is hidden, and when
KL_LIVES, TRIES, NEAR_ENOUGH = 12, 5, 0.1  # to scale vectors until they do equal harm
PLANNERS, HIDERS = ("S", "L"), ("S", "L", "P")  # whose mornings are steered


# ---- which way ----


def vectors(
    model: CausalTransformer, histories: Histories, tap: str, shuffles: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Directions (D,) in the stream, from lives of probe train; "shuffled" is (R, D).

    w: mean activation at cookie-visible tokens where w_rel is above its median less below, within cells of `exposure`, day and
    cookies eaten; layout orbits are too fine to match: 1,046 of them for 600 lives. off: w without what the head reads. cue: pairs
    of the same life that differ in whether there are cookies that day. action: the head's row of EAT less the mean of the others,
    HIDE left out. shuffled: as w, each life with another's w of that day.
    """
    here = sites(histories)["cookie visible"]
    if not here.any() or histories.n_episodes <= PAIR_DAY:
        raise ValueError(
            f"{here.sum()} late sights of a cookie in {histories.n_episodes} days; give lives of more than {PAIR_DAY}."
        )
    life, day, _ = np.nonzero(here)
    x, cell, w = (
        gather(model, histories, here, tap)[tap],
        exposure(histories)[here],
        balance(histories),
    )
    split = lambda label: difference_of_means(x, label > np.median(label), cell)
    rng, by_day = np.random.default_rng(seed), w[:, :, 0]
    dealt = (by_day[rng.permutation(len(histories))[life], day] for _ in range(shuffles))
    head = model.head.weight.detach().double().cpu().numpy()
    found = {
        "w": split(w[here]),
        "cue": _cue(model, histories[:: -(-len(histories) // PAIRS)], tap),
    }
    found |= {
        "action": head[EAT] - np.delete(head, [EAT, HIDE], 0).mean(0),
        "off": off_unembedding(found["w"], model)[0],
    }
    return found | {"shuffled": np.array([split(label) for label in dealt])}


def _cue(model: CausalTransformer, histories: Histories, tap: str) -> np.ndarray:
    made = edit("cue", histories, PAIR_DAY)
    rows, sides = np.flatnonzero(made.ok), []
    for lives, token in ((made.before, made.at), (made.after, made.moved)):
        at = np.zeros((len(rows), *lives.arrays["action"].shape[1:]), bool)
        at[np.arange(len(rows)), PAIR_DAY, token[rows]] = True
        sides.append(gather(model, lives[rows], at, tap)[tap])
    return difference_of_means(
        np.concatenate(sides), np.repeat([True, False], len(rows)), np.tile(rows, 2)
    )


# ---- what it does ----


def per_life(
    model: CausalTransformer,
    lives: Mapping[str, Histories],
    tap: str,
    *,
    n: int = 80,
    random: int = 30,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`n` lives of test, and of probe val for what held-out layouts are compared with; and nulls, half as many of shuffled vectors.

    "jar: dose" is the mean probability of going for the jar at cookie-visible tokens, with w added there; "garden: dose" that of
    going for the garden where it alone is in sight, with w added there; "hide: dose" p(HIDE) on late mornings of S, L and P, with w
    added there. "jar, x: dose" and "hide, x: dose" the same with another vector. "random norm", "random kl" and "shuffled" are mean
    swings from dose -4 to 4 at the jar, of random vectors of equal norm, of equal KL where nothing is in sight, and of shuffled
    ones, each turned so that it raises the mean probability; draws have their means, unturned. "hide random kl" are what those of
    equal KL, turned so, do to p(HIDE) of planners: what raising approach alone would bring with it.
    """
    import pandas as pd

    train, test, val = checks.parts(lives, "probe train", "test", "probe val")
    of = vectors(model, train, tap, -(-random // 2), seed)
    test, val = (histories[np.linspace(0, len(histories) - 1, min(n, len(histories))).astype(int)]
                 for histories in (test, val))  # fmt: skip
    stream, columns = record(model, test, tap), {}
    jar = _steered(model, test, stream, sites(test)["cookie visible"], directed(test))
    garden = _steered(model, test, stream, _garden(test), directed(test, "garden"))
    hiders = np.flatnonzero(np.isin(np.array(TYPES)[test.arrays["type"]], HIDERS))
    mornings = _mornings(model, test, hiders, stream)
    for name, steer, doses in (
        ("jar", jar, DOSES),
        ("garden", garden, DOSES[3:]),
        ("hide", mornings, DOSES),
    ):
        columns |= {f"{name}: {dose:g}": steer(of["w"], dose) for dose in doses}
    for which in ("off", "cue", "action"):
        columns |= {f"jar, {which}: {dose:g}": jar(of[which], dose) for dose in ENDS}
    for which in ("off", "action"):
        columns |= {f"hide, {which}: {dose:g}": mornings(of[which], dose) for dose in ENDS}

    swing = lambda vector, factor=1.0: jar(vector, factor * ENDS[1]) - jar(vector, factor * ENDS[0])
    drawn = np.random.default_rng(seed).normal(size=(random, len(of["w"])))
    harm = _harm(model, test[:: -(-len(test) // KL_LIVES)], tap)
    done, factors = harm(of["w"], 1.0), [1.0]
    for vector in drawn:  # begin where the last one ended: they are much alike
        factors.append(_equally(harm, vector, done, factors[-1]))
    swings = {
        "random norm": [swing(vector) for vector in drawn],
        "shuffled": [swing(vector) for vector in of["shuffled"]],
    }
    swings["random kl"] = [
        swing(vector, factor) for vector, factor in zip(drawn, factors[1:], strict=True)
    ]
    means = {name: np.nanmean(values, axis=1) for name, values in swings.items()}
    planners = np.isin(np.array(TYPES)[test.arrays["type"]], PLANNERS)
    hide = lambda vector, factor: np.nanmean(
        (mornings(vector, factor * ENDS[1]) - mornings(vector, factor * ENDS[0]))[planners]
    )
    turned = np.sign(means["random kl"]) * factors[1:]
    hidden = {
        "hide random kl": np.array(
            [hide(vector, turn) for vector, turn in zip(drawn, turned, strict=True)]
        )
    }
    columns |= {
        name: (np.sign(means[name])[:, None] * values).mean(0) for name, values in swings.items()
    }
    there = _steered(
        model, val, record(model, val, tap), sites(val)["cookie visible"], directed(val)
    )
    frames = [table(test, **columns).assign(part="test")]
    frames.append(
        table(val, **{f"jar: {dose:g}": there(of["w"], dose) for dose in ENDS}).assign(
            part="probe val"
        )
    )
    scalars = {"kl of w": done, "unembedding": off_unembedding(of["w"], model)[1]}
    return pd.concat(frames, ignore_index=True), draws_of(
        **means, **hidden, **{"factor to equal kl": np.array(factors[1:])}, **scalars
    )


def _garden(histories: Histories) -> np.ndarray:
    """(N, E, H) late decisions with the garden in sight and the jar not."""
    obs = histories.arrays["obs"]
    at = sites(histories)["all"] & (obs[..., GARDEN] > 0) & (obs[..., JAR] == 0)
    at[:, :LATE], at[:, :, 0] = False, False
    return at


def _mornings(
    model: CausalTransformer, test: Histories, rows: np.ndarray, stream: Recording
) -> Callable:
    """p(HIDE) on late mornings of some of the lives, NaN for the others."""
    some = test[rows]
    hide = np.broadcast_to(np.arange(8) == HIDE, some.arrays["pi"].shape)
    recording = Recording(
        {tap: values[rows] for tap, values in stream.values.items()}, some.task, stream.window_start
    )
    steer = _steered(model, some, recording, sites(some)["home late"], hide)

    def among_all(vector: np.ndarray, dose: float) -> np.ndarray:
        out = np.full(len(test), np.nan)
        out[rows] = steer(vector, dose)
        return out

    return among_all


def _foretold(
    model: CausalTransformer, histories: Histories, stream: Recording, at: np.ndarray
) -> Callable:
    """A function of a vector and a dose: probabilities (n, 8) at the decisions `at` (N, E, H), where it is added."""
    (tap,), tokens = stream.values, np.pad(at, [(0, 0), (0, 0), (0, 1)])
    typical = FRACTION * np.linalg.norm(stream.array[:, :, :-1][at], axis=-1).mean()

    def foretold(vector: np.ndarray, dose: float) -> np.ndarray:
        added = dose * typical * vector / np.linalg.norm(vector)
        change = {tap: lambda x, cut: x + cut(tokens)[..., None] * x.new_tensor(added)}
        logits = record(model, histories, "logits", changes=change, resume=stream).array[:, :, :-1][
            at
        ]
        return torch.as_tensor(logits).double().softmax(-1).numpy()

    return foretold


def _steered(
    model: CausalTransformer,
    histories: Histories,
    stream: Recording,
    at: np.ndarray,
    wanted: np.ndarray,
) -> Callable:
    """A function of a vector and a dose: (N,) mean probability of the actions `wanted` (N, E, H, 8) at decisions `at`."""
    foretold, life = _foretold(model, histories, stream, at), np.nonzero(at)[0]
    count = np.bincount(life, minlength=len(histories)).astype(float)
    count[count == 0] = np.nan
    return lambda vector, dose: (
        np.bincount(life, (foretold(vector, dose) * wanted[at]).sum(-1), len(histories)) / count
    )


def _harm(
    model: CausalTransformer, histories: Histories, tap: str
) -> Callable[[np.ndarray, float], float]:
    """KL(unsteered || steered) in nats where nothing is in sight, with a vector's highest and lowest dose added there, scaled."""
    foretold = _foretold(
        model, histories, record(model, histories, tap), sites(histories)["unrelated"]
    )
    p = foretold(np.ones(model.config["width"]), 0.0)

    def harm(vector: np.ndarray, factor: float) -> float:
        steered = (foretold(vector, factor * dose) for dose in ENDS)
        return float(np.mean([(p * np.log(p / q)).sum(-1).mean() for q in steered]))

    return harm


def _equally(harm: Callable, vector: np.ndarray, done: float, factor: float) -> float:
    """The factor by which a vector's doses do about as much harm; KL grows about as the square of the norm."""
    for _ in range(TRIES):
        mine = harm(vector, factor)
        if abs(mine - done) < NEAR_ENOUGH * done:
            break
        factor *= float(np.clip(np.sqrt(done / max(mine, 1e-12)), 0.1, 10))
    return factor


# ---- from frames of all seeds ----


def _columns(name: str, doses: tuple[float, ...]) -> list[str]:
    return [f"{name}: {dose:g}" for dose in doses]


def _slope(frame: pd.DataFrame, name: str, doses: tuple[float, ...] = DOSES) -> Interval:
    """Least-squares slope on the dose, mean over lives."""
    centred = np.array(doses) - np.mean(doses)
    columns = _columns(name, doses)
    return interval(
        frame.dropna(subset=columns), columns, lambda m: m @ centred / (centred @ centred)
    )


def _swing(frame: pd.DataFrame, name: str) -> Interval:
    columns = _columns(name, ENDS)
    return interval(frame.dropna(subset=columns), columns, lambda m: m[..., 1] - m[..., 0])


def _spearman(mean: np.ndarray) -> np.ndarray:
    """Rank correlation of responses (..., doses) with the dose."""
    order = np.arange(mean.shape[-1]) - (mean.shape[-1] - 1) / 2
    return (mean.argsort(-1).argsort(-1) - order[-1]) @ order / (order @ order)


def _ed50(mean: np.ndarray) -> float:
    """The dose with half of the largest effect of responses (4,) to doses 0, 1, 2 and 4, between doses by a straight line."""
    effect = mean - mean[0]
    if not effect.max() > 0:
        return float("nan")
    i = int(np.argmax(effect >= effect.max() / 2))
    return float(np.interp(effect.max() / 2, effect[i - 1 : i + 1], DOSES[3:][i - 1 : i + 1]))


def measured(lives: pd.DataFrame, draws: pd.DataFrame) -> dict[str, Interval | float]:
    """What H6 names, of frames of all seeds; `null` is `over_random_kl` of the random vectors."""
    made_by = "steering.per_life, with a column seed"
    checks.columns(
        lives,
        "seed",
        "orbit",
        "type",
        *_columns("jar", DOSES),
        *_columns("garden", DOSES[3:]),
        made_by=made_by,
    )
    checks.columns(
        draws,
        "seed",
        "kind",
        "draw",
        "value",
        made_by="draws that steering.per_life makes too, with a column seed",
    )
    test = checks.rows(lives, made_by, part=["test"])
    planners, primitive = test[test["type"].isin(PLANNERS)], test[test["type"] == "P"]
    test = test.dropna(subset=_columns("jar", DOSES))  # who always hides them never sees a cookie
    moved = test.assign(swing=test["jar: 4"] - test["jar: -4"])
    null = {kind: draws[draws["kind"] == kind].pivot(index="seed", columns="draw", values="value").abs().to_numpy()
            for kind in ("random norm", "random kl", "shuffled")}  # fmt: skip
    seeds = moved.groupby("seed")["swing"].mean().to_numpy()
    p = {kind: exchange_p(seeds, values) for kind, values in null.items()}
    hidden = (
        planners.assign(swing=planners["hide: 4"] - planners["hide: -4"])
        .groupby("seed")["swing"]
        .mean()
        .to_numpy()
    )
    hide_null = (
        draws[draws["kind"] == "hide random kl"]
        .pivot(index="seed", columns="draw", values="value")
        .to_numpy()
    )
    alone = [
        [exchange_p(seeds[[i]], null[kind][[i]]) for kind in ("random norm", "random kl")]
        for i in range(len(seeds))
    ]
    slopes = test[_columns("jar", DOSES)].to_numpy() @ np.array(DOSES)
    against = test.assign(against=(slopes * np.sign(slopes.mean()) < 0).astype(float))
    half = _ed50(test[_columns("jar", DOSES[3:])].to_numpy().mean(0))
    garden = test.dropna(subset=_columns("garden", DOSES[3:]))
    at_half = [np.interp(half if half == half else ENDS[1], DOSES[3:], row) - row[0]
               for row in garden[_columns("garden", DOSES[3:])].to_numpy()]  # fmt: skip
    both = lives.dropna(subset=_columns("jar", ENDS))
    sides = [(both["part"] == part).astype(float) for part in ("test", "probe val")]
    swing = both["jar: 4"] - both["jar: -4"]
    both = both.assign(
        **{
            f"side {i}": v
            for i, v in enumerate((swing * sides[0], sides[0], swing * sides[1], sides[1]))
        }
    )
    return {
        "over_random_kl": interval(moved, ["swing", "random kl"], lambda m: m[..., 0] - m[..., 1]),
        "over_random_norm": interval(
            moved, ["swing", "random norm"], lambda m: m[..., 0] - m[..., 1]
        ),
        "random_norm_p": p["random norm"],
        "random_kl_p": p["random kl"],
        "shuffled_label_p": p["shuffled"],
        "seeds_agreeing": float(np.mean([max(two) <= 0.05 for two in alone])),
        "slope": _slope(test, "jar"),
        "spearman": interval(test, _columns("jar", DOSES), _spearman),
        "anti_steerable": interval(against, ["against"]),
        "ed50": half,
        "home_hide_slope": _slope(planners, "hide"),
        "home_hide_random_p": exchange_p(hidden, hide_null),
        "home_hide_slope_projected": _slope(planners, "hide, off", ENDS),
        "primitive_hide_slope": _slope(primitive, "hide"),
        "meals_change": interval(garden.assign(change=at_half), ["change"]),
        "transfer_ratio": interval(
            both,
            [f"side {i}" for i in range(4)],
            lambda m: m[..., 0] / m[..., 1] / (m[..., 2] / m[..., 3]),
        ),
        "projected_swing": _swing(test, "jar, off"),
        "cue_swing": _swing(test, "jar, cue"),
        "cue_slope": _slope(test, "jar, cue", ENDS),
        "action_vector_swing": _swing(test, "jar, action"),
        "action_vector_hide": _swing(planners, "hide, action"),
        "unembedding_share": float(draws.loc[draws["kind"] == "unembedding", "value"].mean()),
        "p": max(p["random norm"], p["random kl"]),
        "null": null["random kl"].mean(0) - null["random kl"].mean(),
    }
