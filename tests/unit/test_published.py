"""Histories in the formats of ad-eps and XLand-MiniGrid, written here as their code writes them."""

import json
import os
import pickle
import zipfile

import h5py
import numpy as np
import pytest
from helpers import same

import adkit as ad
from adkit.interchange import from_ad_eps, from_xland

ROWS = np.array([(0, 0), (-1, 0), (0, 1), (1, 0), (0, -1)])  # stay, up, right, down, left


def walk(size, horizon, goal, episodes, rng, key=None):
    """Act at random as in ad-eps's rooms, by (row, column): lists per episode."""
    lists = [], [], []
    for _ in range(episodes):
        place, held = (
            np.array([size // 2] * 2) if key is None else rng.integers(size, size=2),
            False,
        )
        states, actions, rewards = [], [], []
        while len(states) < horizon:
            states.append(int(place @ (size, 1)))
            actions.append(rng.integers(5))
            place = (place + ROWS[actions[-1]]).clip(0, size - 1)
            found = key is not None and not held and tuple(place) == key
            held |= found
            opened = tuple(place) == goal and (key is None or held)
            rewards.append(float(found) + float(opened))
            if opened and key is not None:
                break
        for kept, values in zip(lists, (states, actions, rewards), strict=True):
            kept.append(values)
    return lists


def write(folder, goals, lifetimes, ragged):
    """Write a folder of ad-eps: a metadata file, and an .npz file a goal."""
    folder.mkdir(parents=True)
    names = [f"trajectories_{i}.npz" for i in range(len(goals))]
    for name, lists in zip(names, lifetimes, strict=True):
        listed = (lambda x: np.fromiter(x, object, len(x))) if ragged else np.array
        arrays = map(listed, lists)
        np.savez(folder / name, **dict(zip(("states", "actions", "rewards"), arrays, strict=True)))
    about = {"algorithm": "opt-eps", "label": "label", "ordered_trajectories": names, "goal": goals}
    (folder / "metadata.metadata").write_text(json.dumps(about))


@pytest.fixture
def dark_rooms(tmp_path):
    rng, goals = np.random.default_rng(0), [[1, 4], [0, 2], [1, 4]]
    lifetimes = [walk(5, 8, tuple(goal), 12, rng) for goal in goals]
    write(tmp_path / "runs" / "a", goals[:2], lifetimes[:2], ragged=False)
    write(tmp_path / "runs" / "b", goals[2:], lifetimes[2:], ragged=False)
    return tmp_path / "runs"


def test_dark_rooms_of_ad_eps_are_histories_of_ours(dark_rooms, tmp_path):
    found = from_ad_eps(dark_rooms, size=5)
    env = ad.envs.DarkRoom(5, 8)
    assert found.spec == env.spec and len(found) == 3 and found.n_episodes == 12
    assert found.tasks.goal.tolist() == [(2, 0), (4, 1)] and found.task.tolist() == [0, 1, 1]
    assert (env.tasks()[found.task_values.ids]["goal"] == found.task_values["goal"]).all()
    tasks, rng = (
        found.task_values[found.task],
        ad.seeds.Rng.of(0, "env", np.arange(3), np.arange(3)),
    )
    for e in range(12):
        state, obs = env.reset(tasks, rng.at(0))
        for t in range(8):
            assert (obs == found.arrays["obs"][:, e, t]).all()
            state, (obs, reward, *_) = env.step(
                state, tasks, found.arrays["action"][:, e, t], rng.at(t)
            )
            assert (reward == found.arrays["reward"][:, e, t]).all()
        assert (obs == found.arrays["final_obs"][:, e]).all()
    assert found.arrays["truncated"][:, :, -1].all() and not found.terminated.any()
    assert same(from_ad_eps(dark_rooms, tmp_path / "out", size=5), found)
    assert same(from_ad_eps(dark_rooms, size=5, every=5), found.subsample(5))


def test_key_to_door_of_ad_eps_has_episodes_of_any_length(tmp_path):
    goals = [[[0, 1], [2, 2]], [[1, 0], [0, 2]]]  # key, door
    rng = np.random.default_rng(1)
    lifetimes = [walk(3, 15, tuple(door), 9, rng, tuple(key)) for key, door in goals]
    write(tmp_path / "k2d", goals, lifetimes, ragged=True)
    with pytest.warns(UserWarning, match="not in the files: whether the door or the clock"):
        found = from_ad_eps(tmp_path / "k2d", size=3)
    assert found.spec == ad.envs.DarkKeyToDoor(3, 15).spec
    assert found.tasks[["key", "door"]].values.tolist() == [[(0, 1), (2, 0)], [(1, 0), (2, 2)]]
    lengths = [[len(states) for states in lists[0]] for lists in lifetimes]
    assert found.length.tolist() == lengths[::-1] and len(set(lengths[0])) > 1
    returns = [[sum(rewards) for rewards in lists[2]] for lists in lifetimes]
    assert found.episode_returns.tolist() == returns[::-1]
    assert (found.arrays["terminated"].any(2) == (found.length < 15)).all()
    assert "door or the clock" in repr(found)


def evil(folder):
    class Run:
        def __reduce__(self):
            return os.system, (f"touch {folder}/ran",)

    values = np.empty(1, object)
    values[0] = Run()
    np.savez(folder / "a" / "trajectories_0.npz", states=values, actions=values, rewards=values)


def edited(name, value):
    def change(folder):
        path = folder / "a" / "trajectories_0.npz"
        arrays = dict(np.load(path))
        arrays[name] = value(arrays[name])
        np.savez(path, **arrays)

    return change


def outside(folder):
    path = folder / "a" / "metadata.metadata"
    path.write_text(path.read_text().replace("trajectories_0", "../b/trajectories_0"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (evil, "lists of numbers, got .*system"),
        (outside, "names files beside it"),
        (edited("actions", lambda x: x * 0 + 7), "out of range"),
        (edited("states", lambda x: x[:, ::-1]), "does not lead to the next place"),
        (edited("rewards", lambda x: x[:-1]), "each step needs one of each"),
        (edited("rewards", lambda x: x * np.nan), "rewards hold NaN"),
    ],
)
def test_what_is_wrong_in_a_file_of_ad_eps_is_named(dark_rooms, change, words):
    change(dark_rooms)
    with pytest.raises((ValueError, pickle.UnpicklingError), match=words):
        from_ad_eps(dark_rooms, size=5)
    assert not (dark_rooms / "ran").exists()
    assert zipfile.is_zipfile(dark_rooms / "a" / "trajectories_0.npz")


@pytest.fixture
def xland(tmp_path):
    """Write two tasks of three histories of 60 steps, as XLand-100B's are, and what they hold."""
    rng, groups = np.random.default_rng(0), []
    with h5py.File(tmp_path / "xland.hdf5", "w") as file:
        for k in range(2):
            group = {
                "states": rng.integers(156, size=(3, 60, 5, 5), dtype=np.uint8),
                "actions": rng.integers(6, size=(3, 60), dtype=np.uint8),
                "rewards": rng.random((3, 60)).astype(np.float16),
                "dones": np.zeros((3, 60), bool),
                "expert_actions": rng.integers(6, size=(3, 60), dtype=np.uint8),
            }
            for n, every in enumerate((5, 7, 9)):
                group["dones"][n, every - 1 :: every] = True
            for name, values in group.items():
                file.create_dataset(f"{k}/{name}", data=values, compression="gzip")
            names = {
                "env-id": "XLand-MiniGrid-R1-9x9",
                "benchmark-id": "trivial",
                "ruleset-id": 70 + k,
            }
            file[str(k)].attrs.update(names)
            groups.append(group)
    return tmp_path / "xland.hdf5", groups


def test_xland_is_cut_into_episodes_and_says_what_it_does_not_hold(xland, tmp_path):
    path, groups = xland
    with pytest.warns(UserWarning, match="not in the files: final observations"):
        found = from_xland(path, episodes=4)
    assert found.tasks.ruleset.tolist() == [70, 71] and len(found) == 6
    assert found.spec.cardinality == (156,) * 25 and found.spec.horizon == 9
    assert found.spec.name == "XLand-MiniGrid-R1-9x9" and found.about["benchmark"] == "trivial"
    assert found.arrays["number"][1].tolist() == [0, 2, 4, 7]  # of 8 complete ones
    for n, e in np.ndindex(6, 4):
        group, row, every = groups[n // 3], n % 3, (5, 7, 9)[n % 3]
        steps = slice(start := every * found.arrays["number"][n, e], start + every)
        assert found.length[n, e] == every and found.arrays["terminated"][n, e].any() == (every < 9)
        for ours, theirs in (("obs", "states"), ("action", "actions"), ("reward", "rewards")):
            wanted = group[theirs][row, steps].reshape(every, *found.arrays[ours].shape[3:])
            assert (found.arrays[ours][n, e, :every] == wanted).all()
        expert = group["expert_actions"][row, steps]
        assert (found.arrays["expert_action"][n, e, :every] == expert).all()
    with pytest.warns(UserWarning, match="not in"):
        some = from_xland(path, tmp_path / "out", tasks=[1], lifetimes=2, episodes=4, horizon=9)
    assert same(some, found[[3, 4]])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"tasks": [0, 5]}, "2 tasks, and no groups 5"),
        ({"episodes": 7}, "history 2 of group /0 has 6 complete episodes"),
        ({"episodes": 4, "horizon": 8}, "9 steps, more than the horizon of 8"),
    ],
)
@pytest.mark.filterwarnings("ignore:not in the files")
def test_what_xland_cannot_give_is_said(xland, how, words):
    with pytest.raises(ValueError, match=words):
        from_xland(xland[0], **how)


def test_a_file_without_actions_says_so(tmp_path):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file.create_dataset("0/states", data=np.zeros((1, 4, 5, 5), np.uint8))
    with pytest.raises(ValueError, match="group 0 .* has no actions, dones, rewards, ruleset-id"):
        from_xland(tmp_path / "x.hdf5")
