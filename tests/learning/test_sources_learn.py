"""Source learners: the contract in every world, and each one solving its world."""

import numpy as np
import pytest
from probe_worlds import OneFault

import adkit as ad
from adkit.sources import PosteriorSampling, QLearning
from adkit.testing import check_agent

AGENTS = [
    QLearning(exploration=0.3),
    QLearning(exploration=0.3, phases=3),
    PosteriorSampling(),
    ad.sources.SystematicExplorer(),
    ad.sources.Optimal(),
    ad.sources.Random(),
]
WORLDS = [
    ad.envs.DarkRoom(5, 8),
    ad.envs.DarkRoom(4, 6, reward="once", start="random"),
    ad.envs.DarkRoom(3, 6, permuted=True),
    ad.envs.DarkKeyToDoor(3, 12),
    ad.envs.from_gymnasium("FrozenLake-v1", horizon=30),
    ad.envs.from_gymnasium("Taxi-v4", horizon=30),
]
ROOM = ad.envs.DarkRoom()
OPTIMUM = ad.optimal_returns(ROOM, ROOM.tasks())[:, None, None]


def collect(env, agent, **how):
    """Return histories on every task of the environment."""
    return ad.collect(env, env.tasks(), agent, **how)


@pytest.mark.parametrize("agent", AGENTS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("env", WORLDS, ids=repr)
def test_every_agent_keeps_the_contract_in_every_world(agent, env):
    check_agent(agent, env)


@pytest.mark.parametrize("agent", [ad.sources.UCB(bonus=0.3), ad.sources.ThompsonSampling()])
def test_bandit_players_keep_the_contract_and_learn_the_bandit(agent):
    for arms in (10, 3):
        check_agent(agent, ad.envs.AdversarialBandit(arms=arms, horizon=4, n_tasks=6))
    env = ad.envs.AdversarialBandit(n_tasks=300)
    returns = collect(env, agent, episodes=1000, lifetimes=2).returns
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
    returns = collect(ROOM, QLearning(), episodes=500, lifetimes=4).returns
    np.testing.assert_allclose(returns[:, :, -10:].mean((1, 2)), OPTIMUM[:, 0, 0], atol=0.3)
    assert ad.stats.improvement(returns, share=0.02).low > 12


def test_posterior_sampling_finds_the_goal_and_then_walks_straight_to_it():
    returns = collect(ROOM, PosteriorSampling(noise=0.0), episodes=20, lifetimes=8).returns
    assert (returns[:, :, -3:] == OPTIMUM).all()
    assert 0.08 < (returns[:, :, :1] / OPTIMUM).mean() < 0.25


def test_the_systematic_explorer_solves_every_room_by_episode_six():
    returns = collect(ROOM, ad.sources.SystematicExplorer(), episodes=8, lifetimes=4).returns
    assert (returns[:, :, 6:] == OPTIMUM).all()


def test_a_staged_posterior_finds_the_key_then_the_door_then_wanders_or_rests():
    """Nothing is tried twice: in a room of 16 cells both are found within 16 visits each, then
    walked to in the fewest steps.
    """
    env = ad.envs.DarkKeyToDoor(size=4, horizon=20)
    tasks, step = env.tasks(), np.arange(20)
    made = collect(env, PosteriorSampling(noise=0.0), episodes=12, lifetimes=2)
    assert (made.returns[:, :, -3:] == 2).all() and made.returns[:, :, 0].mean() < 1.8
    steps = lambda a, b: np.maximum(np.abs(a.astype(int) - b.astype(int)).sum(-1), 1)
    key, door = (tasks[name][made.task] for name in ("key", "door"))
    when = (made.arrays["reward"][:, -1].cumsum(1) == 2).argmax(1)
    assert (when + 1 == steps(made.arrays["obs"][:, -1, 0], key) + steps(key, door)).all()
    actions = np.bincount(made.arrays["action"][:, -1][step > when[:, None]], minlength=5)
    assert actions.min() > 0.17 * actions.sum(), "with nothing left to gain it wanders"
    made = collect(env, PosteriorSampling(noise=0.0, rest=True), episodes=12)
    when = (made.arrays["reward"][:, -1].cumsum(1) == 2).argmax(1)
    assert (made.arrays["action"][:, -1][step > when[:, None]] == 0).all()


def test_greed_finds_sooner_and_forgetting_later():
    env = ad.envs.DarkRoom(size=9, reward="once")

    def found(**how):
        returns = collect(env, PosteriorSampling(**how), episodes=8, lifetimes=16).returns
        return ad.stats.bootstrap(returns[:, :, 3:5])

    plain, greedy, forgetful = found(), found(greed=10.0), found(forgetting=0.9)
    assert greedy.low > plain.high and forgetful.high < plain.low


@pytest.mark.parametrize("env", WORLDS[:3], ids=repr)
def test_the_optimal_agent_gets_the_optimum_exactly(env):
    tasks = env.tasks()[:30]
    returns = ad.collect(env, tasks, ad.sources.Optimal(), episodes=30, lifetimes=8).returns
    optimum = ad.optimal_returns(env, tasks)
    if env.start == "centre":
        assert (returns == optimum[:, None, None]).all()
    else:
        np.testing.assert_allclose(returns.mean((1, 2)), optimum, atol=0.1)


@pytest.mark.parametrize("fault", ["reward = action", "reward = observation", "delayed"])
def test_q_learning_solves_the_one_fault_environments(fault):
    env = OneFault(fault)
    agent = QLearning(initial_q=0.0, exploration=0.6)
    late = collect(env, agent, episodes=100, lifetimes=256).returns[:, :, -10:]
    assert late.mean() == pytest.approx(env.optimum, rel=0.02)
    control = collect(env, ad.sources.Random(), episodes=100, lifetimes=16)
    assert control.returns.mean() < 0.8 * env.optimum
