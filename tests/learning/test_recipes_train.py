"""Recipes train what they say, and shipped models act as their shipped rollouts do."""

from dataclasses import replace
from functools import partial

import experiments
import paper_runs
import pytest
import torch
from helpers import same

import adkit as ad

TINY = ad.recipes.Recipe(
    ad.envs.DarkRoom(4, 6),
    {ad.sources.PosteriorSampling(): 2, ad.sources.QLearning(): 1},
    episodes=6,
    every=2,
    test_tasks=2,
    model={"context": 18, "layers": 1, "width": 8},
    training={"steps": 3, "batch": 2},
)


def test_a_recipe_mixes_its_sources_and_trains_its_model():
    train, _ = TINY.split(3)
    histories = TINY.histories(train, seed=0)
    assert histories.returns.shape == (len(train), 3, 3) and histories.episode.tolist() == [0, 2, 4]
    second = ad.collect(TINY.env, train, ad.sources.QLearning(), episodes=6, every=2, seed=1000)
    assert same(histories[2::3], second), "each source has draws of its own"
    model, log = TINY.distil(histories, seed=0)
    assert len(log) == 3 and model.config["width"] == 8 and model.window == 3
    short, _ = TINY.distil(histories.episodes[-2:], seed=0)
    assert short.window == 2, "no longer than the histories"
    assert len(replace(TINY, train_tasks=5).split(3)[0]) == 5


@pytest.mark.parametrize("eye", ad.recipes.EYES)
def test_a_recipe_says_how_pictures_are_learned(eye, monkeypatch):
    for how in ("distill_encoder", "pretrain_encoder"):
        monkeypatch.setattr(ad.recipes, how, partial(getattr(ad, how), steps=2, batch=8))
    env = ad.envs.Watermaze(view=(8, 8), ends="platform", horizon=16, n_tasks=6)
    recipe = replace(
        ad.RECIPES["watermaze"],
        env=env,
        episodes=3,
        model={"context": 48, "layers": 1, "width": 8},
        training={"steps": 2, "batch": 2},
        eye=eye,
    )
    histories = recipe.histories(recipe.split(0)[0], seed=0)
    model, _ = recipe.distil(histories, seed=0)
    assert model.spec.view == (8, 8)
    poses = ad.CausalTransformer(histories.seen_as("pose").spec, **recipe.model, seed=0)
    ad.distill(poses, histories.seen_as("pose"), seed=0, **recipe.training)
    taught = torch.equal(model.blocks[0].mlp.out.weight, poses.blocks[0].mlp.out.weight)
    frozen = not any(weight.requires_grad for weight in model.embed_tokens.encoder.eye.parameters())
    assert (taught, frozen) == (eye == "pose teacher", eye == "self-supervised")


DATA = paper_runs.OUT.parent
PLAYED = {"bandit": (8, 80), "hard": (8, 20), "key_to_door": (4, 6), "watermaze": (4, 5)}


@pytest.mark.parametrize("world", PLAYED)
def test_a_shipped_model_acts_as_its_rollouts_say(world):
    model = ad.CausalTransformer.load(DATA / world / "ad")
    rollouts = ad.Histories.load(DATA / world / "rollouts")
    assert rollouts.spec == model.spec
    assert rollouts.returns[:, :, -5:].mean() > rollouts.returns[:, :, :2].mean()
    names = {folder: name for name, folder in experiments.SHIPPED.items()}
    env, (tasks, episodes) = ad.RECIPES[names.get(world, world)].env, PLAYED[world]

    def late(memory):
        agent = ad.InContext(model, memory=memory)
        made = ad.collect(env, rollouts.task_values[:tasks], agent, episodes=episodes, seed=2)
        return made.returns[:, :, -episodes // 3 :].mean()

    assert late("lifetime") > late("episode") + 0.15, "it has not learned to learn"


def test_every_shipped_model_is_small_and_played_here():
    shipped = {path.parent.name for path in DATA.glob("*/ad")}
    assert shipped == set(PLAYED) | {"dark_room"}
    for world in shipped:
        assert sum(path.stat().st_size for path in (DATA / world).rglob("*")) < 6e6
