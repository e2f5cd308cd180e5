"""Gymnasium's spaces as adkit has them: observations as one array, actions as numbers from 0."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from operator import getitem
from typing import Any

import numpy as np
from gymnasium import spaces

from adkit.protocols import OutOfSpace

MOST_ACTIONS = 256  # histories keep actions in bytes
MOST_VALUES = 256  # of a whole number that is given as a one-hot, or of a Box that is counted
MOST_COORDINATES = 1024  # of an EnvSpec
REAL = np.finfo(np.float32).max  # the greatest number that is not infinite
READ = "Discrete, MultiDiscrete, MultiBinary, Box, and Tuple and Dict of these"
# what a leaf may be given as, how that is called, and what it is kept in
KINDS = {
    "counted": ("biu", "whole numbers", np.int64),
    "bytes": ("u", "uint8", np.uint8),
    "real": ("biuf", "numbers", np.float32),
}


@dataclass(frozen=True, eq=False)
class Leaf:
    """A part of an observation that is one array."""

    path: tuple[str | int, ...]
    """Keys and indices that lead to it."""
    shape: tuple[int, ...]
    kind: str
    """"counted": whole numbers that become coordinates; "bytes": a picture; "real"."""
    low: np.ndarray
    high: np.ndarray
    """(size,) the least and greatest values."""

    def __str__(self) -> str:
        return "observation" + "".join(f"[{key!r}]" for key in self.path)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each whole number has."""
        return tuple((self.high - self.low + 1).tolist()) if self.kind == "counted" else ()

    def read(self, raw: Sequence) -> np.ndarray:
        """Return the leaf of N observations, (N, size); OutOfSpace names the wrong one."""
        allowed, _, dtype = KINDS[self.kind]
        try:  # all at once; else one by one, to find the wrong one
            parts = [reduce(getitem, self.path, one) for one in raw] if self.path else raw
            values = np.asarray(parts)
        except (KeyError, IndexError, TypeError, ValueError):
            values = np.zeros(0, object)
        right = values.shape == (len(raw), *self.shape) and values.dtype.kind in allowed
        if not right or dtype is np.uint8 != values.dtype:
            values = np.stack([self._part(row, one) for row, one in enumerate(raw)])
        values = values.reshape(len(raw), -1).astype(dtype, copy=False)
        inside = (values >= self.low) & (values <= self.high)  # NaN is not
        if not inside.all():
            row, at = np.argwhere(~inside)[0]
            need = f"{self.low[at]} to {self.high[at]}, as its space says (to widen it: "
            need += "gymnasium.wrappers.TransformObservation)"
            if not np.isfinite(values[row, at]):
                need = f"finite and {need}"
            raise OutOfSpace(row, f"{self} must be {need}, got {values[row, at]}")
        return values

    def _part(self, row: int, raw: Any) -> np.ndarray:
        """Return the leaf of one observation."""
        allowed, needed, dtype = KINDS[self.kind]
        try:
            part = np.asarray(reduce(getitem, self.path, raw))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise OutOfSpace(row, f"{self} is missing, or no array: {error!r}") from None
        right = part.shape == self.shape and part.dtype.kind in allowed
        if not right or dtype is np.uint8 != part.dtype:
            raise OutOfSpace(
                row,
                f"{self} must be {needed} of shape {self.shape}, as its space says, got "
                f"{part.dtype} of shape {part.shape}: {str(part)[:60]}",
            )
        return part.astype(dtype)

    def written(self, values: np.ndarray) -> np.ndarray:
        """Return values (N, size) as they stand in a real vector of leaves of several kinds."""
        if self.kind != "counted":
            return values / np.float32(255) if self.kind == "bytes" else values
        columns = [
            values[:, [i]] == self.low[i] + np.arange(n) if n <= MOST_VALUES else values[:, [i]]
            for i, n in enumerate(self.sizes)
        ]
        return np.concatenate(columns, axis=1).astype(np.float32)


