"""Parts of gridworlds: five moves between walls, and tasks that place things in cells."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from adkit import tables
from adkit.protocols import EnvSpec, Tasks

# no-op, left, right, up, down, as (dx, dy)
MOVES = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)])


def cells(size: int) -> np.ndarray:
    """Return (cells, 2) int16: every (x, y) of a size x size room, x-major."""
    return np.argwhere(np.ones((size, size))).astype(np.int16)


def number(cell: np.ndarray, size: int) -> np.ndarray:
    """Return the numbers (...) of cells (..., 2), x-major."""
    return np.asarray(cell).astype(int) @ (size, 1)


def with_orders(columns: dict[str, np.ndarray], permuted: bool) -> Tasks:
    """Return tasks from columns; with `permuted`, each under all 120 orders of the actions."""
    if not permuted:
        return Tasks(columns)
    orders = np.array(list(permutations(range(len(MOVES)))), np.int16)
    n = len(next(iter(columns.values())))
    repeated = {name: values.repeat(len(orders), 0) for name, values in columns.items()}
    return Tasks(repeated | {"actions": np.tile(orders, (n, 1))})


def pick(tasks: Tasks, **values) -> Tasks:
    """Return the tasks that have these values in their columns."""
    equal = [(tasks[name] == np.asarray(value)).all(1) for name, value in values.items()]
    return tasks[np.logical_and.reduce(equal)]


def reached(size: int, tasks: Tasks, permuted: bool) -> np.ndarray:
    """Return (n, cells, 5): the number of the cell to which each action leads."""
    led = number((cells(size)[:, None] + MOVES).clip(0, size - 1), size)  # (cells, 5)
    order = tasks["actions"].astype(int) if permuted else np.tile(range(5), (len(tasks), 1))
    return led[:, order].swapaxes(0, 1)


def start(size: int, where: str) -> np.ndarray:
    """Return (cells,) probabilities of the first cell, for "random" or "centre"."""
    if where == "random":
        return np.full(size**2, 1 / size**2)
    return (cells(size) == size // 2).all(1).astype(float)


def search(spec: EnvSpec, size: int) -> tables.Tables:
    """Return the tables of a search: a task for each cell, where a reward of 1 ends the episode."""
    led = reached(size, Tasks({"of": np.zeros(1)}), permuted=False)
    found = led == np.arange(size**2)[:, None, None]
    led, found = led[..., None], found[..., None]
    return tables.tables(spec, led, found, cells(size), start(size, "random"), terminated=found)


def check(tasks: Tasks, things: tuple[str, ...], size: int, permuted: bool) -> None:
    """Raise ValueError unless everything lies in the room and every action order is one."""
    for name in things:
        at = tasks[name]
        pairs = at.shape[1:] == (2,)
        wrong = at[((at < 0) | (at >= size)).any(1)] if pairs else at
        if len(wrong):
            got = wrong[0].tolist()
            raise ValueError(f"`{name}` must be (x, y) with 0 <= x, y < {size}, got {got}")
        if (parts := at[(at != np.floor(at)).any(1)]).size:
            raise ValueError(f"`{name}` must be a cell, whole numbers, got {parts[0].tolist()}")
    if permuted and (np.sort(tasks["actions"], axis=-1) != np.arange(len(MOVES))).any():
        raise ValueError("`actions` must be an order of 0, 1, 2, 3, 4, such as (0, 2, 1, 4, 3)")
