"""What source learners say to a person who made a mistake."""

import numpy as np
import pytest
from helpers import started

import adkit as ad
from adkit import sources

ROOM = ad.envs.DarkRoom(5, 8)
BANDIT = ad.envs.AdversarialBandit(n_tasks=3)
PIXELS = ad.EnvSpec("Maze", n_actions=3, horizon=9, shape=(72, 96, 3))


def collect(env, agent, **how):
    return ad.collect(env, env.tasks()[:1], agent, episodes=1, **how)


def reward(value: float):
    learner = started(sources.ThompsonSampling(), BANDIT.spec, 1)
    obs, no = np.zeros((1, 1), np.uint8), np.zeros(1, bool)
    step = np.array([1]), np.array([value], np.float32), no, ~no
    learner.update(ad.Transition(obs, *step, obs))


SB3 = sources.StableBaselines3
MISTAKES = [
    (lambda: collect(ROOM, sources.UCB()), "one value per action, but DarkRoom has observations"),
    (lambda: collect(BANDIT, sources.PosteriorSampling()), "try ThompsonSampling()"),
    (lambda: reward(2.5), "needs rewards of 0 or 1, got up to 2.5; try UCB()"),
    (
        lambda: collect(ROOM, sources.PoseQLearning()),
        "PoseQLearning needs poses, DarkRoom has none",
    ),
    (lambda: collect(ROOM, sources.GoalSearch()), "knows the Watermaze only, got DarkRoom"),
    (lambda: sources.GoalSearch(cells=8), "`cells` must be 24 to 256, got 8; try 48"),
    (lambda: sources.DQN(layers=0), "`layers` must be a whole number of at least 1, got 0"),
    (lambda: sources.QLearning(lr=-1), "`lr` must be in [0, 1], got -1; try lr=0.5"),
    (lambda: sources.DQN(gamma=1.0), "`gamma`, the discount, must be in [0, 1), got 1.0"),
    (lambda: sources.ActorCritic(lam=2), "`lam` must be in [0, 1], got 2"),
    (lambda: sources.QLearning(exploration=250), "`exploration` must be in [0, 1], got 250"),
    (lambda: sources.DQN(overlap=10), "`overlap` < `rollout` <= `capacity` must hold, got 10, 10"),
    (lambda: started(sources.DQN(), PIXELS, 1), "reads at most 4096 numbers, Maze has 20736; give"),
    (lambda: SB3("SAC"), "must be one of A2C, DQN, PPO, which act in discrete spaces, got 'SAC'"),
    (lambda: SB3("PPO", seed=3), "give `seed` to ad.collect, not to StableBaselines3"),
    (lambda: collect(ROOM, SB3("PPO"), driver="batched"), "runs its own loop and has no learners"),
]


@pytest.mark.parametrize(("call", "sentence"), MISTAKES)
def test_a_mistake_is_answered_with_a_sentence(call, sentence):
    with pytest.raises(ValueError) as raised:
        call()
    assert sentence in str(raised.value)
