"""Named tensors as safetensors bytes, and back into a network: nothing is allocated before names and shapes agree."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from adkit.artefacts import ArtefactError

Network = TypeVar("Network", bound=nn.Module)
WRONG = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RuntimeError,
)  # what a config that is none may raise


def pack(tensors: dict[str, torch.Tensor]) -> bytes:
    return save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})


def fingerprint(network: nn.Module, *arrays: np.ndarray) -> str:
    """A hash of the weights, and of arrays beside them; ValueError while `edit` changes what the network does with them."""
    if edited := sorted(name for name, part in network.named_modules() if part._forward_hooks):
        raise ValueError(
            f"the model is being edited at {', '.join(edited)}, which no file and no other process would be told; collect without "
            "out=, and with no executor but threads."
        )
    digest = hashlib.sha256()
    for values in network.state_dict().values():
        digest.update(values.cpu().contiguous().view(torch.uint8).numpy())
    for values in arrays:
        digest.update(np.ascontiguousarray(values))
    return digest.hexdigest()


def unpack(blob: bytes) -> dict[str, torch.Tensor]:
    """What `pack` made, or ValueError."""
    try:
        return load(blob)
    except (SafetensorError, *WRONG) as error:
        raise ValueError(f"its tensors cannot be read: {error}") from None


def check(tensors: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Raise ValueError unless these are the tensors `wanted`, numbers apart."""
    for name in sorted(tensors.keys() ^ wanted.keys()):
        raise ValueError(f"tensor {name!r} is " + ("missing" if name in wanted else "none of its"))
    for name, value in sorted(tensors.items()):
        if value.shape != wanted[name].shape or not value.is_floating_point():
            raise ValueError(
                f"tensor {name!r} is {value.dtype} {tuple(value.shape)}, not floats {tuple(wanted[name].shape)}"
            )


def restore(path: str | Path, build: Callable[[], Network], files: dict[str, bytes]) -> Network:
    """The network that `build` makes, with the weights in `files`; ArtefactError if one does not fit the other."""
    try:
        tensors = unpack(files["weights.safetensors"])
        with torch.device("meta"):  # shapes without memory
            check(tensors, build().state_dict())
        network = build()
        network.load_state_dict(tensors)
    except WRONG as error:
        raise ArtefactError(f"{path} does not hold a complete network: {error}.") from None
    return network
