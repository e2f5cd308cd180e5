"""Bandit algorithms: UCB1 and Thompson sampling.

UCB1 (Auer, Cesa-Bianchi & Fischer 2002, after Lai & Robbins 1985) pulls the arm that could still be
the best. Thompson (1933) pulls each arm as often as it is probably the best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec, Lifetimes, Transition
from adkit.seeds import Rng, mix, uniform
from adkit.tables import of_rows, outcome, simulate, start_state, stored_at

CHOOSE, SAMPLE = np.uint64(0), np.uint64(1)  # draws of a step: which of tied arms; the posterior's


@dataclass(frozen=True)
class UCB:
    """Pull the arm with the highest mean + `bonus` * sqrt(2 ln t / pulls), untried arms first."""

    bonus: float = 1.0
    """Weight of the bonus; 1 is UCB1, less is greedier."""

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> BanditLearner:
        return BanditLearner(self, spec, rng)

    def simulate(self, lifetimes: Lifetimes, arrays: dict[str, np.ndarray]) -> bool:
        """Simulate whole lifetimes over tables."""
        _check(self, lifetimes.env.spec)
        return simulate(_lifetimes, lifetimes, arrays, _bonus(self))


@dataclass(frozen=True)
class ThompsonSampling:
    """Sample every arm's success probability from its posterior, and pull the best sample.

    Rewards must be 0 or 1; the prior is uniform.
    """

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> BanditLearner:
        return BanditLearner(self, spec, rng)

    def simulate(self, lifetimes: Lifetimes, arrays: dict[str, np.ndarray]) -> bool:
        """Simulate whole lifetimes over tables."""
        _check(self, lifetimes.env.spec)
        if hasattr(lifetimes.env, "tables"):
            tables, _ = of_rows(lifetimes.env, lifetimes.tasks)
            _check_reward(tables.reward)
        return simulate(_lifetimes, lifetimes, arrays, _bonus(self))


class BanditLearner:
    """N bandit players in lock step: `pulls` and `total`, the summed rewards, are (N, A)."""

    def __init__(self, config: UCB | ThompsonSampling, spec: EnvSpec, rng: Rng):
        _check(config, spec)
        self.config, self.rng, self.t = config, rng, 0
        self.pulls, self.total = np.zeros((2, len(rng), spec.n_actions))

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        return _act_all(self.pulls, self.total, _bonus(self.config), self.rng.keys, self.t)

    def update(self, transition: Transition) -> None:
        if isinstance(self.config, ThompsonSampling):
            _check_reward(transition.reward)
        rows = np.arange(len(transition.action))
        self.pulls[rows, transition.action] += 1
        self.total[rows, transition.action] += transition.reward
        self.t += 1


def _check(config, spec: EnvSpec) -> None:
    if spec.cardinality is None or spec.n_observations != 1:
        raise ValueError(
            f"{type(config).__name__} learns one value per action, but {spec.name} has "
            "observations; try QLearning() or PosteriorSampling()"
        )


def _check_reward(reward: np.ndarray) -> None:
    if not np.isin(reward, (0, 1)).all():
        raise ValueError(
            f"ThompsonSampling needs rewards of 0 or 1, got up to {reward.max()}; try UCB()"
        )


def _bonus(config: UCB | ThompsonSampling) -> float:
    """Return the weight of the bonus as compiled code takes it; -1 means to sample instead."""
    return float(config.bonus) if isinstance(config, UCB) else -1.0


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
def _gamma(key, begin, n):
    """Draw from Gamma(n), as n exponential draws of the stream `key` from `begin` on."""
    total = 0.0
    for i in range(n):
        total -= np.log1p(-uniform(key, begin + np.uint64(i), SAMPLE))
    return total


@njit(cache=True)
def _index(pulls, total, bonus, key, t):
    """Return each arm's upper confidence bound, or a sample of Beta(1 + wins, 1 + losses)."""
    index = np.empty(len(pulls))
    stream, drawn = mix(key ^ mix(t)), np.uint64(0)
    for a in range(len(pulls)):
        if bonus < 0:
            won, lost = int(total[a]) + 1, int(pulls[a] - total[a]) + 1
            up = _gamma(stream, drawn, won)
            index[a] = up / (up + _gamma(stream, drawn + np.uint64(won), lost))
            drawn += np.uint64(won + lost)
        elif pulls[a] > 0:
            index[a] = total[a] / pulls[a] + bonus * np.sqrt(2 * np.log(t) / pulls[a])
        else:
            index[a] = np.inf
    return index


@njit(cache=True)
def _act(pulls, total, bonus, key, t):
    return best_of(_index(pulls, total, bonus, key, t), uniform(key, t, CHOOSE))


@njit(cache=True, nogil=True)
def _lifetimes(begin, end, tables, task, keys, env_keys, horizon, bonus, trace):
    next_state, reward, terminated, cumulative, start, _, _ = tables
    states, actions, outcomes, every, episodes = trace
    for n in range(begin, end):
        row, key, env_key = np.uint64(task[n]), keys[n], env_keys[n]
        pulls, total = np.zeros(reward.shape[2]), np.zeros(reward.shape[2])
        t = np.uint64(0)  # steps of the lifetime
        for episode in range(episodes):
            e = stored_at(episode, every)
            s = start_state(start, row, env_key, t)
            for i in range(horizon):
                a = _act(pulls, total, bonus, key, t)
                k = outcome(cumulative, row, s, a, env_key, t)
                s_next, done = next_state[row, s, a, k], terminated[row, s, a, k]
                pulls[a] += 1
                total[a] += reward[row, s, a, k]
                if e >= 0:
                    states[n, e, i], actions[n, e, i], outcomes[n, e, i] = s, a, k
                    states[n, e, i + 1] = s_next
                t += np.uint64(1)
                if done:
                    break
                s = s_next


@njit(cache=True)
def _act_all(pulls, total, bonus, keys, t):
    action = np.empty(len(keys), np.uint8)
    for n in range(len(keys)):
        action[n] = _act(pulls[n], total[n], bonus, keys[n], np.uint64(t))
    return action
