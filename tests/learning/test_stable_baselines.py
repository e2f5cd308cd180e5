"""Stable-Baselines3's algorithms as sources: lifetimes depend on their address alone."""

import random
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from helpers import same

import adkit as ad
from adkit.cookieworld.world import TOLERANCE
from adkit.sources import StableBaselines3
from adkit.sources.stable_baselines import RecordedEnv

SOURCES = {
    "PPO": StableBaselines3("PPO", n_steps=16, batch_size=8, n_epochs=2),
    "A2C": StableBaselines3("A2C"),
    "DQN": StableBaselines3("DQN", learning_starts=10, batch_size=8),
}
CART_POLE = ad.envs.from_gymnasium("CartPole-v1", horizon=60)
LAKE = ad.envs.from_gymnasium("FrozenLake-v1")
ROOM = ad.envs.DarkRoom(size=3, horizon=5)


def collected(env, agent=SOURCES["PPO"], **how):
    how = {"episodes": 4, "lifetimes": 2, "seed": 0} | how
    return ad.collect(env, env.tasks()[:2], agent, **how)


def state_of_the_process():
    arrays = np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()
    return random.getstate(), *arrays, torch.get_num_threads()


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("env", [CART_POLE, ROOM, LAKE], ids=repr)
def test_it_keeps_the_contract_in_every_kind_of_world(source, env):
    ad.testing.check_agent(source, env)


def test_a_lifetime_depends_on_its_address_alone():
    together = collected(CART_POLE)
    assert same(together[1:], collected(CART_POLE, lifetimes=3)[1:2])
    assert not same(together[:1], together[1:])
    assert not same(together, collected(CART_POLE, seed=1))
    random.seed(), np.random.seed(), torch.manual_seed(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    assert same(together, collected(CART_POLE))
    torch.set_num_threads(threads)
    assert same(together.subsample(2), collected(CART_POLE, every=2))
    with ThreadPoolExecutor(2) as pool:
        assert same(together, collected(CART_POLE, executor=pool))
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert same(collected(ROOM), collected(ROOM, executor=pool))


def test_it_leaves_the_process_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = state_of_the_process()
    collected(CART_POLE)
    assert state_of_the_process() == before
    assert not list(tmp_path.iterdir()), "Stable-Baselines3 logs to a new folder unless told not to"


class Repeat:
    """An agent, and its own learner, that takes given actions."""

    def __init__(self, actions):
        self.actions = iter(actions)

    def start(self, spec, rng, episodes):
        return self

    def act(self, obs, first):
        return np.array([next(self.actions)], np.uint8)

    def update(self, transition):
        pass


@pytest.mark.parametrize("env", [LAKE, CART_POLE], ids=repr)
def test_its_history_is_what_the_world_answers(env):
    """The actions of a lifetime, taken again at its address, give the same transitions."""
    made = collected(env, lifetimes=1)
    real = np.arange(env.spec.horizon) < made.length[0][:, None]
    agent = Repeat(made.arrays["action"][0][real].tolist())
    assert same(made, collected(env, agent, lifetimes=1, driver="batched"))


def test_it_sees_what_a_model_sees_and_histories_keep_the_pose():
    env = ad.envs.Watermaze(view=(24, 32), horizon=16)
    world = RecordedEnv(env, env.tasks()[:1], ad.Rng.of(0, "env", np.zeros(1, int)), {}, 1)
    assert world.reset()[0].shape == (24, 32, 3)
    histories = collected(env, SOURCES["A2C"], episodes=2, lifetimes=1)
    assert histories.obs.shape == (2, 32, 3) and histories.spec.view == (24, 32)


def test_it_learns_and_its_histories_can_be_distilled():
    how = {"n_steps": 128, "learning_rate": 2e-3, "gae_lambda": 0.8, "gamma": 0.98}
    histories = collected(CART_POLE, StableBaselines3("PPO", **how), episodes=60)
    returns = histories.episode_returns
    assert returns[:, -10:].mean() > 1.5 * returns[:, :10].mean()
    model = ad.CausalTransformer(CART_POLE.spec, context=120, layers=1, width=16)
    log = ad.distill(model, histories, steps=3, batch=4)
    rollouts = collected(CART_POLE, ad.InContext(model), episodes=2)
    assert len(log) == 3 and rollouts.obs.shape == (2, 120, 4)


def test_it_says_what_it_is_and_the_library_what_it_does_not_know():
    source = SOURCES["PPO"]
    assert repr(source).endswith("('PPO', 'MlpPolicy', n_steps=16, batch_size=8, n_epochs=2)")
    assert StableBaselines3("PPO", n_steps=16, batch_size=8, n_epochs=2) == source
    with pytest.raises(TypeError, match="unexpected keyword argument 'n_step'"):
        collected(ROOM, StableBaselines3("PPO", n_step=16))


def test_what_outlasts_an_episode_outlasts_it_here_too():
    env = ad.envs.CookieWorld()
    near = env.task(home=(0, 0), jar=(0, 2), garden=(4, 4), rho=0.15, stock=1.0)
    histories = ad.collect(env, near, SOURCES["A2C"], episodes=30)
    ate = (histories.arrays["reward"] == 0.5).any(2)[0, :-1]
    mornings = histories.arrays["obs"][0, 1:, 0, TOLERANCE]
    assert ate.any() and (mornings[ate] > 0).any()
