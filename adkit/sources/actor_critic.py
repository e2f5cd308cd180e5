"""Advantage actor-critic (A3C in its synchronous form; Mnih et al. 2016): a network per lifetime.

Each lifetime has its own weights and its own Adam, and learns from scratch on its task: the source
that the paper distils in its gridworlds (Laskin et al. 2022, Table 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec, Transition
from adkit.seeds import Rng, uniform
from adkit.sources import networks
from adkit.sources.settings import check_counts, check_learning, check_shares
from adkit.tables import in_parallel

CHOOSE = np.uint64(0)  # draws of a step: which action
FORBIDDEN = np.float32(-1e9)  # the logit of an action that is not allowed: its probability is 0


@dataclass(frozen=True)
class ActorCritic:
    """Policy gradient with a learned baseline, one update every `unroll` steps on those steps.

    Advantages are GAE (Schulman et al. 2016). The loss is -advantage ln pi - entropy H(pi) +
    value_weight (return - V)^2, averaged over the unroll. The paper has 100 parallel actors and
    lr 1e-4; the defaults here learn from one actor.
    """

    layers: int = 2
    """Hidden layers, ReLU; policy and value share them."""
    width: int = 32
    """Units in each."""
    lr: float = 3e-3
    """Step size of Adam (b1 0.9, b2 0.999, eps 1e-6)."""
    gamma: float = 0.9
    """Discount, in [0, 1)."""
    lam: float = 0.95
    """Lambda of the advantages, in [0, 1]: 0 trusts the value, 1 only the rewards."""
    entropy: float = 0.03
    """Weight of the entropy bonus."""
    value_weight: float = 0.5
    """Weight of the squared value error."""
    unroll: int = 5
    """Steps between updates."""

    def __post_init__(self):
        check_learning(self)
        check_counts(self, "layers", "width", "unroll")
        check_shares(self, "lam")

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> ActorCriticLearner:
        return ActorCriticLearner(self, spec, rng)


class Unroll(NamedTuple):
    """The steps since the last update, (U, ...); in lock step (N, U, ...)."""

    row: np.ndarray
    """(U, C) inputs that are not 0, and"""
    value: np.ndarray
    """(U, C) their values."""
    h: np.ndarray
    """(U, layers, W) activations."""
    y: np.ndarray
    """(U, A + 1) outputs."""
    action: np.ndarray
    reward: np.ndarray
    end: np.ndarray
    """(U,) GOES_ON, TERMINATED or TRUNCATED."""
    after: np.ndarray
    """(U,) value of the next observation, where an episode is truncated or the unroll ends."""


class ActorCriticLearner:
    """N actor-critics in lock step: `weights` is (N, parameters).

    A network's outputs are a logit for each action, and the value.
    """

    def __init__(self, config: ActorCritic, spec: EnvSpec, rng: Rng):
        self.config, self.spec, self.rng, self.t = config, spec, rng, 0
        rates = config.gamma, config.lam, config.entropy, config.value_weight
        self.hyper = config.lr, *map(np.float32, rates)
        self.shape = networks.shape_of(config, spec, spec.n_actions + 1)
        n, size = len(rng), config.unroll
        row, value = networks.encode(spec, np.zeros((n, *spec.obs_shape)))
        self.unroll = Unroll(
            row=np.stack([row] * size, 1),
            value=np.stack([value] * size, 1),
            h=np.zeros((n, size, config.layers, config.width), np.float32),
            y=np.zeros((n, size, spec.n_actions + 1), np.float32),
            action=np.zeros((n, size), np.uint8),
            reward=np.zeros((n, size), np.float32),
            end=np.zeros((n, size), np.uint8),
            after=np.zeros((n, size), np.float32),
        )
        self.weights = networks.initial(self.shape, row.shape[1], rng.keys)
        self.m, self.v = np.zeros((2, *self.weights.shape), np.float32)

    def act(self, obs: np.ndarray, first: np.ndarray, allowed=None) -> np.ndarray:
        slot = self.t % self.config.unroll
        self.unroll.row[:, slot], self.unroll.value[:, slot] = networks.encode(self.spec, obs)
        allowed = np.ones((len(obs), self.spec.n_actions), bool) if allowed is None else allowed
        _act_all(self.weights, self.shape, self.unroll, slot, self.rng.keys, self.t, allowed)
        return self.unroll.action[:, slot].copy()

    def update(self, transition: Transition) -> None:
        slot = self.t % self.config.unroll
        last = slot == self.config.unroll - 1
        self.t += 1
        self.unroll.end[:, slot] = networks.ends(transition)
        self.unroll.reward[:, slot] = transition.reward
        if last or transition.truncated.any():
            following = networks.encode(self.spec, transition.next_obs)
            _bootstrap_all(self.weights, self.shape, *following, self.unroll, slot, last)
        if last:
            learned = self.weights, self.m, self.v, self.shape, self.unroll, self.hyper
            in_parallel(_learn_all, len(self.weights), *learned, self.t // self.config.unroll)


@njit(cache=True)
def _softmax(y, p):
    """Fill p (A,) with probabilities, from outputs y (A + 1,) whose last is the value."""
    p[:] = np.exp(y[:-1] - y[:-1].max())
    p /= p.sum()


@njit(cache=True)
def _act(y, p, key, t):
    _softmax(y, p)
    u, below, last = uniform(key, t, CHOOSE), 0.0, 0
    for a in range(len(p)):
        if p[a] > 0:
            last = a
        below += p[a]
        if u < below:
            return a
    return last  # rounding left the sum below 1


@njit(cache=True)
def _slopes(unroll, hyper, dy):
    """Fill dy (U, A + 1) with the loss's derivative by the outputs.

    delta_t = r_t + gamma V_{t+1} - V_t, A_t = delta_t + gamma lambda A_{t+1}. V_{t+1} is 0 after a
    terminal step. Where an episode is truncated or the unroll ends, V_{t+1} is `after`, A_{t+1} 0.
    """
    _, _, _, y, action, reward, end, after = unroll
    _, gamma, lam, entropy, value_weight = hyper
    size, n_actions = len(y), y.shape[1] - 1
    p = np.empty(n_actions, np.float32)
    advantage = np.float32(0)
    for t in range(size - 1, -1, -1):
        if end[t] == networks.TERMINATED:
            value_t = np.float32(0)
        elif end[t] == networks.TRUNCATED or t == size - 1:
            value_t = after[t]
        else:
            value_t = y[t + 1, n_actions]
        delta = reward[t] + gamma * value_t - y[t, n_actions]
        later = advantage if end[t] == networks.GOES_ON else np.float32(0)
        advantage = delta + gamma * lam * later
        _softmax(y[t], p)
        log_p = np.log(np.maximum(p, np.float32(1e-30)))
        h = -(p * log_p).sum()  # the policy's entropy
        for a in range(n_actions):
            chosen = np.float32(a == action[t])
            dy[t, a] = (advantage * (p[a] - chosen) + entropy * p[a] * (log_p[a] + h)) / size
        dy[t, n_actions] = -2 * value_weight * advantage / size


@njit(cache=True)
def _act_all(weights, shape, unroll, slot, keys, t, allowed):
    row, value, h, y, action, _, _, _ = unroll
    p = np.empty(y.shape[2] - 1, np.float32)
    for n in range(len(keys)):
        network = networks.parts(weights[n], shape)
        networks.forward(network, row[n, slot], value[n, slot], h[n, slot], y[n, slot])
        for a in range(len(p)):
            if not allowed[n, a]:
                y[n, slot, a] = FORBIDDEN
        action[n, slot] = _act(y[n, slot], p, keys[n], np.uint64(t))


@njit(cache=True)
def _bootstrap_all(weights, shape, row, value, unroll, slot, last):
    """Compute the values of what follows a truncation or the unroll's last step."""
    _, layers, width, outputs = shape
    end, after = unroll.end, unroll.after
    h, y = np.empty((layers, width), np.float32), np.empty(outputs, np.float32)
    for n in range(len(weights)):
        cut_off = last and end[n, slot] == networks.GOES_ON
        if cut_off or end[n, slot] == networks.TRUNCATED:
            networks.forward(networks.parts(weights[n], shape), row[n], value[n], h, y)
            after[n, slot] = y[outputs - 1]


@njit(cache=True, nogil=True)
def _learn_all(begin, end_n, weights, m, v, shape, unroll, hyper, step):
    row, value, h, y, action, reward, end, after = unroll
    dy, gradient = np.empty(y.shape[1:], np.float32), np.empty(weights.shape[1], np.float32)
    for n in range(begin, end_n):
        mine = Unroll(row[n], value[n], h[n], y[n], action[n], reward[n], end[n], after[n])
        _slopes(mine, hyper, dy)
        networks.backward(weights[n], shape, mine.row, mine.value, mine.h, dy, gradient)
        networks.adam(weights[n], gradient, m[n], v[n], hyper[0], step, 0.0)
