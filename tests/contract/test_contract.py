"""Every environment and every source keeps the contract as code, and Gymnasium's own."""

from itertools import product

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from helpers import EVERYONE, scrambled
from probe_worlds import Line

import adkit as ad
from adkit import sources
from adkit.envs import (
    AdversarialBandit,
    CookieWorld,
    DarkKeyToDoor,
    DarkRoom,
    Watermaze,
    from_gymnasium,
)
from adkit.testing import check_agent, check_env

# so short that falls into a hole in the very last step are seen
LAKE, TAXI = from_gymnasium("FrozenLake-v1", horizon=6), from_gymnasium("Taxi-v4", horizon=30)
ROOM_ONCE = DarkRoom(4, 6, reward="once", start="random")
BANDIT = AdversarialBandit(arms=3, horizon=4, n_tasks=6)
ROOMS = [DarkRoom(5, 8), ROOM_ONCE, DarkRoom(3, 6, permuted=True), DarkKeyToDoor(3, 12), LAKE, TAXI]
POOLS = [Watermaze(ends=ends, n_tasks=50) for ends in ("clock", "platform")]
COOKIES = [CookieWorld(), CookieWorld(7), CookieWorld(tolerance_visible=True, horizon=9)]
WORLDS = [
    *(*ROOMS, *POOLS, *COOKIES, BANDIT, Line()),
    DarkRoom(size=17, reward="once"),
    DarkKeyToDoor(size=2, horizon=6, start="centre", permuted=True),
    AdversarialBandit(bias="even", n_tasks=7),
    from_gymnasium("CartPole-v1", horizon=6),  # no pole falls as soon as that
    from_gymnasium("CliffWalking-v1", horizon=40),
]


@pytest.mark.parametrize("env", WORLDS, ids=repr)
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
PAIRS = [
    *product(TABULAR, ROOMS),
    *product(PULLERS, [BANDIT]),
    *product(NETWORKS, [ROOM_ONCE, BANDIT, LAKE, Line(), Watermaze(horizon=16, n_tasks=4)]),
    *product(SWIMMERS, POOLS),
    *product(SHARDS, COOKIES),
]


@pytest.mark.parametrize(("agent", "env"), PAIRS, ids=lambda given: type(given).__name__)
def test_every_source_keeps_the_contract(agent, env):
    check_agent(agent, env, episodes=5)


@pytest.mark.parametrize("env", [ROOM_ONCE, Line(), LAKE], ids=repr)
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
