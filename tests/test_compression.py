"""H0: what each form of behaviour makes of decisions, and that the form that is there compresses best."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from study import compression, corpora, predictors
from study.predictors import PREDICTORS, decisions

import adkit as ad
from adkit.cookieworld.shard import BASE, BETA
from adkit.cookieworld.world import HIDE


def primitive(n):
    """Creatures that neither drift nor plan."""
    tasks = corpora.split()[1]
    tasks = tasks[np.sort(np.random.default_rng(0).choice(len(tasks), n, replace=False))]
    source = replace(corpora.population(labelled=True), types={"P": 1}, regimes={"D0": 1})
    return ad.collect(corpora.world(), tasks, source, episodes=20, seed=3)


@pytest.fixture(scope="module")
def lives():
    return primitive(30)


@pytest.fixture(scope="module")
def made(lives):
    return decisions(lives, "all")


def test_decisions_are_those_of_late_days_in_known_maps(lives, made):
    day = np.arange(lives.n_episodes)[:, None]
    where = (
        corpora.sites(lives)["all"]
        & corpora.sites(lives)["home late"][:, :, :1]
        & (day >= corpora.LATE)
    )
    assert len(made) == where.sum() - (lives.arrays["action"][:, :, 0][where[:, :, 0]] == 6).sum()
    np.testing.assert_array_equal(
        made[made.step == 0].cell, lives.arrays["obs"][where[:, :, 0], 0, 0][made_in(lives, where)]
    )
    assert made[:5].orbit is made.orbit and len(made[:5]) == 5
    assert ((made.far[:, 0] == 0) == (made.cell == made.layout[made.life, 1])).all()
    assert (made.left[made.visible] > 0).all()


def made_in(lives, where):
    """Mornings on which HIDE was not chosen, of those in `where`."""
    return lives.arrays["action"][:, :, 0][where[:, :, 0]] != 6


def test_values_are_what_the_creature_had_learned(lives, made):
    """Its own policy follows from them, its strengths and its gates."""
    a, where = (
        lives.arrays,
        corpora.sites(lives)["all"] & corpora.sites(lives)["home late"][:, :, :1],
    )
    where[:, :, 0] &= a["action"][:, :, 0] != HIDE
    strengths = np.stack(
        [a["w_cookie"], np.broadcast_to(a["w_food"][:, None, None], where.shape)], -1
    )[where]
    gates = np.stack([a["gate_cookie"], a["gate_food"]], -1)[where]
    heads = predictors.advantage(torch.as_tensor(made.values)).numpy()
    logits = BETA * ((strengths * gates)[..., None] * heads).sum(1)
    pi = a["pi"][where][:, :6]
    unexplained = np.log(pi) - BASE[:6] - logits[:, :6]
    tempted = made.left > 0  # an empty jar tempts nobody
    assert np.quantile(np.ptp(unexplained[tempted], axis=1), 0.9) < 1e-5


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_form_recovers_choices_of_its_own(name, made):
    form = PREDICTORS[name](made)
    start = [0.0] * predictors.BASE + list(form.starts[0])
    theta = torch.tensor(start, dtype=torch.double)
    theta[: predictors.BASE] = torch.linspace(-1, 1, predictors.BASE)
    p = torch.softmax(form.logits(theta), 1)
    np.testing.assert_allclose(p.sum(1), 1)
    assert (p[torch.as_tensor(made.step == 0), 6] == 0).all()
    own = replace(made, action=form.drawn(theta, seed=0))
    again = PREDICTORS[name](own)
    assert float(again.nats(again.fit()).mean()) <= float(again.nats(theta).mean()) + 1e-3


def test_the_plan_eats_what_it_likes(made):
    utility = predictors.Utility(made)
    q = utility.pull(
        torch.tensor([5.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.1, 4.0, -3.0] + [0.0] * 5, dtype=torch.double)
    )
    at_jar = torch.as_tensor((made.far[:, 0] == 0) & (made.left > 0))
    assert (q[at_jar].argmax(1) == 5).all()


def test_shards_compress_creatures_of_shards_and_not_those_of_one_utility():
    frames = [compression.per_life(primitive(60), kind) for kind in ("model", "unitary")]
    found = compression.measured(pd.concat(frames).assign(seed=0))
    assert found["saving"].low > 0 > found["unitary_saving"].estimate
    assert found["seeds_agreeing"] == 1 and found["p"] < 0.01


def test_parameters_are_counted_and_shared(lives):
    frame = compression.per_life(lives, "source")
    dearer = frame.assign(parameters_shards=10 * frame["parameters_shards"])
    bits = lambda of: compression.code(of)[:, 1].sum()
    extra = (
        9
        * frame["parameters_shards"].iloc[0]
        / 2
        * sum(np.log2(n) for n in frame["coded"].unique())
    )
    assert bits(dearer) - bits(frame) == pytest.approx(extra)


def test_what_cannot_be_compressed_is_refused(lives):
    with pytest.raises(
        ValueError, match="kind='planner', decisions in .* kinds are model, source, unitary"
    ):
        compression.per_life(lives, "planner")
    with pytest.raises(ValueError, match="decisions in 1 orbits"):
        compression.per_life(lives[:1], "model")
