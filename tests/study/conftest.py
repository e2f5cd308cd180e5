import pytest
from helpers import seeded
from probed import NOTEBOOKS
from probed import parts as make_parts
from study import competence, corpora, interventions
from study.verdicts import load_hypotheses

import adkit as ad


@pytest.fixture(scope="session")
def hypotheses():
    return load_hypotheses(NOTEBOOKS / "hypotheses.yaml")


@pytest.fixture(scope="session")
def judged():
    """40 labelled lifetimes of 24 days on held-out layouts."""
    return corpora.judged("test", 40, days=24)


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
    return make_parts()
