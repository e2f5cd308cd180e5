"""Posterior sampling in the water maze: swim to where the platform may still be, until it is found; then straight there.

It knows how it moves and how large a platform is, and not where: an upper bound on what a source can be, not a learner
from scratch. Thompson 1933; Strens 2000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numba.extending import register_jitable

from adkit.envs.watermaze import PLATFORM, RING, toward
from adkit.protocols import EnvSpec, Transition
from adkit.seeds import Rng, uniform

NOISE, CHOOSE, SAMPLE = np.uint64(0), np.uint64(1), np.uint64(2)  # draws of a step


@dataclass(frozen=True)
class GoalSearch:
    """Sample a place that nothing seen so far rules out, swim there, sample again once it is ruled out."""

    noise: float = 0.0
    """Probability of a random action at every step."""
    cells: int = 48
    """Places considered: a grid of cells x cells over the room, of which those in the ring count."""

    def __post_init__(self):
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise={self.noise}; a probability lies in [0, 1]. Try noise=0.02.")
        if not 24 <= self.cells <= 256:  # half a cell's diagonal must be well inside a platform
            raise ValueError(f"cells={self.cells}; give 24 to 256 along a side. Try 48.")

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> GoalSearcher:
        if spec.name != "Watermaze":
            raise ValueError(
                f"GoalSearch knows the Watermaze and this is {spec.name}; PosteriorSampling() serves worlds with tables."
            )
        return GoalSearcher(self, spec, rng)


class GoalSearcher:
    """N searchers in lock step. `possible` (N, C, C) says which places, cells of a grid over the room, may hold the platform."""

    def __init__(self, config: GoalSearch, spec: EnvSpec, rng: Rng):
        self.config, self.n_actions, self.rng, self.t = config, spec.n_actions, rng, 0
        middle = _middle(np.arange(config.cells), config.cells)
        radius, slack = np.hypot(middle[:, None], middle), _slack(config.cells)
        self.prior = (radius > RING[0] - slack) & (radius < RING[1] + slack)
        self.possible = np.tile(self.prior, (len(rng), 1, 1))
        self.target, self.found = np.full((len(rng), 2), -1), np.zeros(len(rng), bool)
        self.open = np.ones(
            len(rng), bool
        )  # the platform was not yet reached in this episode: not being paid says something

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        self.open |= first
        self.target[first & ~self.found] = -1
        noise, keys = self.config.noise, self.rng.keys
        return _act_all(
            self.prior,
            self.possible,
            self.target,
            obs,
            noise,
            self.n_actions,
            keys,
            np.uint64(self.t),
        )

    def update(self, transition: Transition) -> None:
        paid = transition.reward > 0
        _learn_all(self.possible, self.target, self.found, self.open, transition.next_obs, paid)
        self.open &= ~paid
        self.t += 1


@register_jitable
def _middle(i, cells):
    """Where the middle of a cell is, along either axis."""
    return (2 * i + 1) / cells - 1


@register_jitable
def _slack(cells):
    """Half a cell's diagonal: a platform is this close to the middle of its cell, or closer."""
    return 2**0.5 / cells


@njit(cache=True)
def _act_all(prior, possible, target, pose, noise, n_actions, keys, t):
    action, cells = np.empty(len(pose), np.uint8), possible.shape[1]
    for n in range(len(pose)):
        if target[n, 0] < 0:
            if not possible[n].any():  # it was moved: begin anew
                possible[n] = prior
            target[n] = _sample(possible[n], keys[n], t)
        if noise > 0 and uniform(keys[n], t, NOISE) < noise:
            action[n] = int(uniform(keys[n], t, CHOOSE) * n_actions)
        else:
            x, y = _middle(target[n, 0], cells), _middle(target[n, 1], cells)
            action[n] = toward(pose[n, 0], pose[n, 1], pose[n, 2], x, y)
    return action


@njit(cache=True)
def _sample(possible, key, t):
    """A possible cell, each equally likely. Unless the platform is moved there always is one: its own is never ruled out."""
    flat = possible.ravel()
    skip = int(uniform(key, t, SAMPLE) * flat.sum())
    for m in range(len(flat)):
        skip -= flat[m]
        if skip < 0:
            return m // len(possible), m % len(possible)
    return 0, 0


@njit(cache=True)
def _learn_all(possible, target, found, open, pose, paid):
    """Not paid: no cell of which every platform would have been reached. Paid: only cells with a platform that was reached."""
    cells = possible.shape[1]
    for n in range(len(pose)):
        if not open[n]:
            continue
        x, y, near = (
            pose[n, 0],
            pose[n, 1],
            PLATFORM + (_slack(cells) if paid[n] else -_slack(cells)),
        )
        far = (
            near if not paid[n] else 4 * PLATFORM if found[n] else 2.0
        )  # what more there was of a platform found is closer
        news = paid[n] and not found[n]
        found[n] |= paid[n]
        for i in _cells(x, far, cells):
            for j in _cells(y, far, cells):
                if possible[n, i, j]:
                    dx, dy = _middle(i, cells) - x, _middle(j, cells) - y
                    possible[n, i, j] = (dx * dx + dy * dy <= near * near) == paid[n]
        ruled_out = not possible[n, target[n, 0], target[n, 1]]
        if found[n] and (news or ruled_out):
            target[n] = _central(possible[n], x, y)
            found[n] = target[n, 0] >= 0
        elif ruled_out:
            target[n] = -1


@njit(cache=True)
def _cells(x, far, cells):
    """The cells, along either axis, between x - far and x + far."""
    return range(
        max(0, int((x - far + 1) * cells / 2)), min(cells, int((x + far + 1) * cells / 2) + 1)
    )


@njit(cache=True)
def _central(possible, x, y):
    """The possible cell closest to the middle of all possible ones, of a platform found close to (x, y); -1 if there is none."""
    cells, count, i_sum, j_sum = len(possible), 0, 0, 0
    for i in _cells(x, 4 * PLATFORM, cells):
        for j in _cells(y, 4 * PLATFORM, cells):
            if possible[i, j]:
                count, i_sum, j_sum = count + 1, i_sum + i, j_sum + j
    best, chosen = np.inf, (-1, -1)
    for i in _cells(x, 4 * PLATFORM, cells):
        for j in _cells(y, 4 * PLATFORM, cells):
            if possible[i, j]:
                distance = (i - i_sum / count) ** 2 + (j - j_sum / count) ** 2
                if distance < best:
                    best, chosen = distance, (i, j)
    return chosen
