"""Replay a lifetime in a room, one episode at a time, with a slider."""

from __future__ import annotations

import io
import itertools

import ipywidgets as widgets
import numpy as np
from PIL import Image, ImageDraw

from adkit.display import with_picture
from adkit.histories import Histories

CELL, SCALE = 28, 2  # pixels per cell on screen; drawn larger and reduced, for smooth lines
WALL, FLOOR, GOAL, PATH, START = "#9aa3ad", (255, 255, 255), "#E69F00", (0, 114, 178), "#009E73"


class Replay(widgets.VBox):
    """One lifetime's episodes: path, earlier visits, start and goal. `episode` is the slider; drag it or set its value."""

    def __init__(self, lifetime: Histories, episode: int = 0):
        if len(lifetime) != 1:
            raise ValueError(f"{len(lifetime)} lifetimes given; replay one: replay(histories[0]).")
        if lifetime.spec.cardinality is None or len(lifetime.spec.cardinality) != 2:
            raise ValueError(f"{lifetime.spec.name} has no (x, y) observations, so there is no room to draw.")
        if not 0 <= episode < lifetime.n_episodes:
            raise ValueError(f"episode={episode}; this lifetime has episodes 0 to {lifetime.n_episodes - 1}.")
        self.lifetime = lifetime
        self.episode = widgets.IntSlider(
            episode, 0, lifetime.n_episodes - 1, description="episode", layout=widgets.Layout(width="420px")
        )
        width = f"{lifetime.spec.cardinality[0] * CELL}px"  # or the box would stretch it
        self.picture = widgets.Image(format="png", layout=widgets.Layout(width=width, align_self="flex-start"))
        self.caption = widgets.HTML()
        self.episode.observe(lambda change: self._draw(), "value")
        self._draw()
        super().__init__([self.episode, self.picture, self.caption])

    def _draw(self) -> None:
        e = self.episode.value
        self.picture.value = room_png(self.lifetime, e)
        paid = self.lifetime.episode_returns[0]
        self.caption.value = (
            f"episode {self.lifetime.episode[e]}: return <b>{paid[e]:g}</b>, best so far {paid[: e + 1].max():g}. "
            "Blue: path, darker is later. Grey: earlier visits. Green: start. Orange: goal, which the agent cannot see."
        )

    def _repr_mimebundle_(self, **kwargs):
        text = f"Replay of {self.lifetime.spec.name}, episode {self.lifetime.episode[self.episode.value]}"
        return with_picture(super()._repr_mimebundle_(**kwargs), self.picture.value, text)


def replay(lifetime: Histories, episode: int = 0) -> Replay:
    """A slider over the episodes of one lifetime; without a kernel, a picture of `episode`."""
    return Replay(lifetime, episode)


def room_png(lifetime: Histories, episode: int) -> bytes:
    """One episode of the first lifetime as a PNG: earlier visits, this path, start and goal."""
    columns, rows = lifetime.spec.cardinality
    unit = CELL * SCALE
    centre = lambda cell: tuple(int(c) * unit + unit // 2 for c in cell)
    image = Image.new("RGB", (columns * unit + 1, rows * unit + 1), FLOOR)
    draw = ImageDraw.Draw(image)

    before = lifetime.arrays["obs"][0, :episode].reshape(-1, 2)
    visits = np.zeros((columns, rows))
    np.add.at(visits, (before[:, 0], before[:, 1]), 1)
    for x, y in np.argwhere(np.ones((columns, rows))):
        seen = visits[x, y] / max(1, visits.max())
        grey = 255 - int(75 * seen**0.5)
        draw.rectangle([x * unit, y * unit, (x + 1) * unit, (y + 1) * unit], fill=(grey,) * 3, outline=WALL)

    if "goal" in lifetime.tasks:
        x, y = centre(lifetime.tasks["goal"].iloc[0])
        draw.rectangle([x - unit * 0.4, y - unit * 0.4, x + unit * 0.4, y + unit * 0.4], outline=GOAL, width=4 * SCALE)
    steps = lifetime.length[0, episode]
    path = [*lifetime.arrays["obs"][0, episode, :steps], lifetime.arrays["final_obs"][0, episode]]
    for t, (here, there) in enumerate(itertools.pairwise(path)):
        fade = 0.25 + 0.75 * (t + 1) / steps
        colour = tuple(int(255 + (c - 255) * fade) for c in PATH)
        draw.line([centre(here), centre(there)], fill=colour, width=4 * SCALE)
        x, y = centre(there)
        draw.ellipse([x - 4 * SCALE, y - 4 * SCALE, x + 4 * SCALE, y + 4 * SCALE], fill=colour)
    x, y = centre(path[0])
    draw.ellipse([x - 6 * SCALE, y - 6 * SCALE, x + 6 * SCALE, y + 6 * SCALE], outline=START, width=3 * SCALE)

    buffer = io.BytesIO()
    image.resize((image.width // SCALE, image.height // SCALE), Image.LANCZOS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
