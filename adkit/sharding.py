"""Lifetimes in shards: kept on disk as they come, and spread over the workers of an executor."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adkit import folders, store
from adkit.histories import Histories

SHARD = 2**26  # most bytes of a shard
SHARDS = 16  # least number of shards, so that several workers share them
LASTING = ValueError, TypeError, NotImplementedError  # errors that a second try would raise again
IMPORTS = (
    "Spawned workers import what they are sent: move classes of a notebook into a file, and the "
    'body of a script below `if __name__ == "__main__":`. Otherwise memory may have run out.'
)


# ---- shards on disk ----


def number_of_shards(n: int, one: dict[str, np.ndarray], workers: int) -> int:
    """Return into how many shards to cut n lifetimes, from the arrays of one."""
    size = sum(values.nbytes for values in one.values())
    return min(n, max(SHARDS, 4 * workers, -(-n * size // SHARD)))


def joined(
    whole: Histories, one: dict[str, np.ndarray], n_shards: int, made: Callable
) -> Histories:
    """Return histories made of shards, in memory; `one` are the arrays of one lifetime."""
    shards = np.array_split(np.arange(len(whole)), n_shards)
    arrays = {name: values.repeat(len(whole), axis=0) for name, values in one.items()}
    for k, found in made(shards):
        for name, values in found.items():
            arrays[name][shards[k]] = values
    return replace(whole, arrays=arrays)


def saved(path: Path, whole: Histories, call: str, n_shards: int, made: Callable) -> Histories:
    """Save missing shards beside `path` as they are made; then join all of them at `path`."""
    if (done := _done(path, call)) is not None:
        return done
    parts = path.parent / f".{path.name}.shards"
    cut = (int(folder.name.split(".")[0]) for folder in parts.glob("[1-9]*.*"))
    n_shards = next(cut, n_shards)  # an interrupted call's shards are cut as they were
    shards = np.array_split(np.arange(len(whole)), n_shards)
    places = [parts / f"{n_shards}.{k}" for k in range(n_shards)]

    def read(k: int) -> dict[str, np.ndarray]:
        arrays, about = store.load(places[k], "shard")
        if about != {"call": call}:
            raise FileExistsError(f"{parts} holds shards of another call; remove it, or change out")
        return arrays

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
            replace(whole, task=whole.task[shards[k]], arrays=arrays).check()
            with suppress(FileExistsError):  # another process was first; what it made is read below
                store.save(places[k], "shard", arrays, {"call": call})
        about = {"spec": asdict(whole.spec), **whole.about, "call": call}
        arrays = {"parts": map(read, range(n_shards)), "rows": len(whole)}
        store.save(path, "histories", whole.identity(), about, **arrays)
    except (store.ArtefactError, OSError):
        if folders.vacant(path):  # else another process made the same meanwhile
            raise
    return _done(path, call)


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

    It covers numbers, text, classes and functions of modules (by name), arrays (by their bytes),
    networks (by their weights), collections, and dataclasses (by their fields). Raises ValueError
    for anything else.
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
        check_unedited(value)
        return [kind, repr(value), _described(value.state_dict())]
    if torch and isinstance(value, torch.Tensor):
        return [kind, _described(value.detach().cpu().double().numpy())]
    if is_dataclass(value):
        return [kind, [[f.name, _described(getattr(value, f.name))] for f in fields(value)]]
    if isinstance(value, partial):
        return [kind, _described([value.func, value.args, value.keywords])]
    if "<" not in (name := getattr(value, "__qualname__", "<")):  # a function of a module
        return [kind, f"{value.__module__}.{name}"]
    raise ValueError(
        f"with out=, histories are kept under a description of the call, and {kind} cannot be "
        "described; make it a frozen dataclass"
    )


def check_unedited(*values: object) -> None:
    """Raise ValueError if `edit` changes a network among the values."""
    torch = sys.modules.get("torch")
    networks = [value for value in values if torch and isinstance(value, torch.nn.Module)]
    parts = (part for network in networks for part in network.named_modules())
    if edited := [name for name, part in parts if getattr(part, "edits", None)]:
        raise ValueError(
            f"the model is being edited at {', '.join(edited)}, which no file and no other process "
            "would be told; collect without out=, and with no executor but threads"
        )


# ---- executors ----


def check_pool(pool: ProcessPoolExecutor, agent: object) -> None:
    """Raise ValueError unless the pool's processes can run the agent: torch hangs after a fork."""
    check_unedited(*vars(agent).values())
    context = getattr(pool, "_mp_context", None) or get_context()
    torch = sys.modules.get("torch")
    uses = torch and any(isinstance(value, torch.nn.Module) for value in vars(agent).values())
    uses = uses or hasattr(sys.modules[type(agent).__module__], "torch")
    if uses and context.get_start_method() == "fork":
        raise ValueError(
            "agents that compute with torch hang in forked processes; spawn them: "
            'ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))'
        )


def spread(
    executor: Executor | None, work: Callable, jobs: Sequence[tuple], retries: int, workers: int
) -> Iterator[tuple[int, object]]:
    """Yield (number, result) of `work(*job)` for every job, in the order in which they end.

    A job that fails is tried again, up to `retries` times, unless its error would be raised again
    (ValueError and its like). Once a worker of a process pool died, the pool takes no more jobs:
    the rest goes to a new pool of spawned workers. The error of any other broken one is raised.
    """
    if executor is None:
        results = ((i, work(*job)) for i, job in enumerate(jobs))
    else:
        results = _results(executor, work, jobs, retries, workers)
    yield from progress(results, total=len(jobs), desc="collect", unit="shard of lifetimes")


def _results(
    executor: Executor, work: Callable, jobs: Sequence[tuple], retries: int, workers: int
) -> Iterator[tuple[int, object]]:
    tries, waiting, running = [0] * len(jobs), list(range(len(jobs)))[::-1], {}
    pools = [executor]
    try:
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                i = waiting.pop()
                running[_submitted(pools[-1], tries[i], work, jobs[i])] = i
            broken = False
            for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                i = running.pop(future)
                error = futures.CancelledError() if future.cancelled() else future.exception()
                if error is None:
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
                pools.append(ProcessPoolExecutor(workers, get_context("spawn")))
    finally:
        for future in running:
            future.cancel()
        for pool in pools[1:]:
            pool.shutdown(wait=False, cancel_futures=True)


def _submitted(pool: Executor, tried: int, work: Callable, job: tuple) -> futures.Future:
    try:
        return pool.submit(_attempt, tried, work, job)
    except BrokenExecutor as error:
        future = futures.Future()
        future.set_exception(error)
        return future


def _attempt(tried: int, work: Callable, job: tuple) -> object:
    """Do a job. `tried` makes each try another call: Dask returns an equal call's last result."""
    return work(*job)


def progress(steps: Iterable | None = None, **how) -> tqdm:
    """Return a progress bar of text for a terminal or notebook; it goes when the work is done.

    A bar that is a widget would be an error message in a notebook reopened without its kernel.
    """
    shown = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(steps, disable=not shown, leave=False, mininterval=0.5, **how)
