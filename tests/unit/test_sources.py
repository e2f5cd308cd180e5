"""Source learners: updates and choices against their formulas, written out by hand."""

import numpy as np
import pytest
from helpers import same

import adkit as ad


def test_thompson_sampling_draws_from_the_beta_posterior():
    """With one arm at 3 of 4 and one at 5 of 10: the first is pulled as often as Beta(4, 2) exceeds
    Beta(6, 6).
    """
    spec = ad.envs.AdversarialBandit(arms=2).spec
    learner = ad.sources.ThompsonSampling().start(
        spec, ad.Rng.of(0, "x", np.arange(20000)), episodes=10
    )
    learner.pulls[:], learner.total[:] = (4, 10), (3, 5)
    share = (learner.act(np.zeros((20000, 1), int), np.ones(20000, bool)) == 0).mean()
    first, second = np.random.default_rng(0).beta([[4], [6]], [[2], [6]], (2, 400000))
    assert share == pytest.approx((first > second).mean(), abs=0.015)


def test_ucb_pulls_every_arm_once_and_then_the_highest_bound():
    env = ad.envs.AdversarialBandit(arms=4, n_tasks=3)
    life = ad.collect(env, env.tasks(), ad.sources.UCB(), episodes=60, lifetimes=5)
    for n in range(len(life)):
        pulls, paid = np.zeros((2, 4))
        assert sorted(life.action[n, :4]) == [0, 1, 2, 3]
        for t, (a, r) in enumerate(zip(life.action[n], life.reward[n], strict=True)):
            if t >= 4:
                bounds = paid / pulls + np.sqrt(2 * np.log(t) / pulls)
                assert bounds[a] == pytest.approx(bounds.max())
            pulls[a] += 1
            paid[a] += r


def test_the_q_update_is_the_textbooks():
    """r + gamma max q - q, with a terminal that does not bootstrap and a time limit that does."""
    spec = ad.EnvSpec("x", n_actions=2, horizon=5, cardinality=(3,))
    agent = ad.sources.QLearning(lr=0.5, gamma=0.9, initial_q=0.0)
    learner = agent.start(spec, ad.Rng.of(0, "x", np.arange(3)), episodes=10)
    learner.q[:, 0, 1] = [2.0, 4.0]
    column = lambda *values: np.array(values)[:, None]
    learner.update(
        ad.Transition(
            column(0, 0, 0), np.array([1, 1, 1]), np.array([1, 1, 1], np.float32),
            np.array([False, True, False]), np.array([False, False, True]), column(1, 1, 1),
        )
    )  # fmt: skip
    assert learner.q[:, 0, 0, 1].tolist() == pytest.approx(
        [0.5 * (1 + 0.9 * 4), 0.5, 0.5 * (1 + 0.9 * 4)]
    )
    assert (learner.q[:, 0, 0, 0] == 0).all()


def test_values_after_a_reward_are_other_values():
    """Phase 0 learns from what phase 1 promises; phase 1 is left alone, and the next episode begins
    in phase 0.
    """
    spec = ad.EnvSpec("x", n_actions=2, horizon=5, cardinality=(3,))
    learner = ad.sources.QLearning(lr=0.5, gamma=0.9, initial_q=0.0, phases=2).start(
        spec, ad.Rng.of(0, "x", np.arange(1)), episodes=10
    )
    learner.q[0, 1, 2] = [2.0, 4.0]
    go = lambda o, a, r, to: learner.update(
        ad.Transition(
            np.array([[o]]),
            np.array([a]),
            np.array([r], np.float32),
            np.array([False]),
            np.array([False]),
            np.array([[to]]),
        )
    )
    go(0, 1, 1.0, 2)
    assert learner.q[0, 0, 0, 1] == pytest.approx(0.5 * (1 + 0.9 * 4)) and learner.phase[0] == 1
    go(2, 1, 1.0, 0)
    assert (
        learner.q[0, 1, 2, 1] == pytest.approx(4 + 0.5 * (1 - 4))
        and learner.phase[0] == 1
        and (learner.q[0, 0, 2] == 0).all()
    )
    learner.act(np.array([[0]]), np.array([True]))
    assert learner.phase[0] == 0


def test_greedy_ties_are_broken_at_random():
    spec = ad.EnvSpec("x", n_actions=4, horizon=5, cardinality=(3,))
    learner = ad.sources.QLearning(epsilon=0.0).start(
        spec, ad.Rng.of(0, "x", np.arange(4000)), episodes=10
    )
    actions = learner.act(np.zeros((4000, 1), int), np.ones(4000, bool))
    assert np.bincount(actions, minlength=4).min() > 850


def test_epsilon_falls_linearly_to_zero():
    env = ad.envs.DarkRoom(5, 8)
    agent = ad.sources.QLearning(initial_q=0.0, epsilon=1.0, exploration=0.25)
    life = ad.collect(env, env.task(goal=(2, 2)), agent, episodes=40, lifetimes=200)
    late = life.returns[0, :, 12:]
    early = life.returns[0, :, :3]
    assert (late == late[:, :1]).all(), (
        "once epsilon is 0 every learner walks the same way every time"
    )
    assert (early != early[:, :1]).any() and late.mean() > 1.5 * early.mean()


def test_a_goal_out_of_reach_is_not_looked_for():
    """With one step an episode there are five cells to try, one an episode; no step is spent on the
    way to any other.
    """
    env = ad.envs.DarkRoom(size=7, horizon=1, reward="once")
    life = ad.collect(
        env, env.tasks(), ad.sources.PosteriorSampling(noise=0.0), episodes=5, lifetimes=8
    )
    distance = np.abs(env.tasks()["goal"] - 3).sum(1)
    assert (life.returns[distance <= 1][:, :, -1] == 1).all() and (
        life.returns[distance > 1] == 0
    ).all()


def test_a_crashed_shard_can_be_run_again_alone(env):
    whole = ad.collect(env, env.tasks(), ad.sources.QLearning(), episodes=6, lifetimes=2, seed=9)
    assert same(
        whole[30:32],
        ad.collect(
            env, env.tasks()[15:16], ad.sources.QLearning(), episodes=6, lifetimes=2, seed=9
        ),
    )


@pytest.mark.parametrize("every", [2, 5])
def test_keeping_every_kth_episode_is_subsampling(env, every):
    live = lambda **how: ad.collect(
        env, env.tasks()[:4], ad.sources.QLearning(), episodes=11, seed=1, **how
    )
    kept, whole = live(every=every), live().subsample(every)
    assert same(kept, whole) and (kept.episode == whole.episode).all()
    assert same(kept, live(every=every, driver="batched"))
