"""The Watermaze: its motion by hand, its optimum and its pictures."""

import numpy as np
import pytest

import adkit as ad
from adkit.envs import pixels, watermaze

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


# ---- the world ----


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


# ---- the pictures ----


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
