"""What is given, held against what is needed: sentences that many functions have to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adkit.histories import Histories

if TYPE_CHECKING:
    import pandas as pd


class Named(dict):
    """Things of one kind by name, which says what names there are when it is asked for another."""

    def __init__(self, kind: str, things: Mapping[str, Any]):
        super().__init__(things)
        self.kind = kind

    def __missing__(self, name):
        raise ValueError(
            f"no {self.kind} {name!r}; there are {', '.join(map(repr, self)) or 'none'}."
        )


def histories(given) -> Histories:
    """What is given, if that is histories."""
    if not isinstance(given, Histories):
        raise ValueError(
            f"{type(given).__name__} given; give histories, such as ad.collect(env, tasks, agent, episodes=50)."
        )
    return given


def creatures(lives: Histories, *labels: str) -> Histories:
    """The lives; ValueError unless they are lives of creatures, with such labels."""
    if histories(lives).spec.name != "CookieWorld":
        raise ValueError(
            f"these are histories of {lives.spec.name}; give lives in the CookieWorld: cookies.judged(part, n)."
        )
    if missing := [name for name in labels if name not in lives.arrays]:
        raise ValueError(
            f"these lives have no {', '.join(missing)}; those of cookies.judged(part, n) have."
        )
    return lives


def parts(lives: Mapping[str, Histories], *names: str) -> list[Histories]:
    """Sets of lives by name."""
    if not isinstance(lives, Mapping) or set(names) - set(lives):
        given = (
            ", ".join(map(str, lives)) or "nothing"
            if isinstance(lives, Mapping)
            else type(lives).__name__
        )
        raise ValueError(
            f"{given} given; give {{part: cookies.judged(part, n)}} with the parts {', '.join(names)}."
        )
    return [lives[name] for name in names]


def probabilities(p: np.ndarray, lives: Histories) -> np.ndarray:
    """The same; ValueError unless there is a number for each action of each step."""
    needed = (*lives.arrays["action"].shape, lives.spec.n_actions)
    if np.shape(p) != needed:
        raise ValueError(
            f"probabilities of shape {np.shape(p)}; give {needed}, a number for each action of each step."
        )
    return p


def whole(name: str, given: int) -> None:
    """ValueError unless this is a whole number of at least 1."""
    if not isinstance(given, int | np.integer) or given < 1:
        raise ValueError(f"{name}={given!r}; give a whole number of at least 1.")


def tokens(name: str, given: np.ndarray | None, lives: Histories) -> None:
    """ValueError unless nothing was given or these are bool (N, E, H + 1): some of the lifetimes' tokens."""
    needed = len(lives), lives.n_episodes, lives.spec.horizon + 1
    if given is not None and (np.shape(given) != needed or np.asarray(given).dtype != bool):
        raise ValueError(
            f"{name} is {np.asarray(given).dtype} {np.shape(given)}; choose tokens with bool {needed}."
        )


def columns(table: pd.DataFrame, *names: str, made_by: str) -> pd.DataFrame:
    """The table; ValueError unless it has rows, and columns of these names, as what `made_by` makes has."""
    if not hasattr(table, "columns"):
        raise ValueError(f"{type(table).__name__} given; give a table of {made_by}.")
    if missing := [name for name in names if name not in table.columns]:
        has = ", ".join(map(str, table.columns[:8])) or "none"
        raise ValueError(
            f"the table has no column {', '.join(missing[:8])}; it has {has}. Give one of {made_by}."
        )
    if not len(table):
        raise ValueError(f"the table has no rows; give one of {made_by}, of at least one life.")
    return table


def rows(table: pd.DataFrame, made_by: str, **wanted: Sequence) -> pd.DataFrame:
    """Rows whose columns hold one of the wanted values; ValueError, with the values there are, if there are none."""
    for name, values in wanted.items():
        there = columns(table, name, made_by=made_by)[name]
        table = table[there.isin(list(values))]
        if not len(table):
            among = ", ".join(map(str, there.unique()[:8]))
            raise ValueError(
                f"no row of the table has {name} {' or '.join(map(str, values)) or 'of none'}; there are {among}."
            )
    return table
