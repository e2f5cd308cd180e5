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
from adkit.sources.stable_baselines import RecordedEnv

SOURCES = {
    "PPO": ad.sources.StableBaselines3("PPO", n_steps=16, batch_size=8, n_epochs=2),
    "A2C": ad.sources.StableBaselines3("A2C"),
    "DQN": ad.sources.StableBaselines3("DQN", learning_starts=10, batch_size=8),
}
PPO = SOURCES["PPO"]


@pytest.fixture(scope="module")
def cart_pole():
    return ad.envs.from_gymnasium("CartPole-v1", horizon=60)


def live(env, agent=PPO, **how):
    return ad.collect(
        env, env.tasks()[:2], agent, **{"episodes": 4, "lifetimes": 2, "seed": 0} | how
    )


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_it_keeps_the_contract_in_every_kind_of_world(source, cart_pole):
    for env in (
        cart_pole,
        ad.envs.DarkRoom(size=3, horizon=5),
        ad.envs.from_gymnasium("FrozenLake-v1"),
    ):
        ad.testing.check_agent(source, env)


def test_a_lifetime_depends_on_its_address_alone(cart_pole):
    together = live(cart_pole)
    assert same(together[1:], live(cart_pole, lifetimes=3)[1:2]) and not same(
        together[:1], together[1:]
    )
    assert not same(together, live(cart_pole, seed=1))
    random.seed(), np.random.seed(), torch.manual_seed(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    assert same(together, live(cart_pole))
    torch.set_num_threads(threads)
    assert same(together.subsample(2), live(cart_pole, every=2))
    with ThreadPoolExecutor(2) as threads:
        assert same(together, live(cart_pole, executor=threads))


def test_other_processes_live_the_same_lifetimes():
    room = ad.envs.DarkRoom(size=3, horizon=5)
    with ProcessPoolExecutor(1, get_context("spawn")) as processes:
        assert same(live(room), live(room, executor=processes))


def test_it_leaves_the_process_as_it_was(cart_pole, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = (
        random.getstate(),
        np.random.get_state()[1].tobytes(),
        torch.get_rng_state(),
        torch.get_num_threads(),
    )
    live(cart_pole)
    after = (
        random.getstate(),
        np.random.get_state()[1].tobytes(),
        torch.get_rng_state(),
        torch.get_num_threads(),
    )
    assert before[:2] == after[:2] and torch.equal(before[2], after[2]) and before[3] == after[3]
    assert not list(tmp_path.iterdir()), (
        "Stable-Baselines3 logs to a new folder unless it is told not to"
    )


def test_its_history_is_what_the_world_answers():
    """Replaying the actions of a lifetime, at its address, gives the same transitions."""

    class Replay:
        def __init__(self, actions):
            self.actions = actions

        def start(self, spec, rng, episodes):
            return self

        def act(self, obs, first):
            return np.array([next(self.actions)], np.uint8)

        def update(self, transition):
            pass

    for env in (
        ad.envs.from_gymnasium("FrozenLake-v1"),
        ad.envs.from_gymnasium("CartPole-v1", horizon=60),
    ):
        lived = live(env, lifetimes=1)
        real = np.arange(env.spec.horizon) < lived.length[0][:, None]
        actions = iter(lived.arrays["action"][0][real].tolist())
        assert same(lived, live(env, Replay(actions), lifetimes=1, driver="batched"))


def test_it_sees_what_a_model_sees_and_histories_keep_the_pose():
    env = ad.envs.Watermaze(view=(24, 32), horizon=16)
    assert RecordedEnv(env, env.tasks()[:1], ad.Rng.of(0, "env", np.zeros(1, int)), {}, 1).reset()[
        0
    ].shape == (24, 32, 3)
    histories = live(env, ad.sources.StableBaselines3("A2C"), episodes=2, lifetimes=1)
    assert histories.obs.shape == (2, 32, 3) and histories.spec.view == (24, 32)


@pytest.mark.learning
def test_it_learns_and_its_histories_can_be_distilled(cart_pole):
    source = ad.sources.StableBaselines3(
        "PPO", n_steps=128, learning_rate=2e-3, gae_lambda=0.8, gamma=0.98
    )
    histories = live(cart_pole, source, episodes=60, lifetimes=2)
    returns = histories.episode_returns
    assert returns[:, -10:].mean() > 1.5 * returns[:, :10].mean()
    model = ad.CausalTransformer(cart_pole.spec, context=120, layers=1, width=16)
    log = ad.distill(model, histories, steps=3, batch=4)
    rollouts = live(cart_pole, ad.InContext(model), episodes=2)
    assert len(log) == 3 and rollouts.obs.shape == (2, 120, 4)


def test_it_says_what_it_is():
    assert repr(PPO) == "StableBaselines3('PPO', 'MlpPolicy', n_steps=16, batch_size=8, n_epochs=2)"
    assert (
        repr(ad.sources.StableBaselines3("DQN", "CnnPolicy"))
        == "StableBaselines3('DQN', 'CnnPolicy')"
    )
    assert ad.sources.StableBaselines3("PPO", n_steps=16, batch_size=8, n_epochs=2) == PPO


def test_what_outlasts_an_episode_outlasts_it_here_too():
    env = ad.envs.CookieWorld()
    near = env.task(home=(0, 0), jar=(0, 2), garden=(4, 4), rho=0.15)
    histories = ad.collect(
        env,
        near.replace(stock=np.array([1.0])),
        ad.sources.StableBaselines3("A2C"),
        episodes=30,
        seed=0,
    )
    ate = (histories.arrays["reward"] == 0.5).any(2)[0, :-1]
    mornings = histories.arrays["obs"][0, 1:, 0, TOLERANCE]
    assert ate.any() and (mornings[ate] > 0).any()
