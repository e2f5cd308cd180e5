"""How an encoder of pictures learns to see: by itself, from pictures and actions, or from a teacher that is told the pose."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from adkit.histories import Histories
from adkit.models.encoders import PLACE, Picture
from adkit.models.training import auto_dtype, frame
from adkit.models.transformer import CausalTransformer
from adkit.seeds import Rng

if TYPE_CHECKING:
    import pandas as pd


def pretrain_encoder(
    model: CausalTransformer,
    histories: Histories,
    *,
    steps: int = 1000,
    batch: int = 256,
    ahead: int = 6,
    lr: float = 2e-3,
    seed: int = 0,
) -> pd.DataFrame:
    """Teach the encoder, from pictures and actions alone, to say where a picture was taken; `distill` then leaves that alone.

    That it does is not saved: the eye of a model that was saved and loaded is trained with all else.

    Contrastive prediction (van den Oord et al. 2018) in a space where every action is an affine map, z' = A_a z + b_a: from z of
    one picture and the next `ahead` actions, tell the pictures that follow from all others in the batch, by squared distance.
    Position and direction are such a space: away from the wall, turning and walking are affine in (x, y, cos h, sin h). No pose is
    a target, and no action's meaning is given. A row per step: the loss in nats, and the share of pictures told apart.
    """
    encoder = model.embed_tokens.encoder
    if not isinstance(encoder, Picture):
        raise ValueError(
            f"a model with view={model.spec.view!r} sees no pictures; give one of pictures, such as Watermaze(view=(24, 32))'s."
        )
    model.check_spec(histories.spec)
    for name, value in (("steps", steps), ("batch", batch), ("ahead", ahead)):
        if value < 1:
            raise ValueError(f"{name}={value}; give at least 1.")
    long_enough = np.argwhere(histories.length > ahead)  # (lifetime, episode)
    if not len(long_enough):
        raise ValueError(
            f"no episode of these histories has more than {ahead} steps; give ahead={histories.length.max() - 1}."
        )
    matrix = (
        torch.eye(PLACE, device=model.device).repeat(model.spec.n_actions, 1, 1).requires_grad_()
    )
    shift = torch.zeros(model.spec.n_actions, PLACE, device=model.device, requires_grad=True)
    sharpness = torch.zeros((), device=model.device, requires_grad=True)
    learned = [*encoder.eye.requires_grad_(True).parameters(), matrix, shift, sharpness]
    optimizer, dtype = (
        torch.optim.AdamW(learned, lr=lr, weight_decay=1e-4),
        auto_dtype("auto", model.device),
    )
    log, draws = [], Rng.of(seed, "see", np.arange(batch))
    for step in tqdm(range(steps), desc="pretrain_encoder", disable=None, mininterval=0.5):
        obs, action = _walks(histories, long_enough, ahead, draws.at(step), model.device)
        z = encoder.locate(obs.flatten(0, 1), dtype).float().unflatten(0, (batch, ahead + 1))
        loss, told_apart = _contrast(z, matrix[action], shift[action], sharpness)
        optimizer.param_groups[0]["lr"] = lr * min(1.0, 2 * (1 - step / steps))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        log.append({"step": step + 1, "loss": loss.item(), "told_apart": told_apart})
    _standardise(
        encoder,
        _walks(histories, long_enough, ahead, Rng.of(seed, "scale", np.arange(1024)), model.device)[
            0
        ],
    )
    encoder.eye.requires_grad_(False)
    return frame(log)


def _contrast(z, matrix, shift, sharpness) -> tuple[torch.Tensor, float]:
    """InfoNCE in nats, and the share told apart: z (B, K + 1, P) seen, each step's matrix (B, K, P, P) and shift (B, K, P)."""
    batch, ahead = shift.shape[:2]
    z = (z - z.mean((0, 1))) / (z.std((0, 1)) + 1e-3)
    every, z_t, loss, told_apart = z.flatten(0, 1), z[:, 0], 0.0, 0.0
    for t in range(ahead):
        z_t = torch.einsum("nij,nj->ni", matrix[:, t], z_t) + shift[:, t]
        distance = z_t.square().sum(1, keepdim=True) + every.square().sum(1) - 2 * z_t @ every.T
        right = torch.arange(batch, device=z.device) * (ahead + 1) + t + 1
        loss = loss + F.cross_entropy(-sharpness.exp() * distance, right) / ahead
        told_apart += (distance.argmin(1) == right).float().mean().item() / ahead
    return loss, told_apart


