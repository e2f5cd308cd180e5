"""The jobs of the study: labelled lifetimes, models, and tables of per-lifetime results.

A job makes one thing, kept under its name below the working folder, from things that other jobs
made.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

import adkit as ad
from study import (
    competence,
    compression,
    corpora,
    drift,
    erasers,
    erasure,
    hiding,
    instruments,
    interventions,
    steering,
)
from study.profiles import MAIN, Profile

MODEL = {"layers": 3, "heads": 2, "width": 128}
CONTEXT = corpora.DAYS * 16
BATCH = 32
SCHEDULE = ad.Schedule(from_start=1.0, short=0.5, short_episodes=20, decay=1.0)
FIRST_ACTION_WEIGHT = 4.0  # an episode's first action is where HIDE is decided

GOES_ON_FROM = {  # models that also predict the cookies eaten next, and the model each goes on from
    "future outcome": "action only",
    "drift free, future outcome": "drift free",
}
ONE_SEED = ("confounded", "tolerance visible")  # one model each; judged on corpora of their own
SHOWN = 24  # lifetimes in the table of readings
READ = ("probe train", "probe val", "test")
KINDS = {  # of edits that are made, if not all
    "untrained": ("cue",),
    "primitive only": ("stock",),
    "copied": interventions.MORNING_EDITS,
}


@dataclass(frozen=True)
class Bench:
    """The working folder, from which a job reads what other jobs made."""

    folder: Path
    profile: Profile

    def lifetimes(self, name: str) -> ad.Histories:
        return ad.Histories.load(self.folder / "judged" / name)

    def model(self, family: str, seed: int) -> ad.CausalTransformer:
        return ad.CausalTransformer.load(self.folder / "model" / family / str(seed))

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / f"{name}.csv")

    def parts(self, corpus: str = "main") -> dict[str, ad.Histories]:
        return {part: self.lifetimes(judged_name(corpus, part)) for part in READ}


@dataclass(frozen=True)
class Job:
    """One thing to make: histories, a model, a table, or a table and one of random draws."""

    name: str
    needs: tuple[str, ...]
    make: Callable[[Bench], object]


def judged_name(corpus: str, part: str) -> str:
    return part if corpus == "main" else f"{corpus} {part}"


# ---- what jobs make ----


def train(bench: Bench, family: str, seed: int) -> ad.CausalTransformer:
    """Train a model of one family; after an interruption it goes on from its checkpoint."""
    origin = GOES_ON_FROM.get(family)
    corpus = next((name for name in (family, origin) if name in corpora.CORPORA), "main")
    n = max(BATCH, round(bench.profile.shares[family] * bench.profile.lifetimes))
    # a model that goes on from another meets lifetimes that the other never met
    histories = corpora.training(corpus, n, 500 + seed if origin else seed)
    model = ad.CausalTransformer(
        histories.spec, context=CONTEXT, **MODEL, seed=seed, predictions=int(origin is not None)
    )
    how = {"schedule": SCHEDULE, "first_action_weight": FIRST_ACTION_WEIGHT}
    if origin:
        model.load_state_dict(bench.model(origin, seed).state_dict(), strict=False)
        label = {"cookies ahead": corpora.cookies_ahead(histories)}
        histories = replace(histories, arrays=histories.arrays | label)
        how |= {"schedule": replace(SCHEDULE, short=0.0), "predict": "cookies ahead"}
    how["checkpoint"] = bench.folder / "checkpoints" / family / str(seed)
    steps = max(1, len(histories) // BATCH)
    ad.distill(model, histories, steps=steps, batch=BATCH, seed=seed, **how)
    return model


def predictor(bench: Bench, name: str, seed: int) -> Callable[[ad.Histories], np.ndarray]:
    """Return what gives action probabilities: a model, the "filter", or one that is "copied"."""
    if name == "filter":
        follow = ad.ParticleFilter(corpora.population()).follow
        return lambda histories: follow(histories)["belief_pi"]
    if name == "copied":
        return hiding.copied
    untrained = name == "untrained"
    model = bench.model(MAIN if untrained else name, seed)
    return partial(competence.predictions, drift.untrained(model) if untrained else model)


def edits(bench: Bench, name: str, seed: int) -> pd.DataFrame:
    """Effects of edits of some test lifetimes on predictions, compared with the filter's."""
    some, kinds = corpora.evenly(bench.lifetimes("test"), bench.profile.edited), KINDS.get(name)
    predict, days = predictor(bench, name, seed), bench.profile.days
    found = interventions.effects(some, predict, days, kinds or tuple(interventions.EDITS))
    return found if name == "filter" else competence.compared(found, bench.table("filter edits/0"))


