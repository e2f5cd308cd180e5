"""Recipes split honestly and train what they say; the runs of the paper's figures are kept one by one and gone on with."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import adkit as ad

sys.path.insert(0, str(Path(ad.__file__).parents[1] / "notebooks"))
import figures

TINY = ad.recipes.Recipe(
    ad.envs.DarkRoom(4, 6), {ad.sources.PosteriorSampling(): 2, ad.sources.QLearning(): 1}, episodes=6, every=2, test_tasks=2,
    model={"context": 18, "layers": 1, "width": 8}, training={"steps": 3, "batch": 2},
)  # fmt: skip


@pytest.mark.parametrize("name", ad.RECIPES)
def test_a_recipes_splits_are_disjoint_and_drawn_anew(name):
    recipe = ad.RECIPES[name]
    train, test = recipe.split(0)
    assert len(train) and 0 < len(test) <= recipe.test_tasks and not set(train.ids) & set(test.ids)
    assert (
        set(recipe.split(1)[1].ids) != set(test.ids) and (recipe.split(0)[1].ids == test.ids).all()
    )
    for column in recipe.held_out:
        assert not {*map(tuple, train[column].tolist())} & {*map(tuple, test[column].tolist())}
    assert hash(recipe.env) is not None and f"{recipe}".startswith("Recipe(env=")


def test_a_recipe_mixes_its_sources_and_trains_its_model():
    train, _ = TINY.split(3)
    histories = TINY.histories(train, seed=0)
    assert histories.returns.shape == (len(train), 3, 3) and histories.episode.tolist() == [0, 2, 4]
    model, log = TINY.distil(histories, seed=0)
    assert len(log) == 3 and model.config["width"] == 8 and model.window == 3
    short, _ = TINY.distil(histories.episodes[-2:], seed=0)
    assert short.window == 2, "no longer than the histories"
    assert len(replace(TINY, train_tasks=5).split(3)[0]) == 5


@pytest.mark.parametrize("eye", ["end to end", "self-supervised", "pose teacher"])
def test_a_recipe_says_how_pictures_are_learned(eye, monkeypatch):
    for how in ("distill_encoder", "pretrain_encoder"):
        monkeypatch.setattr(ad.recipes, how, partial(getattr(ad, how), steps=2, batch=8))
    recipe = replace(
        ad.RECIPES["watermaze"], env=ad.envs.Watermaze(view=(8, 8), ends="platform", horizon=16, n_tasks=6), episodes=3,
        model={"context": 48, "layers": 1, "width": 8}, training={"steps": 2, "batch": 2}, eye=eye,
    )  # fmt: skip
    histories = recipe.histories(recipe.split(0)[0], seed=0)
    model, _ = recipe.distil(histories, seed=0)
    assert model.spec.view == (8, 8)
    poses = ad.CausalTransformer(histories.seen_as("pose").spec, **recipe.model, seed=0)
    ad.distill(poses, histories.seen_as("pose"), seed=0, **recipe.training)
    taught = torch.equal(model.blocks[0].mlp.out.weight, poses.blocks[0].mlp.out.weight)
    frozen = not any(weight.requires_grad for weight in model.embed_tokens.encoder.eye.parameters())
    assert (taught, frozen) == (eye == "pose teacher", eye == "self-supervised")


def curves(seed):
    """Two agents, one four times as fast."""
    rise = lambda speed: np.minimum(speed * np.arange(1, 201) / 100, 1)[None, None].repeat(4, 0)
    yield "distilled", rise(4.0)
    yield "source", rise(1.0)
    yield "optimum", np.ones((4, 1, 200))


def breaks(seed):
    raise RuntimeError("no luck")
    yield


@pytest.fixture
def two_runs(monkeypatch):
    runs = [
        figures.Run("rise", "a", 0, curves, "1"),
        figures.Run("rise", "b", 0, breaks, "1"),
        figures.Run("rise", "b", 1, curves, "1"),
    ]
    monkeypatch.setattr(figures, "every_run", lambda: runs)
    monkeypatch.setattr(
        figures, "ProcessPoolExecutor", lambda at_once, context: ThreadPoolExecutor(1)
    )
    return runs


def test_runs_are_kept_one_by_one_and_only_the_missing_are_run_again(two_runs, tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    assert figures.main(out) == 1, "one of them failed"
    assert "FAILED: RuntimeError('no luck')" in capsys.readouterr().out
    table, runs = pd.read_csv(tmp_path / "rise.csv"), pd.read_csv(tmp_path / "runs.csv")
    assert (
        set(zip(table.setting, table.seed, strict=True)) == {("a", 0), ("b", 1)} and len(runs) == 2
    )
    assert table[(table.curve == "source") & (table.episode == 50)]["return"].tolist() == [0.5, 0.5]
    assert runs.source_episodes.tolist() == [82, 82] and runs.distilled_episodes.tolist() == [
        22,
        22,
    ]
    assert runs.ratio_low[0] == runs.ratio_estimate[0] == pytest.approx(82 / 22, rel=1e-3)

    two_runs[1] = replace(two_runs[1], live=curves)
    assert figures.main(out) == 0 and "3 runs, 2 of them done" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "runs.csv")) == 3 and not list(tmp_path.glob("*.part"))
    two_runs[0] = replace(two_runs[0], about="2")
    figures.main([*out, "--list"])
    assert "to do rise | a | seed 0" in capsys.readouterr().out, "its settings have changed"
    assert figures.main(out) == 0 and len(pd.read_csv(tmp_path / "runs.csv")) == 3, (
        "in place of the older"
    )


def test_a_text_that_no_run_has_is_refused(two_runs, capsys):
    with pytest.raises(SystemExit):
        figures.main(["fall"])
    assert "no run has 'fall' in its name; --list shows them all" in capsys.readouterr().err


def test_every_run_of_the_paper_figures_has_a_name_of_its_own():
    keys = [run.key for run in figures.every_run()]
    assert len(keys) == len(set(keys)) > 40


PLAYED = {
    "bandit": (8, 80),
    "hard": (8, 20),
    "key_to_door": (4, 6),
    "watermaze": (4, 5),
}  # tasks, episodes


@pytest.mark.parametrize(
    "world", sorted(path.parent.name for path in figures.OUT.parent.glob("*/ad"))
)
def test_what_is_shipped_loads_and_plays_as_its_rollouts_say(world):
    folder = figures.OUT.parent / world
    model = ad.CausalTransformer.load(folder / "ad")
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 6e6
    if world == "dark_room":  # its histories are a source's
        return
    rollouts = ad.Histories.load(folder / "rollouts")
    assert (
        rollouts.spec == model.spec
        and rollouts.returns[:, :, -5:].mean() > rollouts.returns[:, :, :2].mean()
    )
    recipe = ad.RECIPES[
        {folder: name for name, folder in figures.SHIPPED.items()}.get(world, world)
    ]
    tasks, episodes = PLAYED[world]
    play = lambda agent: (
        ad.collect(
            recipe.env, rollouts.task_values[:tasks], agent, episodes=episodes, seed=2
        ).returns
    )
    late = lambda memory: play(ad.InContext(model, memory=memory))[:, :, -episodes // 3 :].mean()
    assert late("lifetime") > late("episode") + 0.15, "it has learned nothing of learning"
