"""Lifetimes in shards: kept on disk as they come, and spread over the workers of an executor."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import fields, is_dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from adkit import folders, store
from adkit.histories import Histories
from adkit.protocols import Agent

SHARD = 2**26  # most bytes of a shard
SHARDS = 16  # least number of shards, so that several workers share them
LASTING = ValueError, TypeError, NotImplementedError  # errors that a second try would raise again
IMPORTS = (
    "Spawned workers import what they are sent: if they die at once, move classes of a notebook "
    'into a file, and the body of a script below `if __name__ == "__main__":`. Otherwise they '
    "were killed, most often because memory ran out."
)


def finite(histories: Histories, rows: np.ndarray | None = None) -> Histories:
    """Return the histories, the lifetimes `rows` of all; ValueError if a reward is not finite."""
    reward = histories.arrays["reward"]
    if not np.isfinite(reward).all():
        n, e, t = np.argwhere(~np.isfinite(reward))[0]
        lifetime = n if rows is None else rows[n]
        raise ValueError(
            f"rewards must be finite, got {reward[n, e, t]} from {histories.spec.name} in lifetime "
            f"{lifetime}, episode {e}, step {t}"
        )
    return histories


# ---- shards on disk ----


def number_of_shards(n: int, size: int, workers: int) -> int:
    """Return into how many shards to cut n lifetimes of `size` bytes each."""
    return min(n, max(SHARDS, 4 * workers, -(-n * size // SHARD)))


def joined(whole: Histories, n_shards: int, made: Callable) -> Histories:
    """Return histories made of shards, in memory."""
    shards, arrays = np.array_split(np.arange(len(whole.task)), n_shards), {}
    for i, found in made(shards):
        for name, values in found.items():
            if name not in arrays:
                arrays[name] = np.empty((len(whole.task), *values.shape[1:]), values.dtype)
            arrays[name][shards[i]] = values
    return replace(whole, arrays=arrays)


def saved(path: Path, whole: Histories, call: str, n_shards: int, made: Callable) -> Histories:
    """Save missing shards beside `path` as they are made; then join all of them at `path`."""
    if (done := _done(path, call)) is not None:
        return done
    parts = path.parent / f".{path.name}.shards"
    cut = (int(folder.name.split(".")[0]) for folder in parts.glob("[1-9]*.*"))
    n_shards = next(cut, n_shards)  # an interrupted call's shards are cut as they were
    shards = np.array_split(np.arange(len(whole.task)), n_shards)
    places = [parts / f"{n_shards}.{k}" for k in range(n_shards)]

    def read(k: int) -> Histories:
        arrays, about = store.load(places[k], "shard")
        if about != {"call": call}:
            raise FileExistsError(f"{parts} holds shards of another call; remove it, or change out")
        return replace(whole, task=whole.task[shards[k]], arrays=arrays)

    missing = []
    for k in range(n_shards):
        try:
            read(k)
        except (store.ArtefactError, FileNotFoundError):  # damaged, or not made yet
            shutil.rmtree(places[k], ignore_errors=True)
            missing.append(k)
    try:
        for i, arrays in made([shards[k] for k in missing]):
            k = missing[i]
            finite(replace(whole, task=whole.task[shards[k]], arrays=arrays), shards[k])
            store.save(places[k], "shard", arrays, {"call": call})
        about = whole.about | {"call": call}
        Histories.assemble(path, map(read, range(n_shards)), replace(whole, about=about))
    except (store.ArtefactError, OSError):
        if (done := _done(path, call)) is None:  # else another process made the same meanwhile
            raise
        return done
    shutil.rmtree(parts, ignore_errors=True)
    return Histories.load(path, mapped=True)


def _done(path: Path, call: str) -> Histories | None:
    """Return what this call saved at `path` before; FileExistsError if something else is there."""
    folders.recover(path)
    if folders.vacant(path):
        return None
    done = Histories.load(path, mapped=True)
    if done.about.get("call") != call:
        raise FileExistsError(
            f"{path} holds other histories, or those of an earlier version; collect into another "
            "folder, or load them"
        )
    shutil.rmtree(path.parent / f".{path.name}.shards", ignore_errors=True)
    return done


# ---- the identity of a call ----


def digest(value: object) -> str:
    """Return a hash of a value's content, the same in every process.

    It covers numbers, text, classes, arrays (by their bytes), networks (by `fingerprint`),
    collections, and dataclasses (by their fields). Raises ValueError for anything else.
    """
    return hashlib.sha256(json.dumps(_described(value)).encode()).hexdigest()


def _described(value: object) -> object:
    """Return nested lists of text that say what a value consists of."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return repr(value)
    if isinstance(value, type):
        return [kind, f"{value.__module__}.{value.__qualname__}"]
    if isinstance(value, np.ndarray) and value.dtype != object:
        data = hashlib.sha256(np.ascontiguousarray(value)).hexdigest()
        return [kind, value.dtype.str, value.shape, data]
    if isinstance(value, Mapping):
        return [kind, [[_described(key), _described(item)] for key, item in value.items()]]
    if isinstance(value, tuple | list):
        return [kind, [_described(item) for item in value]]
    torch = sys.modules.get("torch")  # imported by whoever holds a network
    if torch and isinstance(value, torch.nn.Module):
        return [kind, repr(value), fingerprint(value)]
    if torch and isinstance(value, torch.Tensor):
        return [kind, _described(value.detach().cpu().numpy())]
    if is_dataclass(value):
        return [kind, [[f.name, _described(getattr(value, f.name))] for f in fields(value)]]
    raise ValueError(
        f"with out=, histories are kept under a description of the call, and {kind} cannot be "
        "described; make it a frozen dataclass"
    )


