"""The one loop: agents act on tasks for whole lifetimes, and `collect` returns their Histories.

An agent simulates whole lifetimes itself where it can (compiled, over tables); otherwise its
learners act in lock step. Both give the same bytes. Work can be spread over any executor.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np

from adkit.histories import PER_STEP, WITHOUT_LABELS, Histories
from adkit.protocols import (
    Agent,
    Env,
    EnvSpec,
    Learner,
    Lifetimes,
    OutOfSpace,
    Tasks,
    Transition,
    stored_at,
)
from adkit.seeds import Rng
from adkit.sharding import check_pool, digest, joined, number_of_shards, progress, saved, spread

UNMASKED = (
    "reads no action masks; try QLearning(), ActorCritic(), DQN() or a model, or leave the masks "
    "out: from_gymnasium(..., masks=False)"
)
TAKEN = {"task", "episode", "task_ids", *WITHOUT_LABELS}  # names of arrays in saved histories


def collect(
    env: Env,
    tasks: Tasks,
    agent: Agent,
    *,
    episodes: int,
    lifetimes: int = 1,
    seed: int = 0,
    every: int = 1,
    driver: str = "auto",
    executor: Executor | None = None,
    workers: int | None = None,
    retries: int = 2,
    out: str | Path | None = None,
) -> Histories:
    """Let new learners act on every task, and return everything they do.

    Each task gets `lifetimes` independent learners of `episodes` episodes; with `every=k` only each
    k-th episode is kept, as `.subsample(k)` would. A lifetime's bytes depend on (seed, task id, its
    number) alone: not on the other lifetimes, on `driver` ("auto", "compiled" or "batched"), or on
    an `executor`. Only where a transformer acts, the number of lifetimes computed at once changes
    the last bits of its logits, which can very occasionally change a sampled action.

    `executor` is any of `concurrent.futures`, a Dask client's `get_executor()` included; `workers`
    is how many shards it computes at once (the number of cores by default). A shard that fails is
    tried again up to `retries` times. With `out`, shards are kept beside that path, where the same
    call resumes if it was killed, and the histories are saved there and returned `mapped`.
    """
    tasks = Tasks.of(tasks)
    counts = {"tasks": len(tasks), "episodes": episodes, "lifetimes": lifetimes, "every": every}
    _check(env, counts, agent, driver, executor)
    about = {"env": repr(env), "agent": repr(agent), "seed": int(seed)}
    task, number = np.divmod(np.arange(len(tasks) * lifetimes), lifetimes)
    whole = Histories(env.spec, tasks, task, {}, np.arange(0, episodes, every), about)
    work = partial(_simulated, env, tasks, episodes=episodes, seed=seed, every=every, driver=driver)
    if executor is None and out is None:
        return replace(whole, arrays=work(agent, task, number))
    part = agent.part if hasattr(agent, "part") else lambda rows: agent
    workers = workers or os.cpu_count()

    def made(shards: Sequence[np.ndarray]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        jobs = [(part(rows), task[rows], number[rows]) for rows in shards]
        return spread(executor, work, jobs, retries, workers)

    one = _empty(env.spec, agent, 1, whole.n_episodes)
    n_shards = number_of_shards(len(task), one, workers)
    if out is None:
        return joined(whole, one, n_shards, made)
    call = digest([env.spec, tasks, task, episodes, every, int(seed), env, agent])
    return saved(Path(out), whole, call, n_shards, made)


def _check(env, counts: dict[str, int], agent, driver: str, executor: Executor | None) -> None:
    if not isinstance(getattr(env, "spec", None), EnvSpec):
        raise ValueError(
            "`env` must be an environment with its settings, such as ad.envs.DarkRoom(), or "
            f"ad.envs.from_gymnasium(...) of one of Gymnasium's, got {env!r:.100}"
        )
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1, got {count}")
    if isinstance(agent, type) or not (hasattr(agent, "start") or hasattr(agent, "simulate")):
        raise ValueError(
            "`agent` must be an agent with its settings, such as ad.sources.QLearning(), or "
            f"ad.InContext(model) for a model, got {agent!r}"
        )
    if driver not in ("auto", "compiled", "batched"):
        raise ValueError(f'`driver` must be "auto", "compiled" or "batched", got {driver!r}')
    if isinstance(executor, ProcessPoolExecutor):
        check_pool(executor, agent)


def _simulated(
    env, tasks, agent, task, number, *, episodes, seed, every, driver
) -> dict[str, np.ndarray]:
    """Return the arrays of lifetimes `number` (N,) on `task` (N,), by whichever driver fits."""
    mine = tasks[task]
    rng, env_rng = (Rng.of(seed, purpose, mine.ids, number) for purpose in ("agent", "env"))
    lifetimes = Lifetimes(env, mine, rng, env_rng, episodes, every)
    if hasattr(agent, "prepare"):
        agent, mine = agent.prepare(lifetimes)
        lifetimes = replace(lifetimes, tasks=mine)
    arrays = _empty(env.spec, agent, len(mine), len(range(0, episodes, every)))
    try:
        _fill(lifetimes, agent, arrays, driver)
    except OutOfSpace as error:
        n, (episode, step) = error.row, error.at
        when = "before the first step" if step < 0 else f"step {step}"
        raise ValueError(
            f"{error} from {env.spec.name} in task {mine.ids[n]}, lifetime {number[n]}, episode "
            f"{episode}, {when}"
        ) from error
    return arrays


def _fill(lifetimes: Lifetimes, agent: Agent, arrays: dict[str, np.ndarray], driver: str) -> None:
    """Fill arrays with lifetimes, by whichever driver fits."""
    masked = hasattr(lifetimes.env, "allowed_actions")
    compiled = driver != "batched" and hasattr(agent, "simulate") and not masked
    if not (compiled and agent.simulate(lifetimes, arrays)):
        spec = lifetimes.env.spec
        name = f"{type(agent).__name__} on {spec.name}"
        if driver == "compiled":
            raise ValueError(
                f"{name} has no compiled driver: it needs env.tables and agent.simulate; "
                'try driver="auto"'
            )
        if not hasattr(agent, "start"):
            why = UNMASKED if masked else 'has no learners; try driver="auto"'
            raise ValueError(f"{name} runs its own loop and {why}")
        learner = agent.start(spec, lifetimes.rng, lifetimes.episodes)
        if masked and "allowed" not in signature(learner.act).parameters:
            raise ValueError(f"{name}: it {UNMASKED}")
        _lock_step(lifetimes, learner, arrays)
    elif not np.isfinite(arrays["reward"]).all():
        n, e, t = np.argwhere(~np.isfinite(arrays["reward"]))[0]
        error = OutOfSpace(n, f"rewards must be finite, got {arrays['reward'][n, e, t]}")
        error.at = e * lifetimes.every, t
        raise error


def check_values(spec: EnvSpec, obs: np.ndarray, reward: np.ndarray) -> None:
    """Raise OutOfSpace for observations (N, *obs_shape) or rewards (N,) that cannot be.

    Observations must be finite, in their shape, and coordinates 0 to below `cardinality`. Takes
    about 6 us for any N.
    """
    shape, kind = (len(reward), *spec.obs_shape), obs.dtype.kind
    right = "biu" if spec.cardinality else "u" if spec.dtype == "uint8" else "fiu"
    if obs.shape != shape or kind not in right:
        found = f"{obs.dtype} of {obs.shape}"
        raise OutOfSpace(0, f"observations must be {spec.obs_dtype} of {shape}, got {found}")
    if spec.cardinality:
        inside = obs <= spec.greatest
        if not inside.all() or (kind == "i" and obs.min() < 0):
            _require("observations", obs, inside & (obs >= 0), f"0 to {spec.greatest.tolist()}")
    elif kind == "f" and not math.isfinite(obs.sum()):  # or it is large
        _require("observations", obs, np.isfinite(obs), "finite")
    if not math.isfinite(reward.sum()):
        _require("rewards", reward, np.isfinite(reward), "finite")


def _require(name: str, values: np.ndarray, right: np.ndarray, what: str) -> None:
    if not right.all():
        row = np.argwhere(~right)[0][0]
        raise OutOfSpace(row, f"{name} must be {what}, got {str(values[row])[:80]}")


def _empty(spec: EnvSpec, agent: Agent, n: int, episodes: int) -> dict[str, np.ndarray]:
    """Return arrays of zeros for n lifetimes, with the agent's labels if it has any."""
    labels = agent.labels(spec) if hasattr(agent, "labels") else {}
    if taken := sorted(TAKEN & set(labels)):
        raise ValueError(
            f"labels of {type(agent).__name__} are called {', '.join(taken)}, as arrays of all "
            "histories are; give them other names"
        )
    return spec.empty(n, episodes, labels)


