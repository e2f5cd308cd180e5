"""Actor-critic and DQN: the contract, the one-fault environments, and the rooms, with controls."""

from dataclasses import replace

import pytest
from probe_worlds import OPTIMA, Line, OneFault

import adkit as ad
from adkit.sources import DQN, ActorCritic
from adkit.testing import check_agent, check_env

QUICK = DQN(width=16, batch=4)
LAKE = ad.envs.from_gymnasium("FrozenLake-v1", horizon=30)
ROOM = ad.envs.DarkRoom(4, 6, reward="once", start="random")
MAZE = ad.envs.Watermaze(n_tasks=4)


def late(env, agent, tasks, last, **how):
    """Return the interval of the mean return of the `last` episodes."""
    returns = ad.collect(env, tasks, agent, **how).returns[:, :, -last:]
    return ad.stats.bootstrap(returns.mean(2), draws=500)


def learned_and_not(env, agent, last, tasks=None, **how):
    """Return late returns of an agent, and of one that takes no steps, its control."""
    tasks = env.tasks() if tasks is None else tasks
    return (late(env, one, tasks, last, **how) for one in (agent, replace(agent, lr=0.0)))


@pytest.mark.parametrize(
    "env",
    [
        ROOM,
        ad.envs.AdversarialBandit(arms=3, horizon=4, n_tasks=2),
        Line(),
        ad.envs.Watermaze(horizon=16, n_tasks=4),
        LAKE,
        ad.envs.from_gymnasium("Taxi-v4", horizon=20),
    ],
    ids=repr,
)
def test_the_actor_critic_keeps_the_contract(env):
    check_agent(ActorCritic(unroll=7), env, episodes=4)


@pytest.mark.parametrize("env", [ROOM, Line(), LAKE], ids=repr)
def test_dqn_keeps_the_contract_and_with_a_short_memory_too(env):
    check_agent(QUICK, env, episodes=5)
    check_agent(replace(QUICK, capacity=13, overlap=3), env, episodes=5)


def test_the_line_is_a_world():
    check_env(Line())


@pytest.mark.parametrize("fault", OPTIMA)
@pytest.mark.parametrize(
    ("agent", "share", "how"),
    [
        (ActorCritic(entropy=0.01), 0.93, {"episodes": 400, "lifetimes": 64}),
        (QUICK, 0.9, {"episodes": 150, "lifetimes": 16}),
    ],
    ids=["ActorCritic", "DQN"],
)
def test_the_one_fault_environments_are_solved_and_without_learning_are_not(
    agent, share, how, fault
):
    env = OneFault(fault)
    learned, control = learned_and_not(env, agent, last=50, **how)
    assert learned.low > share * env.optimum and control.high < 0.8 * env.optimum


def test_the_line_is_learned_from_real_numbers():
    learned, control = learned_and_not(Line(), ActorCritic(), last=20, episodes=150, lifetimes=16)
    assert learned.low > 6 > 1 > control.high
    learned, control = learned_and_not(Line(), QUICK, last=20, episodes=80, lifetimes=8)
    assert learned.low > 5 > 1.5 > control.high


@pytest.mark.parametrize(
    ("agent", "every", "episodes", "share"),
    [(ActorCritic(), 4, 500, 0.94), (DQN(), 9, 150, 0.75)],
    ids=["ActorCritic", "DQN"],
)
def test_the_dark_room_is_learned(agent, every, episodes, share):
    env = ad.envs.DarkRoom()
    tasks = env.tasks()[::every]
    returns, still = (
        ad.collect(env, tasks, one, episodes=episodes, lifetimes=2).returns
        for one in (agent, replace(agent, lr=0.0))
    )
    optimum = ad.optimal_returns(env, tasks)[:, None]
    assert ad.stats.bootstrap(returns[:, :, -25:].mean(2) / optimum, draws=500).low > share
    assert ad.stats.improvement(returns, share=0.1).low > 9
    assert abs(ad.stats.improvement(still, share=0.1).estimate) < 0.3


def test_dqn_learns_the_watermaze_from_the_pose_its_pictures_are_drawn_from():
    learned, control = learned_and_not(MAZE, DQN(), last=40, episodes=100, lifetimes=4)
    assert learned.low > 0.5 > 0.35 > control.high
