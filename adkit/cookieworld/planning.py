"""Foresight: what a creature of shards expects of itself today, with the lid open and with it closed.

A sophisticated planner evaluates exactly the policy that its own shards will follow: what it would do, not what it should. It
predicts with the shards' policy and judges by its own utility: meals while hungry, less what cookies cost.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from adkit.cookieworld.shard import (
    BASE,
    BETA,
    COOKIE,
    FOOD,
    GAMMA,
    cookie_gate,
    food_gate,
    head,
    peak,
    sigmoid,
)
from adkit.cookieworld.world import (
    EAT,
    FRICTION,
    HIDE,
    OPEN,
    SATED,
    STARVED,
    STOCKED,
    WEST,
    CookieWorld,
    led,
    near,
    steps,
)
from adkit.protocols import Tasks

PATIENCE = 0.97  # discount
RESOLVE, COST, SURE = (
    40.0,
    0.1,
    0.95,
)  # of hiding: inverse temperature, cost in meals, most likely it gets

LANES, HALF = (
    16,
    8,
)  # meals by hunger 0..5 in lanes 0..5, cookies in 8..13; every number of cookies has 16 of its own
IDLE, EATS, OPENS = (
    WEST + 1,
    WEST + 2,
    WEST + 3,
)  # after the four moves: all that leads nowhere, and what does something where it does


@njit(cache=True)
def foresee(q, size, place, horizon, cookies, w_cookie, w_food, rho, ahead):
    """Fill ahead (2, 2, 6): with the lid (open, closed) this morning, discounted (meals, cookies) to expect, by waking hunger.

    V_k(s) = sum_a pi(a|s) [u(s, a) + 0.97 sum_s' P(s'|s, a) V_k-1(s')] backwards from the last step, for the policy of the bids
    with everything known; a meal is worth min(hunger, 3) / 3. Float32; the lingering craving is left out.
    """
    cells, home, jar, garden, none_left = size * size, place[0], place[1], place[2], cookies + 1
    width = LANES * (
        none_left + 1
    )  # the lid closed; then, open, with none eaten, one eaten .. none left
    pi = np.zeros((cells, OPENS + 1, width), np.float32)
    _plan(q, size, place, w_cookie, w_food, none_left, pi)
    value, later = np.zeros((cells, width), np.float32), np.zeros((cells, width), np.float32)
    to = np.empty((cells, 4), np.int64)
    for cell in range(cells):
        for a in range(4):
            to[cell, a] = led(cell, a, size)
    stays, grows = np.float32(PATIENCE * (1 - rho)), np.float32(PATIENCE * rho)
    for t in range(
        horizon - 1, -1, -1
    ):  # nobody can be anywhere, or have eaten, before there was time to go there
        used = width if t >= steps(home, jar, size) else 2 * LANES
        for cell in range(cells):
            if steps(home, cell, size) <= t + 1:
                for i in range(0, used, HALF):
                    value[cell, i + STARVED + 1] = value[
                        cell, i + STARVED
                    ]  # nobody gets hungrier than that
                for i in range(used - 1):
                    later[cell, i] = stays * value[cell, i] + grows * value[cell, i + 1]
        for cell in range(cells):
            if steps(home, cell, size) <= t:
                north, south, east, west = to[cell, 0], to[cell, 1], to[cell, 2], to[cell, 3]
                for i in range(used):
                    value[cell, i] = (
                        pi[cell, 0, i] * later[north, i] + pi[cell, 1, i] * later[south, i] + pi[cell, 2, i] * later[east, i]
                        + pi[cell, 3, i] * later[west, i] + pi[cell, IDLE, i] * later[cell, i]
                    )  # fmt: skip
        for eaten in range(-1, used // LANES - 1):
            gives = np.float32(FRICTION if eaten < 0 else 0.0)
            for h in range(STARVED + 1):
                meals = (eaten + 1) * LANES + h
                treats, opened = meals + HALF, LANES + h
                eats, opens = pi[jar, EATS, meals], pi[jar, OPENS, meals]
                if 0 <= eaten < cookies:
                    more = meals + LANES - (h > 0)
                    value[jar, meals] += eats * later[jar, more]
                    value[jar, treats] += eats * (1 + later[jar, more + HALF])
                else:
                    value[jar, meals] += eats * later[jar, meals]
                    value[jar, treats] += eats * later[jar, treats]
                value[jar, meals] += opens * (
                    gives * later[jar, opened] + (1 - gives) * later[jar, meals]
                )
                value[jar, treats] += opens * (
                    gives * later[jar, opened + HALF] + (1 - gives) * later[jar, treats]
                )
                value[garden, meals] += pi[garden, EATS, meals] * np.float32(min(h, SATED) / SATED)
    for lid in range(2):
        for h in range(STARVED + 1):
            lane = h if lid else LANES + h
            ahead[lid, 0, h], ahead[lid, 1, h] = value[home, lane], value[home, lane + HALF]


@njit(cache=True)
def _plan(q, size, place, w_cookie, w_food, none_left, pi):
    """The policy everywhere, with cookies to be had and without."""
    jar, garden = place[1], place[2]
    wants, likes, tempted, cool = np.empty(8), np.empty(8), np.empty(8), np.empty(8)
    columns, same = np.empty(8, np.int64), np.empty(8, np.int64)
    bids, calm = np.empty((OPENS + 1, LANES), np.float32), np.empty((OPENS + 1, LANES), np.float32)
    craving, appetite = np.empty((2, STARVED + 1)), np.empty(STARVED + 1)
    for h in range(STARVED + 1):
        craving[0, h], craving[1, h] = (
            BETA * w_cookie * cookie_gate(0, h, 0.0),
            BETA * w_cookie * cookie_gate(1, h, 0.0),
        )
        appetite[h] = BETA * w_food * food_gate(h)
    for cell in range(size * size):
        best_cookie, best_food, visible = (
            peak(q[COOKIE, cell]),
            peak(q[FOOD, cell]),
            int(near(cell, jar, size)),
        )
        for a in range(8):
            wants[a], likes[a] = (
                head(q[COOKIE, cell, a], best_cookie),
                head(q[FOOD, cell, a], best_food),
            )
            eats, opens = a == EAT and cell in (jar, garden), a == OPEN and cell == jar
            columns[a] = a if a <= WEST else EATS if eats else OPENS if opens else IDLE
            same[a] = 0
            while (
                likes[same[a]] != likes[a] or wants[same[a]] != wants[a] or BASE[same[a]] != BASE[a]
            ):
                same[a] += 1  # bids come in few sizes
        bids[:], calm[:] = 0, 0
        for h in range(STARVED + 1):
            all_tempted, all_cool = 0.0, 0.0
            for a in range(8):
                if same[a] < a:
                    cool[a], tempted[a] = cool[same[a]], tempted[same[a]]
                else:
                    cool[a] = math.exp(BASE[a] + appetite[h] * likes[a]) if a != HIDE else 0.0
                    tempted[a] = cool[a] * math.exp(craving[visible, h] * wants[a])
                all_tempted += tempted[a]
                all_cool += cool[a]
            all_tempted, all_cool = 1 / all_tempted, 1 / all_cool
            for a in range(8):
                bids[columns[a], h] += np.float32(tempted[a] * all_tempted)
                calm[columns[a], h] += np.float32(cool[a] * all_cool)
        for column in range(OPENS + 1):
            for block in range(none_left + 1):
                p, lane = bids if 0 < block < none_left else calm, block * LANES
                for i in range(HALF):
                    pi[cell, column, lane + i] = p[column, i]
                    pi[cell, column, lane + i + HALF] = p[column, i]


@njit(cache=True)
def hides(gain):
    """The probability of HIDE, from what a planner would gain, in meals."""
    return SURE * sigmoid(RESOLVE * (gain - COST))


# ---- for those who draw it ----


def learned(env: CookieWorld, tasks: Tasks) -> np.ndarray:
    """(n, 2, cells, 8) float32: the values that heads are made of, once all is learned; first the cookie's, then the food's."""
    cells = np.arange(env.size**2)
    to = np.array([[led(cell, a, env.size) for a in range(8)] for cell in cells])  # (cells, 8)
    sites = env.places(tasks)[:, 1:, None, None]
    far = np.abs(to // env.size - sites // env.size) + np.abs(to % env.size - sites % env.size)
    eats = (cells[:, None] == sites) & (np.arange(8) == EAT)
    return np.where(eats, 1.0, GAMMA ** (far + 1)).astype(np.float32)


def gain_of_hiding(
    env: CookieWorld, tasks: Tasks, w_cookie, w_food=1.0, hunger=1, q: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What a sophisticated planner expects of hiding a full jar: (meals gained (n,), cookies not eaten (n,)).

    Strengths and waking hunger are numbers or (n,); without `q` (n, 2, cells, 8) all is learned.
    """
    q = learned(env, tasks) if q is None else q
    places, ahead = env.places(tasks), np.empty((len(tasks), 2, 2, STARVED + 1), np.float32)
    w_cookie, w_food, hunger = (
        np.broadcast_to(values, len(tasks)) for values in (w_cookie, w_food, hunger)
    )
    for n in range(len(tasks)):
        body = w_cookie[n], w_food[n], tasks["rho"][n]
        foresee(q[n], env.size, places[n], env.horizon, STOCKED, *map(float, body), ahead[n])
    open_lid, closed_lid = (
        ahead[np.arange(len(tasks)), lid, :, hunger] for lid in (0, 1)
    )  # (n, 2) meals, cookies
    avoided = open_lid[:, 1] - closed_lid[:, 1]
    return closed_lid[:, 0] - open_lid[:, 0] + tasks["psi"] * avoided, avoided
