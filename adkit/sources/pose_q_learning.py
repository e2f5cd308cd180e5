"""Tabular Q-learning where observations are poses: the room in bins, learned backwards.

Each episode is learned from its last step to its first, so that a reward reaches every step that
led to it in one sweep (Lin 1992). In a table this large, forward learning would take far longer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec, Transition
from adkit.seeds import Rng
from adkit.sources.q_learning import act_all
from adkit.sources.settings import check_learning, check_shares, falling


@dataclass(frozen=True)
class PoseQLearning:
    """Epsilon-greedy Q-learning over bins of (x, y, heading), where an episode is rewarded once.

    Steps after an episode's first reward are not learned from.
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
            raise ValueError(f"PoseQLearning needs poses, {spec.name} has none; try QLearning()")
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
        return act_all(self.q, s, epsilon, self.rng.keys, np.uint64(self.t))

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
