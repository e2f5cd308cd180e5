"""The one loop: agents live on tasks, and what they did comes back as Histories.

Two drivers, one result: whole lifetimes compiled over tables where environment and agent both offer it, lock-step
batches otherwise. A test holds them to the same bytes. An agent whose loop is its own drives itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from adkit import artefacts, places
from adkit.histories import Histories
from adkit.protocols import (
    Agent,
    Env,
    EnvSpec,
    Labels,
    Learner,
    Lifetimes,
    Parts,
    Prepares,
    Simulates,
    Tasks,
    Transition,
    stored_at,
)
from adkit.seeds import Rng
from adkit.sharding import spread, workers

SHARD = 2**26  # bytes that a shard may have


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
    retries: int = 2,
    out: str | Path | None = None,
) -> Histories:
    """Let fresh learners live on every task and keep everything they do.

    Each task gets `lifetimes` independent learners of `episodes` episodes; with `every=k` only each k-th episode is
    kept, as `.subsample(k)` would. A lifetime's bytes depend on (seed, task id, its number) alone: not on the other
    lifetimes, on `driver` ("auto", "compiled" or "batched"), or on an `executor` that spreads the work. Only where a
    transformer acts is that true up to float32: how many lifetimes are computed at once changes its logits' last bits, which
    once in a long while is another action. Raises ValueError for empty tasks, non-positive counts, an agent that cannot serve
    the environment, and NaN rewards.

    `executor` is any of `concurrent.futures`, a Dask client's `get_executor()` included; shards that fail, or whose worker
    died, are tried again up to `retries` times. With `out`, shards are kept beside that path as they come, and the histories,
    saved there, are returned `mapped`: memory stays small, and the same call goes on where one that was killed left off;
    see `FrozenAgent`.
    """
    tasks = Tasks.of(tasks)
    for name, count in (
        ("tasks", len(tasks)),
        ("episodes", episodes),
        ("lifetimes", lifetimes),
        ("every", every),
    ):
        if count < 1:
            raise ValueError(f"{name}: {count} given; collect needs at least 1.")
    if isinstance(agent, type) or not (hasattr(agent, "start") or hasattr(agent, "simulate")):
        raise ValueError(
            f"agent={agent!r}; give one with its settings, such as ad.sources.QLearning()."
        )
    if driver not in ("auto", "compiled", "batched"):
        raise ValueError(f'driver={driver!r}; choose "auto", "compiled" or "batched".')
    if retries < 0:
        raise ValueError(f"retries={retries}; give 0 or more.")
    Rng.of(seed)  # says so if it is none
    about = {"env": repr(env), "agent": repr(agent), "seed": int(seed)}
    task, number = np.divmod(np.arange(len(tasks) * lifetimes), lifetimes)
    whole = Histories(env.spec, tasks, task, {}, np.arange(0, episodes, every), about)
    live = partial(_simulated, env, tasks, episodes=episodes, seed=seed, every=every, driver=driver)
    if executor is None and out is None:
        return _finite(replace(whole, arrays=live(agent, task, number)))
    if isinstance(executor, ProcessPoolExecutor) and hasattr(agent, "fingerprint"):
        agent.fingerprint()  # says so if its model is being edited
    part = agent.part if isinstance(agent, Parts) else lambda rows: agent
    n_shards = _shards(whole, agent, executor)
    made = lambda shards: spread(
        executor,
        live,
        [(part(rows), task[rows], number[rows]) for rows in shards],
        retries,
        "lifetimes",
    )
    if out is not None:
        return _kept(Path(out), whole, _call(whole, env, agent, episodes, every), n_shards, made)
    shards, arrays = np.array_split(np.arange(len(task)), n_shards), {}
    for i, lived in made(shards):
        for name, values in lived.items():
            if name not in arrays:
                arrays[name] = np.empty((len(task), *values.shape[1:]), values.dtype)
            arrays[name][shards[i]] = values
    return _finite(replace(whole, arrays=arrays))


def _shards(whole: Histories, agent: Agent, executor: Executor | None) -> int:
    """How many: enough for every worker to have several, and none that is large."""
    one = sum(values.nbytes for values in _empty(whole.spec, agent, 1, whole.n_episodes).values())
    return min(len(whole.task), max(4 * workers(executor), -(-len(whole.task) * one // SHARD)))


def _empty(spec: EnvSpec, agent: Agent, n: int, episodes: int) -> dict[str, np.ndarray]:
    """The arrays of n lifetimes to fill, with the agent's labels if it has any."""
    return spec.empty(n, episodes, agent.labels(spec) if isinstance(agent, Labels) else None)


