"""A sophisticated agent's plan: its own expected behaviour today, with the lid open and closed.

The planner predicts with the policy that its shards will follow, temptation included, and evaluates
that prediction by its own utility: meals while hungry, less the cost of cookies.
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
    first_equal,
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

PATIENCE = 0.97  # discount per step
RESOLVE, COST, SURE = 40.0, 0.1, 0.95  # of hiding: inverse temperature, cost in meals, ceiling

# The value of a cell is a row of blocks, one per number of cookies eaten, with LANES values each:
# expected meals by hunger 0..5 in lanes 0..5, expected cookies in lanes 8..13.
LANES, HALF = 16, 8
# columns of the policy after the four moves: no effect, EAT with an effect, OPEN with an effect
IDLE, EATS, OPENS = WEST + 1, WEST + 2, WEST + 3


@njit(cache=True)
def expected_day(q, size, place, horizon, cookies, w_cookie, w_food, rho, ahead):
    """Fill ahead (2, 2, 6): expected meals and cookies, by lid (open, closed) and waking hunger.

    V_k(s) = sum_a pi(a|s) [u(s, a) + 0.97 sum_s' P(s'|s, a) V_k-1(s')], backwards from the last
    step, for the policy of the shards with everything known. A meal is worth min(hunger, 3) / 3.
    Values are float32. The lingering craving is left out.
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
                _get_hungry(value[cell], rho, used, later[cell])
        for cell in range(cells):
            if steps(home, cell, size) <= t:
                _move(pi[cell], to[cell], cell, later, used, value[cell])
        _eat_or_open(pi[jar], later[jar], cookies, used, value[jar])
        for lane in range(0, used, LANES):
            for h in range(STARVED + 1):
                utility = np.float32(min(h, SATED) / SATED)
                value[garden, lane + h] += pi[garden, EATS, lane + h] * utility
    for lid in range(2):
        for h in range(STARVED + 1):
            lane = h if lid else LANES + h
            ahead[lid, 0, h], ahead[lid, 1, h] = value[home, lane], value[home, lane + HALF]


@njit(cache=True)
def _get_hungry(value, rho, used, later):
    """Fill later (width,): the discounted mean of value over the step's chance to get hungrier."""
    stays, grows = np.float32(PATIENCE * (1 - rho)), np.float32(PATIENCE * rho)
    for i in range(0, used, HALF):
        value[i + STARVED + 1] = value[i + STARVED]  # hunger has an upper limit
    for i in range(used - 1):
        later[i] = stays * value[i] + grows * value[i + 1]


@njit(cache=True)
def _move(pi, to, cell, later, used, value):
    """Fill value (width,) of a cell: the mean over moves and actions without effect."""
    north, south, east, west = to[0], to[1], to[2], to[3]
    for i in range(used):
        value[i] = (
            pi[0, i] * later[north, i]
            + pi[1, i] * later[south, i]
            + pi[2, i] * later[east, i]
            + pi[3, i] * later[west, i]
            + pi[IDLE, i] * later[cell, i]
        )


@njit(cache=True)
def _eat_or_open(pi, later, cookies, used, value):
    """Add to value (width,) of the jar's cell what EAT and OPEN lead to."""
    for eaten in range(-1, used // LANES - 1):  # -1: the lid is closed
        gives = np.float32(FRICTION if eaten < 0 else 0.0)
        for h in range(STARVED + 1):
            meals = (eaten + 1) * LANES + h
            treats, opened = meals + HALF, LANES + h
            eats, opens = pi[EATS, meals], pi[OPENS, meals]
            if 0 <= eaten < cookies:
                more = meals + LANES - (h > 0)
                value[meals] += eats * later[more]
                value[treats] += eats * (1 + later[more + HALF])
            else:
                value[meals] += eats * later[meals]
                value[treats] += eats * later[treats]
            value[meals] += opens * (gives * later[opened] + (1 - gives) * later[meals])
            value[treats] += opens * (gives * later[opened + HALF] + (1 - gives) * later[treats])


@njit(cache=True)
def _day_policy(q, size, place, w_cookie, w_food, none_left, pi):
    """Fill pi (cells, columns, width): the shards' policy, with and without cookies left."""
    wants, likes, columns = np.empty(8), np.empty(8), np.empty(8, np.int64)
    tempted = np.empty((OPENS + 1, LANES), np.float32)
    calm = np.empty((OPENS + 1, LANES), np.float32)
    craving, appetite = np.empty((2, STARVED + 1)), np.empty(STARVED + 1)
    for h in range(STARVED + 1):
        for visible in range(2):
            craving[visible, h] = BETA * w_cookie * cookie_gate(visible, h, 0.0)
        appetite[h] = BETA * w_food * food_gate(h)
    for cell in range(size * size):
        best_cookie, best_food = peak(q[COOKIE, cell]), peak(q[FOOD, cell])
        for a in range(8):
            wants[a] = head(q[COOKIE, cell, a], best_cookie)
            likes[a] = head(q[FOOD, cell, a], best_food)
            columns[a] = _column(a, cell, place)
        visible = int(near(cell, place[1], size))
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
    return OPENS if a == OPEN and cell == place[1] else IDLE


@njit(cache=True)
def _by_hunger(wants, likes, columns, craving, appetite, tempted, calm):
    """Fill tempted and calm (columns, LANES): a policy by hunger, with and without the cookie bid."""
    hot, cool, first = np.empty(8), np.empty(8), np.empty(8, np.int64)
    first_equal(wants, likes, BASE, first)
    tempted[:], calm[:] = 0, 0
    for h in range(STARVED + 1):
        all_hot, all_cool = 0.0, 0.0
        for a in range(8):
            if first[a] < a:
                cool[a], hot[a] = cool[first[a]], hot[first[a]]
            else:
                cool[a] = math.exp(BASE[a] + appetite[h] * likes[a]) if a != HIDE else 0.0
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
    return SURE * sigmoid(RESOLVE * (gain - COST))


# ---- arrays over tasks, for figures ----


def learned_values(env: CookieWorld, tasks: Tasks) -> np.ndarray:
    """Return the fully learned values (n, 2, cells, 8) float32 of the cookie and the food shard."""
    cells = np.arange(env.size**2)
    to = np.array([[led(cell, a, env.size) for a in range(8)] for cell in cells])  # (cells, 8)
    sites = env.places(tasks)[:, 1:, None, None]
    far = np.abs(to // env.size - sites // env.size) + np.abs(to % env.size - sites % env.size)
    eats = (cells[:, None] == sites) & (np.arange(8) == EAT)
    return np.where(eats, 1.0, GAMMA ** (far + 1)).astype(np.float32)


def gain_of_hiding(
    env: CookieWorld, tasks: Tasks, w_cookie, w_food=1.0, hunger=1
) -> tuple[np.ndarray, np.ndarray]:
    """Return the meals gained (n,) and cookies avoided (n,) by hiding a full jar.

    Strengths and waking hunger are numbers or (n,). All values are learned.
    """
    n, q, places = len(tasks), learned_values(env, tasks), env.places(tasks)
    ahead = np.empty((n, 2, 2, STARVED + 1), np.float32)
    w_cookie, w_food, hunger = (np.broadcast_to(x, n) for x in (w_cookie, w_food, hunger))
    for i in range(n):
        body = float(w_cookie[i]), float(w_food[i]), float(tasks["rho"][i])
        expected_day(q[i], env.size, places[i], env.horizon, STOCKED, *body, ahead[i])
    open_lid, closed_lid = (ahead[np.arange(n), lid, :, hunger] for lid in (0, 1))  # (n, 2)
    avoided = open_lid[:, 1] - closed_lid[:, 1]
    return closed_lid[:, 0] - open_lid[:, 0] + tasks["psi"] * avoided, avoided
