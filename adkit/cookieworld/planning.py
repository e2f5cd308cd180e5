"""A sophisticated agent's plan: its own expected behaviour today, with the lid open and closed.

The planner predicts with the policy that its shards will follow, temptation included, and evaluates
that prediction by its own utility: meals while hungry, less the cost of cookies.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from adkit.cookieworld import shard, world
from adkit.cookieworld.shard import BASE, BETA, COOKIE, FOOD
from adkit.cookieworld.world import EAT, STARVED, WEST, led, steps

PATIENCE = 0.97  # discount per step
RESOLVE, COST, SURE = 40.0, 0.1, 0.95  # of hiding: inverse temperature, cost in meals, ceiling

# A particle filter tabulates gains at these strengths of the two shards, and interpolates.
STRENGTHS = np.array([0.1, 0.4, 0.75, 1.15, 1.7, 2.3, 3.0])
APPETITES = 0.8, 1.2  # of any agent

# The value of a cell is a row of blocks, one per number of cookies eaten, with LANES values each:
# expected meals by hunger 0..5 in lanes 0..5, expected cookies in lanes 8..13.
LANES, HALF = 16, 8
# columns of the policy after the four moves: no effect, EAT and OPEN with an effect
IDLE, EATS, OPENS = WEST + 1, WEST + 2, WEST + 3


@njit(cache=True)
def expected_day(q, size, place, horizon, cookies, w_cookie, w_food, rho, ahead):
    """Fill ahead (2, 2, 6): expected meals and cookies, by lid (open, closed) and waking hunger.

    V_k(s) = sum_a pi(a|s) [u(s, a) + 0.97 sum_s' P(s'|s, a) V_k-1(s')], backwards from the last
    step, for the policy of the shards with everything known. A meal is worth min(hunger, 3) / 3.
    Values are float32.
    """
    cells, home, jar, garden, none_left = size * size, place[0], place[1], place[2], cookies + 1
    # blocks: the lid closed; then, with the lid open, none eaten, one eaten .. none left
    width = LANES * (none_left + 1)
    pi = np.zeros((cells, OPENS + 1, width), np.float32)
    _day_policy(q, size, place, w_cookie, w_food, none_left, pi)
    value, later = np.zeros((cells, width), np.float32), np.zeros((cells, width), np.float32)
    to = np.empty((cells, 4), np.int64)
    for cell in range(cells):
        for a in range(4):
            to[cell, a] = led(cell, a, size)
    for t in range(horizon - 1, -1, -1):
        # no cell and no number of cookies eaten is reached before there was time for it
        used = width if t >= steps(home, jar, size) else 2 * LANES
        for cell in range(cells):
            if steps(home, cell, size) <= t + 1:
                _get_hungry(value, cell, rho, used, later)
        for cell in range(cells):
            if steps(home, cell, size) <= t:
                _move(pi, to, cell, later, used, value)
        _eat_or_open(pi, jar, later, cookies, used, value)
        for lane in range(0, used, LANES):
            for h in range(STARVED + 1):
                utility = np.float32(min(h, world.SATED) / world.SATED)
                value[garden, lane + h] += pi[garden, EATS, lane + h] * utility
    for lid in range(2):
        for h in range(STARVED + 1):
            lane = h if lid else LANES + h
            ahead[lid, 0, h], ahead[lid, 1, h] = value[home, lane], value[home, lane + HALF]


@njit(cache=True)
def _get_hungry(value, cell, rho, used, later):
    """Fill a row of later: the discounted mean of value over the step's chance to get hungrier."""
    stays, grows = np.float32(PATIENCE * (1 - rho)), np.float32(PATIENCE * rho)
    for i in range(0, used, HALF):
        value[cell, i + STARVED + 1] = value[cell, i + STARVED]  # hunger has an upper limit
    for i in range(used - 1):
        later[cell, i] = stays * value[cell, i] + grows * value[cell, i + 1]


@njit(cache=True, inline="always")  # as a call it takes a tenth longer
def _move(pi, to, cell, later, used, value):
    """Fill a row of value: the mean over moves and actions without effect."""
    north, south, east, west = to[cell, 0], to[cell, 1], to[cell, 2], to[cell, 3]
    for i in range(used):
        value[cell, i] = (
            pi[cell, 0, i] * later[north, i]
            + pi[cell, 1, i] * later[south, i]
            + pi[cell, 2, i] * later[east, i]
            + pi[cell, 3, i] * later[west, i]
            + pi[cell, IDLE, i] * later[cell, i]
        )


@njit(cache=True)
def _eat_or_open(pi, jar, later, cookies, used, value):
    """Add to the jar's row of value what EAT and OPEN lead to."""
    for eaten in range(-1, used // LANES - 1):  # -1: the lid is closed
        gives = np.float32(world.FRICTION if eaten < 0 else 0.0)
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


@njit(cache=True)
def _day_policy(q, size, place, w_cookie, w_food, none_left, pi):
    """Fill pi (cells, columns, width): the shards' policy, with and without cookies left."""
    wants, likes, columns = np.empty(8), np.empty(8), np.empty(8, np.int64)
    tempted = np.empty((OPENS + 1, LANES), np.float32)
    calm = np.empty((OPENS + 1, LANES), np.float32)
    craving, appetite = np.empty((2, STARVED + 1)), np.empty(STARVED + 1)
    for h in range(STARVED + 1):
        for visible in range(2):
            craving[visible, h] = BETA * w_cookie * shard.cookie_gate(visible, h)
        appetite[h] = BETA * w_food * shard.food_gate(h)
    for cell in range(size * size):
        best_cookie, best_food = q[COOKIE, cell].max(), q[FOOD, cell].max()
        for a in range(8):
            wants[a] = shard.head(q[COOKIE, cell, a], best_cookie)
            likes[a] = shard.head(q[FOOD, cell, a], best_food)
            columns[a] = _column(a, cell, place)
        visible = int(world.near(cell, place[1], size))
        _by_hunger(wants, likes, columns, craving[visible], appetite, tempted, calm)
        for column in range(OPENS + 1):
            for block in range(none_left + 1):
                p, lane = tempted if 0 < block < none_left else calm, block * LANES
                for i in range(HALF):
                    pi[cell, column, lane + i] = p[column, i]
                    pi[cell, column, lane + i + HALF] = p[column, i]


@njit(cache=True)
def _column(a, cell, place):
    """Return the column of the policy that an action belongs to in a cell."""
    if a <= WEST:
        return a
    if a == EAT and (cell == place[1] or cell == place[2]):
        return EATS
    return OPENS if a == world.OPEN and cell == place[1] else IDLE


@njit(cache=True)
def _by_hunger(wants, likes, columns, craving, appetite, tempted, calm):
    """Fill tempted and calm (columns, LANES): policies by hunger, with and without cookie bid."""
    hot, cool, first = np.empty(8), np.empty(8), np.empty(8, np.int64)
    shard.first_equal(wants, likes, BASE, first)
    tempted[:], calm[:] = 0, 0
    for h in range(STARVED + 1):
        all_hot, all_cool = 0.0, 0.0
        for a in range(8):
            if first[a] < a:
                cool[a], hot[a] = cool[first[a]], hot[first[a]]
            else:
                cool[a] = math.exp(BASE[a] + appetite[h] * likes[a]) if a != world.HIDE else 0.0
                hot[a] = cool[a] * math.exp(craving[h] * wants[a])
            all_hot += hot[a]
            all_cool += cool[a]
        all_hot, all_cool = 1 / all_hot, 1 / all_cool
        for a in range(8):
            tempted[columns[a], h] += np.float32(hot[a] * all_hot)
            calm[columns[a], h] += np.float32(cool[a] * all_cool)


@njit(cache=True)
def hide_probability(gain):
    """Return the probability of HIDE, given what a planner would gain in meals."""
    return SURE * shard.sigmoid(RESOLVE * (gain - COST))


@njit(cache=True)
def tabulate_gains(q, size, place, horizon, gains):
    """Fill gains (strengths, rho, appetites, 2, 6): meals gained and cookies avoided by hiding."""
    ahead = np.empty((2, 2, STARVED + 1), np.float32)
    for i, r, f in np.ndindex(gains.shape[:3]):
        body = STRENGTHS[i], APPETITES[f], world.RHO[r]
        expected_day(q, size, place, horizon, world.STOCKED, *body, ahead)
        for h in range(STARVED + 1):
            gains[i, r, f, 0, h] = ahead[1, 0, h] - ahead[0, 0, h]
            gains[i, r, f, 1, h] = ahead[0, 1, h] - ahead[1, 1, h]


@njit(cache=True)
def interpolated_gain(gains, w_cookie, w_food, rho, psi, h):
    """Return the meals that hiding a full jar gains, interpolated in both strengths."""
    w_cookie = min(max(w_cookie, STRENGTHS[0]), STRENGTHS[-1])
    i, r, gain = 1, int(rho > world.RHO[0]), 0.0
    while STRENGTHS[i] < w_cookie:
        i += 1
    x = (w_cookie - STRENGTHS[i - 1]) / (STRENGTHS[i] - STRENGTHS[i - 1])
    y = (w_food - APPETITES[0]) / (APPETITES[1] - APPETITES[0])
    for j, cost in ((0, 1.0), (1, psi)):
        low = (1 - x) * gains[i - 1, r, 0, j, h] + x * gains[i, r, 0, j, h]
        high = (1 - x) * gains[i - 1, r, 1, j, h] + x * gains[i, r, 1, j, h]
        gain += cost * ((1 - y) * low + y * high)
    return gain
