"""The actor-critic's and DQN's gradients, steps and targets, against autograd and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import started

import adkit as ad
from adkit.sources import DQN, ActorCritic, actor_critic, dqn, networks

QUICK = DQN(width=16, batch=4)
SHAPE = 7, 3, 8, 4  # inputs, layers, width, outputs
SHORT = ad.EnvSpec("x", n_actions=3, horizon=6, shape=(2,))


def float32(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def in_torch(flat, shape, x):
    """Return the same network's outputs for inputs (B, inputs); `flat` holds its parameters."""
    embed, hidden, head = networks.parts.py_func(flat, shape)
    for layer in (embed, *hidden):
        x = (x @ layer[:-1] + layer[-1]).relu()
    return x @ head[:-1] + head[-1]


def test_the_gradient_is_autograds():
    rng = np.random.default_rng(1)
    rows = np.stack([rng.integers(0, 3, 10), rng.integers(3, 7, 10)], 1).astype(np.int32)
    values, flat = float32(rng, 10, 2), float32(rng, 244) / 2
    h, y = np.zeros((10, 3, 8), np.float32), np.zeros((10, 4), np.float32)
    for b in range(10):
        networks.forward(networks.parts(flat, SHAPE), rows[b], values[b], h[b], y[b])
    action, reward = rng.integers(0, 3, 10).astype(np.uint8), float32(rng, 10)
    end, after = np.array([0, 0, 0, 1, 0, 2, 0, 0, 0, 0], np.uint8), float32(rng, 10)
    hyper = 0.0, *map(np.float32, (0.9, 0.8, 0.05, 0.5))
    dy, gradient = np.zeros_like(y), np.zeros_like(flat)
    unroll = actor_critic.Unroll(rows, values, h, y, action, reward, end, after)
    actor_critic._slopes(unroll, hyper, dy)
    networks.backward(flat, SHAPE, rows, values, h, dy, gradient)

    dense = torch.zeros(10, 7).scatter(1, torch.as_tensor(rows).long(), torch.as_tensor(values))
    leaf = torch.tensor(flat, requires_grad=True)
    theirs = in_torch(leaf, SHAPE, dense)
    np.testing.assert_allclose(y, theirs.detach(), atol=1e-5)
    value = theirs[:, 3].detach().numpy()
    advantage = np.zeros(10, np.float32)
    for t in reversed(range(10)):
        goes_on = end[t] == 0 and t < 9
        following = value[t + 1] if goes_on else after[t] * (end[t] != networks.TERMINATED)
        advantage[t] = reward[t] + 0.9 * following - value[t]
        if goes_on:
            advantage[t] += 0.9 * 0.8 * advantage[t + 1]
    advantage, log_p = torch.as_tensor(advantage), theirs[:, :3].log_softmax(-1)
    policy = -(advantage * log_p[torch.arange(10), torch.as_tensor(action).long()]).mean()
    entropy = -(log_p.exp() * log_p).sum(-1).mean()
    error = (advantage + torch.as_tensor(value) - theirs[:, 3]).square().mean()
    (policy - 0.05 * entropy + 0.5 * error).backward()
    np.testing.assert_allclose(gradient, leaf.grad, atol=1e-5)


def test_adam_is_torchs():
    rng = np.random.default_rng(0)
    flat = float32(rng, 300)
    m, v, leaf = 0 * flat, 0 * flat, torch.tensor(flat, requires_grad=True)
    optimizer = torch.optim.Adam([leaf], lr=1e-2, betas=(0.9, 0.999), eps=1e-6)
    for step in range(1, 6):
        gradient = float32(rng, 300)
        networks.adam(flat, gradient, m, v, 1e-2, step, 3.0)
        leaf.grad = torch.tensor(gradient)
        assert torch.nn.utils.clip_grad_norm_([leaf], 3.0) > 3
        optimizer.step()
    np.testing.assert_allclose(flat, leaf.detach(), atol=1e-6)


def test_a_new_network_is_indifferent_and_unlike_its_neighbour():
    learner = started(ActorCritic(), ad.envs.DarkRoom().spec, 200)
    _, _, head = networks.parts(learner.weights[0], learner.shape)
    embed = learner.weights[:, : 18 * 32]
    assert (head == 0).all() and abs(np.corrcoef(embed[:2])[0, 1]) < 0.2
    assert abs(embed.mean()) < 0.01 and embed.var() == pytest.approx(2 / 2, rel=0.02)


