"""Maps of the world of a lifetime: its cells, where each token is, and marks for what is there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from adkit.histories import Histories
from adkit.protocols import Tasks
from adkit.views import page

ACROSS = 20  # cells across the map of a round room, whose radius is 1
PLATFORM = 0.12  # radius of the Watermaze's platform


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
    """What is hidden: name, place (x, y) in cells, and the lines of its glyph.

    `when`, packed (E, H + 1), says at which tokens a mark that comes and goes is visible.
    """
    headings: np.ndarray
    """(E, H + 1) in radians in a round room, and nothing elsewhere."""


def of(lifetime: Histories) -> Map:
    """Return the map of one lifetime."""
    spec, tasks, obs = lifetime.spec, lifetime.task_values, _observations(lifetime)
    columns, sizes, flat = tasks.columns, spec.cardinality, np.zeros(0)
    if spec.view is not None:
        marks = [_mark("platform", *round_cells(tasks["goal"][0]))] if "goal" in columns else []
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


def packed(lifetime: Histories, cells: np.ndarray) -> dict:
    """Return what every front end draws of a lifetime and its cells on the map."""
    return {
        "cells": page.packed(cells, "float32"),
        "lengths": page.packed(lifetime.length[0], "int32"),
        "returns": page.packed(lifetime.episode_returns[0], "float32"),
        "numbers": page.packed(lifetime.episode, "int32"),
    }


# ---- marks ----


def circle(x: float, y: float, radius: float) -> list:
    """Return a circle as a closed line."""
    turns = np.linspace(0, 2 * np.pi, 49)
    return [[x + radius * np.cos(angle), y + radius * np.sin(angle)] for angle in turns]


def _box(left: float, top: float, right: float, bottom: float) -> list:
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


GLYPHS = {  # lines around (0, 0), in cells; y points down
    "goal": [_box(-0.38, -0.38, 0.38, 0.38)],
    "best": [_box(-0.38, -0.38, 0.38, 0.38)],
    "key": [
        circle(-0.2, 0, 0.16),
        [(-0.04, 0), (0.38, 0), (0.38, 0.16)],
        [(0.22, 0), (0.22, 0.13)],
    ],
    "door": [_box(-0.24, -0.4, 0.24, 0.4), circle(0.12, 0.03, 0.04)],
    "platform": [circle(0, 0, PLATFORM * ACROSS / 2)],
    "home": [[(-0.36, 0.4), (-0.36, -0.05), (0, -0.42), (0.36, -0.05), (0.36, 0.4), (-0.36, 0.4)]],
    "jar": [[(-0.2, -0.2), (-0.3, -0.1), (-0.3, 0.4), (0.3, 0.4), (0.3, -0.1), (0.2, -0.2)]],
    "garden": [
        [(0, 0.4), (0, -0.1)],
        [(-0.3, -0.15), (0, 0.15), (0.3, -0.15)],
        [(-0.2, -0.4), (0, -0.1), (0.2, -0.4)],
    ],
    "lid open": [[(-0.24, -0.26), (0.16, -0.46)]],
    "lid closed": [
        [(-0.24, -0.26), (0.24, -0.26)],
        [(-0.06, -0.26), (-0.06, -0.34), (0.06, -0.34), (0.06, -0.26)],
    ],
    "cookies": [circle(-0.12, 0.26, 0.09), circle(0.12, 0.26, 0.09), circle(0, 0.06, 0.09)],
    "gift": [
        _box(0.05, 0.1, 0.32, 0.36),
        [(0.185, 0.36), (0.185, 0.1), (0.1, 0), (0.27, 0), (0.185, 0.1)],
    ],
    "hide": [_box(-0.3, 0.14, -0.02, 0.36), [(-0.24, 0.14), (-0.24, 0), (-0.08, 0), (-0.08, 0.14)]],
}
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
    lines = [[[float(x + dx), float(y + dy)] for dx, dy in line] for line in GLYPHS[name]]
    return {"name": name, "x": float(x), "y": float(y), "lines": lines}
