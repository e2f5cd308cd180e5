"""Histories for other people's tools: Minari there and back, and Parquet."""

import json
import os
import shutil
import sys
from dataclasses import replace
from unittest.mock import Mock

import h5py
import minari
import numpy as np
import pyarrow.parquet
import pytest
from harm import no_longer_than, no_more_than, resealed
from helpers import listed, same

import adkit as ad
from adkit import interchange
from adkit.store import ArtefactError

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


WORLDS = [cart_pole, bandit, frozen_lake]


def assert_equal(a, b):
    assert same(a, b) and list(a.arrays) == list(b.arrays)
    assert a.spec == b.spec and a.about == b.about and np.array_equal(a.episode, b.episode)
    assert a.tasks.equals(b.tasks) and list(a.tasks) == list(b.tasks)


# ---- Minari ----


@pytest.mark.parametrize("make", WORLDS)
@pytest.mark.parametrize("rows", [1, 1_000_000])  # some lifetimes at a time; all at once
def test_histories_come_back_from_minari_and_minari_reads_them(make, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setattr(interchange, "ROWS", rows)
    histories = make()
    path = histories.save(tmp_path / "saved")
    assert ad.Histories.load(path, mapped=True).to_minari(ID) == tmp_path / ID
    assert_equal(ad.Histories.from_minari(ID), histories)
    dataset, (n, e) = minari.load_dataset(ID), histories.length.shape
    assert dataset.total_episodes == n * e and dataset.total_steps == histories.length.sum()
    for i, episode in enumerate(dataset.iterate_episodes()):
        steps = histories.length[i // e, i % e]
        assert len(episode) == steps and len(episode.observations) == steps + 1
        assert all(dataset.observation_space.contains(obs) for obs in episode.observations)
        assert all(dataset.action_space.contains(action) for action in episode.actions)
        assert np.array_equal(episode.rewards, histories.arrays["reward"][i // e, i % e, :steps])
        (origin,) = dataset.storage.get_episode_metadata([i])
        numbers = origin["lifetime"], origin["episode"], origin["task_id"]
        task = histories.task_values.ids[histories.task[i // e]]
        assert numbers == (i // e, histories.episode[i % e], task)


@pytest.mark.parametrize("id", ["room", "room/ucb", "../room-v0", "a b-v0", ""])
def test_an_id_that_minari_would_not_take_is_refused(id, tmp_path):
    for call in (bandit().to_minari, ad.Histories.from_minari):
        with pytest.raises(ValueError, match="Minari's datasets are called namespace/name-v0"):
            call(id, tmp_path)


def test_no_dataset_and_other_peoples_datasets_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"write one with histories.to_minari\('room/x-v0'"):
        ad.Histories.from_minari(ID, tmp_path)
    (tmp_path / ID / "data").mkdir(parents=True)
    with pytest.raises(ArtefactError, match=r"it was not written by histories.to_minari"):
        ad.Histories.from_minari(ID, tmp_path)


def in_hdf5(change):
    """Return a change of episode 3 as Minari keeps it."""

    def damage(path):
        with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
            change(file["episode_3"])

    return damage


def instead(name, **how):
    """Return a change that puts another dataset in the place of one."""
    return in_hdf5(lambda group: (group.pop(name), group.create_dataset(name, **how)))


def _link_elsewhere(group):
    os.mkfifo("pipe.hdf5")
    del group["rewards"]
    group["rewards"] = h5py.ExternalLink("pipe.hdf5", "/rewards")


def _virtual(group):
    layout = h5py.VirtualLayout((4,), np.float32)
    layout[:] = h5py.VirtualSource(group["rewards"])
    group.move("rewards", "old")
    group.create_virtual_dataset("rewards", layout)


def _pipe(path):
    (path / "data" / "main_data.hdf5").unlink()
    os.mkfifo(path / "data" / "main_data.hdf5")


def spec_of(**changed):
    ask = lambda manifest: manifest["about"]["spec"].update(changed)
    return lambda path: resealed(path / "adkit", ask)


NOTHING = {"shape": (10**12,), "dtype": np.float32, "chunks": (10**6,)}  # a terabyte in a kilobyte
OUTSIDE = {"shape": (4,), "dtype": "f4", "external": [("/etc/passwd", 0, 16)]}
DAMAGE = [
    (lambda path: os.truncate(path / "data" / "main_data.hdf5", 1000), "does not hold"),
    (lambda path: os.truncate(path / "adkit" / "task.npy", 100), "task.npy has 100 bytes"),
    (in_hdf5(lambda group: group["actions"].write_direct(np.full(4, 300))), "that are no uint8"),
    (in_hdf5(lambda group: group.pop("actions")), "does not hold"),
    (in_hdf5(lambda group: group.parent.pop("episode_9")), "9 episodes are not 10 lifetimes of 1"),
    (in_hdf5(lambda group: group.parent.move("episode_9", "x")), "does not hold"),
    (instead("rewards", data=np.zeros(5, np.float32)), "episode 3 has arrays of 5 and of other"),
    (instead("rewards", **NOTHING), "episode 3 has arrays of 1000000000000"),
    (instead("rewards", data=1.0), "does not hold"),
    (instead("rewards", data=["a"] * 4), "holds no numbers"),
    (instead("rewards", data=np.zeros(4, "f4"), compression="gzip"), "is compressed, or kept else"),
    (instead("rewards", **OUTSIDE), "is compressed, or kept elsewhere"),
    (instead("actions", data=[np.nan] * 4), "float64 numbers that are no uint8"),
    (in_hdf5(_virtual), "is compressed, or kept elsewhere"),
    (in_hdf5(_link_elsewhere), "is kept elsewhere"), (_pipe, "0 bytes are not 10 lifetimes"),
    (spec_of(horizon=2**31 - 1), "bytes are not 10 lifetimes of 1 episodes of up to 2147483647"),
    (spec_of(horizon=10**6, cardinality=[3] * 1024), "bytes are not 10 lifetimes"),
]  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return bandit().to_minari(ID, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(("damage", "says"), DAMAGE)
def test_a_damaged_dataset_is_refused_without_taking_memory(
    dataset, tmp_path, monkeypatch, damage, says
):
    monkeypatch.chdir(tmp_path)
    damage(shutil.copytree(dataset, tmp_path / ID))
    with no_longer_than(30), no_more_than(2**26), pytest.raises(ArtefactError, match=says):
        ad.Histories.from_minari(ID, tmp_path)


def test_nothing_is_run_that_a_dataset_names(dataset, tmp_path):
    """Minari makes the environment of a dataset by calling what its metadata say."""
    file = shutil.copytree(dataset, tmp_path / ID) / "data" / "metadata.json"
    env = {"id": "x-v0", "disable_env_checker": True, "order_enforce": False}
    env |= {"entry_point": "os:system", "vector_entry_point": None, "additional_wrappers": []}
    env["kwargs"] = {"command": f"touch {tmp_path}/owned"}
    metadata = json.loads(file.read_text()) | {"env_spec": json.dumps(env)}
    del metadata["observation_space"]
    file.write_text(json.dumps(metadata))
    assert_equal(ad.Histories.from_minari(ID, tmp_path), bandit())
    assert listed(tmp_path) == ["room"]


# ---- whole or not at all ----


def writers(folder):
    """Return what writes, by the place where it does."""
    histories = bandit()
    to_parquet = lambda: histories.to_parquet(folder / "rows.parquet")
    to_minari = lambda: histories.to_minari(ID, folder)
    return {folder / "rows.parquet": to_parquet, folder / ID: to_minari}


def files(folder):
    return {path.name: path.read_text() for path in folder.rglob("[!.]*") if path.is_file()}


@pytest.mark.parametrize("when", ["before", "meanwhile", "at the last step"])
def test_what_is_there_is_kept(tmp_path, monkeypatch, when):
    for path, write in writers(tmp_path).items():
        path.parent.mkdir(exist_ok=True)
        come = lambda path=path: path.write_text("mine") if not path.exists() else None
        if when == "before":
            come()
        parts = interchange._parts
        with monkeypatch.context() as patch:
            patch.setattr(interchange, "_parts", lambda h: (come(), parts(h))[1])  # noqa: B023
            if when == "at the last step" and path.suffix:  # after the last look
                patch.setattr(os.path, "lexists", lambda _: False)
            with pytest.raises(FileExistsError, match="is there already|that one was kept"):
                write()
    assert files(tmp_path) == {"rows.parquet": "mine", "x-v0": "mine"}
    assert listed(tmp_path) == ["room", "rows.parquet"] and listed(tmp_path / "room") == ["x-v0"]


def test_what_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        yield {"lifetime": 0}
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(interchange, "_origins", full)
    monkeypatch.setattr(interchange, "_rows", lambda *_: list(full()))
    for write in writers(tmp_path).values():
        with pytest.raises(OSError, match=r"was not written \(No space left on device\)"):
            write()
    assert not files(tmp_path) and listed(tmp_path) == ["room"] and not listed(tmp_path / "room")


def test_where_there_are_no_links_a_file_is_renamed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", Mock(side_effect=PermissionError))
    bandit().to_parquet(tmp_path / "rows.parquet")
    assert listed(tmp_path) == ["rows.parquet"]


# ---- Parquet ----


@pytest.mark.parametrize("make", WORLDS)
@pytest.mark.parametrize("rows", [1, 1_000_000])
def test_parquet_has_a_row_for_every_transition(make, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(interchange, "ROWS", rows)
    histories = make()
    table = pyarrow.parquet.read_table(histories.to_parquet(tmp_path / "rows.parquet"))
    column = lambda name: np.array(table[name].to_pylist()).reshape(table.num_rows, -1)
    n, e, t = np.nonzero(np.arange(histories.spec.horizon) < histories.length[..., None])
    end = t == histories.length[n, e] - 1
    after = histories.arrays["obs"][n, e, np.where(end, 0, t + 1)]
    after[end] = histories.final_obs[n[end], e[end]]
    wanted = {"lifetime": n, "episode": histories.episode[e], "step": t, "next_obs": after}
    wanted |= {name: histories.arrays[name][n, e, t] for name in interchange.TRANSITIONS[2:]}
    wanted |= {"obs": histories.arrays["obs"][n, e, t]}
    wanted["task"] = histories.task_values.ids[histories.task[n]]
    for name, values in histories.task_values.columns.items():
        wanted[f"task_{name}"] = values[histories.task[n]]
    assert sorted(table.column_names) == sorted(wanted)
    for name, values in wanted.items():
        assert np.array_equal(column(name), values.reshape(len(n), -1)), name
    told = json.loads(table.schema.metadata[b"adkit"])
    assert ad.EnvSpec(**told["spec"]) == histories.spec and told["about"] == histories.about


@pytest.mark.parametrize("package", ["minari", "h5py", "pyarrow"])
def test_a_missing_extra_is_named(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    says = rf"needs {package}, which is not installed .*pip install -e '\.\[interchange\]'"
    with pytest.raises(ImportError, match=says):
        for write in writers(tmp_path).values():
            write()
