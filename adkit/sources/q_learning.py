"""Tabular Q-learning (Watkins 1989): one table per lifetime, learned from scratch on every task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from adkit.histories import WITHOUT_LABELS
from adkit.protocols import EnvSpec, Lifetimes, Transition
from adkit.seeds import Rng, uniform
from adkit.sources.settings import (
    MOST_ROWS,
    cannot_learn,
    check_counts,
    check_learning,
    check_shares,
    falling,
    has_small_table,
)
from adkit.tables import OUTCOME, START, in_parallel, of_rows, stored_at

EXPLORE, CHOOSE = np.uint64(0), np.uint64(1)  # draws of a step: whether to explore; which action
AGAIN = 2  # which action, where the one drawn is not allowed


@dataclass(frozen=True)
class QLearning:
    """Epsilon-greedy Q-learning with optimistic initial values.

    Optimism makes it explore even when it acts greedily: untried actions look good.
    """

    lr: float = 0.5
    """Step size of each update, in [0, 1]."""
    gamma: float = 0.9
    """Discount, in [0, 1)."""
    initial_q: float = 1.0
    """Value of every action before it is tried; more than the true value means optimism."""
    epsilon: float = 0.3
    """Probability of a random action in the first episode."""
    exploration: float = 0.5
    """Share of the lifetime's episodes over which epsilon falls linearly to 0."""
    phases: int = 1
    """Tables of values, one for each number of rewards so far in the episode.

    3 where a key opens a door (none, key, both), 2 where a goal is rewarded once. With 1 the
    learner expects to be rewarded again.
    """

    def __post_init__(self):
        check_learning(self)
        check_shares(self, "epsilon", "exploration")
        check_counts(self, "phases")

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> QLearner:
        return QLearner(self, spec, rng, episodes)

    def simulate(self, lifetimes: Lifetimes, arrays: dict[str, np.ndarray]) -> bool:
        """Simulate whole lifetimes over tables: about 50 M steps/s per core."""
        env, n = lifetimes.env, len(lifetimes.tasks)
        if not hasattr(env, "tables"):
            return False
        new = self.start(env.spec, lifetimes.rng, lifetimes.episodes)
        rates = np.float32(self.lr), np.float32(self.gamma)
        keys = lifetimes.rng.keys, lifetimes.env_rng.keys
        histories = tuple(arrays[name] for name in WITHOUT_LABELS)
        world = of_rows(env, lifetimes.tasks)
        learned = new.q, *rates, new.epsilon, lifetimes.every
        in_parallel(_lifetimes, n, *world, *keys, *learned, histories)
        return True


