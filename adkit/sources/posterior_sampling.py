"""Posterior sampling (Thompson 1933; Strens 2000): act as if a sampled hypothesis were true until it is refuted.

It knows how every task of the family behaves, and not which one it lives in: an upper bound on what a source can be, not
a learner from scratch. With the most promising hypothesis in place of a sampled one it is a systematic explorer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec, Lifetimes, Tasks, Transition
from adkit.seeds import Rng, uniform
from adkit.tables import Tables, discounted_values, outcome, simulate, start_state, stored_at

NOISE, CHOOSE, SAMPLE, FORGET = (np.uint64(draw) for draw in range(4))  # draws of a step


@dataclass(frozen=True)
class PosteriorSampling:
    """Sample a task consistent with all that was seen, walk its optimal policy, sample again once it is refuted.

    Where a task comes in stages, first the key and then the door, each stage has a posterior of its own.
    """

    noise: float = 0.01
    """Probability of a random action at every step."""
    gamma: float = 0.9
    """Discount of the policy it walks for the sampled task, in (0, 1)."""
    greed: float = 0.0
    """Hypotheses are sampled in proportion to (what they promise from here) ** greed: 0 is the posterior itself, 10 prefers
    near goals (a goal d steps away promises gamma ** d), infinity takes the nearest."""
    forgetting: float = 0.0
    """Probability, at the start of each episode, of forgetting what was ruled out in a stage not solved yet: a slower source."""
    rest: bool = False
    """Take action 0 once there is nothing left to gain, instead of any. Easier to predict; but a model of it may rest too early,
    and go on resting there because it did before: in Key-to-Door at the key, in one task of twenty."""
    family: Tables | None = None
    """The hypotheses of each stage, (stages, M, ...), filled in by `prepare`."""

    def __post_init__(self):
        for name in ("noise", "forgetting"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"{name}={getattr(self, name)}; a probability lies in [0, 1]. Try {name}=0.02."
                )
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma={self.gamma}; the discount lies in (0, 1). Try gamma=0.9.")
        if not self.greed >= 0:
            raise ValueError(
                f"greed={self.greed}; give a number of at least 0, or infinity. Try greed=10."
            )

    def prepare(self, lifetimes: Lifetimes) -> tuple[PosteriorSampling, Tasks]:
        """Told the family of tasks (never which one): every task of `env` is a hypothesis.

        An environment whose tasks come in stages publishes `stages()`, the tables of each: a stage ends where they terminate.
        """
        env = lifetimes.env
        if not hasattr(env, "tables"):
            raise ValueError(
                f"{env.spec.name} publishes no tables, so there is no set of hypotheses to sample from; "
                "use a learner that needs none, such as QLearning()."
            )
        stages = env.stages() if hasattr(env, "stages") else (env.tables(env.tasks()),)
        family = Tables(*(np.stack(arrays) for arrays in zip(*stages, strict=True)))
        if env.spec.n_observations == 1 and family.cumulative.shape[-1] > 1:
            raise ValueError(
                f"no single reward refutes a hypothesis about {env.spec.name}; ThompsonSampling() is made for it."
            )
        return replace(self, family=family), lifetimes.tasks

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> PosteriorSampler:
        return PosteriorSampler(self, spec, rng)

    def simulate(self, lifetimes: Lifetimes, arrays: dict[str, np.ndarray]) -> bool:
        """Simulate whole lifetimes over tables."""
        values = self.values(lifetimes.env.spec)
        return simulate(_lifetimes, lifetimes, arrays, self.family, values, self.how)

    def values(self, spec: EnvSpec) -> np.ndarray:
        """(stages, M, S, A) discounted action values under each hypothesis."""
        if self.family is None:
            raise ValueError(
                "PosteriorSampling needs the family of tasks; collect fills it in by agent.prepare"
            )
        sweeps = min(4 * spec.horizon, 400)
        stages = range(len(self.family.seen))
        return np.stack(
            [
                discounted_values(Tables(*(a[k] for a in self.family)), self.gamma, sweeps)
                for k in stages
            ]
        )

    @property
    def how(self) -> tuple[float | bool, ...]:
        """The settings as compiled code takes them."""
        return self.noise, self.gamma, float(self.greed), self.forgetting, self.rest


def SystematicExplorer() -> PosteriorSampling:
    """The reference explorer: always to the nearest place the goal may still be; no noise, no sampling."""
    return PosteriorSampling(noise=0.0, greed=np.inf)


class PosteriorSampler:
    """N posterior samplers in lock step. `belief` (N, stages, M) is the state under each hypothesis, -1 where refuted."""

    def __init__(self, config: PosteriorSampling, spec: EnvSpec, rng: Rng):
        self.config, self.spec, self.rng, self.t = config, spec, rng, 0
        self.q = config.values(spec)
        self.belief = np.zeros((len(rng), *self.q.shape[:2]), np.int32)
        self.stage, self.chosen, self.left = (
            np.zeros(len(rng), np.int64),
            np.full(len(rng), -1),
            np.zeros(len(rng), np.int64),
        )

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        self.left = np.where(first, self.spec.horizon, self.left - 1)
        return _act_all(
            self.config.family, self.q, self.belief, self.stage, self.chosen, self.left, self.spec.index(obs), first,
            self.config.how, self.rng.keys, self.t,
        )  # fmt: skip

    def update(self, transition: Transition) -> None:
        seen = self.spec.index(transition.next_obs)
        _learn_all(
            self.config.family,
            self.belief,
            self.stage,
            self.chosen,
            transition.action,
            transition.reward,
            seen,
        )
        self.t += 1


@njit(cache=True)
def _begin(start, seen, belief, o):
    """A new episode or stage: under every living hypothesis, the first possible state that looks like o."""
    for h in range(len(belief)):
        if belief[h] >= 0:
            belief[h] = -1
            for s in range(seen.shape[1]):
                p = start[h, s] - (start[h, s - 1] if s else 0.0)
                if p > 0 and seen[h, s] == o:
                    belief[h] = s
                    break


@njit(cache=True)
def _forget(belief):
    """Every hypothesis of the first stage not solved yet lives again; a solved stage has one left."""
    for stage in range(len(belief)):
        if (belief[stage] >= 0).sum() != 1:
            belief[stage] = 0
            break


@njit(cache=True)
def _learn(next_state, reward, terminated, seen, belief, a, r, o):
    """Follow every living hypothesis; those that cannot explain (r, o) are refuted. Whether the stage has ended."""
    ended = False
    for h in range(len(belief)):
        s = belief[h]
        if s >= 0:
            belief[h] = -1
            for k in range(next_state.shape[3]):
                if reward[h, s, a, k] == r and seen[h, next_state[h, s, a, k]] == o:
                    belief[h] = next_state[h, s, a, k]
                    ended |= terminated[h, s, a, k]
                    break
    return ended


@njit(cache=True)
def _choose(belief, q, left, gamma, greed, key, t):
    """A living hypothesis that can still pay in the steps left, sampled by what it promises. -1 if all are refuted."""
    promise = np.empty(len(belief))
    best, chosen = -np.inf, -1
    for h in range(len(belief)):
        promise[h] = q[h, belief[h]].max() if belief[h] >= 0 else -1.0
        if promise[h] > best and belief[h] >= 0:
            best, chosen = promise[h], h
    if greed == np.inf or chosen < 0 or (greed > 0 and best <= 0):
        return chosen
    least = gamma ** (left - 1) * (
        1 - 1e-6
    )  # what a goal pays that is reached in the very last step
    least = least if best >= least else 0.0
    total = 0.0
    for h in range(len(belief)):
        promise[h] = (
            0.0 if promise[h] < least else 1.0 if greed == 0 else (promise[h] / best) ** greed
        )
        total += promise[h]
    target = uniform(key, t, SAMPLE) * total
    for h in range(len(belief)):
        target -= promise[h]
        if promise[h] > 0:
            chosen = h
            if target < 0:
                break
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
def _lifetimes(begin, end, tables, task, keys, env_keys, horizon, family, q, how, trace):
    next_state, reward, terminated, cumulative, start, _, seen = tables
    h_next_state, h_reward, h_terminated, _, h_start, _, h_seen = family
    states, actions, outcomes, every, episodes = trace
    noise, gamma, greed, forgetting, rest = how
    for n in range(begin, end):
        row, key, env_key = task[n], keys[n], env_keys[n]
        belief = np.zeros(q.shape[:2], np.int32)
        t = np.uint64(0)  # steps lived
        for episode in range(episodes):
            e = stored_at(episode, every)
            s = start_state(start, row, env_key, t)
            stage, chosen = 0, -1
            if forgetting > 0 and uniform(key, t, FORGET) < forgetting:
                _forget(belief)
            _begin(h_start[0], h_seen[0], belief[0], seen[row, s])
            for i in range(horizon):
                if stage == len(q):  # nothing left to gain
                    a = 0 if rest else int(uniform(key, t, CHOOSE) * q.shape[3])
                else:
                    if chosen < 0 or belief[stage, chosen] < 0:
                        chosen = _choose(belief[stage], q[stage], horizon - i, gamma, greed, key, t)
                    a = _act(q[stage], belief[stage], chosen, noise, key, t)
                k = outcome(cumulative, row, s, a, env_key, t)
                s_next = next_state[row, s, a, k]
                if stage < len(q):
                    ended = _learn(
                        h_next_state[stage], h_reward[stage], h_terminated[stage], h_seen[stage], belief[stage],
                        a, reward[row, s, a, k], seen[row, s_next],
                    )  # fmt: skip
                    if ended:
                        stage, chosen = stage + 1, -1
                        if stage < len(q):
                            _begin(h_start[stage], h_seen[stage], belief[stage], seen[row, s_next])
                if e >= 0:
                    states[n, e, i], actions[n, e, i], outcomes[n, e, i] = s, a, k
                    states[n, e, i + 1] = s_next
                t += np.uint64(1)
                if terminated[row, s, a, k]:
                    break
                s = s_next


@njit(cache=True)
def _act_all(family, q, belief, stage, chosen, left, o, first, how, keys, t):
    noise, gamma, greed, forgetting, rest = how
    action = np.zeros(len(o), np.uint8)
    for n in range(len(o)):
        if first[n]:
            stage[n], chosen[n] = 0, -1
            if forgetting > 0 and uniform(keys[n], np.uint64(t), FORGET) < forgetting:
                _forget(belief[n])
            _begin(family.start[0], family.seen[0], belief[n, 0], o[n])
        k = stage[n]
        if k == len(q):
            action[n] = 0 if rest else int(uniform(keys[n], np.uint64(t), CHOOSE) * q.shape[3])
        else:
            if chosen[n] < 0 or belief[n, k, chosen[n]] < 0:
                chosen[n] = _choose(
                    belief[n, k], q[k], left[n], gamma, greed, keys[n], np.uint64(t)
                )
            action[n] = _act(q[k], belief[n, k], chosen[n], noise, keys[n], np.uint64(t))
    return action


@njit(cache=True)
def _learn_all(family, belief, stage, chosen, action, reward, o):
    next_state, rewards, terminated, _, start, _, seen = family
    for n in range(len(o)):
        k = stage[n]
        if k == len(seen):
            continue
        if _learn(
            next_state[k],
            rewards[k],
            terminated[k],
            seen[k],
            belief[n, k],
            action[n],
            reward[n],
            o[n],
        ):
            stage[n], chosen[n] = k + 1, -1
            if k + 1 < len(seen):
                _begin(start[k + 1], seen[k + 1], belief[n, k + 1], o[n])
