"""Encoders of observations: real vectors as they are, poses as `EnvSpec.view` says.

Where the view is a picture or nothing, no number of the pose leaves this file.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from adkit.envs import pixels
from adkit.models.network import Linear
from adkit.protocols import EnvSpec

HIDDEN = 256
PLACE = 8  # numbers that say where a picture was taken
WAVES = 1, 2, 4  # half periods, from the middle of the room to its wall, of a pose's waves


def encoder(spec: EnvSpec, width: int) -> nn.Module | None:
    """Return the module (n, *obs_shape), dtype -> (n, D); None for discrete observations."""
    if spec.cardinality or spec.view == "nothing":
        return None
    if spec.view is None:
        return Vector(math.prod(spec.obs_shape), width, spec.dtype)
    return Pose(width) if spec.view == "pose" else Picture(spec.view, width)


class Vector(nn.Module):
    """A real vector, or a picture of bytes as numbers in [-2, 2), mapped linearly."""

    def __init__(self, inputs: int, width: int, kind: str = "float32"):
        super().__init__()
        self.vector, self.bytes = Linear(inputs, width), kind == "uint8"

    def forward(self, obs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        numbers = obs.float().flatten(1)
        return self.vector((numbers - 128) / 64 if self.bytes else numbers)


class Pose(nn.Module):
    """A pose as waves over the room and a direction: nearby places are similar."""

    def __init__(self, width: int):
        super().__init__()
        self.inner, self.outer = Linear(5 + 4 * len(WAVES), HIDDEN), Linear(HIDDEN, width)

    def forward(self, obs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        place, heading = obs[:, :2].float(), obs[:, 2:].float()
        waves = torch.cat([place * (math.pi * n) for n in WAVES], dim=1)
        parts = place, heading.cos(), heading.sin(), waves.cos(), waves.sin()
        return self.outer(F.relu(self.inner(_with_one(torch.cat(parts, dim=1).to(dtype)))))


class Picture(nn.Module):
    """A first-person picture: `eye` says where it was taken, in PLACE numbers, which map to D."""

    def __init__(self, size: tuple[int, int], width: int):
        super().__init__()
        self.size = pixels.check_size(size)
        inputs = 3 * math.prod(self.size)
        layers = Linear(inputs, HIDDEN), Linear(HIDDEN, HIDDEN), Linear(HIDDEN + 1, PLACE)
        self.eye = nn.ModuleList(layers)
        self.inner, self.outer = Linear(PLACE + 1, HIDDEN), Linear(HIDDEN, width)

    def forward(self, obs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return self.outer(F.relu(self.inner(_with_one(self.locate(obs, dtype)))))

    def locate(self, obs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return (n, PLACE) for the pictures drawn from poses (n, 3): a perceptron."""
        first, second, place = self.eye
        return place(_with_one(F.relu(second(F.relu(first(self.draw(obs, dtype).flatten(1)))))))

    def draw(self, obs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return pictures (n, H, W, 3) in [-2, 2) in `dtype`, on the device of the poses."""
        drawn = torch.from_numpy(pixels.render(obs.detach().cpu().numpy(), self.size))
        return drawn.to(obs.device).to(dtype).sub_(128).div_(64)  # exact, in bfloat16 too


def _with_one(x: torch.Tensor) -> torch.Tensor:
    """Return (n, C + 1): a last input of 1, the bias of a map that has none."""
    return F.pad(x, (0, 1), value=1.0)
