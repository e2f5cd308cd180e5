"""Checks of sources' settings, and schedules over a lifetime."""

from __future__ import annotations

import numpy as np

from adkit.protocols import EnvSpec

MOST_ROWS = 10**7  # of a table that a tabular learner keeps
MOST_INPUTS = 4096  # of a small network: pixels need a convolution instead
MADE_FOR = {"Watermaze": ["GoalSearch", "PoseQLearning"], "CookieWorld": ["Shards"]}


def inputs(spec: EnvSpec) -> int:
    """Return how many numbers a small network reads: one-hot coordinates, or a real vector.

    A heading is read as its cosine and sine.
    """
    real = int(np.prod(spec.obs_shape)) + (spec.view is not None)
    return sum(spec.cardinality) if spec.cardinality else real


def has_small_table(spec: EnvSpec) -> bool:
    """Return whether a tabular learner can keep a value for every observation."""
    return spec.cardinality is not None and spec.n_observations <= MOST_ROWS


def cannot_learn(source: str, spec: EnvSpec, why: str) -> ValueError:
    """Return the error of a source in a world that is not for it; it names sources that can."""
    able = [*MADE_FOR.get(spec.name, [])]
    if spec.cardinality and spec.n_observations == 1:
        able += ["UCB", "ThompsonSampling"]
    able += ["QLearning"] * has_small_table(spec)
    able += ["ActorCritic", "DQN"] * (inputs(spec) <= MOST_INPUTS)
    able = ", ".join(f"{name}()" for name in able) or 'StableBaselines3("PPO", "CnnPolicy")'
    return ValueError(f"{source} cannot learn in {spec.name}: {why}; try {able}")


def check_shares(config, *names: str) -> None:
    """Raise ValueError unless the settings are probabilities or shares."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"`{name}` must be in [0, 1], got {getattr(config, name)}")


def check_counts(config, *names: str) -> None:
    """Raise ValueError unless the settings are whole numbers of at least 1."""
    for name in names:
        value = getattr(config, name)
        if not (isinstance(value, int | np.integer) and value >= 1):
            raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r}")


def check_learning(config) -> None:
    """Raise ValueError unless `lr` and `gamma` make sense."""
    if not 0 <= config.lr <= 1:
        raise ValueError(f"`lr` must be in [0, 1], got {config.lr}; try lr=0.5")
    if not 0 <= config.gamma < 1:
        raise ValueError(f"`gamma`, the discount, must be in [0, 1), got {config.gamma}")


def falling(first: float, last: float, share: float, episodes: int) -> np.ndarray:
    """Return a value per episode (episodes,) that goes linearly from `first` to `last`.

    It reaches `last` after `share` of the episodes, and stays there.
    """
    over = round(share * episodes)
    if over == 0:
        return np.full(episodes, last)
    done = np.minimum(1.0, np.arange(episodes) / over)
    return first + done * (last - first)
