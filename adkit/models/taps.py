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
            changed = change(activation)
            if changed.shape != activation.shape:
                raise ValueError(
                    f"an edit must return the activation's shape {tuple(activation.shape)}, "
                    f"got {tuple(changed.shape)}"
                )
            activation = changed.to(activation.dtype)
        return activation


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
    taps = [
        (model.get_submodule(name), change)
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