def leaves(name: str, space: spaces.Space, path: tuple = ()) -> Iterator[Leaf]:
    """Yield the parts of an observation space; ValueError for what cannot be read."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces
        for key, part in parts.items() if isinstance(parts, dict) else enumerate(parts):
            yield from leaves(name, part, (*path, key))
    elif isinstance(space, spaces.Discrete):
        first = int(space.start)
        yield Leaf(path, (), "counted", np.array([first]), np.array([first + int(space.n) - 1]))
    elif isinstance(space, spaces.MultiDiscrete):
        first = space.start.ravel().astype(np.int64)
        yield Leaf(path, space.shape, "counted", first, first + space.nvec.ravel() - 1)
    elif isinstance(space, spaces.MultiBinary):
        first = np.zeros(math.prod(space.shape), np.int64)
        yield Leaf(path, space.shape, "counted", first, first + 1)
    elif isinstance(space, spaces.Box):
        low, high = space.low.ravel(), space.high.ravel()
        if space.dtype == np.uint8:
            yield Leaf(path, space.shape, "bytes", low, high)
        elif space.dtype.kind in "bi" and (high.astype(float) - low < MOST_VALUES).all():
            yield Leaf(path, space.shape, "counted", *(x.astype(np.int64) for x in (low, high)))
        else:
            real = (np.clip(x.astype(float), -REAL, REAL) for x in (low, high))
            yield Leaf(path, space.shape, "real", *(x.astype(np.float32) for x in real))
    else:
        where = "".join(f"[{key!r}]" for key in path)
        raise ValueError(
            f"{name} has observations{where} of {space}; adkit reads {READ}. Wrap the world: "
            "wrappers=[...] with gymnasium.wrappers.FilterObservation to leave a part out, or "
            "TransformObservation to write it as numbers"
        )


@dataclass(frozen=True, eq=False)
class Observations:
    """Observations of worlds as one array.

    Whole numbers only (Discrete, MultiDiscrete, MultiBinary, Boxes of up to 256 integers): discrete
    coordinates, counted from 0. One Box: real numbers in its shape, or bytes if it is uint8. All
    else: one real vector, in which whole numbers are one-hot (plain above 256) and bytes in [0, 1].
    """

    leaves: tuple[Leaf, ...]
    fields: dict[str, Any]
    """The fields of the EnvSpec that say what observations are."""

    @staticmethod
    def of(name: str, given: Sequence[spaces.Space]) -> Observations:
        """Return the widest of the tasks' observation spaces; ValueError if their kinds differ."""
        widest, *others = (tuple(leaves(name, space)) for space in given)
        same = lambda found: [(leaf.path, leaf.shape, leaf.kind) for leaf in found]
        for i, other in enumerate(others):
            if same(other) != same(widest):
                raise ValueError(
                    f"the tasks of {name} have different observation spaces, {given[0]} and "
                    f"{given[i + 1]}; wrap the world so that all tasks have one space"
                )
            widest = tuple(
                replace(a, low=np.minimum(a.low, b.low), high=np.maximum(a.high, b.high))
                for a, b in zip(widest, other, strict=True)
            )
        if not (n := sum(len(leaf.low) for leaf in widest)):
            raise ValueError(f"{name} has observations {given[0]}, which hold nothing")
        if all(leaf.kind == "counted" for leaf in widest):
            if n > MOST_COORDINATES:
                raise ValueError(
                    f"{name} has observations {given[0]}, of more than {MOST_COORDINATES} whole "
                    "numbers; wrap it with gymnasium.wrappers.TransformObservation to give floats"
                )
            sizes = sum((leaf.sizes for leaf in widest), ())
            return Observations(widest, {"cardinality": sizes})
        if len(widest) == 1:
            dtype = {"dtype": "uint8"} if widest[0].kind == "bytes" else {}
            return Observations(widest, {"shape": widest[0].shape or (1,)} | dtype)
        least = [leaf.written(leaf.low[None]) for leaf in widest]
        return Observations(widest, {"shape": (sum(part.size for part in least),)})

    def read(self, raw: Sequence) -> np.ndarray:
        """Return N observations of worlds as (N, *obs_shape); OutOfSpace names the wrong one."""
        with np.errstate(over="ignore"):
            parts = [leaf.read(raw) for leaf in self.leaves]
        both = zip(self.leaves, parts, strict=True)
        if "cardinality" in self.fields:
            return np.concatenate([values - leaf.low for leaf, values in both], axis=1)
        if len(parts) > 1:
            parts = [leaf.written(values) for leaf, values in both]
        return np.concatenate(parts, axis=1).reshape(len(raw), *self.fields["shape"])


# ---- actions ----


def actions(name: str, space: spaces.Space, bins: int | None) -> tuple:
    """Return the world's own action for each of adkit's, 0 to A - 1.

    MultiDiscrete and MultiBinary: every combination. A Box has `bins` values along each of its
    numbers, from the least to the greatest, and a warning says so.
    """
    parts = _values(name, space, bins)
    if not 2 <= (n := math.prod(map(len, parts))) <= MOST_ACTIONS:
        raise ValueError(
            f"{name} has actions {space}, {n:,} in all; adkit keeps 2 to {MOST_ACTIONS}: choose "
            f"among {'more' if n < 2 else 'fewer'} with gymnasium.wrappers.TransformAction"
            + (", or give fewer bins" if bins else "")
        )
    if isinstance(space, spaces.Discrete):
        return tuple(parts[0])
    return tuple(np.array(one, space.dtype).reshape(space.shape) for one in product(*parts))


def _values(name: str, space: spaces.Space, bins: int | None) -> list[Sequence]:
    """Return the values that each number of an action can have."""
    if isinstance(space, spaces.Discrete):
        return [range(int(space.start), int(space.start) + int(space.n))]
    if isinstance(space, spaces.MultiDiscrete):
        counts = zip(space.start.ravel().tolist(), space.nvec.ravel().tolist(), strict=True)
        return [range(first, first + n) for first, n in counts]
    if isinstance(space, spaces.MultiBinary):
        return [range(2)] * math.prod(space.shape)
    if isinstance(space, spaces.Box) and bins is not None and space.is_bounded():
        warnings.warn(
            f"{name} has actions {space}: only {bins} values of each number can be taken, evenly "
            "spaced from the least to the greatest; what lies between is lost",
            stacklevel=5,
        )
        ends = zip(space.low.ravel().tolist(), space.high.ravel().tolist(), strict=True)
        return [np.unique(np.linspace(*both, bins).astype(space.dtype)).tolist() for both in ends]
    how = "give bins=5, say, to choose among as many values of each number"
    if not isinstance(space, spaces.Box):
        how = "wrap the world with gymnasium.wrappers.TransformAction"
    elif not space.is_bounded():
        how = "this Box has no bounds: wrap the world with gymnasium.wrappers.TransformAction"
    raise ValueError(f"{name} has actions {space}; adkit needs Discrete ones: {how}")