def test_a_step_that_is_cut_off_is_bootstrapped_from_the_value_of_what_came_next():
    learner = started(ActorCritic(unroll=5), ad.envs.DarkRoom(5, 8).spec, 2)
    learner.weights[:] = float32(np.random.default_rng(0), *learner.weights.shape)
    obs, reward, cut = np.array([[1, 2], [3, 4]]), np.zeros(2, np.float32), np.ones(2, bool)
    action = learner.act(obs[::-1], cut)
    learner.update(ad.Transition(obs[::-1], action, reward, ~cut, cut, obs))
    learner.act(obs, cut)
    np.testing.assert_array_equal(learner.unroll.after[:, 0], learner.unroll.y[:, 1, -1])


def test_the_newest_rollout_is_replayed_in_order_also_when_memory_has_wrapped_around():
    learner, at = started(DQN(batch=1, rollout=3, overlap=0, offline=0.0), SHORT, 1), np.zeros(3)
    dqn._draw(at, learner.rng.keys[0], learner.replay, 8, 7)  # 8 steps, of which 7 are kept
    assert at.tolist() == [5, 6, 0]


@pytest.mark.parametrize("clip", [10.0, 0.01])
def test_an_update_is_the_one_that_autograd_makes(clip):
    """Six steps on real vectors, then Adam on 1/2 (G - Q)^2 averaged over them, with Peng's targets
    G and the gradient cut to `clip`.
    """
    how = {"layers": 2, "width": 5, "lr": 0.01, "lam": 0.3, "batch": 1, "rollout": 6}
    learner = started(DQN(overlap=5, offline=0.0, clip=clip, **how), SHORT, 1)
    rng = np.random.default_rng(0)
    learner.weights[:] = float32(rng, *learner.weights.shape)
    learner.target[:] = float32(rng, *learner.weights.shape)
    before = learner.weights[0].copy()
    obs, reward, actions = float32(rng, 7, 1, 2), float32(rng, 6), rng.integers(0, 3, 6)
    for t in range(6):
        end = np.array([t == 1]), np.array([t == 3])
        taken = actions[[t]], reward[[t]]
        learner.update(ad.Transition(obs[t], *taken, *end, obs[t + 1]))

    shape, seen = (2, 2, 5, 3), torch.as_tensor(obs[:, 0])
    best = in_torch(torch.as_tensor(learner.target[0]), shape, seen[1:]).max(1).values.numpy()
    g = np.zeros(6, np.float32)
    for t in reversed(range(6)):
        later = 0 if t == 1 else best[t]
        if t not in (1, 3, 5):  # terminated, truncated, the last of the rollout
            later = 0.7 * best[t] + 0.3 * g[t + 1]
        g[t] = reward[t] + 0.9 * later
    leaf = torch.tensor(before, requires_grad=True)
    q = in_torch(leaf, shape, seen[:6])[torch.arange(6), torch.as_tensor(actions)]
    (0.5 * (torch.as_tensor(g) - q).square()).mean().backward()
    norm, atol = torch.nn.utils.clip_grad_norm_([leaf], clip), 1e-4 * float(leaf.grad.abs().max())
    assert (norm > clip) == (clip < 1)
    # Adam's step does not depend on the gradient's size, and its first moment does
    np.testing.assert_allclose(learner.m[0] / 0.1, leaf.grad, atol=atol)
    torch.optim.Adam([leaf], lr=0.01, eps=1e-6).step()
    np.testing.assert_allclose(learner.weights[0], leaf.detach(), atol=2e-5)


def test_the_target_network_is_renewed_when_it_should_be():
    agent = replace(QUICK, rollout=5, overlap=0, target_update=3)
    learner = started(agent, ad.envs.DarkRoom(5, 8).spec, 2)
    no, renewed = np.zeros(2, bool), []
    for t in range(1, 41):
        obs, before = np.full((2, 2), t % 5), learner.target.copy()
        learner.update(ad.Transition(obs, np.array([0, 1]), np.ones(2, np.float32), no, no, obs))
        if not np.array_equal(learner.target, before):
            assert np.array_equal(learner.target, learner.weights)
            renewed.append(t)
    assert renewed == [15, 30]


def test_a_heading_is_read_as_a_direction():
    """A hair to the left and to the right of straight ahead are 2 pi apart as numbers, and must
    look alike.
    """
    obs = np.array([[0.1, 0.2, 1e-4], [0.1, 0.2, 2 * np.pi - 1e-4]], np.float32)
    for read in networks.features(ad.envs.Watermaze().spec, obs):
        np.testing.assert_allclose(read, [0.1, 0.2, 1, 0], atol=1e-3)
