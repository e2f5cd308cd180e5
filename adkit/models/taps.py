"""Every activation has a name: read it with `record`, change it inside a `with edit(...)` block.

A tap is a named `nn.Identity` in the model, such as "blocks.2.attn.pattern"; names take wildcards,
"blocks.*.resid".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import nn

from adkit import checks
from adkit.histories import Histories
from adkit.models.tokens import Tokens, kept, pack, slots, tokenize, window_starts

Change = Callable[[torch.Tensor, Callable[[np.ndarray], torch.Tensor]], torch.Tensor]


class Tap(nn.Identity):
    """A named place in the model."""

    observers = 0
    """How many blocks record or edit the activation here now: if any, it is computed whole."""


def names(model: nn.Module) -> list[str]:
    """Return the names of all taps of the model, in order of computation."""
    return [name for name, module in model.named_modules() if isinstance(module, Tap)]


def matching(model: nn.Module, pattern: str) -> list[str]:
    """Return the taps that a name or wildcard matches, or raise ValueError listing all taps."""
    if found := [name for name in names(model) if fnmatchcase(name, pattern)]:
        return found
    raise ValueError(f"no tap matches {pattern!r}; the model has {', '.join(names(model))}")


@contextmanager
def observe(
    model: nn.Module, functions: Mapping[str, Callable[[torch.Tensor], torch.Tensor | None]]
) -> Iterator[None]:
    """Within the block, call functions on the activations of taps: `{name or wildcard: function}`.

    What the function returns replaces the activation, unless it is None.
    """
    taps = [
        (model.get_submodule(name), function)
        for pattern, function in functions.items()
        for name in matching(model, pattern)
    ]
    handles = [
        tap.register_forward_hook(lambda module, inputs, output, f=function: f(output))
        for tap, function in taps
    ]
    for tap, _ in taps:
        tap.observers += 1
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for tap, _ in taps:
            tap.observers -= 1


@contextmanager
def edit(
    model: nn.Module, changes: Mapping[str, Callable[[torch.Tensor], torch.Tensor]]
) -> Iterator[None]:
    """Within the block, pass the named activations through functions: `{"blocks.2.resid": erase}`.

    A function gets the activation (batch, ..., position, features) and returns the same shape;
    every way to run the model, cached or not, sees the change. Unknown names change nothing.
    """

    def checked(change):
        def apply(activation: torch.Tensor) -> torch.Tensor:
            changed = change(activation)
            if changed.shape != activation.shape:
                raise ValueError(
                    f"an edit must return the activation's shape {tuple(activation.shape)}, "
                    f"got {tuple(changed.shape)}"
                )
            return changed.to(activation.dtype)

        return apply

    with observe(model, {pattern: checked(change) for pattern, change in changes.items()}):
        yield


@dataclass(frozen=True)
class Recording:
    """Activations of N lifetimes, each token's in the very window it was acted in."""

    values: dict[str, np.ndarray]
    """Per tap (N, E, H + 1, ...): one entry per token. Patterns are (N, E, H + 1, heads, S) over the window's slots."""
    task: np.ndarray
    """(N,) the task each lifetime lives on."""
    window_start: np.ndarray
    """(E,) first episode of the window that each episode was computed in."""

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.values:
            raise ValueError(f"{name!r} was not recorded; there are {', '.join(self.values)}.")
        return self.values[name]

    @property
    def array(self) -> np.ndarray:
        """The only tap's values, when one was asked for."""
        if len(self.values) != 1:
            raise ValueError(
                f"{len(self.values)} taps were recorded; choose one of {', '.join(self.values)}."
            )
        return next(iter(self.values.values()))


