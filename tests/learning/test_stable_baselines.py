"""Stable-Baselines3's algorithms as sources: lifetimes depend on their address alone."""

import random
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import real, same

import adkit as ad
from adkit.sources import StableBaselines3
from adkit.sources.stable_baselines import RecordedEnv

PPO = StableBaselines3("PPO", n_steps=16, batch_size=8, n_epochs=2)
A2C = StableBaselines3("A2C")
DQN = StableBaselines3("DQN", learning_starts=10, batch_size=8)
CART_POLE = ad.envs.from_gymnasium("CartPole-v1", horizon=60)
LAKE = ad.envs.from_gymnasium("FrozenLake-v1")
ROOM, COOKIES = ad.envs.DarkRoom(size=3, horizon=5), ad.envs.CookieWorld()


def collected(env=CART_POLE, agent=PPO, **how):
    how = {"episodes": 4, "lifetimes": 2, "seed": 0} | how
    return ad.collect(env, env.tasks()[:2], agent, **how)


@pytest.mark.parametrize("source", [PPO, A2C, DQN], ids=repr)
@pytest.mark.parametrize("env", [CART_POLE, ROOM, LAKE], ids=repr)
def test_it_keeps_the_contract_in_every_kind_of_world(source, env):
    ad.testing.check_agent(source, env)


def test_a_lifetime_depends_on_its_address_alone():
    together = collected()
    assert same(together[1:], collected(lifetimes=3)[1:2])
    assert not same(together[:1], together[1:]) and not same(together, collected(seed=1))
    assert same(together.subsample(2), collected(every=2))
    with ThreadPoolExecutor(2) as pool:
        assert same(together, collected(executor=pool))
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert same(collected(ROOM), collected(ROOM, executor=pool))


def test_it_neither_reads_nor_changes_the_state_of_the_process(tmp_path, monkeypatch):
    def state():
        arrays = np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()
        return random.getstate(), *arrays, torch.get_num_threads()

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    together, threads = collected(), torch.get_num_threads()
    random.seed(), np.random.seed(), torch.manual_seed(1)
    torch.set_num_threads(threads + 1)
    before = state()
    assert same(together, collected()) and state() == before
    torch.set_num_threads(threads)
    assert not list(tmp_path.iterdir()), "Stable-Baselines3 logs to a new folder unless told not to"


def repeat(actions):
    """Return an agent, and its own learner, that takes given actions."""
    agent, actions = SimpleNamespace(update=lambda transition: None), iter(actions)
    agent.act = lambda obs, first: np.array([next(actions)], np.uint8)
    agent.start = lambda spec, rng, episodes: agent
    return agent


@pytest.mark.parametrize("env", [LAKE, CART_POLE, COOKIES], ids=repr)
def test_its_history_is_what_the_world_answers(env):
    """The actions of a lifetime, taken again at its address, give the same transitions. In the
    CookieWorld tolerance outlasts the episode in which a cookie is eaten.
    """
    near = {"home": (0, 0), "jar": (0, 2), "garden": (4, 4), "rho": 0.15, "stock": 1.0}
    how = {"tasks": env.task(**near) if env is COOKIES else env.tasks(), "episodes": 30}
    made = ad.collect(env, agent=PPO, **how)
    agent = repeat(made.arrays["action"][real(made)].tolist())
    assert same(made, ad.collect(env, agent=agent, driver="batched", **how))


def test_it_sees_what_a_model_sees_and_histories_keep_the_pose():
    env = ad.envs.Watermaze(view=(24, 32), horizon=16)
    world = RecordedEnv(env, env.tasks()[:1], ad.Rng.of(0, "env", np.zeros(1, int)), {}, 1)
    assert world.reset()[0].shape == (24, 32, 3)
    histories = collected(env, A2C, episodes=2, lifetimes=1)
    assert histories.obs.shape == (2, 32, 3) and histories.spec.view == (24, 32)
