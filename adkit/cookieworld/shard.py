"""The equations of a shard: its gate, its head, its bid, and how its strength changes.

A shard is a triple (gate, head, strength). Its bid, strength * gate * head, adds to the logits of
the eight actions. Every function is compiled and takes plain scalars or one agent's arrays.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from adkit.cookieworld.world import EAT, HIDE, WEST, led, near, steps
from adkit.seeds import uniform

COOKIE, FOOD = 0, 1  # shards with learned values; a third one explores
BETA = 2.5  # inverse temperature
BASE = np.array([0, 0, 0, 0, 0, 0, -3.5, 0])  # logits without a bid
GAMMA = 0.9  # discount of the values that heads are made of
FLOOR = 0.1  # a head whose best value is below this bids with less than full force
STRONGEST = 3.0  # upper limit of the cookie shard's strength

# the regimes: how the strength of the cookie shard changes within a lifetime
STABLE, USE, DRIFT, REDISH, HOMEOSTATIC, YOKED, RECOVERY = range(7)
MEAN, WEAKEST = 1.2, 0.1  # of the Ornstein-Uhlenbeck walk of DRIFT
SURGE = 0.5  # smallest prediction error of a cookie in REDISH (Redish 2004)
WITHDRAWAL = 0.5  # strength that each level of tolerance adds in HOMEOSTATIC
GAUSS, ANGLE = np.uint64(8), np.uint64(9)  # draws of a morning


@njit(cache=True)
def sigmoid(x):
    """Return the logistic function of x."""
    return 1 / (1 + math.exp(-x))


@njit(cache=True)
def cookie_gate(visible, hunger):
    """Return the gate in [0, 1]; a visible cookie and hunger open it."""
    return sigmoid(-1.5 + 2.8 * visible + 0.6 * (hunger - 2))


@njit(cache=True)
def food_gate(hunger):
    """Return the gate in [0, 1]; hunger opens it."""
    return sigmoid(-1 + (hunger - 1.0))


@njit(cache=True)
def head(value, best):
    """Return a shard's preference for an action, in [-1, 1].

    It is the action's advantage over standing still, in units of one step's discount. Once values
    are learned this is the sign of the change in distance to the shard's site; before, it is 0.
    """
    if best <= 0:
        return 0.0
    advantage = (value - GAMMA * best) / ((1 - GAMMA) * max(best, FLOOR))
    return min(1.0, max(-1.0, advantage))


@njit(cache=True)
def notice(q, site, size):
    """Fill in the values (cells, 8) of all cells within sight of a site, when it is first seen."""
    for at in range(size * size):
        if near(at, site, size):
            for a in range(8):
                far = steps(led(at, a, size), site, size)
                q[at, a] = 1.0 if at == site and a == EAT else GAMMA ** (far + 1)


@njit(cache=True)
def learn(q, at, action, got, to, lr, surge):
    """Take one step of Q-learning; the reinforcer `got` ends the shard's episode.

    With a `surge` the prediction error of a reinforcer never falls below it (Redish 2004).
    """
    error = (1.0 if got else GAMMA * q[to].max()) - q[at, action]
    if got and surge > 0:
        error = min(max(error + surge, surge), (STRONGEST - q[at, action]) / lr)
    q[at, action] += lr * error


@njit(cache=True)
def strength(regime, w, peak, tolerance):
    """Return the strength of the cookie shard's bid; `peak` is the value of eating a cookie."""
    if regime == REDISH:
        return w * max(1.0, peak)
    return w + WITHDRAWAL * tolerance if regime == HOMEOSTATIC else w


@njit(cache=True)
def overnight(regime, w, w_first, decay, walk, key, t):
    """Return w on the next morning; `walk` is (pull, noise)."""
    if regime == DRIFT:
        radius = math.sqrt(-2 * math.log(1 - uniform(key, t, GAUSS)))
        noise = radius * math.cos(2 * math.pi * uniform(key, t, ANGLE))
        w += walk[0] * (MEAN - w) + walk[1] * noise
        return min(max(w, WEAKEST), STRONGEST)
    return w - decay * (w - w_first)


@njit(cache=True)
def fed(w, eta):
    """Return w after a cookie."""
    return w + eta * (STRONGEST - w)


@njit(cache=True)
def policy(q, visited, at, size, craving, appetite, lost, hides, p):
    """Fill p (8,) with the exact action probabilities of the shards in one cell.

    `craving` and `appetite` are inverse temperature * strength * gate of the cookie and the food
    shard. `lost`: the exploring shard bids. `hides`: HIDE is among the actions.
    """
    best_cookie, best_food, total = q[COOKIE, at].max(), q[FOOD, at].max(), 0.0
    for a in range(8):
        wants, likes = head(q[COOKIE, at, a], best_cookie), head(q[FOOD, at, a], best_food)
        logit = BASE[a] + craving * wants + appetite * likes
        if lost and a <= WEST and not visited[led(at, a, size)]:
            logit += BETA
        p[a] = math.exp(logit) if hides or a != HIDE else 0.0
        total += p[a]
    for a in range(8):
        p[a] /= total


@njit(cache=True)
def first_equal(wants, likes, base, first):
    """Fill first (8,): the first action with the same bids as each action.

    Heads take few values, so the exponentials of most actions need no second evaluation.
    """
    for a in range(8):
        first[a] = 0
        while (
            wants[first[a]] != wants[a] or likes[first[a]] != likes[a] or base[first[a]] != base[a]
        ):
            first[a] += 1
