"""Posterior sampling (Thompson 1933; Strens 2000): act as if a sampled hypothesis were true.

The agent knows how every task of the family behaves, but not which one it is on: an upper bound on
what a source can be, not a learner from scratch. With the nearest goal in place of a sampled one it
is a systematic explorer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec, Lifetimes, Tasks, Transition
from adkit.seeds import Rng, uniform
from adkit.sources.bandits import best_of
from adkit.sources.settings import cannot_learn, check_shares
from adkit.tables import Tables, discounted_values

NOISE, CHOOSE, SAMPLE, FORGET = (np.uint64(draw) for draw in range(4))  # draws of a step


@dataclass(frozen=True)
class PosteriorSampling:
    """Sample a task consistent with the lifetime so far; follow its optimal policy until refuted.

    Where a task comes in stages, first the key and then the door, each stage has its own posterior.
    """

    noise: float = 0.01
    """Probability of a random action at every step."""
    gamma: float = 0.9
    """Discount of the policy for the sampled task, in [0, 1)."""
    greed: float = 0.0
    """Hypotheses are sampled in proportion to (their value from here) ** greed.

    0 is the posterior itself; 10 prefers near goals, as a goal d steps away has value gamma ** d;
    infinity takes the nearest.
    """
    forgetting: float = 0.0
    """Probability, at the start of each episode, of forgetting what was ruled out in the first
    unsolved stage: a slower source."""
    rest: bool = False
    """Take action 0 once there is nothing left to gain, instead of a random action.

    This is easier to predict. But a model of it may rest too early, and go on resting there because
    it did before: in Key-to-Door at the key, on one task of twenty.
    """
    family: Tables | None = None
    """The hypotheses of each stage, (stages, M, ...), filled in by `prepare`."""

    def __post_init__(self):
        check_shares(self, "noise", "forgetting")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"`gamma`, the discount, must be in [0, 1), got {self.gamma}")

    def prepare(self, lifetimes: Lifetimes) -> tuple[PosteriorSampling, Tasks]:
        """Return the agent that knows the family of tasks: every task of the environment.

        An environment whose tasks come in stages has `stages()`, the tables of each; a stage ends
        where its tables terminate.
        """
        env = lifetimes.env
        if not hasattr(env, "tables"):
            raise cannot_learn("PosteriorSampling", env.spec, "it needs the world's tables")
        stages = env.stages() if hasattr(env, "stages") else (env.tables(Tasks.of(env.tasks())),)
        family = Tables(*(np.stack(arrays) for arrays in zip(*stages, strict=True)))
        if env.spec.n_observations == 1 and family.cumulative.shape[-1] > 1:
            why = "a task is ruled out by one reward, and none of its rewards does that"
            raise cannot_learn("PosteriorSampling", env.spec, why)
        return replace(self, family=family), lifetimes.tasks

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> PosteriorSampler:
        return PosteriorSampler(self, spec, rng)


def SystematicExplorer() -> PosteriorSampling:
    """Return the reference explorer: always to the nearest possible goal, without noise."""
    return PosteriorSampling(noise=0.0, greed=np.inf)


class PosteriorSampler:
    """N posterior samplers in lock step.

    `state` (N, stages, M) is the state under each hypothesis, -1 where the hypothesis is refuted;
    `q` (stages, M, S, A) are discounted action values under each.
    """

    def __init__(self, config: PosteriorSampling, spec: EnvSpec, rng: Rng):
        n = len(rng)
        self.config, self.spec, self.rng, self.t = config, spec, rng, 0
        stages = (Tables(*arrays) for arrays in zip(*config.family, strict=True))
        sweeps = min(4 * spec.horizon, 400)
        self.q = np.stack([discounted_values(stage, config.gamma, sweeps) for stage in stages])
        self.state = np.zeros((n, *self.q.shape[:2]), np.int32)
        self.stage, self.chosen = np.zeros(n, np.int64), np.full(n, -1)
        self.left = np.zeros(n, np.int64)

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        self.left = np.where(first, self.spec.horizon, self.left - 1)
        c, seen, draws = self.config, self.spec.index(obs), (self.rng.keys, np.uint64(self.t))
        settings = c.noise, c.gamma, float(c.greed), c.forgetting, c.rest
        progress = self.state, self.stage, self.chosen, self.left
        return _act_all(c.family, self.q, settings, progress, seen, first, *draws)

    def update(self, transition: Transition) -> None:
        progress = self.state, self.stage, self.chosen
        seen = self.spec.index(transition.next_obs)
        _learn_all(self.config.family, progress, transition.action, transition.reward, seen)
        self.t += 1


@njit(cache=True)
def _begin(family, state, stage, o):
    """Begin a stage: under every hypothesis left, the first possible state that looks like o."""
    start, seen, state = family.start[stage], family.seen[stage], state[stage]
    for h in range(len(state)):
        if state[h] >= 0:
            state[h] = -1
            for s in range(seen.shape[1]):
                p = start[h, s] - (start[h, s - 1] if s else 0.0)
                if p > 0 and seen[h, s] == o:
                    state[h] = s
                    break


@njit(cache=True)
def _begin_episode(family, state, forgetting, o, key, t):
    """Begin an episode; perhaps forget what was ruled out in the first unsolved stage."""
    if forgetting > 0 and uniform(key, t, FORGET) < forgetting:
        for stage in range(len(state)):
            if (state[stage] >= 0).sum() != 1:  # a solved stage has one hypothesis left
                state[stage] = 0
                break
    _begin(family, state, 0, o)


@njit(cache=True)
def _refute(family, state, stage, a, r, o):
    """Follow every hypothesis left, and refute those that cannot explain (r, o).

    Return whether the stage has ended.
    """
    next_state, reward = family.next_state[stage], family.reward[stage]
    terminated, seen, state = family.terminated[stage], family.seen[stage], state[stage]
    ended = False
    for h in range(len(state)):
        s = state[h]
        if s >= 0:
            state[h] = -1
            for k in range(next_state.shape[3]):
                if reward[h, s, a, k] == r and seen[h, next_state[h, s, a, k]] == o:
                    state[h] = next_state[h, s, a, k]
                    ended |= terminated[h, s, a, k]
                    break
    return ended


@njit(cache=True)
def _choose(state, q, left, gamma, greed, key, t):
    """Sample a hypothesis that can still be rewarded in the steps left; -1 if all are refuted."""
    value = np.empty(len(state))
    best, chosen = -np.inf, -1
    for h in range(len(state)):
        value[h] = q[h, state[h]].max() if state[h] >= 0 else -1.0
        if value[h] > best and state[h] >= 0:
            best, chosen = value[h], h
    if greed == np.inf or chosen < 0 or (greed > 0 and best <= 0):
        return chosen
    least = gamma ** (left - 1) * (1 - 1e-6)  # value of a goal reached in the very last step
    least = least if best >= least else 0.0
    total = 0.0
    for h in range(len(state)):
        value[h] = 0.0 if value[h] < least else 1.0 if greed == 0 else (value[h] / best) ** greed
        total += value[h]
    target = uniform(key, t, SAMPLE) * total
    for h in range(len(state)):
        target -= value[h]
        if value[h] > 0:
            chosen = h
            if target < 0:
                break
    return chosen


@njit(cache=True)
def _act(state, q, settings, stage, chosen, left, key, t):
    """Return the action and the hypothesis it follows."""
    noise, gamma, greed, _, rest = settings
    u = uniform(key, t, CHOOSE)
    if stage == len(q):  # nothing left to gain
        return 0 if rest else int(u * q.shape[3]), chosen
    if chosen < 0 or state[stage, chosen] < 0:
        chosen = _choose(state[stage], q[stage], left, gamma, greed, key, t)
    if chosen < 0 or (noise > 0 and uniform(key, t, NOISE) < noise):
        return int(u * q.shape[3]), chosen
    values = q[stage, chosen, state[stage, chosen]]
    near_best = values >= values.max() * (1 - 1e-6)
    return int(best_of(near_best * 1.0, u)), chosen


@njit(cache=True)
def _act_all(family, q, settings, progress, o, first, keys, t):
    state, stage, chosen, left = progress
    action = np.zeros(len(o), np.uint8)
    for n in range(len(o)):
        if first[n]:
            stage[n], chosen[n] = 0, -1
            _begin_episode(family, state[n], settings[3], o[n], keys[n], t)
        action[n], chosen[n] = _act(state[n], q, settings, stage[n], chosen[n], left[n], keys[n], t)
    return action


@njit(cache=True)
def _learn_all(family, progress, action, reward, o):
    """Follow the hypotheses through a step, and begin the next stage where one has ended."""
    (state, stage, chosen), stages = progress, len(family.seen)
    for n in range(len(o)):
        now, step = stage[n], (action[n], reward[n], o[n])
        if now < stages and _refute(family, state[n], now, *step):
            stage[n], chosen[n] = now + 1, -1
            if now + 1 < stages:
                _begin(family, state[n], now + 1, o[n])
