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

WRONG = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError),
    safetensors.SafetensorError,
)
"""What the content of a file that a stranger made may raise."""


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
        if not isinstance(spec, EnvSpec):
            raise ValueError(f"`spec` must be an EnvSpec, such as env.spec, got {spec!r:.100}")
        wrong = {name: size for name, size in config.items() if not hasattr(size, "__index__")}
        if wrong:
            raise ValueError(f"settings of a network are whole numbers, got {wrong}")
        self.spec, self.config = spec, {name: int(size) for name, size in config.items()}

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def size(self) -> int:
        """Return the bytes of the weights."""
        return sum(weight.nbytes for weight in self.state_dict().values())

    def check_spec(self, spec: EnvSpec) -> None:
        """Raise ValueError unless this network can act in environments of `spec`."""
        for name in self.reads:
            mine, theirs = getattr(self.spec, name), getattr(spec, name)
            if mine != theirs:
                raise ValueError(
                    f"this model was made for {self.spec.name} with {name}={mine}, but {spec.name} "
                    f"has {name}={theirs}; train a model for that environment"
                )

    def check_weights(self) -> None:
        """Raise ValueError unless all weights are float32 and finite."""
        for name, weight in self.named_parameters():
            if weight.dtype != torch.float32:
                kind = str(weight.dtype).removeprefix("torch.")
                raise ValueError(f"weights must be float32, but {name} is {kind}: model.float()")
            if not weight.isfinite().all():
                raise ValueError(f"weights of {name} are not finite; make a new model, or load one")

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write weights (safetensors) and a hashed manifest, atomically."""
        about = {"spec": asdict(self.spec), "config": self.config}
        files = {"weights.safetensors": pack_tensors(self.state_dict())}
        return store.save(path, self.kind, files, about, overwrite)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and verify a saved network."""

        def empty(about: dict) -> Self:
            with torch.device("meta"):  # no memory for sizes that the file does not hold
                return cls(EnvSpec(**about["spec"]), **cls.modern(about["config"]))

        try:
            at_most = lambda about: 2 * empty(about).size + 2**20
            files, about = store.load(path, cls.kind, at_most=at_most)
            network = empty(about)
            tensors = safetensors.torch.load(files["weights.safetensors"])
            network.load_state_dict(cls.modern(tensors), assign=True)
        except store.ArtefactError:
            raise
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
        return (
            f"{type(self).__name__}({store.shown(self.spec.name)}, {settings}): {size:,} parameters"
        )


class Linear(nn.Linear):
    """A linear map, without bias, that computes in its input's dtype."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight.to(x.dtype))


def norm(x: torch.Tensor) -> torch.Tensor:
    """Return the layer norm of x, without parameters; the linear map after it learns the scale."""
    return F.layer_norm(x, x.shape[-1:])


def offsets(sizes: tuple[int, ...]) -> torch.Tensor:
    """Return where each of several tables, of so many rows, begins in one that holds them all."""
    begin = [sum(sizes[:i]) for i in range(len(sizes))]
    return torch.tensor(begin, device="cpu")  # numbers, even while `load` takes no memory


def pack_tensors(tensors: dict[str, torch.Tensor]) -> bytes:
    """Return named tensors as bytes (safetensors)."""
    return safetensors.torch.save(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    )
