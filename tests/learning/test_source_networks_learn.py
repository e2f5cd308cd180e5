"""Actor-critic and DQN: the contract, the one-fault environments, and the rooms, with controls."""

from dataclasses import replace

import pytest
from probe_worlds import Line, OneFault

import adkit as ad
from adkit.sources import DQN, ActorCritic
from adkit.testing import check_agent, check_env

QUICK = DQN(width=16, batch=4)


@pytest.mark.parametrize(
    "env",
    [
        ad.envs.DarkRoom(4, 6, reward="once", start="random"),
        ad.envs.AdversarialBandit(arms=3, horizon=4, n_tasks=2),
        Line(),
        ad.envs.Watermaze(horizon=16, n_tasks=4),
        ad.envs.from_gymnasium("FrozenLake-v1", horizon=30),
        ad.envs.from_gymnasium("Taxi-v4", horizon=20),
    ],
    ids=repr,
)
def test_the_actor_critic_keeps_the_contract(env):
    check_agent(ActorCritic(unroll=7), env, episodes=4)


def test_the_line_is_a_world():
    check_env(Line())


@pytest.mark.parametrize(
    "fault", ["reward = action", "reward = observation", "delayed", "across episodes"]
)
def test_the_actor_critic_solves_the_one_fault_environments_and_does_not_without_learning(fault):
    env = OneFault(fault)
    live = lambda agent: ad.collect(env, env.tasks(), agent, episodes=400, lifetimes=64).returns[
        :, :, -50:
    ]
    assert (
        ad.stats.bootstrap(live(ActorCritic(entropy=0.01)).mean(2), draws=500).low
        > 0.93 * env.optimum
    )
    assert ad.stats.bootstrap(live(ActorCritic(lr=0.0)).mean(2), draws=500).high < 0.8 * env.optimum


def test_the_actor_critic_learns_the_line_from_real_numbers():
    live = lambda agent: (
        ad.collect(Line(), Line().tasks(), agent, episodes=150, lifetimes=16)
        .returns[:, :, -20:]
        .mean(2)
    )
    assert (
        ad.stats.bootstrap(live(ActorCritic()), draws=500).low
        > 6
        > 1
        > ad.stats.bootstrap(live(ActorCritic(lr=0.0))).high
    )


def test_the_actor_critic_learns_the_dark_room():
    env = ad.envs.DarkRoom()
    live = lambda agent: ad.collect(env, env.tasks()[::4], agent, episodes=500, lifetimes=2).returns
    returns, optimum = live(ActorCritic()), ad.optimal_returns(env, env.tasks()[::4])
    assert ad.stats.bootstrap(returns[:, :, -25:].mean(2) / optimum[:, None], draws=500).low > 0.94
    assert ad.stats.improvement(returns, share=0.05).low > 13
    assert abs(ad.stats.improvement(live(ActorCritic(lr=0.0)), share=0.05).estimate) < 0.1


@pytest.mark.parametrize(
    "env",
    [
        ad.envs.DarkRoom(4, 6, start="random"),
        Line(),
        ad.envs.from_gymnasium("FrozenLake-v1", horizon=9),
    ],
)
def test_dqn_keeps_the_contract_in_every_world_and_with_a_short_memory(env):
    check_agent(QUICK, env, episodes=5)
    check_agent(replace(QUICK, capacity=13, overlap=3), env, episodes=5)


@pytest.mark.parametrize(
    "fault", ["reward = action", "reward = observation", "delayed", "across episodes"]
)
def test_dqn_solves_the_one_fault_environments_and_does_not_without_learning(fault):
    env = OneFault(fault)
    live = lambda agent: (
        ad.collect(env, env.tasks(), agent, episodes=150, lifetimes=16).returns[:, :, -50:].mean(2)
    )
    assert ad.stats.bootstrap(live(QUICK), draws=500).low > 0.9 * env.optimum
    assert ad.stats.bootstrap(live(replace(QUICK, lr=0.0)), draws=500).high < 0.8 * env.optimum


def test_dqn_learns_the_line_from_real_numbers():
    live = lambda agent: (
        ad.collect(Line(), Line().tasks(), agent, episodes=80, lifetimes=8)
        .returns[:, :, -20:]
        .mean(2)
    )
    assert (
        ad.stats.bootstrap(live(QUICK), draws=500).low
        > 5
        > 1.5
        > ad.stats.bootstrap(live(replace(QUICK, lr=0.0))).high
    )


def test_dqn_learns_the_dark_room():
    env = ad.envs.DarkRoom()
    tasks = env.tasks()[::9]
    live = lambda agent: ad.collect(env, tasks, agent, episodes=150, lifetimes=2).returns
    returns, optimum = live(DQN()), ad.optimal_returns(env, tasks)
    assert ad.stats.bootstrap(returns[:, :, -25:].mean(2) / optimum[:, None], draws=500).low > 0.75
    assert ad.stats.improvement(returns, share=0.1).low > 9
    assert abs(ad.stats.improvement(live(DQN(lr=0.0)), share=0.1).estimate) < 0.3


def test_dqn_learns_the_watermaze_from_the_pose_its_pictures_are_drawn_from():
    env = ad.envs.Watermaze(n_tasks=4)
    live = lambda agent: (
        ad.collect(env, env.tasks(), agent, episodes=100, lifetimes=4).returns[:, :, -40:].mean(2)
    )
    assert (
        ad.stats.bootstrap(live(DQN()), draws=500).low
        > 0.5
        > 0.35
        > ad.stats.bootstrap(live(DQN(lr=0.0)), draws=500).high
    )


def test_dqn_learns_the_watermaze_from_pictures():
    env = ad.envs.Watermaze(n_tasks=4)
    live = lambda agent: (
        ad.collect(env, env.tasks(), agent, episodes=60, lifetimes=2).returns[:, :, -20:].mean(2)
    )
    learned, not_so = (
        ad.stats.bootstrap(live(DQN(pixels=(12, 16), lr=lr)), draws=500) for lr in (1e-3, 0.0)
    )
    assert learned.low > 0.35 > 0.3 > not_so.high
