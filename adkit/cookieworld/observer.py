"""Particle filter over an agent's hidden state, using the true generative model.

It is the best possible predictor: it sees what a transformer sees and knows the population. Heads
follow from what was seen and done, so all particles share them. A particle is a hypothesis about
what is hidden: type, regime, rates, strengths, hunger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from adkit.cookieworld import agent_state, planning, shard, world
from adkit.cookieworld.agent_state import TRAITS
from adkit.cookieworld.planning import APPETITES, STRENGTHS, hide_probability
from adkit.cookieworld.population import TYPES, Shards
from adkit.cookieworld.shard import BASE, BETA, COOKIE, FOOD, STRONGEST, SURGE, WEAKEST, YOKED
from adkit.cookieworld.world import STARVED
from adkit.histories import Histories
from adkit.protocols import Tasks
from adkit.seeds import Rng, key, uniform
from adkit.tables import in_parallel

PLANNERS = agent_state.SOPHISTICATED, agent_state.LEARNED
FEW = 1e-3  # with less probability on planners than this, no gain is computed
JITTER = 0.03  # relative noise on constant traits when particles are resampled
UNLIKELY = 1e-12  # least probability of an event under any particle
# draws of a step, on keys of their own
GROWS, WOKE, RESAMPLE, RADIUS, ANGLE = (np.uint64(draw) for draw in range(5))
OUTPUTS = {"belief_rel": (), "belief_type": (len(TYPES),), "belief_pi": (8,)}  # shapes per step
TOLD = ("obs", "final_obs", "action", "reward")
CHUNK = 256  # lifetimes whose particles are in memory at a time

PARTICLE = np.dtype([*TRAITS.descr, ("w", float), ("p_hide", float), ("hunger", np.int64)])
# What follows from the history, the same for all particles: the mean of lapses (to a LEARNED agent)
# and the value of a cookie (to an agent in D3); then today's jar and events.
FACTS = "lapse_rate cookie_value cookies closed tolerance eaten stocked hid ate"
KNOWN = np.dtype([(name, float) for name in FACTS.split()])


@dataclass(frozen=True)
class ParticleFilter:
    """The approximate Bayes predictor of a population's histories: a bootstrap filter.

    Resampling is systematic, with a small jitter. For agents in D5 and D6 the filter is
    approximate: it takes their jars for full or empty as the stock bit says, by the chances of
    their type.
    """

    source: Shards
    """The population."""
    particles: int = 1000
    """Per history."""
    updates: bool = True
    """Whether actions change the weights. False: the prior, given map and cookies."""
    seed: int = 0
    """Seed of the particles."""

    def follow(self, histories: Histories) -> dict[str, np.ndarray]:
        """Return labels (N, E, H, ...) float32: the posterior at each step before its action.

        `belief_rel`: mean log ratio of the cookie shard's strength to the food shard's;
        `belief_type` (5): probabilities of P, N, S, L, R; `belief_pi` (8): of the next action.
        """
        spec, arrays = histories.spec, histories.arrays
        if spec.name != "CookieWorld":
            raise ValueError(f"histories must be of CookieWorld, got {spec.name}")
        shape, source = arrays["action"].shape, self.source
        out = {name: np.zeros((*shape, *more), np.float32) for name, more in OUTPUTS.items()}
        stock = np.array([source.stock.get(name, world.PANTRY) for name in TYPES])
        how = source.settings(spec), self.updates, stock
        told = *(arrays[name] for name in TOLD), histories.length
        ids = histories.task_values.ids[histories.task]
        for begin in range(0, len(histories), CHUNK):
            rows = slice(begin, begin + CHUNK)
            particles, keys = self._drawn(ids[rows])
            known = np.zeros(len(keys), KNOWN)
            known["eaten"], known["cookie_value"] = 1, 1
            chunk, outputs = tuple(x[rows] for x in told), tuple(x[rows] for x in out.values())
            in_parallel(_follow, len(keys), chunk, known, particles, keys, *how, outputs)
        return out

    def _drawn(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw particles (N, P) from the population; return them and their keys (N, P)."""
        keys = key(self.seed, "particles", ids[:, None], np.arange(self.particles))
        rng = Rng(keys.ravel())
        rho, psi = np.array(world.RHO)[rng.integers(2, 0)], np.array(world.PSI)[rng.integers(2, 1)]
        traits = self.source.traits(Tasks({"rho": rho, "psi": psi}), rng).reshape(keys.shape)
        particles = np.zeros(keys.shape, PARTICLE)
        for name in TRAITS.names:
            particles[name] = traits[name]
        particles["w"] = particles["w_first"]
        return particles, keys


