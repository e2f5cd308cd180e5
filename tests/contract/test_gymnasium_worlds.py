"""A matrix of other people's worlds: each is collected from by chance and by a learner, or refused.

A world whose package is not installed is skipped, and pytest says which.
"""

import importlib
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers as w
from gymnasium.error import DependencyNotInstalled

import adkit as ad
from adkit import sources
from adkit.sources.settings import MOST_INPUTS, has_small_table, inputs


def mini(name: str):
    """Return a wrapper of MiniGrid's."""
    return lambda env: getattr(importlib.import_module("minigrid.wrappers"), name)(env)


IMAGE, STACK = mini("ImgObsWrapper"), partial(w.FrameStackObservation, stack_size=3)
WITH_TIME = partial(w.TimeAwareObservation, flatten=False)
TAXI = max(id for id in gymnasium.registry if id.startswith("Taxi-v"))
STARTS = [{"low": -0.01, "high": 0.01}, {"low": 0.05, "high": 0.08}]
# a world, what is given with it, the shape of an observation
WORLDS = [
    ("FrozenLake-v1", {}, (1,)),
    ("FrozenLake8x8-v1", {"is_slippery": False}, (1,)),
    ("FrozenLake-v1", {"tasks": [{"desc": ["SF", "HG"]}, {"desc": ["SFH", "FFG"]}]}, (1,)),
    (TAXI, {}, (1,)),
    (TAXI, {"masks": True}, (1,)),
    (TAXI, {"is_rainy": True}, (1,)),
    ("CliffWalking-v1", {"horizon": 30}, (1,)),
    ("Blackjack-v1", {"horizon": 20}, (3,)),
    ("CartPole-v1", {}, (4,)),
    ("CartPole-v1", {"tasks": STARTS, "task_as": "options"}, (4,)),
    ("CartPole-v1", {"wrappers": [WITH_TIME]}, (5,)),
    ("CartPole-v1", {"wrappers": [STACK]}, (3, 4)),
    ("MountainCar-v0", {}, (2,)),
    ("Acrobot-v1", {}, (6,)),
    ("Pendulum-v1", {"bins": 5}, (3,)),
    ("MountainCarContinuous-v0", {"bins": 3}, (2,)),
    ("minigrid:MiniGrid-Empty-5x5-v0", {"wrappers": [IMAGE]}, (7, 7, 3)),
    ("minigrid:MiniGrid-DoorKey-5x5-v0", {"wrappers": [mini("FlatObsWrapper")]}, (2835,)),
    (
        "minigrid:MiniGrid-LavaGapS5-v0",
        {"wrappers": [mini("SymbolicObsWrapper"), IMAGE]},
        (75,),
    ),
    ("minigrid:MiniGrid-FourRooms-v0", {"wrappers": [mini("DictObservationSpaceWrapper")]}, None),
    (
        "minigrid:MiniGrid-Unlock-v0",
        {"wrappers": [mini("OneHotPartialObsWrapper"), IMAGE]},
        (7, 7, 20),
    ),
    (
        "minigrid:MiniGrid-Empty-6x6-v0",
        {"wrappers": [mini("RGBImgPartialObsWrapper"), IMAGE]},
        (56, 56, 3),
    ),
    (
        "minigrid:MiniGrid-FourRooms-v0",
        {"wrappers": [IMAGE], "tasks": [{"seed": 1}, {"seed": 2}], "task_as": "seed"},
        (7, 7, 3),
    ),
    ("LunarLander-v3", {}, (8,)),
    ("ale_py:ALE/Breakout-v5", {}, (210, 160, 3)),
    ("HalfCheetah-v5", {"bins": 2}, (17,)),
]
NAMES = [" ".join([id, *how]) for id, how, _ in WORLDS]
REFUSED = [
    ("minigrid:MiniGrid-Empty-5x5-v0", {}, r"has observations\['mission'\] of MissionSpace"),
    ("Pendulum-v1", {}, r"has actions Box\(-2.0, 2.0, \(1,\), float32\); .* give bins=5"),
    ("CliffWalking-v1", {"horizon": None}, "no time limit; give `horizon`"),
]


def made(id: str, how: dict):
    try:
        return ad.envs.from_gymnasium(id, **{"horizon": 40} | how)
    except (ImportError, ValueError) as error:
        if isinstance(error, ImportError) or isinstance(error.__cause__, DependencyNotInstalled):
            pytest.skip(f"{id}: {error}")
        raise


def learner(spec):
    if has_small_table(spec):
        return sources.QLearning()
    if inputs(spec) <= MOST_INPUTS:
        return sources.ActorCritic()
    return sources.StableBaselines3("PPO", "CnnPolicy", n_steps=32, batch_size=32, n_epochs=1)


@pytest.mark.filterwarnings("ignore:.*only . values of each number:UserWarning")
@pytest.mark.parametrize(("id", "how", "shape"), WORLDS, ids=NAMES)
def test_a_world_is_collected_from(id, how, shape):
    env = made(id, how)
    tasks = env.tasks()
    for agent in (sources.Random(), learner(env.spec)):
        found = ad.collect(env, tasks, agent, episodes=3, lifetimes=2)
        ad.testing.check_histories(found)
        assert shape in (None, env.spec.obs_shape)
        assert len(found) == 2 * len(tasks) and len(np.unique(found.action)) > 1
        again = ad.collect(env, tasks, agent, episodes=3, lifetimes=2)
        assert all(np.array_equal(found.arrays[name], again.arrays[name]) for name in found.arrays)


@pytest.mark.parametrize(("id", "how", "sentence"), REFUSED)
def test_a_world_is_refused_for_the_right_reason(id, how, sentence):
    with pytest.raises(ValueError, match=sentence):
        made(id, how)