def predicted(bench: Bench, hypothesis, name: str, seed: int) -> pd.DataFrame:
    """Per-lifetime results of a hypothesis that asks for predictions alone."""
    test = bench.lifetimes("test")
    return hypothesis.per_lifetime(test, predictor(bench, name, seed)(test))


def drifts(bench: Bench, family: str, seed: int, twins: dict[str, str], corpus="main", **how):
    """H2a or H2a_future of one model; `twins` names the models that are probed beside it."""
    model = bench.model(family, seed)
    others = {name: bench.model(twin, seed) for name, twin in twins.items()}
    others = {"untrained": drift.untrained(model)} | others
    how["permutations"] = bench.profile.permutations
    return drift.per_lifetime(model, bench.parts(corpus), others, **how)


def tolerance(bench: Bench, corpus: str, family: str, site: str) -> pd.DataFrame:
    """The positive control of G2: probes of tolerance where reward shows it, or does not."""
    how = {"label": drift.tolerance, "permutations": 1}
    return drift.per_lifetime(bench.model(family, 0), bench.parts(corpus), {}, site, **how)[0]


def readings(bench: Bench) -> pd.DataFrame:
    """Strengths of some lifetimes as the first seed's probe reads them, for figures."""
    found = drift.readings(bench.model(MAIN, 0), bench.parts())
    return found[found["history"].isin(found["history"].unique()[:SHOWN])]


def compressed(bench: Bench, seed: int) -> pd.DataFrame:
    """H0 of one seed; the source's lifetimes are the same for all seeds."""
    own = bench.lifetimes(f"rollouts {seed}")
    of = {"model": own, "unitary": own}
    if seed == 0:
        of["source"] = bench.lifetimes("test")
    return pd.concat([compression.per_lifetime(one, kind, seed) for kind, one in of.items()])


def erased(bench: Bench, seed: int):
    """H2b of one seed."""
    model, parts = bench.model(MAIN, seed), bench.parts()
    choice = erasers.choose(model, parts)
    return erasure.per_lifetime(model, parts["test"], choice, *bench.profile.erased, seed)


def steered(bench: Bench, seed: int):
    """H6 of one seed, at the layer where H2b erases."""
    model, parts = bench.model(MAIN, seed), bench.parts()
    tap = erasers.choose(model, parts).tap
    return steering.per_lifetime(model, parts, tap, *bench.profile.steered, seed)


# ---- which jobs there are ----


def every_job(profile: Profile) -> dict[str, Job]:
    """Return all jobs by name, each after the jobs that it needs."""
    jobs = [*_shared(profile)]
    for seed in range(profile.seeds):
        jobs += [*_of_seed(profile, seed)]
    return {job.name: job for job in [*jobs, *_once()]}


def _parts(corpus: str) -> tuple[str, ...]:
    return tuple(f"judged/{judged_name(corpus, part)}" for part in READ)


def _shared(profile: Profile) -> Iterator[Job]:
    """Return the jobs that need no model: lifetimes, the filter's effects, the null of G3."""
    for corpus in ("main", *ONE_SEED):
        for part in READ:
            n = getattr(profile, part.replace(" ", "_")) // (1 if corpus == "main" else 2)
            make = lambda bench, of=(part, n, corpus): corpora.judged(*of)
            yield Job(f"judged/{judged_name(corpus, part)}", (), make)
    yield Job("filter edits/0", ("judged/test",), partial(edits, name="filter", seed=0))
    by_chance = lambda bench: pd.DataFrame({"p": instruments.false_positives(profile.permutations)})
    yield Job("false positives/0", (), by_chance)


