"""Base class of the trained networks: made for an `EnvSpec`, saved with their settings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import ClassVar, Self

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F

from adkit import store
from adkit.protocols import EnvSpec


class Network(nn.Module):
    """A network made for the environments of one `spec`; `config` are its other settings."""

    kind: ClassVar[str]
    """Of the saved folder."""
    reads: ClassVar[tuple[str, ...]]
    """Fields of the spec that must be equal wherever the network acts."""
    renamed: ClassVar[dict[str, str]] = {}
    """Settings and tensors whose names have changed since version 0.1."""

    def __init__(self, spec: EnvSpec, config: dict[str, int]):
        super().__init__()
        self.spec, self.config = spec, config

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def check_spec(self, spec: EnvSpec) -> None:
        """Raise ValueError unless this network can act in environments of `spec`."""
        for name in self.reads:
            mine, theirs = getattr(self.spec, name), getattr(spec, name)
            if mine != theirs:
                raise ValueError(
                    f"this model was made for {self.spec.name} with {name}={mine}, but {spec.name} "
                    f"has {name}={theirs}; train a model for that environment"
                )

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write weights (safetensors) and a hashed manifest, atomically."""
        about = {"spec": asdict(self.spec), "config": self.config}
        files = {"weights.safetensors": pack_tensors(self.state_dict())}
        return store.save(path, self.kind, files, about, overwrite)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and verify a saved network."""
        files, about = store.load(path, cls.kind)
        build = lambda: cls(EnvSpec(**about["spec"]), **cls.modern(about["config"]))
        try:
            tensors = cls.modern(unpack_tensors(files["weights.safetensors"]))
            with torch.device("meta"):  # shapes without memory
                check_tensors(tensors, build().state_dict())
            network = build()
            network.load_state_dict(tensors)
        except WRONG as error:
            raise store.ArtefactError(f"{path} holds no complete network: {error}") from None
        return network

    @classmethod
    def modern(cls, saved: dict) -> dict:
        """Return saved settings or tensors under today's names."""
        return {cls.renamed.get(name, name): value for name, value in saved.items()}

    def __repr__(self) -> str:
        size = sum(parameter.numel() for parameter in self.parameters())
        settings = ", ".join(f"{name}={value}" for name, value in self.config.items())
        return f"{type(self).__name__}({self.spec.name}, {settings}): {size:,} parameters"


class Linear(nn.Linear):
    """A linear map, without bias, that computes in its input's dtype."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight.to(x.dtype))


def norm(x: torch.Tensor) -> torch.Tensor:
    """Return the layer norm of x, without parameters; the linear map after it learns the scale."""
    return F.layer_norm(x, x.shape[-1:])


# ---- named tensors as bytes ----

WRONG = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
"""What a config that is none may raise."""


def pack_tensors(tensors: dict[str, torch.Tensor]) -> bytes:
    """Return the tensors as bytes."""
    return safetensors.torch.save(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    )


def unpack_tensors(blob: bytes) -> dict[str, torch.Tensor]:
    """Return what `pack_tensors` was given, or raise ValueError."""
    try:
        return safetensors.torch.load(blob)
    except (safetensors.SafetensorError, *WRONG) as error:
        raise ValueError(f"its tensors cannot be read: {error}") from None


def check_tensors(tensors: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Raise ValueError unless these are the tensors `wanted`, numbers apart."""
    for name in sorted(tensors.keys() ^ wanted.keys()):
        raise ValueError(f"tensor {name!r} is " + ("missing" if name in wanted else "none of its"))
    for name, value in sorted(tensors.items()):
        shape = wanted[name].shape
        if value.shape != shape or not value.is_floating_point():
            found = f"{value.dtype} {tuple(value.shape)}"
            raise ValueError(f"tensor {name!r} is {found}, not floats {tuple(shape)}")
