"""Posterior sampling in the Watermaze: swim to a place where the platform may still be.

It knows how it moves and how large a platform is, but not where the platform is: an upper bound on
what a source can be, not a learner from scratch (Thompson 1933; Strens 2000).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numba.extending import register_jitable

from adkit.envs.watermaze import PLATFORM, RING, toward
from adkit.protocols import EnvSpec, Transition
from adkit.seeds import Rng, uniform
from adkit.sources.settings import cannot_learn, check_shares

NOISE, CHOOSE, SAMPLE = np.uint64(0), np.uint64(1), np.uint64(2)  # draws of a step


@dataclass(frozen=True)
class GoalSearch:
    """Sample a place that is not ruled out, swim there, and sample again once it is ruled out."""

    noise: float = 0.0
    """Probability of a random action at every step."""
    cells: int = 48
    """Places considered: a grid of cells x cells over the room; those in the ring count."""

    def __post_init__(self):
        check_shares(self, "noise")
        if not 24 <= self.cells <= 256:  # half a cell's diagonal must be well inside a platform
            raise ValueError(f"`cells` must be 24 to 256, got {self.cells}; try 48")

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> GoalSearcher:
        if spec.name != "Watermaze":
            raise cannot_learn("GoalSearch", spec, "it knows the Watermaze only")
        return GoalSearcher(self, spec, rng)


class GoalSearcher:
    """N searchers in lock step. `possible` (N, C, C) marks the cells that may hold the platform."""

    def __init__(self, config: GoalSearch, spec: EnvSpec, rng: Rng):
        n, cells = len(rng), config.cells
        self.config, self.n_actions, self.rng, self.t = config, spec.n_actions, rng, 0
        middle = _middle(np.arange(cells), cells)
        radius, slack = np.hypot(middle[:, None], middle), _slack(cells)
        self.prior = (radius > RING[0] - slack) & (radius < RING[1] + slack)
        self.possible = np.tile(self.prior, (n, 1, 1))
        self.target, self.found = np.full((n, 2), -1), np.zeros(n, bool)
        # until an episode's first reward, a step without reward says where the platform is not
        self.searching = np.ones(n, bool)

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        self.searching |= first
        self.target[first & ~self.found] = -1
        random = self.config.noise, self.n_actions, self.rng.keys, np.uint64(self.t)
        return _act_all(self.prior, self.possible, self.target, obs, *random)

    def update(self, transition: Transition) -> None:
        on, pose = transition.reward > 0, transition.next_obs
        _learn_all(self.possible, self.target, self.found, self.searching, pose, on)
        self.searching &= ~on
        self.t += 1


@register_jitable
def _middle(i, cells):
    """Return the middle of cell i along either axis."""
    return (2 * i + 1) / cells - 1


@register_jitable
def _slack(cells):
    """Return half a cell's diagonal: the farthest a platform is from the middle of its cell."""
    return 2**0.5 / cells


@njit(cache=True)
def _act_all(prior, possible, target, pose, noise, n_actions, keys, t):
    action, cells = np.empty(len(pose), np.uint8), possible.shape[1]
    for n in range(len(pose)):
        if target[n, 0] < 0:
            if not possible[n].any():  # the platform was moved: start again
                possible[n] = prior
            i, j = np.nonzero(possible[n])  # the platform's own cell is never ruled out
            m = int(uniform(keys[n], t, SAMPLE) * len(i))
            target[n] = i[m], j[m]
        if noise > 0 and uniform(keys[n], t, NOISE) < noise:
            action[n] = int(uniform(keys[n], t, CHOOSE) * n_actions)
        else:
            x, y = _middle(target[n, 0], cells), _middle(target[n, 1], cells)
            action[n] = toward(pose[n, 0], pose[n, 1], pose[n, 2], x, y)
    return action


@njit(cache=True)
def _learn_all(possible, target, found, searching, pose, on):
    """Rule out cells after a step that ended `on` a platform (N,), or not.

    On it: only cells with a platform that reaches here stay. Not on it: cells of which every
    platform would reach here go.
    """
    cells = possible.shape[1]
    for n in range(len(pose)):
        if not searching[n]:
            continue
        x, y = pose[n, 0], pose[n, 1]
        near = PLATFORM + (_slack(cells) if on[n] else -_slack(cells))
        # once a platform was found, its possible cells are all close
        far = near if not on[n] else 4 * PLATFORM if found[n] else 2.0
        new = on[n] and not found[n]
        found[n] |= on[n]
        for i in _cells(x, far, cells):
            for j in _cells(y, far, cells):
                if possible[n, i, j]:
                    dx, dy = _middle(i, cells) - x, _middle(j, cells) - y
                    possible[n, i, j] = (dx * dx + dy * dy <= near * near) == on[n]
        ruled_out = not possible[n, target[n, 0], target[n, 1]]
        if found[n] and (new or ruled_out):
            target[n] = _central(possible[n])
            found[n] = target[n, 0] >= 0
        elif ruled_out:
            target[n] = -1


@njit(cache=True)
def _cells(x, far, cells):
    """Return the cells, along either axis, between x - far and x + far."""
    low, high = int((x - far + 1) * cells / 2), int((x + far + 1) * cells / 2) + 1
    return range(max(0, low), min(cells, high))


@njit(cache=True)
def _central(possible):
    """Return the possible cell nearest to the middle of all possible ones, -1 if there is none."""
    i, j = np.nonzero(possible)
    if len(i) == 0:
        return -1, -1
    m = ((i - i.mean()) ** 2 + (j - j.mean()) ** 2).argmin()
    return i[m], j[m]
