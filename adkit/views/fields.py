"""A shard agent's policy in every cell of its room, as arrows, and how its shards add up to it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import traitlets

from adkit.cookieworld import anatomy
from adkit.cookieworld.planning import hide_probability
from adkit.cookieworld.shard import BASE, BETA, STRONGEST
from adkit.cookieworld.world import STARVED, CookieWorld
from adkit.protocols import Tasks
from adkit.views import maps, page

W_FOOD = 1.0  # strength of the food shard
STEP = 0.1  # of the strength slider, and of the table of what planners do


class ArrowFields(page.View):
    """Values (cells, 8) in [0, 1], such as probabilities, as arrows: one room for each name.

    Each move has an arrow as long as its value, EAT a disc on the jar or in the garden. Values
    below 0 are not drawn. Fields named cookie and food have the colours of their shards.
    """

    _esm = page.script("arrows.js", "arrow_fields.js")

    def __init__(self, fields: Mapping[str, np.ndarray], task: Tasks):
        self.names = list(fields)
        size = math.isqrt(len(fields[self.names[0]]))
        sites = [task[name][0].astype(int) @ (size, 1) for name in ("jar", "garden")]
        data = {"size": size, "marks": maps.task_marks(task), "sites": [int(at) for at in sites]}
        data |= {
            "names": self.names,
            "values": page.packed([*fields.values()], "float32"),
        }
        super().__init__(data=data)

    def describe(self) -> str:
        """Return the names of the fields."""
        return f"Fields: {', '.join(self.names)}"


class PolicyField(page.View):
    """A shard agent's policy in every cell, and the bids of its shards: `PolicyField(env, tasks)`.

    Two-way traits: `hunger` 0 to 5, `strength` of the cookie shard 0 to 3, `task`, the number of
    one of the tasks, and `full`, whether the open jar holds cookies. Arrows are as long as a bid (4
    logits reach the wall) or a probability. Discs are EAT; grey discs, all that leads nowhere. The
    agent has learned everything and plans nothing. The curve beside the rooms is the probability
    that a sophisticated planner hides the cookies in the morning.
    """

    _esm = page.script("arrows.js", "policy_field.js")

    hunger = traitlets.Int(1, min=0, max=STARVED).tag(sync=True)
    strength = traitlets.Float(1.2, min=0, max=STRONGEST).tag(sync=True)
    task = traitlets.Int(0, min=0).tag(sync=True)
    full = traitlets.Bool(True).tag(sync=True)

    def __init__(self, env: CookieWorld, tasks: Tasks, **traits):
        strengths = np.arange(0, STRONGEST + STEP / 2, STEP)
        # probability of hiding, and cookies not eaten because of it: (n, strengths, 6)
        hides, avoids = anatomy.hiding(env, tasks, strengths, W_FOOD)
        cells = np.argwhere(np.ones((env.size, env.size)))
        away = np.abs(cells - tasks["jar"].astype(int)[:, None]).max(-1)  # (n, cells)
        self.distances = np.abs(tasks["home"].astype(int) - tasks["jar"]).sum(1)  # home to jar
        heads = anatomy.heads(env, tasks)[:, :2]  # (n, cookie and food, cells, 8)
        numbers = {"heads": heads, "hides": hides, "avoids": avoids}
        numbers |= {"gates": anatomy.gates(), "base": BASE}
        data = (
            {name: page.packed(values, "float32") for name, values in numbers.items()}
            | {
                "near": page.packed(away <= 1, "uint8"),  # the jar can be seen from here
                "distances": self.distances.tolist(),
                "strengths": strengths.tolist(),
                "size": env.size,
                "beta": BETA,
                "w_food": W_FOOD,
                "empty": float(hide_probability(0.0)),
                "marks": [maps.task_marks(one) for one in tasks],
                "sites": env.places(tasks)[:, 1:].tolist(),
            }
        )
        super().__init__(data=data, **traits)

    def describe(self) -> str:
        """Return the values of the sliders."""
        jar = "a full jar" if self.full else "an empty jar"
        state = f"hunger {self.hunger}, strength {self.strength:.1f}, {jar}"
        return f"PolicyField: {state} {self.distances[self.task]} steps from home"
