"""Dark Key-to-Door: find the invisible key, then the invisible door (Laskin et al. 2022, 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from adkit import tables
from adkit.envs import rooms
from adkit.protocols import EnvSpec, Tasks


@dataclass(frozen=True)
class DarkKeyToDoor(tables.Tabular):
    """A room with reward 1, once an episode, for reaching the key, and then 1 for the door.

    A task is `key` (x, y) and `door` (x, y), 6,561 pairs in a 9x9 room, and, with `permuted=True`,
    `actions`. The agent sees only its cell: whether it holds the key is for its memory.
    """

    size: int = 9
    """Cells along each wall."""
    horizon: int = 50
    """Steps in every episode; nothing ends one early."""
    start: Literal["random", "centre"] = "random"
    """Where episodes start: a fresh random cell each time (paper), or the centre cell."""
    permuted: bool = False
    """Whether tasks also relabel the actions (120 orders per pair)."""

    def __post_init__(self):
        if self.start not in ("random", "centre"):
            raise ValueError(f"`start` must be 'random' or 'centre', got {self.start!r}")
        if not 2 <= self.size <= 32:
            raise ValueError(f"`size` must be 2 to 32 cells along a wall, got {self.size}")
        _ = self.spec  # EnvSpec checks the horizon

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            "DarkKeyToDoor", n_actions=5, horizon=self.horizon, cardinality=(self.size, self.size)
        )

    def tasks(self) -> Tasks:
        """Return all pairs, key-major.

        `split` holds out pairs; `split(..., by=("key", "door"))` holds out cells.
        """
        cells, n = rooms.cells(self.size), self.size**2
        pairs = {"key": cells.repeat(n, 0), "door": np.tile(cells, (n, 1))}
        return rooms.with_orders(pairs, self.permuted)

    def task(
        self, key: tuple[int, int], door: tuple[int, int], actions: tuple[int, ...] | None = None
    ) -> Tasks:
        """Return the single task with this key and door (and action order) of `tasks()`."""
        values = {"key": key, "door": door} | ({"actions": actions} if self.permuted else {})
        self._check(Tasks({name: np.array([value]) for name, value in values.items()}))
        return rooms.pick(self.tasks(), **values)

    def tables(self, tasks: Tasks) -> tables.Tables:
        """Return tables; a state is cell + cells * (0: no key yet, 1: key, 2: through the door)."""
        self._check(tasks)
        led, cells = rooms.reached(self.size, tasks, self.permuted), self.size**2  # (n, cells, 5)
        on_key, on_door = (
            led == rooms.number(tasks[name], self.size)[:, None, None] for name in ("key", "door")
        )
        phases = led + cells * on_key, led + cells * (1 + on_door), led + 2 * cells
        state = np.concatenate(phases, axis=1)
        reward = np.concatenate([on_key, on_door, np.zeros_like(on_key)], axis=1)
        begin = np.concatenate([rooms.start(self.size, self.start), np.zeros(2 * cells)])
        seen = np.tile(rooms.cells(self.size), (3, 1))
        return tables.tables(self.spec, state[..., None], reward[..., None], seen, begin)

    def stages(self) -> tuple[tables.Tables, ...]:
        """Return the hypotheses of each stage: the key in any cell, then the door in any cell."""
        if self.permuted:
            raise ValueError(
                "with permuted=True there are too many hypotheses about key, door and actions; "
                "try QLearning()"
            )
        return (rooms.search(self.spec, self.size),) * 2

    def _check(self, tasks: Tasks) -> None:
        rooms.check(tasks, ("key", "door"), self.size, self.permuted)
