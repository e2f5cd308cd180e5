"""The adversarial bandit: arms whose good ones hide among the odd numbers, until they do not (Laskin et al. 2022, 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from adkit import tables
from adkit.protocols import EnvSpec, Step, Tasks
from adkit.seeds import Rng


@dataclass(frozen=True)
class AdversarialBandit:
    """Arms that pay 1 with a fixed chance, drawn uniformly for each; there is nothing to see. One pull is one episode.

    A task is `means` (arms,), the arms' chances. In 95% of tasks (`bias_share`) the best arm has an odd number, counted from
    0, or an even one, or, with "uniform", any: train on "odd", test on "even" and "uniform". A lifetime of 100 pulls is
    `collect(..., episodes=100)`.
    """

    arms: int = 10
    """Arms to pull, numbered from 0."""
    horizon: int = 1
    """Pulls in an episode."""
    bias: Literal["odd", "even", "uniform"] = "odd"
    """Which arms tend to hold the best one."""
    bias_share: float = 0.95
    """Share of tasks in which they do."""
    n_tasks: int = 2000
    """Tasks in the family."""
    seed: int = 0
    """Which tasks; a family's tasks are addressed by seed, bias and number."""

    def __post_init__(self):
        if self.bias not in ("odd", "even", "uniform"):
            raise ValueError(
                f"bias={self.bias!r}; AdversarialBandit allows bias in ('odd', 'even', 'uniform')."
            )
        if not 2 <= self.arms <= 256:
            raise ValueError(f"arms={self.arms}; a bandit has 2 to 256 arms. The paper uses 10.")
        if not 0 <= self.bias_share <= 1:
            raise ValueError(
                f"bias_share={self.bias_share}; a share lies in [0, 1]. The paper uses 0.95."
            )
        if self.n_tasks < 1:
            raise ValueError(f"n_tasks={self.n_tasks}; a family has at least 1 task.")
        _ = self.spec  # EnvSpec checks the horizon

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            "AdversarialBandit", n_actions=self.arms, horizon=self.horizon, cardinality=(1,)
        )

    def tasks(self) -> Tasks:
        """`n_tasks` draws: chances uniform in [0, 1); the best trades places with the best of those where the bias wants it."""
        number = np.arange(self.n_tasks)
        rng = Rng.of(self.seed, "bandit", self.bias, number)
        means = np.stack([rng.at(arm).uniform() for arm in range(self.arms)], axis=1)
        if self.bias != "uniform":
            there = np.arange(self.arms) % 2 == (self.bias == "odd")
            follows = rng.at(self.arms).uniform() < self.bias_share
            best, to = means.argmax(1), np.where(there == follows[:, None], means, -1).argmax(1)
            means[number, best], means[number, to] = means[number, to], means[number, best]
        return Tasks({"means": means})

    def task(self, means: tuple[float, ...]) -> Tasks:
        """A bandit with these chances."""
        task = Tasks({"means": np.array([means], float)})
        self._check(task)
        return task

    def tables(self, tasks: Tasks) -> tables.Tables:
        """One state; an arm pays nothing or 1."""
        self._check(tasks)
        chance = tasks["means"][:, None, :, None]  # (n, 1, arms, 1)
        probability = np.concatenate([1 - chance, chance], axis=3)
        return tables.tables(
            self.spec, np.zeros((len(tasks), 1, self.arms, 2), int), np.array([0, 1]), np.zeros((1, 1)), np.ones(1),
            probability=probability,
        )  # fmt: skip

    def reset(self, tasks: Tasks, rng: Rng) -> tuple[tables.TabularState, np.ndarray]:
        return tables.reset(self, tasks, rng)

    def step(
        self, state, tasks: Tasks, action: np.ndarray, rng: Rng
    ) -> tuple[tables.TabularState, Step]:
        return tables.step(self, state, tasks, action, rng)

    def _check(self, tasks: Tasks) -> None:
        means = tasks["means"]
        if means.ndim != 2 or means.shape[1] != self.arms:
            raise ValueError(
                f"means of shape {means.shape}; this bandit has {self.arms} arms, so give (tasks, {self.arms})."
            )
        if not ((means >= 0) & (means <= 1)).all():
            raise ValueError(
                f"means {means[((means < 0) | (means > 1) | np.isnan(means)).any(1)][0]}; a chance lies in [0, 1]."
            )
