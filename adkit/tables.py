"""A gridworld is its tables: per task, where each action leads, its reward, and the observation.

The tables are a tabular environment's only definition. The batched `step` indexes them, backward
induction solves them (the optimum line of every plot), and sources simulate whole compiled
lifetimes over them.
"""

from __future__ import annotations

import os
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Lock
from typing import NamedTuple

import numpy as np
from numba import njit

from adkit import protocols
from adkit.protocols import Env, EnvSpec, Step, Tasks
from adkit.seeds import Rng

# draws of a step: which outcome; where a new episode starts
OUTCOME, START = np.uint64(0), np.uint64(8)
AT_ONCE = 0.2  # seconds of compiled work that no interrupt stops


class Tables(NamedTuple):
    """n tasks, S states, A actions, K outcomes. Build it with `tables(...)`."""

    next_state: np.ndarray
    """(n, S, A, K) uint32: compiled code need not check whether an index is negative."""
    reward: np.ndarray
    """(n, S, A, K) float32."""
    terminated: np.ndarray
    """(n, S, A, K) bool."""
    cumulative: np.ndarray
    """(n, S, A, K) float64: cumulative outcome probabilities, 1 at the end."""
    start: np.ndarray
    """(n, S) float64: cumulative probabilities of the first state of an episode."""
    observation: np.ndarray
    """(n, S, coordinates): the observation of a state."""
    seen: np.ndarray
    """(n, S) uint32: the observation's flat index, for tabular learners."""


def tables(
    spec: EnvSpec, next_state, reward, observation, start, terminated=None, probability=None
) -> Tables:
    """Return tables, from arrays that broadcast to the shapes of `Tables`.

    `start` (n, S) and `probability` (n, S, A, K) are probabilities, not cumulative ones.
    """
    shape = np.broadcast_shapes(np.shape(next_state), np.shape(reward))
    terminated = False if terminated is None else terminated
    probability = 1.0 if probability is None else probability
    _check(shape, next_state, {"start": (start, shape[:2]), "outcome": (probability, shape)})
    n, states = shape[:2]
    if np.ndim(observation) < 2:
        raise ValueError(
            f"`observation` must be (states, coordinates), here {(states, *spec.obs_shape)}, got "
            f"{np.shape(observation)}; for one coordinate, try observation[:, None]"
        )
    full = lambda value, dtype, to=shape: np.broadcast_to(np.asarray(value, dtype), to).copy()
    observation = full(observation, spec.obs_dtype, (n, states, *spec.obs_shape))
    return Tables(
        full(next_state, np.uint32),
        full(reward, np.float32),
        full(terminated, np.bool_),
        np.cumsum(full(probability, np.float64), axis=-1),
        np.cumsum(full(start, np.float64, (n, states)), axis=-1),
        observation,
        _index(spec, observation),
    )


def _index(spec: EnvSpec, observation: np.ndarray) -> np.ndarray:
    try:
        return spec.index(observation).astype(np.uint32)
    except ValueError:
        found = f"{observation.min()} to {observation.max()}"
        raise ValueError(
            f"observations must be 0 to below {spec.cardinality}, got {found}"
        ) from None


def _check(shape: tuple[int, ...], next_state, chances: dict) -> None:
    """Raise ValueError for states that do not exist, and for wrong sums."""
    if len(shape) != 4:
        raise ValueError(
            f"`next_state` and `reward` must be (tasks, states, actions, outcomes), got {shape}"
        )
    least, most = np.min(next_state, initial=0), np.max(next_state, initial=0)
    if least < 0 or most >= max(shape[1], 1):
        raise ValueError(f"`next_state` must be 0 to {shape[1] - 1}, got {least} to {most}")
    for name, (given, to) in chances.items():
        total = np.sum(np.broadcast_to(given, to), axis=-1)
        if np.min(given, initial=0) < 0 or not np.allclose(total, 1):
            raise ValueError(
                f"{name} probabilities must be at least 0 and sum to 1, got {np.ravel(total)[:3]}"
            )


stored_at = njit(cache=True)(protocols.stored_at)

# ---- one step ----


class TabularState(NamedTuple):
    """The states of N lifetimes: state index (N,) and step within the episode (N,)."""

    index: np.ndarray
    time: np.ndarray


def of_rows(env: Env, tasks: Tasks) -> tuple[Tables, np.ndarray]:
    """Return tables of the distinct tasks, and the row (N,) of each of `tasks`. Cached."""
    try:
        return _of_rows(env, tasks)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        raise ValueError(
            f"tables of {type(env).__name__} are cached by its hash, and it has {error}; make it a "
            "frozen dataclass, with tuples in place of arrays"
        ) from None


@lru_cache(maxsize=8)
def _of_rows(env: Env, tasks: Tasks) -> tuple[Tables, np.ndarray]:
    unique, row = tasks.unique()
    return env.tables(unique), row


class Tabular:
    """Base of environments that have `tables(tasks)`: their `reset` and `step` look there."""

    def reset(self, tasks: Tasks, rng: Rng) -> tuple[TabularState, np.ndarray]:
        table, row = of_rows(self, tasks)
        index = (table.start[row] <= rng.uniform(START)[:, None]).sum(1)
        index = index.clip(max=table.start.shape[1] - 1)
        return TabularState(index, np.zeros(len(row), np.int64)), table.observation[row, index]

    def step(
        self, state: TabularState, tasks: Tasks, action: np.ndarray, rng: Rng
    ) -> tuple[TabularState, Step]:
        table, row = of_rows(self, tasks)
        action = check_action(action, self.spec, len(row))
        at = row, state.index, action
        k = (table.cumulative[at][:, :-1] <= rng.uniform(OUTCOME)[:, None]).sum(1)
        index, terminated = table.next_state[*at, k], table.terminated[*at, k]
        truncated = ~terminated & (state.time == self.spec.horizon - 1)
        answer = Step(table.observation[row, index], table.reward[*at, k], terminated, truncated)
        return TabularState(index, state.time + 1), answer


