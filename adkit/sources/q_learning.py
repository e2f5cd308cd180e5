"""Tabular Q-learning (Watkins 1989): the textbook learner, one table per lifetime, from scratch on every task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec, Lifetimes, Transition
from adkit.seeds import Rng, uniform
from adkit.tables import outcome, simulate, start_state, stored_at

EXPLORE, CHOOSE = np.uint64(0), np.uint64(1)  # draws of a step: whether to explore; which action


@dataclass(frozen=True)
class QLearning:
    """Epsilon-greedy Q-learning with optimistic values: unseen actions look good, so it explores even when greedy."""

    lr: float = 0.5
    """Step size of each update, in (0, 1]."""
    gamma: float = 0.9
    """Discount, in [0, 1)."""
    initial_q: float = 1.0
    """Value of everything before it is tried; above what is true means optimism."""
    epsilon: float = 0.5
    """Probability of a random action in the first episode."""
    exploration_episodes: int = 250
    """Episodes over which epsilon falls linearly to 0: half of the 500 that `collect` is usually asked for."""
    phases: int = 1
    """Tables of values, one for each number of rewards this episode has paid so far: 3 where a key opens a door (none, key,
    both), 2 where a goal pays once. With 1 it expects to be paid again."""

    def __post_init__(self):
        if not 0 < self.lr <= 1:
            raise ValueError(f"lr={self.lr}; a tabular step size lies in (0, 1]. Try lr=0.5.")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma={self.gamma}; the discount lies in [0, 1). Try gamma=0.9.")
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon={self.epsilon}; a probability lies in [0, 1].")
        if not self.exploration_episodes >= 1:
            raise ValueError(f"exploration_episodes={self.exploration_episodes}; give at least 1.")
        if not 1 <= self.phases <= 256:
            raise ValueError(
                f"phases={self.phases}; give 1 to 256. Key-to-Door needs 3: no reward yet, the key, both."
            )
        if not np.isfinite(self.initial_q):
            raise ValueError(f"initial_q={self.initial_q}; give a finite number, such as 1.0.")

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> QLearner:
        """N empty tables; `spec` must have discrete observations."""
        return QLearner(self, spec, rng)

    def simulate(self, lifetimes: Lifetimes, arrays: dict[str, np.ndarray]) -> bool:
        """Simulate whole lifetimes over tables: about 50 M steps/s per core."""
        hyper = np.float32(self.lr), np.float32(self.gamma), self.epsilon, self.exploration_episodes
        q = self.table(lifetimes.env.spec, len(lifetimes.tasks))
        return simulate(_lifetimes, lifetimes, arrays, q, *hyper)

    def table(self, spec: EnvSpec, n: int) -> np.ndarray:
        """(n, phases, observations, actions) float32 values of n learners who have lived nothing."""
        return np.full(
            (n, self.phases, spec.n_observations, spec.n_actions), self.initial_q, np.float32
        )


class QLearner:
    """N Q-learners in lock step: `q` is (N, phases, observations, actions)."""

    def __init__(self, config: QLearning, spec: EnvSpec, rng: Rng):
        self.config, self.spec, self.rng = config, spec, rng
        self.q = config.table(spec, len(rng))
        self.t, self.episode, self.phase = 0, np.full(len(rng), -1), np.zeros(len(rng), np.int64)

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        self.episode += first
        self.phase[first] = 0
        epsilon = _epsilon(self.config.epsilon, self.config.exploration_episodes, self.episode)
        return _act_all(*self._rows(obs), epsilon, self.rng.keys, self.t)

    def update(self, transition: Transition) -> None:
        q, s = self._rows(transition.obs)
        self.phase = np.minimum(self.phase + (transition.reward > 0), self.config.phases - 1)
        _, s_next = self._rows(transition.next_obs)
        lr, gamma = np.float32(self.config.lr), np.float32(self.config.gamma)
        _learn_all(
            q, s, transition.action, transition.reward, transition.terminated, s_next, lr, gamma
        )
        self.t += 1

    def _rows(self, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tables of all phases under one another, and where among their rows each learner is."""
        n, _, n_observations, n_actions = self.q.shape
        return self.q.reshape(n, -1, n_actions), self.phase * n_observations + self.spec.index(obs)


@njit(cache=True)
def _epsilon(epsilon, exploration_episodes, episode):
    return epsilon * np.maximum(0.0, 1.0 - episode / exploration_episodes)


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
def _lifetimes(
    begin,
    end,
    tables,
    task,
    keys,
    env_keys,
    horizon,
    q,
    lr,
    gamma,
    epsilon,
    exploration_episodes,
    trace,
):
    next_state, reward, terminated, cumulative, start, _, seen = tables
    states, actions, outcomes, every, episodes = trace
    n_observations = np.uint64(q.shape[2])
    last = np.uint64(q.shape[1] - 1) * n_observations  # where the rows of the last phase begin
    for n in range(begin, end):
        row, key, env_key, q_n = (
            np.uint64(task[n]),
            keys[n],
            env_keys[n],
            q[n].reshape(-1, q.shape[3]),
        )
        t = np.uint64(0)  # steps lived
        for episode in range(episodes):
            e = stored_at(episode, every)
            eps = _epsilon(epsilon, exploration_episodes, episode)
            s = start_state(start, row, env_key, t)
            phase = np.uint64(
                0
            )  # where its rows begin: a view of its own for each phase costs as much as a step
            o = seen[row, s]
            for i in range(horizon):
                a = _act(q_n, o, eps, key, t)
                k = outcome(cumulative, row, s, a, env_key, t)
                s_next, done = next_state[row, s, a, k], terminated[row, s, a, k]
                if reward[row, s, a, k] > 0 and phase < last:
                    phase += n_observations
                o_next = phase + seen[row, s_next]
                _learn(q_n, o, a, reward[row, s, a, k], done, o_next, lr, gamma)
                if e >= 0:
                    states[n, e, i], actions[n, e, i], outcomes[n, e, i] = s, a, k
                    states[n, e, i + 1] = s_next
                t += np.uint64(1)
                if done:
                    break
                s, o = s_next, o_next


@njit(cache=True)
def _act_all(q, s, epsilon, keys, t):
    action = np.empty(len(s), np.uint8)
    for n in range(len(s)):
        action[n] = _act(q[n], s[n], epsilon[n], keys[n], np.uint64(t))
    return action


@njit(cache=True)
def _learn_all(q, s_tm1, a_tm1, r_t, terminated_t, s_t, lr, gamma):
    for n in range(len(s_t)):
        _learn(q[n], s_tm1[n], a_tm1[n], r_t[n], terminated_t[n], s_t[n], lr, gamma)
