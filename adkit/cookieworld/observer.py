"""What an ideal observer believes of a creature of shards: a particle filter over the very model that made its history.

It is shown what a transformer is shown, no more, and knows the population. Heads follow from what was seen and done, so that all
particles share them; a particle is a guess at what is hidden: type, regime, rates, strengths, hunger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from adkit.cookieworld import shard
from adkit.cookieworld import world as world
from adkit.cookieworld.agent_state import (
    ETA,
    FIRST,
    LAPSING,
    LEARNED,
    MU,
    PRIMITIVE,
    PSI,
    RANDOM,
    RATE,
    REGIME,
    RHO,
    SOPHISTICATED,
    TYPE,
    W_FOOD,
)
from adkit.cookieworld.planning import foresee, hides
from adkit.cookieworld.population import APPETITES, TYPES, Shards
from adkit.cookieworld.shard import (
    BASE,
    BETA,
    COOKIE,
    FOOD,
    STRONGEST,
    SURGE,
    WEAKEST,
    YOKED,
    cookie_gate,
    food_gate,
    head,
    peak,
)
from adkit.cookieworld.world import (
    EAT,
    GARDEN,
    GIFT,
    HIDE,
    JAR,
    LID,
    POSITION,
    STARVED,
    STOCK,
    STOCKED,
    VISIBLE,
    WEST,
    led,
)
from adkit.histories import Histories
from adkit.protocols import Tasks
from adkit.seeds import Rng, key, uniform
from adkit.tables import in_parallel

STRENGTHS = np.array(
    [0.1, 0.4, 0.75, 1.15, 1.7, 2.3, 3.0]
)  # at which a planner's gain is tabulated, and interpolated between
FEW = 1e-3  # with less belief than this in planners nobody looks ahead
JITTER = 0.03  # of what never changes in a life, relative, when particles are drawn anew
PUZZLED = 1e-12  # least probability of what was seen, under any particle
GROWS, WOKE, RESAMPLE, RADIUS, ANGLE = (
    np.uint64(draw) for draw in (0, 1, 2, 3, 4)
)  # draws of a step, beside those of creatures
BELIEFS = {  # of every step, before its action is seen
    "belief_w": 0, "belief_w_sd": 0, "belief_rel": 0, "belief_rel_sd": 0, "belief_ess": 0,
    "belief_type": len(TYPES), "belief_pi": 8,
}  # fmt: skip
BODIES = {"rho": world.RHO, "psi": world.PSI}
LEFT, CLOSED_, TOLERANCE, TREATS, LINGERS, LAPSES, TOLD, HID, ATE, VALUE = range(
    10
)  # what all share


@dataclass(frozen=True)
class ParticleFilter:
    """The approximate Bayes predictor of a population's histories: Bootstrap filter with systematic resampling and a small jitter.

    Approximate where lives are yoked or sober: it takes their jars for full or empty as the bit says, by the chances of their type.
    """

    source: Shards
    """The population."""
    particles: int = 1000
    """Per history."""
    updates: bool = True
    """Whether what is done changes what is believed. False: the population prior, which knows the map and what was eaten."""
    seed: int = 0

    def __post_init__(self):
        if not isinstance(self.source, Shards):
            raise ValueError(
                f"{self.source!r} is no population of creatures; a ParticleFilter believes of ad.sources.Shards(...)."
            )
        if self.particles < 10:
            raise ValueError(f"particles={self.particles}; a belief needs at least 10. Try 1000.")

    def follow(self, histories: Histories) -> dict[str, np.ndarray]:
        """Labels (N, E, H, ...) float32, of what is believed at each step before its action is seen.

        `belief_w`, `belief_w_sd`: strength of the cookie shard; `belief_rel`, `_sd`: its log ratio to the food shard's;
        `belief_type` (5) over P, N, S, L, R; `belief_pi` (8) the next action; `belief_ess`: effective sample size.
        """
        spec = histories.spec
        if spec.name != "CookieWorld":
            raise ValueError(
                f"these are histories of {spec.name}; a ParticleFilter follows creatures of the CookieWorld."
            )
        shape = histories.arrays["action"].shape
        out = {
            name: np.zeros((*shape, size) if size else shape, np.float32)
            for name, size in BELIEFS.items()
        }
        size = round(spec.cardinality[POSITION] ** 0.5)
        stock = np.array([self.source.stock.get(name, world.PANTRY) for name in TYPES])
        how = (
            size,
            spec.horizon,
            self.source.lr,
            self.source.craving,
            self.source.walk,
            self.updates,
        )
        arrays = tuple(histories.arrays[name] for name in ("obs", "final_obs", "action", "reward"))
        ids = histories.task_values.ids[histories.task]
        for a in range(0, len(histories), 256):  # some at a time, for their particles' sake
            rows = slice(a, a + 256)
            traits, keys = self._born(ids[rows])
            lived, believed = tuple(v[rows] for v in arrays), tuple(v[rows] for v in out.values())
            in_parallel(
                _follow,
                len(keys),
                lived,
                histories.length[rows],
                traits,
                keys,
                stock,
                how,
                believed,
            )
        return out

    def _born(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Traits (N, P, 9) and keys (N, P) of particles for tasks of these ids, drawn from the population."""
        keys = key(self.seed, "particles", ids[:, None], np.arange(self.particles))
        rng = Rng(keys.ravel())
        bodies = {
            name: np.array(values)[rng.integers(2, draw)]
            for draw, (name, values) in enumerate(BODIES.items())
        }
        return self.source.traits(Tasks(bodies), rng).reshape(*keys.shape, -1), keys


