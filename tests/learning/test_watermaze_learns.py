"""Sources of the Watermaze: `GoalSearch` and `PoseQLearning`."""

import numpy as np
import pytest
from helpers import started

import adkit as ad
from adkit.rollout import begin_episodes

MAZE = ad.envs.Watermaze(ends="platform", n_tasks=400)


def returns_of(agent, n_tasks, episodes):
    made = ad.collect(MAZE, MAZE.tasks()[:n_tasks], agent, episodes=episodes)
    return made.episode_returns


def test_the_search_finds_a_platform_and_then_knows_it():
    searched = returns_of(ad.sources.GoalSearch(), 200, 15)
    early, late = ad.stats.bootstrap(searched[:, :1]), ad.stats.bootstrap(searched[:, 12:])
    assert early.low > 0.2 and early.high < 0.45 and late.low > 0.99
    assert ad.stats.bootstrap(returns_of(ad.sources.Random(), 200, 15)).high < 0.2


def test_the_search_keeps_the_true_place_and_begins_anew_when_the_platform_is_moved():
    """Thirty lifetimes, 150 steps on one platform and 600 on another; both searches succeed."""
    tasks, rng = MAZE.tasks()[:30], ad.Rng.of(0, "x", np.arange(30))
    moved = tasks.replace(goal=-tasks["goal"])
    cell = ((tasks["goal"] + 1) * 24).astype(int)
    learner, first = started(ad.sources.GoalSearch(), MAZE.spec, 30), np.ones(30, bool)
    state, obs = MAZE.reset(tasks, rng)
    rewards = np.zeros((750, 30))
    for t in range(750):
        here = tasks if t < 150 else moved
        action = learner.act(obs, first)
        state, step = MAZE.step(state, here, action, rng.at(t))
        learner.update(ad.Transition(obs, action, *step[1:], step.obs))
        assert t >= 150 or learner.possible[np.arange(30), *cell.T].all()
        rewards[t], first = step.reward, step.terminated | step.truncated
        state, obs = begin_episodes(MAZE, state, step.obs, here, rng.at(t), first)
    assert rewards[120:150].mean() > 0.12 and rewards[150:180].mean() < 0.02
    assert (rewards[-60:].mean(0) > 0.08).mean() > 0.9


def test_a_backward_sweep_carries_the_reward_all_the_way():
    """Two steps to a reward from an empty table: lr 0.5, gamma 0.9 give 0.5 and 0.225."""
    learner = started(ad.sources.PoseQLearning(bins=(20, 1, 1)), MAZE.spec, 1)
    places = np.array([[[0.05, 0, 0]], [[0.15, 0, 0]], [[0.25, 0, 0]]], np.float32)
    no = np.zeros(1, bool)
    for t in range(2):
        learner.act(places[t], np.array([t == 0]))
        taken = np.array([3]), np.array([t], np.float32)
        learner.update(ad.Transition(places[t], *taken, no, no, places[t + 1]))
    assert learner.q[0, [10, 11, 12], 3].tolist() == pytest.approx([0.225, 0.5, 0])
    assert np.count_nonzero(learner.q) == 2
    learner.act(places[0], ~no)  # an episode that is cut off still bootstraps
    cut_off = np.array([4]), np.zeros(1, np.float32), no, ~no
    learner.update(ad.Transition(places[0], *cut_off, places[1]))
    assert learner.q[0, 10, 4] == pytest.approx(0.225)