def _lock_step(lifetimes: Lifetimes, learner: Learner, arrays: dict[str, np.ndarray]) -> None:
    """Take one step in every lifetime at a time; a lifetime begins its next episode at once.

    A lifetime that is done goes on without being recorded, until the last is done: no learner sees
    a row that stands still.
    """
    env, tasks, env_rng = lifetimes.env, lifetimes.tasks, lifetimes.env_rng
    episodes, every, spec = lifetimes.episodes, lifetimes.every, lifetimes.env.spec
    n, horizon = len(tasks), spec.horizon
    rows, episode, time, t = np.arange(n), np.zeros(n, int), np.zeros(n, int), 0
    state, obs = env.reset(tasks, env_rng.at(0))
    check_values(spec, obs, np.zeros(n))
    first = np.ones(n, bool)
    name = f"{type(learner).__name__} in {env.spec.name}"
    bar = progress(total=n * episodes, desc=name, unit="episode", delay=2)
    with bar, _watched(env, state, episode, time):
        while episode.min() < episodes:
            masks = (env.allowed_actions(state),) if hasattr(env, "allowed_actions") else ()
            action = learner.act(obs, first, *masks)
            labels = learner.labels() if hasattr(learner, "labels") else {}
            state, (next_obs, reward, terminated, truncated) = env.step(
                state, tasks, action, env_rng.at(t)
            )
            check_values(spec, next_obs, reward)
            masks = env.allowed_actions(state) if masks else None
            learner.update(Transition(obs, action, reward, terminated, truncated, next_obs, masks))
            done = terminated | truncated
            stored = stored_at(episode, every)
            kept = (episode < episodes) & (stored >= 0)
            i, e, s = rows[kept], stored[kept], time[kept]
            step = obs, action, reward, terminated, truncated
            for name, values in (dict(zip(PER_STEP, step, strict=True)) | labels).items():
                # an array of lifetimes (N,), of episodes (N, E) or of steps (N, E, H, ...)
                arrays[name][(i, e, s)[: arrays[name].ndim]] = values[kept]
            ended = kept & done
            arrays["final_obs"][rows[ended], stored[ended]] = next_obs[ended]
            bar.update(int((done & (episode < episodes)).sum()))
            t += 1
            episode += done
            time[:] = np.where(done, 0, time + 1)
            if (time >= horizon).any():
                raise ValueError(
                    f"{env.spec.name} let an episode run past its horizon of {horizon}; "
                    "`step` must truncate it"
                )
            state, obs = begin_episodes(env, state, next_obs, tasks, env_rng.at(t), done)
            first = done


