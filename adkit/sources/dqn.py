"""Deep Q-learning with Q(lambda) (Mnih et al. 2015; Peng & Williams 1996): a network and a replay
memory per lifetime.

The source that the paper distils in the Watermaze (Laskin et al. 2022, Table 5). It reads
coordinates, poses, or pictures drawn from poses: the memory keeps the pose, and every replayed step
is drawn anew. From pictures it is slow: about 0.1 ms per step and lifetime for 8 x 12 pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from adkit.envs import pixels
from adkit.protocols import EnvSpec, Transition
from adkit.seeds import Rng, mix, uniform
from adkit.sources import networks
from adkit.sources.bandits import best_of
from adkit.sources.networks import (
    GOES_ON,
    TERMINATED,
    adam,
    backward,
    ends,
    forward,
    initialise_all,
    parts,
)
from adkit.sources.settings import check_counts, check_learning, check_shares
from adkit.tables import in_parallel

EXPLORE, CHOOSE = np.uint64(0), np.uint64(1)  # draws of a step: whether to explore; which action
SOURCE, START = np.uint64(0), np.uint64(1)  # draws of a replayed rollout: all or newest; begin
REPLAY = np.uint64(0xA0761D6478BD642F)  # sets replay's stream apart from the actions'
BLIND = (*pixels.eyes((0, 0))[:3], np.empty((2, 0), np.float32))  # no pictures are drawn


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
    pixels: tuple[int, int] | None = None
    """Where there are poses: (height, width) of the pictures to learn from; None: the poses."""

    def __post_init__(self):
        if self.pixels is not None:
            object.__setattr__(self, "pixels", pixels.check_size(self.pixels))
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

    obs: np.ndarray
    """(N, capacity, C)"""
    next_obs: np.ndarray
    action: np.ndarray
    """(N, capacity)"""
    reward: np.ndarray
    end: np.ndarray
    """(N, capacity) GOES_ON, TERMINATED or TRUNCATED."""


class Reader(NamedTuple):
    """How observations become inputs of a network, as compiled code takes it."""

    shape: tuple[int, int, int, int]
    """Of the network."""
    offsets: np.ndarray
    """(C,) first row of each discrete coordinate; empty for real numbers."""
    eyes: tuple
    """What `pixels.draw` needs; `BLIND` draws nothing."""


class Replay(NamedTuple):
    """The settings of an update, as compiled code takes them."""

    lr: float
    gamma: float
    lam: float
    offline: float
    clip: float
    batch: int
    rollout: int
    every: int
    target_update: int


class DQNLearner:
    """N deep Q-learners in lock step: `weights` and `target` are (N, parameters)."""

    def __init__(self, config: DQN, spec: EnvSpec, rng: Rng):
        if config.pixels and spec.view is None:
            raise ValueError(
                f"`pixels` needs poses to draw pictures from, {spec.name} has none; leave it out"
            )
        self.config, self.spec, self.rng, self.t = config, spec, rng, 0
        n, sizes = len(rng), spec.cardinality or ()
        offsets = np.cumsum((0, *sizes[:-1]) if sizes else (), dtype=np.int64)
        inputs = 3 * math.prod(config.pixels) if config.pixels else networks.inputs(spec, "DQN")
        shape = inputs, config.layers, config.width, spec.n_actions
        eyes = pixels.eyes(config.pixels) if config.pixels else BLIND
        self.reader = Reader(shape, offsets, eyes)
        self.weights, self.m, self.v = np.zeros((3, n, networks.count(shape)), np.float32)
        initialise_all(self.weights, shape, len(sizes) or inputs, rng.keys)
        self.target = self.weights.copy()
        kept, size = 3 if config.pixels else len(sizes) or inputs, config.capacity
        self.memory = Memory(
            obs=np.zeros((n, size, kept), np.float32),
            next_obs=np.zeros((n, size, kept), np.float32),
            action=np.zeros((n, size), np.uint8),
            reward=np.zeros((n, size), np.float32),
            end=np.zeros((n, size), np.uint8),
        )
        rates = config.lr, np.float32(config.gamma), np.float32(config.lam)
        clip = config.clip if math.isfinite(config.clip) else 0.0
        every = config.rollout - config.overlap
        counts = config.batch, config.rollout, every, config.target_update
        self.replay = Replay(*rates, config.offline, clip, *counts)

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        obs, action = self._read(obs), np.empty(len(self.weights), np.uint8)
        epsilon, keys = self.config.epsilon, self.rng.keys
        _act_all(action, self.weights, self.reader, obs, epsilon, keys, self.t)
        return action

    def update(self, transition: Transition) -> None:
        slot, memory = self.t % self.config.capacity, self.memory
        memory.obs[:, slot] = self._read(transition.obs)
        memory.next_obs[:, slot] = self._read(transition.next_obs)
        memory.action[:, slot], memory.reward[:, slot] = transition.action, transition.reward
        memory.end[:, slot] = ends(transition)
        self.t += 1
        if self.t >= self.config.rollout and self.t % self.replay.every == 0:
            networks_of_all = self.weights, self.target, self.m, self.v
            rest = memory, self.rng.keys, self.reader, self.replay, self.t
            in_parallel(_learn_all, len(self.weights), *networks_of_all, *rest)

    def _read(self, obs: np.ndarray) -> np.ndarray:
        """Return what the memory keeps of observations, (N, C) float32."""
        if self.spec.cardinality or self.config.pixels:
            return np.ascontiguousarray(obs, np.float32)
        return networks.features(self.spec, obs)


@njit(cache=True, nogil=True)
def _encode(obs, reader, row, value):
    """Fill (row, value), each (B, inputs that are not 0), from observations (B, C)."""
    offsets, eyes = reader.offsets, reader.eyes
    sees = eyes[3].shape[1] > 0
    if sees:
        pixels.draw(0, len(obs), obs, eyes[0], eyes[1], eyes[2], eyes[3], value)
    for b in range(len(obs)):
        for c in range(row.shape[1]):
            row[b, c] = c
            if len(offsets):
                row[b, c], value[b, c] = offsets[c] + int(obs[b, c]), 1
            elif not sees:
                value[b, c] = obs[b, c]


@njit(cache=True)
def _targets(reward, end, best, gamma, lam, g):
    """Fill g with the Q(lambda) targets of a rollout; `best` is max_a Q'(o_{t+1}, a)."""
    last = len(g) - 1
    for t in range(last, -1, -1):
        g[t] = reward[t]
        if end[t] == GOES_ON and t < last:
            g[t] += gamma * ((np.float32(1) - lam) * best[t] + lam * g[t + 1])
        elif end[t] != TERMINATED:  # truncated still bootstraps
            g[t] += gamma * best[t]


