"""Bandit algorithms: UCB1 and Thompson sampling.

UCB1 (Auer, Cesa-Bianchi & Fischer 2002, after Lai & Robbins 1985) pulls the arm that could still be
the best. Thompson (1933) pulls each arm as often as it is probably the best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec, Transition
from adkit.seeds import Rng, mix, uniform
from adkit.sources.settings import cannot_learn

CHOOSE, SAMPLE = np.uint64(0), np.uint64(1)  # draws of a step: which of tied arms; the posterior's
SAMPLES = -1.0  # in place of the bonus: sample from the posterior


@dataclass(frozen=True)
class UCB:
    """Pull the arm with the highest mean + `bonus` * sqrt(2 ln t / pulls), untried arms first."""

    bonus: float = 1.0
    """Weight of the bonus; 1 is UCB1, less is greedier."""

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> BanditLearner:
        return BanditLearner(self, spec, rng, float(self.bonus))


@dataclass(frozen=True)
class ThompsonSampling:
    """Sample every arm's success probability from its posterior, and pull the best sample.

    Rewards must be 0 or 1; the prior is uniform.
    """

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> BanditLearner:
        return BanditLearner(self, spec, rng, SAMPLES)


class BanditLearner:
    """N bandit players in lock step: `pulls` and `total`, the summed rewards, are (N, A)."""

    def __init__(self, config: UCB | ThompsonSampling, spec: EnvSpec, rng: Rng, bonus: float):
        if spec.cardinality is None or spec.n_observations != 1:
            why = "it learns one value per action, and the world has observations"
            raise cannot_learn(type(config).__name__, spec, why)
        self.bonus, self.rng, self.t = bonus, rng, 0
        self.pulls, self.total = np.zeros((2, len(rng), spec.n_actions))

    def act(self, obs: np.ndarray, first: np.ndarray, allowed=None) -> np.ndarray:
        allowed = np.ones(self.pulls.shape, bool) if allowed is None else allowed
        draws = self.rng.keys, np.uint64(self.t)
        return _act_all(self.pulls, self.total, self.bonus, *draws, allowed)

    def update(self, transition: Transition) -> None:
        reward = transition.reward
        if self.bonus == SAMPLES and not np.isin(reward, (0, 1)).all():
            raise ValueError(
                f"ThompsonSampling needs rewards of 0 or 1, got up to {reward.max()}; try UCB()"
            )
        rows = np.arange(len(reward))
        self.pulls[rows, transition.action] += 1
        self.total[rows, transition.action] += reward
        self.t += 1


@njit(cache=True)
def best_of(values, u):
    """Return the index of the highest value; the uniform draw u in [0, 1) breaks ties."""
    ties = np.flatnonzero(values == values.max())
    return np.uint64(ties[int(u * len(ties))] if len(ties) else 0)  # none if values are NaN


@njit(cache=True)
def _gamma(key, begin, n):
    """Draw from Gamma(n), as n exponential draws of the stream `key` from `begin` on."""
    draws = begin + np.arange(n).astype(np.uint64)
    return -np.log1p(-uniform(key, draws, SAMPLE)).sum()


@njit(cache=True)
def _index(pulls, total, bonus, key, t):
    """Return each arm's upper confidence bound, or a sample of Beta(1 + wins, 1 + losses)."""
    index = np.empty(len(pulls))
    stream, drawn = mix(key ^ mix(t)), np.uint64(0)
    for a in range(len(pulls)):
        if bonus == SAMPLES:
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
def _act_all(pulls, total, bonus, keys, t, allowed):
    action = np.empty(len(keys), np.uint8)
    for n in range(len(keys)):
        index = _index(pulls[n], total[n], bonus, keys[n], t)
        index[~allowed[n]] = -np.inf
        action[n] = best_of(index, uniform(keys[n], t, CHOOSE))
    return action
