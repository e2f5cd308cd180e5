"""Sources of the Watermaze: `GoalSearch` and `PoseQLearning`."""

from dataclasses import fields

import numpy as np
import pytest
from helpers import same

import adkit as ad


@pytest.fixture(scope="module")
def maze():
    return ad.envs.Watermaze(ends="platform", n_tasks=400)


def test_the_search_finds_a_platform_and_then_knows_it(maze):
    tasks = maze.tasks()[:200]
    searched = ad.collect(maze, tasks, ad.sources.GoalSearch(), episodes=15).episode_returns
    at_random = ad.collect(maze, tasks, ad.sources.Random(), episodes=15).episode_returns
    early, late, control = (
        ad.stats.bootstrap(values) for values in (searched[:, :1], searched[:, 12:], at_random)
    )
    assert early.low > 0.2 and early.high < 0.45 and late.low > 0.99 and control.high < 0.2


def test_the_search_never_rules_out_the_truth(maze):
    tasks, rng = maze.tasks()[:50], ad.Rng.of(0, "x", np.arange(50))
    learner = ad.sources.GoalSearch().start(maze.spec, rng, episodes=10)
    state, obs = maze.reset(tasks, rng)
    cell = ((tasks["goal"] + 1) * 24).astype(int)
    for t in range(30):
        action = learner.act(obs, np.full(50, t == 0))
        state, step = maze.step(state, tasks, action, rng.at(t))
        learner.update(ad.Transition(obs, action, *step[1:], step.obs))
        obs = step.obs
        assert learner.possible[np.arange(50), *cell.T].all()


def test_the_search_begins_anew_when_the_platform_is_moved(maze):
    """Thirty lifetimes, 150 steps on one platform and 600 on another; both searches succeed."""
    tasks, rng = maze.tasks()[:30], ad.Rng.of(0, "x", np.arange(30))
    learner, first = ad.sources.GoalSearch().start(maze.spec, rng, episodes=10), np.ones(30, bool)
    state, obs = maze.reset(tasks, rng)
    rewarded = []
    for t in range(750):
        here = tasks if t < 150 else tasks.replace(goal=-tasks["goal"])
        action = learner.act(obs, first)
        state, step = maze.step(state, here, action, rng.at(t))
        learner.update(ad.Transition(obs, action, *step[1:], step.obs))
        rewarded.append(step.reward)
        first = step.terminated | step.truncated
        fresh, _ = maze.reset(here, rng.at(t))
        pose, time, found = (
            np.where(first.reshape(-1, *[1] * (a.ndim - 1)), b, a)
            for a, b in zip(state, fresh, strict=True)
        )
        state, obs = type(state)(pose, time, found), pose
    rewarded = np.array(rewarded)
    assert (
        rewarded[120:150].mean() > 0.12
        and rewarded[150:180].mean() < 0.02
        and (rewarded[-60:].mean(0) > 0.08).mean() > 0.9
    )


def test_q_learning_on_binned_poses_learns_from_scratch(maze):
    agent = ad.sources.PoseQLearning(exploration=0.4)
    returns = ad.collect(maze, maze.tasks()[:24], agent, episodes=150).episode_returns
    early, late = ad.stats.bootstrap(returns[:, :5]), ad.stats.bootstrap(returns[:, -30:])
    assert early.high < 0.45 and late.low > 0.85


def test_a_backward_sweep_carries_the_reward_all_the_way():
    """Two steps to a reward from an empty table: lr 0.5, gamma 0.9 give 0.5 and 0.225."""
    agent = ad.sources.PoseQLearning(bins=(20, 1, 1))
    learner = agent.start(ad.envs.Watermaze().spec, ad.Rng.of(0), episodes=10)
    places = np.array([[0.05, 0, 0], [0.15, 0, 0], [0.25, 0, 0]], np.float32)
    no = np.zeros(1, bool)
    for t in range(2):
        learner.act(places[t : t + 1], np.array([t == 0]))
        rewarded = np.array([t], np.float32)
        learner.update(
            ad.Transition(places[t : t + 1], np.array([3]), rewarded, no, no, places[t + 1 : t + 2])
        )
    assert (
        learner.q[0, [10, 11, 12], 3].tolist() == pytest.approx([0.225, 0.5, 0])
        and np.count_nonzero(learner.q) == 2
    )


CHANGED = {
    ad.envs.Watermaze: dict(horizon=20, view="pose", ends="platform", n_tasks=3, seed=1),
    ad.sources.GoalSearch: dict(noise=0.3, cells=30),
    ad.sources.PoseQLearning: dict(
        bins=(5, 5, 4), lr=0.1, gamma=0.5, epsilon=0.1, final_epsilon=0.4, exploration=0.2
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, values in CHANGED.items() for field in values]
)
def test_every_config_field_changes_something(kind, field):
    assert {f.name for f in fields(kind)} == set(CHANGED[kind]), (
        "a new field needs a changed value here"
    )
    default, changed = kind(), kind(**{field: CHANGED[kind][field]})
    if kind is not ad.envs.Watermaze:
        env = ad.envs.Watermaze(n_tasks=4)
        histories = [
            ad.collect(env, env.tasks(), agent, episodes=20) for agent in (default, changed)
        ]
    else:
        histories = [
            ad.collect(env, env.tasks()[:4], ad.sources.GoalSearch(), episodes=3)
            for env in (default, changed)
        ]
    assert not same(*histories) or histories[0].spec != histories[1].spec
