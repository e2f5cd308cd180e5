"""What source learners say to a person who made a mistake."""

import numpy as np
import pytest

import adkit as ad
from adkit import sources

ROOM = ad.envs.DarkRoom(5, 8)
BANDIT = ad.envs.AdversarialBandit(n_tasks=3)


def collect(env, agent, **how):
    return ad.collect(env, env.tasks()[:1], agent, episodes=1, **how)


def reward(value: float):
    learner = sources.ThompsonSampling().start(BANDIT.spec, ad.Rng.of(0, "x", np.arange(1)), 10)
    o, no = np.zeros((1, 1), np.uint8), np.zeros(1, bool)
    learner.update(ad.Transition(o, np.array([1]), np.array([value], np.float32), no, ~no, o))


PIXELS = ad.EnvSpec("Maze", n_actions=3, horizon=9, shape=(72, 96, 3))
SB3 = sources.StableBaselines3
SAID = {
    "one value per action, but DarkRoom has observations; try QLearning()": (
        lambda: collect(ROOM, sources.UCB()),
        lambda: collect(ROOM, sources.ThompsonSampling(), driver="batched"),
    ),
    "no single reward refutes a task of AdversarialBandit; try ThompsonSampling()": (
        lambda: collect(BANDIT, sources.PosteriorSampling()),
    ),
    "needs rewards of 0 or 1, got up to 2.5; try UCB()": (lambda: reward(2.5),),
    "PoseQLearning needs poses, DarkRoom has none; try QLearning()": (
        lambda: collect(ROOM, sources.PoseQLearning()),
    ),
    "`layers` must be a whole number of at least 1, got 0": (
        lambda: sources.ActorCritic(layers=0),
        lambda: sources.DQN(layers=0),
    ),
    "`lr` must be in [0, 1], got -1; try lr=0.5": (
        lambda: sources.QLearning(lr=-1),
        lambda: sources.ActorCritic(lr=-1),
    ),
    "`gamma`, the discount, must be in [0, 1), got 1.0": (
        lambda: sources.QLearning(gamma=1.0),
        lambda: sources.DQN(gamma=1.0),
    ),
    "`lam` must be in [0, 1], got 2": (
        lambda: sources.ActorCritic(lam=2),
        lambda: sources.DQN(lam=2),
    ),
    "`exploration` must be in [0, 1], got 250": (lambda: sources.QLearning(exploration=250),),
    "`overlap` < `rollout` <= `capacity` must hold, got 10, 10": (lambda: sources.DQN(overlap=10),),
    "reads at most 4096 numbers, Maze has 20736; give it coordinates, such as the pose": (
        lambda: sources.ActorCritic().start(PIXELS, ad.Rng.of(0), 10),
        lambda: sources.DQN().start(PIXELS, ad.Rng.of(0), 10),
    ),
    "must be one of A2C, DQN, PPO, which act in discrete spaces, got 'SAC'": (lambda: SB3("SAC"),),
    "give `seed` to ad.collect, not to StableBaselines3": (lambda: SB3("PPO", seed=3),),
    "runs its own loop and has no learners; try driver=": (
        lambda: collect(ROOM, SB3("PPO"), driver="batched"),
    ),
}
CALLS = [(call, says) for says, calls in SAID.items() for call in calls]


@pytest.mark.parametrize(("call", "says"), CALLS, ids=[says[:40] for _, says in CALLS])
def test_it_says(call, says):
    with pytest.raises(ValueError) as raised:
        call()
    assert says in str(raised.value)
