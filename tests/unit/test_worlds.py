"""Environments: walks drawn by hand, known optima, Gymnasium's own checker, and adkit's."""

from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest

import adkit as ad
from adkit.envs import DarkKeyToDoor, DarkRoom, from_gymnasium

ACTIONS = "-lrud"  # stay, left, right, up, down
KEYS = DarkKeyToDoor(size=3, horizon=8, start="centre")
RELABELLED = {"goal": (0, 0), "actions": (4, 3, 2, 1, 0)}
WALKS = [  # from (1, 1): actions, the cells (x, y) they lead to, rewards
    (DarkRoom(3, 4), {"goal": (2, 0)}, "ruul", "21 20 20 10", "0110"),
    (DarkRoom(3, 4, reward="once"), {"goal": (1, 1)}, "--lr", "11 11 01 11", "1000"),
    (DarkRoom(3, 5, permuted=True), RELABELLED, "-lrud", "12 11 21 11 11", "00000"),
    (KEYS, {"key": (1, 1), "door": (1, 1)}, "---", "11 11 11", "110"),
    (KEYS, {"key": (0, 1), "door": (2, 1)}, "rll-rr-l", "21 11 01 01 11 21 21 11", "00100100"),
]


@pytest.mark.parametrize(("env", "task", "actions", "cells", "rewards"), WALKS)
def test_steps_move_reward_and_truncate_as_drawn_by_hand(env, task, actions, cells, rewards):
    task, rng = env.task(**task), ad.Rng.of(0, "x", np.arange(1))
    state, obs = env.reset(task, rng)
    assert obs.tolist() == [[1, 1]]
    walk = zip(actions, cells.split(), rewards, strict=True)
    for time, (action, cell, reward) in enumerate(walk):
        state, step = env.step(state, task, np.array([ACTIONS.index(action)]), rng)
        assert step.obs.tolist() == [list(map(int, cell))] and step.reward == [float(reward)]
        assert step.truncated == [time == env.spec.horizon - 1] and not step.terminated


def test_the_optimum_and_the_random_return_of_the_dark_room_are_the_papers():
    """Distance d is rewarded 20 - d + 1 times, the centre 20 times: 16.54 on average."""
    env = DarkRoom()
    distance, optimum = np.abs(env.tasks()["goal"] - 4).sum(1), ad.optimal_returns(env, env.tasks())
    np.testing.assert_allclose(optimum, np.minimum(21 - distance, 20))
    assert optimum.mean() == pytest.approx(16.54, abs=0.01)
    returns = ad.collect(env, env.tasks(), ad.sources.Random(), episodes=200, lifetimes=4).returns
    assert returns.mean() == pytest.approx(0.25, abs=0.02)


def test_the_optimum_of_the_slippery_lake_is_known():
    """Value iteration by Gymnasium's users gives 0.74 within 100 steps on the 4 x 4 map."""
    tasks = [{"is_slippery": True}, {"is_slippery": False}]
    env = from_gymnasium("FrozenLake-v1", tasks=tasks)
    np.testing.assert_allclose(ad.optimal_returns(env, env.tasks()), [0.744, 1.0], atol=1e-3)


def test_the_registered_room_is_the_same_room_also_in_a_vector():
    env = gymnasium.make("adkit/DarkRoom-v0", goal=(5, 4))
    env.reset(seed=0)
    assert [env.step(2)[1] for _ in range(3)] == [1.0, 0.0, 0.0]
    vector = gymnasium.make_vec("adkit/DarkRoom-v0", num_envs=3, goal=(3, 4), horizon=5)
    assert vector.reset(seed=0)[0].tolist() == [[4, 4]] * 3
    ends = [vector.step(np.array([0, 1, 2]))[3].tolist() for _ in range(5)]
    assert ends == [[False] * 3] * 4 + [[True] * 3]
    coin = gymnasium.make("adkit/AdversarialBandit-v0", arms=2, horizon=30, means=(0.5, 0.5))
    coin.reset(seed=0)
    assert {coin.step(0)[1] for _ in range(30)} == {0, 1}, "each step has a draw of its own"


def test_a_world_of_tables_that_cannot_be_hashed_says_how_to_write_it():
    @dataclass(frozen=True)
    class Painted(DarkRoom):
        colours: np.ndarray = None

    env = Painted(4, 6, colours=np.zeros(16))
    with pytest.raises(ValueError, match="Painted are cached by its hash, .* make it a f"):
        ad.optimal_returns(env, env.tasks())


def test_gymnasium_tables_and_stepping_agree():
    """The lake from its own table and the lake stepped by Gymnasium agree, action by action."""
    env = from_gymnasium("FrozenLake-v1", is_slippery=False)
    world = gymnasium.make("FrozenLake-v1", is_slippery=False)
    made = ad.collect(env, env.tasks(), ad.sources.Random(), episodes=30)
    names = "obs", "action", "reward", "terminated", "truncated"
    columns = (made.arrays[name][0] for name in names)
    for *steps, length in zip(*columns, made.length[0], strict=True):
        expected, _ = world.reset()
        for obs, action, *outcome in list(zip(*steps, strict=True))[:length]:
            assert obs == expected
            expected, *result, _ = world.step(int(action))
            assert outcome == result


def test_an_old_state_of_a_stepped_environment_is_refused():
    env = from_gymnasium("CartPole-v1")
    tasks, rng = env.tasks()[[0, 0]], ad.Rng.of(0, "x", np.arange(2))
    state, _ = env.reset(tasks, rng)
    env.step(state, tasks, np.array([0, 1]), rng)
    with pytest.raises(ValueError, match="only the newest state"):
        env.step(state, tasks, np.array([0, 1]), rng)


def test_tasks_split_slice_and_index_like_an_array():
    tasks = DarkRoom().tasks()
    train, test = tasks.split(0.8, seed=0)
    assert len(train) == 65 and len(test) == 16
    assert sorted([*train.ids, *test.ids]) == list(range(81))
    assert [len(tasks[3]), len(tasks[2:5]), len(tasks[tasks["goal"][:, 0] == 0])] == [1, 3, 9]
    again, _ = tasks.split(0.8, seed=0)
    assert (again.ids == train.ids).all() and (tasks.split(0.8, seed=1)[0].ids != train.ids).any()
    back = ad.Tasks.of(train.frame)
    np.testing.assert_array_equal(back["goal"], train["goal"])
    np.testing.assert_array_equal(back.ids, train.ids)
