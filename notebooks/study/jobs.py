"""The jobs of the study: labelled lifetimes, models, and tables of per-lifetime results.

A job is a row `name: (make, *needs)`. `make` is called with what the jobs `needs` made and returns
histories, a model, a table, or a table and one of random draws. The result is kept under the job's
name below the working folder.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

import adkit as ad
from study import competence, compression, corpora, drift, erasure, hiding, instruments, steering
from study.interventions import EDITS, MORNING_EDITS, effects

MODEL = {"layers": 3, "heads": 2, "width": 128}
CONTEXT = corpora.DAYS * 16
BATCH = 32
SCHEDULE = ad.Schedule(from_start=1.0, short=0.5, short_episodes=20, decay=1.0)
FIRST_ACTION_WEIGHT = 4.0  # an episode's first action is where HIDE is decided

MAIN = "action only"  # the family of models that most hypotheses are about
SHARES = {
    MAIN: 1,
    "drift free": 0.35,
    "future outcome": 0.15,
    "primitive only": 0.15,
    "confounded": 0.3,
    "tolerance visible": 0.15,
    "drift free, future outcome": 0.15,
}
WHOLE = dict.fromkeys([*SHARES, "episode shuffled"], 1)
GOES_ON_FROM = {  # models that also predict the cookies eaten next, and the model each goes on from
    "future outcome": MAIN,
    "drift free, future outcome": "drift free",
}
ONE_SEED = ("confounded", "tolerance visible")  # one model each; judged on corpora of their own
KINDS = {  # of edits that are made, if not all
    "untrained": ("cue",),
    "primitive only": ("stock",),
    "copied": MORNING_EDITS,
}

DAYS = (10, 20, 30, 40, 50, 58)
SIZES = {  # how much of everything the profiles smoke, standard and full make
    "seeds": (1, 3, 5),
    "lifetimes": (96, 40_000, 60_000),  # to train the main model on, each met about once
    "test": (24, 400, 800),  # labelled lifetimes of each part
    "probe_train": (24, 600, 1000),
    "probe_val": (12, 200, 400),
    "edited": (12, 200, 400),  # test lifetimes that are edited, on each of `days`
    "days": ((30,), DAYS, DAYS),
    "rollouts": (6, 100, 200),
    "permutations": (8, 200, 200),  # of sessions, and runs of the planted null of G3
    "erased": ((12, 3), (120, 24), (320, 30)),  # test lifetimes, and random coordinates
    "steered": ((12, 3), (64, 24), (160, 30)),  # test lifetimes, and random vectors
    "shares": (SHARES, SHARES, WHOLE),  # of the training lifetimes, for each family of models
}
PROFILES = {
    profile: {name: sizes[i] for name, sizes in SIZES.items()}
    for i, profile in enumerate(("smoke", "standard", "full"))
}


def load(folder: Path, name: str) -> ad.Histories | ad.CausalTransformer | pd.DataFrame:
    """Return what a job made."""
    kind, _, _ = name.partition("/")
    if kind == "judged":
        return ad.Histories.load(folder / name)
    if kind == "model":
        return ad.CausalTransformer.load(folder / name)
    return pd.read_csv(folder / f"{name}.csv")


# ---- what jobs make ----


def train(size: Mapping, family: str, seed: int, checkpoint: Path, origin=None):
    """Train a model of one family, from the model `origin` if there is one.

    After an interruption it goes on from its checkpoint.
    """
    named = family, GOES_ON_FROM.get(family)
    corpus = next((name for name in named if name in corpora.CORPORA), "main")
    n = max(BATCH, round(size["shares"][family] * size["lifetimes"]))
    # a model that goes on from another meets lifetimes that the other never met
    goes_on = origin is not None
    histories = corpora.training(corpus, n, 500 + seed if goes_on else seed)
    model = ad.CausalTransformer(
        histories.spec, context=CONTEXT, **MODEL, seed=seed, predictions=int(goes_on)
    )
    how = {"schedule": SCHEDULE, "first_action_weight": FIRST_ACTION_WEIGHT}
    if goes_on:
        model.load_state_dict(origin.state_dict(), strict=False)
        label = {"cookies ahead": corpora.cookies_ahead(histories)}
        histories = replace(histories, arrays=histories.arrays | label)
        how |= {"schedule": replace(SCHEDULE, short=0.0), "predict": "cookies ahead"}
    steps = max(1, len(histories) // BATCH)
    how |= {"steps": steps, "batch": BATCH, "seed": seed, "checkpoint": checkpoint}
    ad.distill(model, histories, **how)
    return model


def predictor(name: str, model=None) -> Callable[[ad.Histories], np.ndarray]:
    """Return what gives action probabilities: a model, the "filter", or one that is "copied"."""
    if name == "filter":
        follow = ad.ParticleFilter(corpora.population()).follow
        return lambda histories: follow(histories)["belief_pi"]
    if name == "copied":
        return hiding.copied
    return partial(competence.predictions, drift.untrained(model) if name == "untrained" else model)


def edits(size: Mapping, name: str, test: ad.Histories, ceiling=None, model=None) -> pd.DataFrame:
    """Effects of edits of some test lifetimes on predictions, compared with the filter's."""
    some, kinds = corpora.evenly(test, size["edited"]), KINDS.get(name, EDITS)
    found = effects(some, predictor(name, model), size["days"], kinds)
    return found if ceiling is None else competence.compared(found, ceiling)


