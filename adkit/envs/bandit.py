"""The adversarial bandit: training tasks favour odd arms, others do not (Laskin et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from adkit import tables
from adkit.protocols import EnvSpec, Tasks
from adkit.seeds import Rng


@dataclass(frozen=True)
class AdversarialBandit(tables.Tabular):
    """Arms with reward 1 or 0, each with its own probability; one pull is one episode.

    A task is `means` (arms,), the probabilities, drawn uniformly. In 95% of tasks (`bias_share`)
    the best arm has an odd number, counted from 0, or an even one, or, with "uniform", any: train
    on "odd", test on "even" and "uniform". A lifetime of 100 pulls is `collect(..., episodes=100)`.
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
            raise ValueError(f"`bias` must be 'odd', 'even' or 'uniform', got {self.bias!r}")
        _ = self.spec  # EnvSpec checks arms and horizon

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            "AdversarialBandit", n_actions=self.arms, horizon=self.horizon, cardinality=(1,)
        )

    def tasks(self) -> Tasks:
        """Return `n_tasks` draws of probabilities, uniform in [0, 1).

        To follow the bias, the best arm trades places with the best arm of the favoured parity.
        """
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
        """Return a bandit with these probabilities."""
        task = Tasks({"means": np.array([means], float)})
        self._check(task)
        return task

    def tables(self, tasks: Tasks) -> tables.Tables:
        """Return tables of one state; an arm has two outcomes, reward 0 and 1."""
        self._check(tasks)
        chance = tasks["means"][:, None, :, None]  # (n, 1, arms, 1)
        probability = np.concatenate([1 - chance, chance], axis=3)
        state, reward = np.zeros(probability.shape, int), np.array([0, 1])
        seen, start = np.zeros((1, 1)), np.ones(1)
        return tables.tables(self.spec, state, reward, seen, start, probability=probability)

    def _check(self, tasks: Tasks) -> None:
        means = tasks["means"]
        if means.shape[1:] != (self.arms,) or not ((means >= 0) & (means <= 1)).all():
            raise ValueError(f"`means` must be {self.arms} probabilities, got {means[:1]}")
