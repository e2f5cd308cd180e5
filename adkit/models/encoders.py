"""What a model sees: discrete coordinates and real vectors as they are, poses as `EnvSpec.view` says.

Where the view is a picture or nothing, no number of the pose gets past this file.
"""

from __future__ import annotations

import math
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from adkit.envs import pixels
from adkit.protocols import EnvSpec

HIDDEN = 256
PLACE = 8  # numbers that say where a picture was taken
WAVES = (
    1,
    2,
    4,
)  # half periods of a pose's sine and cosine features from the middle of the room to its wall


class Linear(nn.Linear):
    """A linear map, without bias, that computes in its input's dtype."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight.to(x.dtype))


def encoder(spec: EnvSpec, width: int) -> nn.Module | None:
    """The encoder (n, *obs_shape), dtype -> (n, D) of what is no table row; None if there is nothing such to see."""
    if spec.cardinality or spec.view == "nothing":
        return None
    if spec.view is None:
        return Vector(math.prod(spec.obs_shape), width)
    return Pose(width) if spec.view == "pose" else Picture(spec.view, width)


class Vector(nn.Module):
    """A real vector, mapped linearly."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.vector = Linear(inputs, width)

    def forward(self, obs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return self.vector(obs.float().flatten(1))


class Pose(nn.Module):
    """A pose as waves over the room and a direction: places close by look alike, places apart do not."""

    def __init__(self, width: int):
        super().__init__()
        self.inner, self.outer = Linear(5 + 4 * len(WAVES), HIDDEN), Linear(HIDDEN, width)

    def forward(self, obs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        place, heading = obs[:, :2].float(), obs[:, 2:].float()
        waves = torch.cat([place * (math.pi * n) for n in WAVES], dim=1)
        parts = place, heading.cos(), heading.sin(), waves.cos(), waves.sin()
        return self.outer(F.relu(self.inner(_with_one(torch.cat(parts, dim=1).to(dtype)))))


class Picture(nn.Module):
    """The first-person picture drawn from a pose: where it seems to have been taken, in PLACE numbers, and what that says in D."""

    def __init__(self, size: tuple[int, int], width: int):
        super().__init__()
        self.size = pixels.check_size(size)
        self.eye = nn.ModuleList(
            [
                Linear(3 * math.prod(self.size), HIDDEN),
                Linear(HIDDEN, HIDDEN),
                Linear(HIDDEN + 1, PLACE),
            ]
        )
        self.inner, self.outer = Linear(PLACE + 1, HIDDEN), Linear(HIDDEN, width)

    def forward(self, obs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return self.outer(F.relu(self.inner(_with_one(self.locate(obs, dtype)))))

    def locate(self, obs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """(n, PLACE) of what is drawn from poses (n, 3). A perceptron with two hidden layers."""
        first, second, place = self.eye
        return place(_with_one(F.relu(second(F.relu(first(self.draw(obs, dtype).flatten(1)))))))

    def draw(self, obs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Pictures (n, H, W, 3) in [-2, 2), written as `dtype` by the renderer itself and put where the poses are."""
        kind = "bfloat16" if dtype == torch.bfloat16 else "float32"
        paper = self._paper(len(obs) * self.eye[0].in_features, pixels.TABLES[kind].dtype)
        drawn = pixels.render(obs.detach().cpu().numpy(), self.size, kind, paper)
        self.paper = paper
        tensor = (
            torch.from_numpy(drawn.view(np.int16)).view(torch.bfloat16)
            if kind == "bfloat16"
            else torch.from_numpy(drawn)
        )
        return tensor.to(obs.device, dtype)

    def _paper(self, n: int, dtype: np.dtype) -> np.ndarray:
        """Memory for n numbers: the last pictures', if no tensor (a gradient's, another thread's) holds them any more."""
        paper = self.__dict__.pop("paper", None)  # at once, so that no two threads get the same
        free = (
            paper is not None
            and paper.dtype == dtype
            and len(paper) >= n
            and sys.getrefcount(paper) == 2
        )
        return paper if free else np.empty(n, dtype)

    def __getstate__(self) -> dict:
        """A copy of the model, or one sent to another process, comes without that memory."""
        return {name: value for name, value in self.__dict__.items() if name != "paper"}


def _with_one(x: torch.Tensor) -> torch.Tensor:
    """(n, C + 1): the last is 1, so that a map without bias has one."""
    return F.pad(x, (0, 1), value=1.0)