def check_unedited(agent: Agent) -> None:
    """Raise ValueError if `edit` changes a network of the agent, unseen by other processes."""
    torch = sys.modules.get("torch")
    for value in vars(agent).values() if torch else ():
        if isinstance(value, torch.nn.Module):
            fingerprint(value)


def fingerprint(network, *arrays: np.ndarray) -> str:
    """Return a hash of a network's weights, and of arrays beside them.

    Raises ValueError while `edit` changes what the network does with them.
    """
    edited = [name for name, part in network.named_modules() if getattr(part, "observers", 0)]
    if edited:
        raise ValueError(
            f"the model is being edited at {', '.join(edited)}, which no file and no other process "
            "would be told; collect without out=, and with no executor but threads"
        )
    digest = hashlib.sha256()
    for values in network.state_dict().values():
        digest.update(values.cpu().contiguous().flatten().view(sys.modules["torch"].uint8).numpy())
    for values in arrays:
        digest.update(np.ascontiguousarray(values))
    return digest.hexdigest()


# ---- executors ----


def spread(
    executor: Executor | None, work: Callable, jobs: Sequence[tuple], retries: int, workers: int
) -> Iterator[tuple[int, object]]:
    """Yield (number, result) of `work(*job)` for every job, in the order in which they end.

    A job that fails is tried again, up to `retries` times, unless its error would be raised again
    (ValueError and its like). Once a worker of a process pool died, the pool takes no more jobs:
    the rest goes to a new pool of spawned workers. The error of any other broken one is raised.
    """
    with tqdm(total=len(jobs), desc="lifetimes", disable=None, mininterval=0.5) as progress:
        if executor is None:
            for i, job in enumerate(jobs):
                yield i, work(*job)
                progress.update()
            return
        tries, waiting, running, spare = [0] * len(jobs), list(range(len(jobs)))[::-1], {}, None
        try:
            while waiting or running:
                while waiting and len(running) < 2 * workers:
                    i = waiting.pop()
                    try:
                        future = (spare or executor).submit(_attempt, tries[i], work, jobs[i])
                    except BrokenExecutor as error:
                        future = Future()
                        future.set_exception(error)
                    running[future] = i
                broken = False
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    i = running.pop(future)
                    error = CancelledError() if future.cancelled() else future.exception()
                    if error is None:
                        progress.update()
                        yield i, future.result()
                        continue
                    broken |= isinstance(error, BrokenExecutor)
                    tries[i] += 1
                    if isinstance(error, LASTING) or tries[i] > retries:
                        if isinstance(error, BrokenExecutor):
                            error.add_note(IMPORTS)
                        raise error
                    logging.getLogger("adkit").warning("shard %d failed (%r): again", i, error)
                    waiting.append(i)
                if broken and isinstance(executor, ProcessPoolExecutor):
                    waiting += running.values()
                    running.clear()
                    if spare is not None:
                        spare.shutdown(wait=False, cancel_futures=True)
                    spare = ProcessPoolExecutor(workers, get_context("spawn"))
        finally:
            for future in running:
                future.cancel()
            if spare is not None:
                spare.shutdown(wait=False, cancel_futures=True)


def _attempt(tried: int, work: Callable, job: tuple) -> object:
    """Do a job. `tried` makes each try another call: Dask returns an equal call's last result."""
    return work(*job)
