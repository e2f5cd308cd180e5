"""H2b: is the strength that drifts used? Without what is linearly readable of it, those who drift should be predicted worse.

Erased is at cookie-visible tokens, at one block's stream, and what follows is judged at the same tokens, against the source's exact
policy. Sets of lives are {"probe train", "probe val", "test": histories} of `cookies.judged`; erasers never see the last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from adkit import checks
from adkit.cookieworld.observer import ParticleFilter
from adkit.cookieworld.world import JAR, POSITION, VISIBLE
from adkit.histories import Histories
from adkit.models.taps import matching
from adkit.models.transformer import CausalTransformer
from adkit.probing import fit, off_unembedding, patch
from adkit.probing.leace import Eraser, Ridges, leace
from adkit.probing.probes import PENALTIES
from adkit.probing.record import Recording, gather, record
from adkit.rollout import collect
from adkit.stats import Interval, draws_of, exchange_p
from study.corpora import (
    LATE,
    balance,
    directed,
    interval,
    log_odds,
    population,
    sites,
    table,
    world,
)

if TYPE_CHECKING:
    import pandas as pd

DRIFTS, STABLE = ("D2",), ("D0", "D5")
CONCEPTS = (
    "w",
    "rho",
    "decoys",
    "garden from jar",
    "jar from home",
)  # and those that may stand beside it
TOKENS, KERNEL = (
    15_000,
    300,
)  # to fit probes of what erasing leaves, and the features of one that is not linear
CONTROL_DRAWS = 10  # random erasures beside the control concept, of which the mean is used
PARTNERS = 4, 5, 6  # seeds of other creatures in the same worlds


@dataclass(frozen=True, eq=False)
class Choice:
    """Where w is erased and beside which concept: chosen on validation lives, by R2 alone."""

    tap: str
    control: str
    r2: dict[str, float]
    """On validation: of w by tap, of every concept at the chosen one."""
    erasers: dict[str, Eraser]
    """At the tap: of "w", of the "control" concept, and of the "cue", which is fitted wherever the jar is in sight."""
    everywhere: dict[str, Eraser]
    """Of w, by tap."""
    read: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Activations (n, D) at the tap, w (n,) and "val" or "train" (n,): probes of what is left are fitted on other lives than the
    erasers were, on those of probe val."""


