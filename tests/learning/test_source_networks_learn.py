"""Sources learn one-fault environments, real numbers and rooms; without steps they do not."""

from dataclasses import replace

import pytest
from probe_worlds import FAULTS, Line, OneFault

import adkit as ad
from adkit.sources import DQN, ActorCritic, PoseQLearning, QLearning

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


ROOM, MAZE = ad.envs.DarkRoom(), ad.envs.Watermaze(n_tasks=4)
POOL = ad.envs.Watermaze(ends="platform", n_tasks=400)
LEARNED = [  # at least this share of the optimum, and its control at most that
    (ActorCritic(), ROOM, 0.94, 0.1, {"episodes": 500, "lifetimes": 2, "last": 25, "thin": 4}),
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
