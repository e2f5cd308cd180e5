"""The actor-critic's and DQN's gradients, steps and targets, against autograd and by hand."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

import adkit as ad
from adkit.envs import pixels
from adkit.sources import DQN, ActorCritic, actor_critic, dqn, networks

QUICK = DQN(width=16, batch=4)
SHAPE = 7, 3, 8, 4  # inputs, layers, width, outputs
AC_CHANGED = {"layers": 1, "width": 16, "lr": 1e-3, "gamma": 0.5, "lam": 0.5, "entropy": 0.3}
AC_CHANGED |= {"value_weight": 2.0, "unroll": 9}
DQN_CHANGED = {"layers": 1, "width": 8, "lr": 1e-3, "gamma": 0.5, "lam": 0.0, "epsilon": 0.5}
DQN_CHANGED |= {"batch": 3, "rollout": 20, "overlap": 0, "capacity": 20, "offline": 0.0}
DQN_CHANGED |= {"target_update": 2, "clip": 1e-4, "pixels": (8, 8)}


def a_network(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=networks.count(SHAPE), scale=0.5).astype(np.float32)


def in_torch(flat, rows, values):
    """The same network: outputs (B, 4) for sparse inputs (B, C), and its parameters as one leaf."""
    leaf = torch.tensor(flat, requires_grad=True)
    (inputs, layers, width, outputs), at = SHAPE, 0
    take = lambda i, o: (leaf[at : at + i * o].view(i, o), leaf[at + i * o : at + (i + 1) * o])
    x = torch.zeros(len(rows), inputs)
    for c in range(rows.shape[1]):
        x[torch.arange(len(rows)), torch.as_tensor(rows[:, c]).long()] += torch.as_tensor(
            values[:, c]
        )
    for i, o in ((inputs, width), *[(width, width)] * (layers - 1), (width, outputs)):
        weight, bias = take(i, o)
        x, at = x @ weight + bias, at + (i + 1) * o
        x = x.relu() if o == width else x
    return x, leaf


def test_the_gradient_is_autograds():
    rng = np.random.default_rng(1)
    rows = np.stack([rng.integers(0, 3, 10), rng.integers(3, 7, 10)], 1).astype(np.int32)
    values = rng.normal(size=rows.shape).astype(np.float32)
    flat, h, y = a_network(), np.zeros((10, 3, 8), np.float32), np.zeros((10, 4), np.float32)
    for b in range(10):
        networks.forward(*networks.parts(flat, SHAPE), rows[b], values[b], h[b], y[b])
    action, reward = rng.integers(0, 3, 10).astype(np.uint8), rng.normal(size=10).astype(np.float32)
    end, after = (
        np.array([0, 0, 0, 1, 0, 2, 0, 0, 0, 0], np.uint8),
        rng.normal(size=10).astype(np.float32),
    )
    hyper = 0.0, *map(np.float32, (0.9, 0.8, 0.05, 0.5))
    dy, gradient = np.zeros_like(y), np.zeros_like(flat)
    unroll = actor_critic.Unroll(rows, values, h, y, action, reward, end, after)
    actor_critic._slopes(unroll, hyper, dy)
    networks.backward(flat, SHAPE, rows, values, h, dy, gradient)

    theirs, leaf = in_torch(flat, rows, values)
    np.testing.assert_allclose(y, theirs.detach(), atol=1e-5)
    value = theirs[:, 3].detach().numpy()
    advantage, later = np.zeros(10), 0.0
    for t in reversed(range(10)):
        following = {0: after[t] if t == 9 else value[min(t + 1, 9)], 1: 0.0, 2: after[t]}[
            int(end[t])
        ]
        later = reward[t] + 0.9 * following - value[t] + (0.9 * 0.8 * later if end[t] == 0 else 0.0)
        advantage[t] = later
    log_p = theirs[:, :3].log_softmax(-1)
    advantage = torch.tensor(advantage, dtype=torch.float32)
    policy = -(advantage * log_p[torch.arange(10), torch.as_tensor(action).long()]).mean()
    entropy = -(log_p.exp() * log_p).sum(-1).mean()
    error = (advantage + torch.as_tensor(value) - theirs[:, 3]).square().mean()
    (policy - 0.05 * entropy + 0.5 * error).backward()
    np.testing.assert_allclose(gradient, leaf.grad, atol=1e-5)


def test_adam_is_torchs():
    rng = np.random.default_rng(0)
    flat = a_network()
    m, v, leaf = (
        np.zeros_like(flat),
        np.zeros_like(flat),
        torch.tensor(flat.copy(), requires_grad=True),
    )
    optimizer = torch.optim.Adam([leaf], lr=1e-2, betas=(0.9, 0.999), eps=1e-6)
    for step in range(1, 6):
        gradient = rng.normal(size=len(flat)).astype(np.float32)
        networks.adam(flat, gradient, m, v, 1e-2, step, 3.0)
        leaf.grad = torch.tensor(gradient)
        assert torch.nn.utils.clip_grad_norm_([leaf], 3.0) > 3
        optimizer.step()
    np.testing.assert_allclose(flat, leaf.detach(), atol=1e-6)


def test_a_new_network_is_indifferent_and_unlike_its_neighbour():
    learner = ActorCritic().start(
        ad.envs.DarkRoom().spec, ad.Rng.of(0, "x", np.arange(200)), episodes=10
    )
    _, _, head = networks.parts(learner.weights[0], learner.shape)
    assert (head == 0).all() and abs(np.corrcoef(learner.weights[:2, : 18 * 32])[0, 1]) < 0.2
    embed = learner.weights[:, : 18 * 32]
    assert abs(embed.mean()) < 0.01 and embed.var() == pytest.approx(2 / 2, rel=0.02)


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
    """Six steps on real vectors, then Adam on 1/2 (G - Q)^2 averaged over them, the gradient cut to
    `clip`.
    """
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


def test_what_it_sees_is_the_picture_drawn_from_the_pose():
    spec, pose = ad.envs.Watermaze().spec, np.array([[0.1, 0.2, 3.0], [-0.5, 0.3, 1.0]], np.float32)
    learner = replace(QUICK, pixels=(8, 12)).start(
        spec, ad.Rng.of(0, "x", np.arange(2)), episodes=10
    )
    row, value = np.zeros((2, 288), np.int32), np.zeros((2, 288), np.float32)
    dqn._encode(pose, learner.reader, row, value)
    np.testing.assert_array_equal(value, pixels.render(pose, (8, 12), "float32").reshape(2, -1))
    np.testing.assert_array_equal(row, np.tile(np.arange(288), (2, 1)))
    assert learner.memory.obs.shape[2] == 3, "poses are remembered, not pictures"


def test_a_heading_is_read_as_a_direction():
    """A hair to the left and to the right of straight ahead are 2 pi apart as numbers, and must
    look alike.
    """
    obs = np.array([[0.1, 0.2, 1e-4], [0.1, 0.2, 2 * np.pi - 1e-4]], np.float32)
    a, b = networks.features(ad.envs.Watermaze().spec, obs)
    np.testing.assert_allclose(a, b, atol=1e-3)
    np.testing.assert_allclose(a, [0.1, 0.2, 1, 0], atol=1e-3)


@pytest.mark.parametrize(
    ("agent", "field", "value"),
    [(ActorCritic(), *item) for item in AC_CHANGED.items()]
    + [(QUICK, *item) for item in DQN_CHANGED.items()],
)
def test_every_setting_changes_something(env, agent, field, value):
    every = AC_CHANGED if isinstance(agent, ActorCritic) else DQN_CHANGED
    assert {f.name for f in fields(agent)} == set(every)
    env, episodes = (ad.envs.Watermaze(n_tasks=5), 10) if field == "pixels" else (env, 40)
    run = lambda one: ad.collect(env, env.tasks()[:5], one, episodes=episodes).action
    assert not np.array_equal(run(agent), run(replace(agent, **{field: value})))
