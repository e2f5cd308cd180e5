"""Source learners: each one solves its world."""

import numpy as np
import pytest

import adkit as ad
from adkit.sources import Optimal, PosteriorSampling, QLearning, SystematicExplorer

ROOM = ad.envs.DarkRoom()
OPTIMUM = ad.optimal_returns(ROOM, ROOM.tasks())[:, None, None]


def returns_of(env, agent, **how):
    """Return the returns of an agent on every task of an environment."""
    return ad.collect(env, env.tasks(), agent, **how).returns


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


def test_q_learning_solves_every_dark_room():
    returns = returns_of(ROOM, QLearning(), episodes=500, lifetimes=4)
    late = returns[:, :, -10:].mean((1, 2)) / OPTIMUM[:, 0, 0]
    assert late.min() > 0.9 and late.mean() > 0.985
    assert ad.stats.improvement(returns, share=0.02).low > 12


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


def test_greed_finds_sooner_and_forgetting_later():
    env = ad.envs.DarkRoom(size=9, reward="once")
    found = lambda **how: returns_of(env, PosteriorSampling(**how), episodes=8, lifetimes=16)
    plain, greedy, forgetful = (
        ad.stats.bootstrap(found(**how)[:, :, 3:5])
        for how in ({}, {"greed": 10.0}, {"forgetting": 0.9})
    )
    assert greedy.low > plain.high and forgetful.high < plain.low


SOLVED = [
    ad.envs.DarkRoom(5, 8),
    ad.envs.DarkRoom(4, 6, reward="once", start="random"),
    ad.envs.DarkRoom(3, 6, permuted=True),
    ad.envs.from_gymnasium("FrozenLake-v1", horizon=7, is_slippery=False),  # solved in six steps
]


@pytest.mark.parametrize("env", SOLVED, ids=repr)
def test_the_optimal_agent_gets_the_optimum_exactly(env):
    returns = returns_of(env, Optimal(), episodes=30, lifetimes=8)
    optimum = ad.optimal_returns(env, env.tasks())
    np.testing.assert_allclose(returns.mean((1, 2)), optimum, atol=0.1)
    if getattr(env, "start", "") != "random":
        assert (returns == optimum[:, None, None]).all()
