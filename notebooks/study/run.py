"""The runs behind notebooks 06 to 08: lives of creatures, models of them, and what the hypotheses measure.

python -m study.run standard         what is missing, two jobs at a time: three seeds, at most 2.5 hours on two cores
python -m study.run full             five seeds, all twins at full length
python -m study.run smoke            minutes: everything once, tiny; proves nothing
python -m study.run standard --list  what there is, and what is done

Kill it at any moment and start it again: jobs that ended are kept, training goes on from its last checkpoint. Work is in
runs/shards; per-life results and the models that notebooks open go to data/cookie_world.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import adkit as ad
from adkit import artefacts
from study import (
    competence,
    compression,
    corpora,
    drift,
    erasure,
    hiding,
    instruments,
    interventions,
    steering,
)

ROOT = Path(__file__).resolve().parents[2]
WORK, DATA = ROOT / "runs" / "shards", ROOT / "data" / "cookie_world"
MODEL = {"layers": 3, "heads": 2, "width": 128}
TRAINING = {"batch": 32, "first_action_weight": 4.0}
SCHEDULE = ad.Schedule(from_start=1.0, short=0.5, short_episodes=20, decay=1.0)
CONTEXT = corpora.DAYS * 16


@dataclass(frozen=True)
class Profile:
    """How much of everything."""

    seeds: int
    lives: int
    """On which a model is trained, each met about once; twins have a share of it."""
    test: int
    train: int
    val: int
    """Judged lives: those of held-out orbits, and those that probes, erasers and vectors are fitted on and chosen by."""
    edited: int
    """Test lives that are edited, and how many days of each."""
    days: tuple[int, ...]
    rollouts: int
    """Lives that the model itself leads."""
    permutations: int
    """Of sessions, and runs of the instrument that finds nothing."""
    erased: tuple[int, int]
    steered: tuple[int, int]
    """Test lives, and random erasers or vectors beside the one that is meant."""
    shares: dict[str, float]
    """Of the training lives, by family."""


SHARES = {
    "action only": 1,
    "drift free": 0.35,
    "future outcome": 0.15,
    "primitive only": 0.15,
    "confounded": 0.3,
    "tolerance visible": 0.15,
    "drift free, future outcome": 0.15,
}
PROFILES = {
    "smoke": Profile(1, 96, 24, 24, 12, 12, (30,), 6, 8, (12, 3), (12, 3), SHARES),
    "standard": Profile(
        3,
        40_000,
        400,
        600,
        200,
        200,
        (10, 20, 30, 40, 50, 58),
        100,
        200,
        (120, 24),
        (64, 24),
        SHARES,
    ),
    "full": Profile(
        5,
        60_000,
        800,
        1000,
        400,
        400,
        (10, 20, 30, 40, 50, 58),
        200,
        200,
        (320, 30),
        (160, 30),
        dict.fromkeys([*SHARES, "episode shuffled"], 1),
    ),
}
AHEAD = {
    "future outcome": "action only",
    "drift free, future outcome": "drift free",
}  # also foretell what will be eaten; of whom
ONE_SEED = (
    "confounded",
    "tolerance visible",
)  # of these families one is enough, judged by lives of their own
SHOWN = 24  # lifetimes in the table of readings


# ---- what is made of what ----


def place_of(corpus: str, part: str) -> str:
    """Under which name judged lives are kept."""
    return part if corpus == "main" else f"{corpus} {part}"


@dataclass(frozen=True)
class Job:
    """One thing to make, kept under its name; it may read what it needs."""

    name: str
    needs: tuple[str, ...]
    make: Callable[
        [Bench],
        ad.Histories | ad.CausalTransformer | pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame],
    ]
    """Of two tables the second, random draws, is kept beside the first."""


@dataclass(frozen=True)
class Bench:
    """Where a job finds what others made."""

    folder: Path
    profile: Profile

    def lives(self, name: str) -> ad.Histories:
        return ad.Histories.load(self.folder / "judged" / name)

    def model(self, family: str, seed: int) -> ad.CausalTransformer:
        return ad.CausalTransformer.load(self.folder / "model" / family / str(seed))

    def frame(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / f"{name}.csv")


def trained(bench: Bench, family: str, seed: int) -> ad.CausalTransformer:
    """A model of one family; its checkpoints let a run that was killed go on."""
    of = AHEAD.get(family)  # the model of actions alone where this one goes on
    corpus = next((name for name in (family, of) if name in corpora.CORPORA), "main")
    n = max(TRAINING["batch"], round(bench.profile.shares[family] * bench.profile.lives))
    histories = corpora.lives(corpus, n, 500 + seed if of else seed)  # never met before
    model = ad.CausalTransformer(
        histories.spec, context=CONTEXT, **MODEL, seed=seed, predictions=int(of is not None)
    )
    how = {**TRAINING, "schedule": SCHEDULE}
    if of:
        model.load_state_dict(bench.model(of, seed).state_dict(), strict=False)
        histories = replace(
            histories, arrays=histories.arrays | {"cookies ahead": corpora.cookies_ahead(histories)}
        )
        how = how | {"predict": "cookies ahead", "schedule": replace(SCHEDULE, short=0.0)}
    steps = max(1, len(histories) // TRAINING["batch"])
    checkpoint = bench.folder / "checkpoints" / family / str(seed)
    ad.distill(
        model,
        histories,
        steps=steps,
        **how,
        seed=seed,
        checkpoint=checkpoint,
    )
    return model


def judged(bench: Bench, part: str, n: int, corpus: str) -> ad.Histories:
    return corpora.judged(part, n, corpus)


def led(bench: Bench, seed: int) -> ad.Histories:
    """Lives that the model itself leads."""
    return competence.rollouts(bench.model("action only", seed), bench.profile.rollouts, seed=seed)


def returned(bench: Bench, seed: int) -> pd.DataFrame:
    return competence.returns_per_life(bench.lives(f"rollouts {seed}"))


def found_by_chance(bench: Bench) -> pd.DataFrame:
    """G3: p-values where there is nothing to find."""
    return pd.DataFrame({"p": instruments.false_positives(bench.profile.permutations)})


def edited(
    bench: Bench, predict: Callable[[ad.Histories], np.ndarray], kinds=tuple(interventions.EDITS)
) -> pd.DataFrame:
    lives = bench.lives("test")
    lives = lives[np.linspace(0, len(lives) - 1, bench.profile.edited).astype(int)]
    return interventions.effects(lives, predict, bench.profile.days, kinds)


def filter_edits(bench: Bench) -> pd.DataFrame:
    believer = ad.ParticleFilter(corpora.population(labelled=True))
    return edited(bench, lambda histories: believer.follow(histories)["belief_pi"])


def model_edits(bench: Bench, family: str, seed: int) -> pd.DataFrame:
    model = (
        drift.untrained(bench.model("action only", seed))
        if family == "untrained"
        else bench.model(family, seed)
    )
    kinds = {"untrained": ("cue",), "primitive only": ("stock",)}.get(
        family, tuple(interventions.EDITS)
    )
    mine = edited(bench, lambda histories: competence.predictions(model, histories), kinds)
    theirs = bench.frame("filter edits/0")
    return competence.compared(mine, theirs[theirs["kind"].isin(kinds)])


def judged_by(bench: Bench, endpoint, family: str, seed: int) -> pd.DataFrame:
    """Per-life results of an endpoint that asks for predictions alone."""
    lives = bench.lives("test")
    return endpoint.per_life(lives, competence.predictions(bench.model(family, seed), lives))


def copied(bench: Bench) -> pd.DataFrame:
    """H4 of somebody who knows how often the population hides, by whether the jar is full, and nothing of anybody."""
    lives = bench.lives("test")
    return hiding.per_life(lives, hiding.copied(lives))


def copied_edits(bench: Bench) -> pd.DataFrame:
    return competence.compared(
        edited(bench, hiding.copied, tuple(interventions.ASKS)), bench.frame("filter edits/0")
    )


def sets(bench: Bench, corpus: str = "main") -> dict[str, ad.Histories]:
    return {
        part: bench.lives(place_of(corpus, part)) for part in ("probe train", "probe val", "test")
    }


def drifted(
    bench: Bench, family: str, site: str, twins: dict[str, str], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """H2a, or H2a_future, of one seed."""
    model, judged = bench.model(family, seed), sets(bench)
    others = {"untrained": drift.untrained(model)} | {
        name: bench.model(twin, seed) for name, twin in twins.items()
    }
    return drift.per_life(
        model, judged, others, site, permutations=bench.profile.permutations
    )  # the same ones for all seeds


def confounded(bench: Bench) -> tuple[pd.DataFrame, pd.DataFrame]:
    """H2a where cookies eaten explain the drift: it must not come out as supported."""
    model = bench.model("confounded", 0)
    others = {"untrained": drift.untrained(model), "drift free": bench.model("drift free", 0)}
    how = {"regime": drift.USE, "permutations": bench.profile.permutations}
    return drift.per_life(model, sets(bench, "confounded"), others, **how)


def tolerance(bench: Bench, corpus: str, family: str, site: str) -> pd.DataFrame:
    """The positive control of G2, drift that reward shows; the same where reward does not show it; and where it had been shown on
    days before."""
    return drift.per_life(
        bench.model(family, 0), sets(bench, corpus), {}, site, label=drift.tolerance, permutations=1
    )[0]


def readings(bench: Bench) -> pd.DataFrame:
    """Strengths over some lifetimes, as the first seed's probe reads them: for pictures."""
    found = drift.readings(bench.model("action only", 0), sets(bench))
    return found[found["history"].isin(found["history"].unique()[:SHOWN])]


