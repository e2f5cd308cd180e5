"""A population of shard agents whose values drift, each with its own type, regime and rates.

Types: P primitive, shards alone. N naive, plans as if it were never tempted, so it never hides the
cookies. S sophisticated, hides them when evaluating its own policy says so. L, the same with a
strength estimated from its own lapses. R, hides at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numba import njit

from adkit.cookieworld import agent_state, world
from adkit.cookieworld.agent_state import STATE, TRAITS, Agents, Settings, choose
from adkit.cookieworld.planning import APPETITES
from adkit.cookieworld.shard import RECOVERY, USE, YOKED
from adkit.cookieworld.world import CLOSED, DECOY, GIFT, HUNGER, POSITION, STOCK, CookieWorld
from adkit.protocols import EnvSpec, Lifetimes, Tasks, Transition
from adkit.seeds import Rng, uniform
from adkit.sources.settings import cannot_learn
from adkit.tables import in_parallel, stored_at

TYPES = ("P", "N", "S", "L", "R")  # numbered as in adkit.cookieworld.agent_state
REGIMES = ("D0", "D1", "D2", "D3", "D4", "D5", "D6")  # numbered as in adkit.cookieworld.shard
ETAS, MUS, RECOVERY_MUS = (0.03, 0.35), (0, 0.12), (0.15, 0.3)
FIRST_STRENGTHS, HIDE_RATES = (0.3, 1.5), (0.1, 0.6)
ABSTINENCE = 6  # days
BIRTH = 2**59  # the step at which traits are drawn; no lifetime is that long
ACT = np.uint64(0)  # draw of a step
STORED = ("obs", "action", "reward", "terminated", "truncated", "final_obs")
STATE_LABELS = {  # fields of STATE
    "pi": ("step", np.float32, 8),
    **dict.fromkeys(("w_cookie", "gate_cookie", "gate_food"), ("step", np.float32)),
    **dict.fromkeys(("gain", "avoided"), ("episode", np.float32)),
}
TRAIT_LABELS = {  # fields of TRAITS
    **dict.fromkeys(("type", "regime"), ("lifetime", np.uint8)),
    **dict.fromkeys(("eta", "mu", "w_food", "hide_rate", "rho", "psi"), ("lifetime", np.float32)),
}
OBSERVED_LABELS = {  # in observations
    **dict.fromkeys(("hunger", "closed"), ("step", np.uint8)),
    **dict.fromkeys(("stock", "decoy", "gift"), ("episode", np.uint8)),
}


@dataclass(frozen=True)
class Shards:
    """A population of shard agents for CookieWorld, all drawn from their own addresses.

    A regime is how the strength of the cookie shard changes: D0 not at all; D1 with use; D2 by a
    slow random walk; D3 with the value of a cookie (Redish 2004); D4 with tolerance; D5 not at
    all, while it is fed what a D1 partner ate; D6 with use, until the jar stays empty for six
    days. Actions are a softmax of the bids at inverse temperature 2.5; heads are learned by
    Q-learning.
    """

    types: Mapping[str, float] = field(default_factory=lambda: {"P": 0.35, "S": 0.4, "R": 0.25})
    """Shares of P, N, S, L and R: `{"S": 1}` for sophisticated planners alone."""
    regimes: Mapping[str, float] = field(default_factory=lambda: {"D0": 0.3, "D1": 0.3, "D2": 0.4})
    """Shares of D0 to D6."""
    stock: Mapping[str, float] = field(default_factory=lambda: {"P": 0.9, "R": 0.9})
    """Chance of a full jar in the worlds of these types; other worlds stay as they are."""
    lr: float = 0.2
    """Step size of the values that heads are made of, in (0, 1]."""
    walk: tuple[float, float] = (0.015, 0.12)
    """The pull of D2 towards 1.2 per day, and its noise."""
    labelled: bool = True
    """Whether to store labels, 46 bytes a step; no model reads them."""
    tasks: Tasks | None = None
    """The worlds of the lifetimes; `prepare` fills them in."""

    def __post_init__(self):
        for name, allowed in (("types", TYPES), ("regimes", REGIMES), ("stock", TYPES)):
            shares = getattr(self, name)
            known = set(shares) <= set(allowed) and min(shares.values(), default=0) >= 0
            if not known or (name != "stock" and not sum(shares.values())):
                names = ", ".join(allowed)
                raise ValueError(f"`{name}` must give {names} shares of at least 0, got {shares}")

    def prepare(self, lifetimes: Lifetimes) -> tuple[Shards, Tasks]:
        """Return the agents, told their bodies (rho, psi) and layouts, and their worlds."""
        spec = lifetimes.env.spec
        if spec.name != "CookieWorld":
            raise cannot_learn("Shards", spec, "they live in CookieWorld only")
        tasks = self._worlds(lifetimes)
        return replace(self, tasks=tasks), tasks

    def _worlds(self, lifetimes: Lifetimes) -> Tasks:
        """Return the daily stock and, where a regime needs one, the script of each lifetime."""
        tasks, rng, episodes = lifetimes.tasks, lifetimes.rng, lifetimes.episodes
        traits = self.traits(tasks, rng)
        stock = tasks["stock"].astype(float)
        for name, chance in self.stock.items():
            stock[traits["type"] == TYPES.index(name)] = chance
        tasks = tasks.replace(stock=stock)
        yoked, recovering = traits["regime"] == YOKED, traits["regime"] == RECOVERY
        if not (yoked | recovering).any():
            return tasks
        script = np.tile(np.array([world.BY_CHANCE] * 2 + [0], np.int8), (len(tasks), episodes, 1))
        begin = (episodes * (0.3 + 0.3 * rng.at(BIRTH).uniform(7))).astype(int)[:, None]
        day = np.arange(episodes)
        abstinent = (begin <= day) & (day < begin + ABSTINENCE)
        script[..., 0][recovering[:, None] & abstinent] = 0
        if yoked.any():
            of = {"tasks": tasks[yoked], "rng": rng[yoked], "env_rng": lifetimes.env_rng[yoked]}
            script[yoked] = self._partners(replace(lifetimes, every=1, **of))
        return tasks.replace(script=script)

    def _partners(self, lifetimes: Lifetimes) -> np.ndarray:
        """Return scripts (n, episodes, 3) that feed yoked agents what their partners ate.

        A partner is the same agent in regime D1, at the same address. Each morning the jar holds
        as many cookies as the partner eats that day; the partner's gifts, and the cookies left
        from the day before, are given. So by every morning both have eaten the same number.
        """
        partner = replace(self, regimes={"D1": 1}, labelled=False, tasks=lifetimes.tasks)
        arrays = lifetimes.env.spec.empty(len(lifetimes.tasks), lifetimes.episodes)
        partner.simulate(lifetimes, arrays)
        eaten = ((arrays["reward"] > 0) & ~arrays["terminated"]).sum(2)
        script = eaten, arrays["obs"][:, :, 0, GIFT], np.ones_like(eaten)
        return np.stack(script, axis=-1).astype(np.int8)

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> ShardLearner:
        """Return agents before their first morning."""
        return ShardLearner(self, spec, rng)

    def simulate(self, lifetimes: Lifetimes, arrays: dict[str, np.ndarray]) -> bool:
        """Simulate agents and world together, compiled; not in subclasses of CookieWorld."""
        env, tasks, rng = lifetimes.env, lifetimes.tasks, lifetimes.rng
        if type(env) is not CookieWorld:
            return False
        learner = self.start(env.spec, rng, lifetimes.episodes)
        agents = learner.agents
        labels = arrays if self.labelled else env.spec.empty(0, 0, STATE_LABELS)
        chances = tasks["rho"].astype(float), tasks["stock"].astype(float)
        worlds = world.unborn(len(rng)), *chances, world.scripts(tasks), lifetimes.env_rng.keys
        stored = tuple(arrays[name] for name in STORED)
        record = stored, tuple(labels[name] for name in STATE_LABELS)
        how = env.tolerance_visible, lifetimes.episodes, lifetimes.every
        in_parallel(_simulate, len(rng), agents, learner.settings, worlds, how, record)
        if self.labelled:
            for name, values in _labels(agents, arrays["obs"][:, :, 0], arrays["obs"]).items():
                arrays[name][:] = values
        return True

    def labels(self, spec: EnvSpec) -> dict[str, tuple]:
        """Return the labels of a history, or none."""
        return STATE_LABELS | OBSERVED_LABELS | TRAIT_LABELS if self.labelled else {}

    def settings(self, spec: EnvSpec) -> Settings:
        """Return what all agents share, for compiled code."""
        size = round(spec.cardinality[POSITION] ** 0.5)
        return Settings(size, spec.horizon, self.lr, self.walk, self.labelled)

    def traits(self, tasks: Tasks, rng: Rng) -> np.ndarray:
        """Draw the traits (N,) of lifetimes, each from its own address; dtype `TRAITS`."""
        u = [rng.at(BIRTH).uniform(draw) for draw in range(7)]
        between = lambda u, least, most: least + (most - least) * u
        traits = np.zeros(len(rng), TRAITS)
        traits["type"] = _drawn(self.types, TYPES, u[0])
        traits["regime"] = _drawn(self.regimes, REGIMES, u[1])
        recovers = traits["regime"] == RECOVERY
        used = recovers | (traits["regime"] == USE)
        traits["eta"] = used * np.exp(between(u[2], *np.log(ETAS)))
        mu = np.where(recovers, between(u[3], *RECOVERY_MUS), between(u[3], *MUS))
        traits["mu"] = used * mu
        traits["w_first"] = between(u[4], *FIRST_STRENGTHS)
        traits["w_food"] = between(u[5], *APPETITES)
        traits["hide_rate"] = between(u[6], *HIDE_RATES)
        traits["rho"], traits["psi"] = tasks["rho"], tasks["psi"]
        return traits


class ShardLearner:
    """N shard agents in lock step."""

    def __init__(self, config: Shards, spec: EnvSpec, rng: Rng):
        if config.tasks is None:
            raise ValueError("Shards needs a task per lifetime; `collect` gives them")
        self.config, self.settings, self.t = config, config.settings(spec), 0
        n, size = len(rng), self.settings.size
        traits, state = config.traits(config.tasks, rng), np.zeros(n, STATE)
        state["w"] = traits["w_first"]
        q, visited = np.zeros((n, 2, size**2, 8), np.float32), np.zeros((n, size**2), np.bool_)
        places = CookieWorld(size).places(config.tasks)
        self.agents = Agents(traits, state, q, visited, places, rng.keys)
        self.morning = np.zeros((n, CLOSED + 1), spec.obs_dtype)  # the day's first obs

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Return actions (N,)."""
        self.obs, action = np.ascontiguousarray(obs), np.empty(len(obs), np.uint8)
        self.morning[first] = obs[first]
        _act_all(self.agents, self.settings, self.obs, first, np.uint64(self.t), action)
        return action

    def update(self, transition: Transition) -> None:
        """Learn from the last actions."""
        next_obs, over = map(np.ascontiguousarray, (transition.next_obs, transition.terminated))
        action = np.asarray(transition.action, np.int64)
        _learn_all(self.agents, self.settings.lr, self.obs, action, over, next_obs)
        self.t += 1

    def labels(self) -> dict[str, np.ndarray]:
        """Return the labels of the current step."""
        if not self.config.labelled:
            return {}
        state = {name: self.agents.state[name] for name in STATE_LABELS}
        return state | _labels(self.agents, self.morning, self.obs)