def _walks(
    histories: Histories, long_enough: np.ndarray, ahead: int, rng: Rng, device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses (n, ahead + 1, 3) and actions (n, ahead) of consecutive steps inside an episode."""
    lifetime, episode = long_enough[rng.integers(len(long_enough), 0)].T
    first = (rng.uniform(1) * (histories.length[lifetime, episode] - ahead)).astype(int)
    at = lifetime[:, None], episode[:, None], first[:, None] + np.arange(ahead + 1)
    obs, action = (
        histories.arrays["obs"][at],
        histories.arrays["action"][at][:, :-1].astype(np.int64),
    )
    return torch.as_tensor(obs).to(device), torch.as_tensor(action).to(device)


@torch.no_grad()
def _standardise(encoder: Picture, obs: torch.Tensor) -> None:
    """Have each of the PLACE numbers a mean of 0 and a deviation of 1."""
    last, z = encoder.eye[-1].weight, encoder.locate(obs.flatten(0, 1), torch.float32)
    last[:, -1] -= z.mean(0)
    last /= z.std(0)[:, None]


def distill_encoder(
    student: CausalTransformer,
    teacher: CausalTransformer,
    histories: Histories,
    *,
    steps: int = 2000,
    batch: int = 1024,
    lr: float = 1e-3,
    seed: int = 0,
) -> pd.DataFrame:
    """Make the student the teacher seen through other eyes: its weights, and an encoder that says what the teacher's says.

    For a student that is shown pictures and a teacher that is shown the poses they are drawn from. Each step draws `batch`
    poses of the histories. Privileged, in training only: what the student is shown at test time is its own view.
    A row per step of the error, as a share of the variance.
    """
    if steps < 1 or batch < 1:
        raise ValueError(f"steps={steps}, batch={batch}; give at least 1 of each.")
    for name in ("n_actions", "horizon", "shape"):
        if getattr(student.spec, name) != getattr(teacher.spec, name):
            raise ValueError(
                f"student and teacher differ in {name}; make both for one environment, apart from its view."
            )
    mine, theirs = (model.embed_tokens.encoder for model in (student, teacher))
    if mine is None or theirs is None:
        raise ValueError(
            f'views {student.spec.view!r} and {teacher.spec.view!r}: both must be shown something, such as (24, 32) and "pose".'
        )
    student.check_spec(replace(histories.spec, view=student.spec.view))
    learned = {
        name: values
        for name, values in teacher.state_dict().items()
        if not name.startswith("embed_tokens.encoder")
    }
    student.load_state_dict(learned, strict=False)
    real = np.arange(histories.spec.horizon) < histories.length[..., None]
    poses, optimizer = (
        histories.arrays["obs"][real],
        torch.optim.AdamW(mine.parameters(), lr=lr, weight_decay=0.0),
    )
    log, draws, dtype = (
        [],
        Rng.of(seed, "encoder", np.arange(batch)),
        auto_dtype("auto", student.device),
    )
    for step in tqdm(range(steps), desc="distill_encoder", disable=None, mininterval=0.5):
        obs = torch.as_tensor(poses[draws.at(step).integers(len(poses))])
        with torch.no_grad():
            wanted = theirs(obs.to(teacher.device), torch.float32).to(student.device)
        loss = (
            F.mse_loss(mine(obs.to(student.device), dtype).float(), wanted) / wanted.var(0).mean()
        )
        optimizer.param_groups[0]["lr"] = lr * min(1.0, 2 * (1 - step / steps))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        log.append({"step": step + 1, "error": loss.item()})
    return frame(log)
