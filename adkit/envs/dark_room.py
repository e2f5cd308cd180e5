"""Dark Room: a dark square room with one hidden goal; the agent sees only where it stands (Laskin et al. 2022, 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np

from adkit import tables
from adkit.protocols import EnvSpec, Step, Tasks
from adkit.seeds import Rng

MOVES = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)])  # no-op, left, right, up, down, as (dx, dy)


@dataclass(frozen=True)
class DarkRoom:
    """A room of size x size cells. Reward 1 whenever a step ends on the goal ("dense"), or the first time ("once").

    A task is `goal` (x, y) and, with `permuted=True`, `actions`: a relabelling of the five moves.
    """

    size: int = 9
    """Cells along each wall: 9 in the paper's Dark Room, 17 in its Hard variant."""
    horizon: int = 20
    """Steps in every episode; nothing ends one early."""
    reward: Literal["dense", "once"] = "dense"
    """"dense" pays every step on the goal, "once" pays once per episode (Hard)."""
    start: Literal["centre", "random"] = "centre"
    """Where episodes start: the centre cell, or a fresh random cell each time."""
    permuted: bool = False
    """Whether tasks also relabel the actions (120 orders per goal)."""

    def __post_init__(self):
        for name, allowed in (("reward", ("dense", "once")), ("start", ("centre", "random"))):
            if (given := getattr(self, name)) not in allowed:
                raise ValueError(f"{name}={given!r}; DarkRoom allows {name} in {allowed}.")
        if not 2 <= self.size <= 128:
            raise ValueError(f"size={self.size}; a room has 2 to 128 cells along a wall. The paper uses 9 and 17.")
        _ = self.spec  # EnvSpec checks the horizon

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec("DarkRoom", n_actions=5, horizon=self.horizon, cardinality=(self.size, self.size))

    def tasks(self) -> Tasks:
        """All goals, x-major; with `permuted`, each goal under all 120 action orders."""
        goal = np.argwhere(np.ones((self.size, self.size))).astype(np.int16)
        if not self.permuted:
            return Tasks({"goal": goal})
        orders = np.array(list(permutations(range(5))), np.int16)
        return Tasks({"goal": goal.repeat(len(orders), 0), "actions": np.tile(orders, (len(goal), 1))})

    def task(self, goal: tuple[int, int], actions: tuple[int, ...] | None = None) -> Tasks:
        """The single task with this goal (and action order), numbered as in `tasks()`."""
        columns = {"goal": np.array([goal])} | ({"actions": np.array([actions])} if self.permuted else {})
        self._check(Tasks(columns))
        everything = self.tasks()
        same = [(everything[name] == value).all(1) for name, value in columns.items()]
        return everything[np.logical_and.reduce(same)]

    def tables(self, tasks: Tasks) -> tables.Tables:
        """State = cell, or cell + cells * (already paid in this episode) with reward "once"."""
        self._check(tasks)
        goal, cells = tasks["goal"].astype(int), self.size**2
        cell = np.argwhere(np.ones((self.size, self.size)))  # (cells, 2)
        order = tasks["actions"].astype(int) if self.permuted else np.broadcast_to(np.arange(5), (len(tasks), 5))
        reached = (cell[:, None] + MOVES).clip(0, self.size - 1)  # (cells, 5, 2)
        cell_next = (reached @ (self.size, 1))[:, order].swapaxes(0, 1)  # (n, cells, 5)
        on_goal = cell_next == (goal @ (self.size, 1))[:, None, None]
        begin = np.full(cells, 1 / cells) if self.start == "random" else (cell == self.size // 2).all(1).astype(float)
        if self.reward == "dense":
            return tables.tables(self.spec, cell_next[..., None], on_goal[..., None], cell, begin)
        paid = np.concatenate([cell_next + cells * on_goal, cell_next + cells], axis=1)
        once = np.concatenate([on_goal, np.zeros_like(on_goal)], axis=1)
        begin = np.concatenate([begin, np.zeros(cells)])
        return tables.tables(self.spec, paid[..., None], once[..., None], np.tile(cell, (2, 1)), begin)

    def reset(self, tasks: Tasks, rng: Rng) -> tuple[tables.TabularState, np.ndarray]:
        return tables.reset(self, tasks, rng)

    def step(self, state, tasks: Tasks, action: np.ndarray, rng: Rng) -> tuple[tables.TabularState, Step]:
        return tables.step(self, state, tasks, action, rng)

    def _check(self, tasks: Tasks) -> None:
        goal = tasks["goal"]
        if goal.ndim != 2 or goal.shape[1] != 2 or goal.min() < 0 or goal.max() >= self.size:
            outside = goal[((goal < 0) | (goal >= self.size)).any(-1)][:3].tolist() if goal.ndim == 2 else goal.shape
            raise ValueError(f"goal {outside} is outside the room; goals are (x, y) with 0 <= x, y < {self.size}.")
        if self.permuted and (np.sort(tasks["actions"], axis=-1) != np.arange(5)).any():
            raise ValueError("actions must be an order of 0, 1, 2, 3, 4, such as (0, 2, 1, 4, 3).")