@njit(cache=True, nogil=True)
def _follow(begin, end, lived, length, traits, keys, stock, how, believed):
    all_obs, final_obs, actions, rewards = lived
    size, horizon, lr, craving, walk, updates = how
    mean_w, sd_w, mean_rel, sd_rel, sample, types, pi = believed
    count, cells = keys.shape[1], size * size
    trait, q, visited = (
        np.empty(traits.shape[1:]),
        np.empty((2, cells, 8), np.float32),
        np.empty(cells, np.bool_),
    )
    w, p_hide, likely = np.empty(count), np.empty(count), np.empty(count)
    hunger, p, gains = (
        np.empty(count, np.int64),
        np.empty((count, 8)),
        np.empty((len(STRENGTHS), 2, 2, 2, STARVED + 1)),
    )
    now, place = np.empty(VALUE + 1), np.zeros(3, np.int64)
    for n in range(begin, end):
        trait[:], q[:], visited[:], now[:], place[:] = traits[n], 0, False, 0, -1
        likely[:] = 1 / count
        for k in range(count):
            w[k] = trait[k, FIRST]
        now[TREATS], now[VALUE], t = 1, 1, np.uint64(0)
        for day in range(all_obs.shape[1]):
            for i in range(length[n, day]):
                obs, action = all_obs[n, day, i, : world.SEEN], int(actions[n, day, i])
                after = all_obs[n, day, i + 1] if i + 1 < length[n, day] else final_obs[n, day]
                if i == 0:
                    _morning(
                        obs,
                        day,
                        now,
                        place,
                        trait,
                        w,
                        hunger,
                        likely,
                        keys[n],
                        stock,
                        walk,
                        updates,
                        t,
                    )
                _look(obs, now, q, place, size)
                if i == 0:
                    _intend(now, q, place, size, horizon, trait, w, hunger, likely, gains, p_hide)
                _predict(
                    obs, i == 0, now, q, visited, place, size, craving, trait, w, hunger, p_hide, p
                )
                ess, m_w, s_w, m_rel, s_rel = 0.0, 0.0, 0.0, 0.0, 0.0
                for k in range(count):
                    strong = shard.strength(int(trait[k, REGIME]), w[k], now[VALUE], now[TOLERANCE])
                    rel = math.log(strong / trait[k, W_FOOD])
                    ess += likely[k] * likely[k]
                    m_w += likely[k] * strong
                    s_w += likely[k] * strong * strong
                    m_rel += likely[k] * rel
                    s_rel += likely[k] * rel * rel
                    types[n, day, i, int(trait[k, TYPE])] += likely[k]
                    for a in range(8):
                        pi[n, day, i, a] += likely[k] * p[k, a]
                mean_w[n, day, i], sd_w[n, day, i] = m_w, math.sqrt(max(0.0, s_w - m_w * m_w))
                mean_rel[n, day, i], sd_rel[n, day, i] = (
                    m_rel,
                    math.sqrt(max(0.0, s_rel - m_rel * m_rel)),
                )
                sample[n, day, i] = 1 / ess
                if updates:
                    for k in range(count):
                        likely[k] *= max(p[k, action], PUZZLED)
                    _normalise(likely)
                ate = (
                    action == EAT
                    and place[1] == obs[POSITION]
                    and 0 < rewards[n, day, i] < world.MEAL
                )
                meal = action == EAT and place[2] == obs[POSITION] and not ate
                for k in range(count):
                    if ate:
                        w[k], hunger[k] = shard.fed(w[k], trait[k, ETA]), max(hunger[k] - 1, 0)
                    if uniform(keys[n, k], t, GROWS) < trait[k, RHO]:
                        hunger[k] = min(hunger[k] + 1, STARVED)
                _learn(obs, action, ate, meal, after, now, q, visited, lr)
                t += np.uint64(1)
                if updates and _effective(likely) < 0.5 * count:
                    _resample(likely, trait, w, hunger, p_hide, keys[n], t)


