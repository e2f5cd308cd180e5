"""Named tensors as safetensors bytes, and back."""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

WRONG = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
"""What a config that is none may raise."""


def pack(tensors: dict[str, torch.Tensor]) -> bytes:
    """Return the tensors as bytes."""
    return save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})


def unpack(blob: bytes) -> dict[str, torch.Tensor]:
    """Return what `pack` was given, or raise ValueError."""
    try:
        return load(blob)
    except (SafetensorError, *WRONG) as error:
        raise ValueError(f"its tensors cannot be read: {error}") from None


def check(tensors: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Raise ValueError unless these are the tensors `wanted`, numbers apart."""
    for name in sorted(tensors.keys() ^ wanted.keys()):
        raise ValueError(f"tensor {name!r} is " + ("missing" if name in wanted else "none of its"))
    for name, value in sorted(tensors.items()):
        shape = wanted[name].shape
        if value.shape != shape or not value.is_floating_point():
            found = f"{value.dtype} {tuple(value.shape)}"
            raise ValueError(f"tensor {name!r} is {found}, not floats {tuple(shape)}")