@contextmanager
def _watched(env: Env, state, episode: np.ndarray, time: np.ndarray) -> Iterator[None]:
    """Say in errors where lifetimes are (N,), and close in the end what their state holds open."""
    try:
        yield
    except OutOfSpace as error:
        error.at = int(episode[error.row]), -1 if error.begins else int(time[error.row])
        raise
    finally:
        if hasattr(env, "end_lifetimes"):
            env.end_lifetimes(state)


def begin_episodes(env: Env, state, obs, tasks: Tasks, rng: Rng, rows, new_lifetime=False) -> tuple:
    """Begin an episode in `rows` (N,) bool; return the states and observations of all N."""
    if not rows.any():
        return state, obs
    # tables are found by the identity of `tasks`, so with tables all rows begin, and some are used
    asked = np.ones(len(rows), bool) if hasattr(env, "tables") else rows
    theirs, draws = tasks if asked.all() else tasks[asked], rng[asked]
    try:
        if new_lifetime or not hasattr(env, "next_episode"):
            fresh, fresh_obs = env.reset(theirs, draws)
        else:
            old = type(state)(*(x[asked] for x in state))
            fresh, fresh_obs = env.next_episode(old, theirs, draws)
        check_values(env.spec, fresh_obs, np.zeros(len(theirs)))
    except OutOfSpace as error:
        error.row, error.begins = int(np.flatnonzero(asked)[error.row]), True
        raise
    merged = [old.copy() for old in (*state, obs)]
    for old, new in zip(merged, (*fresh, fresh_obs), strict=True):
        old[rows] = new[rows[asked]]
    *values, obs = merged
    return type(state)(*values), obs