def _finite(histories: Histories, rows: np.ndarray | None = None) -> Histories:
    """The histories, which are the lifetimes `rows` of all; ValueError where one was paid NaN or infinity."""
    reward = histories.arrays["reward"]
    if not np.isfinite(reward).all():
        n, e, t = np.argwhere(~np.isfinite(reward))[0]
        paid, lifetime = reward[n, e, t], n if rows is None else rows[n]
        raise ValueError(
            f"{histories.spec.name} paid {paid} in lifetime {lifetime}, episode {e}, step {t}; rewards must be finite."
        )
    return histories


def _kept(path: Path, whole: Histories, call: str, n_shards: int, made: Callable) -> Histories:
    """Shards into files beside `path` as they are made, those that are missing; then all of them into one artefact."""
    if (done := _done(path, call)) is not None:
        return done
    parts = path.parent / f".{path.name}.shards"
    n_shards = next(
        (int(saved.name.split(".")[0]) for saved in parts.glob("[1-9]*.*")), n_shards
    )  # as they were cut before
    shards = np.array_split(np.arange(len(whole.task)), n_shards)
    saved = [parts / f"{n_shards}.{k}" for k in range(n_shards)]

    def read(k: int) -> Histories:
        files, about = artefacts.load(saved[k], "shard")
        if about != {"call": call}:
            raise FileExistsError(
                f"{parts} holds shards of another call; remove it, or collect into another folder than {path}."
            )
        arrays = {name.removesuffix(".npy"): values for name, values in files.items()}
        return replace(whole, task=whole.task[shards[k]], arrays=arrays)

    missing = []
    for k in range(n_shards):
        try:
            read(k)
        except (artefacts.ArtefactError, FileNotFoundError):  # damaged, or never lived
            shutil.rmtree(saved[k], ignore_errors=True)
            missing.append(k)
    try:
        for i, lived in made([shards[k] for k in missing]):
            k = missing[i]
            _finite(replace(whole, task=whole.task[shards[k]], arrays=lived), shards[k])
            artefacts.save(
                saved[k],
                "shard",
                {f"{name}.npy": values for name, values in lived.items()},
                {"call": call},
            )
        Histories.assemble(
            path, map(read, range(n_shards)), replace(whole, about=whole.about | {"call": call})
        )
    except (artefacts.ArtefactError, OSError):
        if (done := _done(path, call)) is None:  # else another process has made the same meanwhile
            raise
        return done
    shutil.rmtree(parts, ignore_errors=True)
    return Histories.load(path, mapped=True)


def _done(path: Path, call: str) -> Histories | None:
    """What this call has put at `path` before; FileExistsError if something else is there."""
    places.recover(path)
    if places.vacant(path):
        return None
    done = Histories.load(path, mapped=True)
    if done.about.get("call") != call:
        raise FileExistsError(f"{path} already holds other histories; collect into another folder.")
    shutil.rmtree(path.parent / f".{path.name}.shards", ignore_errors=True)
    return done


def _call(whole: Histories, env: Env, agent: Agent, episodes: int, every: int) -> str:
    """What tells this call's lifetimes from those of another: a hash of all that they depend on, whatever the process."""
    with np.printoptions(threshold=sys.maxsize, floatmode="unique"):  # of arrays, every number
        about = whole.about | {"env": repr(env), "agent": repr(agent)}
    for name in ("env", "agent"):
        if " at 0x" in about[name]:
            raise ValueError(
                f"out= keeps what this call lived under a description of it, and {name} {about[name][:1000]!r} does not say what "
                "it is made of; give its class a __repr__ that does (a dataclass has one)."
            )
    torch = sys.modules.get("torch")  # whoever holds a network has imported it
    if torch and is_dataclass(agent) and not hasattr(agent, "fingerprint"):
        held = [
            field.name
            for field in fields(agent)
            if isinstance(getattr(agent, field.name), torch.nn.Module | torch.Tensor)
        ]
        if held:
            raise ValueError(
                f"out= keeps what this call lived under a description of it, which leaves out the weights in {', '.join(held)} of "
                f"{type(agent).__name__}; give it a method fingerprint(), a hash of them: see protocols.FrozenAgent."
            )
    columns = {name: values.tolist() for name, values in whole.task_values.columns.items()}
    told = [
        repr(whole.spec),
        columns,
        whole.task_values.ids.tolist(),
        whole.task.tolist(),
        episodes,
        every,
    ]
    weights = agent.fingerprint() if hasattr(agent, "fingerprint") else ""
    return hashlib.sha256(json.dumps([told, about, weights]).encode()).hexdigest()


