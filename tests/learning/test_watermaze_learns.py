"""Sources of the Watermaze: `GoalSearch` and `PoseQLearning`."""

from dataclasses import fields

import numpy as np
import pytest
from helpers import same

import adkit as ad
from adkit.rollout import begin_episodes

MAZE = ad.envs.Watermaze(ends="platform", n_tasks=400)


def test_the_search_finds_a_platform_and_then_knows_it():
    returns = lambda agent: ad.collect(MAZE, MAZE.tasks()[:200], agent, episodes=15).episode_returns
    searched, at_random = returns(ad.sources.GoalSearch()), returns(ad.sources.Random())
    early, late = ad.stats.bootstrap(searched[:, :1]), ad.stats.bootstrap(searched[:, 12:])
    assert early.low > 0.2 and early.high < 0.45
    assert late.low > 0.99 and ad.stats.bootstrap(at_random).high < 0.2


def test_the_search_never_rules_out_the_truth():
    tasks, rng = MAZE.tasks()[:50], ad.Rng.of(0, "x", np.arange(50))
    learner = ad.sources.GoalSearch().start(MAZE.spec, rng, episodes=10)
    state, obs = MAZE.reset(tasks, rng)
    cell = ((tasks["goal"] + 1) * 24).astype(int)
    for t in range(30):
        action = learner.act(obs, np.full(50, t == 0))
        state, step = MAZE.step(state, tasks, action, rng.at(t))
        learner.update(ad.Transition(obs, action, *step[1:], step.obs))
        obs = step.obs
        assert learner.possible[np.arange(50), *cell.T].all()


def test_the_search_begins_anew_when_the_platform_is_moved():
    """Thirty lifetimes, 150 steps on one platform and 600 on another; both searches succeed."""
    tasks, rng = MAZE.tasks()[:30], ad.Rng.of(0, "x", np.arange(30))
    learner, first = ad.sources.GoalSearch().start(MAZE.spec, rng, episodes=10), np.ones(30, bool)
    state, obs = MAZE.reset(tasks, rng)
    rewards = np.zeros((750, 30))
    for t in range(750):
        here = tasks if t < 150 else tasks.replace(goal=-tasks["goal"])
        action = learner.act(obs, first)
        state, step = MAZE.step(state, here, action, rng.at(t))
        learner.update(ad.Transition(obs, action, *step[1:], step.obs))
        rewards[t], first = step.reward, step.terminated | step.truncated
        state, obs = begin_episodes(MAZE, state, step.obs, here, rng.at(t), first)
    assert rewards[120:150].mean() > 0.12 and rewards[150:180].mean() < 0.02
    assert (rewards[-60:].mean(0) > 0.08).mean() > 0.9


def test_q_learning_on_binned_poses_learns_from_scratch():
    agent = ad.sources.PoseQLearning(exploration=0.4)
    returns = ad.collect(MAZE, MAZE.tasks()[:24], agent, episodes=150).episode_returns
    early, late = ad.stats.bootstrap(returns[:, :5]), ad.stats.bootstrap(returns[:, -30:])
    assert early.high < 0.45 and late.low > 0.85


def test_a_backward_sweep_carries_the_reward_all_the_way():
    """Two steps to a reward from an empty table: lr 0.5, gamma 0.9 give 0.5 and 0.225."""
    agent = ad.sources.PoseQLearning(bins=(20, 1, 1))
    learner = agent.start(MAZE.spec, ad.Rng.of(0), episodes=10)
    places = np.array([[[0.05, 0, 0]], [[0.15, 0, 0]], [[0.25, 0, 0]]], np.float32)
    no = np.zeros(1, bool)
    for t in range(2):
        learner.act(places[t], np.array([t == 0]))
        taken = np.array([3]), np.array([t], np.float32)
        learner.update(ad.Transition(places[t], *taken, no, no, places[t + 1]))
    assert learner.q[0, [10, 11, 12], 3].tolist() == pytest.approx([0.225, 0.5, 0])
    assert np.count_nonzero(learner.q) == 2


OF_BINS = {"bins": (5, 5, 4), "lr": 0.1, "gamma": 0.5, "epsilon": 0.1, "final_epsilon": 0.4}
CHANGED = {
    ad.envs.Watermaze: {"horizon": 20, "view": "pose", "ends": "platform", "n_tasks": 3, "seed": 1},
    ad.sources.GoalSearch: {"noise": 0.3, "cells": 30},
    ad.sources.PoseQLearning: OF_BINS | {"exploration": 0.2},
}


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, values in CHANGED.items() for field in values]
)
def test_every_config_field_changes_something(kind, field):
    assert {f.name for f in fields(kind)} == set(CHANGED[kind]), "give a new field another value"
    made = []
    for config in (kind(), kind(**{field: CHANGED[kind][field]})):
        world = kind is ad.envs.Watermaze
        env, agent = (config, ad.sources.GoalSearch()) if world else (MAZE, config)
        made.append(ad.collect(env, env.tasks()[:4], agent, episodes=20))
    assert not same(*made) or made[0].spec != made[1].spec
