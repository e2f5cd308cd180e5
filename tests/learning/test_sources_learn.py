"""Source learners: the contract in every world, and each one solving its world."""

import numpy as np
import pytest
from probe_worlds import OneFault

import adkit as ad
from adkit.testing import check_agent

AGENTS = [
    ad.sources.QLearning(exploration=0.3),
    ad.sources.QLearning(exploration=0.3, phases=3),
    ad.sources.PosteriorSampling(),
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


@pytest.mark.parametrize("agent", AGENTS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("env", WORLDS, ids=repr)
def test_every_agent_keeps_the_contract_in_every_world(agent, env):
    check_agent(agent, env)


@pytest.mark.parametrize("agent", [ad.sources.UCB(), ad.sources.ThompsonSampling()])
@pytest.mark.parametrize("arms", [10, 3])
def test_bandit_players_keep_the_contract(agent, arms):
    check_agent(agent, ad.envs.AdversarialBandit(arms=arms, horizon=4, n_tasks=6))


@pytest.mark.parametrize("agent", [ad.sources.UCB(bonus=0.3), ad.sources.ThompsonSampling()])
def test_bandit_players_learn_the_bandit(agent):
    env = ad.envs.AdversarialBandit(n_tasks=300)
    returns = ad.collect(env, env.tasks(), agent, episodes=1000, lifetimes=2).returns
    optimum = ad.optimal_returns(env, env.tasks()).mean()
    assert (
        returns[:, :, -100:].mean() > 0.95 * optimum
        and ad.stats.improvement(returns, share=0.02).low > 0.2
    )


def test_with_phases_q_learning_opens_every_door_and_without_it_does_not():
    env = ad.envs.DarkKeyToDoor(size=5, horizon=24)
    late = lambda phases: ad.stats.bootstrap(
        ad.collect(
            env,
            env.tasks()[::7],
            ad.sources.QLearning(lr=1.0, epsilon=0.1, exploration=0.5, phases=phases),
            episodes=120,
            lifetimes=4,
        ).returns[:, :, -20:]
    )
    assert late(3).low > 1.95 and late(1).high < 1.6


def test_q_learning_solves_every_dark_room():
    env = ad.envs.DarkRoom()
    returns = ad.collect(
        env, env.tasks(), ad.sources.QLearning(), episodes=500, lifetimes=4
    ).returns
    optimum = ad.optimal_returns(env, env.tasks())
    np.testing.assert_allclose(returns[:, :, -10:].mean((1, 2)), optimum, atol=0.3)
    assert ad.stats.improvement(returns, share=0.02).low > 12


def test_posterior_sampling_finds_the_goal_and_then_walks_straight_to_it():
    env = ad.envs.DarkRoom()
    returns = ad.collect(
        env, env.tasks(), ad.sources.PosteriorSampling(noise=0.0), episodes=20, lifetimes=8
    ).returns
    optimum = ad.optimal_returns(env, env.tasks())[:, None, None]
    assert (returns[:, :, -3:] == optimum).all()
    assert 0.08 < (returns[:, :, 0] / optimum[:, :, 0]).mean() < 0.25


def test_the_systematic_explorer_solves_every_room_by_episode_six():
    env = ad.envs.DarkRoom()
    returns = ad.collect(
        env, env.tasks(), ad.sources.SystematicExplorer(), episodes=8, lifetimes=4
    ).returns
    assert (returns[:, :, 6:] == ad.optimal_returns(env, env.tasks())[:, None, None]).all()


def test_a_staged_posterior_finds_the_key_then_the_door_then_wanders():
    """Nothing is tried twice: in a room of 16 cells both are found within 16 visits each, then
    walked to in the fewest steps.
    """
    env = ad.envs.DarkKeyToDoor(size=4, horizon=20)
    tasks = env.tasks()
    life = ad.collect(env, tasks, ad.sources.PosteriorSampling(noise=0.0), episodes=12, lifetimes=2)
    assert (life.returns[:, :, -3:] == 2).all() and life.returns[:, :, 0].mean() < 1.8
    steps = lambda a, b: np.abs(a.astype(int) - b.astype(int)).sum(-1)
    key, door = (tasks[name][life.task] for name in ("key", "door"))
    least = np.maximum(steps(life.arrays["obs"][:, -1, 0], key), 1) + np.maximum(
        steps(key, door), 1
    )
    when = (life.arrays["reward"][:, -1].cumsum(1) == 2).argmax(1)
    assert (when + 1 == least).all()
    after = np.arange(20) > when[:, None]
    actions = np.bincount(life.arrays["action"][:, -1][after], minlength=5)
    assert actions.min() > 0.17 * actions.sum(), "with nothing left to gain it wanders"
    life = ad.collect(
        env, tasks[::9], ad.sources.PosteriorSampling(noise=0.0, rest=True), episodes=12
    )
    when = (life.arrays["reward"][:, -1].cumsum(1) == 2).argmax(1)
    assert (life.arrays["action"][:, -1][np.arange(20) > when[:, None]] == 0).all(), "or rests"


def test_greed_finds_sooner_and_forgetting_later():
    env = ad.envs.DarkRoom(size=9, reward="once")
    found = lambda **how: ad.collect(
        env, env.tasks(), ad.sources.PosteriorSampling(**how), episodes=8, lifetimes=16
    ).returns[:, :, 3:5]
    plain, greedy, forgetful = (
        ad.stats.bootstrap(found(**how)) for how in ({}, {"greed": 10.0}, {"forgetting": 0.9})
    )
    assert greedy.low > plain.high and forgetful.high < plain.low


@pytest.mark.parametrize("env", WORLDS[:3], ids=repr)
def test_the_optimal_agent_earns_the_optimum_exactly(env):
    returns = ad.collect(
        env, env.tasks()[:30], ad.sources.Optimal(), episodes=30, lifetimes=8
    ).returns
    optimum = ad.optimal_returns(env, env.tasks()[:30])
    if env.start == "centre":
        assert (returns == optimum[:, None, None]).all()
    else:
        np.testing.assert_allclose(returns.mean((1, 2)), optimum, atol=0.1)


@pytest.mark.parametrize("fault", ["reward = action", "reward = observation", "delayed"])
def test_q_learning_solves_the_one_fault_environments(fault):
    env = OneFault(fault)
    agent = ad.sources.QLearning(initial_q=0.0, exploration=0.6)
    life = ad.collect(env, env.tasks(), agent, episodes=100, lifetimes=256)
    assert life.returns[:, :, -10:].mean() == pytest.approx(env.optimum, rel=0.02)
    control = ad.collect(env, env.tasks(), ad.sources.Random(), episodes=100, lifetimes=16)
    assert control.returns.mean() < 0.8 * env.optimum