def _simulated(
    env, tasks, agent, task, number, *, episodes, seed, every, driver
) -> dict[str, np.ndarray]:
    """Return the arrays of lifetimes `number` (N,) on `task` (N,), by whichever driver fits."""
    mine = tasks[task]
    rng, env_rng = (Rng.of(seed, purpose, mine.ids, number) for purpose in ("agent", "env"))
    lifetimes = Lifetimes(env, mine, rng, env_rng, episodes, every)
    if isinstance(agent, Prepares):
        agent, mine = agent.prepare(lifetimes)
        lifetimes = replace(lifetimes, tasks=mine)
    arrays = _empty(env.spec, agent, len(mine), len(range(0, episodes, every)))
    if driver != "batched" and isinstance(agent, Simulates) and agent.simulate(lifetimes, arrays):
        return arrays
    name = f"{type(agent).__name__} on {env.spec.name}"
    if driver == "compiled":
        raise ValueError(
            f"{name} has no compiled driver: it needs env.tables and agent.simulate; "
            'try driver="auto"'
        )
    if not hasattr(agent, "start"):
        raise ValueError(f'{name} runs its own loop and has no learners; try driver="auto"')
    _lock_step(lifetimes, agent.start(env.spec, rng, episodes), arrays)
    return arrays


def _lock_step(lifetimes: Lifetimes, learner: Learner, arrays: dict[str, np.ndarray]) -> None:
    """Take one step in every lifetime at a time; a lifetime begins its next episode at once.

    A lifetime that is done goes on without being recorded, until the last is done: no learner sees
    a row that stands still.
    """
    env, tasks, env_rng = lifetimes.env, lifetimes.tasks, lifetimes.env_rng
    episodes, every = lifetimes.episodes, lifetimes.every
    n, horizon = len(tasks), env.spec.horizon
    rows, episode, time, t = np.arange(n), np.zeros(n, int), np.zeros(n, int), 0
    state, obs = env.reset(tasks, env_rng.at(0))
    first = np.ones(n, bool)
    with tqdm(
        total=n * episodes, desc="episodes", disable=None, delay=2, mininterval=0.5
    ) as progress:
        while episode.min() < episodes:
            action = learner.act(obs, first)
            labels = learner.labels() if hasattr(learner, "labels") else {}
            state, (next_obs, reward, terminated, truncated) = env.step(
                state, tasks, action, env_rng.at(t)
            )
            learner.update(Transition(obs, action, reward, terminated, truncated, next_obs))
            done = terminated | truncated
            stored = stored_at(episode, every)
            kept = (episode < episodes) & (stored >= 0)
            i, e, s = rows[kept], stored[kept], time[kept]
            now = {
                "obs": obs,
                "action": action,
                "reward": reward,
                "terminated": terminated,
                "truncated": truncated,
            }
            for name, values in (
                now | labels
            ).items():  # of a lifetime, (N,), of an episode, (N, E), or of a step
                arrays[name][(i, e, s)[: arrays[name].ndim]] = values[kept]
            ended = kept & done
            arrays["final_obs"][rows[ended], stored[ended]] = next_obs[ended]
            progress.update(int((done & (episode < episodes)).sum()))
            t += 1
            episode, time = episode + done, np.where(done, 0, time + 1)
            if (time >= horizon).any():
                raise ValueError(
                    f"{env.spec.name} let an episode run past its horizon of {horizon}; its step must truncate."
                )
            obs, first = next_obs, done
            if not done.any():
                continue
            # a whole reset is cheap where tables are, and they are found by the tasks object: do not cut it up
            asked = np.ones(n, bool) if hasattr(env, "tables") else done
            theirs, draws = tasks if asked.all() else tasks[asked], env_rng.at(t)[asked]
            if hasattr(env, "next_episode"):
                fresh, fresh_obs = env.next_episode(
                    type(state)(*(values[asked] for values in state)), theirs, draws
                )
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
