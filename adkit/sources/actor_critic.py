"""Advantage actor-critic (A3C in its synchronous form; Mnih et al. 2016): a network of its own for every lifetime.

Its own weights, its own Adam, from scratch on every task: what the paper distils from (Laskin et al. 2022, Table 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec, Lifetimes, Transition
from adkit.seeds import GAMMA, Rng, mix, uniform
from adkit.sources import networks
from adkit.sources.networks import (
    GOES_ON,
    TERMINATED,
    TRUNCATED,
    adam,
    backward,
    encode,
    forward,
    initialise,
    parts,
)
from adkit.tables import in_parallel, of_rows, outcome, simulate, start_state, stored_at

CHOOSE = np.uint64(0)  # draws of a step: which action


@dataclass(frozen=True)
class ActorCritic:
    """Policy gradient with a learned baseline, one update every `unroll` steps, on what was just lived.

    Advantages are GAE (Schulman et al. 2016); the loss is -advantage ln pi - entropy H(pi) + value_weight (return - V)^2,
    averaged over the unroll. A lifetime is one stream of experience: that of the first of its `actors`. The defaults are made
    to learn from one actor; `ActorCritic.paper()` from a hundred.
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
    actors: int = 1
    """Copies of the environment the learner acts in at once. More than one needs tables; only the first leaves a history."""

    def __post_init__(self):
        networks.check(self, "unroll", "actors")
        if not 0 <= self.lam <= 1:
            raise ValueError(f"lam={self.lam}; lambda lies in [0, 1]. Try lam=0.95.")
        for name in ("entropy", "value_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}; a weight is at least 0.")

    @staticmethod
    def paper() -> ActorCritic:
        """Laskin et al. (2022), Table 4: 3 x 128, 100 actors, lr 1e-4. The unroll is not stated there; 20 is their RL2's."""
        return ActorCritic(
            layers=3, width=128, lr=1e-4, gamma=0.99, lam=0.95, entropy=0.01, unroll=20, actors=100
        )

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> ActorCriticLearner:
        return ActorCriticLearner(self, spec, rng)

    def simulate(self, lifetimes: Lifetimes, arrays: dict[str, np.ndarray]) -> bool:
        """Simulate whole lifetimes over tables."""
        env = lifetimes.env
        if not hasattr(env, "tables"):
            return False
        tables, _ = of_rows(env, lifetimes.tasks)
        seen, _ = encode(env.spec, tables.observation)
        settings = seen, self.shape(env.spec), self.hyper, self.unroll, self.actors
        return simulate(_lifetimes, lifetimes, arrays, *settings)

    def shape(self, spec: EnvSpec) -> tuple[int, int, int, int]:
        """Of the networks: the outputs are a logit for each action, and the value."""
        return networks.inputs(spec, "ActorCritic"), self.layers, self.width, spec.n_actions + 1

    @property
    def hyper(self) -> tuple:
        return self.lr, *map(np.float32, (self.gamma, self.lam, self.entropy, self.value_weight))


class ActorCriticLearner:
    """N actor-critics in lock step: `weights` is (N, parameters)."""

    def __init__(self, config: ActorCritic, spec: EnvSpec, rng: Rng):
        if config.actors > 1:
            raise ValueError(
                f"actors={config.actors} lives in as many copies of an environment, which needs tables and the compiled driver; "
                f"in lock step, and on {spec.name} if it has no tables, use actors=1."
            )
        self.config, self.spec, self.rng, self.t = config, spec, rng, 0
        self.shape, n, size = config.shape(spec), len(rng), config.unroll
        self.weights, self.m, self.v = np.zeros((3, n, networks.count(self.shape)), np.float32)
        self.seen = tuple(
            np.stack([x] * size, 1) for x in encode(spec, np.zeros((n, *spec.obs_shape)))
        )  # (N, unroll, C) each
        self.h = np.zeros((n, size, config.layers, config.width), np.float32)
        self.y = np.zeros((n, size, spec.n_actions + 1), np.float32)
        self.action, self.end = np.zeros((2, n, size), np.uint8)
        self.reward, self.after = np.zeros((2, n, size), np.float32)
        _initialise_all(self.weights, self.shape, self.seen[0].shape[2], rng.keys)

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        slot = self.t % self.config.unroll
        for mine, now in zip(self.seen, encode(self.spec, obs), strict=True):
            mine[:, slot] = now
        _act_all(
            self.weights,
            self.shape,
            *self.seen,
            self.h,
            self.y,
            self.action,
            slot,
            self.rng.keys,
            self.t,
        )
        return self.action[:, slot].copy()

    def update(self, transition: Transition) -> None:
        slot = self.t % self.config.unroll
        last = slot == self.config.unroll - 1
        self.t += 1
        self.reward[:, slot] = transition.reward
        self.end[:, slot] = np.where(
            transition.terminated, TERMINATED, np.where(transition.truncated, TRUNCATED, GOES_ON)
        )
        if last or transition.truncated.any():
            _bootstrap_all(
                self.weights,
                self.shape,
                *encode(self.spec, transition.next_obs),
                self.end,
                self.after,
                slot,
                last,
            )
        if last:
            lived = *self.seen, self.h, self.y, self.action, self.reward, self.end, self.after
            step = self.t // self.config.unroll
            in_parallel(
                _learn_all,
                len(self.weights),
                self.weights,
                self.m,
                self.v,
                self.shape,
                *lived,
                self.config.hyper,
                step,
            )


