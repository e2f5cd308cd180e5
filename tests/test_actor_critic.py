"""The actor-critic: its gradient against autograd, the contract, the one-fault environments, and the Dark Room, with controls."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from helpers import same
from probe_worlds import Line, OneFault

import adkit as ad
from adkit.sources import actor_critic, networks
from adkit.testing import check_agent, check_env

ActorCritic = ad.sources.ActorCritic
SHAPE = 7, 3, 8, 4  # inputs, layers, width, outputs


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
    actor_critic._slopes(y, action, reward, end, after, 1, hyper, dy)
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


@pytest.mark.parametrize(
    "env",
    [
        ad.envs.DarkRoom(4, 6, reward="once", start="random"), ad.envs.AdversarialBandit(arms=3, horizon=4, n_tasks=2), Line(),
        ad.envs.Watermaze(horizon=16, n_tasks=4),
        ad.envs.from_gymnasium("FrozenLake-v1", horizon=30), ad.envs.from_gymnasium("Taxi-v4", horizon=20),
    ],
    ids=repr,
)  # fmt: skip
def test_it_keeps_the_contract_in_every_world(env):
    check_agent(ActorCritic(unroll=7), env, episodes=4)


def test_the_line_is_a_world():
    check_env(Line())


CHANGED = dict(
    layers=1,
    width=16,
    lr=1e-3,
    gamma=0.5,
    lam=0.5,
    entropy=0.3,
    value_weight=2.0,
    unroll=9,
    actors=2,
)


@pytest.mark.parametrize("field", CHANGED)
def test_every_field_changes_something(env, field):
    assert {f.name for f in fields(ActorCritic)} == set(CHANGED)
    live = lambda agent: ad.collect(env, env.tasks()[:5], agent, episodes=40).action
    assert not np.array_equal(
        live(ActorCritic()), live(replace(ActorCritic(), **{field: CHANGED[field]}))
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (dict(layers=0), "layers=0; give a whole number"), (dict(width=2.5), r"width=2\.5; give a whole"), (dict(lr=-1), "Try lr"),
        (dict(gamma=1.0), "the discount lies in"), (dict(lam=2), "lambda lies in"), (dict(entropy=-1), "entropy=-1; a weight"),
    ],
)  # fmt: skip
def test_wrong_hyperparameters_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        ActorCritic(**wrong)


def test_worlds_it_cannot_serve_are_refused_with_what_would_work():
    pixels = ad.EnvSpec("Maze", n_actions=3, horizon=9, shape=(72, 96, 3))
    with pytest.raises(
        ValueError, match="Maze shows 20736 numbers .* give it coordinates, such as the pose"
    ):
        ActorCritic().start(pixels, ad.Rng.of(0), episodes=10)
    with pytest.raises(ValueError, match="actors=100 .* on Line if it has no tables, use actors=1"):
        ad.collect(Line(), Line().tasks(), ActorCritic.paper(), episodes=1)


@pytest.mark.parametrize(
    "fault", ["reward = action", "reward = observation", "delayed", "across episodes"]
)
def test_it_solves_the_one_fault_environments_and_does_not_without_learning(fault):
    env = OneFault(fault)
    live = lambda agent: ad.collect(env, env.tasks(), agent, episodes=400, lifetimes=64).returns[
        :, :, -50:
    ]
    assert (
        ad.stats.bootstrap(live(ActorCritic(entropy=0.01)).mean(2), draws=500).low
        > 0.93 * env.optimum
    )
    assert ad.stats.bootstrap(live(ActorCritic(lr=0.0)).mean(2), draws=500).high < 0.8 * env.optimum


def test_it_learns_the_line_from_real_numbers():
    live = lambda agent: (
        ad.collect(Line(), Line().tasks(), agent, episodes=150, lifetimes=16)
        .returns[:, :, -20:]
        .mean(2)
    )
    assert (
        ad.stats.bootstrap(live(ActorCritic()), draws=500).low
        > 6
        > 1
        > ad.stats.bootstrap(live(ActorCritic(lr=0.0))).high
    )


def test_it_learns_the_dark_room():
    env = ad.envs.DarkRoom()
    live = lambda agent: ad.collect(env, env.tasks()[::4], agent, episodes=500, lifetimes=2).returns
    returns, optimum = live(ActorCritic()), ad.optimal_returns(env, env.tasks()[::4])
    assert ad.stats.bootstrap(returns[:, :, -25:].mean(2) / optimum[:, None], draws=500).low > 0.95
    assert ad.stats.improvement(returns, share=0.05).low > 13
    assert abs(ad.stats.improvement(live(ActorCritic(lr=0.0)), share=0.05).estimate) < 0.1


def test_more_actors_learn_more_from_as_many_of_the_firsts_steps():
    env = ad.envs.DarkRoom(5, 8)
    live = lambda actors, tasks, n=2: ad.collect(
        env, tasks, ActorCritic(lr=1e-3, actors=actors), episodes=100, lifetimes=n
    )
    together, alone = live(8, env.tasks()), live(8, env.tasks()[7:8])
    assert same(together[14:16], alone), (
        "a lifetime of eight actors changed with the lifetimes beside it"
    )
    late = lambda actors: ad.stats.bootstrap(
        live(actors, env.tasks(), 4).returns[:, :, -20:].mean(2), draws=500
    )
    assert late(8).low > 0.5 + late(1).high


def test_the_papers_hyperparameters_have_a_name_and_learn():
    paper = ActorCritic.paper()
    assert (paper.layers, paper.width, paper.lr, paper.gamma, paper.lam, paper.entropy, paper.actors) == (
        3, 128, 1e-4, 0.99, 0.95, 0.01, 100,
    )  # fmt: skip
    env = ad.envs.DarkRoom(5, 8)
    returns = ad.collect(
        env, env.tasks()[[7, 18]], replace(paper, actors=20, unroll=8), episodes=250
    ).returns
    assert ad.stats.improvement(returns, share=0.1).estimate > 1.5
