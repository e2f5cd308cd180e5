from dataclasses import replace

import numpy as np
import pytest
from helpers import seeded
from probed import DAYS, NOTEBOOKS
from study import competence, corpora, interventions
from study.verdicts import load_hypotheses

import adkit as ad


@pytest.fixture(scope="session")
def hypotheses():
    return load_hypotheses(NOTEBOOKS / "hypotheses.yaml")


@pytest.fixture(scope="session")
def judged():
    """40 labelled lifetimes on held-out layouts."""
    return corpora.judged("test", 40, days=DAYS)


@pytest.fixture(scope="session")
def effects(judged):
    """Effects of edits on a particle filter."""
    follow = ad.ParticleFilter(corpora.population(), particles=200).follow
    return interventions.effects(judged, lambda of: follow(of)["belief_pi"], (12, 20))


@pytest.fixture(scope="session")
def edits(effects):
    return seeded(competence.compared(effects, effects))


@pytest.fixture(scope="session")
def parts():
    """The parts that probes need; the filter's estimate is w seen through noise."""
    rng, found = np.random.default_rng(0), {}
    source = replace(corpora.population(), regimes=corpora.TEST_REGIMES)
    for i, (part, n) in enumerate({"probe train": 90, "probe val": 40, "test": 70}.items()):
        tasks = corpora.split()[part == "test"].drawn(n, i)
        histories = ad.collect(corpora.world(), tasks, source, episodes=DAYS, seed=i)
        pi = histories.arrays["pi"]
        labels = {
            "belief_rel": corpora.balance(histories) + 0.3 * rng.normal(size=(n, DAYS, 1)),
            "belief_pi": 0.9 * pi + 0.0125,
            "prior_pi": np.full_like(pi, 0.125),
            "orbit": tasks["orbit"][histories.task],
        }
        found[part] = replace(histories, arrays=histories.arrays | labels)
    return found
