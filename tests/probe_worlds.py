"""Worlds with one difficulty each, written as users write theirs: 20 lines."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from adkit import tables
from adkit.protocols import EnvSpec, Step, Tasks

FAULTS = "reward = action", "reward = observation", "delayed", "across episodes"


@dataclass(frozen=True)
class OneFault(tables.Tabular):
    """Nine states that are seen, two actions, four steps. `fault` says what is rewarded."""

    fault: str

    @property
    def spec(self):
        return EnvSpec(f"OneFault({self.fault})", n_actions=2, horizon=4, cardinality=(9,))

    def tasks(self):
        across = self.fault == "across episodes"
        return Tasks({"right": np.arange(2)} if across else {"only": np.arange(1)})

    def tables(self, tasks):
        state, action = np.arange(9)[:, None], np.arange(2)
        start = np.arange(9) == 0
        if self.fault == "reward = action":  # action 1 is rewarded, always
            following, reward = state, action
        elif self.fault == "reward = observation":  # so is state 1, which the action leads to
            following, reward, start = action, state == 1, (np.arange(9) < 2) / 2
        elif self.fault == "delayed":  # the first action matters, and the last step is rewarded
            following = np.where(state == 0, 1 + 4 * action, np.minimum(state + 1, 8))
            reward = state == 7
        else:  # one of two actions is rewarded; which one is the task
            following, reward = state, tasks["right"][:, None, None] == action
        full = lambda x: np.broadcast_to(x, (len(tasks), 9, 2))[..., None]
        return tables.tables(self.spec, full(following), full(reward), state, start)


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
        step = Step(self._see(x), reward, np.zeros(len(x), bool), truncated)
        return LineState(x, state.time + 1), step

    def optimal_returns(self, tasks):
        return np.full(len(tasks), 7.625)  # 8 where an episode starts within 0.25 of 0.2, else 7

    def _see(self, x):
        return np.stack([x, x**2, np.ones_like(x)], 1).astype(np.float32)
