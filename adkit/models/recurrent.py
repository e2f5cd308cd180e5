"""A recurrent policy: what it knows of a task is its state, carried from step to step and from episode to episode."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from adkit import artefacts, weights
from adkit.histories import Histories
from adkit.models.tokens import NO_TARGET, sample_windows
from adkit.models.training import frame
from adkit.protocols import EnvSpec
from adkit.seeds import Rng

if TYPE_CHECKING:
    import pandas as pd

KIND = "recurrent policy"
WINDOW = ("obs", "action", "reward")  # what of a window is read


class RecurrentPolicy(nn.Module):
    """A GRU that reads (observation, previous action, previous reward, first) and gives action logits and a value.

    Discrete observations are factored, one table per coordinate; a lifetime begins with a state of zeros.
    """

    def __init__(self, spec: EnvSpec, width: int = 64, seed: int = 0):
        super().__init__()
        if not isinstance(spec, EnvSpec):
            raise ValueError(
                f"spec={spec!r}; give what a policy may know of an environment, env.spec."
            )
        if not (isinstance(width, int) and width >= 1):
            raise ValueError(f"width={width!r}; give a whole number of units, such as 64.")
        if spec.view not in (None, "pose"):
            raise ValueError(
                f'view={spec.view!r}: this policy has no eye, and reads poses as they are; give a world of view="pose".'
            )
        self.spec, self.config = spec, {"width": width, "seed": seed}
        cardinality = spec.shown
        tokens = (
            *cardinality,
            spec.n_actions + 1,
            2,
        )  # the action before the first is one of its own
        self.table = nn.Parameter(torch.empty(sum(tokens), 3 * width))
        self.register_buffer(
            "offsets", torch.tensor([sum(tokens[:i]) for i in range(len(tokens))]), persistent=False
        )
        self.vector = (
            None if cardinality else nn.Linear(math.prod(spec.obs_shape), 3 * width, bias=False)
        )
        self.reward = nn.Parameter(torch.empty(3 * width))
        self.recurrent = nn.Linear(width, 3 * width)
        self.logits, self.value = nn.Linear(width, spec.n_actions), nn.Linear(width, 1)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            std = (
                0.0
                if name.startswith(("logits", "value")) or name.endswith("bias")
                else parameter.shape[-1] ** -0.5
            )
            nn.init.normal_(
                parameter, std=0.5 if name in ("table", "reward") else std, generator=generator
            )

    def forward(
        self, obs, action, reward, first, state
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One step of N lifetimes: logits (N, A), values (N,), and the state (N, D) that goes on.

        obs (N, *obs_shape); previous action (N,), n_actions before the first; previous reward (N,); first (N,).
        """
        state = self.cell(self.read(obs, action, reward, first), state)
        return self.logits(state), self.value(state)[:, 0], state

    def read(self, obs, action, reward, first) -> torch.Tensor:
        """(N, 3 D): what a step's observation, previous action and previous reward say to the three gates."""
        rows = torch.stack([action, first], -1)
        if self.vector is None:
            rows = torch.cat([obs[:, : len(self.spec.shown)], rows], -1)
        x = F.embedding_bag(rows + self.offsets, self.table, mode="sum")
        if self.vector is not None:
            x = x + self.vector(obs.flatten(1))
        return x + reward[:, None] * self.reward

    def cell(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """The next state (N, D), from what was read (N, 3 D) and the state before."""
        reset, update, new = x.chunk(3, -1)
        h_reset, h_update, h_new = self.recurrent(state).chunk(3, -1)
        update = (update + h_update).sigmoid()
        new = (new + (reset + h_reset).sigmoid() * h_new).tanh()
        return new + update * (state - new)

    def check_spec(self, spec: EnvSpec) -> None:
        """Raise ValueError unless this policy reads and acts as `spec` wants; any horizon will do."""
        for name in ("n_actions", "cardinality", "shape", "view", "seen"):
            mine, theirs = getattr(self.spec, name), getattr(spec, name)
            if mine != theirs:
                raise ValueError(
                    f"this policy was made for {self.spec.name} with {name}={mine}, and this is {spec.name} with "
                    f"{name}={theirs}; train one there with train_rl2(RecurrentPolicy(env.spec), env, tasks)."
                )

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write weights (safetensors) and a hashed manifest, whole or not at all."""
        about = {"spec": asdict(self.spec), "config": self.config}
        return artefacts.save(
            path, KIND, {"weights.safetensors": weights.pack(self.state_dict())}, about, overwrite
        )

    @staticmethod
    def load(path: str | Path) -> RecurrentPolicy:
        """Read and verify what `save` wrote."""
        files, about = artefacts.load(path, KIND)
        return weights.restore(
            path, lambda: RecurrentPolicy(EnvSpec(**about["spec"]), **about["config"]), files
        )

    def __repr__(self) -> str:
        size = sum(parameter.numel() for parameter in self.parameters())
        return f"RecurrentPolicy({self.spec.name}, width={self.config['width']}, seed={self.config['seed']}): {size:,} parameters"


class Seen(NamedTuple):
    """What N lifetimes know at a step besides their state, as arrays: `RecurrentPolicy.forward` reads it as tensors."""

    obs: np.ndarray
    action: np.ndarray
    """(N,) the previous action; n_actions before a lifetime's first."""
    reward: np.ndarray
    """(N,) the previous reward, also that of the episode before."""
    first: np.ndarray
    """(N,) whether an episode opens here."""

    @staticmethod
    def nothing(spec: EnvSpec, obs: np.ndarray) -> Seen:
        """At the first step of lives."""
        n = len(obs)
        return Seen(obs, np.full(n, spec.n_actions), np.zeros(n, np.float32), np.ones(n, bool))

    def tensors(
        self, spec: EnvSpec, dtype: torch.dtype = torch.float32
    ) -> tuple[torch.Tensor, ...]:
        obs, action, reward, first = (
            torch.as_tensor(np.ascontiguousarray(values)) for values in self
        )
        return (
            obs.long() if spec.cardinality else obs.to(dtype),
            action.long(),
            reward.to(dtype),
            first.long(),
        )


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
    """Train `model` in place to predict the source's next action from the state it has come to (Laskin et al. 2022, Fig. 14).

    Algorithm Distillation with a recurrent network for the transformer: each step reads `batch` lifetimes from their beginning, for
    `episodes` episodes, and learns by backpropagation through all of it. Played by `RL2(model)`. The log has a row per step.
    """
    model.check_spec(histories.spec)
    for name, value in (
        ("steps", steps),
        ("batch", batch),
        ("lifetimes in histories", len(histories)),
    ):
        if value < 1:
            raise ValueError(f"{name}: {value} given; distillation needs at least 1.")
    if not 1 <= episodes <= histories.n_episodes:
        raise ValueError(
            f"episodes={episodes}; these histories have {histories.n_episodes} per lifetime. Give 1 to that."
        )
    optimizer, log = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.99)), []
    model.train()
    for step in tqdm(range(steps), desc="distill_recurrent", disable=None, mininterval=0.5):
        windows = sample_windows(
            histories,
            episodes,
            batch,
            1.0,
            Rng.of(seed, "distill recurrent", np.arange(batch)).at(step),
        )
        loss = _imitation_loss(model, *_in_a_row(histories.spec, windows))
        if not torch.isfinite(loss):
            raise ValueError(f"the loss became {loss.item()} at step {step}; lower lr={lr}.")
        optimizer.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / 50, 2 * (1 - step / steps))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        log.append({"step": step + 1, "loss": loss.item()})
    model.eval()
    return frame(log)


