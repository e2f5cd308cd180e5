"""One creature's mind, in plain scalars for compiled code: how it wakes, thinks and learns.

Rows of three arrays: traits, which it is born with; mind, which changes; and q (2, cells, 8), the values its heads are made of.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from adkit.cookieworld import shard
from adkit.cookieworld.planning import foresee, hides
from adkit.cookieworld.shard import (
    COOKIE,
    FOOD,
    REDISH,
    STRONGEST,
    SURGE,
    cookie_gate,
    food_gate,
    strength,
)
from adkit.cookieworld.world import (
    CLOSED,
    COOKIES,
    EAT,
    GARDEN,
    GIFT,
    HIDE,
    HUNGER,
    JAR,
    POSITION,
    TOLERANCE,
    VISIBLE,
)

PRIMITIVE, NAIVE, SOPHISTICATED, LEARNED, RANDOM = range(5)
TYPE, REGIME, ETA, MU, FIRST, W_FOOD, RATE, RHO, PSI = range(9)  # traits
W, NOW, LINGERS, LAPSES, JAR_KNOWN, GARDEN_KNOWN, TOLD, HID, ATE, GAIN, AVOIDED, P_HIDE = range(
    12
)  # of a mind
LAPSING = 0.2  # step size of what an L knows of its lapses


@njit(cache=True)
def wake(traits, mind, q, place, settings, obs, key, t):
    """A morning: values have changed overnight, gifts are eaten, and a planner thinks ahead while nothing tempts it."""
    size, horizon, _, _, walk, labelled = settings
    kind, regime = int(traits[TYPE]), int(traits[REGIME])
    if t > 0:
        mind[W] = shard.overnight(regime, mind[W], traits[FIRST], traits[MU], walk, key, t)
        if mind[TOLD] and not mind[HID]:
            mind[LAPSES] += LAPSING * (mind[ATE] - mind[LAPSES])
    for _ in range(obs[GIFT]):
        mind[W] = shard.fed(mind[W], traits[ETA])
    mind[TOLD], mind[HID], mind[ATE], mind[LINGERS] = obs[COOKIES] > 0, 0, 0, 0
    mind[GAIN], mind[AVOIDED], mind[P_HIDE] = 0, 0, traits[RATE] if kind == RANDOM else 0
    plans = kind in (SOPHISTICATED, LEARNED)
    if (
        (plans or labelled) and mind[JAR_KNOWN] and mind[GARDEN_KNOWN]
    ):  # what the others would gain is a label and no more
        if mind[TOLD]:  # an empty jar tempts nobody: nothing to gain
            w = (
                STRONGEST * mind[LAPSES]
                if kind == LEARNED
                else _strength(traits, mind, q, place, int(obs[TOLERANCE]))
            )
            ahead, h = np.empty((2, 2, 6), np.float32), int(obs[HUNGER])
            foresee(
                q, size, place, horizon, int(obs[COOKIES]), w, traits[W_FOOD], traits[RHO], ahead
            )
            mind[AVOIDED] = ahead[0, 1, h] - ahead[1, 1, h]
            mind[GAIN] = ahead[1, 0, h] - ahead[0, 0, h] + traits[PSI] * mind[AVOIDED]
        if plans:
            mind[P_HIDE] = hides(mind[GAIN])


@njit(cache=True)
def _strength(traits, mind, q, place, tolerance):
    return strength(int(traits[REGIME]), mind[W], q[COOKIE, place[1], EAT], tolerance)


@njit(cache=True)
def think(traits, mind, q, visited, gates, p, place, settings, obs, first, key, t):
    """Fill p (8,) with the exact probabilities of the next action, and gates (2,)."""
    size, _, _, craving, _, _ = settings
    at, visible, hunger, open_jar = (
        int(obs[POSITION]),
        int(obs[VISIBLE]),
        int(obs[HUNGER]),
        obs[COOKIES] > 0 and not obs[CLOSED],
    )
    if first:
        wake(traits, mind, q, place, settings, obs, key, t)
    if obs[JAR] and not mind[JAR_KNOWN]:
        mind[JAR_KNOWN] = shard.notice(q[COOKIE], place[1], size)
    if obs[GARDEN] and not mind[GARDEN_KNOWN]:
        mind[GARDEN_KNOWN] = shard.notice(q[FOOD], place[2], size)
    mind[LINGERS] = 0.7 * mind[LINGERS] + 0.3 * visible
    mind[NOW] = _strength(traits, mind, q, place, int(obs[TOLERANCE]))
    gates[COOKIE] = cookie_gate(visible, hunger, craving * mind[LINGERS])
    gates[FOOD] = food_gate(hunger)
    tempted, lost = mind[JAR_KNOWN] and open_jar, not (mind[JAR_KNOWN] and mind[GARDEN_KNOWN])
    by_noise = traits[TYPE] == PRIMITIVE or (traits[TYPE] == RANDOM and not first)
    shard.policy(q, visited, at, size, tempted, lost, mind[NOW], traits[W_FOOD], gates, by_noise, p)
    if first:
        for a in range(8):
            p[a] *= 1 - mind[P_HIDE]
        p[HIDE] += mind[P_HIDE]


@njit(cache=True)
def choose(p, u):
    """The action that a uniform draw u in [0, 1) falls to."""
    a = 0
    while a < 7 and u >= p[a]:
        u -= p[a]
        a += 1
    return a


@njit(cache=True)
def learn(traits, mind, q, visited, settings, obs, action, over, next_obs):
    """What a step has taught: heads, the map, and what a cookie does to the one who eats it."""
    lr, at, to, ate = (
        settings[2],
        int(obs[POSITION]),
        int(next_obs[POSITION]),
        next_obs[COOKIES] < obs[COOKIES],
    )
    visited[at] = True
    if obs[COOKIES] > 0 and not obs[CLOSED]:
        shard.learn(q[COOKIE], at, action, ate, to, lr, SURGE if traits[REGIME] == REDISH else 0.0)
    shard.learn(q[FOOD], at, action, over, to, lr, 0.0)
    if ate:
        mind[W], mind[ATE] = shard.fed(mind[W], traits[ETA]), 1
    if next_obs[CLOSED]:
        mind[HID] = 1
