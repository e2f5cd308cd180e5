"""Upper confidence bounds (Lai & Robbins 1985; UCB1, Auer et al. 2002): pull the arm that could still be the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from adkit.protocols import EnvSpec, Transition
from adkit.seeds import Rng, uniform
from adkit.tables import Tables, Trace, in_parallel, outcome, start_state

CHOOSE = np.uint64(0)  # draws of a step: which of the arms that are tied


@dataclass(frozen=True)
class UCB:
    """For worlds with nothing to see: mean reward plus `bonus` * sqrt(2 ln t / pulls); an arm never pulled comes first."""

    bonus: float = 1.0
    """Weight of the bonus; 1 is UCB1, less is greedier."""

    def __post_init__(self):
        if not self.bonus >= 0:
            raise ValueError(f"bonus={self.bonus}; give a number of at least 0. UCB1 has 1.")

    def start(self, spec: EnvSpec, rng: Rng) -> UCBLearner:
        _check(spec)
        return UCBLearner(self, spec, rng)

    def live(self, spec: EnvSpec, tables: Tables, task: np.ndarray, rng: Rng, env_rng: Rng, trace: Trace) -> None:
        """Whole lifetimes over tables."""
        _check(spec)
        in_parallel(_live, len(task), tables, task, rng.keys, env_rng.keys, spec.horizon, self.bonus, trace)


class UCBLearner:
    """N bandit players in lock step: `pulls` and `paid` are (N, A)."""

    def __init__(self, config: UCB, spec: EnvSpec, rng: Rng):
        self.config, self.rng, self.t = config, rng, 0
        self.pulls, self.paid = np.zeros((2, len(rng), spec.n_actions))

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        return _act_all(self.pulls, self.paid, self.config.bonus, self.rng.keys, self.t)

    def update(self, transition: Transition) -> None:
        rows = np.arange(len(transition.action))
        self.pulls[rows, transition.action] += 1
        self.paid[rows, transition.action] += transition.reward
        self.t += 1


def _check(spec: EnvSpec) -> None:
    if spec.cardinality is None or spec.n_observations != 1:
        raise ValueError(
            f"UCB learns one value per action and {spec.name} has things to see; use QLearning() or PosteriorSampling() there."
        )


@njit(cache=True)
def _bound(pulls, paid, bonus, t):
    return paid / pulls + bonus * np.sqrt(2 * np.log(t) / pulls) if pulls > 0 else np.inf


@njit(cache=True)
def _act(pulls, paid, bonus, key, t):
    best, ties = -np.inf, 0
    for a in range(len(pulls)):
        bound = _bound(pulls[a], paid[a], bonus, t)
        if bound > best:
            best, ties = bound, 1
        elif bound == best:
            ties += 1
    chosen = int(uniform(key, t, CHOOSE) * ties)
    for a in range(len(pulls)):
        if _bound(pulls[a], paid[a], bonus, t) == best:
            if chosen == 0:
                return np.uint64(a)
            chosen -= 1
    return np.uint64(0)


@njit(cache=True, nogil=True)
def _live(begin, end, tables, task, keys, env_keys, horizon, bonus, trace):
    next_state, reward, terminated, cumulative, start, _, _ = tables
    states, actions, outcomes, every, episodes = trace
    for n in range(begin, end):
        row, key, env_key = np.uint64(task[n]), keys[n], env_keys[n]
        pulls, paid = np.zeros(reward.shape[2]), np.zeros(reward.shape[2])
        t = np.uint64(0)  # steps lived
        for episode in range(episodes):
            e = episode // every if episode % every == 0 else -1
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