@torch.inference_mode()
def record(
    model: nn.Module,
    histories: Histories,
    *patterns: str,
    keep: int | None = None,
    batch: int = 16,
    changes: Mapping[str, Change] | None = None,
    resume: Recording | None = None,
) -> Recording:
    """Run the model over histories as `InContext` would have, and keep the named activations.

    `keep` is how many episodes survive when the window is full, as in `InContext`; `batch` lifetimes run at once.
    `changes` edit as `edit` does, but know where they are: a function gets the activation (b, S, ...) and `cut`, which
    takes any array (N, E, H + 1, ...) to its part (b, S, ...) that stands at those tokens, as a tensor beside the activation.

    `resume` is a recording of the same histories at one tap that `resumable` names: the model goes on from there, which is what
    many changes at one place should do. Only that tap and what comes after it is seen.
    """
    wanted = [name for pattern in patterns or ("logits",) for name in matching(model, pattern)]
    model.check_spec(checks.histories(histories).spec)
    if batch < 1:
        raise ValueError(f"batch={batch}; at least one lifetime runs at a time. Try batch=16.")
    window, per = model.window, slots(model.spec)
    starts = window_starts(histories.n_episodes, window, kept(window, keep))
    parts: dict[str, list] = {name: [] for name in wanted}
    here = [
        np.arange(0),
        slice(0),
        None,
    ]  # lifetimes and episodes of the window that is being run, and its tokens' slots if packed

    def cut(values: np.ndarray) -> torch.Tensor:
        if values.shape[:3] != (len(histories), histories.n_episodes, per):
            raise ValueError(
                f"an array of shape {values.shape} to cut; give {(len(histories), histories.n_episodes, per)} and more."
            )
        values = torch.as_tensor(values[here[0], here[1]], device=model.device).flatten(1, 2)
        return values if here[2] is None else values[torch.arange(len(values))[:, None], here[2]]

    touched = {*wanted, *(name for pattern in changes or {} for name in matching(model, pattern))}
    done, stream = (None, None) if resume is None else _resumed(model, histories, resume, touched)
    placed = {
        name: lambda activation, change=change: change(activation, cut)
        for name, change in (changes or {}).items()
    }
    with edit(model, placed), _seeing(model, wanted) as seen:
        for lifetimes in np.array_split(np.arange(len(histories)), -(-len(histories) // batch)):
            rows: dict[str, list] = {name: [] for name in wanted}
            for start in np.unique(starts):
                mine = np.flatnonzero(starts == start)
                windows = histories.windows(
                    lifetimes, np.full(len(lifetimes), start), mine[-1] + 1 - start
                )
                tokens = tokenize(model.spec, windows)
                size = tokens.previous_action.shape[1]
                if not any(map(_is_pattern, touched)):
                    tokens = pack(tokens)
                here[:] = lifetimes, slice(start, mine[-1] + 1), tokens.slot
                model(
                    tokens.to(model.device),
                    **({} if resume is None else {"after": (done, cut(stream))}),
                )
                for name in wanted:
                    by_slot = _by_slot(_by_token(seen[name], name, window * per), tokens, size)
                    rows[name].append(by_slot[:, -len(mine) * per :])
            for name in wanted:
                parts[name].append(np.concatenate(rows[name], axis=1))
    shape = len(histories), histories.n_episodes, per
    values = {
        name: np.concatenate(part).reshape(*shape, *part[0].shape[2:])
        for name, part in parts.items()
    }
    return Recording(values, histories.task, starts)


def gather(
    model: nn.Module, histories: Histories, at: np.ndarray, *patterns: str, batch: int = 16
) -> dict[str, np.ndarray]:
    """Per tap, the activations (n, D) of the tokens that `at` (N, E, H) or (N, E, H + 1) bool names, in the order of np.nonzero.

    As `record` has them, but the others are never kept: 400 lives of 60 days are 200 MB per tap, and decisions of interest few.
    """
    decisions = checks.histories(histories).arrays["action"].shape
    if (
        np.shape(at) not in (decisions, (*decisions[:2], decisions[2] + 1))
        or np.asarray(at).dtype != bool
    ):
        raise ValueError(
            f"at is {np.asarray(at).dtype} {np.shape(at)}; choose decisions with bool {decisions}, or tokens."
        )
    parts = []
    for rows in np.array_split(np.arange(len(histories)), -(-len(histories) // max(batch, 1))):
        seen = record(model, histories[rows], *patterns, batch=batch).values
        parts.append({name: values[:, :, : at.shape[2]][at[rows]] for name, values in seen.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def resumable(model: nn.Module, histories: Histories) -> list[str]:
    """The taps at which `record(resume=)` can go on: the stream between blocks, if one window holds the whole histories."""
    taps, one = names(model), checks.histories(histories).n_episodes <= model.window
    return [
        name
        for name in taps
        if one and (name == "embed" or re.fullmatch(r"blocks\.\d+\.resid", name))
    ]


def head_start(
    model: nn.Module, histories: Histories, *patterns: str, batch: int = 16
) -> Recording | None:
    """What runs that differ at these taps alone can resume from; None where nothing can be."""
    taps = {name for pattern in patterns for name in matching(model, pattern)}
    if not taps:
        raise ValueError(f"no tap was named; name those that differ, such as {names(model)[-2]!r}.")
    first = next(name for name in names(model) if name in taps)
    return (
        record(model, histories, first, batch=batch)
        if first in resumable(model, histories)
        else None
    )


def _resumed(
    model: nn.Module, histories: Histories, resume: Recording, touched: set[str]
) -> tuple[int, np.ndarray]:
    """How many blocks are behind a recorded stream, and the stream."""
    (tap, stream), places = next(iter(resume.values.items())), resumable(model, histories)
    order = names(model)
    if len(resume.values) != 1 or tap not in places:
        raise ValueError(
            f"cannot resume from {', '.join(resume.values)}; record one of {', '.join(places) or 'none: E > window'}."
        )
    if before := sorted(name for name in touched if order.index(name) < order.index(tap)):
        raise ValueError(
            f"{', '.join(before)} come before {tap}, from which this run resumes; they are not computed again."
        )
    return places.index(tap), stream


@contextmanager
def _seeing(model: nn.Module, wanted: list[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Within the block, the wanted taps' last outputs, edits included."""
    seen: dict[str, torch.Tensor] = {}
    with observe(model, {name: lambda x, name=name: seen.update({name: x}) for name in wanted}):
        yield seen


def _is_pattern(name: str) -> bool:
    """Whether the tap has a slot of the window per column: such a window is not packed."""
    return name.endswith(("pattern", "scores"))


def _by_token(activation: torch.Tensor, name: str, width: int) -> np.ndarray:
    """Activations (N, tokens, ...); per-head ones move the head behind the token."""
    activation = activation.float()
    if activation.ndim == 4:
        activation = activation.transpose(1, 2)  # (N, S, heads, ...)
    if _is_pattern(name):
        activation = nn.functional.pad(activation, (0, width - activation.shape[-1]))
    return activation.cpu().numpy()


def _by_slot(values: np.ndarray, tokens: Tokens, n: int) -> np.ndarray:
    """Values of packed tokens (N, tokens, ...) at their slots (N, n, ...); slots without a token are 0."""
    if tokens.slot is None:
        return values
    placed = np.zeros((len(values), n, *values.shape[2:]), values.dtype)
    row, column = np.nonzero(tokens.valid)
    placed[row, tokens.slot[row, column]] = values[row, column]
    return placed