def _in_a_row(spec: EnvSpec, windows: dict[str, np.ndarray]) -> tuple[Seen, np.ndarray, np.ndarray]:
    """What was seen at each step (B, T, ...), the action then taken, and which steps are real: without gaps between episodes."""
    batch, episodes, horizon = windows["action"].shape
    length = (windows["terminated"] | windows["truncated"]).argmax(2) + 1
    real = (np.arange(horizon) < length[..., None]).reshape(batch, -1)
    order = np.argsort(~real, axis=1, kind="stable")[:, : real.sum(1).max()]
    take = lambda x: np.take_along_axis(
        x, order.reshape(*order.shape, *(x.ndim - 2) * (1,)), axis=1
    )
    obs, action, reward = (
        take(windows[name].reshape(batch, episodes * horizon, *windows[name].shape[3:]))
        for name in WINDOW
    )
    nothing = Seen.nothing(spec, obs[:, 0])
    before = lambda at_first, values: np.concatenate([at_first[:, None], values[:, :-1]], axis=1)
    first = order % horizon == 0
    return (
        Seen(obs, before(nothing.action, action), before(nothing.reward, reward), first),
        action,
        take(real),
    )


def _imitation_loss(
    model: RecurrentPolicy, seen: Seen, action: np.ndarray, real: np.ndarray
) -> torch.Tensor:
    """Mean cross-entropy of the actions taken."""
    flat = [x.flatten(0, 1) for x in seen.tensors(model.spec)]
    x = model.read(*flat).unflatten(0, action.shape)  # (B, T, 3 D)
    states, state = [], x.new_zeros(len(x), model.config["width"])
    for x_t in x.unbind(1):
        state = model.cell(x_t, state)
        states.append(state)
    chosen = torch.as_tensor(np.where(real, action.astype(np.int64), NO_TARGET))
    return F.cross_entropy(model.logits(torch.stack(states, 1)).flatten(0, 1), chosen.flatten())