@njit(cache=True)
def _morning(obs, day, now, place, trait, w, hunger, likely, keys, stock, walk, updates, t):
    """What happens overnight and is told in the morning."""
    if day == 0:
        place[0] = obs[POSITION]
    elif now[TOLD] and not now[HID]:
        now[LAPSES] += LAPSING * (now[ATE] - now[LAPSES])
    if now[TREATS] == 0:
        now[TOLERANCE] = max(now[TOLERANCE] - 1, 0)
    gifts, stocked = int(obs[GIFT]), obs[STOCK] == 2
    now[TOLERANCE], now[TREATS] = min(now[TOLERANCE] + gifts, world.SET_IN_WAYS), gifts
    now[TOLD], now[LEFT], now[HID], now[ATE], now[LINGERS], now[CLOSED_] = (
        stocked,
        STOCKED * stocked,
        0,
        0,
        0,
        0,
    )
    for k in range(len(w)):
        if day > 0:
            w[k] = shard.overnight(
                int(trait[k, REGIME]), w[k], trait[k, FIRST], trait[k, MU], walk, keys[k], t
            )
        for _ in range(gifts):
            w[k] = shard.fed(w[k], trait[k, ETA])
        hunger[k] = max(int(3 * uniform(keys[k], t, WOKE)) - gifts, 0)
        if updates:
            chance = 0.5 if trait[k, REGIME] == YOKED else stock[int(trait[k, TYPE])]
            likely[k] *= max(chance if stocked else 1 - chance, PUZZLED)
    _normalise(likely)


@njit(cache=True)
def _look(obs, now, q, place, size):
    """What is seen of the jar and the garden, and what that says of the lid and the cookies left."""
    if obs[JAR] and place[1] < 0:
        place[1] = obs[JAR] - 1
        shard.notice(q[COOKIE], place[1], size)
    if obs[GARDEN] and place[2] < 0:
        place[2] = obs[GARDEN] - 1
        shard.notice(q[FOOD], place[2], size)
    if obs[JAR]:
        now[CLOSED_] = obs[LID] == 2
        if not now[CLOSED_]:
            now[LEFT] = max(now[LEFT], 1) if obs[VISIBLE] else 0
    now[LINGERS] = 0.7 * now[LINGERS] + 0.3 * obs[VISIBLE]


@njit(cache=True)
def _intend(now, q, place, size, horizon, trait, w, hunger, likely, gains, p_hide):
    """The probability that each particle hides the cookies this morning."""
    known, believed = place[1] >= 0 and place[2] >= 0, 0.0
    for k in range(len(w)):
        believed += likely[k] * (trait[k, TYPE] in (SOPHISTICATED, LEARNED))
    ahead = np.empty((2, 2, STARVED + 1), np.float32)
    looks = known and now[TOLD] and believed > FEW
    if looks:
        for i in range(len(STRENGTHS)):
            for r in range(2):
                for f in range(2):
                    foresee(
                        q,
                        size,
                        place,
                        horizon,
                        STOCKED,
                        STRENGTHS[i],
                        APPETITES[f],
                        world.RHO[r],
                        ahead,
                    )
                    for h in range(STARVED + 1):
                        gains[i, r, f, 0, h] = ahead[1, 0, h] - ahead[0, 0, h]
                        gains[i, r, f, 1, h] = ahead[0, 1, h] - ahead[1, 1, h]
    for k in range(len(w)):
        kind = int(trait[k, TYPE])
        p_hide[k] = trait[k, RATE] if kind == RANDOM else 0.0
        if known and (kind in (SOPHISTICATED, LEARNED)):
            gain = 0.0
            if looks:
                strong = STRONGEST * now[LAPSES]
                if kind == SOPHISTICATED:
                    strong = shard.strength(int(trait[k, REGIME]), w[k], now[VALUE], now[TOLERANCE])
                strong = min(max(strong, STRENGTHS[0]), STRENGTHS[-1])
                i = 1
                while STRENGTHS[i] < strong:
                    i += 1
                x = (strong - STRENGTHS[i - 1]) / (STRENGTHS[i] - STRENGTHS[i - 1])
                y = (trait[k, W_FOOD] - APPETITES[0]) / (APPETITES[1] - APPETITES[0])
                r, h = int(trait[k, RHO] > world.RHO[0]), hunger[k]
                for j, cost in ((0, 1.0), (1, trait[k, PSI])):
                    low = (1 - x) * gains[i - 1, r, 0, j, h] + x * gains[i, r, 0, j, h]
                    high = (1 - x) * gains[i - 1, r, 1, j, h] + x * gains[i, r, 1, j, h]
                    gain += cost * ((1 - y) * low + y * high)
            p_hide[k] = hides(gain)


