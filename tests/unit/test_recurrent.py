"""Recurrent policies: the cell, the advantages and a lifetime's end by hand; the contract."""

from dataclasses import dataclass

import numpy as np
import torch
from helpers import scrambled
from probe_worlds import Line, LineState

import adkit as ad
from adkit.models import recurrent, rl2


def a_policy(spec):
    return scrambled(ad.RecurrentPolicy(spec, width=12))


@torch.no_grad()
def test_the_cell_is_torchs_on_its_inputs_written_out():
    spec, n = ad.EnvSpec("x", n_actions=3, horizon=5, cardinality=(4, 2)), 6
    model, rng = a_policy(spec), np.random.default_rng(0)
    obs = np.stack([rng.integers(0, 4, n), rng.integers(0, 2, n)], 1)
    action, first = rng.integers(0, 4, n), rng.integers(0, 2, n).astype(bool)
    reward, state = rng.normal(size=n).astype(np.float32), torch.randn(n, 12)
    one_hot = torch.zeros(n, 4 + 2 + 4 + 2 + 1)
    for i in range(n):
        one_hot[i, [obs[i, 0], 4 + obs[i, 1], 6 + action[i], 10 + int(first[i])]] = 1
        one_hot[i, 12] = float(reward[i])
    cell = torch.nn.GRUCell(13, 12)
    cell.weight_ih[:] = torch.cat([model.table, model.reward[None]]).T
    cell.bias_ih[:] = 0
    cell.weight_hh[:], cell.bias_hh[:] = model.recurrent.weight, model.recurrent.bias
    _, _, ours = model(obs, action, reward, first, state)
    torch.testing.assert_close(ours, cell(one_hot, state))


def test_advantages_by_hand():
    """Two steps and no end, beside a lifetime that ends after the first of them."""
    reward = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    value = torch.tensor([[10.0, 10.0], [20.0, 20.0]])
    over, after = torch.tensor([[False, True], [False, False]]), torch.tensor([40.0, 40.0])
    second = 2 + 0.5 * 40 - 20
    ours = rl2.advantages(reward, over, value, after, gamma=0.5, lam=0.5)
    assert ours.tolist() == [[1 + 0.5 * 20 - 10 + 0.25 * second, 1 - 10], [second, second]]


@dataclass(frozen=True)
class Onward(Line):
    """A world that outlasts an episode: from the second on, one begins far out."""

    def next_episode(self, state, given, rng):
        x = np.full(len(given), 0.9)
        return LineState(x, np.zeros(len(x), int)), self._see(x)


def test_what_outlasts_an_episode_ends_with_the_lifetime():
    env = Onward()
    practice = rl2._Practice(a_policy(env.spec), env, env.tasks(), 3, 7, 0)
    for _ in range(45):
        *_, over = practice.step()
        opens, x, state = practice.first, practice.world.x, practice.learner.state
        assert (np.abs(x[over]) <= 0.2).all() and (x[opens & ~over.numpy()] == 0.9).all()
        assert (state[over] == 0).all() and (state[~over] != 0).any(1).all()
        np.testing.assert_array_equal(practice.obs, env._see(x))
        action, reward = practice.learner.previous
        assert (action[over] == env.spec.n_actions).all() and not reward[over].any()
    assert practice.episode.tolist() == [(n + 4) % 3 for n in range(7)]


@torch.no_grad()
def test_distillation_reads_what_a_policy_would_have_read_step_by_step(lake):
    """The loss over windows without gaps is that of stepping through lifetimes."""
    made, spec = lake[:3].episodes[:4], lake.spec
    model, windows = a_policy(spec), made.windows(np.arange(3), np.zeros(3, int), 4)
    inputs, target = recurrent._without_gaps(spec, windows)
    assert (target >= 0).sum() == made.length.sum() < 3 * 4 * 12
    assert target.shape[1] == made.length.sum(1).max()
    losses = []
    for n in range(3):
        state = torch.zeros(1, 12)
        previous = np.array([spec.n_actions]), np.zeros(1, np.float32)
        for e in range(4):
            for t in range(made.length[n, e]):
                arrays = (made.arrays[name][n, e, t][None] for name in ("obs", "action", "reward"))
                obs, action, reward = arrays
                logits, _, state = model(obs, *previous, np.array([t == 0]), state)
                chosen = torch.as_tensor(action).long()
                losses.append(torch.nn.functional.cross_entropy(logits, chosen))
                previous = action, reward
    loss = recurrent._imitation_loss(model, inputs, target)
    torch.testing.assert_close(loss, torch.stack(losses).mean())
