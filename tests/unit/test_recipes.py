"""Recipes split honestly; runs of the paper's figures are kept one by one and resumed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import experiments
import numpy as np
import pandas as pd
import paper_runs
import pytest

import adkit as ad


@pytest.mark.parametrize("name", ad.RECIPES)
def test_a_recipes_splits_are_disjoint_and_drawn_anew(name):
    recipe = ad.RECIPES[name]
    train, test = recipe.split(0)
    assert len(train) and 0 < len(test) <= recipe.test_tasks and not set(train.ids) & set(test.ids)
    assert set(recipe.split(1)[1].ids) != set(test.ids)
    _, side = recipe.env.tasks().split(recipe.share, 0, by=recipe.held_out)
    assert len(side) == len(test) or (side.ids[: len(test)] != test.ids).any(), "not the first ones"
    assert (recipe.split(0)[1].ids == test.ids).all()
    for column in recipe.held_out:
        assert not {*map(tuple, train[column].tolist())} & {*map(tuple, test[column].tolist())}
    assert hash(recipe.env) is not None and f"{recipe}".startswith("Recipe(env=")


def curves(seed):
    """Yield two agents, one four times as fast, and the optimum."""
    rise = lambda speed: np.minimum(speed * np.arange(1, 201) / 100, 1)[None, None].repeat(4, 0)
    yield "distilled", rise(4.0)
    yield "source", rise(1.0)
    yield "optimum", np.ones((4, 1, 200))


def breaks(seed):
    raise RuntimeError("no luck")
    yield


@pytest.fixture
def three_runs(monkeypatch):
    kinds = [("a", 0, curves), ("b", 0, breaks), ("b", 1, curves)]
    runs = [experiments.Run("rise", setting, seed, of, "1") for setting, seed, of in kinds]
    pool = lambda at_once, context: ThreadPoolExecutor(1)
    monkeypatch.setattr(paper_runs, "every_run", lambda: runs)
    monkeypatch.setattr(paper_runs, "ProcessPoolExecutor", pool)
    return runs


def test_runs_are_kept_one_by_one_and_only_the_missing_are_run_again(three_runs, tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    assert paper_runs.main(out) == 1, "one of them failed"
    assert "FAILED: RuntimeError('no luck')" in capsys.readouterr().out
    table, runs = pd.read_csv(tmp_path / "rise.csv"), pd.read_csv(tmp_path / "runs.csv")
    assert set(zip(table.setting, table.seed, strict=True)) == {("a", 0), ("b", 1)}
    assert table[(table.curve == "source") & (table.episode == 50)]["return"].tolist() == [0.5, 0.5]
    assert (
        runs.source_episodes.tolist() == [82, 82] and runs.distilled_episodes.tolist() == [22] * 2
    )
    assert runs.ratio_low[0] == runs.ratio_estimate[0] == pytest.approx(82 / 22, rel=1e-3)

    three_runs[1] = replace(three_runs[1], curves=curves)
    assert paper_runs.main(out) == 0 and "3 runs, 2 of them done" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "runs.csv")) == 3 and not list(tmp_path.glob("*.part"))
    three_runs[0] = replace(three_runs[0], about="2")
    paper_runs.main([*out, "--list"])
    assert "to do rise | a | seed 0" in capsys.readouterr().out, "its settings have changed"
    assert paper_runs.main(out) == 0 and len(pd.read_csv(tmp_path / "runs.csv")) == 3


def test_a_text_that_no_run_has_is_refused(three_runs, capsys):
    with pytest.raises(SystemExit):
        paper_runs.main(["fall"])
    assert "no run has 'fall' in its name; --list shows them all" in capsys.readouterr().err


def test_every_run_of_the_paper_figures_has_a_name_of_its_own():
    keys = [run.key for run in experiments.every_run()]
    assert len(keys) == len(set(keys)) > 40
