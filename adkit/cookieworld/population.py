"""Creatures of explicit shards whose values drift: one population of learners, each with its type, regime and rates.

P primitive: shards alone. N naive: plans as if it would never be tempted, so it never hides the cookies. S sophisticated: hides
them when evaluating its own policy says so. L: the same with a strength it has learned from its lapses. R hides at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numba import njit

from adkit.cookieworld import shard
from adkit.cookieworld import world as world
from adkit.cookieworld.agent_state import (
    AVOIDED,
    ETA,
    FIRST,
    GAIN,
    MU,
    NOW,
    P_HIDE,
    PSI,
    RATE,
    REGIME,
    RHO,
    TYPE,
    W_FOOD,
    W,
    choose,
    learn,
    think,
)
from adkit.cookieworld.shard import COOKIE, FOOD
from adkit.cookieworld.world import CLOSED, DECOY, GIFT, HUNGER, POSITION, STOCK
from adkit.envs import rooms
from adkit.protocols import EnvSpec, Lifetimes, Tasks, Transition
from adkit.seeds import Rng, uniform
from adkit.tables import in_parallel, stored_at

TYPES = ("P", "N", "S", "L", "R")
REGIMES = ("D0", "D1", "D2", "D3", "D4", "D5", "D6")  # as in adkit.creature
ETAS, MUS, SOBER, WEAK_OR_STRONG, APPETITES, RATES = (
    (0.03, 0.35),
    (0, 0.12),
    (0.15, 0.3),
    (0.3, 1.5),
    (0.8, 1.2),
    (0.1, 0.6),
)
ABSTINENCE = 6  # days
BIRTH = 2**59  # no life is that long: the step at which traits are drawn
ACT = np.uint64(0)  # draw of a step
PER_STEP = ("obs", "action", "reward", "terminated", "truncated")
LIVE_LABELS = {  # what is left of each step and each day while it is lived
    "pi": ("step", np.float32, 8), "w_cookie": ("step", np.float32), "gate_cookie": ("step", np.float32),
    "gate_food": ("step", np.float32), "gain": ("episode", np.float32), "avoided": ("episode", np.float32),
}  # fmt: skip
LABELS = LIVE_LABELS | {
    "hunger": ("step", np.uint8), "closed": ("step", np.uint8), "stock": ("episode", np.uint8), "decoy": ("episode", np.uint8),
    "gift": ("episode", np.uint8), "type": ("lifetime", np.uint8), "regime": ("lifetime", np.uint8),
    **dict.fromkeys(("eta", "mu", "w_food", "hide_rate", "rho", "psi"), ("lifetime", np.float32)),
}  # fmt: skip


@dataclass(frozen=True)
class Shards:
    """A population of creatures for the CookieWorld; each draws its type, regime, rates and strengths from its own address.

    Regimes are how the strength of the cookie shard changes: D0 not at all; D1 by use; D2 by itself, a slow walk; D3 in the value
    of a cookie (Redish 2004); D4 with tolerance; D5 not at all, while fed what a D1 partner ate; D6 by use, until the jar stays
    empty for six days. Softmax of bids at beta 2.5; heads are learned by Q-learning.
    """

    types: Mapping[str, float] = field(default_factory=lambda: {"P": 0.35, "S": 0.4, "R": 0.25})
    """Shares of P, N, S, L and R: `{"S": 1}` for sophisticated planners alone."""
    regimes: Mapping[str, float] = field(default_factory=lambda: {"D0": 0.3, "D1": 0.3, "D2": 0.4})
    """Shares of D0 to D6."""
    stock: Mapping[str, float] = field(default_factory=lambda: {"P": 0.9, "R": 0.9})
    """The chance of a full jar in the worlds where these types are put; the others live in their tasks as they are."""
    lr: float = 0.2
    """Step size of the values that heads are made of, in (0, 1]."""
    craving: float = 0.0
    """How much a cookie seen opens the cookie gate later that day: weight of m_t = 0.7 m_{t-1} + 0.3 v_t."""
    walk: tuple[float, float] = (0.015, 0.12)
    """Per day, the pull of D2 towards 1.2 and its noise."""
    labelled: bool = True
    """Whether they leave labels, 46 bytes a step which no model reads; among them, for every type, what hiding would gain."""
    tasks: Tasks | None = None
    """The worlds they live in, filled in by `prepare`."""

    def __post_init__(self):
        for name, allowed, whole in (
            ("types", TYPES, True),
            ("regimes", REGIMES, True),
            ("stock", TYPES, False),
        ):
            shares = getattr(self, name)
            if not set(shares) <= set(allowed) or not all(
                0 <= share < np.inf for share in shares.values()
            ):
                raise ValueError(
                    f"{name}={shares}; give {', '.join(allowed)} numbers of at least 0."
                )
            if (whole and sum(shares.values()) <= 0) or (
                not whole and max(shares.values(), default=0) > 1
            ):
                raise ValueError(
                    f"{name}={shares}; "
                    + ("one share must be positive." if whole else "chances are at most 1.")
                )
        if not 0 < self.lr <= 1:
            raise ValueError(f"lr={self.lr}; a tabular step size lies in (0, 1]. Try lr=0.2.")
        if not (
            self.craving >= 0 and len(self.walk) == 2 and min(self.walk) >= 0 and self.walk[0] <= 1
        ):
            raise ValueError(
                f"craving={self.craving}, walk={self.walk}; none is negative, and the pull is at most 1."
            )

    # ---- as collect sees it ----

    def prepare(self, lifetimes: Lifetimes) -> tuple[Shards, Tasks]:
        """Return the agents, told their bodies (rho, psi) and layouts, and their worlds."""
        tasks = self._worlds(lifetimes)
        return replace(self, tasks=tasks), tasks

    def _worlds(self, lifetimes: Lifetimes) -> Tasks:
        """Return the daily stock and, where a regime needs one, the script of each lifetime."""
        tasks, rng, episodes = lifetimes.tasks, lifetimes.rng, lifetimes.episodes
        _check(lifetimes.env.spec)
        traits = self.traits(tasks, rng)
        stock = tasks["stock"].astype(float)
        for name, chance in self.stock.items():
            stock[traits[:, TYPE] == TYPES.index(name)] = chance
        tasks = tasks.replace(stock=stock)
        yoked, sober = (traits[:, REGIME] == regime for regime in (shard.YOKED, shard.RECOVERY))
        if not (yoked | sober).any():
            return tasks
        script = np.full((len(tasks), episodes, 3), world.BY_CHANCE, np.int8)
        script[..., 2] = 0
        begins = (episodes * (0.3 + 0.3 * rng.at(BIRTH).uniform(7))).astype(int)
        day = np.arange(episodes)
        script[..., 0][
            sober[:, None] & (begins[:, None] <= day) & (day < begins[:, None] + ABSTINENCE)
        ] = 0
        if yoked.any():
            alike = replace(
                lifetimes, tasks=tasks[yoked], rng=rng[yoked], env_rng=lifetimes.env_rng[yoked]
            )
            script[yoked] = self._partners(replace(alike, every=1))
        return tasks.replace(script=script)

    def _partners(self, lifetimes: Lifetimes) -> np.ndarray:
        """Scripts (n, episodes, 3) of yoked lives: their partners, D1 and otherwise the same, live at the same address.

        Each morning holds as many cookies in the jar as the partner will eat that day, and gives as many as it is given and what
        was left over: by every morning both have eaten the same number.
        """
        partner = replace(self, regimes={"D1": 1}, labelled=False, tasks=lifetimes.tasks)
        lived = lifetimes.env.spec.empty(len(lifetimes.tasks), lifetimes.episodes)
        partner.simulate(lifetimes, lived)
        eaten = ((lived["reward"] > 0) & ~lived["terminated"]).sum(2)
        return np.stack([eaten, lived["obs"][:, :, 0, GIFT], np.ones_like(eaten)], axis=-1).astype(
            np.int8
        )

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> ShardLearner:
        _check(spec)
        if self.tasks is None or len(self.tasks) != len(rng):
            raise ValueError(
                "Shards needs a task per lifetime; collect fills them in by agent.prepare"
            )
        return ShardLearner(self, spec, rng)

    def simulate(self, lifetimes: Lifetimes, arrays: dict[str, np.ndarray]) -> bool:
        """Simulate whole lifetimes, compiled, world and all; not in worlds derived from CookieWorld."""
        env, tasks, rng = lifetimes.env, lifetimes.tasks, lifetimes.rng
        if type(env) is not world.CookieWorld:
            return False
        lives = Lives(self, env.spec, env.size, env.places(tasks), rng)
        days = lifetimes.episodes, lifetimes.every
        labels = arrays if self.labelled else env.spec.empty(0, 0, LABELS)
        rules = env.size, env.latch, env.tolerance_visible
        record = (
            tuple(arrays[name] for name in (*PER_STEP, "final_obs")),
            tuple(labels[name] for name in LIVE_LABELS),
        )
        worlds = (
            tasks["rho"].astype(float),
            tasks["stock"].astype(float),
            world.scripts(tasks),
            lifetimes.env_rng.keys,
        )
        in_parallel(_lifetimes, len(rng), lives.arrays, lives.settings, worlds, rules, days, record)
        if self.labelled:
            for name, values in (
                _felt(arrays["obs"][:, :, 0], arrays["obs"]) | lives.born()
            ).items():
                arrays[name][:] = values
        return True

    def labels(self, spec: EnvSpec) -> dict[str, tuple]:
        return LABELS if self.labelled else {}

    def traits(self, tasks: Tasks, rng: Rng) -> np.ndarray:
        """(N, 9) what lifetimes are born with, each drawn from its own address."""
        u = [rng.at(BIRTH).uniform(draw) for draw in range(7)]
        between = lambda u, least, most: least + (most - least) * u
        traits = np.zeros((len(rng), PSI + 1))
        traits[:, TYPE], traits[:, REGIME] = (
            _drawn(self.types, TYPES, u[0]),
            _drawn(self.regimes, REGIMES, u[1]),
        )
        used = np.isin(traits[:, REGIME], (shard.USE, shard.RECOVERY))
        mu = np.where(
            traits[:, REGIME] == shard.RECOVERY, between(u[3], *SOBER), between(u[3], *MUS)
        )
        traits[:, ETA], traits[:, MU] = used * np.exp(between(u[2], *np.log(ETAS))), used * mu
        traits[:, FIRST], traits[:, W_FOOD], traits[:, RATE] = (
            between(u[i], *least) for i, least in ((4, WEAK_OR_STRONG), (5, APPETITES), (6, RATES))
        )
        traits[:, RHO], traits[:, PSI] = tasks["rho"], tasks["psi"]
        return traits


def _check(spec: EnvSpec) -> None:
    if spec.name != "CookieWorld":
        raise ValueError(
            f"Shards live in the CookieWorld and this is {spec.name}; QLearning() serves worlds with tables."
        )


def _drawn(shares: Mapping[str, float], names: tuple[str, ...], u: np.ndarray) -> np.ndarray:
    """Which of the names each u in [0, 1) falls to."""
    weights = np.array([shares.get(name, 0.0) for name in names])
    return np.searchsorted(np.cumsum(weights / weights.sum())[:-1], u, side="right")


class Lives:
    """What N creatures are and have become, as arrays: compiled code changes them in place."""

    def __init__(self, config: Shards, spec: EnvSpec, size: int, places: np.ndarray, rng: Rng):
        n, cells = len(rng), size**2
        self.traits = config.traits(config.tasks, rng)
        self.mind, self.q = np.zeros((n, P_HIDE + 1)), np.zeros((n, 2, cells, 8), np.float32)
        self.visited, self.gates, self.p = (
            np.zeros((n, cells), np.bool_),
            np.zeros((n, 2)),
            np.zeros((n, 8)),
        )
        self.mind[:, W] = self.traits[:, FIRST]
        self.arrays = (
            self.traits,
            self.mind,
            self.q,
            self.visited,
            self.gates,
            self.p,
            places,
            rng.keys,
        )
        self.settings = size, spec.horizon, config.lr, config.craving, config.walk, config.labelled

    def born(self) -> dict[str, np.ndarray]:
        """Labels for life."""
        names = {
            "type": TYPE,
            "regime": REGIME,
            "eta": ETA,
            "mu": MU,
            "w_food": W_FOOD,
            "hide_rate": RATE,
            "rho": RHO,
            "psi": PSI,
        }
        return {name: self.traits[:, column] for name, column in names.items()}


class ShardLearner:
    """N creatures in lock step."""

    def __init__(self, config: Shards, spec: EnvSpec, rng: Rng):
        size = round(spec.cardinality[POSITION] ** 0.5)
        places = np.stack(
            [rooms.number(config.tasks[name], size) for name in ("home", "jar", "garden")], axis=1
        )
        self.config, self.lives, self.t = config, Lives(config, spec, size, places, rng), 0
        self.today = np.zeros((len(rng), CLOSED + 1), spec.obs_dtype)  # what the morning told

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        self.obs, action = np.ascontiguousarray(obs), np.empty(len(obs), np.uint8)
        self.today[first] = obs[first]
        _act_all(self.lives.arrays, self.lives.settings, self.obs, first, np.uint64(self.t), action)
        return action

    def update(self, transition: Transition) -> None:
        now, later, over = (
            np.ascontiguousarray(x)
            for x in (transition.obs, transition.next_obs, transition.terminated)
        )
        _learn_all(
            self.lives.arrays,
            self.lives.settings,
            now,
            np.asarray(transition.action, np.int64),
            over,
            later,
        )
        self.t += 1

    def labels(self) -> dict[str, np.ndarray]:
        if not self.config.labelled:
            return {}
        lives = self.lives
        told = {
            "pi": lives.p,
            "gain": lives.mind[:, GAIN],
            "avoided": lives.mind[:, AVOIDED],
            "w_cookie": lives.mind[:, NOW],
        }
        told |= {"gate_cookie": lives.gates[:, COOKIE], "gate_food": lives.gates[:, FOOD]}
        return told | _felt(self.today, self.obs) | lives.born()


def _felt(morning: np.ndarray, obs: np.ndarray) -> dict[str, np.ndarray]:
    """Labels that are in the observations of a morning and of now."""
    labels = {
        "stock": morning[..., STOCK] == 2,
        "decoy": morning[..., DECOY] == 2,
        "gift": morning[..., GIFT],
    }
    return labels | {"hunger": obs[..., HUNGER], "closed": obs[..., CLOSED]}


# ---- compiled lives ----


@njit(cache=True, nogil=True)
def _lifetimes(begin, end, lives, settings, worlds, rules, days, record):
    traits, mind, q, visited, gates, p, places, keys = lives
    size, horizon = settings[0], settings[1]
    rho, stock, script, env_keys = worlds
    episodes, every = days
    (
        (all_obs, actions, rewards, terminates, truncates, final_obs),
        (pi, w_cookie, gate_cookie, gate_food, gain, avoided),
    ) = record
    body, obs, next_obs = (
        np.zeros(world.FED + 1, np.int16),
        np.zeros(CLOSED + 1, all_obs.dtype),
        np.zeros(CLOSED + 1, all_obs.dtype),
    )
    for n in range(begin, end):
        mind_n, q_n, visited_n, gates_n, p_n, place = (
            mind[n],
            q[n],
            visited[n],
            gates[n],
            p[n],
            places[n],
        )
        trait, key, env_key, cards = traits[n], keys[n], env_keys[n], script[n]
        body[:] = 0
        body[world.DAY], body[world.TREATS] = -1, 1
        t = np.uint64(0)  # steps lived
        for day in range(episodes):
            e = stored_at(day, every)
            world.wake(body, place[0], stock[n], cards, env_key, t)
            world.observe(body, place, size, obs)
            for i in range(horizon):
                think(
                    trait,
                    mind_n,
                    q_n,
                    visited_n,
                    gates_n,
                    p_n,
                    place,
                    settings,
                    obs,
                    i == 0,
                    key,
                    t,
                )
                a = choose(p_n, uniform(key, t, ACT))
                reward, over = world.advance(body, place, rho[n], rules, a, env_key, t)
                world.observe(body, place, size, next_obs)
                learn(trait, mind_n, q_n, visited_n, settings, obs, a, over, next_obs)
                if e >= 0:
                    actions[n, e, i], rewards[n, e, i] = a, reward
                    for c in range(len(obs)):
                        all_obs[n, e, i, c] = obs[c]
                    if len(pi):
                        for b in range(8):
                            pi[n, e, i, b] = p_n[b]
                        w_cookie[n, e, i], gate_cookie[n, e, i], gate_food[n, e, i] = (
                            mind_n[NOW],
                            gates_n[COOKIE],
                            gates_n[FOOD],
                        )
                t += np.uint64(1)
                if over or i == horizon - 1:
                    if e >= 0:
                        terminates[n, e, i], truncates[n, e, i] = over, not over
                        for c in range(len(obs)):
                            final_obs[n, e, c] = next_obs[c]
                        if len(pi):
                            gain[n, e], avoided[n, e] = mind_n[GAIN], mind_n[AVOIDED]
                    break
                obs, next_obs = next_obs, obs


@njit(cache=True)
def _act_all(lives, settings, obs, first, t, action):
    traits, mind, q, visited, gates, p, places, keys = lives
    for n in range(len(obs)):
        think(
            traits[n],
            mind[n],
            q[n],
            visited[n],
            gates[n],
            p[n],
            places[n],
            settings,
            obs[n],
            first[n],
            keys[n],
            t,
        )
        action[n] = choose(p[n], uniform(keys[n], t, ACT))


@njit(cache=True)
def _learn_all(lives, settings, obs, action, over, next_obs):
    traits, mind, q, visited, _, _, _, _ = lives
    for n in range(len(obs)):
        learn(
            traits[n], mind[n], q[n], visited[n], settings, obs[n], action[n], over[n], next_obs[n]
        )
