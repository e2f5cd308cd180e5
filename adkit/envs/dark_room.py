"""Dark Room: a square room with one hidden goal (Laskin et al. 2022, 4.1).

The agent sees only its own cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from adkit import tables
from adkit.envs import rooms
from adkit.protocols import EnvSpec, Tasks


@dataclass(frozen=True)
class DarkRoom(tables.Tabular):
    """A room of size x size cells, with reward 1 for steps that end on the goal.

    A task is `goal` (x, y) and, with `permuted=True`, `actions`: a relabelling of the five moves.
    """

    size: int = 9
    """Cells along each wall: 9 in the paper's Dark Room, 17 in its Hard variant."""
    horizon: int = 20
    """Steps in every episode; nothing ends one early."""
    reward: Literal["dense", "once"] = "dense"
    """"dense" rewards every step that ends on the goal, "once" the first in an episode (Hard)."""
    start: Literal["centre", "random"] = "centre"
    """Where episodes start: the centre cell, or a fresh random cell each time."""
    permuted: bool = False
    """Whether tasks also relabel the actions (120 orders per goal)."""

    def __post_init__(self):
        if self.reward not in ("dense", "once"):
            raise ValueError(f"`reward` must be 'dense' or 'once', got {self.reward!r}")
        if self.start not in ("centre", "random"):
            raise ValueError(f"`start` must be 'centre' or 'random', got {self.start!r}")
        if not 2 <= self.size <= 128:
            raise ValueError(f"`size` must be 2 to 128 cells along a wall, got {self.size}")
        _ = self.spec  # EnvSpec checks the horizon

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            "DarkRoom", n_actions=5, horizon=self.horizon, cardinality=(self.size, self.size)
        )

    def tasks(self) -> Tasks:
        """Return all goals, x-major; with `permuted`, each under all 120 action orders."""
        return rooms.with_orders({"goal": rooms.cells(self.size)}, self.permuted)

    def task(self, goal: tuple[int, int], actions: tuple[int, ...] | None = None) -> Tasks:
        """Return the single task with this goal (and action order), numbered as in `tasks()`."""
        values = {"goal": goal} | ({"actions": actions} if self.permuted else {})
        self._check(Tasks({name: np.array([value]) for name, value in values.items()}))
        return rooms.pick(self.tasks(), **values)

    def tables(self, tasks: Tasks) -> tables.Tables:
        """Return tables; a state is a cell, plus cells * (rewarded before) with reward "once"."""
        self._check(tasks)
        cell_next = rooms.reached(self.size, tasks, self.permuted)  # (n, cells, 5)
        on_goal = cell_next == rooms.number(tasks["goal"], self.size)[:, None, None]
        cell, begin = rooms.cells(self.size), rooms.start(self.size, self.start)
        if self.reward == "dense":
            return tables.tables(self.spec, cell_next[..., None], on_goal[..., None], cell, begin)
        cells = self.size**2
        state = np.concatenate([cell_next + cells * on_goal, cell_next + cells], axis=1)
        reward = np.concatenate([on_goal, np.zeros_like(on_goal)], axis=1)
        cell, begin = np.tile(cell, (2, 1)), np.concatenate([begin, np.zeros(cells)])
        return tables.tables(self.spec, state[..., None], reward[..., None], cell, begin)

    def stages(self) -> tuple[tables.Tables, ...]:
        """Return the hypotheses: the goal in any cell. With "once", nothing is left once found."""
        if self.reward == "once" and not self.permuted:
            return (rooms.search(self.spec, self.size),)
        return (self.tables(self.tasks()),)

    def _check(self, tasks: Tasks) -> None:
        rooms.check(tasks, ("goal",), self.size, self.permuted)
