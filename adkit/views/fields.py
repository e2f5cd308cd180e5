"""A shard agent's policy in every cell of its room, as arrows, and how its shards add up to it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import traitlets
from IPython.display import Image

from adkit.cookieworld import anatomy
from adkit.cookieworld.planning import hide_probability
from adkit.cookieworld.shard import BASE, BETA, STRONGEST
from adkit.cookieworld.world import EAT, STARVED, STAY, CookieWorld
from adkit.protocols import Tasks
from adkit.views import maps, page

REACH = 0.46  # cells: an arrow of full length
LOUD = 4.0  # logits: a bid whose arrow has full length
MOVES = np.array([(0, -1), (0, 1), (1, 0), (-1, 0)])
W_FOOD = 1.0  # strength of the food shard
STEP = 0.1  # of the strength slider, and of the table of what planners do
COLOURS = {"cookie": page.CURSOR, "food": page.GOOD, "policy": page.ATTENTION}
TITLES = {
    "cookie": "the cookie shard bids",
    "food": "the food shard bids",
    "policy": "what it does",
}


def arrow_fields(fields: Mapping[str, np.ndarray], task: Tasks) -> Image:
    """Draw values (cells, 8) in [0, 1], such as probabilities, as arrows: one room per name.

    Each move has an arrow as long as its value, EAT a disc on the jar or in the garden. Values
    below 0 are not drawn.
    """

    def draw(canvas) -> None:
        axes = canvas.subplots(1, len(fields), squeeze=False)[0]
        for ax, (name, values) in zip(axes, fields.items(), strict=True):
            _draw_field(ax, values, task, COLOURS.get(name, page.ATTENTION))
            ax.set_title(name, fontsize=10)

    png = page.draw_png(draw, 2.6 * len(fields) + 0.2, 3)
    return Image(png, alt=f"Fields: {', '.join(fields)}")


def _draw_field(ax, values: np.ndarray, task: Tasks, colour: str, waits: bool = False) -> None:
    """Draw one room with arrows for values (cells, 8).

    `waits` adds grey discs for the actions that lead nowhere.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    size = math.isqrt(len(values))
    maps.draw_room(ax, np.zeros((size, size)), np.zeros((0, 2)), maps.task_marks(task))
    xy = np.argwhere(np.ones((size, size)))
    eats, rest = _radii(values, task)
    for radii, paint in ((rest * waits, "#9aa0a6"), (eats, colour)):
        discs = [Circle(place, radius) for place, radius in zip(xy, radii, strict=True)]
        ax.add_collection(PatchCollection(discs, color=paint, linewidths=0, zorder=2.5))
    length = REACH * values[:, :4].clip(0, 1)  # (cells, moves)
    cell, move = np.nonzero(length > 0.02)
    arrows = length[cell, move, None] * MOVES[move]
    cells = {"angles": "xy", "scale_units": "xy", "scale": 1, "units": "xy"}
    head = {"headwidth": 3, "headlength": 2, "headaxislength": 2, "minlength": 0}
    look = {"color": colour, "width": 0.05, "zorder": 3}
    ax.quiver(*xy[cell].T, *arrows.T, **cells, **head, **look)


def _radii(values: np.ndarray, task: Tasks) -> tuple[np.ndarray, np.ndarray]:
    """Return radii (cells,) of the discs for EAT, where there is food, and for waiting."""
    size = math.isqrt(len(values))
    sites = np.zeros(len(values), bool)
    for name in ("jar", "garden"):
        sites[task[name][0] @ (size, 1)] = True
    eat = np.where(sites, values[:, EAT], 0).clip(0, 1)
    rest = (values[:, STAY:].sum(1) - eat).clip(0, 1)
    return REACH / 2 * np.sqrt(eat), REACH / 2 * np.sqrt(rest)


