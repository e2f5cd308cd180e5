"""Histories for other people's tools: Minari there and back, Parquet, and clear words where something is missing."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import h5py
import minari
import numpy as np
import pyarrow.parquet
import pytest
from helpers import same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_untrusted import CASES, mutated, no_longer_than, no_more_than, resealed, text_of

import adkit as ad
from adkit import interchange
from adkit.store import ArtefactError

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
    env = ad.envs.from_gymnasium(
        "FrozenLake-v1", tasks=[{"map_name": "4x4"}, {"map_name": "4x4"}], is_slippery=True
    )
    return ad.collect(env, env.tasks(), ad.sources.QLearning(), episodes=6, lifetimes=3, every=2)[
        [0, 1, 4]
    ]


def watermaze():
    env = ad.envs.Watermaze(view="pose")
    return ad.collect(env, env.tasks()[:2], ad.sources.GoalSearch(), episodes=2)


WORLDS = [cart_pole, bandit, frozen_lake, watermaze]


def assert_equal(a, b):
    assert (
        same(a, b) and list(a.arrays) == list(b.arrays) and a.spec == b.spec and a.about == b.about
    )
    assert all(a.arrays[name].dtype == b.arrays[name].dtype for name in a.arrays)
    assert np.array_equal(a.episode, b.episode) and np.array_equal(
        a.task_values.ids, b.task_values.ids
    )
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
        assert (
            len(episode) == steps
            and len(episode.observations) == steps + 1
            and "EpisodeData(" in repr(episode)
        )
        assert all(dataset.observation_space.contains(obs) for obs in episode.observations)
        assert all(dataset.action_space.contains(action) for action in episode.actions)
        assert (episode.terminations | episode.truncations).tolist() == [False] * (steps - 1) + [
            True
        ]
        assert np.array_equal(episode.rewards, histories.arrays["reward"][i // e, i % e, :steps])


def test_minari_knows_which_lifetime_task_and_episode_it_holds(datasets):
    histories = frozen_lake()
    histories.to_minari(ID)
    storage = minari.load_dataset(ID).storage
    (origin,) = storage.get_episode_metadata([2 * histories.n_episodes + 1])
    assert (origin["lifetime"], origin["episode"], origin["task_id"], origin["task"]) == (
        2,
        2,
        1,
        {"map_name": "4x4"},
    )
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
    rows, written = interchange._rows, []

    def full(*given):
        if written:
            raise OSError("No space left on device")
        written.append(1)
        return rows(*given)

    monkeypatch.setattr(interchange, "_rows", full)
    monkeypatch.setattr(interchange, "ROWS", 1)  # the first lifetime is in the file by then
    with pytest.raises(OSError, match=r"x.parquet was not written \(No space"):
        bandit().to_parquet(datasets / "x.parquet")
    assert written and not [path for path in datasets.rglob("*") if path.is_file()]


MADE = """
import os, resource, signal, sys
import adkit as ad
from adkit import interchange
env = ad.envs.AdversarialBandit(arms=3, horizon=4)
histories = ad.collect(env, env.tasks()[:5], ad.sources.UCB(), episodes=1, lifetimes=20)
"""
KILLED = """
interchange._origins = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
histories.to_minari("room/x-v0", sys.argv[1])
"""
LIMITED = """
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for write in (lambda: histories.to_minari("room/x-v0", sys.argv[1]), lambda: histories.to_parquet(sys.argv[1] + "/x.parquet")):
    try:
        write()
    except OSError as error:
        assert "was not written (File too large), and nothing is left of it. Make room" in str(error), error
        print("told")
