"""Replays of lifetimes, side by side on one clock."""

from __future__ import annotations

from collections.abc import Mapping

import traitlets

from adkit.histories import Histories
from adkit.views import maps, page


class Player(page.LifetimeView):
    """Lifetimes in their rooms, side by side: `Player({"source": source, "ours": rollouts})`.

    `episode` and `step` are two-way traits, the clock that all lifetimes share; a lifetime that is
    over stands still. `lifetime` says which lifetime of each is shown. Step t shows where the first
    t actions have led. Shades: earlier visits. Green: start. Orange: now, with the heading if there
    is one. If shown, what is hidden: goal, key and door, platform, best arm (numbers: earlier
    pulls); home, jar, lid, cookies, garden.
    """

    _esm = page.script("player.js")

    episode = traitlets.Int(0).tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    show_goal = traitlets.Bool(True).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Int(10).tag(sync=True)
    """Steps a second."""

    def __init__(self, histories: Mapping[str, Histories], episode: int = 0, lifetime: int = 0):
        counts = {name: len(each) for name, each in histories.items()}
        if len(set(counts.values())) != 1 or 0 in counts.values():
            raise ValueError(f"each must have as many lifetimes, got {counts}; try rollouts[0]")
        self.histories, (first, *_) = dict(histories), histories.values()
        drawn = [maps.of(each[0]) for each in histories.values()]
        if drawn[0].kind is None:
            raise ValueError(f"{first.spec.name} has no map to draw, for it observes no places")
        sizes = {(one.kind, one.columns, one.rows) for one in drawn}
        if len(sizes | {each.spec.horizon for each in histories.values()}) > 2:
            raise ValueError("lifetimes side by side must have one map and one horizon")
        last = max(each.n_episodes for each in histories.values()) - 1
        limits = {"episode": last, "step": first.spec.horizon}
        at = {"lifetime": lifetime, "episode": episode, "step": first.spec.horizon}
        super().__init__([*histories.values()], limits, **at)

    def numbers(self, lifetime: int) -> dict:
        """Return where each of the lifetimes with this number went, and its map."""
        of_each = [
            {"name": str(name)} | maps.packed(each[lifetime])
            for name, each in self.histories.items()
        ]
        return {"horizon": self.limits["step"], "lifetime": lifetime, "lifetimes": of_each}

    def describe(self) -> str:
        """Return the names of the lifetimes."""
        return f"Player: {', '.join(self.histories)}"


def replay(histories: Histories, episode: int = 0, lifetime: int = 0) -> Player:
    """Show lifetimes, one at a time, behind a slider; without a kernel, a picture of `episode`."""
    return Player({histories.spec.name: histories}, episode, lifetime)
