"""H0: each form of behaviour fits its own choices, and the form that is there compresses best."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from study import compression, corpora, predictors
from study.predictors import PREDICTORS, decisions

import adkit as ad
from adkit.cookieworld.shard import BASE, BETA
from adkit.cookieworld.world import EAT, HIDE


def primitive(n):
    """Return lifetimes of agents that neither drift nor plan."""
    source = replace(corpora.population(), types={"P": 1}, regimes={"D0": 1})
    return ad.collect(corpora.world(), corpora.split()[1].drawn(n), source, episodes=20, seed=3)


@pytest.fixture(scope="module")
def histories():
    return primitive(30)


@pytest.fixture(scope="module")
def made(histories):
    return decisions(histories)


@pytest.fixture(scope="module")
def where(histories):
    """Return the decisions (N, E, H) that `decisions` takes."""
    sites = corpora.sites(histories)
    where = sites["decision"] & sites["home late"][:, :, :1]
    where[:, :, 0] &= histories.arrays["action"][:, :, 0] != HIDE
    return where


def test_decisions_are_those_of_late_days_in_known_maps(histories, made, where):
    late = np.arange(histories.n_episodes)[:, None] >= corpora.LATE
    assert len(made) == where.sum() and not (where & ~late).any()
    cells = histories.arrays["obs"][where][:, 0]
    np.testing.assert_array_equal(made.cell, cells)
    assert ((made.distance[:, 0] == 0) == (made.cell == made.layout[:, 1])).all()
    assert (made.left[made.visible] > 0).all()
    assert len(made[:5]) == len(made[:5].orbit) == 5


def test_values_are_what_the_agent_had_learned(histories, made, where):
    """The source's own policy follows from them, its strengths and its gates."""
    labels = histories.arrays
    w_food = np.broadcast_to(labels["w_food"][:, None, None], where.shape)
    strengths = np.stack([labels["w_cookie"], w_food], -1)[where]
    gates = np.stack([labels["gate_cookie"], labels["gate_food"]], -1)[where]
    heads = predictors.advantage(torch.as_tensor(made.values)).numpy()
    logits = BETA * ((strengths * gates)[..., None] * heads).sum(1)
    unexplained = np.log(labels["pi"][where][:, :6]) - BASE[:6] - logits[:, :6]
    tempted = made.left > 0  # an empty jar tempts nobody
    assert np.quantile(np.ptp(unexplained[tempted], axis=1), 0.9) < 1e-5


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_form_recovers_choices_of_its_own(name, made):
    form = PREDICTORS[name](made)
    base = torch.linspace(-1, 1, predictors.BASE)
    theta = torch.tensor([*base, *form.starts[0]], dtype=torch.double)
    p = torch.softmax(form.logits(theta), 1)
    np.testing.assert_allclose(p.sum(1), 1)
    assert (p[torch.as_tensor(made.step == 0), HIDE] == 0).all()
    again = PREDICTORS[name](replace(made, action=form.drawn(theta, seed=0)))
    assert float(again.nats(again.fit()).mean()) <= float(again.nats(theta).mean()) + 1e-3


def test_the_plan_eats_what_it_likes(made):
    likes_cookies = [5.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.1, 4.0, -3.0] + [0.0] * 5
    q = predictors.Utility(made).pull(torch.tensor(likes_cookies, dtype=torch.double))
    at_jar = torch.as_tensor((made.distance[:, 0] == 0) & (made.left > 0))
    assert (q[at_jar].argmax(1) == EAT).all()


def test_shards_compress_shard_agents_and_not_agents_of_one_utility():
    histories = primitive(60)
    model = compression.per_lifetime(histories)
    frames = [model, model.assign(kind="source"), compression.per_lifetime(histories, "unitary")]
    found = compression.measured(pd.concat(frames).assign(seed=0))
    assert found["saving"].low > 0 > found["unitary_saving"].estimate
    assert found["seeds_agreeing"] == 1 and found["p"] < 0.01
    # parameters are counted, and shared by the decisions of a half
    dearer = model.assign(parameters_shards=10 * model["parameters_shards"])
    bits = lambda of: compression.code(of)[:, 1].sum()
    per_half = [np.log2(n) / 2 for n in model["coded"].unique()]
    extra = 9 * model["parameters_shards"].iloc[0] * sum(per_half)
    assert bits(dearer) - bits(model) == pytest.approx(extra)