@njit(cache=True)
def _softmax(y, p):
    """Probabilities of the actions, from logits y (A + 1,) without the value at the end."""
    most, total = y[0], np.float32(0)
    for a in range(1, len(p)):
        most = max(most, y[a])
    for a in range(len(p)):
        p[a] = math.exp(y[a] - most)
        total += p[a]
    for a in range(len(p)):
        p[a] /= total


@njit(cache=True)
def _act(y, p, key, t):
    _softmax(y, p)
    u, below = uniform(key, t, CHOOSE), 0.0
    for a in range(len(p) - 1):
        below += p[a]
        if u < below:
            return a
    return len(p) - 1


@njit(cache=True)
def _slopes(y, action, reward, end, after, actors, hyper, dy):
    """The loss's derivative by the outputs, dy (B, A + 1), for B = unroll x actors steps, time-major.

    delta_t = r_t + gamma V_{t+1} - V_t and A_t = delta_t + gamma lambda A_{t+1}; V_{t+1} is 0 after a terminal, `after` where
    an episode was truncated or the unroll ends, and A_{t+1} is 0 there.
    """
    _, gamma, lam, entropy, value_weight = hyper
    size, n_actions = len(y), y.shape[1] - 1
    p = np.empty(n_actions, np.float32)
    advantage = np.zeros(actors, np.float32)
    for b in range(size - 1, -1, -1):
        actor, last = b % actors, b >= size - actors
        if end[b] == TERMINATED:
            value_t = np.float32(0)
        elif end[b] == TRUNCATED or last:
            value_t = after[b]
        else:
            value_t = y[b + actors, n_actions]
        delta = reward[b] + gamma * value_t - y[b, n_actions]
        later = advantage[actor] if end[b] == GOES_ON else np.float32(0)
        advantage[actor] = delta + gamma * lam * later
        _softmax(y[b], p)
        h = np.float32(0)  # the policy's entropy
        for a in range(n_actions):
            h -= p[a] * math.log(max(p[a], np.float32(1e-30)))
        for a in range(n_actions):
            taken = np.float32(a == action[b])
            log_p = math.log(max(p[a], np.float32(1e-30)))
            dy[b, a] = (advantage[actor] * (p[a] - taken) + entropy * p[a] * (log_p + h)) / size
        dy[b, n_actions] = -2 * value_weight * advantage[actor] / size


