"""Reference agents: uniformly random, and optimal with knowledge of the task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adkit.protocols import EnvSpec, Lifetimes, Tasks, Transition
from adkit.seeds import Rng
from adkit.sources.settings import cannot_learn
from adkit.tables import Tables, backward_induction, of_rows


@dataclass(frozen=True)
class Random:
    """Every action equally likely, always: the lower bound on return."""

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> RandomLearner:
        return RandomLearner(spec, rng)


class RandomLearner:
    """N agents that learn nothing."""

    def __init__(self, spec: EnvSpec, rng: Rng):
        self.spec, self.rng, self.t = spec, rng, 0

    def act(self, obs: np.ndarray, first: np.ndarray, allowed=None) -> np.ndarray:
        draws = self.rng.at(self.t)
        action = draws.integers(self.spec.n_actions).astype(np.uint8)
        return action if allowed is None else draws.kept(action, allowed, 1)

    def update(self, transition: Transition) -> None:
        self.t += 1


@dataclass(frozen=True)
class Optimal:
    """The optimal policy for a known task, by backward induction: the upper bound on return."""

    known: tuple[Tables, np.ndarray] | None = None
    """The distinct tasks' tables and each lifetime's row; `prepare` fills them in."""

    def prepare(self, lifetimes: Lifetimes) -> tuple[Optimal, Tasks]:
        """Return the agent that knows each lifetime's task."""
        env, tasks = lifetimes.env, lifetimes.tasks
        if not hasattr(env, "tables"):
            why = "backward induction needs the world's tables"
            raise cannot_learn("Optimal", env.spec, why)
        return Optimal(of_rows(env, tasks)), tasks

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> OptimalLearner:
        return OptimalLearner(*self.known, spec)


class OptimalLearner:
    """N optimal agents; each follows the true state from observations and rewards."""

    def __init__(self, table: Tables, row: np.ndarray, spec: EnvSpec):
        self.table, self.row, self.spec = table, row, spec
        _, self.policy = backward_induction(table, spec.horizon)
        self.state, self.time = np.zeros(len(row), np.int64), np.zeros(len(row), np.int64)

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        same = self.table.seen[self.row] == self.spec.index(obs)[:, None]
        possible = same & (np.diff(self.table.start[self.row], axis=1, prepend=0.0) > 0)
        self.state = np.where(first, possible.argmax(1), self.state)
        self.time = np.where(first, 0, self.time)
        return self.policy[self.row, self.time, self.state]

    def update(self, transition: Transition) -> None:
        at = self.row, self.state, transition.action
        outcomes = self.table.next_state[at]  # (N, K)
        seen = self.spec.index(transition.next_obs)[:, None]
        explains = self.table.seen[self.row[:, None], outcomes] == seen
        explains &= self.table.reward[at] == transition.reward[:, None]
        self.state = np.take_along_axis(outcomes, explains.argmax(1)[:, None], 1)[:, 0]
        self.time += 1
