"""Tabular Q-learning where observations are poses: the room in bins, and each episode learned backwards when it ends.

Backwards, a reward reaches every step that led to it in one sweep (Lin 1992); a table this large would else learn for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec, Transition
from adkit.seeds import Rng, uniform

EXPLORE, CHOOSE = np.uint64(0), np.uint64(1)  # draws of a step: whether to explore; which action


@dataclass(frozen=True)
class PoseQLearning:
    """Epsilon-greedy Q-learning over bins of (x, y, heading), for worlds that pay once.

    What follows an episode's first reward is not learned from.
    """

    bins: tuple[int, int, int] = (10, 10, 8)
    """Bins of x and y over [-1, 1], and of the heading around the circle."""
    lr: float = 0.5
    """Step size of each update, in (0, 1]."""
    gamma: float = 0.9
    """Discount, in [0, 1)."""
    epsilon: float = 0.5
    """Probability of a random action in the first episode."""
    final_epsilon: float = 0.02
    """The same in the end: with poses in bins, a greedy walk can go round in circles for ever."""
    exploration_episodes: int = 250
    """Episodes over which epsilon falls linearly from one to the other."""

    def __post_init__(self):
        object.__setattr__(self, "bins", tuple(int(n) for n in self.bins))
        if len(self.bins) != 3 or min(self.bins) < 1 or np.prod(self.bins) > 2**16:
            raise ValueError(
                f"bins={self.bins}; give three counts, for x, y and heading, 65536 in all at most. Try (10, 10, 8)."
            )
        if not 0 < self.lr <= 1:
            raise ValueError(f"lr={self.lr}; a tabular step size lies in (0, 1]. Try lr=0.5.")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma={self.gamma}; the discount lies in [0, 1). Try gamma=0.9.")
        for name in ("epsilon", "final_epsilon"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}; a probability lies in [0, 1].")
        if self.exploration_episodes < 1:
            raise ValueError(f"exploration_episodes={self.exploration_episodes}; give at least 1.")

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> PoseQLearner:
        if spec.view is None:
            raise ValueError(
                f"PoseQLearning needs poses and {spec.name} has none; where observations are discrete use QLearning()."
            )
        return PoseQLearner(self, spec, rng)


class PoseQLearner:
    """N learners in lock step: `q` is (N, bins, A); `lived` (N, H, 2) holds the bins and actions of the episode so far."""

    def __init__(self, config: PoseQLearning, spec: EnvSpec, rng: Rng):
        self.config, self.rng, self.t = config, rng, 0
        self.q = np.zeros((len(rng), int(np.prod(config.bins)), spec.n_actions), np.float32)
        self.lived = np.zeros((len(rng), spec.horizon, 2), np.int32)
        self.time, self.paid = np.zeros(len(rng), np.int64), np.zeros(len(rng), bool)
        self.episode = np.full(len(rng), -1)

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        config = self.config
        self.episode += first
        self.time[first], self.paid[first] = 0, False
        share = np.minimum(1.0, self.episode / config.exploration_episodes)
        epsilon = config.epsilon + share * (config.final_epsilon - config.epsilon)
        return _act_all(self.q, _bin(obs, config.bins), epsilon, self.rng.keys, np.uint64(self.t))

    def update(self, transition: Transition) -> None:
        config, rows = self.config, np.arange(len(self.time))
        s_tm1, s_t = _bin(transition.obs, config.bins), _bin(transition.next_obs, config.bins)
        self.lived[rows, self.time, 0], self.lived[rows, self.time, 1] = s_tm1, transition.action
        self.time += 1
        pays = transition.reward != 0
        due = ~self.paid & (pays | transition.terminated | transition.truncated)
        ends = pays | transition.terminated  # truncated still bootstraps
        _sweep_all(
            self.q,
            self.lived,
            self.time,
            due,
            transition.reward,
            ends,
            s_t,
            np.float32(config.lr),
            np.float32(config.gamma),
        )
        self.paid |= pays
        self.t += 1


def _bin(pose: np.ndarray, bins: tuple[int, int, int]) -> np.ndarray:
    """(N,) the number of the bin that each pose (N, 3) is in."""
    share = (pose + np.array([1, 1, 0])) / np.array([2, 2, 2 * np.pi])
    return np.ravel_multi_index(tuple((share * bins).astype(int).T), bins, mode="clip")


@njit(cache=True)
def _act_all(q, s, epsilon, keys, t):
    action = np.empty(len(s), np.uint8)
    for n in range(len(s)):
        values = q[n, s[n]]
        best, ties = values.max(), 0
        explore = uniform(keys[n], t, EXPLORE) < epsilon[n]
        for a in range(len(values)):
            ties += explore or values[a] == best
        chosen = int(uniform(keys[n], t, CHOOSE) * ties)  # ties are broken at random
        for a in range(len(values)):
            chosen -= explore or values[a] == best
            if chosen < 0:
                action[n] = a
                break
    return action


@njit(cache=True)
def _sweep_all(q, lived, time, due, reward, ends, s_t, lr, gamma):
    """Learn the steps lived, from the last to the first, where that is due."""
    for n in range(len(due)):
        if due[n]:
            r_t, after = reward[n], np.float32(0) if ends[n] else q[n, s_t[n]].max()
            for i in range(time[n] - 1, -1, -1):
                s, a = lived[n, i]
                q[n, s, a] += lr * (r_t + gamma * after - q[n, s, a])
                r_t, after = np.float32(0), q[n, s].max()
