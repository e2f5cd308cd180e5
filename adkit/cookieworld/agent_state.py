"""The state of one shard agent as flat records for compiled code, and its daily update.

An agent has three parts: a record of constant traits, a record of state, and q (2, cells, 8), the
values that the heads of its cookie and food shards are made of.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from adkit.cookieworld import shard, world
from adkit.cookieworld.planning import expected_day, hide_probability
from adkit.cookieworld.shard import BETA, COOKIE, FOOD, REDISH, STRONGEST, SURGE

PRIMITIVE, NAIVE, SOPHISTICATED, LEARNED, RANDOM = range(5)
LAPSE_LR = 0.2  # step size of the lapse rate that a LEARNED agent estimates

TRAITS = np.dtype(
    [
        ("type", np.int64),
        ("regime", np.int64),
        ("eta", float),  # gain in strength per cookie
        ("mu", float),  # decay of the strength per night
        ("w_first", float),  # strength of the cookie shard on the first morning
        ("w_food", float),  # strength of the food shard
        ("hide_rate", float),  # probability that a RANDOM agent hides the cookies in the morning
        ("rho", float),
        ("psi", float),
    ]
)
STATE = np.dtype(
    [
        ("w", float),  # strength of the cookie shard
        ("w_cookie", float),  # strength with which it bids now; differs from w in D3 and D4
        ("gate_cookie", float),
        ("gate_food", float),
        ("pi", float, (8,)),  # probabilities of the next action
        ("lapse_rate", float),  # running mean of days with cookies on which the agent ate one
        ("gain", float),  # meals that hiding gains today, by the agent's own planning
        ("avoided", float),  # cookies that hiding avoids today
        ("p_hide", float),  # probability that planning adds to HIDE this morning
        ("jar_known", np.bool_),
        ("garden_known", np.bool_),
        ("stocked", np.bool_),  # the jar held cookies this morning
        ("hid", np.bool_),  # the lid was closed today
        ("ate", np.bool_),  # a cookie was eaten today
    ],
    align=True,
)


class Settings(NamedTuple):
    """What all agents of a population share."""

    size: int
    horizon: int
    lr: float
    walk: tuple[float, float]
    labelled: bool


class Agents(NamedTuple):
    """N agents; compiled code changes them in place."""

    traits: np.ndarray  # (N,) of dtype TRAITS
    state: np.ndarray  # (N,) of dtype STATE
    q: np.ndarray  # (N, 2, cells, 8) float32
    visited: np.ndarray  # (N, cells) bool
    places: np.ndarray  # (N, 3) home, jar, garden; an agent uses the ones it has seen
    keys: np.ndarray  # (N,) uint64


@njit(cache=True)
def wake(traits, state, q, place, settings, obs, key, t):
    """Start a day: strengths change overnight, gifts are eaten, planners plan."""
    if t > 0:
        state.w = shard.overnight(
            traits.regime, state.w, traits.w_first, traits.mu, settings.walk, key, t
        )
        if state.stocked and not state.hid:
            state.lapse_rate += LAPSE_LR * (state.ate - state.lapse_rate)
    for _ in range(obs[world.GIFT]):
        state.w = shard.fed(state.w, traits.eta)
    state.stocked, state.hid, state.ate = obs[world.COOKIES] > 0, False, False
    state.gain, state.avoided = 0.0, 0.0
    state.p_hide = traits.hide_rate if traits.type == RANDOM else 0.0
    plans = traits.type in (SOPHISTICATED, LEARNED)
    if (plans or settings.labelled) and state.jar_known and state.garden_known:
        if state.stocked:  # from an empty jar hiding gains nothing
            _plan(traits, state, q, place, settings, obs)
        if plans:
            state.p_hide = hide_probability(state.gain)


@njit(cache=True)
def _plan(traits, state, q, place, settings, obs):
    """Set what hiding gains and avoids today, in meals and cookies."""
    if traits.type == LEARNED:
        w = STRONGEST * state.lapse_rate
    else:
        w = _strength(traits, state, q, place, obs)
    ahead, h = np.empty((2, 2, world.STARVED + 1), np.float32), int(obs[world.HUNGER])
    cookies, w_food, rho = int(obs[world.COOKIES]), traits.w_food, traits.rho
    expected_day(q, settings.size, place, settings.horizon, cookies, w, w_food, rho, ahead)
    state.avoided = ahead[0, 1, h] - ahead[1, 1, h]
    state.gain = ahead[1, 0, h] - ahead[0, 0, h] + traits.psi * state.avoided


@njit(cache=True)
def _strength(traits, state, q, place, obs):
    peak, tolerance = q[COOKIE, place[1], world.EAT], int(obs[world.TOLERANCE])
    return shard.strength(traits.regime, state.w, peak, tolerance)


@njit(cache=True)
def act(traits, state, q, visited, place, settings, obs, first, key, t):
    """Set `state.pi`, the exact probabilities of the next action, and the two gates."""
    at, visible, hunger = int(obs[world.POSITION]), int(obs[world.VISIBLE]), int(obs[world.HUNGER])
    if first:
        wake(traits, state, q, place, settings, obs, key, t)
    if obs[world.JAR] and not state.jar_known:
        shard.notice(q[COOKIE], place[1], settings.size)
        state.jar_known = True
    if obs[world.GARDEN] and not state.garden_known:
        shard.notice(q[FOOD], place[2], settings.size)
        state.garden_known = True
    state.w_cookie = _strength(traits, state, q, place, obs)
    state.gate_cookie = shard.cookie_gate(visible, hunger)
    state.gate_food = shard.food_gate(hunger)
    tempted = state.jar_known and obs[world.COOKIES] > 0 and not obs[world.CLOSED]
    lost = not (state.jar_known and state.garden_known)
    craving = BETA * state.w_cookie * state.gate_cookie * tempted
    appetite = BETA * traits.w_food * state.gate_food
    by_noise = traits.type == PRIMITIVE or (traits.type == RANDOM and not first)
    p = state.pi
    shard.policy(q, visited, at, settings.size, craving, appetite, lost, by_noise, p)
    if first:
        for a in range(8):
            p[a] *= 1 - state.p_hide
        p[world.HIDE] += state.p_hide


@njit(cache=True)
def choose(p, u):
    """Return the action that a uniform draw u in [0, 1) selects."""
    a = 0
    while a < 7 and u >= p[a]:
        u -= p[a]
        a += 1
    return a


@njit(cache=True)
def learn(traits, state, q, visited, lr, obs, action, over, next_obs):
    """Learn from a step: the values of both heads, the map, and a cookie's effect on w."""
    at, to = int(obs[world.POSITION]), int(next_obs[world.POSITION])
    ate = next_obs[world.COOKIES] < obs[world.COOKIES]
    visited[at] = True
    if obs[world.COOKIES] > 0 and not obs[world.CLOSED]:
        surge = SURGE if traits.regime == REDISH else 0.0
        shard.learn(q[COOKIE], at, action, ate, to, lr, surge)
    shard.learn(q[FOOD], at, action, over, to, lr, 0.0)
    if ate:
        state.w, state.ate = shard.fed(state.w, traits.eta), True
    if next_obs[world.CLOSED]:
        state.hid = True
