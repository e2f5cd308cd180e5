"""Training of picture encoders: from pictures and actions, or from a model that sees poses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from adkit.histories import Histories
from adkit.models.encoders import PLACE, Picture
from adkit.models.training import auto_dtype, descend, frame, half_decay, progress
from adkit.models.transformer import CausalTransformer
from adkit.seeds import Rng


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
    """Train the encoder to say where pictures were taken, and freeze it for `distill`.

    Contrastive prediction (van den Oord et al. 2018) in a space where every action is an affine
    map, z' = A_a z + b_a: from the z of one picture and the next `ahead` actions, tell the pictures
    that follow from all others in the batch, by squared distance. Position and direction are such a
    space: away from the wall, turning and walking are affine in (x, y, cos h, sin h). No pose is a
    target, and no action's meaning is given. Returns a row per step: the loss in nats, and the
    share of pictures told apart. A saved model does not remember that its encoder is frozen.
    """
    encoder = model.embed_tokens.encoder
    if not isinstance(encoder, Picture):
        raise ValueError(
            f"the model must see pictures, got view={model.spec.view!r}; try view=(24, 32)"
        )
    model.check_spec(histories.spec)
    long_enough = np.argwhere(histories.length > ahead)  # (lifetime, episode)
    if not len(long_enough):
        most = histories.length.max()
        raise ValueError(f"`ahead` must be below {most}, the longest episode, got {ahead}")
    device, actions = model.device, model.spec.n_actions
    matrix = torch.eye(PLACE, device=device).repeat(actions, 1, 1).requires_grad_()
    shift = torch.zeros(actions, PLACE, device=device, requires_grad=True)
    sharpness = torch.zeros((), device=device, requires_grad=True)
    learned = [*encoder.eye.requires_grad_(True).parameters(), matrix, shift, sharpness]
    optimizer, log = torch.optim.AdamW(learned, lr, weight_decay=1e-4), []
    dtype, draws = auto_dtype("auto", device), Rng.of(seed, "see", np.arange(batch))
    for step in progress("pretrain_encoder", steps):
        obs, action = _walks(histories, long_enough, ahead, draws.at(step), device)
        z = encoder.locate(obs.flatten(0, 1), dtype).float().unflatten(0, (batch, ahead + 1))
        loss, told_apart = _contrast(z, matrix[action], shift[action], sharpness)
        loss.backward()
        loss = descend(loss, learned, [optimizer], half_decay(step, steps))
        log.append({"step": step + 1, "loss": loss, "told_apart": told_apart})
    draws = Rng.of(seed, "scale", np.arange(1024))
    _standardise(encoder, _walks(histories, long_enough, ahead, draws, device)[0])
    encoder.eye.requires_grad_(False)
    return frame(log)


def _contrast(z, matrix, shift, sharpness) -> tuple[torch.Tensor, float]:
    """Return InfoNCE in nats, and the share told apart.

    z (B, K + 1, P) of the pictures; matrix (B, K, P, P) and shift (B, K, P) of the actions between.
    """
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
    histories: Histories, long_enough: np.ndarray, ahead: int, rng: Rng, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw poses (n, ahead + 1, 3) and actions (n, ahead) of consecutive steps."""
    lifetime, episode = long_enough[rng.integers(len(long_enough), 0)].T
    first = (rng.uniform(1) * (histories.length[lifetime, episode] - ahead)).astype(int)
    at = lifetime[:, None], episode[:, None], first[:, None] + np.arange(ahead + 1)
    obs, action = (histories.arrays[name][at] for name in ("obs", "action"))
    action = torch.as_tensor(action[:, :-1].astype(np.int64))
    return torch.as_tensor(obs).to(device), action.to(device)


@torch.no_grad()
def _standardise(encoder: Picture, obs: torch.Tensor) -> None:
    """Give each of the PLACE numbers a mean of 0 and a deviation of 1."""
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
    """Copy the teacher's weights to `student`, and train its encoder to match the teacher's.

    For a student that sees pictures and a teacher that sees the poses they are drawn from. Each
    step draws `batch` poses of the histories. Privileged in training only: at test time the student
    sees its own view. Returns a row per step of the error, as a share of the variance.
    """
    for other in (teacher, histories):
        student.check_spec(replace(other.spec, view=student.spec.view))
    mine, theirs = student.embed_tokens.encoder, teacher.embed_tokens.encoder
    weights = teacher.state_dict()
    shared = {n: w for n, w in weights.items() if not n.startswith("embed_tokens.encoder")}
    student.load_state_dict(shared, strict=False)
    real = np.arange(histories.spec.horizon) < histories.length[..., None]
    poses, dtype = histories.arrays["obs"][real], auto_dtype("auto", student.device)
    optimizer, log = torch.optim.AdamW(mine.parameters(), lr, weight_decay=0.0), []
    draws = Rng.of(seed, "encoder", np.arange(batch))
    for step in progress("distill_encoder", steps):
        obs = torch.as_tensor(poses[draws.at(step).integers(len(poses))])
        with torch.no_grad():
            wanted = theirs(obs.to(teacher.device), torch.float32).to(student.device)
        error = F.mse_loss(mine(obs.to(student.device), dtype).float(), wanted)
        loss = error / wanted.var(0).mean()
        loss.backward()
        factor, clip = half_decay(step, steps), float("inf")
        error = descend(loss, mine.parameters(), [optimizer], factor, clip)
        log.append({"step": step + 1, "error": error})
    return frame(log)
