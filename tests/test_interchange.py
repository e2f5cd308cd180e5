"""Histories for other people's tools: Minari there and back, Parquet, and clear words where something is missing."""

import json
import sys
from dataclasses import replace

import minari
import numpy as np
import pyarrow.parquet
import pytest
from conftest import same

import adkit as ad
from adkit import interchange
from adkit.artefacts import ArtefactError

ID = "room/posterior-sampling-v0"


def cart_pole(lifetimes=2, episodes=3):
    """Real-valued observations, and episodes that all end early."""
    env = ad.envs.from_gymnasium("CartPole-v1", horizon=200)
    return ad.collect(env, env.tasks(), ad.sources.Random(), episodes=episodes, lifetimes=lifetimes)


def bandit():
    env = ad.envs.AdversarialBandit(arms=3, horizon=4)
    return ad.collect(env, env.tasks()[:5], ad.sources.UCB(), episodes=1, lifetimes=2)


def frozen_lake():
    """Task columns of text; every other episode; lifetimes picked, so that tasks have different numbers of them."""
    env = ad.envs.from_gymnasium("FrozenLake-v1", tasks=[{"map_name": "4x4"}, {"map_name": "4x4"}], is_slippery=True)
    return ad.collect(env, env.tasks(), ad.sources.QLearning(), episodes=6, lifetimes=3, every=2)[[0, 1, 4]]


def watermaze():
    env = ad.envs.Watermaze(view="pose")
    return ad.collect(env, env.tasks()[:2], ad.sources.GoalSearch(), episodes=2)


WORLDS = [cart_pole, bandit, frozen_lake, watermaze]