def check_action(action: np.ndarray, spec: EnvSpec, n: int) -> np.ndarray:
    """Return actions as an array; raise ValueError unless they are (n,) integers in range."""
    action = np.asarray(action)
    right = action.shape == (n,) and action.dtype.kind in "iu"
    if not right or (n and not 0 <= action.min() <= action.max() < spec.n_actions):
        raise ValueError(
            f"actions must be ({n},) integers 0 to {spec.n_actions - 1} in {spec.name}, got "
            f"{action.dtype} of shape {action.shape}"
        )
    return action


# ---- solving ----


def in_parallel(kernel, n: int, *args) -> None:
    """Run a compiled `kernel(begin, end, *args)` over the rows 0..n, one thread per core.

    The kernel must release the GIL. Numba's own parallel loops compile three times as slowly, and
    their thread pool does not survive a fork. Threads take rows for a fifth of a second at a time,
    and fewer near the end, for lifetimes differ in length: an interrupt waits for no more.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads, left, lock = min(threads, max(1, n)), deque([(0, n)] if n else []), Lock()

    def work() -> None:
        size = 1
        while True:
            with lock:
                if not left:
                    return
                begin, end = left.pop()
                stop = begin + min(size, -(-(end - begin) // (2 * threads)))
                left.extend([(stop, end)] * (stop < end))
            began = time.perf_counter()
            kernel(begin, stop, *args)
            took = max(time.perf_counter() - began, 1e-9)
            size = int(np.clip((stop - begin) * AT_ONCE / took, 1, 16 * size))

    with ThreadPoolExecutor(threads) as pool:
        try:
            for future in [pool.submit(work) for _ in range(threads)]:
                future.result()
        finally:
            left.clear()


@njit(cache=True, inline="always")
def _expected(next_state, reward, terminated, cumulative, value, gamma, i, s, a):
    """Return E[r + gamma V(s')] of action a in state s of task i."""
    total, below = 0.0, 0.0
    for k in range(next_state.shape[3]):
        p = cumulative[i, s, a, k] - below
        below = cumulative[i, s, a, k]
        later = 0.0 if terminated[i, s, a, k] else value[next_state[i, s, a, k]]
        total += p * (reward[i, s, a, k] + gamma * later)
    return total


def backward_induction(tables: Tables, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the optimum by dynamic programming: values (n, S) at step 0, policy (n, H, S) uint8.

    Ties go to the first action.
    """
    n, states = tables.seen.shape
    value, policy = np.zeros((n, states)), np.zeros((n, horizon, states), np.uint8)
    in_parallel(_backward_induction, n, tables, horizon, value, policy)
    return value, policy


@njit(cache=True, nogil=True)
def _backward_induction(begin, end, tables, horizon, value, policy):
    to, reward, over, p = tables.next_state, tables.reward, tables.terminated, tables.cumulative
    _, states, actions, _ = to.shape
    for i in range(begin, end):
        later = np.zeros(states)
        for t in range(horizon - 1, -1, -1):
            for s in range(states):
                best, best_a = -np.inf, 0
                for a in range(actions):
                    q = _expected(to, reward, over, p, later, 1.0, i, s, a)
                    if q > best + 1e-9:
                        best, best_a = q, a
                value[i, s], policy[i, t, s] = best, best_a
            later[:] = value[i]


def discounted_values(tables: Tables, gamma: float, sweeps: int) -> np.ndarray:
    """Return action values (n, S, A) float32 after `sweeps` of value iteration."""
    q = np.zeros(tables.next_state.shape[:3], np.float32)
    in_parallel(_discounted_values, len(q), tables, gamma, sweeps, q)
    return q


@njit(cache=True, nogil=True)
def _discounted_values(begin, end, tables, gamma, sweeps, q):
    to, reward, over, p = tables.next_state, tables.reward, tables.terminated, tables.cumulative
    _, states, actions, _ = to.shape
    for i in range(begin, end):
        value = np.zeros(states)
        for _ in range(sweeps):
            for s in range(states):
                for a in range(actions):
                    q[i, s, a] = _expected(to, reward, over, p, value, gamma, i, s, a)
            for s in range(states):
                value[s] = q[i, s].max()


def optimal_returns(env: Env, tasks: Tasks) -> np.ndarray:
    """Return the optimal expected undiscounted return of an episode of each task (n,)."""
    if not has_optimum(env):
        raise ValueError(
            f"the optimum of {env.spec.name} is unknown: it has neither tables nor "
            "optimal_returns(tasks)"
        )
    if hasattr(env, "optimal_returns"):
        return env.optimal_returns(Tasks.of(tasks))
    table, row = of_rows(env, Tasks.of(tasks))
    value, _ = backward_induction(table, env.spec.horizon)
    return (value * np.diff(table.start, axis=1, prepend=0.0)).sum(1)[row]


def has_optimum(env: Env) -> bool:
    """Return whether the optimum of this environment's tasks is known."""
    return hasattr(env, "optimal_returns") or hasattr(env, "tables")
