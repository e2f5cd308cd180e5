"""Every world and every source keeps the contract as code; what breaks one article is found out."""

import re
from dataclasses import replace
from itertools import product

import gymnasium
import numpy as np
import pytest
from golden import worlds
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from helpers import EVERYONE, scrambled
from probe_worlds import Line

import adkit as ad
from adkit import sources
from adkit.envs import AdversarialBandit, CookieWorld, DarkRoom, from_gymnasium
from adkit.testing import check_agent, check_env, check_histories

WORLDS = worlds()
# so short that falls into a hole in the very last step are seen
LAKE = from_gymnasium("FrozenLake-v1", horizon=6)
TAXI = from_gymnasium(max(id for id in gymnasium.registry if id.startswith("Taxi-v")), horizon=30)
BANDIT = AdversarialBandit(arms=3, horizon=4, n_tasks=6)
OTHERS = [LAKE, TAXI, BANDIT, Line(), CookieWorld(7)]
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
    *product(PULLERS, [BANDIT, *some("bandit even")]),
    *product(NETWORKS, [*some("room once", "maze"), BANDIT, LAKE, Line()]),
    *product(SWIMMERS, some("maze", "maze platform")),
    *product(SHARDS, some("cookies", "cookies tolerance")),
]


@pytest.mark.parametrize(("agent", "env"), PAIRS, ids=lambda given: type(given).__name__)
def test_every_source_keeps_the_contract(agent, env):
    check_agent(agent, env, episodes=5)


@pytest.mark.parametrize("env", [*some("room", "maze", "cookies"), BANDIT, LAKE, Line()], ids=repr)
def test_a_source_that_cannot_learn_in_a_world_names_those_that_can(env):
    refused = []
    for agent in [*TABULAR, *PULLERS, *NETWORKS, *SWIMMERS, sources.Shards()]:
        try:
            ad.collect(env, env.tasks()[:1], agent, episodes=1)
        except ValueError as error:
            refused.append(re.fullmatch(r"\w+ cannot learn in [\w-]+: .+; try (.+)", str(error))[1])
    assert refused
    for name in {name for names in refused for name in names.split(", ")}:
        learner = getattr(sources, name.removesuffix("()"))()
        ad.collect(env, env.tasks()[:1], learner, episodes=1)


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


ROOM = DarkRoom(4, 6)


class Nosy(sources.Random):
    """Acts on draws of its neighbour."""

    def start(self, spec, rng, episodes):
        return super().start(spec, replace(rng, keys=np.roll(rng.keys, 1)), episodes)


class TwoFaced(sources.QLearning):
    """Simulates other lifetimes than it acts."""

    def simulate(self, lifetimes, arrays):
        other = replace(lifetimes.rng, keys=lifetimes.rng.keys + np.uint64(1))
        return super().simulate(replace(lifetimes, rng=other), arrays)


@pytest.mark.parametrize(
    ("agent", "says"),
    [
        (Nosy(), "changed with those beside it; use only its own rows and rng"),
        (TwoFaced(), "the compiled and the batched driver disagree"),
    ],
)
def test_an_agent_that_breaks_the_contract_is_found_out(agent, says):
    check_agent(sources.QLearning(), ROOM)
    with pytest.raises(AssertionError, match=says):
        check_agent(agent, ROOM)


class Leaky(DarkRoom):
    """Shows each lifetime what its neighbour sees."""

    def step(self, state, given, action, rng):
        state, step = super().step(state, given, action, rng)
        return state, step._replace(obs=np.roll(step.obs, 1, axis=0))


class Other(DarkRoom):
    """Has tables of which one is changed, and steps without them."""

    def tables(self, given):
        table = super().tables(given)
        return table._replace(**{name: change(table) for name, change in self.changed.items()})

    def reset(self, given, rng):
        return ROOM.reset(given, rng)

    def step(self, state, given, action, rng):
        return ROOM.step(state, given, action, rng)


def other(**changed):
    return type("Other", (Other,), {"changed": changed})(ROOM.size, ROOM.horizon)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (Leaky(4, 6), "changed with those beside it; use only its own rows and rng"),
        (other(reward=lambda t: 2 * t.reward), "step and tables disagree on reward"),
        (other(next_state=lambda t: np.roll(t.next_state, 1, 2)), "tables disagree on obs"),
        (other(terminated=lambda t: t.reward > 0), "step and tables disagree on terminated"),
        (other(start=lambda t: np.ones_like(t.start)), "disagree on where an episode starts"),
    ],
)
def test_an_environment_that_breaks_the_contract_is_found_out(env, says):
    check_env(other())
    with pytest.raises(AssertionError, match=says):
        check_env(env)


def test_histories_that_break_the_contract_are_found_out():
    found = ad.collect(ROOM, ROOM.tasks()[:2], sources.Random(), episodes=2)
    check_histories(found)
    goes_on = found.arrays["truncated"].copy()
    goes_on[1, 1, 2] = True
    emptied = {name: values.copy() for name, values in found.arrays.items()}
    for name in ("obs", "action", "reward"):
        emptied[name][1, 1, 3:] = 0
    for arrays, says in (
        (found.arrays | {"truncated": goes_on}, "obs is not empty beyond the end of an episode"),
        (emptied | {"truncated": goes_on}, "truncated is not empty beyond the end"),
        (found.arrays | {"terminated": found.arrays["truncated"]}, "must end exactly once"),
    ):
        with pytest.raises(AssertionError, match=says):
            check_histories(replace(found, arrays=arrays))