def choose(model: CausalTransformer, lives: Mapping[str, Histories]) -> Choice:
    """The block, of all but the last, in which w is read best, and the concept that is read most nearly as well there."""
    taps, sets = (
        matching(model, "blocks.*.resid")[:-1],
        checks.parts(lives, "probe train", "probe val"),
    )
    if not taps:
        raise ValueError(
            "this model has one block; what is erased after it is used by the head alone. Two blocks are needed."
        )
    near = [_near(histories) for histories in sets]
    x = [gather(model, histories, at, *taps) for histories, at in zip(sets, near, strict=True)]
    seen = [
        histories.arrays["obs"][..., VISIBLE][at] > 0
        for histories, at in zip(sets, near, strict=True)
    ]
    if not all(map(np.any, seen)):
        raise ValueError(
            f"no life sees a cookie from day {LATE} on; give more lives or days, such as cookies.judged(part, n)."
        )
    labels = [
        np.stack([c[at] for c in _concepts(histories)], 1)
        for histories, at in zip(sets, near, strict=True)
    ]
    y = [label[here] for label, here in zip(labels, seen, strict=True)]
    at = lambda part, tap: x[part][tap][seen[part]].astype(float)
    r2 = {tap: _r2(at(0, tap), y[0], at(1, tap), y[1]) for tap in taps}
    tap = max(taps, key=lambda name: r2[name][0])
    control = 1 + int(np.abs(r2[tap][1:] - r2[tap][0]).argmin())
    everywhere = {name: leace(at(0, name), y[0][:, :1]) for name in taps}
    erasers = {"w": everywhere[tap], "control": leace(at(0, tap), y[0][:, control : control + 1])}
    erasers["cue"] = leace(x[0][tap].astype(float), seen[0][:, None].astype(float))
    thin = [slice(None, None, -(-len(values) // TOKENS)) for values in y]
    read = (
        np.concatenate([at(i, tap)[thin[i]] for i in range(2)]),
        np.concatenate([y[i][thin[i], 0] for i in range(2)]),
    )
    part = np.repeat(["val", "train"], [len(y[i][thin[i]]) for i in range(2)])
    found = {f"r2 of w: {name}": values[0] for name, values in r2.items()}
    found |= {f"r2: {name}": value for name, value in zip(CONCEPTS, r2[tap], strict=True)}
    return Choice(tap, CONCEPTS[control], found, erasers, everywhere, (*read, part))


def _near(histories: Histories) -> np.ndarray:
    """(N, E, H) late decisions in sight of the jar, by day: those at which a cookie is visible are among them."""
    near = sites(checks.creatures(histories, "decoy"))["all"] & (
        histories.arrays["obs"][..., JAR] > 0
    )
    near[:, :LATE], near[:, :, 0] = False, False
    return near


def _concepts(histories: Histories) -> list[np.ndarray]:
    """(N, E, H) each of `CONCEPTS`: besides w, what no one's drift depends on."""
    shape, tasks, row = histories.arrays["action"].shape, histories.task_values, histories.task
    wide = lambda values: np.broadcast_to(values.astype(float), shape)
    apart = lambda a, b: np.abs(tasks[a].astype(int) - tasks[b]).sum(1)[row, None, None]
    decoys = histories.arrays["decoy"].cumsum(1)[..., None]
    others = tasks["rho"][row, None, None], decoys, apart("jar", "garden"), apart("home", "jar")
    return [balance(histories), *map(wide, others)]


def _r2(x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray) -> np.ndarray:
    """(Q,) of the best ridge for each label (n, Q), on other tokens than it was fitted on."""
    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-9)
    joined, part = (
        (np.concatenate([x, x_val]) - mean) / scale,
        np.repeat([0, 1], [len(x), len(x_val)]),
    )
    errors, base = Ridges(joined, part).errors(np.concatenate([y, y_val]), PENALTIES)
    return (1 - errors[:, 1] / base[1]).max(0)


def some(histories: Histories, n: int) -> Histories:
    """At most `n` lives: half that drift by themselves, half that do not change, evenly taken."""
    regime = np.char.add("D", checks.creatures(histories, "regime").arrays["regime"].astype(str))
    sides = [np.flatnonzero(np.isin(regime, kinds)) for kinds in (DRIFTS, STABLE)]
    if n < 2 or not all(map(len, sides)):
        raise ValueError(
            f"n={n} of {[len(side) for side in sides]} lives of {DRIFTS} and {STABLE}; give 2, and lives of both."
        )
    taken = [
        side[np.linspace(0, len(side) - 1, min(n // 2, len(side))).astype(int)] for side in sides
    ]
    return histories[np.sort(np.concatenate(taken))]


def per_life(
    model: CausalTransformer,
    lives: Mapping[str, Histories],
    choice: Choice,
    *,
    n: int = 160,
    random: int = 30,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test lives of D2, D0 and D5, with sums over their "n" cookie-visible decisions; and nulls.

    "nats: x" is the cross-entropy with nothing done ("clean"), with w "erased", with the "control" concept or the "cue" erased,
    with w "frozen", its coordinate held at the life's own mean, and with w erased in "all layers"; "x at random" is the mean over
    random erasers of as much variance, or of random coordinates held so far that activations move by as much. Of filters: "filter"
    follows the life, "static" thinks that nobody drifts by himself, "prior" learns nothing of the life. "l: x" and "wl: x" sum log
    odds of going for the jar and their product with w; "w", "ww" sum w. "spread" and "missed: x" are squared errors of probes of w.
    "pair x" is of tokens at which a partner, another creature of D2 in the same world, stands at the same place at the same time.
    """
    (test,) = checks.parts(lives, "test")
    if not isinstance(choice, Choice):
        raise ValueError(f"choice={choice!r}; give what choose(model, lives) chose.")
    histories = some(checks.creatures(test, "pi", "belief_pi", "prior_pi"), n)
    a, here = histories.arrays, sites(histories)["cookie visible"]
    life, w = np.nonzero(here)[0], balance(histories)[here]
    by_life = lambda values: np.bincount(life, values, minlength=len(histories))
    cross = lambda p: by_life(-(a["pi"][here] * np.log(np.maximum(p, 1e-9))).sum(-1))
    stream, odds, tap = record(model, histories, choice.tap), _odds(histories, here), choice.tap

    def run(changes: Mapping[str, Callable], resume: Recording | None = stream) -> np.ndarray:
        """(N, 3) nats, log odds, and log odds times w."""
        logits = record(model, histories, "logits", changes=changes, resume=resume).array
        p = torch.as_tensor(logits[:, :, :-1][here]).double().softmax(-1).numpy()
        return np.stack([cross(p), by_life(odds(logits)), by_life(w * odds(logits))], -1)

    at, near, erasers = _tokens(here), _tokens(_near(histories)), choice.erasers
    found = {"clean": run({}), "cue": run({tap: _erased(erasers["cue"], near)})}
    found["all layers"] = run(
        {name: _erased(eraser, at) for name, eraser in choice.everywhere.items()}, None
    )
    frozen, draws = lambda eraser, at: _frozen(eraser, at, stream.array, erasers["w"]), {}
    for name, of, change, count in (
        ("erased", "w", _erased, random),
        ("frozen", "w", frozen, random),
        ("control", "control", _erased, CONTROL_DRAWS),
    ):
        found[name] = run({tap: change(erasers[of], at)})
        draws[name] = np.stack(
            [run({tap: change(other, at)}) for other in erasers[of].random(count, seed)]
        )
    found |= {f"{name} at random": values.mean(0) for name, values in draws.items()}

    static = ParticleFilter(replace(population(labelled=True), walk=(0.0, 0.0))).follow(histories)[
        "belief_pi"
    ]
    filters = {"filter": a["belief_pi"], "static": static, "prior": a["prior_pi"]}
    columns = {"n": by_life(np.ones(len(w))), "w": by_life(w), "ww": by_life(w * w)}
    columns |= {f"nats: {name}": values[:, 0] for name, values in found.items()}
    columns |= {f"nats: {name}": cross(p[here]) for name, p in filters.items()}
    for i, name in ((1, "l"), (2, "wl")):
        columns |= {
            f"{name}: {which}": found[which][:, i] for which in ("clean", "erased", "frozen")
        }
    columns |= _left(choice, stream.array[:, :, :-1][here], w, by_life, seed) | _swapped(
        model, histories, choice
    )
    frame = table(histories, **columns)
    nulls = {
        name: [_contrast(frame, v[:, 0] - columns["nats: clean"]) for v in draws[name]]
        for name in ("erased", "frozen")
    }
    share = off_unembedding(erasers["w"].directions[:, 0], model)[1]
    return frame, draws_of(
        **{f"{name} at random": np.array(null) for name, null in nulls.items()},
        unembedding=share,
        **choice.r2,
    )


def _erased(eraser: Eraser, at: np.ndarray) -> Callable:
    return lambda x, cut: torch.where(cut(at)[..., None], eraser(x), x)


def _frozen(
    eraser: Eraser, at: np.ndarray, stream: np.ndarray, like: Eraser | None = None
) -> Callable:
    """What holds the eraser's coordinates, at tokens `at`, to their mean over those of the life; of another than `like` only so
    far that activations move by as much: of a w that is slow little varies within a life, of a random coordinate most does."""
    moved = _moved(eraser, at, stream)
    if like is not None:
        size = lambda one, by: np.square(
            by @ one.directions.T.astype(np.float32), dtype=float
        ).sum()
        moved *= np.sqrt(size(like, _moved(like, at, stream)[at]) / size(eraser, moved[at]))
    return lambda x, cut: x + cut(moved) @ x.new_tensor(eraser.directions.T)


def _moved(eraser: Eraser, at: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """(N, E, H + 1, rank) from each coordinate to its mean over the life, at tokens `at`; 0 elsewhere."""
    read = stream @ eraser.readers.T.astype(np.float32)
    mean = np.where(at[..., None], read, 0).sum((1, 2), keepdims=True) / np.maximum(
        at.sum((1, 2))[:, None, None, None], 1
    )
    return np.where(at[..., None], mean - read, 0).astype(np.float32)


def _tokens(at: np.ndarray) -> np.ndarray:
    """Decisions (N, E, H) among tokens (N, E, H + 1)."""
    return np.pad(at, [(0, 0), (0, 0), (0, 1)])


def _odds(histories: Histories, here: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What makes log odds (n,) of going for the jar, at decisions `here`, of logits (N, E, H + 1, 8)."""
    jar = directed(histories)[here]
    return lambda logits: log_odds(
        (torch.as_tensor(logits[:, :, :-1][here]).double().softmax(-1).numpy() * jar).sum(-1)
    )


def _left(
    choice: Choice, x: np.ndarray, w: np.ndarray, by_life: Callable, seed: int
) -> dict[str, np.ndarray]:
    """What probes of w miss before and after erasing it, and what one that is not linear still misses."""
    read, label, part = choice.read
    x, w, part = (
        np.concatenate([read, x])[:, None],
        np.concatenate([label, w])[:, None],
        [*part, *["test"] * len(w)],
    )
    how = {"groups": np.arange(len(x)), "holdout": part, "permutations": 0, "seed": seed}
    gone = choice.erasers["w"](x)
    probes = {
        "clean": fit(x, w, **how),
        "erased": fit(gone, w, **how),
        "erased, curved": fit(gone, w, kernel=KERNEL, **how),
    }
    sums = {name: probe.sums["probe"] for name, probe in probes.items()}
    return {"spread": by_life(sums["clean"][:, 1])} | {
        f"missed: {name}": by_life(values[:, 0]) for name, values in sums.items()
    }


def _swapped(
    model: CausalTransformer, histories: Histories, choice: Choice
) -> dict[str, np.ndarray]:
    """What partners' streams, and their coordinates of w alone, do to log odds at the same place and time; 0 for lives of no drift.

    Each token counts in the direction from the weaker to the stronger w: "pair w" is how much that is.
    """
    drifting = np.flatnonzero(histories.arrays["regime"] == 2)
    base, eraser, tap = histories[drifting], choice.erasers["w"], choice.tap
    stream, columns = (
        record(model, base, tap),
        dict.fromkeys(("n", "w", "base", "donor", "full", "coordinate"), 0.0),
    )
    tasks, source = (
        base.task_values[base.task],
        replace(population(labelled=True), regimes={"D2": 1}),
    )
    for seed in PARTNERS:
        donor = collect(world(), tasks, source, episodes=base.n_episodes, seed=seed)
        here = sites(base)["cookie visible"] & sites(donor)["cookie visible"]
        here &= base.arrays["obs"][..., POSITION] == donor.arrays["obs"][..., POSITION]
        gap, life, at, odds = (
            (balance(donor) - balance(base))[here],
            np.nonzero(here)[0],
            _tokens(here),
            _odds(base, here),
        )
        told = lambda logits, *, life=life, gap=gap, odds=odds: np.bincount(
            life, np.sign(gap) * odds(logits), len(base)
        )
        patched = patch(model, base, donor, tap, told, positions={"here": at})
        moved = (record(model, donor, tap).array - stream.array) @ eraser.readers.T.astype(
            np.float32
        )
        moved = np.where(at[..., None], moved, 0).astype(np.float32)
        change = {
            tap: lambda x, cut, moved=moved: x + cut(moved) @ x.new_tensor(eraser.directions.T)
        }
        alone = told(record(model, base, "logits", changes=change, resume=stream).array)
        sums = np.bincount(life, minlength=len(base)), np.bincount(life, np.abs(gap), len(base))
        sums = *sums, patched.base, patched.donor, patched.full[0, 0], alone
        columns = {
            name: total + more for (name, total), more in zip(columns.items(), sums, strict=True)
        }
    placed = np.zeros((len(columns), len(histories)))
    placed[:, drifting] = list(columns.values())
    return {f"pair {name}": values for name, values in zip(columns, placed, strict=True)}


# ---- from frames of all seeds ----


def _contrast(lives: pd.DataFrame, nats: np.ndarray) -> float:
    """Nats per decision of lives that drift, less those of lives that do not change."""
    sides = [lives["regime"].isin(kinds).to_numpy() for kinds in (DRIFTS, STABLE)]
    drift, stable = (
        np.asarray(nats)[side].sum() / lives["n"].to_numpy()[side].sum() for side in sides
    )
    return float(drift - stable)


def _less(lives: pd.DataFrame, *names: str) -> np.ndarray:
    """(lives,) nats with the first erased less with the second, less the same of a third and fourth."""
    nats = [lives[f"nats: {name}"].to_numpy() for name in names]
    return nats[0] - nats[1] - (nats[2] - nats[3] if nats[2:] else 0)


def measured(lives: pd.DataFrame, draws: pd.DataFrame) -> dict[str, Interval | float]:
    """What H2b names, of frames of all seeds; `null` is `frozen_delta` of the random coordinates."""
    columns = (
        "seed",
        "orbit",
        "regime",
        "n",
        "w",
        "ww",
        "l: clean",
        "wl: clean",
        "nats: clean",
        "nats: erased",
        "nats: frozen",
    )
    checks.columns(lives, *columns, made_by="erasure.per_life, with a column seed")
    checks.columns(
        draws,
        "seed",
        "kind",
        "draw",
        "value",
        made_by="draws that erasure.per_life makes too, with a column seed",
    )
    drifts, stable = (lives["regime"].isin(kinds) for kinds in (DRIFTS, STABLE))

    def contrast(*names: str) -> Interval:
        parts = [
            np.where(side, values, 0)
            for side in (drifts, stable)
            for values in (_less(lives, *names), lives["n"])
        ]
        frame = lives.assign(**{f"part {i}": part for i, part in enumerate(parts)})
        return interval(
            frame,
            [f"part {i}" for i in range(4)],
            lambda m: m[..., 0] / m[..., 1] - m[..., 2] / m[..., 3],
        )

    def loss(side, *names: str) -> Interval:
        return interval(
            lives.assign(less=_less(lives, *names))[side],
            ["less", "n"],
            lambda m: m[..., 0] / m[..., 1],
        )

    def slope(n, w, ww, odds, product):
        return (product / n - w * odds / n**2) / (ww / n - w * w / n**2)

    def within_loss(which: str) -> Interval:
        inner = {
            name: lives[f"wl: {name}"] - lives["w"] * lives[f"l: {name}"] / lives["n"]
            for name in (which, "clean")
        }
        return interval(
            lives.assign(**inner)[drifts & (lives["n"] > 0)],
            [which, "clean"],
            lambda m: 1 - m[..., 0] / m[..., 1],
        )

    of = lambda names, statistic: interval(
        lives[drifts], names, lambda m: statistic(*np.moveaxis(m, -1, 0))
    )
    r2 = lambda name: interval(
        lives[lives["n"] > 0], [f"missed: {name}", "spread"], lambda m: 1 - m[..., 0] / m[..., 1]
    )
    sums, clean, pairs = (
        ["n", "w", "ww"],
        ["l: clean", "wl: clean"],
        ["pair base", "pair donor", "pair full"],
    )
    fall = lambda n, w, ww, *odds: 1 - slope(n, w, ww, *odds[2:]) / slope(n, w, ww, *odds[:2])
    fidelity = lambda base, coordinate, gap, *m: (coordinate - base) / gap / slope(*m)
    nulls = {which: draws[draws["kind"] == f"{which} at random"].pivot(index="seed", columns="draw", values="value").to_numpy()
             for which in ("erased", "frozen")}  # fmt: skip
    seeds = [seed for _, seed in lives.groupby("seed")]
    p = {
        which: exchange_p([_contrast(s, _less(s, which, "clean")) for s in seeds], null)
        for which, null in nulls.items()
    }
    return {
        "delta": contrast("erased", "erased at random", "control", "control at random"),
        "random_p": p["erased"],
        "slope_loss": of([*sums, *clean, "l: erased", "wl: erased"], fall),
        "within_slope_loss": within_loss("erased"),
        "drifting_loss": loss(drifts, "erased", "erased at random"),
        "stable_loss": loss(stable, "erased", "erased at random"),
        "control_delta": contrast("control", "control at random"),
        "all_layers_delta": contrast("all layers", "clean"),
        "erased_contrast": contrast("erased", "clean"),
        "frozen_contrast": contrast("frozen", "clean"),
        "frozen_delta": contrast("frozen", "frozen at random"),
        "frozen_p": p["frozen"],
        "frozen_stable_loss": loss(stable, "frozen", "clean"),
        "frozen_stable_excess": loss(stable, "frozen", "frozen at random"),
        "frozen_slope_loss": within_loss("frozen"),
        "tracking_value": contrast("prior", "filter"),
        "drift_tracking_value": contrast("static", "filter"),
        "level_value": loss(drifts | stable, "prior", "static"),
        "cue_erasure": loss(drifts | stable, "cue", "clean"),
        "full_patch_share": of(pairs, lambda base, donor, full: (full - base) / (donor - base)),
        "interchange_fidelity": of(
            [pairs[0], "pair coordinate", "pair w", *sums, *clean], fidelity
        ),
        "before_erasure_r2": r2("clean"),
        "after_erasure_r2": r2("erased"),
        "leftover_r2": r2("erased, curved"),
        "unembedding_share": float(draws.loc[draws["kind"] == "unembedding", "value"].mean()),
        "p": p["frozen"],
        "null": nulls["frozen"].mean(0) - nulls["frozen"].mean(),
    }
