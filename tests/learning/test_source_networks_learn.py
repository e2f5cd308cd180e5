"""Sources learn one-fault environments, real numbers and rooms; without steps they do not."""

from dataclasses import replace

import pytest
from probe_worlds import OPTIMA, Line, OneFault

import adkit as ad
from adkit.sources import DQN, ActorCritic, QLearning
from adkit.testing import check_agent, check_env

QUICK, TABULAR = DQN(width=16, batch=4), QLearning(initial_q=0.0, exploration=0.6)
MAZE = ad.envs.Watermaze(n_tasks=4)
WORLDS = [
    ad.envs.DarkRoom(4, 6, reward="once", start="random"),
    ad.envs.AdversarialBandit(arms=3, horizon=4, n_tasks=2),
    ad.envs.from_gymnasium("FrozenLake-v1", horizon=30),
    Line(),
    ad.envs.Watermaze(horizon=16, n_tasks=4),
]


@pytest.mark.parametrize("env", WORLDS, ids=repr)
@pytest.mark.parametrize("agent", [ActorCritic(unroll=7), QUICK, replace(QUICK, capacity=13)])
def test_networks_keep_the_contract_with_a_short_memory_too(agent, env):
    check_agent(agent, env, episodes=5)


def test_the_line_keeps_the_contract():
    check_env(Line())


def learned_and_not(env, agent, last, **how):
    """Return late returns of an agent, and of one that takes no steps, its control."""
    for one in (agent, replace(agent, lr=0.0)):
        returns = ad.collect(env, env.tasks(), one, **how).returns
        yield ad.stats.bootstrap(returns[:, :, -last:].mean(2), draws=500)


AGENTS = [
    (ActorCritic(entropy=0.01), 0.93, {"episodes": 400, "lifetimes": 64, "last": 50}),
    (QUICK, 0.9, {"episodes": 150, "lifetimes": 16, "last": 50}),
    (TABULAR, 0.97, {"episodes": 100, "lifetimes": 64, "last": 10}),
]


@pytest.mark.parametrize("fault", OPTIMA)
@pytest.mark.parametrize(("agent", "share", "how"), AGENTS)
def test_one_fault_environments_are_solved_and_without_learning_are_not(agent, share, how, fault):
    env = OneFault(fault)
    learned, control = learned_and_not(env, agent, **how)
    assert learned.low > share * env.optimum and control.high < 0.8 * env.optimum


@pytest.mark.parametrize(
    ("agent", "env", "low", "high", "how"),
    [
        (ActorCritic(), Line(), 6, 1, {"episodes": 150, "lifetimes": 16, "last": 20}),
        (QUICK, Line(), 5, 1.5, {"episodes": 80, "lifetimes": 8, "last": 20}),
        (DQN(), MAZE, 0.5, 0.35, {"episodes": 100, "lifetimes": 4, "last": 40}),
    ],
)
def test_real_numbers_are_learned_from(agent, env, low, high, how):
    learned, control = learned_and_not(env, agent, **how)
    assert learned.low > low > high > control.high


@pytest.mark.parametrize(
    ("agent", "every", "episodes", "share"), [(ActorCritic(), 4, 500, 0.94), (DQN(), 9, 150, 0.75)]
)
def test_the_dark_room_is_learned(agent, every, episodes, share):
    env = ad.envs.DarkRoom()
    tasks, how = env.tasks()[::every], {"episodes": episodes, "lifetimes": 2}
    returns = ad.collect(env, tasks, agent, **how).returns
    optimum = ad.optimal_returns(env, tasks)[:, None]
    assert ad.stats.bootstrap(returns[:, :, -25:].mean(2) / optimum, draws=500).low > share
    assert ad.stats.improvement(returns, share=0.1).low > 9
    control = ad.collect(env, tasks, replace(agent, lr=0.0), **how).returns
    assert abs(ad.stats.improvement(control, share=0.1).estimate) < 0.3
