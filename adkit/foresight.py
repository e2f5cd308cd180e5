"""Foresight: what a creature of shards expects of itself today, with the lid open and with it closed.

A sophisticated planner evaluates exactly the policy that its own shards will follow: what it would do, not what it should. It
predicts with the shards' policy and judges by its own utility: meals while hungry, less what cookies cost.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from adkit.creature import BASE, BETA, COOKIE, FOOD, cookie_gate, food_gate, head, sigmoid
from adkit.envs.cookie_world import EAT, FRICTION, HIDE, OPEN, SATED, STARVED, WEST, near

PATIENCE = 0.97  # discount
RESOLVE, COST, SURE = 40.0, 0.1, 0.95  # of hiding: inverse temperature, cost in meals, most likely it gets

LANES = 16  # meals by hunger 0..5 in lanes 0..5, cookies in 8..13: loops over them vectorise
HALF = 8
IDLE = WEST + 1  # column of all actions that lead nowhere, after the four moves; then EAT and OPEN where they do something


@njit(cache=True)
def foresee(q, size, place, horizon, cookies, w_cookie, w_food, rho, ahead):
    """Fill ahead (2, 2, 6): with the lid (open, closed) this morning, discounted (meals, cookies) to expect, for each waking hunger.

    V_k(s) = sum_a pi(a|s) [u(s, a) + 0.97 sum_s' P(s'|s, a) V_k-1(s')] backwards from the last step, for the policy of the bids
    with everything known; a meal is worth min(hunger, 3) / 3. Float32; the lingering craving is left out.
    """
    cells, home, jar, garden = size * size, place[0], place[1], place[2]
    bids, calm = np.zeros((cells, 7, LANES), np.float32), np.zeros((cells, 7, LANES), np.float32)
    _plan(q, size, place, w_cookie, w_food, bids, calm)
    value = np.zeros((cookies + 2, cells, LANES), np.float32)  # cookies left with the lid open; last, the lid closed
    ev = np.zeros((cookies + 2, cells, LANES), np.float32)
    closed, stays, grows = cookies + 1, np.float32(PATIENCE * (1 - rho)), np.float32(PATIENCE * rho)
    for t in range(horizon - 1, -1, -1):
        for left in range(cookies + 2):
            v, later, pi = value[left], ev[left], bids if 0 < left < closed else calm
            for cell in range(cells):
                v[cell, STARVED + 1], v[cell, HALF + STARVED + 1] = v[cell, STARVED], v[cell, HALF + STARVED]
                for i in range(LANES - 1):
                    later[cell, i] = stays * v[cell, i] + grows * v[cell, i + 1]
        for left in range(cookies + 2):
            v, later, pi = value[left], ev[left], bids if 0 < left < closed else calm
            for cell in range(cells):
                if abs(cell // size - home // size) + abs(cell % size - home % size) > t:
                    continue  # nobody is there yet
                x = cell // size
                y = cell - x * size
                north = cell - 1 if y > 0 else cell
                south = cell + 1 if y < size - 1 else cell
                east = cell + size if x < size - 1 else cell
                west = cell - size if x > 0 else cell
                for i in range(LANES):
                    v[cell, i] = (
                        pi[cell, 0, i] * later[north, i] + pi[cell, 1, i] * later[south, i] + pi[cell, 2, i] * later[east, i]
                        + pi[cell, 3, i] * later[west, i] + pi[cell, IDLE, i] * later[cell, i]
                    )  # fmt: skip
            for h in range(STARVED + 1):
                less = max(h - 1, 0)
                eats, opens = pi[jar, EAT, h], pi[jar, IDLE + 2, h]
                if 0 < left < closed:
                    v[jar, h] += eats * ev[left - 1, jar, less]
                    v[jar, HALF + h] += eats * (1 + ev[left - 1, jar, HALF + less])
                else:
                    v[jar, h] += eats * later[jar, h]
                    v[jar, HALF + h] += eats * later[jar, HALF + h]
                gives = np.float32(FRICTION if left == closed else 0.0)
                for i in (h, HALF + h):
                    v[jar, i] += opens * (gives * ev[cookies, jar, i] + (1 - gives) * later[jar, i])
                v[garden, h] += pi[garden, EAT, h] * np.float32(min(h, SATED) / SATED)
    for lid in range(2):
        last = value[closed if lid else cookies, home]
        for h in range(STARVED + 1):
            ahead[lid, 0, h], ahead[lid, 1, h] = last[h], last[HALF + h]


@njit(cache=True)
def _plan(q, size, place, w_cookie, w_food, bids, calm):
    """The policy everywhere: moves, idling, EAT and OPEN; `bids` with cookies to be had, `calm` without."""
    jar, garden = place[1], place[2]
    wants, likes, logits = np.empty(8), np.empty(8), np.empty(8)
    for cell in range(size * size):
        head(q[COOKIE, cell], wants)
        head(q[FOOD, cell], likes)
        visible = near(cell, jar, size)
        for h in range(STARVED + 1):
            craving, appetite = BETA * w_cookie * cookie_gate(visible, h, 0.0), BETA * w_food * food_gate(h)
            for pi, pull in ((bids, craving), (calm, 0.0)):
                total = 0.0
                for a in range(8):
                    logits[a] = math.exp(BASE[a] + pull * wants[a] + appetite * likes[a]) if a != HIDE else 0.0
                    total += logits[a]
                for a in range(8):
                    moves = a <= WEST or (a == EAT and (cell == jar or cell == garden)) or (a == OPEN and cell == jar)
                    column = (IDLE + 2 if a == OPEN else a) if moves else IDLE
                    for i in (h, HALF + h):
                        pi[cell, column, i] += np.float32(logits[a] / total)


@njit(cache=True)
def hides(gain):
    """The probability of HIDE, from what a planner would gain, in meals."""
    return SURE * sigmoid(RESOLVE * (gain - COST))