"""


def run(code: str, folder) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", MADE + code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path):
    assert run(KILLED, tmp_path).returncode == -9
    (left,) = (tmp_path / "room").iterdir()
    assert left.name.startswith(".x-v0.") and left.suffix == ".tmp"
    bandit().to_minari("room/x-v0", tmp_path)
    assert [path.name for path in (tmp_path / "room").iterdir()] == ["x-v0"]


def test_where_there_is_no_room_one_is_told_and_the_process_lives(tmp_path):
    """HDF5 itself would crash it."""
    done = run(LIMITED, tmp_path)
    assert (done.stdout, done.returncode) == ("told\ntold\n", 0), done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("make", WORLDS)
def test_the_room_that_is_reserved_is_enough_and_not_far_too_much(make, tmp_path):
    histories = make()
    data = histories.to_minari(ID, tmp_path) / "data"
    assert (
        1 < interchange._size(histories) / sum(file.stat().st_size for file in data.iterdir()) < 4
    )


def test_what_another_program_wrote_meanwhile_is_kept(tmp_path, monkeypatch):
    rows, origins = interchange._rows, interchange._origins
    file, folder = tmp_path / "rows.parquet", tmp_path / ID
    monkeypatch.setattr(
        interchange, "_rows", lambda *given: (file.write_text("mine"), rows(*given))[1]
    )
    monkeypatch.setattr(
        interchange,
        "_origins",
        lambda *given: ((folder / "it").mkdir(parents=True), origins(*given))[1],
    )
    for write in (lambda: bandit().to_parquet(file), lambda: bandit().to_minari(ID, tmp_path)):
        with pytest.raises(
            FileExistsError, match="was written by another process meanwhile; that one was kept"
        ):
            write()
    file.unlink()
    monkeypatch.setattr(
        os.path, "lexists", lambda _: False
    )  # it came between the last look and the last step
    with pytest.raises(FileExistsError, match="that one was kept"):
        bandit().to_parquet(file)
    assert file.read_text() == "mine" and [path.name for path in folder.parent.rglob("*")] == [
        folder.name,
        "it",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["room", "rows.parquet"]


def test_where_there_are_no_links_a_file_is_renamed(tmp_path, monkeypatch):
    def unsupported(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", unsupported)
    bandit().to_parquet(tmp_path / "rows.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_histories_on_disk_are_written_some_at_a_time(tmp_path, monkeypatch):
    """Nothing is computed of all lifetimes at once."""
    histories = watermaze()
    on_disk = ad.Histories.load(histories.save(tmp_path / "it"), mapped=True)
    whole = histories.to_parquet(tmp_path / "whole.parquet")
    monkeypatch.setattr(interchange, "ROWS", 1)
    monkeypatch.setattr(ad.Histories, "length", None)
    parts = on_disk.to_parquet(tmp_path / "parts.parquet")
    assert pyarrow.parquet.read_table(parts).equals(pyarrow.parquet.read_table(whole))
    on_disk.to_minari(ID, tmp_path)
    assert_equal(ad.Histories.from_minari(ID, tmp_path), histories)


@pytest.mark.parametrize("id", ["room", "room/ucb", "../room-v0", "a b-v0", ""])
def test_an_id_that_minari_would_not_take_is_refused(id, datasets):
    with pytest.raises(ValueError, match="Minari's datasets are called namespace/name-v0"):
        bandit().to_minari(id)
    with pytest.raises(ValueError, match="Minari's datasets are called namespace/name-v0"):
        ad.Histories.from_minari(id)


def test_no_dataset_and_other_peoples_datasets_are_told_apart(datasets):
    with pytest.raises(
        FileNotFoundError,
        match=r"holds no Minari dataset; write one with histories.to_minari\('room/x-v0'\)",
    ):
        ad.Histories.from_minari("room/x-v0")
    (datasets / "d4rl" / "x-v0" / "data").mkdir(parents=True)
    with pytest.raises(ArtefactError, match=r"it was not written by histories.to_minari"):
        ad.Histories.from_minari("d4rl/x-v0")


def _truncate(path):
    file = path / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:1000])


def _change_a_task(path):
    file = path / "adkit" / "task.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")


def in_hdf5(change):
    """A change of episode 3 as Minari keeps it."""

    def damage(path):
        with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
            change(file["episode_3"])

    return damage


def instead(name, **how):
    """Another dataset in the place of one."""

    def change(group):
        del group[name]
        group.create_dataset(name, **how)

    return in_hdf5(change)


def _link_elsewhere(group):
    shutil.copy(group.file.filename, "other.hdf5")
    del group["rewards"]
    group["rewards"] = h5py.ExternalLink("other.hdf5", "/episode_3/rewards")


def _wait_for_a_pipe(group):
    os.mkfifo("pipe.hdf5")
    group.move("rewards", "old")
    group["rewards"] = h5py.ExternalLink("pipe.hdf5", "/rewards")


def _virtual(group):
    layout = h5py.VirtualLayout((4,), np.float32)
    layout[:] = h5py.VirtualSource(group["rewards"])
    group.move("rewards", "old")
    group.create_virtual_dataset("rewards", layout)


NOTHING = {"shape": (10**12,), "dtype": np.float32, "chunks": (10**6,)}  # a terabyte in a kilobyte
DAMAGE = {
    "cut": (_truncate, "does not hold"), "a task changed": (_change_a_task, "does not match its sha256"),
    "an action": (in_hdf5(lambda group: group["actions"].write_direct(np.full(4, 300))), "int64 numbers that are no uint8"),
    "no action": (in_hdf5(lambda group: group.pop("actions")), "does not hold"),
    "an episode less": (in_hdf5(lambda group: group.parent.pop("episode_9")), "9 episodes are not 10 lifetimes of 1"),
    "another's name": (in_hdf5(lambda group: group.parent.move("episode_9", "x")), "does not hold"),
    "too long": (instead("rewards", data=np.zeros(5, np.float32)), "episode 3 has 5 steps, it says, and other arrays do not"),
    "sparse": (instead("rewards", **NOTHING), "or the file is too small"),
    "scalar": (instead("rewards", data=1.0), "does not hold"), "text": (instead("rewards", data=["a"] * 4), "holds no numbers"),
    "a group": (in_hdf5(lambda group: (group.pop("rewards"), group.create_group("rewards"))), "holds no numbers"),
    "compressed": (instead("rewards", data=np.zeros(4, np.float32), compression="gzip"), "is compressed, or kept elsewhere"),
    "external": (instead("rewards", shape=(4,), dtype="f4", external=[("/etc/passwd", 0, 16)]), "is compressed, or kept elsewhere"),
    "virtual": (in_hdf5(_virtual), "is compressed, or kept elsewhere"), "linked": (in_hdf5(_link_elsewhere), "is kept elsewhere"),
    "a pipe": (in_hdf5(_wait_for_a_pipe), "is kept elsewhere"),
    "not a number": (instead("actions", data=[np.nan] * 4), "float64 numbers that are no uint8"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_dataset_is_refused(what, datasets, monkeypatch):
    monkeypatch.chdir(datasets)
    damage, says = DAMAGE[what]
    damage(bandit().to_minari(ID))
    with no_longer_than(30), pytest.raises(ArtefactError, match=says):
        ad.Histories.from_minari(ID)


@pytest.mark.parametrize("name", ["main_data.hdf5", "metadata.json"])
def test_a_pipe_in_a_files_place_is_not_waited_for(name, datasets):
    file = bandit().to_minari(ID) / "data" / name
    file.unlink()
    os.mkfifo(file)
    with no_longer_than(30):
        if name == "metadata.json":  # Minari's own
            assert_equal(ad.Histories.from_minari(ID), bandit())
            return
        with pytest.raises(ArtefactError, match="0 bytes are not 10 lifetimes"):
            ad.Histories.from_minari(ID)


def test_nothing_is_run_that_a_dataset_names(datasets):
    """Minari itself makes the environment of a dataset that has no spaces, by calling what its metadata say."""
    file = bandit().to_minari(ID) / "data" / "metadata.json"
    metadata = json.loads(file.read_text())
    command = {
        "entry_point": "os:system",
        "kwargs": {"command": f"touch {datasets}/owned"},
        "additional_wrappers": [],
    }
    env = {
        "id": "x-v0",
        "disable_env_checker": True,
        "order_enforce": False,
        "vector_entry_point": None,
    } | command
    del metadata["observation_space"]
    file.write_text(json.dumps(metadata | {"env_spec": json.dumps(env)}))
    assert_equal(ad.Histories.from_minari(ID), bandit())
    assert not (datasets / "owned").exists()


@pytest.mark.parametrize(
    "asked", [{"horizon": 2**31 - 1}, {"horizon": 10**6, "cardinality": [3] * 1024}]
)
def test_no_memory_is_taken_for_sizes_that_a_dataset_has_not(asked, datasets, monkeypatch):
    folder = bandit().to_minari(ID) / "adkit"
    resealed(folder, lambda manifest: manifest["about"]["spec"].update(asked))
    with (
        no_more_than(2**26),
        pytest.raises(ArtefactError, match="bytes are not 10 lifetimes of 1 episodes of up to"),
    ):
        ad.Histories.from_minari(ID)


def test_more_than_there_is_memory_is_refused(datasets, monkeypatch):
    folder = bandit().to_minari(ID) / "adkit"
    resealed(
        folder,
        lambda manifest: manifest["about"]["spec"].update(
            horizon=2**31 - 1, cardinality=[3] * 1024
        ),
    )
    monkeypatch.setattr(interchange, "AT_MOST", 10**12)
    with pytest.raises(ArtefactError, match="Unable to allocate"):
        ad.Histories.from_minari(ID)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A small one, of labels and texts, to be harmed in copies."""
    histories = frozen_lake()
    labels = {
        "mood": np.arange(3, dtype=np.int16),
        "felt": np.zeros((3, 3, histories.spec.horizon)),
    }
    labelled = replace(histories, arrays=histories.arrays | labels)
    whole = labelled, labelled.to_minari(ID, tmp_path_factory.mktemp("whole"))
    return lambda: whole  # a function, so that no failure prints it all


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(rng=st.randoms(use_true_random=True))
def test_a_harmed_dataset_loads_complete_or_says_so(dataset, tmp_path_factory, rng):
    """By a stranger, who puts the hashes right again; Minari's own metadata are never read."""
    histories, whole = dataset()
    home = tmp_path_factory.getbasetemp() / "harmed"
    shutil.rmtree(home, ignore_errors=True)
    folder = shutil.copytree(whole, home / ID)
    how = rng.choice(["manifest", "metadata", "numbers"])
    file = folder / ("adkit/manifest.json" if how == "manifest" else "data/metadata.json")
    tree = mutated(rng, json.loads(file.read_bytes()))
    file.write_bytes(text_of(tree))
    if how == "manifest":
        with suppress(ValueError):  # what cannot be written as text
            resealed(file.parent, lambda _: None)
    elif how == "numbers":
        with h5py.File(folder / "data" / "main_data.hdf5", "a") as stored:
            group = stored[f"episode_{rng.randrange(9)}"]
            name = rng.choice(["observations", "actions", "rewards", "terminations", "truncations"])
            old = group.pop(name)[()]
            with np.errstate(all="ignore"):
                values = rng.choice(
                    [
                        old,
                        old[:-1],
                        old[:, None],
                        old[0],
                        old + 0.5,
                        np.full_like(old, np.nan, "f8"),
                    ]
                )
                group[name] = (values * rng.choice([1.0, -1.0, 300.0])).astype(
                    rng.choice(["f2", "f8", "i8", "u1", "?"])
                )
    try:
        with no_longer_than(30):
            loaded = ad.Histories.from_minari(ID, home)
    except ArtefactError as error:
        assert str(error).isprintable() and len(str(error)) < 2000
        return
    loaded.check()
    assert repr(loaded).encode()
    if how == "metadata":
        assert_equal(loaded, histories)


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
    assert np.array_equal(
        after[last], histories.final_obs[n[last], e[last]].reshape(last.sum(), -1)
    )
    assert np.array_equal(
        after[~last], column("obs").reshape(len(n), -1)[np.flatnonzero(~last) + 1]
    )
    assert np.array_equal(column("task"), histories.task_values.ids[histories.task[n]])
    for name, values in histories.task_values.columns.items():
        assert np.array_equal(flat(column(f"task_{name}")), flat(values[histories.task[n]]))
    told = json.loads(table.schema.metadata[b"adkit"])
    assert ad.EnvSpec(**told["spec"]) == histories.spec and told["about"] == histories.about


def test_a_parquet_file_is_never_written_over(tmp_path):
    (tmp_path / "rows.parquet").write_text("mine")
    with pytest.raises(
        FileExistsError, match="rows.parquet is there already; write under another name"
    ):
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
    with pytest.raises(
        ImportError,
        match=rf"needs {package}, which is not installed .*pip install -e '\.\[{extra}\]'",
    ):
        use(tmp_path)
    assert not list(tmp_path.iterdir())


def live(source):
    env = ad.envs.DarkRoom(size=3, horizon=4)
    return ad.collect(env, env.tasks()[:1], source, episodes=1)
