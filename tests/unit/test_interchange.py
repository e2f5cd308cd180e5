"""Histories for other people's tools: Minari there and back, and Parquet."""

import json
import sys
from dataclasses import replace
from functools import partial
from itertools import product
from unittest.mock import Mock

import minari
import numpy as np
import pyarrow.parquet
import pytest
from helpers import listed, same

import adkit as ad
from adkit.interchange import tools as interchange

ID = "room/x-v0"


def cart_pole():
    """Real-valued observations, and episodes that all end early."""
    env = ad.envs.from_gymnasium("CartPole-v1", horizon=200)
    return ad.collect(env, env.tasks(), ad.sources.Random(), episodes=3, lifetimes=2)


def bandit():
    """Labels, and ten lifetimes of one episode of four steps."""
    env = ad.envs.AdversarialBandit(arms=3, horizon=4)
    found = ad.collect(env, env.tasks()[:5], ad.sources.UCB(), episodes=1, lifetimes=2)
    labels = {"mood": np.arange(10, dtype=np.int16), "felt": np.full((10, 1, 4, 2), np.nan)}
    return replace(found, arrays=found.arrays | labels)


def frozen_lake():
    """Text in task columns; every other episode; tasks with different numbers of lifetimes."""
    maps = [{"map_name": "4x4"}, {"map_name": "4x4"}]
    env = ad.envs.from_gymnasium("FrozenLake-v1", tasks=maps, is_slippery=True)
    learner = ad.sources.QLearning()
    return ad.collect(env, env.tasks(), learner, episodes=6, lifetimes=3, every=2)[[0, 1, 4]]


def assert_equal(a, b):
    assert same(a, b) and list(a.arrays) == list(b.arrays)
    assert a.spec == b.spec and a.about == b.about and np.array_equal(a.episode, b.episode)
    assert a.tasks.equals(b.tasks) and list(a.tasks) == list(b.tasks)


@pytest.fixture(params=product([cart_pole, bandit, frozen_lake], [1, 1_000_000]))
def made(request, monkeypatch):
    """Return histories, to be written a lifetime at a time, or all at once."""
    make, rows = request.param
    monkeypatch.setattr(interchange, "ROWS", rows)
    return make()


def test_histories_come_back_from_minari_and_minari_reads_them(made, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    path = made.save(tmp_path / "saved")
    assert interchange.to_minari(ad.Histories.load(path, mapped=True), ID) == tmp_path / ID
    assert_equal(interchange.from_minari(ID), made)
    dataset, (n, e) = minari.load_dataset(ID), made.length.shape
    assert dataset.total_episodes == n * e and dataset.total_steps == made.length.sum()
    for i, episode in enumerate(dataset.iterate_episodes()):
        at = i // e, i % e
        steps = made.length[at]
        assert len(episode) == steps and len(episode.observations) == steps + 1
        assert all(dataset.observation_space.contains(obs) for obs in episode.observations)
        assert all(dataset.action_space.contains(action) for action in episode.actions)
        assert np.array_equal(episode.rewards, made.arrays["reward"][at][:steps])
        (origin,) = dataset.storage.get_episode_metadata([i])
        numbers = origin["lifetime"], origin["episode"], origin["task_id"]
        assert numbers == (i // e, made.episode[i % e], made.task_values.ids[made.task[i // e]])


def test_parquet_has_a_row_for_every_transition(made, tmp_path):
    table = pyarrow.parquet.read_table(interchange.to_parquet(made, tmp_path / "rows.parquet"))
    told, frame = json.loads(table.schema.metadata[b"adkit"]), table.to_pandas()
    assert ad.EnvSpec(**told["spec"]) == made.spec and told["about"] == made.about
    assert len(frame) == made.length.sum()
    for (n, number), rows in frame.groupby(["lifetime", "episode"]):
        e, task = made.episode.tolist().index(number), made.task[n]
        steps = np.arange(made.length[n, e])
        wanted = {name: made.arrays[name][n, e, steps] for name in ("obs", *interchange.NAMES)}
        wanted["step"], wanted["task"] = steps, np.full(len(steps), made.task_values.ids[task])
        wanted["next_obs"] = [*wanted["obs"][1:], made.final_obs[n, e]]
        for name, values in made.task_values.columns.items():
            wanted[f"task_{name}"] = [values[task]] * len(steps)
        assert {*rows} == {"lifetime", "episode", *wanted}
        for name, values in wanted.items():
            assert np.array_equal(np.array(rows[name].tolist()), values), name


def test_what_no_one_here_wrote_is_refused(tmp_path):
    for call in (partial(interchange.to_minari, bandit()), interchange.from_minari):
        with pytest.raises(ValueError, match="Malformed dataset ID: ../room-v0"):
            call("../room-v0", tmp_path)
    (tmp_path / ID / "data").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no dataset written by to_minari"):
        interchange.from_minari(ID, tmp_path)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_is_there_is_kept(tmp_path, monkeypatch, when):
    come = lambda *_: (tmp_path / "x").write_text("mine")
    if when == "before":
        come()
    monkeypatch.setattr(interchange.folders, "flush", come)
    with pytest.raises(FileExistsError, match="is there already|by another process"):
        interchange.to_parquet(bandit(), tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine" and listed(tmp_path) == ["x"]


def test_what_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(interchange.folders, "flush", Mock(side_effect=OSError(28, "")))
    says = r"x.* was not saved \(No space left on device\)"
    with pytest.raises(OSError, match=says):
        interchange.to_parquet(bandit(), tmp_path / "x")
    with pytest.raises(OSError, match=says):
        interchange.to_minari(bandit(), ID, tmp_path)
    assert listed(tmp_path) == ["room"] and not listed(tmp_path / "room")


@pytest.mark.parametrize("package", ["minari", "h5py", "pyarrow"])
def test_a_missing_extra_is_named(package, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    says = rf"needs {package}, which is not installed .*pip install -e '\.\[interchange\]'"
    with pytest.raises(ImportError, match=says):
        interchange.to_minari(bandit(), ID)
        interchange.to_parquet(bandit(), tmp_path / "x")
