"""A creature of shards taken apart, as arrays over cells: gates, heads, bids, the policy they add up to, and what hiding is worth.

For those who draw or probe creatures; they themselves live by `creature` and `minds`, whose equations these are.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from adkit.cookieworld import shard
from adkit.cookieworld.planning import gain_of_hiding, hides, learned
from adkit.cookieworld.shard import COOKIE, FOOD, cookie_gate, food_gate
from adkit.cookieworld.world import STARVED, WEST, CookieWorld, led, near
from adkit.protocols import Tasks

SHARDS = ("cookie", "food", "explore")
EXPLORE = 2
HUNGERS = np.arange(STARVED + 1)


def gates() -> np.ndarray:
    """(3, 6) by hunger: the cookie gate with none in sight, the cookie gate with one in sight, the food gate."""
    cookie = [[cookie_gate(visible, h, 0.0) for h in HUNGERS] for visible in (0, 1)]
    return np.array([*cookie, [food_gate(h) for h in HUNGERS]])


def heads(env: CookieWorld, tasks: Tasks, q: np.ndarray | None = None) -> np.ndarray:
    """(n, 3, cells, 8) what the cookie, the food and the exploring shard think of each action in each cell, in [-1, 1].

    From the values q (n, 2, cells, 8) that the first two learned; without, all is learned. The third as on a first morning, when
    only home has been visited: 1 for a step to anywhere else.
    """
    places = _places(env, tasks)
    q = learned(env, tasks) if q is None else np.asarray(q, np.float32)
    if q.shape != (len(tasks), 2, env.size**2, 8):
        raise ValueError(
            f"values q of shape {q.shape}; give {(len(tasks), 2, env.size**2, 8)}: task, shard, cell, action."
        )
    out = np.zeros((len(tasks), 3, *q.shape[2:]), np.float32)
    _heads(q, places, env.size, out)
    return out


def policy(
    env: CookieWorld,
    tasks: Tasks,
    w_cookie: float,
    w_food: float = 1.0,
    hunger: int = 1,
    full: bool = True,
) -> np.ndarray:
    """(n, cells, 8) what shards alone do in each cell once all is learned: exact probabilities, the jar open and full, or empty."""
    if not (w_cookie >= 0 and w_food >= 0 and hunger in HUNGERS):
        raise ValueError(
            f"w_cookie={w_cookie}, w_food={w_food}, hunger={hunger}; strengths are at least 0, hunger is 0 to {STARVED}."
        )
    places, p = _places(env, tasks), np.zeros((len(tasks), env.size**2, 8))
    _policy(
        learned(env, tasks),
        places,
        env.size,
        float(w_cookie),
        float(w_food),
        int(hunger),
        bool(full),
        p,
    )
    return p


def detour(tasks: Tasks) -> np.ndarray:
    """(n,) how many steps longer the way from home to the garden is if it leads over the jar."""
    tasks = Tasks.of(tasks)
    steps = lambda a, b: np.abs(tasks[a].astype(int) - tasks[b]).sum(1)
    return steps("home", "jar") + steps("jar", "garden") - steps("home", "garden")


def hiding(
    env: CookieWorld, tasks: Tasks, strengths: np.ndarray, w_food: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """What a sophisticated planner makes of a full jar, by strength of its cookie shard and waking hunger, all being learned:

    the probability (n, strengths, 6) that it hides the cookies, and how many fewer (n, strengths, 6) it expects to eat if it does.
    """
    _places(env, tasks)
    if not np.size(strengths) or not np.min(strengths) >= 0 or not w_food >= 0:
        raise ValueError(
            f"strengths={strengths}, w_food={w_food}; give at least one strength, and none below 0."
        )
    gains = [
        [gain_of_hiding(env, tasks, w, w_food, h) for h in HUNGERS] for w in strengths
    ]  # strengths x 6 x (gain, avoided)
    gain, avoided = np.moveaxis(np.array(gains), (2, 3), (0, 1))  # (strengths, 6) first
    return np.vectorize(hides)(gain), avoided


def balance(w_cookie, w_food) -> np.ndarray:
    """The cookie shard's share of power: w_C g_C / (w_C g_C + w_F g_F), the mean over twelve everyday contexts.

    They are a cookie in sight or not, by hunger, beside a full jar: heads are of one size there. Value drift is how far this moves.
    """
    unseen, seen, food = gates()
    w_cookie, w_food = np.broadcast_arrays(
        *(np.asarray(w, float)[..., None, None] for w in (w_cookie, w_food))
    )
    if not (w_cookie >= 0).all() or not (w_food > 0).all():
        raise ValueError(
            f"strengths from {w_cookie.min():g} and {w_food.min():g}; the cookie's is at least 0, the food's more."
        )
    cookie = w_cookie * np.stack([unseen, seen])
    return (cookie / (cookie + w_food * food)).mean((-1, -2))


def _places(env: CookieWorld, tasks: Tasks) -> np.ndarray:
    """(n, 3) where home, jar and garden are."""
    if not isinstance(env, CookieWorld):
        raise ValueError(
            f"{env!r} was given; creatures live in the CookieWorld: give ad.envs.CookieWorld() and its tasks."
        )
    return env.places(Tasks.of(tasks))


@njit(cache=True)
def _heads(q, places, size, out):
    for n in range(len(q)):
        for cell in range(size * size):
            for a in range(8):
                for i in (COOKIE, FOOD):
                    out[n, i, cell, a] = shard.head(q[n, i, cell, a], shard.peak(q[n, i, cell]))
                out[n, EXPLORE, cell, a] = a <= WEST and led(cell, a, size) != places[n, 0]


@njit(cache=True)
def _policy(q, places, size, w_cookie, w_food, hunger, full, p):
    visited, now = np.ones(size * size, np.bool_), np.empty(2)
    for n in range(len(q)):
        for cell in range(size * size):
            visible = int(full and near(cell, places[n, 1], size))
            now[COOKIE], now[FOOD] = cookie_gate(visible, hunger, 0.0), food_gate(hunger)
            shard.policy(
                q[n], visited, cell, size, full, False, w_cookie, w_food, now, True, p[n, cell]
            )
