"""What shards make of every cell: arrows for what they want where, and what a creature does, behind sliders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from adkit.cookieworld import anatomy
from adkit.cookieworld.planning import hides
from adkit.cookieworld.shard import BASE, BETA, STRONGEST
from adkit.cookieworld.world import EAT, STARVED, STAY, CookieWorld
from adkit.protocols import Tasks
from adkit.views import page

REACH = 0.46  # cells: an arrow of full length
LOUD = 4.0  # logits: a bid whose arrow has full length
MOVES = np.array([(0, -1), (0, 1), (1, 0), (-1, 0)])
ROUND = np.exp(2j * np.pi * np.arange(40) / 40).view(float).reshape(-1, 2)  # a circle of radius 1
STEP = 0.1  # of the strength slider, and of the table of what planners do
COLOURS = {"cookie": page.CURSOR, "food": page.GOOD, "policy": page.ATTENTION}
TITLES = {
    "cookie": "the cookie shard bids",
    "food": "the food shard bids",
    "policy": "what it does",
}


def arrow_fields(fields: Mapping[str, np.ndarray], task: Tasks, title: str = "") -> page.Picture:
    """Rooms side by side, an arrow for every move: values (cells, 8) up to 1, such as heads or probabilities, under their names.

    An arrow is as long as its value, a disc on the jar or in the garden as wide as that of EAT there; what is below 0 is not drawn.
    """
    shapes = {name: np.shape(values) for name, values in fields.items()}
    cells = next(iter(shapes.values()), (0,))[0]
    if not cells or set(shapes.values()) != {(cells, 8)} or math.isqrt(cells) ** 2 != cells:
        raise ValueError(
            f"fields {shapes}; give (cells, 8) of one square room each, such as anatomy.heads(env, task)[0, 0]."
        )
    if len(task) != 1:
        raise ValueError(f"{len(task)} tasks given; a picture shows one: task=tasks[:1].")
    from matplotlib.figure import Figure

    canvas = Figure(
        figsize=(2.6 * len(fields) + 0.2, 3 + 0.3 * bool(title)), dpi=100, layout="constrained"
    )
    for ax, (name, values) in zip(
        canvas.subplots(1, len(fields), squeeze=False)[0], fields.items(), strict=True
    ):
        _draw(ax, np.asarray(values), task, COLOURS.get(name.split()[0], page.ATTENTION))
        ax.set_title(name, fontsize=10)
    if title:
        canvas.suptitle(title, fontsize=11)
    return page.Picture(page.as_png(canvas), f"Fields: {', '.join(fields)}")


def _draw(ax, values: np.ndarray, task: Tasks, colour: str, waits: bool = False) -> None:
    """One room and its arrows; with `waits`, a grey disc for what is left of a policy: all that leads nowhere."""
    from matplotlib.collections import LineCollection, PolyCollection

    size = math.isqrt(len(values))
    page.draw_room(ax, np.zeros((size, size)), np.zeros((0, 2)), page.sites(task))
    xy = np.argwhere(np.ones((size, size)))
    eats, rest = _discs(values, task)
    lines, shapes, paints = [], [], []
    for radii, paint in ((rest * waits, "#9aa0a6"), (eats, colour)):
        discs = [
            centre + radius * ROUND
            for centre, radius in zip(xy, radii, strict=True)
            if radius > 0.02
        ]
        shapes, paints = shapes + discs, paints + [paint] * len(discs)
    length = REACH * values[:, :4].clip(0, 1)  # (cells, moves)
    for cell, move in np.argwhere(length > 0.02):
        along, across = MOVES[move], 0.7 * MOVES[move][::-1]
        tip, barb = xy[cell] + length[cell, move] * along, min(0.1, 0.6 * length[cell, move])
        lines.append([xy[cell], tip - barb * along])
        shapes.append([tip, tip - barb * (along + across), tip - barb * (along - across)])
    ax.add_collection(
        PolyCollection(shapes, facecolors=paints + [colour] * len(lines), linewidths=0, zorder=2.5)
    )
    ax.add_collection(
        LineCollection(lines, colors=colour, linewidths=1.5, capstyle="butt", zorder=3)
    )


def _discs(values: np.ndarray, task: Tasks) -> tuple[np.ndarray, np.ndarray]:
    """Radii (cells,) in cells of the discs for EAT where there is something to eat, and for what leads nowhere."""
    size = math.isqrt(len(values))
    sites = np.zeros(len(values), bool)
    for name in ("jar", "garden"):
        sites[task[name][0] @ (size, 1)] = True
    eat = np.where(sites, values[:, EAT], 0).clip(0, 1)
    rest = (values[:, STAY:].sum(1) - eat).clip(0, 1)
    return REACH / 2 * np.sqrt(eat), REACH / 2 * np.sqrt(rest)


class PolicyField(anywidget.AnyWidget):
    """What a creature of shards does in every cell, and which shard says so: `PolicyField(env, tasks)`.

    `hunger` 0 to 5, `strength` of its cookie shard 0 to 3, `task`, the number of one of the tasks - they may differ in where the
    jar is - and `full`, whether the open jar holds cookies, are two-way traits: read them, set them, `jslink` them. Arrows are
    as long as a bid (4 logits reach the wall) or a probability; discs are EAT, grey ones all that leads nowhere. Everything is
    learned and nothing planned: what a sophisticated planner would do about it in the morning is the curve beside the rooms.
    """

    _esm = page.script("fields.js")

    hunger = traitlets.Int(1, min=0, max=STARVED).tag(sync=True)
    strength = traitlets.Float(1.2, min=0, max=STRONGEST).tag(sync=True)
    task = traitlets.Int(0, min=0).tag(sync=True)
    full = traitlets.Bool(True).tag(sync=True)
    data = traitlets.Dict().tag(sync=True)

    def __init__(self, env: CookieWorld, tasks: Tasks, *, w_food: float = 1.0, **traits):
        if not isinstance(env, CookieWorld):
            raise ValueError(
                f"{env!r}; creatures of shards live in a CookieWorld: PolicyField(ad.envs.CookieWorld(), tasks)."
            )
        if not len(tasks) or not 0 <= w_food < math.inf:
            raise ValueError(
                f"{len(tasks)} tasks, w_food={w_food}; give at least one task, and a strength of at least 0."
            )
        self.env, self.tasks, self.w_food = env, tasks, float(w_food)
        self.heads = anatomy.heads(env, tasks)[:, :2]  # (n, cookie and food, cells, 8)
        self.strengths = np.arange(0, STRONGEST + STEP / 2, STEP)
        self.hides, self.avoids = anatomy.hiding(
            env, tasks, self.strengths, w_food
        )  # (n, strengths, 6)
        jar = env.places(tasks)[:, 1]
        cells = np.stack(
            [np.arange(env.size**2) // env.size, np.arange(env.size**2) % env.size], -1
        )
        self.near = (
            np.abs(cells[None] - cells[jar][:, None]).max(-1) <= 1
        )  # (n, cells) from where the jar is seen
        numbers = {
            "heads": self.heads,
            "gates": anatomy.gates(),
            "hides": self.hides,
            "avoids": self.avoids,
            "base": BASE,
        }
        data = {name: page.packed(values, "float32") for name, values in numbers.items()}
        data |= {
            "near": page.packed(self.near, "uint8"),
            "distances": self.distances.tolist(),
            "size": env.size,
            "beta": BETA,
        }
        data |= {
            "w_food": self.w_food,
            "empty": float(hides(0.0)),
            "strengths": self.strengths.tolist(),
            "titles": TITLES,
        }
        data["marks"] = [page.sites(one) for one in tasks]
        data["sites"] = env.places(tasks)[:, 1:].tolist()
        super().__init__(data=data, **traits)

    @traitlets.validate("task")
    def _one_of_them(self, proposal) -> int:
        if self.data and proposal["value"] >= len(self.tasks):
            raise traitlets.TraitError(
                f"task={proposal['value']}; this view has tasks 0 to {len(self.tasks) - 1}."
            )
        return proposal["value"]

    @property
    def distances(self) -> np.ndarray:
        """(n,) steps from home to the jar of each task."""
        return np.abs(self.tasks["home"].astype(int) - self.tasks["jar"]).sum(1)

    def policy(self) -> np.ndarray:
        """(cells, 8) the probabilities of actions, now."""
        one = self.tasks[[self.task]]
        return anatomy.policy(self.env, one, self.strength, self.w_food, self.hunger, self.full)[0]

    def bids(self) -> np.ndarray:
        """(2, cells, 8) what the cookie and the food shard add to the logits, now."""
        unseen, seen, food = anatomy.gates()[:, self.hunger]
        craves = (
            self.full * self.strength * np.where(self.near[self.task], seen, unseen)
        )  # (cells,)
        return (
            BETA
            * self.heads[self.task]
            * np.stack([craves, np.full_like(craves, self.w_food * food)])[..., None]
        )

    def planned(self) -> tuple[float, float]:
        """Waking like this, the probability that a planner hides the cookies, and how many fewer it would eat for it."""
        if not self.full:
            return float(hides(0.0)), 0.0
        at = lambda table: float(
            np.interp(self.strength, self.strengths, table[self.task, :, self.hunger])
        )
        return at(self.hides), at(self.avoids)

    def png(self) -> bytes:
        """The rooms and the curve as they are now, as a picture."""
        from matplotlib.figure import Figure

        one, chance, (cookie, food) = self.tasks[[self.task]], self.planned()[0], self.bids() / LOUD
        canvas = Figure(figsize=(10.6, 3.3), dpi=100, layout="constrained")
        axes = canvas.subplots(1, 4, width_ratios=[1, 1, 1, 0.85])
        for ax, (name, values) in zip(
            axes, {"cookie": cookie, "food": food, "policy": self.policy()}.items(), strict=False
        ):
            _draw(ax, values, one, COLOURS[name], waits=name == "policy")
            ax.set_title(TITLES[name], fontsize=10)
        curve = (
            self.hides[self.task, :, self.hunger]
            if self.full
            else np.full(len(self.strengths), chance)
        )
        axes[3].plot(self.strengths, curve, color="#333333")
        axes[3].plot(self.strength, chance, "o", color=page.CURSOR)
        axes[3].set(ylim=(0, 1), xlabel="strength of the cookie shard")
        axes[3].set_title("a planner hides them", fontsize=10)
        axes[3].spines[["top", "right"]].set_visible(False)
        canvas.suptitle(self._says(), fontsize=10)
        return page.as_png(canvas)

    def _says(self) -> str:
        jar = "a full jar" if self.full else "an empty jar"
        return f"hunger {self.hunger}, strength {self.strength:.1f}, {jar} {self.distances[self.task]} steps from home"

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained file that works offline with its sliders."""
        state = {
            name: getattr(self, name) for name in ("hunger", "strength", "task", "full", "data")
        }
        return page.page(path, "What shards want where", "fields.js", state)

    def _repr_mimebundle_(self, **kwargs):
        return page.with_picture(
            super()._repr_mimebundle_(**kwargs), self.png(), f"PolicyField: {self._says()}"
        )