def assert_equal(a, b):
    assert same(a, b) and list(a.arrays) == list(b.arrays) and a.spec == b.spec and a.about == b.about
    assert all(a.arrays[name].dtype == b.arrays[name].dtype for name in a.arrays)
    assert np.array_equal(a.episode, b.episode) and np.array_equal(a.task_values.ids, b.task_values.ids)
    for name, column in a.task_values.columns.items():
        other = b.task_values.columns[name]
        assert column.dtype == other.dtype and column.tobytes() == other.tobytes()


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """Where Minari looks."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("make", WORLDS)
def test_histories_come_back_from_minari_bit_for_bit(make, datasets):
    histories = make()
    assert histories.to_minari(ID) == datasets / ID
    assert_equal(ad.Histories.from_minari(ID), histories)
    assert_equal(ad.Histories.from_minari(ID, datasets), histories)


@pytest.mark.parametrize("make", WORLDS)
def test_minari_loads_every_episode_and_its_spaces_hold_them(make, datasets):
    histories = make()
    histories.to_minari(ID)
    dataset, (n, e) = minari.load_dataset(ID), histories.length.shape
    assert dataset.total_episodes == n * e and dataset.total_steps == histories.length.sum()
    assert list(minari.list_local_datasets()) == [ID]
    for i, episode in enumerate(dataset.iterate_episodes()):
        steps = histories.length[i // e, i % e]
        assert len(episode) == steps and len(episode.observations) == steps + 1 and "EpisodeData(" in repr(episode)
        assert all(dataset.observation_space.contains(obs) for obs in episode.observations)
        assert all(dataset.action_space.contains(action) for action in episode.actions)
        assert (episode.terminations | episode.truncations).tolist() == [False] * (steps - 1) + [True]
        assert np.array_equal(episode.rewards, histories.arrays["reward"][i // e, i % e, :steps])


def test_minari_knows_which_lifetime_task_and_episode_it_holds(datasets):
    histories = frozen_lake()
    histories.to_minari(ID)
    storage = minari.load_dataset(ID).storage
    (origin,) = storage.get_episode_metadata([2 * histories.n_episodes + 1])
    assert (origin["lifetime"], origin["episode"], origin["task_id"], origin["task"]) == (2, 2, 1, {"map_name": "4x4"})
    assert storage.metadata["algorithm_name"] == histories.about["agent"]


def test_labels_come_along(datasets):
    histories = bandit()
    labels = {"mood": np.arange(10, dtype=np.int16), "felt": np.full((10, 1, 4, 2), np.nan)}
    labelled = replace(histories, arrays=histories.arrays | labels)
    labelled.to_minari(ID)
    assert_equal(ad.Histories.from_minari(ID), labelled)


def test_a_dataset_is_never_written_over(datasets):
    histories = bandit()
    histories.to_minari(ID)
    with pytest.raises(FileExistsError, match="is there already; write under another name"):
        cart_pole().to_minari(ID)
    assert_equal(ad.Histories.from_minari(ID), histories)


def test_what_fails_half_way_leaves_nothing(datasets, monkeypatch):
    def broken(*_):
        yield {"lifetime": 0}
        raise OSError("No space left on device")

    monkeypatch.setattr(interchange, "_origins", broken)
    with pytest.raises(OSError, match="No space"):
        bandit().to_minari(ID)
    assert not [path for path in datasets.rglob("*") if path.is_file()]
    monkeypatch.setattr(interchange, "_rows", broken)
    with pytest.raises(AttributeError):
        bandit().to_parquet(datasets / "x.parquet")
    assert not [path for path in datasets.rglob("*") if path.is_file()]


@pytest.mark.parametrize("id", ["room", "room/ucb", "../room-v0", "a b-v0", ""])
def test_an_id_that_minari_would_not_take_is_refused(id, datasets):
    with pytest.raises(ValueError, match="Minari's datasets are called namespace/name-v0"):
        bandit().to_minari(id)
    with pytest.raises(ValueError, match="Minari's datasets are called namespace/name-v0"):
        ad.Histories.from_minari(id)


def test_no_dataset_and_other_peoples_datasets_are_told_apart(datasets):
    with pytest.raises(FileNotFoundError, match=r"holds no Minari dataset; write one with histories.to_minari\('room/x-v0'\)"):
        ad.Histories.from_minari("room/x-v0")
    (datasets / "d4rl" / "x-v0" / "data").mkdir(parents=True)
    with pytest.raises(ArtefactError, match=r"it was not written by histories.to_minari"):
        ad.Histories.from_minari("d4rl/x-v0")


def _truncate(path):
    file = path / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:1000])


def _forget_an_episode(path):
    metadata = json.loads((path / "data" / "metadata.json").read_text())
    (path / "data" / "metadata.json").write_text(json.dumps(metadata | {"total_episodes": 9}))


def _change_a_task(path):
    file = path / "adkit" / "task.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")


def _act_out_of_range(path):
    import h5py

    with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
        file["episode_3"]["actions"][0] = 300


@pytest.mark.parametrize("damage", [_truncate, _forget_an_episode, _change_a_task, _act_out_of_range])
def test_a_damaged_dataset_is_refused(damage, datasets):
    damage(bandit().to_minari(ID))
    with pytest.raises(ArtefactError, match="does not"):
        ad.Histories.from_minari(ID)


@pytest.mark.parametrize("make", WORLDS)
@pytest.mark.parametrize("rows", [1, 1_000_000])
def test_parquet_has_a_row_for_every_transition(make, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(interchange, "ROWS", rows)  # a lifetime at a time; all at once
    histories = make()
    table = pyarrow.parquet.read_table(histories.to_parquet(tmp_path / "rows.parquet"))
    assert table.num_rows == histories.length.sum()
    column = lambda name: np.array(table[name].to_pylist())
    n, t = column("lifetime"), column("step")
    e = np.searchsorted(histories.episode, column("episode"))
    assert (np.diff(np.ravel_multi_index((n, e, t), histories.arrays["action"].shape)) > 0).all()
    flat = lambda values: values.reshape(len(n), -1).squeeze()
    for name in ("obs", "action", "reward", "terminated", "truncated"):
        assert np.array_equal(flat(column(name)), flat(histories.arrays[name][n, e, t]))
    last = column("terminated") | column("truncated")
    assert last.sum() == histories.length.size
    after = column("next_obs").reshape(len(n), -1)
    assert np.array_equal(after[last], histories.final_obs[n[last], e[last]].reshape(last.sum(), -1))
    assert np.array_equal(after[~last], column("obs").reshape(len(n), -1)[np.flatnonzero(~last) + 1])
    assert np.array_equal(column("task"), histories.task_values.ids[histories.task[n]])
    for name, values in histories.task_values.columns.items():
        assert np.array_equal(flat(column(f"task_{name}")), flat(values[histories.task[n]]))
    told = json.loads(table.schema.metadata[b"adkit"])
    assert ad.EnvSpec(**told["spec"]) == histories.spec and told["about"] == histories.about


def test_a_parquet_file_is_never_written_over(tmp_path):
    (tmp_path / "rows.parquet").write_text("mine")
    with pytest.raises(FileExistsError, match="rows.parquet is there already; write under another name"):
        bandit().to_parquet(tmp_path / "rows.parquet")
    assert (tmp_path / "rows.parquet").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("minari", "interchange", lambda folder: bandit().to_minari(ID, folder)),
        ("h5py", "interchange", lambda folder: ad.Histories.from_minari(ID, folder)),
        ("pyarrow", "interchange", lambda folder: bandit().to_parquet(folder / "x.parquet")),
        ("stable_baselines3", "rl", lambda folder: live(ad.sources.StableBaselines3("PPO"))),
    ],
)
def test_a_missing_extra_is_named(package, extra, use, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ImportError, match=rf"needs {package}, which is not installed .*pip install -e '\.\[{extra}\]'"):
        use(tmp_path)
    assert not list(tmp_path.iterdir())


def live(source):
    env = ad.envs.DarkRoom(size=3, horizon=4)
    return ad.collect(env, env.tasks()[:1], source, episodes=1)
