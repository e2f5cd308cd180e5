"""Posterior sampling (Thompson 1933; Strens 2000): act as if a sampled hypothesis were true until it is refuted.

It knows how every task of the family behaves, and not which one it lives in: an upper bound on what a source can be, not
a learner from scratch. With the most optimistic hypothesis in place of a sampled one it is a systematic explorer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from adkit.protocols import Env, EnvSpec, Tasks, Transition
from adkit.seeds import Rng, uniform
from adkit.tables import Tables, Trace, discounted_values, in_parallel, outcome, start_state

NOISE, CHOOSE, SAMPLE = np.uint64(0), np.uint64(1), np.uint64(2)  # draws of a step


@dataclass(frozen=True)
class PosteriorSampling:
    """Sample a task consistent with all that was seen, walk its optimal policy, sample again once it is refuted."""

    noise: float = 0.01
    """Probability of a random action at every step."""
    gamma: float = 0.9
    """Discount of the policy it walks for the sampled task, in (0, 1)."""
    optimism: bool = False
    """Take the hypothesis that promises most from here (nearest unvisited goal) instead of a sampled one."""
    family: Tables | None = None
    """The M hypotheses, filled in by `informed`."""

    def __post_init__(self):
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise={self.noise}; a probability lies in [0, 1]. Try noise=0.02.")
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma={self.gamma}; the discount lies in (0, 1). Try gamma=0.9.")

    def informed(self, env: Env, tasks: Tasks) -> PosteriorSampling:
        """Told the family of tasks (never which one): every task of `env` is a hypothesis."""
        if not hasattr(env, "tables"):
            raise ValueError(
                f"{env.spec.name} publishes no tables, so there is no set of hypotheses to sample from; "
                "use a learner that needs none, such as QLearning()."
            )
        return replace(self, family=env.tables(env.tasks()))

    def start(self, spec: EnvSpec, rng: Rng) -> PosteriorSampler:
        return PosteriorSampler(self, spec, rng)

    def live(self, spec: EnvSpec, tables: Tables, task: np.ndarray, rng: Rng, env_rng: Rng, trace: Trace) -> None:
        """Whole lifetimes over tables."""
        q = self.values(spec)
        in_parallel(
            _live, len(task), tables, task, rng.keys, env_rng.keys, spec.horizon, self.family, q, self.noise, self.optimism, trace
        )

    def values(self, spec: EnvSpec) -> np.ndarray:
        """(M, S, A) discounted action values under each hypothesis."""
        if self.family is None:
            raise ValueError("this agent must be told its family of tasks first: agent.informed(env, tasks).")
        return discounted_values(self.family, self.gamma, min(4 * spec.horizon, 400))


def SystematicExplorer() -> PosteriorSampling:
    """The reference explorer: always to the nearest place the goal may still be; no noise, no sampling."""
    return PosteriorSampling(noise=0.0, optimism=True)


class PosteriorSampler:
    """N posterior samplers in lock step. `belief` (N, M) is the state under each hypothesis, -1 where refuted."""

    def __init__(self, config: PosteriorSampling, spec: EnvSpec, rng: Rng):
        self.config, self.spec, self.rng, self.t = config, spec, rng, 0
        self.q = config.values(spec)
        self.belief = np.zeros((len(rng), len(self.q)), np.int32)
        self.chosen = np.full(len(rng), -1)

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        config = self.config
        return _act_all(
            config.family, self.q, self.belief, self.chosen, self.spec.index(obs), first,
            config.noise, config.optimism, self.rng.keys, self.t,
        )  # fmt: skip

    def update(self, transition: Transition) -> None:
        seen = self.spec.index(transition.next_obs)
        _learn_all(self.config.family, self.belief, transition.action, transition.reward, seen)
        self.t += 1


@njit(cache=True)
def _begin(start, seen, belief, o):
    """A new episode: under every living hypothesis, the first possible state that looks like o."""
    for h in range(len(belief)):
        if belief[h] >= 0:
            belief[h] = -1
            for s in range(seen.shape[1]):
                p = start[h, s] - (start[h, s - 1] if s else 0.0)
                if p > 0 and seen[h, s] == o:
                    belief[h] = s
                    break


@njit(cache=True)
def _learn(next_state, reward, seen, belief, a, r, o):
    """Follow every living hypothesis; those that cannot explain (r, o) are refuted."""
    for h in range(len(belief)):
        s = belief[h]
        if s >= 0:
            belief[h] = -1
            for k in range(next_state.shape[3]):
                if reward[h, s, a, k] == r and seen[h, next_state[h, s, a, k]] == o:
                    belief[h] = next_state[h, s, a, k]
                    break


@njit(cache=True)
def _choose(belief, q, optimism, key, t):
    """A living hypothesis: a uniform sample, or the one that promises most. -1 if all are refuted."""
    living = 0
    for h in range(len(belief)):
        living += belief[h] >= 0
    target = int(uniform(key, t, SAMPLE) * living)
    best, chosen = -np.inf, -1
    for h in range(len(belief)):
        if belief[h] >= 0:
            if optimism:
                promise = q[h, belief[h]].max()
                if promise > best:
                    best, chosen = promise, h
            elif target == 0:
                return h
            target -= 1
    return chosen


@njit(cache=True)
def _act(q, belief, chosen, noise, key, t):
    n_actions = q.shape[2]
    if chosen < 0 or (noise > 0 and uniform(key, t, NOISE) < noise):
        return int(uniform(key, t, CHOOSE) * n_actions)
    values = q[chosen, belief[chosen]]
    best = values.max() * (1 - 1e-6)
    ties = 0
    for a in range(n_actions):
        ties += values[a] >= best
    target = int(uniform(key, t, CHOOSE) * ties)
    for a in range(n_actions):
        if values[a] >= best:
            if target == 0:
                return a
            target -= 1
    return 0


@njit(cache=True, nogil=True)
def _live(begin, end, tables, task, keys, env_keys, horizon, family, q, noise, optimism, trace):
    next_state, reward, terminated, cumulative, start, _, seen = tables
    h_next_state, h_reward, _, _, h_start, _, h_seen = family
    states, actions, outcomes, every, episodes = trace
    for n in range(begin, end):
        row, key, env_key = task[n], keys[n], env_keys[n]
        belief = np.zeros(len(q), np.int32)
        t = np.uint64(0)  # steps lived
        for episode in range(episodes):
            e = episode // every if episode % every == 0 else -1
            s = start_state(start, row, env_key, t)
            _begin(h_start, h_seen, belief, seen[row, s])
            chosen = -1
            for i in range(horizon):
                if chosen < 0 or belief[chosen] < 0:
                    chosen = _choose(belief, q, optimism, key, t)
                a = _act(q, belief, chosen, noise, key, t)
                k = outcome(cumulative, row, s, a, env_key, t)
                s_next = next_state[row, s, a, k]
                _learn(h_next_state, h_reward, h_seen, belief, a, reward[row, s, a, k], seen[row, s_next])
                if e >= 0:
                    states[n, e, i], actions[n, e, i], outcomes[n, e, i] = s, a, k
                    states[n, e, i + 1] = s_next
                t += np.uint64(1)
                if terminated[row, s, a, k]:
                    break
                s = s_next


@njit(cache=True)
def _act_all(family, q, belief, chosen, o, first, noise, optimism, keys, t):
    action = np.empty(len(o), np.uint8)
    for n in range(len(o)):
        if first[n]:
            _begin(family.start, family.seen, belief[n], o[n])
            chosen[n] = -1
        if chosen[n] < 0 or belief[n, chosen[n]] < 0:
            chosen[n] = _choose(belief[n], q, optimism, keys[n], np.uint64(t))
        action[n] = _act(q, belief[n], chosen[n], noise, keys[n], np.uint64(t))
    return action


@njit(cache=True)
def _learn_all(family, belief, action, reward, o):
    for n in range(len(o)):
        _learn(family.next_state, family.reward, family.seen, belief[n], action[n], reward[n], o[n])
