"""Deep Q-learning: its targets by hand, its update against autograd, the contract, one-fault environments, and learning."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from probe_worlds import Line, OneFault

import adkit as ad
from adkit.envs import pixels
from adkit.sources import dqn, networks
from adkit.testing import check_agent

DQN = ad.sources.DQN
QUICK = DQN(width=16, batch=4)


def test_the_targets_are_pengs():
    reward, best = np.array([1, 2, 3, 4], np.float32), np.array([10, 20, 30, 40], np.float32)
    half, none = np.float32(0.5), np.float32(0)

    def targets(end, lam=half):
        g = np.zeros(4, np.float32)
        dqn._targets(reward, np.array(end, np.uint8), best, half, lam, g)
        return g.tolist()

    g3 = 4 + 0.5 * 40
    g2 = 3 + 0.5 * (0.5 * 30 + 0.5 * g3)
    g1 = 2 + 0.5 * (0.5 * 20 + 0.5 * g2)
    assert targets([0, 0, 0, 0]) == [1 + 0.5 * (0.5 * 10 + 0.5 * g1), g1, g2, g3]
    assert targets([0, dqn.TERMINATED, 0, 0]) == [1 + 0.5 * (5 + 1), 2, g2, g3]
    assert targets([0, dqn.TRUNCATED, 0, 0]) == [1 + 0.5 * (5 + 6), 12, g2, g3]
    assert targets([0, 0, 0, 0], none) == [6, 12, 18, 24]


@pytest.mark.parametrize("clip", [10.0, 0.01])
def test_an_update_is_the_one_that_autograd_makes(clip):
    """Six steps on real vectors, then Adam on 1/2 (G - Q)^2 averaged over them, the gradient cut to `clip`."""
    spec = ad.EnvSpec("x", n_actions=3, horizon=6, shape=(2,))
    agent = DQN(
        layers=2, width=5, lr=0.01, lam=0.5, batch=1, rollout=6, overlap=5, offline=0.0, clip=clip
    )
    learner = agent.start(spec, ad.Rng.of(0, "x", np.arange(1)), episodes=10)
    rng = np.random.default_rng(0)
    learner.weights[:] = rng.normal(size=learner.weights.shape)
    learner.target[:] = rng.normal(size=learner.weights.shape)
    before = learner.weights[0].copy()
    obs, reward = (
        rng.normal(size=(7, 1, 2)).astype(np.float32),
        rng.normal(size=6).astype(np.float32),
    )
    actions = rng.integers(0, 3, 6)
    for t in range(6):
        end = np.array([t == 2]), np.array([t == 5])
        learner.update(
            ad.Transition(obs[t], actions[t : t + 1], reward[t : t + 1], *end, obs[t + 1])
        )

    def network(flat, x):
        for i, o in ((2, 5), (5, 5), (5, 3)):
            weight, bias, flat = (
                flat[: i * o].view(i, o),
                flat[i * o : (i + 1) * o],
                flat[(i + 1) * o :],
            )
            x = x @ weight + bias
            x = x.relu() if o == 5 else x
        return x

    seen, leaf = torch.as_tensor(obs[:, 0]), torch.tensor(before, requires_grad=True)
    best = network(torch.as_tensor(learner.target[0]), seen[1:]).max(1).values.numpy()
    g, ends = np.zeros(6, np.float32), np.array([0, 0, 1, 0, 0, 2], np.uint8)
    dqn._targets(reward, ends, best, np.float32(0.9), np.float32(0.5), g)
    q = network(leaf, seen[:6])[torch.arange(6), torch.as_tensor(actions)]
    (0.5 * (torch.as_tensor(g) - q).square()).mean().backward()
    norm = torch.nn.utils.clip_grad_norm_([leaf], clip)
    assert (norm > clip) == (clip < 1)
    np.testing.assert_allclose(
        learner.m[0] / 0.1, leaf.grad, atol=1e-4 * float(leaf.grad.abs().max())
    )  # Adam's step has no size
    torch.optim.Adam([leaf], lr=0.01, eps=1e-6).step()
    np.testing.assert_allclose(learner.weights[0], leaf.detach(), atol=2e-5)


def test_the_target_network_is_renewed_when_it_should_be():
    env = ad.envs.DarkRoom(5, 8)
    learner = replace(QUICK, rollout=5, overlap=0, target_update=3).start(
        env.spec, ad.Rng.of(0, "x", np.arange(2)), episodes=10
    )
    no, was = np.zeros(2, bool), []
    for t in range(1, 41):
        obs = np.full((2, 2), t % 5)
        learner.update(ad.Transition(obs, np.array([0, 1]), np.ones(2, np.float32), no, no, obs))
        was.append(np.array_equal(learner.target, learner.weights))
    assert [t + 1 for t in range(1, 40) if was[t] and not was[t - 1]] == [15, 30]


@pytest.mark.parametrize(
    "env",
    [
        ad.envs.DarkRoom(4, 6, start="random"),
        Line(),
        ad.envs.from_gymnasium("FrozenLake-v1", horizon=9),
    ],
)
def test_it_keeps_the_contract_in_every_world_and_with_a_short_memory(env):
    check_agent(QUICK, env, episodes=5)
    check_agent(replace(QUICK, capacity=13, overlap=3), env, episodes=5)


CHANGED = dict(
    layers=1, width=8, lr=1e-3, gamma=0.5, lam=0.0, epsilon=0.5, batch=3, rollout=20, overlap=0, capacity=20, offline=0.0,
    target_update=2, clip=1e-4, pixels=(8, 8),
)  # fmt: skip


@pytest.mark.parametrize("field", CHANGED)
def test_every_field_changes_something(env, field):
    assert {f.name for f in fields(DQN)} == set(CHANGED)
    env = ad.envs.Watermaze(n_tasks=5) if field == "pixels" else env
    live = lambda agent: (
        ad.collect(env, env.tasks()[:5], agent, episodes=10 if field == "pixels" else 40).action
    )
    assert not np.array_equal(live(QUICK), live(replace(QUICK, **{field: CHANGED[field]})))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (dict(batch=0), "batch=0; give a whole number"), (dict(lr=float("nan")), "Try lr=3e-3"), (dict(gamma=1.0), "discount lies"),
        (dict(lam=2), r"lam=2; it lies in \[0, 1\]"), (dict(overlap=10), "rollouts of 10 steps overlap by 0 to 9"),
        (dict(capacity=5), "at least one rollout of 10 steps"), (dict(clip=0), "the longest gradient is positive"),
        (dict(pixels=(4, 4)), r"picture size \(4, 4\); give \(height, width\) from"),
    ],
)  # fmt: skip
def test_wrong_hyperparameters_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        DQN(**wrong)


def test_pixels_are_refused_with_what_would_work():
    with pytest.raises(
        ValueError, match="Maze shows 20736 numbers .* DQN reads at most 4096 .* such as the pose"
    ):
        DQN().start(
            ad.EnvSpec("Maze", n_actions=3, horizon=9, shape=(72, 96, 3)), ad.Rng.of(0), episodes=10
        )


def test_it_says_what_it_will_cost_if_that_is_long(capsys):
    spec = ad.envs.DarkRoom().spec
    QUICK.start(spec, ad.Rng.of(0, "x", np.arange(2)), episodes=10)
    assert not capsys.readouterr().out
    replace(DQN.paper(), capacity=40, width=128).start(
        spec, ad.Rng.of(0, "x", np.arange(2000)), episodes=10
    )
    assert "s per 1,000 steps of 2000 lifetimes" in capsys.readouterr().out


@pytest.mark.parametrize(
    "fault", ["reward = action", "reward = observation", "delayed", "across episodes"]
)
def test_it_solves_the_one_fault_environments_and_does_not_without_learning(fault):
    env = OneFault(fault)
    live = lambda agent: (
        ad.collect(env, env.tasks(), agent, episodes=150, lifetimes=16).returns[:, :, -50:].mean(2)
    )
    assert ad.stats.bootstrap(live(QUICK), draws=500).low > 0.9 * env.optimum
    assert ad.stats.bootstrap(live(replace(QUICK, lr=0.0)), draws=500).high < 0.8 * env.optimum


def test_it_learns_the_line_from_real_numbers():
    live = lambda agent: (
        ad.collect(Line(), Line().tasks(), agent, episodes=80, lifetimes=8)
        .returns[:, :, -20:]
        .mean(2)
    )
    assert (
        ad.stats.bootstrap(live(QUICK), draws=500).low
        > 5
        > 1.5
        > ad.stats.bootstrap(live(replace(QUICK, lr=0.0))).high
    )


def test_it_learns_the_dark_room():
    env = ad.envs.DarkRoom()
    tasks = env.tasks()[::9]
    live = lambda agent: ad.collect(env, tasks, agent, episodes=150, lifetimes=2).returns
    returns, optimum = live(DQN()), ad.optimal_returns(env, tasks)
    assert ad.stats.bootstrap(returns[:, :, -25:].mean(2) / optimum[:, None], draws=500).low > 0.75
    assert ad.stats.improvement(returns, share=0.1).low > 9
    assert abs(ad.stats.improvement(live(DQN(lr=0.0)), share=0.1).estimate) < 0.3


def test_it_learns_the_watermaze_from_the_pose_its_pictures_are_drawn_from():
    env = ad.envs.Watermaze(n_tasks=4)
    live = lambda agent: (
        ad.collect(env, env.tasks(), agent, episodes=100, lifetimes=4).returns[:, :, -40:].mean(2)
    )
    assert (
        ad.stats.bootstrap(live(DQN()), draws=500).low
        > 0.5
        > 0.35
        > ad.stats.bootstrap(live(DQN(lr=0.0)), draws=500).high
    )


def test_it_learns_the_watermaze_from_pictures():
    env = ad.envs.Watermaze(n_tasks=4)
    live = lambda agent: (
        ad.collect(env, env.tasks(), agent, episodes=60, lifetimes=2).returns[:, :, -20:].mean(2)
    )
    learned, not_so = (
        ad.stats.bootstrap(live(DQN(pixels=(12, 16), lr=lr)), draws=500) for lr in (1e-3, 0.0)
    )
    assert learned.low > 0.35 > 0.3 > not_so.high


def test_what_it_sees_is_the_picture_drawn_from_the_pose():
    spec, pose = ad.envs.Watermaze().spec, np.array([[0.1, 0.2, 3.0], [-0.5, 0.3, 1.0]], np.float32)
    learner = replace(QUICK, pixels=(8, 12)).start(
        spec, ad.Rng.of(0, "x", np.arange(2)), episodes=10
    )
    row, value = np.zeros((2, 288), np.int32), np.zeros((2, 288), np.float32)
    dqn._encode(pose, learner.offsets, learner.eyes, row, value)
    np.testing.assert_array_equal(value, pixels.render(pose, (8, 12), "float32").reshape(2, -1))
    np.testing.assert_array_equal(row, np.tile(np.arange(288), (2, 1)))
    assert learner.memory[0].shape[2] == 3, "poses are remembered, not pictures"


def test_pictures_need_poses():
    with pytest.raises(ValueError, match="DarkRoom has no poses to draw pictures from"):
        DQN(pixels=(24, 32)).start(ad.envs.DarkRoom().spec, ad.Rng.of(0), episodes=10)


def test_a_heading_is_read_as_a_direction():
    """A hair to the left and to the right of straight ahead are 2 pi apart as numbers, and must look alike."""
    obs = np.array([[0.1, 0.2, 1e-4], [0.1, 0.2, 2 * np.pi - 1e-4]], np.float32)
    a, b = networks.features(ad.envs.Watermaze().spec, obs)
    np.testing.assert_allclose(a, b, atol=1e-3)
    np.testing.assert_allclose(a, [0.1, 0.2, 1, 0], atol=1e-3)


def test_the_papers_hyperparameters_have_a_name_and_learn():
    """The Line for the Watermaze: at the paper's small step size 300 episodes teach something, and not everything."""
    paper = DQN.paper()
    assert (paper.lr, paper.gamma, paper.lam, paper.epsilon, paper.batch, paper.rollout, paper.overlap, paper.capacity) == (
        1e-4, 0.9, 0.75, 0.01, 8, 40, 31, 100_000,
    )  # fmt: skip
    assert (paper.offline, paper.target_update, paper.clip) == (0.7, 50, 10.0)
    returns = ad.collect(Line(), Line().tasks(), paper, episodes=300, lifetimes=4).returns
    assert ad.stats.improvement(returns, share=0.1).low > 0.5 and returns[:, :, -30:].mean() > 4
