"""Dark Room: a dark square room with one hidden goal; the agent sees only where it stands (Laskin et al. 2022, 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from adkit import tables
from adkit.envs import rooms
from adkit.protocols import EnvSpec, Step, Tasks
from adkit.seeds import Rng


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
            raise ValueError(
                f"size={self.size}; a room has 2 to 128 cells along a wall. The paper uses 9 and 17."
            )
        _ = self.spec  # EnvSpec checks the horizon

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            "DarkRoom", n_actions=5, horizon=self.horizon, cardinality=(self.size, self.size)
        )

    def tasks(self) -> Tasks:
        """All goals, x-major; with `permuted`, each goal under all 120 action orders."""
        return rooms.with_orders({"goal": rooms.cells(self.size)}, self.permuted)

    def task(self, goal: tuple[int, int], actions: tuple[int, ...] | None = None) -> Tasks:
        """The single task with this goal (and action order), numbered as in `tasks()`."""
        values = {"goal": goal} | ({"actions": actions} if self.permuted else {})
        self._check(Tasks({name: np.array([value]) for name, value in values.items()}))
        return rooms.pick(self.tasks(), **values)

    def tables(self, tasks: Tasks) -> tables.Tables:
        """State = cell, or cell + cells * (already paid in this episode) with reward "once"."""
        self._check(tasks)
        cell_next = rooms.reached(self.size, tasks, self.permuted)  # (n, cells, 5)
        on_goal = cell_next == rooms.number(tasks["goal"], self.size)[:, None, None]
        cell, begin, cells = (
            rooms.cells(self.size),
            rooms.start(self.size, self.start),
            self.size**2,
        )
        if self.reward == "dense":
            return tables.tables(self.spec, cell_next[..., None], on_goal[..., None], cell, begin)
        paid = np.concatenate([cell_next + cells * on_goal, cell_next + cells], axis=1)
        once = np.concatenate([on_goal, np.zeros_like(on_goal)], axis=1)
        begin = np.concatenate([begin, np.zeros(cells)])
        return tables.tables(
            self.spec, paid[..., None], once[..., None], np.tile(cell, (2, 1)), begin
        )

    def stages(self) -> tuple[tables.Tables, ...]:
        """The goal may be in any cell; paid "once", there is nothing left to do when it is found."""
        if self.reward == "once" and not self.permuted:
            return (rooms.search(self.spec, self.size),)
        return (self.tables(self.tasks()),)

    def reset(self, tasks: Tasks, rng: Rng) -> tuple[tables.TabularState, np.ndarray]:
        return tables.reset(self, tasks, rng)

    def step(
        self, state, tasks: Tasks, action: np.ndarray, rng: Rng
    ) -> tuple[tables.TabularState, Step]:
        return tables.step(self, state, tasks, action, rng)

    def _check(self, tasks: Tasks) -> None:
        rooms.check(tasks, ("goal",), self.size, self.permuted)
