"""Source learners: updates and choices against their formulas, written out by hand."""

import numpy as np
import pytest
from helpers import started

import adkit as ad
from adkit import sources

ROOM = ad.envs.DarkRoom(5, 8)
THREE_STATES = ad.EnvSpec("x", n_actions=4, horizon=5, cardinality=(3,))


def transition(obs, action, reward, terminated, truncated, next_obs):
    column = lambda values: np.array(values)[:, None]
    ends = np.array(terminated, bool), np.array(truncated, bool)
    taken = np.array(action), np.array(reward, np.float32)
    return ad.Transition(column(obs), *taken, *ends, column(next_obs))


def test_thompson_sampling_draws_from_the_beta_posterior():
    """After 3 of 4 and 5 of 10: the first arm is pulled as often as Beta(4, 2) > Beta(6, 6)."""
    learner = started(sources.ThompsonSampling(), ad.envs.AdversarialBandit(2).spec, 20000)
    learner.pulls[:], learner.total[:] = (4, 10), (3, 5)
    share = (learner.act(np.zeros((20000, 1), int), np.ones(20000, bool)) == 0).mean()
    first, second = np.random.default_rng(0).beta([[4], [6]], [[2], [6]], (2, 400000))
    assert share == pytest.approx((first > second).mean(), abs=0.015)


def test_ucb_pulls_every_arm_once_and_then_the_highest_bound():
    env = ad.envs.AdversarialBandit(arms=4, n_tasks=3)
    made = ad.collect(env, env.tasks(), sources.UCB(), episodes=60, lifetimes=5)
    assert (np.sort(made.action[:, :4]) == np.arange(4)).all()
    pulled = np.eye(4)[made.action]  # (N, T, arms)
    pulls, total = pulled.cumsum(1), (pulled * made.reward[..., None]).cumsum(1)
    before, log = np.s_[:, 3:-1], np.log(np.arange(4, 60))[:, None]
    bounds = total[before] / pulls[before] + np.sqrt(2 * log / pulls[before])
    chosen = np.take_along_axis(bounds, made.action[:, 4:, None], 2)[..., 0]
    np.testing.assert_allclose(chosen, bounds.max(2))


def test_the_q_update_is_the_textbooks():
    """r + gamma max q - q, with a terminal that does not bootstrap and a time limit that does."""
    learner = started(sources.QLearning(lr=0.5, gamma=0.9, initial_q=0.0), THREE_STATES, 3)
    learner.q[:, 0, 1, :2] = [2.0, 4.0]
    learner.update(transition([0] * 3, [1] * 3, [1] * 3, [0, 1, 0], [0, 0, 1], [1] * 3))
    bootstrapped = 0.5 * (1 + 0.9 * 4)
    assert learner.q[:, 0, 0, 1].tolist() == pytest.approx([bootstrapped, 0.5, bootstrapped])
    assert (learner.q[:, 0, 0, 0] == 0).all()


def test_epsilon_falls_linearly_to_zero():
    agent = sources.QLearning(epsilon=1.0, exploration=0.4)
    learner = started(agent, THREE_STATES, 1)  # for ten episodes
    assert learner.epsilon.tolist() == [1, 0.75, 0.5, 0.25, 0, 0, 0, 0, 0, 0]


def test_a_goal_out_of_reach_is_not_looked_for():
    """In episodes of one step, five cells can be reached: five episodes are enough to try them."""
    env = ad.envs.DarkRoom(size=7, horizon=1, reward="once")
    agent = sources.PosteriorSampling(noise=0.0)
    returns = ad.collect(env, env.tasks(), agent, episodes=5, lifetimes=8).returns
    near = np.abs(env.tasks()["goal"] - 3).sum(1) <= 1
    assert (returns[near][:, :, -1] == 1).all() and (returns[~near] == 0).all()
