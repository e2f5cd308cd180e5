"""Every activation has a name: read it with `record`, change it inside a `with edit(...)` block.

A tap is a named identity in the model, such as "blocks.2.attn.pattern"; names take wildcards,
"blocks.*.resid".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import nn


class Tap(nn.Identity):
    """A named place in the model."""

    def __init__(self):
        super().__init__()
        self.edits: list[Callable[[torch.Tensor], torch.Tensor]] = []
        """Functions that see the activation and replace it now: if any, it is computed whole."""

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        for change in self.edits:
            activation = change(activation)
        return activation


def plain(model: nn.Module) -> nn.Module:
    """Return the model inside `torch.compile`'s, whose taps no edit would reach."""
    return getattr(model, "_orig_mod", model)


def names(model: nn.Module) -> list[str]:
    """Return the names of all taps of the model, in order of computation."""
    return [name for name, module in model.named_modules() if isinstance(module, Tap)]


def matching(model: nn.Module, pattern: str) -> list[str]:
    """Return the taps that a name or wildcard matches, or raise ValueError listing all taps."""
    if found := [name for name in names(model) if fnmatchcase(name, pattern)]:
        return found
    raise ValueError(f"no tap matches {pattern!r}; the model has {', '.join(names(model))}")


@contextmanager
def edit(
    model: nn.Module, changes: Mapping[str, Callable[[torch.Tensor], torch.Tensor]]
) -> Iterator[None]:
    """Within the block, pass the named activations through functions: `{"blocks.2.resid": erase}`.

    A function gets the activation (batch, ..., position, features) and returns the same shape;
    every way to run the model, cached or not, sees the change. Unknown names change nothing.
    """
    model = plain(model)
    taps = [
        (model.get_submodule(name), _checked(name, change))
        for pattern, change in changes.items()
        for name in matching(model, pattern)
    ]
    for tap, change in taps:
        tap.edits.append(change)
    try:
        yield
    finally:
        for tap, change in taps:
            tap.edits.remove(change)


def _checked(name: str, change: Callable) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the change; it raises ValueError where it does not return such an activation."""

    def checked(activation: torch.Tensor) -> torch.Tensor:
        changed = change(activation)
        if getattr(changed, "shape", None) != activation.shape:
            got = tuple(changed.shape) if hasattr(changed, "shape") else changed
            raise ValueError(
                f"an edit of {name} must return the activation's shape {tuple(activation.shape)}, "
                f"got {got}"
            )
        return changed.to(activation.dtype)

    return checked
