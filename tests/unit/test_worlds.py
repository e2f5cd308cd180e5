"""Environments: walks drawn by hand, known optima, tables, tasks and pictures."""

from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest

import adkit as ad
from adkit.envs import DarkKeyToDoor, DarkRoom, from_gymnasium, pixels, watermaze

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


TURN = 2 * np.pi / 16
MAZE = ad.envs.Watermaze(ends="platform", n_tasks=400)


def walk(env, task, pose, *actions):
    """Return the steps of a walk from a pose."""
    state, _ = env.reset(task, ad.Rng.of(0, "x", np.arange(1)))
    state = state._replace(pose=np.array([pose], np.float32))
    steps = []
    for action in actions:
        state, step = env.step(state, task, np.array([action]), ad.Rng.of(0, "x", np.arange(1)))
        steps.append(step)
    return steps


def test_each_of_the_eight_actions_moves_as_drawn_by_hand():
    ahead, aside = 0.1 * np.cos(TURN), 0.1 * np.sin(TURN)
    moves = [(0.1, 0, 0), (-0.1, 0, 0), (0, 0.1, 0), (0, -0.1, 0), (0, 0, TURN), (0, 0, 15 * TURN)]
    moves += [(ahead, aside, TURN), (ahead, -aside, 15 * TURN)]
    found = [walk(MAZE, MAZE.task((0.5, 0.5)), (0, 0, 0), action)[0].obs[0] for action in range(8)]
    np.testing.assert_allclose(found, moves, atol=1e-6)


def test_the_wall_stops_and_the_platform_rewards_once():
    assert np.allclose(walk(MAZE, MAZE.task((0, 0.5)), (0.9, 0, 0), 0)[0].obs, [[0.95, 0, 0]])
    there = (0.3, 0, 0), 0, 0, 1, 0, 1, 0  # onto a platform at (0.5, 0), off it, and onto it again
    clock = ad.envs.Watermaze()
    steps = walk(clock, clock.task((0.5, 0)), *there)
    assert [float(step.reward[0]) for step in steps] == [1, 0, 0, 0, 0, 0]
    assert not any(step.terminated[0] for step in steps)
    (first, *_) = walk(MAZE, MAZE.task((0.5, 0)), *there)
    assert first.reward[0] == 1 and first.terminated[0] and not first.truncated[0]


def test_every_platform_is_within_reach_so_the_optimum_is_one():
    """From any heading; and no walk is shorter than the straight line."""
    env, n = ad.envs.Watermaze(horizon=watermaze.FARTHEST), 4000
    tasks, rng, steps = env.tasks()[np.arange(n) % 2000], ad.Rng.of(0, "x", np.arange(n)), 1
    state, _ = env.reset(tasks, rng)
    for _ in range(watermaze.FARTHEST):
        both = zip(state.pose, tasks["goal"], strict=True)
        action = np.array([watermaze.toward(*pose, *goal) for pose, goal in both])
        state, _ = env.step(state, tasks, action, rng)
        steps = steps + ~state.found
    assert state.found.all() and (ad.optimal_returns(env, tasks) == 1).all()
    straight = np.ceil((np.hypot(*tasks["goal"].T) - watermaze.PLATFORM) / watermaze.STEP)
    assert (steps - straight).min() == 0 and (steps - straight).mean() < 1.2


@pytest.mark.parametrize("size", [(8, 8), (24, 32), (17, 33), (72, 96), (72, 40)])
def test_pictures_of_many_places_have_the_size_asked_for(size):
    u = np.random.default_rng(0).uniform(size=(3, 500))
    radius, angle, heading = u * [[0.95], [2 * np.pi], [2 * np.pi]]
    poses = np.stack([radius * np.cos(angle), radius * np.sin(angle), heading], axis=1)
    picture = pixels.render(poses, size)
    assert picture.shape == (500, *size, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture[7], pixels.render(poses[7], size))
    assert picture.std(0).mean() > 20  # places look different


def test_landmarks_move_left_when_one_turns_right():
    """The orange one at 0 degrees: ahead, then left of the middle, then right of it."""
    middle_row = lambda heading: pixels.render([0, 0, heading])[11].astype(int)
    near_orange = lambda row: (np.abs(row - [152, 67, 0]) < 12).all(-1)
    orange = lambda heading: np.flatnonzero(near_orange(middle_row(heading))).mean()
    assert abs(orange(0) - 15.5) < 1 and orange(-TURN) < 9 and orange(TURN) > 22


def test_walls_grow_as_one_comes_close_and_sky_is_above_floor():
    # rows of the saturated orange landmark
    wall = lambda x: (np.ptp(pixels.render([x, 0, 0])[:, 16], axis=1) > 130).sum()
    assert wall(-0.9) < wall(0) < wall(0.5) <= 24
    far = pixels.render([-0.9, 0, 0]).astype(int)
    assert (far[0, :, 2] > far[0, :, 0]).all() and (far[-1, :, 0] > far[-1, :, 2]).all()
