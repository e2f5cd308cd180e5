"""Worlds with one difficulty each, written as users write theirs: 20 lines, no base class."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from adkit import tables
from adkit.protocols import EnvSpec, Step, Tasks


@dataclass(frozen=True)
class OneFault:
    """Two observations, two actions, four steps. What pays depends on `fault`."""

    fault: str

    @property
    def spec(self):
        return EnvSpec(f"OneFault({self.fault})", n_actions=2, horizon=4, cardinality=(9,))

    @property
    def optimum(self):
        return {
            "reward = action": 4.0,
            "reward = observation": 3.5,
            "delayed": 1.0,
            "across episodes": 4.0,
        }[self.fault]

    def tasks(self):
        return Tasks(
            {"right": np.arange(2)} if self.fault == "across episodes" else {"only": np.arange(1)}
        )

    def tables(self, tasks):
        state, action = np.arange(9)[:, None], np.arange(2)
        if self.fault == "reward = action":  # action 1 pays, always
            following, reward = state * np.ones(2, int), action * np.ones((9, 1))
        elif (
            self.fault == "reward = observation"
        ):  # state 1 pays; the action chooses the next state
            following, reward = action * np.ones((9, 1), int), (state == 1) * np.ones(2)
        elif (
            self.fault == "delayed"
        ):  # only the first action matters, and the last step pays for it
            following = np.where(state == 0, 1 + 4 * action, np.minimum(state + 1, 8))
            reward = (state == 7) * np.ones(2)
        else:  # one of two actions pays; which one is the task
            following, reward = state * np.ones(2, int), np.zeros((9, 2))
            reward = (tasks["right"][:, None, None] == action) * np.ones((1, 9, 1))
        following, reward = (
            np.broadcast_to(x, (len(tasks), 9, 2))[..., None] for x in (following, reward)
        )
        begin = (
            (np.arange(9) == 0) * 1.0
            if self.fault != "reward = observation"
            else (np.arange(9) < 2) * 0.5
        )
        return tables.tables(self.spec, following, reward, np.arange(9)[:, None], begin)

    def reset(self, given, rng):
        return tables.reset(self, given, rng)

    def step(self, state, given, action, rng):
        return tables.step(self, state, given, action, rng)


class LineState(NamedTuple):
    x: np.ndarray
    time: np.ndarray


@dataclass(frozen=True)
class Line:
    """A walk on [-1, 1] in real numbers, without tables: reward 1 for steps ending at one side."""

    spec = EnvSpec("Line", n_actions=3, horizon=10, shape=(3,))

    def tasks(self):
        return Tasks({"side": np.array([-1.0, 1.0])})

    def reset(self, given, rng):
        x = 0.4 * rng.uniform() - 0.2
        return LineState(x, np.zeros(len(x), int)), self._see(x)

    def step(self, state, given, action, rng):
        x = (state.x + 0.25 * (action.astype(int) - 1)).clip(-1, 1)
        truncated = state.time == self.spec.horizon - 1
        reward = (x * given["side"] > 0.7).astype(np.float32)
        return LineState(x, state.time + 1), Step(
            self._see(x), reward, np.zeros(len(x), bool), truncated
        )

    def _see(self, x):
        return np.stack([x, x**2, np.ones_like(x)], 1).astype(np.float32)