def _drawn(shares: Mapping[str, float], names: tuple[str, ...], u: np.ndarray) -> np.ndarray:
    """Return which of the names each u in [0, 1) selects."""
    weights = np.array([shares.get(name, 0.0) for name in names])
    return np.searchsorted(np.cumsum(weights / weights.sum())[:-1], u, side="right")


def _labels(agents: Agents, morning: np.ndarray, obs: np.ndarray) -> dict[str, np.ndarray]:
    """Return traits, and what the observations of the morning and of the step show."""
    return {name: agents.traits[name] for name in TRAIT_LABELS} | {
        "stock": morning[..., STOCK] == 2,
        "decoy": morning[..., DECOY] == 2,
        "gift": morning[..., GIFT],
        "hunger": obs[..., HUNGER],
        "closed": obs[..., CLOSED],
    }


# ---- compiled lifetimes ----


@njit(cache=True, nogil=True)
def _simulate(begin, end, agents, settings, worlds, how, record):
    size, horizon, lr = settings.size, settings.horizon, settings.lr
    (tolerance_visible, episodes, every), (stored, labels) = how, record
    bodies, rho, stock, script, env_keys = worlds
    all_obs, actions, rewards, terminates, truncates, final_obs = stored
    pi, w_cookie, gate_cookie, gate_food, gain, avoided = labels
    obs, next_obs = np.zeros(CLOSED + 1, all_obs.dtype), np.zeros(CLOSED + 1, all_obs.dtype)
    for n in range(begin, end):
        traits, state, q = agents.traits[n], agents.state[n], agents.q[n]
        visited, place, key = agents.visited[n], agents.places[n], agents.keys[n]
        body, env_key, t = bodies[n], env_keys[n], np.uint64(0)  # t: step of the lifetime
        for day in range(episodes):
            e = stored_at(day, every)
            world.wake(body, place[0], stock[n], script[n], env_key, t)
            world.observe(body, place, size, obs)
            for i in range(horizon):
                agent_state.act(traits, state, q, visited, place, settings, obs, i == 0, key, t)
                a = choose(state.pi, uniform(key, t, ACT))
                acted = size, tolerance_visible, a, env_key, t
                reward, over = world.advance(body, place, rho[n], *acted)
                world.observe(body, place, size, next_obs)
                agent_state.learn(traits, state, q, visited, lr, obs, a, over, next_obs)
                t += np.uint64(1)
                ends = over or i == horizon - 1
                if e >= 0:
                    actions[n, e, i], rewards[n, e, i] = a, reward
                    terminates[n, e, i], truncates[n, e, i] = over, ends and not over
                    all_obs[n, e, i] = obs
                    if len(pi):
                        pi[n, e, i] = state.pi
                        w_cookie[n, e, i] = state.w_cookie
                        gate_cookie[n, e, i] = state.gate_cookie
                        gate_food[n, e, i] = state.gate_food
                        gain[n, e], avoided[n, e] = state.gain, state.avoided
                    if ends:
                        final_obs[n, e] = next_obs
                if ends:
                    break
                obs, next_obs = next_obs, obs


@njit(cache=True)
def _act_all(agents, settings, obs, first, t, action):
    traits, state, q, visited, places, keys = agents
    for n in range(len(obs)):
        one = traits[n], state[n], q[n], visited[n], places[n]
        agent_state.act(*one, settings, obs[n], first[n], keys[n], t)
        action[n] = choose(state[n].pi, uniform(keys[n], t, ACT))


@njit(cache=True)
def _learn_all(agents, lr, obs, action, over, next_obs):
    for n in range(len(obs)):
        one = agents.traits[n], agents.state[n], agents.q[n], agents.visited[n]
        agent_state.learn(*one, lr, obs[n], action[n], over[n], next_obs[n])