def predicted(hypothesis, name: str, test: ad.Histories, model=None) -> pd.DataFrame:
    """Per-lifetime results of a hypothesis that asks for predictions alone."""
    return hypothesis.per_lifetime(test, predictor(name, model)(test))


def compressed(seed: int, own: ad.Histories, test: ad.Histories | None = None) -> pd.DataFrame:
    """H0 of one seed; the source's lifetimes are the same for all seeds."""
    of = {"model": own, "unitary": own} | ({} if test is None else {"source": test})
    return pd.concat([compression.per_lifetime(one, kind, seed) for kind, one in of.items()])


def by_parts(measure: Callable, model: ad.CausalTransformer, *histories: ad.Histories, **how):
    """Call a function of a model and of lifetimes in the parts of `corpora.PARTS`."""
    return measure(model, dict(zip(corpora.PARTS, histories, strict=True)), **how)


def drifts(size: Mapping, twins: tuple[str, ...], model: ad.CausalTransformer, *made, **how):
    """H2a or H2a_future of one model; `twins` names the models that are probed beside it."""
    others = {"untrained": drift.untrained(model)} | dict(zip(twins, made, strict=False))
    how |= {"twins": others, "permutations": size["permutations"]}
    return by_parts(drift.per_lifetime, model, *made[len(twins) :], **how)


def tolerance(site: str, model: ad.CausalTransformer, *histories: ad.Histories) -> pd.DataFrame:
    """The positive control of G2: probes of tolerance where reward shows it, or does not."""
    how = {"twins": {}, "site": site, "label": drift.tolerance, "permutations": 1}
    return by_parts(drift.per_lifetime, model, *histories, **how)[0]


# ---- which jobs there are ----


def every_job(size: Mapping, folder: Path) -> dict[str, tuple]:
    """Return all jobs, `name: (make, *needs)`, each after the jobs that it needs."""
    jobs = _shared(size)
    for seed in range(size["seeds"]):
        jobs |= _of_seed(size, folder, seed)
    return jobs | _once(size)


def _parts(corpus: str = "main") -> list[str]:
    """Return the names of the jobs that make a corpus's labelled lifetimes."""
    return [f"judged/{'' if corpus == 'main' else f'{corpus} '}{part}" for part in corpora.PARTS]


