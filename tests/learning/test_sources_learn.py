"""Sources learn their worlds; without steps they do not."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import started
from probe_worlds import FAULTS, Line, OneFault

import adkit as ad
from adkit.rollout import begin_episodes
from adkit.sources import (
    DQN,
    ActorCritic,
    GoalSearch,
    Optimal,
    PoseQLearning,
    PosteriorSampling,
    QLearning,
    SystematicExplorer,
)

ROOM, MAZE = ad.envs.DarkRoom(), ad.envs.Watermaze(n_tasks=4)
POOL = ad.envs.Watermaze(ends="platform", n_tasks=400)
OPTIMUM = ad.optimal_returns(ROOM, ROOM.tasks())[:, None, None]


def returns_of(env, agent, **how):
    """Return the returns of an agent on every task of an environment."""
    return ad.collect(env, env.tasks(), agent, **how).returns


# ---- with steps and without ----

QUICK, TABULAR = DQN(width=16, batch=4), QLearning(initial_q=0.0, exploration=0.6)


def learned_and_not(env, agent, last, thin=1, **how):
    """Return late returns, as shares of the optimum, of an agent and of one that takes no steps."""
    tasks = env.tasks()[::thin]
    optimum = ad.optimal_returns(env, tasks)[:, None]
    for one in (agent, replace(agent, lr=0.0)):
        returns = ad.collect(env, tasks, one, **how).returns[:, :, -last:]
        yield ad.stats.bootstrap(returns.mean(2) / optimum, draws=500)


AGENTS = [
    (ActorCritic(entropy=0.01), 0.93, {"episodes": 400, "lifetimes": 64, "last": 50}),
    (QUICK, 0.9, {"episodes": 150, "lifetimes": 16, "last": 50}),
    (TABULAR, 0.95, {"episodes": 100, "lifetimes": 256, "last": 10}),
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("agent", "share", "how"), AGENTS)
def test_one_fault_environments_are_solved_and_without_learning_are_not(agent, share, how, fault):
    learned, control = learned_and_not(OneFault(fault), agent, **how)
    assert learned.low > share > 0.8 > control.high


LEARNED = [  # at least this share of the optimum, and its control at most that
    (ActorCritic(), ROOM, 0.94, 0.1, {"episodes": 500, "lifetimes": 2, "last": 25, "thin": 4}),
    (QLearning(), ROOM, 0.98, 0.1, {"episodes": 500, "lifetimes": 4, "last": 10}),
    (DQN(), ROOM, 0.75, 0.1, {"episodes": 150, "lifetimes": 2, "last": 25, "thin": 9}),
    (ActorCritic(), Line(), 0.8, 0.13, {"episodes": 150, "lifetimes": 16, "last": 20}),
    (QUICK, Line(), 0.7, 0.2, {"episodes": 80, "lifetimes": 8, "last": 20}),
    (DQN(), MAZE, 0.5, 0.35, {"episodes": 100, "lifetimes": 4, "last": 40}),
    (PoseQLearning(exploration=0.4), POOL, 0.85, 0.45, {"episodes": 150, "last": 30, "thin": 16}),
]


@pytest.mark.parametrize(("agent", "env", "low", "high", "how"), LEARNED)
def test_rooms_are_learned_and_real_numbers_are_learned_from(agent, env, low, high, how):
    learned, control = learned_and_not(env, agent, **how)
    assert learned.low > low > high > control.high


# ---- bandits, rooms, keys and doors ----


@pytest.mark.parametrize("agent", [ad.sources.UCB(bonus=0.3), ad.sources.ThompsonSampling()])
def test_bandit_players_learn_the_bandit(agent):
    env = ad.envs.AdversarialBandit(n_tasks=300)
    returns = returns_of(env, agent, episodes=1000, lifetimes=2)
    assert returns[:, :, -100:].mean() > 0.95 * ad.optimal_returns(env, env.tasks()).mean()
    assert ad.stats.improvement(returns, share=0.02).low > 0.2


def test_with_phases_q_learning_opens_every_door_and_without_it_does_not():
    env = ad.envs.DarkKeyToDoor(size=5, horizon=24)

    def late(phases):
        agent = QLearning(lr=1.0, epsilon=0.1, exploration=0.5, phases=phases)
        made = ad.collect(env, env.tasks()[::7], agent, episodes=120, lifetimes=4)
        return ad.stats.bootstrap(made.returns[:, :, -20:])

    assert late(3).low > 1.95 and late(1).high < 1.6


@pytest.mark.parametrize(
    ("agent", "known"), [(PosteriorSampling(noise=0.0), 17), (SystematicExplorer(), 6)]
)
def test_searches_find_the_goal_and_then_walk_straight_to_it(agent, known):
    returns = returns_of(ROOM, agent, episodes=known + 3, lifetimes=8)
    assert (returns[:, :, known:] == OPTIMUM).all()
    assert 0.05 < (returns[:, :, :1] / OPTIMUM).mean() < 0.25


def test_a_staged_posterior_finds_the_key_then_the_door_then_wanders_or_rests():
    """Nothing is tried twice: in a room of 16 cells both are found within 16 visits each, then
    walked to in the fewest steps.
    """
    env, step = ad.envs.DarkKeyToDoor(size=4, horizon=20), np.arange(20)
    last = {}
    for rest in (False, True):
        agent = PosteriorSampling(noise=0.0, rest=rest)
        made = ad.collect(env, env.tasks(), agent, episodes=12, lifetimes=2)
        obs, action, reward = (made.arrays[name][:, -1] for name in ("obs", "action", "reward"))
        opened = (reward.cumsum(1) == 2).argmax(1)
        last[rest] = np.bincount(action[step > opened[:, None]], minlength=5)
        assert (made.returns[:, :, -3:] == 2).all() and made.returns[:, :, 0].mean() < 1.8
        steps = lambda a, b: np.maximum(np.abs(a.astype(int) - b.astype(int)).sum(-1), 1)
        key, door = (env.tasks()[name][made.task] for name in ("key", "door"))
        assert (opened + 1 == steps(obs[:, 0], key) + steps(key, door)).all()
    assert last[False].min() > 0.17 * last[False].sum() and not last[True][1:].any()


SOLVED = [
    ad.envs.DarkRoom(5, 8),
    ad.envs.DarkRoom(4, 6, reward="once", start="random"),
    ad.envs.DarkRoom(3, 6, permuted=True),
]


@pytest.mark.parametrize("env", SOLVED, ids=repr)
def test_the_optimal_agent_gets_the_optimum_exactly(env):
    returns = returns_of(env, Optimal(), episodes=30, lifetimes=8)
    optimum = ad.optimal_returns(env, env.tasks())
    np.testing.assert_allclose(returns.mean((1, 2)), optimum, atol=0.1)
    if env.start == "centre":
        assert (returns == optimum[:, None, None]).all()


# ---- in the Watermaze ----


def test_the_search_finds_a_platform_and_then_knows_it():
    some = POOL.tasks()[:200]
    returns = lambda agent: ad.collect(POOL, some, agent, episodes=15).episode_returns
    searched = returns(GoalSearch())
    early, late = ad.stats.bootstrap(searched[:, :1]), ad.stats.bootstrap(searched[:, 12:])
    assert early.low > 0.2 and early.high < 0.45 and late.low > 0.99
    assert ad.stats.bootstrap(returns(ad.sources.Random())).high < 0.2


def test_the_search_keeps_the_true_place_and_begins_anew_when_the_platform_is_moved():
    """Thirty lifetimes, 150 steps on one platform and 600 on another; both searches succeed."""
    tasks, rng = POOL.tasks()[:30], ad.Rng.of(0, "x", np.arange(30))
    moved = tasks.replace(goal=-tasks["goal"])
    cell = ((tasks["goal"] + 1) * 24).astype(int)
    learner, first = started(GoalSearch(), POOL.spec, 30), np.ones(30, bool)
    state, obs = POOL.reset(tasks, rng)
    rewards = np.zeros((750, 30))
    for t in range(750):
        here = tasks if t < 150 else moved
        action = learner.act(obs, first)
        state, step = POOL.step(state, here, action, rng.at(t))
        learner.update(ad.Transition(obs, action, *step[1:], step.obs))
        assert t >= 150 or learner.possible[np.arange(30), *cell.T].all()
        rewards[t], first = step.reward, step.terminated | step.truncated
        state, obs = begin_episodes(POOL, state, step.obs, here, rng.at(t), first)
    assert rewards[120:150].mean() > 0.12 and rewards[150:180].mean() < 0.02
    assert (rewards[-60:].mean(0) > 0.08).mean() > 0.9


def test_a_backward_sweep_carries_the_reward_all_the_way():
    """Two steps to a reward from an empty table: lr 0.5, gamma 0.9 give 0.5 and 0.225."""
    learner = started(PoseQLearning(bins=(20, 1, 1)), POOL.spec, 1)
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