class QLearner:
    """N Q-learners in lock step: `q` is (N, phases, observations, actions) float32."""

    def __init__(self, config: QLearning, spec: EnvSpec, rng: Rng, episodes: int):
        if not has_small_table(spec):
            what = "and they are real numbers" if spec.cardinality is None else f"of {MOST_ROWS:,}"
            why = f"it keeps a value for each observation, {what}"
            raise cannot_learn("QLearning", spec, why)
        self.config, self.spec, self.rng = config, spec, rng
        shape = len(rng), config.phases, spec.n_observations, spec.n_actions
        self.q = np.full(shape, config.initial_q, np.float32)
        self.epsilon = falling(config.epsilon, 0.0, config.exploration, episodes)
        self.t, self.episode, self.phase = 0, np.full(len(rng), -1), np.zeros(len(rng), np.int64)

    def act(self, obs: np.ndarray, first: np.ndarray, allowed=None) -> np.ndarray:
        self.episode += first
        self.phase[first] = 0
        epsilon = self.epsilon[np.minimum(self.episode, len(self.epsilon) - 1)]
        q, s = self._rows(obs)
        if allowed is None:
            return _act_all(q, s, epsilon, self.rng.keys, self.t)
        values = _masked(q, s, allowed)
        action = _act_all(values[:, None], 0 * s, epsilon, self.rng.keys, self.t)
        return self.rng.at(self.t).kept(action, allowed, AGAIN)  # it may have explored

    def update(self, transition: Transition) -> None:
        q, s = self._rows(transition.obs)
        self.phase = np.minimum(self.phase + (transition.reward > 0), self.config.phases - 1)
        _, s_next = self._rows(transition.next_obs)
        lr, gamma = np.float32(self.config.lr), np.float32(self.config.gamma)
        self.t += 1
        if transition.next_allowed is None:
            step = transition.action, transition.reward, transition.terminated, s_next
            _learn_all(q, s, *step, lr, gamma)
            return
        best = _masked(q, s_next, transition.next_allowed).max(1)
        target = transition.reward + gamma * np.where(transition.terminated, 0, best)
        at = np.arange(len(s)), s, transition.action
        q[at] += lr * (target - q[at])

    def _rows(self, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return q with all phases' tables below each other, and each learner's row (N,) in it."""
        n, _, n_observations, n_actions = self.q.shape
        return self.q.reshape(n, -1, n_actions), self.phase * n_observations + self.spec.index(obs)


@dataclass(frozen=True)
class PoseQLearning:
    """Epsilon-greedy Q-learning over bins of poses (x, y, heading), in episodes rewarded once.

    Each episode is learned from its last step to its first, so that a reward reaches every step
    that led to it in one sweep (Lin 1992). In a table this large, forward learning would take far
    longer. Steps after an episode's first reward are not learned from.
    """

    bins: tuple[int, int, int] = (10, 10, 8)
    """Bins of x and y over [-1, 1], and of the heading around the circle."""
    lr: float = 0.5
    """Step size of each update, in [0, 1]."""
    gamma: float = 0.9
    """Discount, in [0, 1)."""
    epsilon: float = 0.5
    """Probability of a random action in the first episode."""
    final_epsilon: float = 0.02
    """The same in the end: with poses in bins, a greedy walk can go round in circles for ever."""
    exploration: float = 0.5
    """Share of the lifetime's episodes over which epsilon falls linearly from one to the other."""

    def __post_init__(self):
        object.__setattr__(self, "bins", tuple(int(n) for n in self.bins))
        check_learning(self)
        check_shares(self, "epsilon", "final_epsilon", "exploration")

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> PoseQLearner:
        if spec.view is None:
            raise cannot_learn("PoseQLearning", spec, "it needs poses (x, y, heading)")
        return PoseQLearner(self, spec, rng, episodes)


class PoseQLearner:
    """N learners in lock step: `q` is (N, bins, A); `steps` (N, H, 2) holds the episode so far."""

    def __init__(self, config: PoseQLearning, spec: EnvSpec, rng: Rng, episodes: int):
        n = len(rng)
        self.config, self.rng, self.t = config, rng, 0
        self.epsilon = falling(config.epsilon, config.final_epsilon, config.exploration, episodes)
        self.q = np.zeros((n, int(np.prod(config.bins)), spec.n_actions), np.float32)
        self.steps = np.zeros((n, spec.horizon, 2), np.int32)  # bin and action of each step
        self.time, self.rewarded = np.zeros(n, np.int64), np.zeros(n, bool)
        self.episode = np.full(n, -1)

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        self.episode += first
        self.time[first], self.rewarded[first] = 0, False
        epsilon = self.epsilon[np.minimum(self.episode, len(self.epsilon) - 1)]
        s = _bin(obs, self.config.bins)
        return _act_all(self.q, s, epsilon, self.rng.keys, np.uint64(self.t))

    def update(self, transition: Transition) -> None:
        config, rows, reward = self.config, np.arange(len(self.time)), transition.reward
        s_tm1, s_t = _bin(transition.obs, config.bins), _bin(transition.next_obs, config.bins)
        self.steps[rows, self.time, 0], self.steps[rows, self.time, 1] = s_tm1, transition.action
        self.time += 1
        now = reward != 0
        due = ~self.rewarded & (now | transition.terminated | transition.truncated)
        final = now | transition.terminated  # truncated still bootstraps
        rates = np.float32(config.lr), np.float32(config.gamma)
        _sweep_all(self.q, self.steps, self.time, due, reward, final, s_t, *rates)
        self.rewarded |= now
        self.t += 1


@njit(cache=True)
def _act(q, s, epsilon, key, t):
    n_actions = q.shape[1]
    if epsilon > 0 and uniform(key, t, EXPLORE) < epsilon:
        return np.uint64(uniform(key, t, CHOOSE) * n_actions)
    best, best_a, ties = q[s, 0], 0, 1
    for a in range(1, n_actions):
        if q[s, a] > best:
            best, best_a, ties = q[s, a], a, 1
        elif q[s, a] == best:
            ties += 1
    if ties > 1:  # broken at random: otherwise every untrained agent walks the same way
        chosen = int(uniform(key, t, CHOOSE) * ties)
        while chosen > 0:
            best_a += 1
            chosen -= q[s, best_a] == best
    return np.uint64(best_a)


@njit(cache=True)
def _learn(q, s_tm1, a_tm1, r_t, terminated_t, s_t, lr, gamma):
    target = r_t
    if not terminated_t:  # truncated still bootstraps
        best = q[s_t, 0]
        for a in range(1, q.shape[1]):
            best = max(best, q[s_t, a])
        target += gamma * best
    q[s_tm1, a_tm1] += lr * (target - q[s_tm1, a_tm1])


@njit(cache=True, nogil=True)
def _lifetimes(begin, end, tables, task, keys, env_keys, q, lr, gamma, epsilon, every, histories):
    # arrays, not `tables`: in a hot loop a tuple of arrays costs five times the step
    next_state, reward, terminated, cumulative, start, observation, seen = tables
    obs, actions, rewards, ends, cuts, final_obs = histories
    horizon, n_observations = actions.shape[2], np.uint64(q.shape[2])
    last = np.uint64(q.shape[1] - 1) * n_observations  # where the rows of the last phase begin
    for n in range(begin, end):
        row, key, env_key = np.uint64(task[n]), keys[n], env_keys[n]
        q_n = q[n].reshape(-1, q.shape[3])
        t = np.uint64(0)  # steps of the lifetime
        for episode in range(len(epsilon)):
            e = stored_at(episode, every)
            s = _first_at(start[row], uniform(env_key, t, START))
            phase = np.uint64(0)  # its first row: a view per phase would cost as much as a step
            o = seen[row, s]
            for i in range(horizon):
                a = _act(q_n, o, epsilon[episode], key, t)
                k = np.uint64(0)
                if cumulative.shape[3] > 1:
                    k = _first_at(cumulative[row, s, a], uniform(env_key, t, OUTCOME))
                s_next, done = next_state[row, s, a, k], terminated[row, s, a, k]
                r, cut = reward[row, s, a, k], not done and i == horizon - 1
                if r > 0 and phase < last:
                    phase += n_observations
                o_next = phase + seen[row, s_next]
                _learn(q_n, o, a, r, done, o_next, lr, gamma)
                if e >= 0:
                    actions[n, e, i], rewards[n, e, i], ends[n, e, i] = a, r, done
                    cuts[n, e, i] = cut
                    for c in range(obs.shape[3]):
                        obs[n, e, i, c] = observation[row, s, c]
                        if done or cut:
                            final_obs[n, e, c] = observation[row, s_next, c]
                t += np.uint64(1)
                if done:
                    break
                s, o = s_next, o_next


@njit(cache=True, inline="always")
def _first_at(cumulative, u):
    """Return the first index whose cumulative probability exceeds u."""
    k = 0
    while k < len(cumulative) - 1 and u >= cumulative[k]:
        k += 1
    return np.uint64(k)


@njit(cache=True)
def _act_all(q, s, epsilon, keys, t):
    """Return epsilon-greedy actions (N,) by q (N, S, A), in states s (N,)."""
    action = np.empty(len(s), np.uint8)
    for n in range(len(s)):
        action[n] = _act(q[n], s[n], epsilon[n], keys[n], np.uint64(t))
    return action


def _masked(q: np.ndarray, s: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return the values (N, A) in states s (N,), -inf where actions are not allowed."""
    return np.where(allowed, q[np.arange(len(s)), s], np.float32(-np.inf))


@njit(cache=True)
def _learn_all(q, s_tm1, a_tm1, r_t, terminated_t, s_t, lr, gamma):
    for n in range(len(s_t)):
        _learn(q[n], s_tm1[n], a_tm1[n], r_t[n], terminated_t[n], s_t[n], lr, gamma)


def _bin(pose: np.ndarray, bins: tuple[int, int, int]) -> np.ndarray:
    """Return the number (N,) of the bin that holds each pose (N, 3)."""
    share = (pose + np.array([1, 1, 0])) / np.array([2, 2, 2 * np.pi])
    return np.ravel_multi_index(tuple((share * bins).astype(int).T), bins, mode="clip")


@njit(cache=True)
def _sweep_all(q, steps, time, due, reward, final, s_t, lr, gamma):
    """Learn the episode's steps, from the last to the first, where that is due."""
    for n in range(len(due)):
        if due[n]:
            r_t, value_t = reward[n], np.float32(0) if final[n] else q[n, s_t[n]].max()
            for i in range(time[n] - 1, -1, -1):
                s, a = steps[n, i]
                q[n, s, a] += lr * (r_t + gamma * value_t - q[n, s, a])
                r_t, value_t = np.float32(0), q[n, s].max()
