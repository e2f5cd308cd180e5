"""Replay lifetimes: several side by side on one clock, or one behind a slider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets

from adkit import checks
from adkit.histories import Histories
from adkit.views import page


class Player(anywidget.AnyWidget):
    """Lifetimes in their rooms, side by side: `Player({"source": source[0], "distilled": rollouts[0]})`.

    `episode` and `step` are two-way traits, the clock that all share; a lifetime that is over stands still. Step t shows
    where its first t actions have led. Shades: earlier visits. Green: start. Orange: now, with its heading if it has one, and,
    if shown, what is hidden: goal, key and door, platform, the best of the arms (numbers: earlier pulls); home, the
    jar with its lid and cookies, and the garden.
    """

    _esm = page.script("player.js")

    episode = traitlets.Int(0, min=0).tag(sync=True)
    step = traitlets.Int(0, min=0).tag(sync=True)
    show_goal = traitlets.Bool(True).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Int(10).tag(sync=True)
    """Steps a second."""
    data = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        lifetimes: Mapping[str, Histories] | Sequence[Histories],
        episode: int = 0,
        step: int | None = None,
    ):
        named = (
            dict(lifetimes)
            if isinstance(lifetimes, Mapping)
            else {f"lifetime {i}": life for i, life in enumerate(lifetimes)}
        )
        if not named:
            raise ValueError('no lifetimes given; play some: Player({"distilled": rollouts[0]}).')
        first = checks.histories(next(iter(named.values())))
        spec, size = first.spec, page.map_size(first)
        for name, life in named.items():
            if len(checks.histories(life)) != 1:
                raise ValueError(
                    f"{name}: {len(life)} lifetimes given; play one each, as in rollouts[0]."
                )
            if page.map_kind(life) is None:
                raise ValueError(
                    f"{name}: {life.spec.name} has no (x, y) observations, so there is no room to draw."
                )
            if (page.map_size(life), life.spec.horizon) != (size, spec.horizon):
                raise ValueError(
                    f"{name} lives in another room or on another horizon than the first; play those apart."
                )
        last = max(life.n_episodes for life in named.values()) - 1
        if not 0 <= episode <= max(0, last):
            raise ValueError(f"episode={episode}; these lifetimes have episodes 0 to {last}.")
        self.lifetimes = named
        data = {
            "kind": page.map_kind(first),
            "columns": size[0],
            "rows": size[1],
            "horizon": spec.horizon,
        }
        data["lifetimes"] = [_life(*item) for item in named.items()]
        super().__init__(data=data, episode=episode, step=spec.horizon if step is None else step)

    def png(self) -> bytes:
        """The rooms at the clock's episode and step, as a picture."""
        from matplotlib.figure import Figure

        canvas = Figure(
            figsize=(2.9 * len(self.lifetimes) + 0.2, 3.5), dpi=100, layout="constrained"
        )
        for ax, (name, life) in zip(
            canvas.subplots(1, len(self.lifetimes), squeeze=False)[0],
            self.lifetimes.items(),
            strict=True,
        ):
            if not life.n_episodes:
                ax.axis("off")
                ax.set_title(f"{name}: no episodes", fontsize=10, parse_math=False)
                continue
            e = min(self.episode, life.n_episodes - 1)
            cells, lengths, headings = page.token_cells(life), life.length[0], page.headings(life)
            t = min(self.step, lengths[e])
            earlier = [cells[i, : lengths[i] + 1] for i in range(e)]
            visits = page.painted(page.map_size(life), np.concatenate([cells[:0, 0], *earlier]))
            hidden = [*page.marks(life), *page.passing(life)] if self.show_goal else []
            kind, marks = page.map_kind(life), [mark for mark in hidden if page.there(mark, e, t)]
            shade = visits if kind == "arms" else visits**0.5
            page.draw_room(
                ax, shade, cells[e, : t + 1], marks, kind, headings[e, t] if len(headings) else None
            )
            ax.set_anchor("S")  # what is left over is above, where the names are
            title = f"{name}\nepisode {life.episode[e]}: return {life.episode_returns[0, e]:g}"
            ax.set_title(
                title, fontsize=10, parse_math=False
            )  # a name may come from a file: text, no formula
        return page.as_png(canvas)

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained file that works offline with its controls."""
        state = {
            name: getattr(self, name)
            for name in ("episode", "step", "show_goal", "playing", "speed", "data")
        }
        return page.page(path, "Lifetimes side by side", "player.js", state)

    def _repr_mimebundle_(self, **kwargs):
        return page.with_picture(
            super()._repr_mimebundle_(**kwargs), self.png(), f"Player: {', '.join(self.lifetimes)}"
        )


def _life(name: str, life: Histories) -> dict:
    """What the front end draws of one lifetime."""
    numbers = {
        "cells": (page.token_cells(life), "float32"),
        "headings": (page.headings(life), "float32"),
        "lengths": (life.length[0], "int32"),
        "returns": (life.episode_returns[0], "float32"),
        "numbers": (life.episode, "int32"),
    }
    packed = {key: page.packed(values, dtype) for key, (values, dtype) in numbers.items()}
    return packed | {"name": str(name), "marks": [*page.marks(life), *page.passing(life)]}


class Replay(widgets.VBox):
    """One lifetime behind an ordinary ipywidgets slider over its episodes, linked in the browser: no kernel while it is dragged."""

    def __init__(self, lifetime: Histories, episode: int = 0):
        self.player = Player({checks.histories(lifetime).spec.name: lifetime}, episode)
        self.episode = widgets.IntSlider(
            episode,
            0,
            max(0, lifetime.n_episodes - 1),
            description="episode",
            layout={"width": "420px"},
        )
        self.link = widgets.jslink((self.episode, "value"), (self.player, "episode"))
        super().__init__([self.episode, self.player])

    def _repr_mimebundle_(self, **kwargs):
        self.player.episode = self.episode.value
        text = f"Replay of {', '.join(self.player.lifetimes)}, episode {self.episode.value}"
        return page.with_picture(super()._repr_mimebundle_(**kwargs), self.player.png(), text)


def replay(lifetime: Histories, episode: int = 0) -> Replay:
    """A slider over the episodes of one lifetime; without a kernel, a picture of `episode`."""
    return Replay(lifetime, episode)