@njit(cache=True, nogil=True)
def _lifetimes(
    begin, end_n, tables, task, keys, env_keys, horizon, seen, shape, hyper, unroll, actors, trace
):
    next_state, reward_of, terminated, cumulative, start, _, _ = tables
    states, actions, outcomes, every, episodes = trace
    (inputs, layers, width, outputs), size, active = shape, unroll * actors, seen.shape[2]
    n_params = (inputs + 1) * width + (layers - 1) * (width + 1) * width + (width + 1) * outputs
    w, gradient = np.empty(n_params, np.float32), np.empty(n_params, np.float32)
    embed, hidden, head = parts(w, shape)
    row, value = np.zeros((size, active), np.int32), np.ones((size, active), np.float32)
    h, y = np.zeros((size, layers, width), np.float32), np.zeros((size, outputs), np.float32)
    dy, p = np.zeros((size, outputs), np.float32), np.empty(outputs - 1, np.float32)
    action, end = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    reward, after = np.zeros(size, np.float32), np.zeros(size, np.float32)
    h_after, y_after = np.zeros((layers, width), np.float32), np.zeros(outputs, np.float32)
    state, time = np.zeros(actors, np.uint64), np.zeros(actors, np.int64)
    mine, envs = np.zeros(actors, np.uint64), np.zeros(actors, np.uint64)
    for n in range(begin, end_n):
        which = np.uint64(task[n])
        initialise(w, shape, active, keys[n])
        m, v = np.zeros(n_params, np.float32), np.zeros(n_params, np.float32)
        for i in range(actors):
            apart = (
                np.uint64(0) if i == 0 else mix(GAMMA * np.uint64(i))
            )  # the first actor lives as it would alone
            mine[i], envs[i], time[i] = keys[n] ^ apart, env_keys[n] ^ apart, 0
            state[i] = start_state(start, which, envs[i], np.uint64(0))
        t, slot, step, episode = np.uint64(0), 0, 0, 0
        while episode < episodes:
            for i in range(actors):
                b, s = slot * actors + i, state[i]
                for c in range(active):
                    row[b, c] = seen[which, s, c]
                forward(embed, hidden, head, row[b], value[b], h[b], y[b])
                a = _act(y[b], p, mine[i], t)
                k = outcome(cumulative, which, s, a, envs[i], t)
                s_next = next_state[which, s, a, k]
                action[b], reward[b], end[b] = a, reward_of[which, s, a, k], GOES_ON
                if terminated[which, s, a, k]:
                    end[b] = TERMINATED
                elif time[i] == horizon - 1:
                    end[b] = TRUNCATED
                if end[b] == TRUNCATED or (slot == unroll - 1 and end[b] == GOES_ON):
                    forward(embed, hidden, head, seen[which, s_next], value[b], h_after, y_after)
                    after[b] = y_after[outputs - 1]
                e = stored_at(episode, every)
                if i == 0 and e >= 0:
                    states[n, e, time[0]], actions[n, e, time[0]], outcomes[n, e, time[0]] = s, a, k
                    states[n, e, time[0] + 1] = s_next
                state[i] = s_next
                time[i] += 1
                if end[b] != GOES_ON:
                    state[i] = start_state(start, which, envs[i], t + np.uint64(1))
                    time[i] = 0
                    episode += i == 0
            t += np.uint64(1)
            slot += 1
            if slot == unroll:
                slot, step = 0, step + 1
                _slopes(y, action, reward, end, after, actors, hyper, dy)
                backward(w, shape, row, value, h, dy, gradient)
                adam(w, gradient, m, v, hyper[0], step, 0.0)


@njit(cache=True)
def _initialise_all(weights, shape, active, keys):
    for n in range(len(keys)):
        initialise(weights[n], shape, active, keys[n])


@njit(cache=True)
def _act_all(weights, shape, row, value, h, y, action, slot, keys, t):
    p = np.empty(y.shape[2] - 1, np.float32)
    for n in range(len(keys)):
        embed, hidden, head = parts(weights[n], shape)
        forward(embed, hidden, head, row[n, slot], value[n, slot], h[n, slot], y[n, slot])
        action[n, slot] = _act(y[n, slot], p, keys[n], np.uint64(t))


@njit(cache=True)
def _bootstrap_all(weights, shape, row, value, end, after, slot, last):
    """Values of what came after a truncation or the unroll's last step."""
    _, layers, width, outputs = shape
    h, y = np.empty((layers, width), np.float32), np.empty(outputs, np.float32)
    for n in range(len(weights)):
        if end[n, slot] == TRUNCATED or (last and end[n, slot] == GOES_ON):
            embed, hidden, head = parts(weights[n], shape)
            forward(embed, hidden, head, row[n], value[n], h, y)
            after[n, slot] = y[outputs - 1]


@njit(cache=True, nogil=True)
def _learn_all(
    begin, end_n, weights, m, v, shape, row, value, h, y, action, reward, end, after, hyper, step
):
    dy, gradient = np.empty(y.shape[1:], np.float32), np.empty(weights.shape[1], np.float32)
    for n in range(begin, end_n):
        _slopes(y[n], action[n], reward[n], end[n], after[n], 1, hyper, dy)
        backward(weights[n], shape, row[n], value[n], h[n], dy, gradient)
        adam(weights[n], gradient, m[n], v[n], hyper[0], step, 0.0)
