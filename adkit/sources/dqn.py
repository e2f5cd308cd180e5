"""Deep Q-learning with Q(lambda) (Mnih et al. 2015; Peng & Williams 1996): a network and a replay memory for every lifetime.

What the paper distils from in the Watermaze (Laskin et al. 2022, Table 5). It reads coordinates, poses, or the pictures drawn from
poses: what it remembers is the pose, and every replayed step is drawn anew. From pictures it is dear: it says so before it starts.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass

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
    TRUNCATED,
    adam,
    backward,
    forward,
    initialise,
    parts,
)
from adkit.tables import in_parallel

EXPLORE, CHOOSE = np.uint64(0), np.uint64(1)  # draws of a step: whether to explore; which action
SOURCE, START = (
    np.uint64(0),
    np.uint64(1),
)  # draws of a replayed rollout: from all of memory or the newest; where it begins
REPLAY = np.uint64(
    0xA0761D6478BD642F
)  # sets the stream of replayed rollouts apart from that of actions
WORTH_SAYING = 2.0  # seconds per 1,000 steps
BLIND = (*pixels.eyes((0, 0))[:3], np.empty((2, 0), np.float32))  # no pictures are drawn


@dataclass(frozen=True)
class DQN:
    """Epsilon-greedy on values learned from rollouts replayed out of the lifetime's own past.

    The target of step t is G_t = r_t + gamma ((1 - lambda) max_a Q'(o_{t+1}, a) + lambda G_{t+1}), Q' being a copy of the network
    that is renewed now and then; lambda is 0 at a rollout's end and at a truncation, and nothing follows a terminal. Peng's
    form: what exploring did later is not cut out. Every `rollout - overlap` steps comes one update. `DQN.paper()` has Table 5.
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
    """Lambda of the targets, in [0, 1]: 0 is one-step Q-learning, 1 believes whole rollouts."""
    epsilon: float = 0.05
    """Probability of a random action."""
    batch: int = 8
    """Rollouts in an update."""
    rollout: int = 10
    """Steps in a rollout."""
    overlap: int = 5
    """Steps a rollout shares with the one before it: an update every `rollout - overlap` steps."""
    capacity: int = 100_000
    """Steps the replay memory holds, of each lifetime."""
    offline: float = 0.7
    """Share of the rollouts drawn from all of the memory; the others are the newest there is."""
    target_update: int = 50
    """Updates after which the target network is renewed."""
    clip: float = 10.0
    """Longest gradient."""
    pixels: tuple[int, int] | None = None
    """Where there are poses: (height, width) of the pictures it learns from. None learns from the poses themselves."""

    def __post_init__(self):
        if self.pixels is not None:
            object.__setattr__(self, "pixels", pixels.check_size(self.pixels))
        networks.check(self, "batch", "rollout", "capacity", "target_update")
        for name in ("lam", "epsilon", "offline"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}; it lies in [0, 1].")
        if not (isinstance(self.overlap, int) and 0 <= self.overlap < self.rollout):
            raise ValueError(
                f"overlap={self.overlap!r}; rollouts of {self.rollout} steps overlap by 0 to {self.rollout - 1}."
            )
        if self.capacity < self.rollout:
            raise ValueError(
                f"capacity={self.capacity}; the memory must hold at least one rollout of {self.rollout} steps."
            )
        if not self.clip > 0:
            raise ValueError(
                f"clip={self.clip}; the longest gradient is positive. For no limit, clip=float('inf')."
            )

    @staticmethod
    def paper() -> DQN:
        """Laskin et al. (2022), Table 5, but for its image encoder (here 2 x 64) and its 16 actors (a lifetime is one stream)."""
        return DQN(
            layers=2, width=64, lr=1e-4, gamma=0.9, lam=0.75, epsilon=0.01, batch=8, rollout=40, overlap=31, capacity=100_000,
            offline=0.7, target_update=50, clip=10.0,
        )  # fmt: skip

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> DQNLearner:
        return DQNLearner(self, spec, rng)

    @property
    def every(self) -> int:
        """Steps between updates."""
        return self.rollout - self.overlap


class DQNLearner:
    """N deep Q-learners in lock step: `weights` and `target` are (N, parameters), `memory` a ring of the newest steps."""

    def __init__(self, config: DQN, spec: EnvSpec, rng: Rng):
        if config.pixels and spec.view is None:
            raise ValueError(
                f"pixels={config.pixels}: {spec.name} has no poses to draw pictures from. Leave it at None."
            )
        self.config, self.spec, self.rng, self.t = config, spec, rng, 0
        sizes = spec.cardinality or ()
        self.offsets = np.cumsum(
            (0, *sizes[:-1]) if sizes else (), dtype=np.int64
        )  # none: real numbers are the input
        self.eyes = pixels.eyes(config.pixels) if config.pixels else BLIND
        inputs = 3 * math.prod(config.pixels) if config.pixels else networks.inputs(spec, "DQN")
        self.shape = inputs, config.layers, config.width, spec.n_actions
        kept = 3 if config.pixels else len(sizes) or inputs
        self.weights, self.m, self.v = np.zeros(
            (3, len(rng), networks.count(self.shape)), np.float32
        )
        _initialise_all(self.weights, self.shape, len(sizes) or inputs, rng.keys)
        self.target = self.weights.copy()
        self.memory = _memory(len(rng), config.capacity, kept)
        self._say_what_it_costs(kept)

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        args = (
            self.shape,
            self.offsets,
            self.eyes,
            self._read(obs),
            self.config.epsilon,
            self.rng.keys,
            self.t,
        )
        action = np.empty(len(self.weights), np.uint8)
        _act_all(action, self.weights, *args)
        return action

    def update(self, transition: Transition) -> None:
        obs, following, action, reward, end = (
            values[:, self.t % self.config.capacity] for values in self.memory
        )
        obs[:], following[:] = self._read(transition.obs), self._read(transition.next_obs)
        action[:], reward[:] = transition.action, transition.reward
        end[:] = np.where(
            transition.terminated, TERMINATED, np.where(transition.truncated, TRUNCATED, GOES_ON)
        )
        self.t += 1
        if self.t >= self.config.rollout and self.t % self.config.every == 0:
            learned = self.weights, self.target, self.m, self.v, self.memory, self.rng.keys
            in_parallel(_learn_all, len(self.weights), *learned, *self._settings, self.t)

    def _read(self, obs: np.ndarray) -> np.ndarray:
        """(N, C) float32: what is kept of observations."""
        as_it_is = self.spec.cardinality or self.config.pixels
        return (
            np.ascontiguousarray(obs, np.float32) if as_it_is else networks.features(self.spec, obs)
        )

    @property
    def _settings(self) -> tuple:
        c = self.config
        hyper = (
            c.lr,
            np.float32(c.gamma),
            np.float32(c.lam),
            c.offline,
            c.clip if math.isfinite(c.clip) else 0.0,
        )
        return (
            self.shape,
            self.offsets,
            self.eyes,
            hyper,
            c.batch,
            c.rollout,
            c.every,
            c.target_update,
        )

    def _say_what_it_costs(self, kept: int) -> None:
        """Time one update of one lifetime, and print what 1,000 steps of all of them will take, if that is long."""
        rollout = self.config.rollout
        spare = (
            *(x[:1].copy() for x in (self.weights, self.target, self.m, self.v)),
            _memory(1, rollout, kept),
        )
        seconds = []
        for _ in range(2):  # the first may compile
            began = time.perf_counter()
            _learn_all(0, 1, *spare, self.rng.keys[:1], *self._settings, rollout)
            seconds.append(time.perf_counter() - began)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        step, n = seconds[1] / self.config.every, len(self.rng)
        total = 1000 * step * n / min(cores, n)
        if total > WORTH_SAYING:
            print(
                f"DQN: about {total:.2g} s per 1,000 steps of {n} lifetimes on {min(cores, n)} cores ({step * 1e6:.0f} us a step). "
                "A smaller width, batch or overlap makes it cheaper.",
                flush=True,
            )


def _memory(n: int, capacity: int, kept: int) -> tuple[np.ndarray, ...]:
    """Observation, next observation (N, capacity, C), action, reward, end (N, capacity). Untouched pages cost nothing."""
    obs, following = (np.zeros((n, capacity, kept), np.float32) for _ in range(2))
    action, end = (np.zeros((n, capacity), np.uint8) for _ in range(2))
    return obs, following, action, np.zeros((n, capacity), np.float32), end


@njit(cache=True, nogil=True)
def _encode(obs, offsets, eyes, row, value):
    """Observations (B, C) as the network's (row, value), each (B, inputs that are not 0): see adkit.perceptron."""
    if eyes[3].shape[1]:
        pixels.draw(0, len(obs), obs, eyes[0], eyes[1], eyes[2], eyes[3], value)
    for b in range(len(obs)):
        for c in range(row.shape[1]):
            row[b, c] = c
            if len(offsets):
                row[b, c], value[b, c] = offsets[c] + int(obs[b, c]), 1
            elif not eyes[3].shape[1]:
                value[b, c] = obs[b, c]


@njit(cache=True)
def _targets(reward, end, best, gamma, lam, g):
    """Q(lambda) targets g of a rollout, from max_a Q'(o_{t+1}, a) in `best`."""
    last = len(g) - 1
    for t in range(last, -1, -1):
        g[t] = reward[t]
        if end[t] == GOES_ON and t < last:
            g[t] += gamma * ((np.float32(1) - lam) * best[t] + lam * g[t + 1])
        elif end[t] != TERMINATED:  # truncated still bootstraps
            g[t] += gamma * best[t]


@njit(cache=True, nogil=True)
def _learn_all(
    begin, end_n, weights, target, m, v, memory, keys, shape, offsets, eyes, hyper, batch, rollout, every, target_update, t
):  # fmt: skip
    obs, following, action, reward, end = memory
    lr, gamma, lam, offline, clip = hyper
    (inputs, layers, width, outputs), size = shape, batch * rollout
    capacity, active = obs.shape[1], len(offsets) or inputs
    stored, step = min(t, capacity), (t - rollout) // every + 1
    seen, then = (
        np.empty((size, obs.shape[2]), np.float32),
        np.empty((size, obs.shape[2]), np.float32),
    )
    row, value = np.empty((size, active), np.int32), np.empty((size, active), np.float32)
    row_t, value_t = np.empty((size, active), np.int32), np.empty((size, active), np.float32)
    chosen = np.empty(size, np.uint8)
    h, y = np.empty((size, layers, width), np.float32), np.empty((size, outputs), np.float32)
    h_t, y_t = np.empty((layers, width), np.float32), np.empty(outputs, np.float32)
    best, g = np.empty(rollout, np.float32), np.empty(rollout, np.float32)
    dy, gradient = np.empty((size, outputs), np.float32), np.empty(weights.shape[1], np.float32)
    paid, ends = np.empty(size, np.float32), np.empty(size, np.uint8)
    for n in range(begin, end_n):
        embed, hidden, head = parts(weights[n], shape)
        embed_t, hidden_t, head_t = parts(target[n], shape)
        key = mix(keys[n] ^ REPLAY)
        for i in range(batch):
            draw, start = np.uint64(t * batch + i), stored - rollout
            if uniform(key, draw, SOURCE) < offline:
                start = int(uniform(key, draw, START) * (stored - rollout + 1))
            for j in range(rollout):
                b, at = i * rollout + j, (t - stored + start + j) % capacity
                seen[b], then[b] = obs[n, at], following[n, at]
                chosen[b], paid[b], ends[b] = action[n, at], reward[n, at], end[n, at]
        _encode(seen, offsets, eyes, row, value)
        _encode(then, offsets, eyes, row_t, value_t)
        dy[:] = 0
        for i in range(batch):
            mine = slice(i * rollout, (i + 1) * rollout)
            for j in range(rollout):
                b = i * rollout + j
                forward(embed, hidden, head, row[b], value[b], h[b], y[b])
                forward(embed_t, hidden_t, head_t, row_t[b], value_t[b], h_t, y_t)
                best[j] = y_t.max()
            _targets(paid[mine], ends[mine], best, gamma, lam, g)
            for j in range(rollout):
                b = i * rollout + j
                dy[b, chosen[b]] = (y[b, chosen[b]] - g[j]) / size
        backward(weights[n], shape, row, value, h, dy, gradient)
        adam(weights[n], gradient, m[n], v[n], lr, step, clip)
        if step % target_update == 0:
            target[n] = weights[n]


@njit(cache=True)
def _initialise_all(weights, shape, active, keys):
    for n in range(len(keys)):
        initialise(weights[n], shape, active, keys[n])


@njit(cache=True)
def _act_all(action, weights, shape, offsets, eyes, obs, epsilon, keys, t):
    (inputs, layers, width, outputs), t = shape, np.uint64(t)
    active = len(offsets) or inputs
    row, value = np.empty((1, active), np.int32), np.empty((1, active), np.float32)
    h, q = np.empty((layers, width), np.float32), np.empty(outputs, np.float32)
    for n in range(len(action)):
        if epsilon > 0 and uniform(keys[n], t, EXPLORE) < epsilon:
            action[n] = int(uniform(keys[n], t, CHOOSE) * outputs)
            continue
        embed, hidden, head = parts(weights[n], shape)
        _encode(obs[n : n + 1], offsets, eyes, row, value)
        forward(embed, hidden, head, row[0], value[0], h, q)
        action[n] = best_of(
            q, uniform(keys[n], t, CHOOSE)
        )  # at first all values are 0: ties are broken at random
