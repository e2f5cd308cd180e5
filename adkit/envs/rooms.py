"""What gridworlds share: five moves between walls, and tasks that put things in cells."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from adkit import tables
from adkit.protocols import EnvSpec, Tasks

MOVES = np.array(
    [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
)  # no-op, left, right, up, down, as (dx, dy)


def cells(size: int) -> np.ndarray:
    """(cells, 2) int16: every (x, y) of a size x size room, x-major."""
    return np.argwhere(np.ones((size, size))).astype(np.int16)


def number(cell: np.ndarray, size: int) -> np.ndarray:
    """The number of cells (..., 2), x-major."""
    return np.asarray(cell).astype(int) @ (size, 1)


def with_orders(columns: dict[str, np.ndarray], permuted: bool) -> Tasks:
    """Tasks from columns; with `permuted`, each under all 120 orders of the five actions."""
    if not permuted:
        return Tasks(columns)
    orders = np.array(list(permutations(range(len(MOVES)))), np.int16)
    n = len(next(iter(columns.values())))
    repeated = {name: values.repeat(len(orders), 0) for name, values in columns.items()}
    return Tasks(repeated | {"actions": np.tile(orders, (n, 1))})


def pick(tasks: Tasks, **values) -> Tasks:
    """Those tasks that have these values in their columns."""
    return tasks[
        np.logical_and.reduce(
            [(tasks[name] == np.asarray(value)).all(1) for name, value in values.items()]
        )
    ]


def reached(size: int, tasks: Tasks, permuted: bool) -> np.ndarray:
    """(n, cells, 5) the number of the cell that each action leads to, walls and the task's action order considered."""
    led = number((cells(size)[:, None] + MOVES).clip(0, size - 1), size)  # (cells, 5)
    order = (
        tasks["actions"].astype(int)
        if permuted
        else np.broadcast_to(np.arange(len(MOVES)), (len(tasks), len(MOVES)))
    )
    return led[:, order].swapaxes(0, 1)


def start(size: int, where: str) -> np.ndarray:
    """(cells,) probability that an episode starts there: "random", or "centre"."""
    if where == "random":
        return np.full(size**2, 1 / size**2)
    return (cells(size) == size // 2).all(1).astype(float)


def search(spec: EnvSpec, size: int) -> tables.Tables:
    """One stage of a task: something is hidden, a hypothesis for each cell. Arriving there pays 1 and ends the stage."""
    led = reached(size, Tasks({"of": np.zeros(1)}), permuted=False)
    found = led == np.arange(size**2)[:, None, None]
    return tables.tables(
        spec,
        led[..., None],
        found[..., None],
        cells(size),
        start(size, "random"),
        terminated=found[..., None],
    )


def check(tasks: Tasks, things: tuple[str, ...], size: int, permuted: bool) -> None:
    """ValueError unless every thing lies in the room and every action order is one."""
    for name in things:
        at = tasks[name]
        if at.ndim != 2 or at.shape[1] != 2:
            raise ValueError(
                f"{name} of shape {at.shape[1:]}; a {name} is (x, y) with 0 <= x, y < {size}."
            )
        if at.size and (at.min() < 0 or at.max() >= size):
            outside = at[((at < 0) | (at >= size)).any(-1)][:3].tolist()
            raise ValueError(
                f"{name} {outside} is outside the room; a {name} is (x, y) with 0 <= x, y < {size}."
            )
    if permuted and (np.sort(tasks["actions"], axis=-1) != np.arange(len(MOVES))).any():
        raise ValueError("actions must be an order of 0, 1, 2, 3, 4, such as (0, 2, 1, 4, 3).")