def compressed(bench: Bench, seed: int) -> pd.DataFrame:
    """H0 of one seed; the source's lives are the same for all."""
    own = bench.lives(f"rollouts {seed}")
    of = {"model": own, "unitary": own} | ({} if seed else {"source": bench.lives("test")})
    return pd.concat([compression.per_life(lives, kind, seed=seed) for kind, lives in of.items()])


def erased(bench: Bench, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """H2b of one seed."""
    model, lives = bench.model("action only", seed), sets(bench)
    n, random = bench.profile.erased
    return erasure.per_life(
        model, lives, erasure.choose(model, lives), n=n, random=random, seed=seed
    )


def steered(bench: Bench, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """H6 of one seed, at the layer where H2b erases."""
    model, lives = bench.model("action only", seed), sets(bench)
    n, random = bench.profile.steered
    return steering.per_life(
        model, lives, erasure.choose(model, lives).tap, n=n, random=random, seed=seed
    )


def checked(bench: Bench, seed: int) -> pd.DataFrame:
    """G0."""
    return pd.DataFrame(
        [instruments.checked(bench.model("action only", seed), bench.lives("test")[:12])]
    )


def every_job(profile: Profile) -> dict[str, Job]:
    """All of them, what others need first."""
    jobs = []
    add = lambda name, needs, make, *given: jobs.append(
        Job(name, tuple(needs), lambda bench: make(bench, *given))
    )
    sizes = {"test": profile.test, "probe train": profile.train, "probe val": profile.val}
    parts = {
        corpus: [f"judged/{place_of(corpus, part)}" for part in sizes]
        for corpus in ("main", *ONE_SEED)
    }
    for corpus, names in parts.items():
        for name, (part, n) in zip(names, sizes.items(), strict=True):
            add(name, (), judged, part, n if corpus == "main" else n // 2, corpus)
    add("filter edits/0", ["judged/test"], filter_edits)
    add("false positives/0", (), found_by_chance)
    main = "action only"
    for seed in range(profile.seeds):
        model = {family: f"model/{family}/{seed}" for family in profile.shares}
        for family in profile.shares:
            if not (seed and family in ONE_SEED):
                add(
                    model[family],
                    [model[AHEAD[family]]] if family in AHEAD else [],
                    trained,
                    family,
                    seed,
                )
        lived, test = f"judged/rollouts {seed}", "judged/test"
        add(lived, [model[main]], led, seed)
        add(f"returns/{seed}", [lived], returned, seed)
        add(f"compression/{seed}", [lived, test], compressed, seed)
        for family in (main, "drift free", "primitive only"):
            named = "" if family == main else f" {family}"
            add(
                f"competence{named}/{seed}",
                [model[family], test],
                judged_by,
                competence,
                family,
                seed,
            )
        add(f"hiding/{seed}", [model[main], test], judged_by, hiding, main, seed)
        for family in (main, "primitive only", "untrained"):
            needs = [test, "filter edits/0", model.get(family, model[main])]
            add(f"edits {family}/{seed}", needs, model_edits, family, seed)
        here = [model[main], *parts["main"]]
        ahead, free = AHEAD
        twins = {twin: twin for twin in ("drift free", "episode shuffled") if twin in model}
        add(
            f"drift/{seed}",
            [*here, *(model[twin] for twin in twins)],
            drifted,
            main,
            "first visible",
            twins,
            seed,
        )
        needs = [*here, model[ahead], model[free]]
        add(
            f"drift ahead/{seed}",
            needs,
            drifted,
            ahead,
            "empty home",
            {"drift free": free, main: main},
            seed,
        )
        add(f"erasure/{seed}", here, erased, seed)
        add(f"steering/{seed}", here, steered, seed)
        add(f"instruments/{seed}", [model[main], test], checked, seed)
    add("readings/0", ["model/action only/0", *parts["main"]], readings)
    add(
        "drift confounded/0",
        ["model/confounded/0", "model/drift free/0", *parts["confounded"]],
        confounded,
    )
    shown = "tolerance visible"
    for name, corpus, family, site in (
        ("visible", shown, shown, "just eaten"),
        ("hidden", "main", main, "just eaten"),
        ("remembered", shown, shown, "first visible"),
    ):
        add(
            f"drift tolerance {name}/0",
            [f"model/{family}/0", *parts[corpus]],
            tolerance,
            corpus,
            family,
            site,
        )
    add("hiding copied/0", ["judged/test"], copied)
    add("edits copied/0", ["judged/test", "filter edits/0"], copied_edits)
    return {job.name: job for job in jobs}


# ---- making them ----


def place(folder: Path, job: str) -> Path:
    """Where a job's result is: a folder, or a table where there is one."""
    table = folder / f"{job}.csv"
    return table if table.exists() else folder / job


def make(profile: str, folder: Path, name: str) -> float:
    """One job, in a process of its own: makes and keeps the result, whole or not at all. Its CPU seconds."""
    import torch

    torch.set_num_threads(1)
    began = time.process_time()
    made = every_job(PROFILES[profile])[name].make(Bench(folder, PROFILES[profile]))
    if isinstance(made, tuple):
        made, draws = made
        kind, _, seed = name.partition("/")
        write(folder / f"{kind} draws" / f"{seed}.csv", draws)
    if isinstance(made, pd.DataFrame):
        write(folder / f"{name}.csv", made)
    else:
        made.save(folder / name, overwrite=True)
    shutil.rmtree(folder / "checkpoints" / name.removeprefix("model/"), ignore_errors=True)
    return time.process_time() - began


def write(path: Path, table: pd.DataFrame) -> None:
    """A table, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path.with_suffix(".part"), index=False, float_format="%.5g")
    os.replace(path.with_suffix(".part"), path)


def settle(profile: str, folder: Path) -> None:
    """Keep the settings with the results; ValueError if those that are there were made with others."""
    mine = {**artefacts.as_json(asdict(PROFILES[profile])), "model": MODEL, "training": TRAINING | asdict(SCHEDULE)}
    kept = folder / "settings.json"
    theirs = json.loads(kept.read_text()) if kept.exists() else mine
    if differ := sorted(
        name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)
    ):
        raise ValueError(
            f"{folder} holds results of other {', '.join(differ)}; move it away, or name another place with --work."
        )
    folder.mkdir(parents=True, exist_ok=True)
    kept.with_suffix(".part").write_text(json.dumps(mine, indent=1))
    os.replace(kept.with_suffix(".part"), kept)


def run(profile: str, folder: Path, at_once: int = 2) -> int:
    """What is missing, `at_once` jobs at a time, each as soon as what it needs is there. How many failed.

    A job whose process is killed, most often because memory ran out, is tried once more.
    """
    jobs, began, failed, running, killed = (
        every_job(PROFILES[profile]),
        time.perf_counter(),
        set(),
        {},
        Counter(),
    )
    waiting = {name for name in jobs if not place(folder, name).exists()}
    total = len(waiting)
    print(f"{profile}: {len(jobs)} jobs, {len(jobs) - total} of them done.", flush=True)
    while waiting or running:
        for name in [
            n
            for n in jobs
            if n in waiting and all(place(folder, need).exists() for need in jobs[n].needs)
        ]:
            if len(running) < at_once:
                waiting.remove(name)
                pool = ProcessPoolExecutor(
                    1, multiprocessing.get_context("spawn")
                )  # if it is killed, no other job goes with it
                running[pool.submit(make, profile, folder, name)] = name, pool
        if not running:
            print(
                f"{len(waiting)} jobs wait for what failed: {', '.join(sorted(waiting))}",
                flush=True,
            )
            break
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            (name, pool), minutes = running.pop(future), (time.perf_counter() - began) / 60
            pool.shutdown()
            error = future.exception()
            killed[name] += isinstance(error, BrokenExecutor)
            if error:
                (waiting if isinstance(error, BrokenExecutor) and killed[name] < 2 else failed).add(
                    name
                )
            cost = f"FAILED: {error!r}" if error else f"{future.result():.0f} CPU s"
            print(
                f"{total - len(waiting) - len(running):3}/{total} {minutes:6.1f} min | {name} | {cost}",
                flush=True,
            )
    return len(failed) + len(waiting)


def publish(profile: str, folder: Path, out: Path) -> None:
    """The tables of all seeds, joined, and the first seed's model, into data/."""
    tables = {}
    for path in sorted(folder.glob("*/*.csv")):
        tables.setdefault(path.parent.name, []).append(
            pd.read_csv(path).copy().assign(seed=int(path.stem))
        )
    for name, parts in tables.items():
        write(out / f"{name}.csv", pd.concat(parts))
    Bench(folder, PROFILES[profile]).model("action only", 0).save(out / "model", overwrite=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--at-once", type=int, default=2, help="processes; 2")
    parser.add_argument("--work", type=Path, default=WORK, help="where work is kept; runs/shards")
    parser.add_argument(
        "--out", type=Path, default=DATA, help="where results go; data/cookie_world"
    )
    given = parser.parse_args(arguments)
    folder = given.work / given.profile
    if given.list:
        print(
            "\n".join(
                ("  done  " if place(folder, name).exists() else "  to do ") + name
                for name in every_job(PROFILES[given.profile])
            )
        )
        return 0
    try:
        settle(given.profile, folder)
    except ValueError as error:
        parser.error(str(error))
    failed = run(given.profile, folder, given.at_once)
    if not failed and given.profile != "smoke":
        publish(given.profile, folder, given.out)
    return int(failed > 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
