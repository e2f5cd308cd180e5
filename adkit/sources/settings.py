"""Checks of sources' settings, and schedules over a lifetime."""

from __future__ import annotations

import numpy as np


def check_shares(config, *names: str) -> None:
    """Raise ValueError unless the settings are probabilities or shares."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"`{name}` must be in [0, 1], got {getattr(config, name)}")


def check_counts(config, *names: str) -> None:
    """Raise ValueError unless the settings are whole numbers of at least 1."""
    for name in names:
        value = getattr(config, name)
        if not (isinstance(value, int) and value >= 1):
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
