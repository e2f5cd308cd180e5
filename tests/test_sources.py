"""Source learners: the update by hand, the contract, and each one solving its world and the one-fault environments."""

import numpy as np
import pytest
from helpers import same
from probe_worlds import OneFault

import adkit as ad
from adkit.testing import check_agent

AGENTS = [
    ad.sources.QLearning(exploration=0.3),
    ad.sources.QLearning(exploration=0.3, phases=3),
    ad.sources.PosteriorSampling(),
    ad.sources.SystematicExplorer(),
    ad.sources.Optimal(),
    ad.sources.Random(),
]
WORLDS = [
    ad.envs.DarkRoom(5, 8),
    ad.envs.DarkRoom(4, 6, reward="once", start="random"),
    ad.envs.DarkRoom(3, 6, permuted=True),
    ad.envs.DarkKeyToDoor(3, 12),
    ad.envs.from_gymnasium("FrozenLake-v1", horizon=30),
    ad.envs.from_gymnasium("Taxi-v4", horizon=30),
]


@pytest.mark.parametrize("agent", AGENTS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("env", WORLDS, ids=repr)
def test_every_agent_keeps_the_contract_in_every_world(agent, env):
    check_agent(agent, env)


@pytest.mark.parametrize("agent", [ad.sources.UCB(), ad.sources.ThompsonSampling()])
def test_bandit_players_keep_the_contract_and_refuse_a_room(agent):
    for env in (
        ad.envs.AdversarialBandit(n_tasks=6),
        ad.envs.AdversarialBandit(arms=3, horizon=4, n_tasks=2),
    ):
        check_agent(agent, env)
    for driver in ("compiled", "batched"):
        with pytest.raises(
            ValueError, match=f"{type(agent).__name__} .*DarkRoom has things to see; use QLearning"
        ):
            ad.collect(WORLDS[0], WORLDS[0].tasks()[:1], agent, episodes=1, driver=driver)


def test_the_posterior_sampler_sends_a_bandits_player_to_thompson():
    env = ad.envs.AdversarialBandit(n_tasks=3)
    with pytest.raises(ValueError, match=r"AdversarialBandit; ThompsonSampling\(\) is made for it"):
        ad.collect(env, env.tasks(), ad.sources.PosteriorSampling(), episodes=1)


def test_thompson_sampling_draws_from_the_beta_posterior():
    """With one arm at 3 of 4 and one at 5 of 10: the first is pulled as often as Beta(4, 2) exceeds Beta(6, 6)."""
    spec = ad.envs.AdversarialBandit(arms=2).spec
    learner = ad.sources.ThompsonSampling().start(
        spec, ad.Rng.of(0, "x", np.arange(20000)), episodes=10
    )
    learner.pulls[:], learner.paid[:] = (4, 10), (3, 5)
    share = (learner.act(np.zeros((20000, 1), int), np.ones(20000, bool)) == 0).mean()
    first, second = np.random.default_rng(0).beta([[4], [6]], [[2], [6]], (2, 400000))
    assert share == pytest.approx((first > second).mean(), abs=0.015)


def test_thompson_sampling_refuses_rewards_that_are_no_successes():
    learner = ad.sources.ThompsonSampling().start(
        ad.envs.AdversarialBandit().spec, ad.Rng.of(0, "x", np.arange(1)), episodes=10
    )
    o, no = np.zeros((1, 1), np.uint8), np.zeros(1, bool)
    with pytest.raises(ValueError, match="rewards go up to 2.5; use UCB"):
        learner.update(ad.Transition(o, np.array([1]), np.array([2.5], np.float32), no, ~no, o))


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


@pytest.mark.parametrize("agent", [ad.sources.UCB(bonus=0.3), ad.sources.ThompsonSampling()])
def test_bandit_players_learn_the_bandit(agent):
    env = ad.envs.AdversarialBandit(n_tasks=300)
    returns = ad.collect(env, env.tasks(), agent, episodes=1000, lifetimes=2).returns
    optimum = ad.optimal_returns(env, env.tasks()).mean()
    assert (
        returns[:, :, -100:].mean() > 0.95 * optimum
        and ad.stats.improvement(returns, share=0.02).low > 0.2
    )


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
    """Phase 0 learns from what phase 1 promises; phase 1 is left alone, and the next episode begins in phase 0."""
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


def test_with_phases_q_learning_opens_every_door_and_without_it_does_not():
    env = ad.envs.DarkKeyToDoor(size=5, horizon=24)
    late = lambda phases: ad.stats.bootstrap(
        ad.collect(
            env,
            env.tasks()[::7],
            ad.sources.QLearning(lr=1.0, epsilon=0.1, exploration=0.5, phases=phases),
            episodes=120,
            lifetimes=4,
        ).returns[:, :, -20:]
    )
    assert late(3).low > 1.95 and late(1).high < 1.6


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


def test_q_learning_solves_every_dark_room():
    env = ad.envs.DarkRoom()
    returns = ad.collect(
        env, env.tasks(), ad.sources.QLearning(), episodes=500, lifetimes=4
    ).returns
    optimum = ad.optimal_returns(env, env.tasks())
    np.testing.assert_allclose(returns[:, :, -10:].mean((1, 2)), optimum, atol=0.3)
    assert ad.stats.improvement(returns, share=0.02).low > 12


def test_posterior_sampling_finds_the_goal_and_then_walks_straight_to_it():
    env = ad.envs.DarkRoom()
    returns = ad.collect(
        env, env.tasks(), ad.sources.PosteriorSampling(noise=0.0), episodes=20, lifetimes=8
    ).returns
    optimum = ad.optimal_returns(env, env.tasks())[:, None, None]
    assert (returns[:, :, -3:] == optimum).all()
    assert 0.08 < (returns[:, :, 0] / optimum[:, :, 0]).mean() < 0.25


def test_the_systematic_explorer_solves_every_room_by_episode_six():
    env = ad.envs.DarkRoom()
    returns = ad.collect(
        env, env.tasks(), ad.sources.SystematicExplorer(), episodes=8, lifetimes=4
    ).returns
    assert (returns[:, :, 6:] == ad.optimal_returns(env, env.tasks())[:, None, None]).all()


def test_a_staged_posterior_finds_the_key_then_the_door_then_wanders():
    """Nothing is tried twice: in a room of 16 cells both are found within 16 visits each, then walked to in the fewest steps."""
    env = ad.envs.DarkKeyToDoor(size=4, horizon=20)
    tasks = env.tasks()
    life = ad.collect(env, tasks, ad.sources.PosteriorSampling(noise=0.0), episodes=12, lifetimes=2)
    assert (life.returns[:, :, -3:] == 2).all() and life.returns[:, :, 0].mean() < 1.8
    steps = lambda a, b: np.abs(a.astype(int) - b.astype(int)).sum(-1)
    key, door = (tasks[name][life.task] for name in ("key", "door"))
    least = np.maximum(steps(life.arrays["obs"][:, -1, 0], key), 1) + np.maximum(
        steps(key, door), 1
    )
    when = (life.arrays["reward"][:, -1].cumsum(1) == 2).argmax(1)
    assert (when + 1 == least).all()
    after = np.arange(20) > when[:, None]
    actions = np.bincount(life.arrays["action"][:, -1][after], minlength=5)
    assert actions.min() > 0.17 * actions.sum(), "with nothing left to gain it wanders"
    life = ad.collect(
        env, tasks[::9], ad.sources.PosteriorSampling(noise=0.0, rest=True), episodes=12
    )
    when = (life.arrays["reward"][:, -1].cumsum(1) == 2).argmax(1)
    assert (life.arrays["action"][:, -1][np.arange(20) > when[:, None]] == 0).all(), "or rests"


def test_greed_finds_sooner_and_forgetting_later():
    env = ad.envs.DarkRoom(size=9, reward="once")
    found = lambda **how: ad.collect(
        env, env.tasks(), ad.sources.PosteriorSampling(**how), episodes=8, lifetimes=16
    ).returns[:, :, 3:5]
    plain, greedy, forgetful = (
        ad.stats.bootstrap(found(**how)) for how in ({}, {"greed": 10.0}, {"forgetting": 0.9})
    )
    assert greedy.low > plain.high and forgetful.high < plain.low


def test_a_goal_out_of_reach_is_not_looked_for():
    """With one step an episode there are five cells to try, one an episode; no step is spent on the way to any other."""
    env = ad.envs.DarkRoom(size=7, horizon=1, reward="once")
    life = ad.collect(
        env, env.tasks(), ad.sources.PosteriorSampling(noise=0.0), episodes=5, lifetimes=8
    )
    distance = np.abs(env.tasks()["goal"] - 3).sum(1)
    assert (life.returns[distance <= 1][:, :, -1] == 1).all() and (
        life.returns[distance > 1] == 0
    ).all()


@pytest.mark.parametrize("env", WORLDS[:3], ids=repr)
def test_the_optimal_agent_earns_the_optimum_exactly(env):
    returns = ad.collect(
        env, env.tasks()[:30], ad.sources.Optimal(), episodes=30, lifetimes=8
    ).returns
    optimum = ad.optimal_returns(env, env.tasks()[:30])
    if env.start == "centre":
        assert (returns == optimum[:, None, None]).all()
    else:
        np.testing.assert_allclose(returns.mean((1, 2)), optimum, atol=0.1)


@pytest.mark.parametrize("fault", ["reward = action", "reward = observation", "delayed"])
def test_q_learning_solves_the_one_fault_environments(fault):
    env = OneFault(fault)
    agent = ad.sources.QLearning(initial_q=0.0, exploration=0.6)
    life = ad.collect(env, env.tasks(), agent, episodes=100, lifetimes=256)
    assert life.returns[:, :, -10:].mean() == pytest.approx(env.optimum, rel=0.02)
    control = ad.collect(env, env.tasks(), ad.sources.Random(), episodes=100, lifetimes=16)
    assert control.returns.mean() < 0.8 * env.optimum


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