@njit(cache=True, nogil=True)
def _follow(begin, end, told, all_known, all_particles, all_keys, settings, updates, stock, out):
    all_obs, final_obs, actions, rewards, length = told
    count, size, lr = all_keys.shape[1], settings.size, settings.lr
    q, visited = np.empty((2, size * size, 8), np.float32), np.empty(size * size, np.bool_)
    weights, p = np.empty(count), np.empty((count, 8))
    gains, place = np.empty((len(STRENGTHS), 2, 2, 2, STARVED + 1)), np.zeros(3, np.int64)
    for n in range(begin, end):
        known, particles, keys, t = all_known[n], all_particles[n], all_keys[n], np.uint64(0)
        q[:], visited[:], place[:], weights[:] = 0, False, -1, 1 / count
        for day in range(all_obs.shape[1]):
            for i in range(length[n, day]):
                obs, action = all_obs[n, day, i, : world.SEEN], int(actions[n, day, i])
                later = all_obs[n, day, i + 1] if i + 1 < length[n, day] else final_obs[n, day]
                if i == 0:
                    if day == 0:
                        place[0] = obs[world.POSITION]
                    _morning(obs, day, known, particles, keys, settings.walk, t)
                    if updates:
                        for k in range(count):
                            full = 0.5 if particles[k].regime == YOKED else stock[particles[k].type]
                            weights[k] *= max(full if known.stocked else 1 - full, UNLIKELY)
                        weights /= weights.sum()
                _look(obs, known, q, place, size)
                if i == 0:
                    _intend(known, q, place, settings, particles, weights, gains)
                _predict(obs, i == 0, known, q, visited, place, size, particles, p)
                _summarise(known, particles, weights, p, out, n, day, i)
                if updates:
                    for k in range(count):
                        weights[k] *= max(p[k, action], UNLIKELY)
                    weights /= weights.sum()
                ate, meal = 0 < rewards[n, day, i] < world.MEAL, rewards[n, day, i] == world.MEAL
                _feed(ate, particles, keys, t)
                _learn(obs, action, ate, meal, later, known, q, visited, lr)
                t += np.uint64(1)
                if updates and 1 / (weights * weights).sum() < 0.5 * count:
                    _resample(weights, particles, keys, t)


@njit(cache=True)
def _morning(obs, day, known, particles, keys, walk, t):
    """Apply what happens overnight."""
    if day > 0 and known.stocked and not known.hid:
        known.lapse_rate += agent_state.LAPSE_LR * (known.ate - known.lapse_rate)
    if known.eaten == 0:
        known.tolerance = max(known.tolerance - 1, 0)
    gifts, stocked = int(obs[world.GIFT]), obs[world.STOCK] == 2
    known.tolerance, known.eaten = min(known.tolerance + gifts, world.MOST_TOLERANT), gifts
    known.stocked, known.cookies = stocked, world.STOCKED * stocked
    known.hid, known.ate, known.closed = 0, 0, 0
    for k in range(len(particles)):
        it = particles[k]
        if day > 0:
            it.w = shard.overnight(it.regime, it.w, it.w_first, it.mu, walk, keys[k], t)
        for _ in range(gifts):
            it.w = shard.fed(it.w, it.eta)
        it.hunger = max(int(3 * uniform(keys[k], t, WOKE)) - gifts, 0)


@njit(cache=True)
def _look(obs, known, q, place, size):
    """Take in what is seen of the jar, the garden, the lid and the cookies left."""
    if obs[world.JAR] and place[1] < 0:
        place[1] = obs[world.JAR] - 1
        shard.notice(q[COOKIE], place[1], size)
    if obs[world.GARDEN] and place[2] < 0:
        place[2] = obs[world.GARDEN] - 1
        shard.notice(q[FOOD], place[2], size)
    if obs[world.JAR]:
        known.closed = obs[world.LID] == 2
        if not known.closed:
            known.cookies = max(known.cookies, 1) if obs[world.VISIBLE] else 0


@njit(cache=True)
def _intend(known, q, place, settings, particles, weights, gains):
    """Set the probability that each particle's planning adds to HIDE this morning."""
    sites_known, planners = place[1] >= 0 and place[2] >= 0, 0.0
    for k in range(len(particles)):
        planners += weights[k] * (particles[k].type in PLANNERS)
    worth_it = sites_known and known.stocked > 0 and planners > FEW
    if worth_it:
        planning.tabulate_gains(q, settings.size, place, settings.horizon, gains)
    for k in range(len(particles)):
        it, gain = particles[k], 0.0
        it.p_hide = it.hide_rate if it.type == agent_state.RANDOM else 0.0
        if sites_known and it.type in PLANNERS:
            if worth_it:
                strong = _strength(known, it)
                if it.type == agent_state.LEARNED:
                    strong = STRONGEST * known.lapse_rate
                body = it.w_food, it.rho, it.psi, it.hunger
                gain = planning.interpolated_gain(gains, strong, *body)
            it.p_hide = hide_probability(gain)


@njit(cache=True)
def _strength(known, it):
    return shard.strength(it.regime, it.w, known.cookie_value, known.tolerance)