def _of_seed(profile: Profile, seed: int) -> Iterator[Job]:
    """Return the jobs of one training seed."""
    model = {family: f"model/{family}/{seed}" for family in profile.shares}
    main, test, own = model[MAIN], "judged/test", f"rollouts {seed}"
    for family in profile.shares:
        if seed == 0 or family not in ONE_SEED:
            needs = (model[GOES_ON_FROM[family]],) if family in GOES_ON_FROM else ()
            yield Job(model[family], needs, partial(train, family=family, seed=seed))
    roll_out = lambda bench: competence.rollouts(bench.model(MAIN, seed), profile.rollouts, seed)
    yield Job(f"judged/{own}", (main,), roll_out)
    returns = lambda bench: competence.returns_per_lifetime(bench.lifetimes(own))
    yield Job(f"returns/{seed}", (f"judged/{own}",), returns)
    yield Job(f"compression/{seed}", (f"judged/{own}", test), partial(compressed, seed=seed))
    for name, hypothesis, family in (
        ("competence", competence, MAIN),
        ("competence drift free", competence, "drift free"),
        ("competence primitive only", competence, "primitive only"),
        ("hiding", hiding, MAIN),
    ):
        make = partial(predicted, hypothesis=hypothesis, name=family, seed=seed)
        yield Job(f"{name}/{seed}", (model[family], test), make)
    for family in (MAIN, "primitive only", "untrained"):
        needs = test, "filter edits/0", model.get(family, main)
        yield Job(f"edits {family}/{seed}", needs, partial(edits, name=family, seed=seed))
    here, (ahead, free) = (main, *_parts("main")), GOES_ON_FROM
    twins = {name: name for name in ("drift free", "episode shuffled") if name in model}
    make = partial(drifts, family=MAIN, seed=seed, twins=twins)
    yield Job(f"drift/{seed}", (*here, *(model[twin] for twin in twins)), make)
    twins = {"drift free": free, MAIN: MAIN}
    make = partial(drifts, family=ahead, seed=seed, twins=twins, site="empty home")
    yield Job(f"drift ahead/{seed}", (*here, model[ahead], model[free]), make)
    yield Job(f"erasure/{seed}", here, partial(erased, seed=seed))
    yield Job(f"steering/{seed}", here, partial(steered, seed=seed))
    check = lambda bench: instruments.checked(bench.model(MAIN, seed), bench.lifetimes("test")[:12])
    yield Job(f"instruments/{seed}", (main, test), lambda bench: pd.DataFrame([check(bench)]))


def _once() -> Iterator[Job]:
    """Return the jobs of the first seed alone: readings for figures, and planted controls."""
    yield Job("readings/0", (f"model/{MAIN}/0", *_parts("main")), readings)
    # where cookies eaten explain the drift, H2a must not be supported
    how = {"twins": {"drift free": "drift free"}, "corpus": "confounded", "regime": drift.USE}
    needs = "model/confounded/0", "model/drift free/0", *_parts("confounded")
    yield Job("drift confounded/0", needs, partial(drifts, family="confounded", seed=0, **how))
    shown = "tolerance visible"
    for name, corpus, family, site in (
        ("visible", shown, shown, "just eaten"),
        ("hidden", "main", MAIN, "just eaten"),
        ("remembered", shown, shown, "first visible"),
    ):
        make = partial(tolerance, corpus=corpus, family=family, site=site)
        yield Job(f"drift tolerance {name}/0", (f"model/{family}/0", *_parts(corpus)), make)
    copied = {"name": "copied", "seed": 0}
    make = partial(predicted, hypothesis=hiding, **copied)
    yield Job("hiding copied/0", ("judged/test",), make)
    yield Job("edits copied/0", ("judged/test", "filter edits/0"), partial(edits, **copied))
