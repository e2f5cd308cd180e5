"""The one loop: agents live on tasks, and what they did comes back as Histories.

Two drivers, one result: whole lifetimes compiled over tables where environment and agent both offer it, lock-step
batches otherwise. A test holds them to the same bytes. An agent whose loop is its own drives itself.
"""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
from tqdm.auto import tqdm

from adkit.histories import Histories
from adkit.protocols import Agent, Env, Learner, Tasks, Transition
from adkit.seeds import Rng
from adkit.tables import of_rows, trace, unroll


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
) -> Histories:
    """Let fresh learners live on every task and keep everything they do.

    Each task gets `lifetimes` independent learners of `episodes` episodes; with `every=k` only each k-th episode is
    kept, as `.subsample(k)` would. A lifetime's bytes depend on (seed, task id, its number) alone: not on the other
    lifetimes, on `driver` ("auto", "compiled" or "batched"), or on an `executor` that spreads the work. Raises
    ValueError for empty tasks, non-positive counts, an agent that cannot serve the environment, and NaN rewards.
    """
    tasks = Tasks.of(tasks)
    for name, count in (("tasks", len(tasks)), ("episodes", episodes), ("lifetimes", lifetimes), ("every", every)):
        if count < 1:
            raise ValueError(f"{name}: {count} given; collect needs at least 1.")
    if driver not in ("auto", "compiled", "batched"):
        raise ValueError(f'driver={driver!r}; choose "auto", "compiled" or "batched".')
    about = {"env": repr(env), "agent": repr(agent), "seed": seed}
    task, number = np.divmod(np.arange(len(tasks) * lifetimes), lifetimes)
    if executor is None:
        arrays = _live(env, tasks, agent, task, number, episodes, seed, every, driver)
    else:
        shards = np.array_split(np.arange(len(task)), min(len(task), 4 * (getattr(executor, "_max_workers", None) or 4)))
        part = getattr(agent, "part", lambda rows: agent)  # an agent that holds something for each lifetime
        futures = [executor.submit(_live, env, tasks, part(i), task[i], number[i], episodes, seed, every, driver) for i in shards]
        parts = [future.result() for future in tqdm(futures, desc="lifetimes", disable=None, mininterval=0.5)]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if not np.isfinite(arrays["reward"]).all():
        n, e, t = np.argwhere(~np.isfinite(arrays["reward"]))[0]
        raise ValueError(
            f"{env.spec.name} paid {arrays['reward'][n, e, t]} in lifetime {n}, episode {e}, step {t}; rewards must be finite."
        )
    return Histories(env.spec, tasks, task, arrays, np.arange(0, episodes, every), about)


def _live(env, tasks, agent, task, number, episodes, seed, every, driver) -> dict[str, np.ndarray]:
    """The arrays of lifetimes `number` (N,) on `task` (N,), by whichever driver fits."""
    mine = tasks[task]
    rng, env_rng = (Rng.of(seed, purpose, mine.ids, number) for purpose in ("agent", "env"))
    if hasattr(agent, "settle"):
        mine = agent.settle(env, mine, rng, env_rng, episodes)
    if hasattr(agent, "informed"):
        agent = agent.informed(env, mine)
    over_tables, own = hasattr(env, "tables") and hasattr(agent, "live"), hasattr(agent, "drives") and agent.drives(env)
    if driver == "compiled" and not (over_tables or own):
        raise ValueError(f"{type(agent).__name__} on {env.spec.name} has no compiled driver; it needs env.tables and agent.live.")
    if driver == "batched" and not hasattr(agent, "start"):
        raise ValueError(f'{type(agent).__name__} runs its own loop and has no learners to batch; use driver="auto".')
    if driver != "batched" and own:
        return agent.drive(env, mine, rng, env_rng, episodes, every)
    arrays = env.spec.empty(len(mine), -(-episodes // every), agent.labels(env.spec) if hasattr(agent, "labels") else None)
    if driver != "batched" and over_tables:
        table, row = of_rows(env, mine)
        lived = trace(table, len(mine), env.spec.horizon, episodes, every)
        agent.live(env.spec, table, row, rng, env_rng, lived)
        unroll(table, row, lived, arrays)
    else:
        _lock_step(env, mine, agent.start(env.spec, rng), env_rng, episodes, every, arrays)
    return arrays


def _lock_step(env: Env, tasks: Tasks, learner: Learner, env_rng: Rng, episodes: int, every: int, arrays: dict) -> None:
    """Every lifetime takes one step at a time and opens its next episode at once; the early ones wait for the last.

    A lifetime that is done goes on living unrecorded, so that no learner ever sees a row that stands still.
    """
    n, horizon = len(tasks), env.spec.horizon
    rows, episode, time, t = np.arange(n), np.zeros(n, int), np.zeros(n, int), 0
    state, obs = env.reset(tasks, env_rng.at(0))
    first = np.ones(n, bool)
    with tqdm(total=n * episodes, desc="episodes", disable=None, delay=2, mininterval=0.5) as progress:
        while episode.min() < episodes:
            action = learner.act(obs, first)
            labels = learner.labels() if hasattr(learner, "labels") else {}
            state, (next_obs, reward, terminated, truncated) = env.step(state, tasks, action, env_rng.at(t))
            learner.update(Transition(obs, action, reward, terminated, truncated, next_obs))
            done = terminated | truncated
            kept = (episode < episodes) & (episode % every == 0)
            i, e, s = rows[kept], episode[kept] // every, time[kept]
            now = {"obs": obs, "action": action, "reward": reward, "terminated": terminated, "truncated": truncated}
            for name, values in (now | labels).items():  # of a lifetime, (N,), of an episode, (N, E), or of a step
                arrays[name][(i, e, s)[: arrays[name].ndim]] = values[kept]
            ended = kept & done
            arrays["final_obs"][rows[ended], episode[ended] // every] = next_obs[ended]
            progress.update(int((done & (episode < episodes)).sum()))
            t += 1
            episode, time = episode + done, np.where(done, 0, time + 1)
            if (time >= horizon).any():
                raise ValueError(f"{env.spec.name} let an episode run past its horizon of {horizon}; its step must truncate.")
            obs, first = next_obs, done
            if not done.any():
                continue
            # a whole reset is cheap where tables are, and they are found by the tasks object: do not cut it up
            asked = np.ones(n, bool) if hasattr(env, "tables") else done
            theirs, draws = tasks if asked.all() else tasks[asked], env_rng.at(t)[asked]
            if hasattr(env, "next_episode"):
                fresh, fresh_obs = env.next_episode(type(state)(*(values[asked] for values in state)), theirs, draws)
            else:
                fresh, fresh_obs = env.reset(theirs, draws)
            state = _merge(state, [values[done[asked]] for values in fresh], done)
            obs = next_obs.copy()
            obs[done] = fresh_obs[done[asked]]


def _merge(state, fresh, done):
    """`state` with the rows in `done` replaced by `fresh`: states are tuples of arrays, one row per lifetime."""
    merged = [old.copy() for old in state]
    for old, new in zip(merged, fresh, strict=True):
        old[done] = new
    return type(state)(*merged)
