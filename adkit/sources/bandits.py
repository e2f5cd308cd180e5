"""What to do where there is nothing to see: upper confidence bounds, and Thompson sampling.

UCB1 (Auer, Cesa-Bianchi & Fischer 2002, after Lai & Robbins 1985) pulls the arm that could still be the best; Thompson
(1933) pulls each arm as often as it is probably the best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec, Lifetimes, Transition
from adkit.seeds import Rng, mix, uniform
from adkit.tables import of_rows, outcome, simulate, start_state, stored_at

CHOOSE, SAMPLE = (
    np.uint64(0),
    np.uint64(1),
)  # draws of a step: which of the arms that are tied; the posterior's samples


@dataclass(frozen=True)
class UCB:
    """Mean reward plus `bonus` * sqrt(2 ln t / pulls); an arm never pulled comes first."""

    bonus: float = 1.0
    """Weight of the bonus; 1 is UCB1, less is greedier."""

    def __post_init__(self):
        if not self.bonus >= 0:
            raise ValueError(f"bonus={self.bonus}; give a number of at least 0. UCB1 has 1.")

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> BanditLearner:
        return BanditLearner(self, spec, rng)

    def simulate(self, lifetimes: Lifetimes, arrays: dict[str, np.ndarray]) -> bool:
        """Simulate whole lifetimes over tables."""
        _check(self, lifetimes.env.spec)
        return simulate(_lifetimes, lifetimes, arrays, _bonus(self))


@dataclass(frozen=True)
class ThompsonSampling:
    """Sample every arm's chance from its posterior, pull the best: for rewards of 0 or 1, from a uniform prior."""

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> BanditLearner:
        return BanditLearner(self, spec, rng)

    def simulate(self, lifetimes: Lifetimes, arrays: dict[str, np.ndarray]) -> bool:
        """Simulate whole lifetimes over tables. Raises ValueError if a reward is neither 0 nor 1."""
        _check(self, lifetimes.env.spec)
        if hasattr(lifetimes.env, "tables"):
            tables, _ = of_rows(lifetimes.env, lifetimes.tasks)
            _check_reward(tables.reward)
        return simulate(_lifetimes, lifetimes, arrays, _bonus(self))


class BanditLearner:
    """N bandit players in lock step: `pulls` and `paid` are (N, A)."""

    def __init__(self, config: UCB | ThompsonSampling, spec: EnvSpec, rng: Rng):
        _check(config, spec)
        self.config, self.rng, self.t = config, rng, 0
        self.pulls, self.paid = np.zeros((2, len(rng), spec.n_actions))

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        return _act_all(self.pulls, self.paid, _bonus(self.config), self.rng.keys, self.t)

    def update(self, transition: Transition) -> None:
        if isinstance(self.config, ThompsonSampling):
            _check_reward(transition.reward)
        rows = np.arange(len(transition.action))
        self.pulls[rows, transition.action] += 1
        self.paid[rows, transition.action] += transition.reward
        self.t += 1


def _check(config, spec: EnvSpec) -> None:
    if spec.cardinality is None or spec.n_observations != 1:
        raise ValueError(
            f"{type(config).__name__} learns one value per action and {spec.name} has things to see; "
            "use QLearning() or PosteriorSampling() there."
        )


def _check_reward(reward: np.ndarray) -> None:
    if not np.isin(reward, (0, 1)).all():
        raise ValueError(
            f"ThompsonSampling counts successes, and here rewards go up to {reward.max()}; use UCB() instead."
        )


def _bonus(config: UCB | ThompsonSampling) -> float:
    """The weight of the bonus as compiled code takes it; -1 to sample instead."""
    return config.bonus if isinstance(config, UCB) else -1.0


@njit(cache=True)
def _gamma(key, begin, n):
    """A draw from Gamma(n): n exponential ones, each a uniform number of the stream `key`, from `begin` on."""
    total = 0.0
    for i in range(n):
        total -= np.log1p(-uniform(key, begin + np.uint64(i), SAMPLE))
    return total


@njit(cache=True)
def _promise(pulls, paid, bonus, key, t):
    """(A,) what each arm promises: its upper confidence bound, or a sample of its chance from Beta(1 + paid, 1 + lost)."""
    promise = np.empty(len(pulls))
    stream, drawn = mix(key ^ mix(t)), np.uint64(0)
    for a in range(len(pulls)):
        if bonus < 0:
            won, lost = int(paid[a]) + 1, int(pulls[a] - paid[a]) + 1
            up = _gamma(stream, drawn, won)
            promise[a] = up / (up + _gamma(stream, drawn + np.uint64(won), lost))
            drawn += np.uint64(won + lost)
        else:
            promise[a] = (
                paid[a] / pulls[a] + bonus * np.sqrt(2 * np.log(t) / pulls[a])
                if pulls[a] > 0
                else np.inf
            )
    return promise


@njit(cache=True)
def best_of(values, u):
    """Return the index of the highest value; the uniform draw u in [0, 1) breaks ties."""
    best, ties = values.max(), 0
    for a in range(len(values)):
        ties += values[a] == best
    chosen = int(u * ties)
    for a in range(len(values)):
        if values[a] == best:
            if chosen == 0:
                return np.uint64(a)
            chosen -= 1
    return np.uint64(0)


@njit(cache=True)
def _act(pulls, paid, bonus, key, t):
    return best_of(_promise(pulls, paid, bonus, key, t), uniform(key, t, CHOOSE))


@njit(cache=True, nogil=True)
def _lifetimes(begin, end, tables, task, keys, env_keys, horizon, bonus, trace):
    next_state, reward, terminated, cumulative, start, _, _ = tables
    states, actions, outcomes, every, episodes = trace
    for n in range(begin, end):
        row, key, env_key = np.uint64(task[n]), keys[n], env_keys[n]
        pulls, paid = np.zeros(reward.shape[2]), np.zeros(reward.shape[2])
        t = np.uint64(0)  # steps lived
        for episode in range(episodes):
            e = stored_at(episode, every)
            s = start_state(start, row, env_key, t)
            for i in range(horizon):
                a = _act(pulls, paid, bonus, key, t)
                k = outcome(cumulative, row, s, a, env_key, t)
                s_next, done = next_state[row, s, a, k], terminated[row, s, a, k]
                pulls[a] += 1
                paid[a] += reward[row, s, a, k]
                if e >= 0:
                    states[n, e, i], actions[n, e, i], outcomes[n, e, i] = s, a, k
                    states[n, e, i + 1] = s_next
                t += np.uint64(1)
                if done:
                    break
                s = s_next


@njit(cache=True)
def _act_all(pulls, paid, bonus, keys, t):
    action = np.empty(len(keys), np.uint8)
    for n in range(len(keys)):
        action[n] = _act(pulls[n], paid[n], bonus, keys[n], np.uint64(t))
    return action
