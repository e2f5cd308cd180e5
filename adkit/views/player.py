"""Replays of lifetimes, side by side on one clock."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import traitlets

from adkit.histories import Histories
from adkit.views import maps, page


class Player(page.View):
    """Lifetimes in their rooms, side by side: `Player({"source": source[0], "ours": rollouts[0]})`.

    `episode` and `step` are two-way traits, the clock that all lifetimes share; a lifetime that is
    over stands still. Step t shows where the first t actions have led. Shades: earlier visits.
    Green: start. Orange: now, with the heading if there is one. If shown, what is hidden: goal, key
    and door, platform, best arm (numbers: earlier pulls); home, jar, lid, cookies, garden.
    """

    _esm = page.script("player.js")
    title = "Lifetimes side by side"

    episode = traitlets.Int(0, min=0).tag(sync=True)
    step = traitlets.Int(0, min=0).tag(sync=True)
    show_goal = traitlets.Bool(True).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Int(10).tag(sync=True)
    """Steps a second."""

    def __init__(self, lifetimes: Mapping[str, Histories], episode: int = 0):
        first, *_ = lifetimes.values()
        world = maps.kind(first), maps.size(first), first.spec.horizon
        if world[0] is None:
            raise ValueError(f"{first.spec.name} has no map to draw, for it observes no places")
        for name, each in lifetimes.items():
            if len(each) != 1:
                raise ValueError(f"{name!r} must be one lifetime, got {len(each)}; try rollouts[0]")
            if (maps.kind(each), maps.size(each), each.spec.horizon) != world:
                raise ValueError(
                    f"{name!r} has another map or horizon than the first; play it alone"
                )
        last = max(each.n_episodes for each in lifetimes.values()) - 1
        if not 0 <= episode <= last:
            raise ValueError(f"`episode` must be in 0 to {last}, got {episode}")
        self.lifetimes = dict(lifetimes)
        kind, (columns, rows), horizon = world
        data = {"kind": kind, "columns": columns, "rows": rows, "horizon": horizon}
        data["lifetimes"] = [_lifetime_data(*item) for item in lifetimes.items()]
        super().__init__(data=data, episode=episode, step=horizon)

    def png(self) -> bytes:
        """Return a picture of the rooms at the clock's episode and step."""
        return page.draw_png(self._draw, 2.9 * len(self.lifetimes) + 0.2, 3.5)

    def describe(self) -> str:
        """Return the names of the lifetimes."""
        return f"Player: {', '.join(self.lifetimes)}"

    def _draw(self, canvas) -> None:
        axes = canvas.subplots(1, len(self.lifetimes), squeeze=False)[0]
        for ax, (name, lifetime) in zip(axes, self.lifetimes.items(), strict=True):
            self._draw_lifetime(ax, name, lifetime)

    def _draw_lifetime(self, ax, name: str, lifetime: Histories) -> None:
        e, lengths = min(self.episode, lifetime.n_episodes - 1), lifetime.length[0]
        t = min(self.step, lengths[e])
        cells, headings = maps.token_cells(lifetime), maps.headings(lifetime)
        earlier = [cells[i, : lengths[i] + 1] for i in range(e)]
        visits = maps.weigh(maps.size(lifetime), np.concatenate([cells[:0, 0], *earlier]))
        kind = self.data["kind"]
        shade = visits if kind == "arms" else visits**0.5
        marks = [mark for mark in maps.marks(lifetime) if maps.is_visible(mark, e, t)]
        heading = headings[e, t] if len(headings) else None
        maps.draw_room(ax, shade, cells[e, : t + 1], marks * self.show_goal, kind, heading)
        ax.set_anchor("S")  # what is left over is above, where the names are
        about = f"episode {lifetime.episode[e]}: return {lifetime.episode_returns[0, e]:g}"
        ax.set_title(f"{name}\n{about}", fontsize=10)


def _lifetime_data(name: str, lifetime: Histories) -> dict:
    """Return what the front end draws of one lifetime."""
    headings = page.packed(maps.headings(lifetime), "float32")
    more = {"name": str(name), "marks": maps.marks(lifetime), "headings": headings}
    return maps.packed(lifetime) | more


def replay(lifetime: Histories, episode: int = 0) -> Player:
    """Show one lifetime behind sliders; without a kernel, a picture of `episode`."""
    return Player({lifetime.spec.name: lifetime}, episode)
