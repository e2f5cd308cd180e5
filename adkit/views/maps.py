"""Maps of the world of a lifetime: its cells, where each token is, and marks for what is there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from adkit.envs.watermaze import PLATFORM
from adkit.histories import Histories
from adkit.protocols import Tasks
from adkit.views import page

ACROSS = 20  # cells across the map of a round room, whose radius is 1
RADIUS = PLATFORM * ACROSS / 2  # cells: of the platform in it


@dataclass(frozen=True, eq=False)
class Map:
    """Where one lifetime went, in the cells of its world."""

    kind: str | None
    """How to draw the world: a "grid", a "round" room, a row of "arms", or None for no map."""
    columns: int
    rows: int
    cells: np.ndarray
    """(E, H + 1, 2) the cell of each token; an episode's last one is where its last action led.

    Cells of a round room have fractions; among arms the cell is the arm just pulled, and -1 before
    the first pull.
    """
    marks: list[dict]
    """What is hidden: its name, by which it is drawn, and its place (x, y) in cells.

    `when`, packed (E, H + 1), says at which tokens a mark that comes and goes is visible.
    """
    headings: np.ndarray
    """(E, H + 1) in radians in a round room, and nothing elsewhere."""


def of(lifetime: Histories) -> Map:
    """Return the map of one lifetime."""
    spec, tasks, obs = lifetime.spec, lifetime.task_values, _observations(lifetime)
    columns, sizes, flat = tasks.columns, spec.cardinality, np.zeros(0)
    if spec.view is not None:
        goals = tasks["goal"][:1] if "goal" in columns else ()
        marks = [_mark("platform", *round_cells(g)) | {"radius": RADIUS} for g in goals]
        return Map("round", ACROSS, ACROSS, round_cells(obs), marks, obs[..., 2])
    if "means" in columns and sizes == (1,):
        pulled = lifetime.arrays["action"][0].astype(np.int16)  # (E, H)
        pulled = np.pad(pulled, ((0, 0), (1, 0)), constant_values=-1)  # (E, H + 1)
        cells = np.stack([pulled, np.minimum(pulled, 0)], axis=-1)
        best = _mark("best", int(tasks["means"][0].argmax()), 0)
        return Map("arms", int(spec.n_actions), 1, cells, [best], flat)
    if sizes and "home" in columns:  # the first coordinate counts the cells of a square
        size = math.isqrt(sizes[0])
        cells = np.stack(np.divmod(obs[..., 0], size), axis=-1)
        return Map("grid", size, size, cells, task_marks(tasks) + _changing_marks(tasks, obs), flat)
    if sizes and len(sizes) == 2:
        return Map("grid", int(sizes[0]), int(sizes[1]), obs, task_marks(tasks), flat)
    return Map(None, 0, 0, np.zeros((*obs.shape[:2], 2)), [], flat)


def _observations(lifetime: Histories) -> np.ndarray:
    """Return (E, H + 1, ...) what was observed at each token of one lifetime."""
    obs, final = lifetime.arrays["obs"][0], lifetime.arrays["final_obs"][0]
    tokens = np.concatenate([obs, np.zeros_like(obs[:, :1])], axis=1)
    tokens[np.arange(len(tokens)), lifetime.length[0]] = final
    return tokens


def round_cells(place: np.ndarray) -> np.ndarray:
    """Return places (..., 2 or more) in a round room as map cells (..., 2); y points down there."""
    return (place[..., :2] * [1, -1] + 1) * (ACROSS / 2) - 0.5


def packed(lifetime: Histories) -> dict:
    """Return what every front end draws of a lifetime and its map."""
    drawn = of(lifetime)
    return {
        "kind": drawn.kind,
        "columns": drawn.columns,
        "rows": drawn.rows,
        "marks": drawn.marks,
        "cells": page.packed(drawn.cells, "float32"),
        "headings": page.packed(drawn.headings, "float32"),
        "lengths": page.packed(lifetime.length[0], "int32"),
        "returns": page.packed(lifetime.episode_returns[0], "float32"),
        "numbers": page.packed(lifetime.episode, "int32"),
    }


# ---- marks ----

PLACES = ("goal", "key", "door", "home", "jar", "garden")


def task_marks(tasks: Tasks) -> list[dict]:
    """Return marks of the places (x, y) that the first task names."""
    names = [name for name in PLACES if name in tasks.columns and tasks[name].shape[1:] == (2,)]
    return [_mark(name, *tasks[name][0]) for name in names]


def _changing_marks(tasks: Tasks, obs: np.ndarray) -> list[dict]:
    """Return marks that come and go in a CookieWorld, of tokens (E, H + 1, 12)."""
    from adkit.cookieworld.world import CLOSED, COOKIES, GIFT

    closed, in_the_morning = obs[..., CLOSED] > 0, np.arange(obs.shape[1]) == 0
    jar, home = (tasks[name][0] for name in ("jar", "home"))
    visible = {
        "lid open": (jar, ~closed),
        "lid closed": (jar, closed),
        "cookies": (jar, obs[..., COOKIES] > 0),
        "gift": (home, (obs[:, :1, GIFT] > 0) & in_the_morning),
        "hide": (home, closed),
    }
    return [
        _mark(name, *place) | {"when": page.packed(when, "uint8")}
        for name, (place, when) in visible.items()
    ]


def _mark(name: str, x: float, y: float) -> dict:
    return {"name": name, "x": float(x), "y": float(y)}
