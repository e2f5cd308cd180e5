from pathlib import Path

import pytest
from helpers import seeded
from study import competence, corpora, interventions
from study.verdicts import load_hypotheses

import adkit as ad


@pytest.fixture(scope="session")
def hypotheses():
    return load_hypotheses(Path(ad.__file__).parents[1] / "notebooks" / "hypotheses.yaml")


@pytest.fixture(scope="session")
def judged():
    """40 labelled lifetimes of 24 days on held-out layouts."""
    return corpora.judged("test", 40, days=24)


@pytest.fixture(scope="session")
def observer():
    """A particle filter as a predictor."""
    follow = ad.ParticleFilter(corpora.population(labelled=True), particles=200).follow
    return lambda histories: follow(histories)["belief_pi"]


@pytest.fixture(scope="session")
def effects(judged, observer):
    return interventions.effects(judged, observer, (12, 20))


@pytest.fixture(scope="session")
def edits(effects):
    return seeded(competence.compared(effects, effects))
