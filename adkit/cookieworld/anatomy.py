"""The parts of a shard agent's policy as arrays over grid cells, and the value of hiding.

For figures. The agents themselves act by the same equations, in `shard` and `agent_state`.
"""

from __future__ import annotations

import numpy as np

from adkit.cookieworld import shard
from adkit.cookieworld.planning import expected_day, hide_probability
from adkit.cookieworld.shard import GAMMA, cookie_gate, food_gate
from adkit.cookieworld.world import EAT, STARVED, STOCKED, WEST, CookieWorld, led
from adkit.envs import rooms
from adkit.protocols import Tasks

SHARDS = ("cookie", "food", "explore")
HUNGERS = np.arange(STARVED + 1)


def gates() -> np.ndarray:
    """Return gates (3, 6) by hunger: cookie gate, none visible or one; food gate."""
    cookie = [[cookie_gate(visible, h) for h in HUNGERS] for visible in (0, 1)]
    return np.array([*cookie, [food_gate(h) for h in HUNGERS]])


def learned_values(env: CookieWorld, tasks: Tasks) -> np.ndarray:
    """Return the fully learned values (n, 2, cells, 8) float32 of the cookie and the food shard."""
    cells, sites = np.arange(env.size**2), env.places(tasks)[:, 1:, None, None]
    xy = rooms.cells(env.size).astype(int)
    far = np.abs(xy[_led(env)] - xy[sites]).sum(-1)  # (n, 2, cells, 8)
    eats = (cells[:, None] == sites) & (np.arange(8) == EAT)
    return np.where(eats, 1.0, GAMMA ** (far + 1)).astype(np.float32)


def _led(env: CookieWorld) -> np.ndarray:
    """Return the cell (cells, 8) that each action leads to."""
    return np.array([[led(cell, a, env.size) for a in range(8)] for cell in range(env.size**2)])


def heads(env: CookieWorld, tasks: Tasks) -> np.ndarray:
    """Return the preferences (n, 3, cells, 8) of cookie, food and exploring shard, in [-1, 1].

    The first two are fully learned. The exploring shard is that of a first morning, when only home
    has been visited: 1 for a step to any other cell.
    """
    q = learned_values(env, tasks)
    learned = np.vectorize(shard.head)(q, q.max(-1, keepdims=True))
    home = env.places(tasks)[:, :1, None, None]
    explore = (np.arange(8) <= WEST) & (_led(env) != home)
    return np.concatenate([learned, explore], axis=1).astype(np.float32)


def detour(tasks: Tasks) -> np.ndarray:
    """Return how many steps longer (n,) the way from home to the garden is past the jar."""
    steps = lambda a, b: np.abs(tasks[a].astype(int) - tasks[b]).sum(1)
    return steps("home", "jar") + steps("jar", "garden") - steps("home", "garden")


def hiding(
    env: CookieWorld, tasks: Tasks, strengths: np.ndarray, w_food: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return what a sophisticated agent that has learned everything does about a full jar.

    The probability (n, strengths, 6) of HIDE and the expected number (n, strengths, 6) of cookies
    avoided by it, by strength of the cookie shard and waking hunger.
    """
    n, q, places = len(tasks), learned_values(env, tasks), env.places(tasks)
    ahead = np.empty((n, len(strengths), 2, 2, len(HUNGERS)), np.float32)  # lid, (meals, cookies)
    for i, j in np.ndindex(ahead.shape[:2]):
        body = float(strengths[j]), float(w_food), float(tasks["rho"][i])
        expected_day(q[i], env.size, places[i], env.horizon, STOCKED, *body, ahead[i, j])
    avoided = (ahead[:, :, 0, 1] - ahead[:, :, 1, 1]).astype(float)
    gain = ahead[:, :, 1, 0] - ahead[:, :, 0, 0] + tasks["psi"][:, None, None] * avoided
    return np.vectorize(hide_probability)(gain), avoided


def balance(w_cookie, w_food) -> np.ndarray:
    """Return the cookie shard's share of power: the mean of w_C g_C / (w_C g_C + w_F g_F).

    The mean is over twelve everyday contexts: a cookie visible or not, by hunger. Heads are of one
    size there. Value drift is a change in this share.
    """
    unseen, seen, food = gates()
    w_cookie, w_food = (np.asarray(w, float)[..., None, None] for w in (w_cookie, w_food))
    cookie = w_cookie * np.stack([unseen, seen])
    return (cookie / (cookie + w_food * food)).mean((-1, -2))