@njit(cache=True)
def _predict(obs, first, known, q, visited, place, size, particles, p):
    """Fill p (P, 8), the probabilities of each particle's next action."""
    at, visible = int(obs[world.POSITION]), int(obs[world.VISIBLE])
    tempted = place[1] >= 0 and known.cookies > 0 and not known.closed
    lost, gates = place[1] < 0 or place[2] < 0, np.empty((2, STARVED + 1))
    for h in range(STARVED + 1):
        gates[COOKIE, h] = BETA * tempted * shard.cookie_gate(visible, h)
        gates[FOOD, h] = BETA * shard.food_gate(h)
    wants, likes, base, equal = np.empty(8), np.empty(8), np.empty(8), np.empty(8, np.int64)
    best_cookie, best_food = q[COOKIE, at].max(), q[FOOD, at].max()
    for a in range(8):
        wants[a] = shard.head(q[COOKIE, at, a], best_cookie)
        likes[a] = shard.head(q[FOOD, at, a], best_food)
        base[a] = BASE[a]
        if lost and a <= world.WEST and not visited[world.led(at, a, size)]:
            base[a] += BETA
    shard.first_equal(wants, likes, base, equal)
    for k in range(len(particles)):
        it, total = particles[k], 0.0
        craving = gates[COOKIE, it.hunger] * _strength(known, it)
        appetite = gates[FOOD, it.hunger] * it.w_food
        by_noise = it.type == agent_state.PRIMITIVE or (it.type == agent_state.RANDOM and not first)
        for a in range(8):
            if equal[a] < a:
                p[k, a] = p[k, equal[a]]
            elif by_noise or a != world.HIDE:
                p[k, a] = math.exp(base[a] + craving * wants[a] + appetite * likes[a])
            else:
                p[k, a] = 0.0
            total += p[k, a]
        total = (1 - it.p_hide * first) / total
        for a in range(8):
            p[k, a] *= total
        if first:
            p[k, world.HIDE] += it.p_hide


@njit(cache=True)
def _summarise(known, particles, weights, p, out, n, day, i):
    """Store the posterior of one step."""
    (rel, types, pi), mean = out, 0.0
    for k in range(len(particles)):
        it = particles[k]
        mean += weights[k] * math.log(_strength(known, it) / it.w_food)
        types[n, day, i, it.type] += weights[k]
        for a in range(8):
            pi[n, day, i, a] += weights[k] * p[k, a]
    rel[n, day, i] = mean


@njit(cache=True)
def _feed(ate, particles, keys, t):
    """Apply a cookie, and each particle's own chance to get hungrier."""
    for k in range(len(particles)):
        it = particles[k]
        if ate:
            it.w, it.hunger = shard.fed(it.w, it.eta), max(it.hunger - 1, 0)
        if uniform(keys[k], t, GROWS) < it.rho:
            it.hunger = min(it.hunger + 1, STARVED)


@njit(cache=True)
def _learn(obs, action, ate, meal, later, known, q, visited, lr):
    """Learn the values of the heads, which all particles share: they follow from what was seen."""
    at, to = int(obs[world.POSITION]), int(later[world.POSITION])
    visited[at] = True
    if known.cookies > 0 and not known.closed:
        shard.learn(q[COOKIE], at, action, ate, to, lr, 0.0)
    shard.learn(q[FOOD], at, action, meal, to, lr, 0.0)
    if ate:
        known.cookies, known.eaten, known.ate = known.cookies - 1, known.eaten + 1, 1
        known.tolerance = min(known.tolerance + 1, world.MOST_TOLERANT)
        grown = known.cookie_value + lr * max(1 - known.cookie_value + SURGE, SURGE)
        known.cookie_value = min(grown, STRONGEST)
    if action == world.HIDE and obs[world.STOCK]:  # in the morning the agent is at home
        known.hid, known.closed = 1, 1


@njit(cache=True)
def _resample(weights, particles, keys, t):
    """Draw particles in proportion to their weights, and move equal ones a little apart."""
    count, old = len(weights), particles.copy()
    points = (np.arange(count) + uniform(keys[0], t, RESAMPLE)) / count
    drawn = np.searchsorted(np.cumsum(weights)[:-1], points, side="right")
    for j in range(count):
        radius = JITTER * math.sqrt(-2 * math.log(1 - uniform(keys[j], t, RADIUS)))
        angle = 2 * math.pi * uniform(keys[j], t, ANGLE)
        shift, turn = radius * math.cos(angle), radius * math.sin(angle)
        particles[j] = old[drawn[j]]
        it = particles[j]
        it.w = min(max(it.w * math.exp(shift), WEAKEST), STRONGEST)
        it.w_food = min(max(it.w_food * math.exp(turn), APPETITES[0]), APPETITES[1])
        it.eta *= math.exp(2 * turn)
        it.hide_rate = min(max(it.hide_rate * math.exp(shift), 0.05), 0.7)
    weights[:] = 1 / count
