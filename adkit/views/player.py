"""Replays of lifetimes, side by side on one clock."""

from __future__ import annotations

from collections.abc import Mapping

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

    episode = traitlets.Int(0, min=0).tag(sync=True)
    step = traitlets.Int(0, min=0).tag(sync=True)
    show_goal = traitlets.Bool(True).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Int(10).tag(sync=True)
    """Steps a second."""

    def __init__(self, lifetimes: Mapping[str, Histories], episode: int = 0):
        for name, each in lifetimes.items():
            if len(each) != 1:
                raise ValueError(f"{name!r} must be one lifetime, got {len(each)}; try rollouts[0]")
        self.lifetimes = dict(lifetimes)
        self.maps = [maps.of(each) for each in lifetimes.values()]
        drawn, (first, *_) = self.maps[0], lifetimes.values()
        if drawn.kind is None:
            raise ValueError(f"{first.spec.name} has no map to draw, for it observes no places")
        sizes = {(drawn.kind, drawn.columns, drawn.rows) for drawn in self.maps}
        if len(sizes | {each.spec.horizon for each in lifetimes.values()}) > 2:
            raise ValueError("lifetimes side by side must have one map and one horizon")
        last = max(each.n_episodes for each in lifetimes.values()) - 1
        if not 0 <= episode <= last:
            raise ValueError(f"`episode` must be in 0 to {last}, got {episode}")
        data = {"kind": drawn.kind, "columns": drawn.columns, "rows": drawn.rows}
        data |= {"horizon": first.spec.horizon, "lifetimes": []}
        for (name, each), drawn in zip(lifetimes.items(), self.maps, strict=True):
            of_one = {"name": str(name), "marks": drawn.marks} | maps.packed(each, drawn.cells)
            of_one["headings"] = page.packed(drawn.headings, "float32")
            data["lifetimes"].append(of_one)
        super().__init__(data=data, episode=episode, step=first.spec.horizon)

    def describe(self) -> str:
        """Return the names of the lifetimes."""
        return f"Player: {', '.join(self.lifetimes)}"


def replay(lifetime: Histories, episode: int = 0) -> Player:
    """Show one lifetime behind sliders; without a kernel, a picture of `episode`."""
    return Player({lifetime.spec.name: lifetime}, episode)
