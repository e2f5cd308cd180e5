"""A family of tasks: columns of numbers, one row per task, sliced and indexed like an array."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Tasks:
    """Tasks as values: named columns, one row per task. They slice and index like an array."""

    columns: Mapping[str, np.ndarray]
    """Each (n, ...); `goal` is (n, 2) in a room."""
    ids: np.ndarray = field(default=None)
    """(n,) the task's number in its family, kept through slicing: the address of its randomness."""

    def __post_init__(self):
        if not isinstance(self.columns, Mapping):
            raise ValueError(
                "tasks are named columns, one row per task, such as Tasks({'goal': [(0, 1), (2, "
                f"3)]}}), got a {type(self.columns).__name__}"
            )
        columns = {name: np.atleast_1d(values) for name, values in self.columns.items()}
        sizes = {name: len(values) for name, values in columns.items()}
        if not columns or len(set(sizes.values())) != 1:
            raise ValueError(
                f"tasks need one column or more, each with one row per task, got sizes {sizes}"
            )
        n = next(iter(sizes.values()))
        ids = np.arange(n) if self.ids is None else np.asarray(self.ids)
        if ids.shape != (n,) or (n and ids.dtype.kind not in "iu"):
            raise ValueError(f"`ids` must be one whole number per task, got {str(ids)[:60]}")
        ids = ids.astype(np.int64)
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "ids", ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows) -> np.ndarray | Tasks:
        """Return a column by name, or tasks by integer, slice, mask or index array."""
        if isinstance(rows, str):
            if rows not in self.columns:
                raise ValueError(f"no column {rows!r}; the columns are {sorted(self.columns)}")
            return self.columns[rows]
        rows = np.atleast_1d(np.arange(len(self))[rows])
        return Tasks({name: values[rows] for name, values in self.columns.items()}, self.ids[rows])

    def __iter__(self) -> Iterator[Tasks]:
        return (self[i] for i in range(len(self)))

    def unique(self) -> tuple[Tasks, np.ndarray]:
        """Return the distinct tasks, and the row (n,) among them of each task."""
        columns = [values.tolist() for values in self.columns.values()]
        text = [repr(list(row)) for row in zip(*columns, strict=True)]
        _, first, row = np.unique(text, return_index=True, return_inverse=True)
        return self[first], row

    def replace(self, **columns) -> Tasks:
        """Return the same tasks with some columns changed: a goal moves in mid-lifetime."""
        return Tasks({**self.columns, **columns}, self.ids)

    def split(self, fraction: float, seed: int = 0, by: Sequence[str] = ()) -> tuple[Tasks, Tasks]:
        """Return a random, disjoint pair (train, test), `fraction` of the tasks in the first.

        Both keep the family's order. With `by`, values are held out in place of tasks:
        `by=("key", "door")` keeps a `fraction` of the values in these columns for training. The
        training tasks have only such values, the test tasks only others; mixed tasks are left out.
        """
        rng = np.random.default_rng(seed)
        if by:
            values = [self[name].reshape(len(self), -1) for name in by]
            unique, of = np.unique(np.concatenate(values), axis=0, return_inverse=True)
            kept = np.zeros(len(unique), bool)
            kept[rng.permutation(len(unique))[: round(fraction * len(unique))]] = True
            inside = kept[of.reshape(len(by), len(self))]
            train, test = self[inside.all(0)], self[~inside.any(0)]
        else:
            values, of = np.unique(self._equals(), return_inverse=True)  # equal tasks stay together
            order, n = rng.permutation(len(values)), max(0, round(fraction * len(values)))
            inside = np.isin(of, order[:n])
            train, test = self[inside], self[~inside]
        if not len(train) or not len(test):
            n = len(np.unique(self._equals()))
            few = "" if n == len(self) else f" ({n} of them distinct)"
            raise ValueError(
                f"split({fraction}) of {len(self)} tasks{few} leaves {len(train)} and {len(test)}, "
                f"and both sides need one; try {1 / n:.2g} to {1 - 1 / n:.2g}"
            )
        return train, test

    def shared(self, other: Tasks) -> list[dict]:
        """Return the distinct tasks of `other` whose values are those of one of ours."""
        names = sorted(self.columns)
        values = lambda tasks: [
            repr([tasks[name][row].tolist() for name in names]) for row in range(len(tasks))
        ]
        if names != sorted(other.columns):
            return []
        mine, theirs = set(values(self)), dict(zip(values(other), range(len(other)), strict=True))
        rows = [row for text, row in theirs.items() if text in mine]
        return [{name: other[name][row].tolist() for name in names} for row in rows]

    def _equals(self) -> np.ndarray:
        """Return (n,) the first task that each task is equal to."""
        of = np.zeros(len(self), np.int64)
        for values in self.columns.values():
            for part in values.reshape(len(self), math.prod(values.shape[1:])).T:
                _, code = np.unique(part, return_inverse=True)
                _, of = np.unique(of * len(self) + code, return_inverse=True)
        _, first = np.unique(of, return_index=True)
        return first[of]

    @property
    def frame(self) -> pd.DataFrame:
        """The tasks as a pandas frame indexed by task id; vector columns hold tuples."""
        import pandas as pd

        as_cell = {
            name: [_tuple(row) for row in values.tolist()] if values.ndim > 1 else values
            for name, values in self.columns.items()
        }
        return pd.DataFrame(as_cell, index=pd.Index(self.ids, name="task"))

    @staticmethod
    def of(tasks: Tasks | pd.DataFrame) -> Tasks:
        """Return tasks, given tasks or the frame that `Histories.tasks` shows."""
        if isinstance(tasks, Tasks):
            return tasks
        if hasattr(tasks, "columns") and hasattr(tasks, "index"):
            columns = {name: np.array(tasks[name].tolist()) for name in tasks.columns}
            return Tasks(columns, tasks.index.to_numpy())
        raise ValueError(
            f"`tasks` must be env.tasks(), a part of it or a task frame, got {type(tasks).__name__}"
            "; a world's own tasks() must return ad.Tasks({...})"
        )

    def __repr__(self) -> str:
        return f"Tasks({len(self)} x {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        return self.frame.to_html(max_rows=10)


def _tuple(value):
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
