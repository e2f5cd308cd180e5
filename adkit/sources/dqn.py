"""Deep Q-learning with Q(lambda) (Mnih et al. 2015; Peng & Williams 1996): a network and a replay
memory per lifetime.

The source that the paper distils in the Watermaze (Laskin et al. 2022, Table 5). It reads
coordinates, or the pose that a picture is drawn from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec, Transition
from adkit.seeds import Rng, mix, uniform
from adkit.sources import networks
from adkit.sources.bandits import best_of
from adkit.sources.settings import check_counts, check_learning, check_shares
from adkit.tables import in_parallel

EXPLORE, CHOOSE = np.uint64(0), np.uint64(1)  # draws of a step: whether to explore; which action
AGAIN = 2  # which action, where the one drawn is not allowed
SOURCE, START = np.uint64(0), np.uint64(1)  # draws of a replayed rollout: all or newest; begin
REPLAY = np.uint64(0xA0761D6478BD642F)  # sets replay's stream apart from the actions'


@dataclass(frozen=True)
class DQN:
    """Epsilon-greedy on values learned from rollouts replayed out of the lifetime's own past.

    The target of step t is G_t = r_t + gamma ((1 - lambda) max_a Q'(o_{t+1}, a) + lambda G_{t+1}).
    Q' is a copy of the network that is renewed now and then. lambda is 0 at a rollout's end and a
    truncation, and nothing follows a terminal step. This is Peng's form: what later exploration did
    is not cut out. An update comes every `rollout - overlap` steps.
    """

    layers: int = 2
    """Hidden layers, ReLU."""
    width: int = 32
    """Units in each."""
    lr: float = 3e-3
    """Step size of Adam (b1 0.9, b2 0.999, eps 1e-6)."""
    gamma: float = 0.9
    """Discount, in [0, 1)."""
    lam: float = 0.75
    """Lambda of the targets, in [0, 1]: 0 is one-step Q-learning, 1 uses whole rollouts."""
    epsilon: float = 0.05
    """Probability of a random action."""
    batch: int = 8
    """Rollouts in an update."""
    rollout: int = 10
    """Steps in a rollout."""
    overlap: int = 5
    """Steps that a rollout shares with the one before it."""
    capacity: int = 100_000
    """Steps in the replay memory of each lifetime."""
    offline: float = 0.7
    """Share of the rollouts drawn from all of the memory; the others are the newest."""
    target_update: int = 50
    """Updates after which the target network is renewed."""
    clip: float = 10.0
    """Largest norm of the gradient."""

    def __post_init__(self):
        check_learning(self)
        check_counts(self, "layers", "width", "batch", "rollout", "capacity", "target_update")
        check_shares(self, "lam", "epsilon", "offline")
        if not 0 <= self.overlap < self.rollout <= self.capacity:
            raise ValueError(
                "`overlap` < `rollout` <= `capacity` must hold, "
                f"got {self.overlap}, {self.rollout}, {self.capacity}"
            )

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> DQNLearner:
        return DQNLearner(self, spec, rng)


class Memory(NamedTuple):
    """A ring of the newest steps of N lifetimes; pages that are never written cost nothing."""

    row: np.ndarray
    """(N, capacity, 2, C) inputs that are not 0, of an observation and the next, and"""
    value: np.ndarray
    """(N, capacity, 2, C) their values."""
    action: np.ndarray
    """(N, capacity)"""
    reward: np.ndarray
    end: np.ndarray
    """(N, capacity) GOES_ON, TERMINATED or TRUNCATED."""
    forbidden: np.ndarray
    """(N, capacity, A) bool: actions that were not allowed after the step."""


class DQNLearner:
    """N deep Q-learners in lock step: `weights` and `target` are (N, parameters)."""

    def __init__(self, config: DQN, spec: EnvSpec, rng: Rng):
        self.config, self.spec, self.rng, self.t = config, spec, rng, 0
        self.shape = networks.shape_of(config, spec, spec.n_actions)
        row, _ = networks.encode(spec, np.zeros(spec.obs_shape))
        self.weights = networks.initial(self.shape, len(row), rng.keys)
        self.target = self.weights.copy()
        self.m, self.v = np.zeros((2, *self.weights.shape), np.float32)
        steps = len(rng), config.capacity
        seen = *steps, 2, len(row)
        self.memory = Memory(
            row=np.zeros(seen, np.int32),
            value=np.zeros(seen, np.float32),
            action=np.zeros(steps, np.uint8),
            reward=np.zeros(steps, np.float32),
            end=np.zeros(steps, np.uint8),
            forbidden=np.zeros((*steps, spec.n_actions), bool),
        )
        self.every = config.rollout - config.overlap
        rates = config.lr, np.float32(config.gamma), np.float32(config.lam)
        self.rates = *rates, config.offline, config.clip
        self.counts = config.batch, config.rollout, self.every, config.target_update

    def act(self, obs: np.ndarray, first: np.ndarray, allowed=None) -> np.ndarray:
        seen, draws = networks.encode(self.spec, obs), (self.rng.keys, np.uint64(self.t))
        forbidden = np.zeros((len(obs), self.spec.n_actions), bool)
        if allowed is not None:
            forbidden = ~allowed
        action = _act_all(self.weights, self.shape, *seen, self.config.epsilon, *draws, forbidden)
        return action if allowed is None else self.rng.at(self.t).kept(action, allowed, AGAIN)

    def update(self, transition: Transition) -> None:
        slot, memory = self.t % self.config.capacity, self.memory
        for i, obs in enumerate((transition.obs, transition.next_obs)):
            memory.row[:, slot, i], memory.value[:, slot, i] = networks.encode(self.spec, obs)
        memory.action[:, slot], memory.reward[:, slot] = transition.action, transition.reward
        memory.end[:, slot] = networks.ends(transition)
        if transition.next_allowed is not None:
            memory.forbidden[:, slot] = ~transition.next_allowed
        self.t += 1
        if self.t >= self.config.rollout and self.t % self.every == 0:
            learned = self.weights, self.target, self.m, self.v
            rest = memory, self.rng.keys, self.shape, self.rates, self.counts, self.t
            in_parallel(_learn_all, len(self.weights), *learned, *rest)


@njit(cache=True)
def _targets(reward, end, best, gamma, lam, g):
    """Fill g with the Q(lambda) targets of a rollout; `best` is max_a Q'(o_{t+1}, a)."""
    last = len(g) - 1
    for t in range(last, -1, -1):
        g[t] = reward[t]
        if end[t] == networks.GOES_ON and t < last:
            g[t] += gamma * ((np.float32(1) - lam) * best[t] + lam * g[t + 1])
        elif end[t] != networks.TERMINATED:  # truncated still bootstraps
            g[t] += gamma * best[t]


@njit(cache=True)
def _draw(at, key, offline, batch, length, t, capacity):
    """Fill `at` (batch x length,) with the slots of a batch of rollouts out of the memory."""
    stored = min(t, capacity)
    for i in range(batch):
        draw, start = np.uint64(t * batch + i), stored - length
        if uniform(key, draw, SOURCE) < offline:
            start = int(uniform(key, draw, START) * (stored - length + 1))
        for j in range(length):
            at[i * length + j] = (t - stored + start + j) % capacity


@njit(cache=True, nogil=True)
def _learn_all(begin, end_n, weights, target, m, v, memory, keys, shape, rates, counts, t):
    rows, values, actions, rewards, ends, forbidden = memory
    _, layers, width, outputs = shape
    lr, gamma, lam, offline, clip = rates
    batch, length, every, target_update = counts
    size, active, step = batch * length, rows.shape[3], (t - length) // every + 1
    row, value = np.empty((size, active), np.int32), np.empty((size, active), np.float32)
    h, y = np.empty((size, layers, width), np.float32), np.empty((size, outputs), np.float32)
    h_t, y_t = np.empty((layers, width), np.float32), np.empty(outputs, np.float32)
    best, g = np.empty(length, np.float32), np.empty(length, np.float32)
    dy, gradient = np.empty_like(y), np.empty(weights.shape[1], np.float32)
    at = np.empty(size, np.int64)
    for n in range(begin, end_n):
        network, older = networks.parts(weights[n], shape), networks.parts(target[n], shape)
        _draw(at, mix(keys[n] ^ REPLAY), offline, batch, length, t, rows.shape[1])
        dy[:] = 0
        for first in range(0, size, length):
            mine = at[first : first + length]
            for j in range(length):
                b, slot = first + j, mine[j]
                row[b], value[b] = rows[n, slot, 0], values[n, slot, 0]
                networks.forward(network, row[b], value[b], h[b], y[b])
                networks.forward(older, rows[n, slot, 1], values[n, slot, 1], h_t, y_t)
                for a in range(outputs):
                    if forbidden[n, slot, a]:
                        y_t[a] = -np.inf
                best[j] = y_t.max()
            _targets(rewards[n][mine], ends[n][mine], best, gamma, lam, g)
            for j in range(length):
                a = actions[n, mine[j]]
                dy[first + j, a] = (y[first + j, a] - g[j]) / size
        networks.backward(weights[n], shape, row, value, h, dy, gradient)
        networks.adam(weights[n], gradient, m[n], v[n], lr, step, clip)
        if step % target_update == 0:
            target[n] = weights[n]


@njit(cache=True)
def _act_all(weights, shape, row, value, epsilon, keys, t, forbidden):
    _, layers, width, outputs = shape
    action, h = np.empty(len(keys), np.uint8), np.empty((layers, width), np.float32)
    q = np.empty(outputs, np.float32)
    for n in range(len(keys)):
        if epsilon > 0 and uniform(keys[n], t, EXPLORE) < epsilon:
            action[n] = int(uniform(keys[n], t, CHOOSE) * outputs)
            continue
        networks.forward(networks.parts(weights[n], shape), row[n], value[n], h, q)
        for a in range(outputs):
            if forbidden[n, a]:
                q[a] = -np.inf
        # at first all values are 0: ties are broken at random
        action[n] = best_of(q, uniform(keys[n], t, CHOOSE))
    return action
