"""Recurrent policy: its memory of a task is a hidden state, carried across episodes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from adkit.histories import Histories
from adkit.models.network import Network, offsets
from adkit.models.tokens import NO_TARGET, episode_lengths, sample_windows, take_along
from adkit.models.training import descend, frame, half_decay, progress
from adkit.protocols import EnvSpec
from adkit.seeds import Rng


class RecurrentPolicy(Network):
    """A GRU over (observation, previous action, previous reward, first): logits and a value.

    Discrete observations are factored, one table per coordinate; a lifetime begins with a state
    of zeros. A policy acts at any horizon.
    """

    kind = "recurrent policy"
    reads = "n_actions", "cardinality", "shape", "view", "seen"

    def __init__(self, spec: EnvSpec, width: int = 64, seed: int = 0):
        super().__init__(spec, {"width": width, "seed": seed})
        if spec.view not in (None, "pose"):
            raise ValueError(
                f'a RecurrentPolicy has no encoder for view={spec.view!r}; use view="pose"'
            )
        rows = *spec.shown, spec.n_actions + 1, 2  # one action more: none before the first step
        self.table = nn.Parameter(torch.empty(sum(rows), 3 * width))
        self.register_buffer("offsets", offsets(rows), persistent=False)
        inputs = 0 if spec.shown else math.prod(spec.obs_shape)
        self.vector = nn.Linear(inputs, 3 * width, bias=False) if inputs else None
        self.reward = nn.Parameter(torch.empty(3 * width))
        self.recurrent = nn.Linear(width, 3 * width)
        self.logits, self.value = nn.Linear(width, spec.n_actions), nn.Linear(width, 1)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            std = parameter.shape[-1] ** -0.5
            if name in ("table", "reward"):
                std = 0.5
            elif name.startswith(("logits", "value")) or name.endswith("bias"):
                std = 0.0
            nn.init.normal_(parameter, std=std, generator=generator)

    def forward(self, obs, previous_action, previous_reward, first, state: torch.Tensor) -> tuple:
        """Return logits (N, A), values (N,) and the next state (N, D) of one step; see `read`."""
        state = self.cell(self.read(obs, previous_action, previous_reward, first), state)
        return self.logits(state), self.value(state)[:, 0], state

    def read(self, *inputs: np.ndarray) -> torch.Tensor:
        """Return (..., 3 D) what the inputs add to the three gates.

        They are observations (..., *obs_shape), previous actions (n_actions before the first step
        of a lifetime) and rewards, also across episodes, and whether an episode begins (...).
        """
        tensors = (torch.as_tensor(np.ascontiguousarray(x)) for x in inputs)
        obs, previous_action, previous_reward, first = tensors
        rows = torch.stack([previous_action.long(), first.long()], -1)
        shape, dtype = rows.shape[:-1], self.reward.dtype
        if self.vector is None:
            rows = torch.cat([obs[..., : len(self.spec.shown)].long(), rows], -1)
        rows = (rows + self.offsets).flatten(0, -2)
        x = F.embedding_bag(rows, self.table, mode="sum").unflatten(0, shape)
        if self.vector is not None:
            scale = 255 if self.spec.dtype == "uint8" else 1
            x = x + self.vector(obs.to(dtype).flatten(len(shape)) / scale)
        return x + previous_reward.to(dtype)[..., None] * self.reward

    def cell(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Return the next state (N, D) from `read`'s (N, 3 D) and the state before: a GRU."""
        reset, update, new = x.chunk(3, -1)
        h_reset, h_update, h_new = self.recurrent(state).chunk(3, -1)
        update = (update + h_update).sigmoid()
        new = (new + (reset + h_reset).sigmoid() * h_new).tanh()
        return new + update * (state - new)


def distill_recurrent(
    model: RecurrentPolicy,
    histories: Histories,
    *,
    episodes: int,
    steps: int = 600,
    batch: int = 32,
    lr: float = 3e-3,
    seed: int = 0,
) -> pd.DataFrame:
    """Train `model` in place to predict the source's next action (Laskin et al. 2022, Fig. 14).

    Algorithm Distillation with a recurrent network in place of the transformer: each step reads
    the first `episodes` of `batch` lifetimes and backpropagates through all of them. Returns a row
    per step; `RL2(model)` acts by the result.
    """
    model.check_spec(histories.spec)
    optimizer, log = torch.optim.Adam(model.parameters(), lr, betas=(0.9, 0.99)), []
    draws = Rng.of(seed, "distill recurrent", np.arange(batch))
    for step in progress("distill_recurrent", steps):
        windows = sample_windows(histories, episodes, batch, 1.0, draws.at(step))
        loss = _imitation_loss(model, *_without_gaps(histories.spec, windows))
        loss.backward()
        factor = half_decay(step, steps, warm_up=50)
        value = descend(loss, model.parameters(), [optimizer], factor)
        log.append({"step": step + 1, "loss": value})
    return frame(log)


def _without_gaps(spec: EnvSpec, windows: dict[str, np.ndarray]) -> tuple[tuple, np.ndarray]:
    """Return `read`'s inputs (B, T, ...) and the actions then taken, NO_TARGET after the last.

    Episodes that ended early are moved together.
    """
    batch, episodes, horizon = windows["action"].shape
    flat = lambda x: x.reshape(batch, episodes * horizon, *x.shape[3:])
    real = flat(np.arange(horizon) < episode_lengths(windows)[..., None])
    order = np.argsort(~real, axis=1, kind="stable")[:, : real.sum(1).max()]  # (B, T)
    arrays = real, windows["obs"], windows["action"].astype(int), windows["reward"]
    real, obs, action, reward = (take_along(flat(x), order) for x in arrays)
    before = lambda x, at_first: np.insert(x[:, :-1], 0, at_first, axis=1)
    previous = before(action, spec.n_actions), before(reward, 0.0)
    return (obs, *previous, order % horizon == 0), np.where(real, action, NO_TARGET)


def _imitation_loss(model: RecurrentPolicy, inputs: tuple, target: np.ndarray) -> torch.Tensor:
    """Return the mean cross-entropy of the actions taken."""
    x = model.read(*inputs)  # (B, T, 3 D)
    states, state = [], x.new_zeros(len(x), model.config["width"])
    for x_t in x.unbind(1):
        state = model.cell(x_t, state)
        states.append(state)
    logits = model.logits(torch.stack(states, 1))  # (B, T, A)
    return F.cross_entropy(logits.flatten(0, 1), torch.as_tensor(target).flatten())
