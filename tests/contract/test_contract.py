"""Every environment and every source keeps the contract as code, and Gymnasium's own."""

from itertools import product

import gymnasium
import pytest
from golden import worlds
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from helpers import EVERYONE, scrambled
from probe_worlds import Line

import adkit as ad
from adkit import sources
from adkit.envs import CookieWorld, from_gymnasium
from adkit.testing import check_agent, check_env

WORLDS = worlds()
# so short that falls into a hole in the very last step are seen
LAKE, TAXI = from_gymnasium("FrozenLake-v1", horizon=6), from_gymnasium("Taxi-v4", horizon=30)
OTHERS = [LAKE, TAXI, Line(), CookieWorld(7)]
# no pole falls within six steps
OTHERS += [from_gymnasium("CartPole-v1", horizon=6), from_gymnasium("CliffWalking-v1", horizon=40)]


@pytest.mark.parametrize("env", [*WORLDS.values(), *OTHERS], ids=repr)
def test_every_world_keeps_the_contract(env):
    check_env(env)


TABULAR = [sources.QLearning(exploration=0.3), sources.QLearning(exploration=0.3, phases=3)]
TABULAR += [sources.PosteriorSampling(), sources.SystematicExplorer()]
TABULAR += [sources.Optimal(), sources.Random()]
PULLERS = [sources.UCB(bonus=0.3), sources.ThompsonSampling()]
NETWORKS = [sources.ActorCritic(unroll=7), sources.DQN(width=16, batch=4)]
NETWORKS += [sources.DQN(width=16, batch=4, capacity=13)]
SWIMMERS = [sources.GoalSearch(), sources.PoseQLearning()]
SHARDS = [sources.Shards(), EVERYONE, sources.Shards(labelled=False)]
some = lambda *names: [WORLDS[name] for name in names]
ROOMS = some("room", "room once", "room random start", "room permuted", "keys")
PAIRS = [
    *product(TABULAR, [*ROOMS, LAKE, TAXI]),
    *product(PULLERS, some("bandit", "bandit even")),
    *product(NETWORKS, [*some("room once", "bandit", "maze"), LAKE, Line()]),
    *product(SWIMMERS, some("maze", "maze platform")),
    *product(SHARDS, some("cookies", "cookies tolerance")),
]


@pytest.mark.parametrize(("agent", "env"), PAIRS, ids=lambda given: type(given).__name__)
def test_every_source_keeps_the_contract(agent, env):
    check_agent(agent, env, episodes=5)


@pytest.mark.parametrize("env", [WORLDS["room once"], Line(), LAKE], ids=repr)
def test_rl2_keeps_the_contract_of_agents(env):
    policy = scrambled(ad.RecurrentPolicy(env.spec, width=12))
    check_agent(ad.RL2(policy), env, episodes=5)


PLACES = {"home": (0, 0), "jar": (2, 2), "garden": (4, 4), "psi": 0.6}
REGISTERED = [  # a world, its task and settings, the shape of what it shows
    ("DarkRoom", {"goal": (5, 4)}, (2,)),
    ("CookieWorld", PLACES, (8,)),  # of twelve coordinates
    *(("Watermaze", {"goal": (0.3, 0.4), "view": view}, (3,)) for view in ("pose", "nothing")),
    ("Watermaze", {"goal": (0.3, 0.4), "view": (8, 96)}, (8, 96, 3)),
]


@pytest.mark.parametrize(("name", "settings", "shape"), REGISTERED)
def test_a_registered_world_passes_gymnasiums_checker(name, settings, shape):
    env = gymnasium.make(f"adkit/{name}-v0", **settings)
    gymnasium_check_env(env.unwrapped, skip_render_check=True)
    obs, _ = env.reset(seed=1)
    assert obs.shape == shape and (settings.get("view") != "nothing" or not obs.any())
