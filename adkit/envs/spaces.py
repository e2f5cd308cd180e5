"""Gymnasium's spaces as adkit has them: observations as one array, actions as numbers from 0."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from gymnasium import spaces

from adkit.protocols import OutOfSpace

MOST_ACTIONS = 256  # histories keep actions in bytes
MOST_VALUES = 256  # of a whole number that is given as a one-hot, or of a Box that is counted
MOST_COORDINATES = 1024  # of an EnvSpec
REAL = np.finfo(np.float32).max  # the greatest number that is not infinite
READ = "Discrete, MultiDiscrete, MultiBinary, Box, and Tuple and Dict of these"


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

    @property
    def sizes(self) -> list[int]:
        """How many numbers each value has in a vector: a one-hot for small whole numbers."""
        counts = (self.high - self.low + 1).tolist() if self.kind == "counted" else []
        return [n if n <= MOST_VALUES else 1 for n in counts] or [1] * len(self.low)

    def __str__(self) -> str:
        return "observation" + "".join(f"[{key!r}]" for key in self.path)


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
            pairs = zip(widest, other, strict=True)
            ends = [(np.minimum(a.low, b.low), np.maximum(a.high, b.high)) for a, b in pairs]
            both = zip(widest, ends, strict=True)
            widest = tuple(replace(leaf, low=low, high=high) for leaf, (low, high) in both)
        if not sum(len(leaf.low) for leaf in widest):
            raise ValueError(f"{name} has observations {given[0]}, which hold nothing")
        found = Observations(widest)
        if len(found.fields.get("cardinality", ())) > MOST_COORDINATES:
            raise ValueError(
                f"{name} has observations {given[0]}, of more than {MOST_COORDINATES} whole numbers"
                "; wrap the world with gymnasium.wrappers.TransformObservation to give floats"
            )
        return found

    @cached_property
    def kind(self) -> str:
        """ "counted", "bytes", "real" (one leaf or several) or "mixed"."""
        kinds = {leaf.kind for leaf in self.leaves if len(leaf.low)}
        alone = len(kinds) == 1 and ("bytes" not in kinds or len(self.leaves) == 1)
        return kinds.pop() if alone else "mixed"

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The fields of the EnvSpec that say what observations are."""
        if self.kind == "counted":
            return {"cardinality": tuple((self._high - self._low + 1).tolist())}
        alone = len(self.leaves) == 1 and self.kind != "mixed"
        shape = self.leaves[0].shape or (1,)
        if not alone:
            shape = (sum(sum(leaf.sizes) for leaf in self.leaves),)
        return {"shape": shape} | ({"dtype": "uint8"} if self.kind == "bytes" else {})

    @cached_property
    def _low(self) -> np.ndarray:
        return np.concatenate([leaf.low for leaf in self.leaves])

    @cached_property
    def _high(self) -> np.ndarray:
        return np.concatenate([leaf.high for leaf in self.leaves])

    @cached_property
    def _columns(self) -> list[tuple[Leaf, slice]]:
        ends = np.cumsum([len(leaf.low) for leaf in self.leaves]).tolist()
        return [(leaf, slice(e - len(leaf.low), e)) for leaf, e in zip(self.leaves, ends)]  # noqa: B905

    def read(self, raw: Sequence) -> np.ndarray:
        """Return N observations of worlds as (N, *obs_shape); OutOfSpace names the wrong one."""
        kinds = {"counted": np.int64, "bytes": np.uint8}
        values = np.empty((len(raw), len(self._low)), kinds.get(self.kind, np.float32))
        with np.errstate(over="ignore"):
            for row, one in enumerate(raw):
                for leaf, at in self._columns:
                    values[row, at] = _array(row, leaf, one)
        inside = (values >= self._low) & (values <= self._high)  # NaN is not
        if not inside.all():
            row, at = np.argwhere(~inside)[0]
            leaf = next(leaf for leaf, columns in self._columns if at < columns.stop)
            raise OutOfSpace(
                row,
                f"{leaf} must be {self._low[at]} to {self._high[at]}, as its space says (wider: "
                f"gymnasium.wrappers.TransformObservation), got {values[row, at]}",
            )
        if self.kind == "counted":
            return values - self._low
        if self.kind == "mixed":
            parts = [self._written(leaf, values[:, at]) for leaf, at in self._columns]
            values = np.concatenate(parts, axis=1)
        return values.reshape(len(raw), *self.fields["shape"])

    @staticmethod
    def _written(leaf: Leaf, values: np.ndarray) -> np.ndarray:
        """Return a leaf's values (N, size) as they stand in a real vector (N, sum(sizes))."""
        if leaf.kind != "counted":
            return values / np.float32(255) if leaf.kind == "bytes" else values
        columns = [
            values[:, [i]] == np.arange(n) + leaf.low[i] if n > 1 else values[:, [i]]
            for i, n in enumerate(leaf.sizes)
        ]
        return np.concatenate(columns, axis=1).astype(np.float32)


KINDS = {"counted": "biu", "bytes": "u", "real": "biuf"}  # of dtypes


def _array(row: int, leaf: Leaf, raw: Any) -> np.ndarray:
    """Return a leaf of a raw observation, flat."""
    try:
        for key in leaf.path:
            raw = raw[key]
        part = np.asarray(raw)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise OutOfSpace(row, f"{leaf} is missing, or no array: {error!r}") from None
    if (
        part.shape != leaf.shape
        or part.dtype.kind not in KINDS[leaf.kind]
        or (leaf.kind == "bytes" and part.dtype != np.uint8)
    ):
        needs = {"counted": "whole numbers", "bytes": "uint8", "real": "numbers"}[leaf.kind]
        raise OutOfSpace(
            row,
            f"{leaf} must be {needs} of shape {leaf.shape}, as its space says, got {part.dtype} of "
            f"shape {part.shape}: {str(part)[:60]}",
        )
    return part.reshape(-1)


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
            "among fewer with gymnasium.wrappers.TransformAction, or give fewer bins"
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
        how = "they have no bounds: wrap the world with gymnasium.wrappers.TransformAction"
    raise ValueError(f"{name} has actions {space}; adkit needs Discrete ones: {how}")