def _shared(size: Mapping) -> dict[str, tuple]:
    """Return the jobs that need no model: lifetimes, the filter's effects, the null of G3."""
    jobs = {}
    for corpus in ("main", *ONE_SEED):
        for name, part in zip(_parts(corpus), corpora.PARTS, strict=True):
            n = size[part.replace(" ", "_")] // (1 if corpus == "main" else 2)
            jobs[name] = (partial(corpora.judged, part, n, corpus),)
    jobs["filter edits/0"] = partial(edits, size, "filter"), "judged/test"
    jobs["false positives/0"] = (partial(instruments.false_positives, size["permutations"]),)
    return jobs


def _of_seed(size: Mapping, folder: Path, seed: int) -> dict[str, tuple]:
    """Return the jobs of one training seed."""
    model = {family: f"model/{family}/{seed}" for family in size["shares"]}
    main, test, own = model[MAIN], "judged/test", f"judged/rollouts {seed}"
    jobs = {}
    for family in size["shares"]:
        if seed == 0 or family not in ONE_SEED:
            origin = [model[GOES_ON_FROM[family]]] if family in GOES_ON_FROM else []
            checkpoint = folder / "checkpoints" / family / str(seed)
            jobs[model[family]] = partial(train, size, family, seed, checkpoint), *origin
    jobs[own] = partial(competence.rollouts, n=size["rollouts"], seed=seed), main
    jobs[f"returns/{seed}"] = competence.returns_per_lifetime, own
    source = [test] if seed == 0 else []
    jobs[f"compression/{seed}"] = partial(compressed, seed), own, *source
    jobs[f"competence/{seed}"] = partial(predicted, competence, MAIN), test, main
    for twin in ("drift free", "primitive only"):
        jobs[f"competence {twin}/{seed}"] = partial(predicted, competence, twin), test, model[twin]
    jobs[f"hiding/{seed}"] = partial(predicted, hiding, MAIN), test, main
    for family in (MAIN, "primitive only", "untrained"):
        needs = test, "filter edits/0", model.get(family, main)
        jobs[f"edits {family}/{seed}"] = partial(edits, size, family), *needs
    twins = [name for name in ("drift free", "episode shuffled") if name in model]
    needs = main, *(model[twin] for twin in twins), *_parts()
    jobs[f"drift/{seed}"] = partial(drifts, size, twins), *needs
    make, (ahead, free) = partial(drifts, size, ("drift free", MAIN)), GOES_ON_FROM
    needs = model[ahead], model[free], main, *_parts()
    jobs[f"drift ahead/{seed}"] = partial(make, site="empty home"), *needs
    for name, of, kind in (("erasure", erasure, "erased"), ("steering", steering, "steered")):
        n, random = size[kind]
        make = partial(by_parts, of.per_lifetime, n=n, random=random, seed=seed)
        jobs[f"{name}/{seed}"] = make, main, *_parts()
    jobs[f"instruments/{seed}"] = instruments.checked, main, test
    return jobs


def _once(size: Mapping) -> dict[str, tuple]:
    """Return the jobs of the first seed alone: readings for figures, and planted controls."""
    main = f"model/{MAIN}/0"
    jobs = {"readings/0": (partial(by_parts, drift.readings), main, *_parts())}
    # where cookies eaten explain the drift, H2a must not be supported
    make = partial(drifts, size, ("drift free",), regime=drift.USE)
    needs = "model/confounded/0", "model/drift free/0", *_parts("confounded")
    jobs["drift confounded/0"] = make, *needs
    shown = "model/tolerance visible/0", *_parts("tolerance visible")
    jobs["drift tolerance visible/0"] = partial(tolerance, "just eaten"), *shown
    jobs["drift tolerance hidden/0"] = partial(tolerance, "just eaten"), main, *_parts()
    jobs["drift tolerance remembered/0"] = partial(tolerance, "first visible"), *shown
    jobs["hiding copied/0"] = partial(predicted, hiding, "copied"), "judged/test"
    jobs["edits copied/0"] = partial(edits, size, "copied"), "judged/test", "filter edits/0"
    return jobs
