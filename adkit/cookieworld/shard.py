"""A creature of shards, in plain scalars for compiled code: gates, heads, bids, and how a strength changes.

A shard is (gate, head, strength): its bid, strength * gate * head, adds to the logits of the eight actions.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from adkit.cookieworld.world import EAT, HIDE, WEST, led, near, steps
from adkit.seeds import uniform

COOKIE, FOOD = 0, 1  # shards with values; a third explores
BETA = 2.5  # inverse temperature
BASE = np.array([0, 0, 0, 0, 0, 0, -3.5, 0])  # logits without a bid
GAMMA, FLOOR = (
    0.9,
    0.1,
)  # discount of the values that heads are made of; values below the floor do not yet push with full force
STRONGEST = 3.0  # most that use can make of the strength of the cookie shard

# how the strength of the cookie shard changes, in a life of each regime
STABLE, USE, DRIFT, REDISH, HOMEOSTATIC, YOKED, RECOVERY = range(7)
MEAN, WEAKEST = 1.2, 0.1  # of the exogenous Ornstein-Uhlenbeck walk
SURGE, WITHDRAWAL = (
    0.5,
    0.5,
)  # least error of a cookie's value (Redish 2004); strength that each level of tolerance adds
GAUSS, ANGLE = np.uint64(8), np.uint64(9)  # draws of a morning


@njit(cache=True)
def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@njit(cache=True)
def cookie_gate(visible, hunger, lingering):
    """In [0, 1]: a cookie in sight opens it, hunger too, and `lingering`, the craving after one was in sight."""
    return sigmoid(-1.5 + 2.8 * visible + 0.6 * (hunger - 2) + lingering)


@njit(cache=True)
def food_gate(hunger):
    """In [0, 1]: hunger opens it."""
    return sigmoid(-1 + (hunger - 1.0))


@njit(cache=True)
def peak(q):
    """The value of the best action."""
    best = q[0]
    for a in range(1, len(q)):
        best = max(best, q[a])
    return best


@njit(cache=True)
def head(value, best):
    """What a shard thinks of an action, in [-1, 1]: its advantage over standing still, in units of one step's discount.

    Learned through, that is the sign of the change in distance to what it wants; before anything is learned here, 0.
    """
    return (
        0.0
        if best <= 0
        else min(1.0, max(-1.0, (value - GAMMA * best) / ((1 - GAMMA) * max(best, FLOOR))))
    )


@njit(cache=True)
def notice(q, site, size):
    """A site seen for the first time: within sight of it no way needs to be learned. True, that it is known now."""
    for at in range(size * size):
        if near(at, site, size):
            for a in range(8):
                far = steps(led(at, a, size), site, size)
                q[at, a] = 1.0 if at == site and a == EAT else GAMMA ** (far + 1)
    return True


@njit(cache=True)
def learn(q, at, action, got, to, lr, surge):
    """One step of Q-learning for a shard whose reinforcer ends the matter. With a `surge` no cookie is ever fully expected."""
    error = (1.0 if got else GAMMA * peak(q[to])) - q[at, action]
    if got and surge > 0:
        error = min(max(error + surge, surge), (STRONGEST - q[at, action]) / lr)
    q[at, action] += lr * error


@njit(cache=True)
def strength(regime, w, peak, tolerance):
    """The strength with which the cookie shard bids, w but where the regime keeps it elsewhere; `peak` is the value of a cookie."""
    if regime == REDISH:
        return w * max(1.0, peak)
    return w + WITHDRAWAL * tolerance if regime == HOMEOSTATIC else w


@njit(cache=True)
def overnight(regime, w, w_first, decay, walk, key, t):
    """w on the next morning; `walk` is (pull, noise)."""
    if regime == DRIFT:
        radius = math.sqrt(-2 * math.log(1 - uniform(key, t, GAUSS)))
        w += walk[0] * (MEAN - w) + walk[1] * radius * math.cos(
            2 * math.pi * uniform(key, t, ANGLE)
        )
        return min(max(w, WEAKEST), STRONGEST)
    return w - decay * (w - w_first)


@njit(cache=True)
def fed(w, eta):
    """w after a cookie."""
    return w + eta * (STRONGEST - w)


@njit(cache=True)
def policy(q, visited, at, size, craved, lost, w_cookie, w_food, gates, hides, p):
    """Fill p (8,), the exact probabilities of the actions. `craved`: the cookie shard bids; `lost`: the exploring one; `hides`:
    HIDE is among the actions."""
    craving, appetite = BETA * w_cookie * gates[COOKIE] * craved, BETA * w_food * gates[FOOD]
    best_cookie, best_food, total = peak(q[COOKIE, at]), peak(q[FOOD, at]), 0.0
    for a in range(8):
        logit = (
            BASE[a]
            + craving * head(q[COOKIE, at, a], best_cookie)
            + appetite * head(q[FOOD, at, a], best_food)
        )
        if lost and a <= WEST and not visited[led(at, a, size)]:
            logit += BETA
        p[a] = math.exp(logit) if hides or a != HIDE else 0.0
        total += p[a]
    for a in range(8):
        p[a] /= total