@njit(cache=True)
def _predict(obs, first, now, q, visited, place, size, craving, trait, w, hunger, p_hide, p):
    """Fill p (P, 8), what each particle does next."""
    at, visible = int(obs[POSITION]), int(obs[VISIBLE])
    tempted, lost = (
        place[1] >= 0 and now[LEFT] > 0 and not now[CLOSED_],
        place[1] < 0 or place[2] < 0,
    )
    gates = np.empty((2, STARVED + 1))
    for h in range(STARVED + 1):
        gates[COOKIE, h], gates[FOOD, h] = (
            BETA * tempted * cookie_gate(visible, h, craving * now[LINGERS]),
            BETA * food_gate(h),
        )
    wants, likes, base, same = np.empty(8), np.empty(8), np.empty(8), np.empty(8, np.int64)
    best_cookie, best_food = peak(q[COOKIE, at]), peak(q[FOOD, at])
    for a in range(8):
        wants[a], likes[a], base[a] = (
            head(q[COOKIE, at, a], best_cookie),
            head(q[FOOD, at, a], best_food),
            BASE[a],
        )
        if lost and a <= WEST and not visited[led(at, a, size)]:
            base[a] += BETA
        same[a] = 0
        while wants[same[a]] != wants[a] or likes[same[a]] != likes[a] or base[same[a]] != base[a]:
            same[a] += 1  # bids come in few sizes
    for k in range(len(w)):
        kind, total = int(trait[k, TYPE]), 0.0
        craves = gates[COOKIE, hunger[k]] * shard.strength(
            int(trait[k, REGIME]), w[k], now[VALUE], now[TOLERANCE]
        )
        hungers = gates[FOOD, hunger[k]] * trait[k, W_FOOD]
        by_noise = kind == PRIMITIVE or (kind == RANDOM and not first)
        for a in range(8):
            if same[a] < a:
                p[k, a] = p[k, same[a]]
            else:
                p[k, a] = (
                    math.exp(base[a] + craves * wants[a] + hungers * likes[a])
                    if by_noise or a != HIDE
                    else 0.0
                )
            total += p[k, a]
        total = (1 - p_hide[k] * first) / total
        for a in range(8):
            p[k, a] *= total
        if first:
            p[k, HIDE] += p_hide[k]


@njit(cache=True)
def _learn(obs, action, ate, meal, after, now, q, visited, lr):
    """What every particle has learned: all that their heads are made of was seen."""
    at, to = int(obs[POSITION]), int(after[POSITION])
    visited[at] = True
    if now[LEFT] > 0 and not now[CLOSED_]:
        shard.learn(q[COOKIE], at, action, ate, to, lr, 0.0)
    shard.learn(q[FOOD], at, action, meal, to, lr, 0.0)
    if ate:
        now[LEFT], now[TREATS], now[ATE] = now[LEFT] - 1, now[TREATS] + 1, 1
        now[TOLERANCE] = min(now[TOLERANCE] + 1, world.SET_IN_WAYS)
        now[VALUE] = min(
            now[VALUE] + lr * max(1 - now[VALUE] + SURGE, SURGE), STRONGEST
        )  # of a cookie, to a life of D3
    if action == HIDE and obs[STOCK]:  # in the morning one is at home
        now[HID], now[CLOSED_] = 1, 1


@njit(cache=True)
def _normalise(likely):
    total = likely.sum()
    for k in range(len(likely)):
        likely[k] /= total


@njit(cache=True)
def _effective(likely):
    return 1 / (likely * likely).sum()


@njit(cache=True)
def _resample(likely, trait, w, hunger, p_hide, keys, t):
    """Particles in proportion to their weights, those that are the same moved a little apart."""
    count = len(likely)
    old, old_w, old_hunger, old_hide = trait.copy(), w.copy(), hunger.copy(), p_hide.copy()
    k, below, u = 0, likely[0], uniform(keys[0], t, RESAMPLE)
    for j in range(count):
        while k < count - 1 and (j + u) / count >= below:
            k += 1
            below += likely[k]
        radius = JITTER * math.sqrt(-2 * math.log(1 - uniform(keys[j], t, RADIUS)))
        angle = 2 * math.pi * uniform(keys[j], t, ANGLE)
        shift, turn = radius * math.cos(angle), radius * math.sin(angle)
        trait[j], hunger[j], p_hide[j] = old[k], old_hunger[k], old_hide[k]
        w[j] = min(max(old_w[k] * math.exp(shift), WEAKEST), STRONGEST)
        trait[j, W_FOOD] = min(max(old[k, W_FOOD] * math.exp(turn), APPETITES[0]), APPETITES[1])
        trait[j, ETA] *= math.exp(2 * turn)
        trait[j, RATE] = min(max(old[k, RATE] * math.exp(shift), 0.05), 0.7)
    likely[:] = 1 / count