@njit(cache=True)
def _draw(memory, n, key, replay, t, sample):
    """Fill `sample`, a batch of rollouts (batch x rollout, ...), from lifetime n's memory."""
    capacity, length = memory.obs.shape[1], replay.rollout
    stored = min(t, capacity)
    for i in range(replay.batch):
        draw, start = np.uint64(t * replay.batch + i), stored - length
        if uniform(key, draw, SOURCE) < replay.offline:
            start = int(uniform(key, draw, START) * (stored - length + 1))
        for j in range(length):
            b, at = i * length + j, (t - stored + start + j) % capacity
            sample.obs[b], sample.next_obs[b] = memory.obs[n, at], memory.next_obs[n, at]
            sample.action[b], sample.reward[b] = memory.action[n, at], memory.reward[n, at]
            sample.end[b] = memory.end[n, at]


@njit(cache=True, nogil=True)
def _learn_all(begin, end_n, weights, target, m, v, memory, keys, reader, replay, t):
    shape, length, size = reader.shape, replay.rollout, replay.batch * replay.rollout
    inputs, layers, width, outputs = shape
    active, kept = len(reader.offsets) or inputs, memory.obs.shape[2]
    step = (t - length) // replay.every + 1
    obs, next_obs = np.empty((size, kept), np.float32), np.empty((size, kept), np.float32)
    action, end = np.empty(size, np.uint8), np.empty(size, np.uint8)
    sample = Memory(obs, next_obs, action, np.empty(size, np.float32), end)
    row, value = np.empty((size, active), np.int32), np.empty((size, active), np.float32)
    row_t, value_t = np.empty_like(row), np.empty_like(value)
    h, y = np.empty((size, layers, width), np.float32), np.empty((size, outputs), np.float32)
    h_t, y_t = np.empty((layers, width), np.float32), np.empty(outputs, np.float32)
    best, g = np.empty(length, np.float32), np.empty(length, np.float32)
    dy, gradient = np.empty_like(y), np.empty(weights.shape[1], np.float32)
    for n in range(begin, end_n):
        embed, hidden, head = parts(weights[n], shape)
        embed_t, hidden_t, head_t = parts(target[n], shape)
        _draw(memory, n, mix(keys[n] ^ REPLAY), replay, t, sample)
        _encode(obs, reader, row, value)
        _encode(next_obs, reader, row_t, value_t)
        dy[:] = 0
        for i in range(replay.batch):
            first = i * length
            for j in range(length):
                b = first + j
                forward(embed, hidden, head, row[b], value[b], h[b], y[b])
                forward(embed_t, hidden_t, head_t, row_t[b], value_t[b], h_t, y_t)
                best[j] = y_t.max()
            rewards, ends = sample.reward[first : first + length], end[first : first + length]
            _targets(rewards, ends, best, replay.gamma, replay.lam, g)
            for j in range(length):
                a = action[first + j]
                dy[first + j, a] = (y[first + j, a] - g[j]) / size
        backward(weights[n], shape, row, value, h, dy, gradient)
        adam(weights[n], gradient, m[n], v[n], replay.lr, step, replay.clip)
        if step % replay.target_update == 0:
            target[n] = weights[n]


@njit(cache=True)
def _act_all(action, weights, reader, obs, epsilon, keys, t):
    (inputs, layers, width, outputs), t = reader.shape, np.uint64(t)
    active = len(reader.offsets) or inputs
    row, value = np.empty((1, active), np.int32), np.empty((1, active), np.float32)
    h, q = np.empty((layers, width), np.float32), np.empty(outputs, np.float32)
    for n in range(len(action)):
        if epsilon > 0 and uniform(keys[n], t, EXPLORE) < epsilon:
            action[n] = int(uniform(keys[n], t, CHOOSE) * outputs)
            continue
        embed, hidden, head = parts(weights[n], reader.shape)
        _encode(obs[n : n + 1], reader, row, value)
        forward(embed, hidden, head, row[0], value[0], h, q)
        # at first all values are 0: ties are broken at random
        action[n] = best_of(q, uniform(keys[n], t, CHOOSE))