class PolicyField(page.View):
    """A shard agent's policy in every cell, and the bids of its shards: `PolicyField(env, tasks)`.

    Two-way traits: `hunger` 0 to 5, `strength` of the cookie shard 0 to 3, `task`, the number of
    one of the tasks, and `full`, whether the open jar holds cookies. Arrows are as long as a bid (4
    logits reach the wall) or a probability. Discs are EAT; grey discs, all that leads nowhere. The
    agent has learned everything and plans nothing. The curve beside the rooms is the probability
    that a sophisticated planner hides the cookies in the morning.
    """

    _esm = page.script("fields.js")
    title = "What shards want where"

    hunger = traitlets.Int(1, min=0, max=STARVED).tag(sync=True)
    strength = traitlets.Float(1.2, min=0, max=STRONGEST).tag(sync=True)
    task = traitlets.Int(0, min=0).tag(sync=True)
    full = traitlets.Bool(True).tag(sync=True)

    def __init__(self, env: CookieWorld, tasks: Tasks, **traits):
        self.env, self.tasks = env, tasks
        self.heads = anatomy.heads(env, tasks)[:, :2]  # (n, cookie and food, cells, 8)
        self.strengths = np.arange(0, STRONGEST + STEP / 2, STEP)
        # probability of hiding, and cookies not eaten because of it: (n, strengths, 6)
        self.hides, self.avoids = anatomy.hiding(env, tasks, self.strengths, W_FOOD)
        cells = np.argwhere(np.ones((env.size, env.size)))
        away = np.abs(cells - tasks["jar"].astype(int)[:, None]).max(-1)  # (n, cells)
        self.near = away <= 1  # the jar can be seen from here
        self.distances = np.abs(tasks["home"].astype(int) - tasks["jar"]).sum(1)  # home to jar
        numbers = {"heads": self.heads, "hides": self.hides, "avoids": self.avoids}
        numbers |= {"gates": anatomy.gates(), "base": BASE}
        data = {name: page.packed(values, "float32") for name, values in numbers.items()} | {
            "near": page.packed(self.near, "uint8"),
            "distances": self.distances.tolist(),
            "strengths": self.strengths.tolist(),
            "size": env.size,
            "beta": BETA,
            "w_food": W_FOOD,
            "empty": float(hide_probability(0.0)),
            "titles": TITLES,
            "marks": [maps.task_marks(one) for one in tasks],
            "sites": env.places(tasks)[:, 1:].tolist(),
        }
        super().__init__(data=data, **traits)

    def policy(self) -> np.ndarray:
        """Return (cells, 8) the probabilities of actions."""
        odds = np.exp(self.bids().sum(0) + BASE)
        return odds / odds.sum(-1, keepdims=True)

    def bids(self) -> np.ndarray:
        """Return (2, cells, 8) what the cookie and the food shard add to the logits."""
        unseen, seen, food = anatomy.gates()[:, self.hunger]
        craving = self.full * self.strength * np.where(self.near[self.task], seen, unseen)
        push = np.stack([craving, np.full_like(craving, W_FOOD * food)])  # (2, cells)
        return BETA * self.heads[self.task] * push[..., None]

    def planned(self) -> tuple[float, float]:
        """Return how likely a planner is to hide the cookies, and how many fewer it then eats."""
        if not self.full:
            return float(hide_probability(0.0)), 0.0
        tables = [table[self.task, :, self.hunger] for table in (self.hides, self.avoids)]
        hide, avoid = (float(np.interp(self.strength, self.strengths, each)) for each in tables)
        return hide, avoid

    def png(self) -> bytes:
        """Return a picture of the rooms and the curve."""
        return page.draw_png(self._draw, 10.6, 3.3)

    def _draw(self, canvas) -> None:
        one, chance, (cookie, food) = self.tasks[[self.task]], self.planned()[0], self.bids() / LOUD
        *rooms, ax = canvas.subplots(1, 4, width_ratios=[1, 1, 1, 0.85])
        fields = {"cookie": cookie, "food": food, "policy": self.policy()}
        for room, (name, values) in zip(rooms, fields.items(), strict=True):
            _draw_field(room, values, one, COLOURS[name], waits=name == "policy")
            room.set_title(TITLES[name], fontsize=10)
        curve = self.hides[self.task, :, self.hunger]
        curve = curve if self.full else np.full_like(curve, chance)
        ax.plot(self.strengths, curve, color="#333333")
        ax.plot(self.strength, chance, "o", color=page.CURSOR)
        ax.set(ylim=(0, 1), xlabel="strength of the cookie shard")
        ax.set_title("a planner hides them", fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
        canvas.suptitle(self._state(), fontsize=10)

    def describe(self) -> str:
        """Return the values of the sliders."""
        return f"PolicyField: {self._state()}"

    def _state(self) -> str:
        jar = "a full jar" if self.full else "an empty jar"
        distance = f"{self.distances[self.task]} steps from home"
        return f"hunger {self.hunger}, strength {self.strength:.1f}, {jar} {distance}"
