"""Work in shards: spread over the workers of any executor, tried again where one is lost, in bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)

from tqdm.auto import tqdm

WORKERS, AHEAD = (
    4,
    2,
)  # where an executor does not say how many workers it has; shards in flight for each
OURS = (ValueError, TypeError, NotImplementedError)  # would come again
IMPORTS = (
    "Workers that are spawned import what they are sent: if they die at once, put classes of a notebook's own into a file, and "
    'what a script does below `if __name__ == "__main__":`. Else they were killed, most often because memory ran out.'
)


def workers(executor: Executor | None) -> int:
    """How many workers an executor has now, as far as it says so: pools do, and the clusters of Dask."""
    if client := getattr(executor, "_client", None):
        return max(WORKERS, sum(client.nthreads().values()))
    return getattr(executor, "_max_workers", None) or WORKERS


def spread(
    executor: Executor | None, work: Callable, jobs: Sequence[tuple], retries: int, label: str
) -> Iterator[tuple[int, object]]:
    """(number, result) of `work(*job)` for every job, as they end; none twice.

    A shard that fails is tried again up to `retries` times, unless its error would come again (ValueError and its like). When a
    worker dies, a process pool is beyond repair: what it held goes on in a new one of the same size. Any other executor that
    breaks for good raises its own error, and whatever was yielded is kept by whoever took it.
    """
    if executor is None:
        for i, job in enumerate(
            tqdm(jobs, desc=label, disable=None if len(jobs) > 1 else True, mininterval=0.5)
        ):
            yield i, work(*job)
        return
    tried, waiting, running, spare = [0] * len(jobs), list(range(len(jobs)))[::-1], {}, None
    try:
        with tqdm(total=len(jobs), desc=label, disable=None, mininterval=0.5) as progress:
            while waiting or running:
                while waiting and len(running) < AHEAD * workers(executor):
                    i = waiting.pop()
                    running[_submitted(executor, tried[i], work, jobs[i])] = i
                broken = False
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    i, error = running.pop(future), _error(future)
                    if error is None:
                        progress.update()
                        yield i, future.result()
                        continue
                    broken |= isinstance(error, BrokenExecutor)
                    tried[i] += 1
                    if isinstance(error, OURS) or tried[i] > retries:
                        if isinstance(error, BrokenExecutor):
                            error.add_note(IMPORTS)
                        raise error
                    logging.getLogger("adkit").warning(
                        "%s: shard %d failed (%r); trying it again.", label, i, error
                    )
                    waiting.append(i)
                if broken and isinstance(executor, ProcessPoolExecutor):
                    waiting += running.values()
                    running.clear()
                    if spare is not None:
                        spare.shutdown(wait=False, cancel_futures=True)
                    executor = spare = _like(executor)
    finally:
        for future in running:
            future.cancel()
        if spare is not None:
            spare.shutdown(wait=False, cancel_futures=True)


def _submitted(executor: Executor, tried: int, work: Callable, job: tuple) -> Future:
    """A future even where the executor is already known to be broken."""
    try:
        return executor.submit(_attempt, tried, work, job)
    except BrokenExecutor as error:
        failed: Future = Future()
        failed.set_exception(error)
        return failed


def _attempt(tried: int, work: Callable, job: tuple) -> object:
    """One try: Dask takes the same call for the same task, and would give the last try's error again."""
    return work(*job)


def _error(future: Future) -> BaseException | None:
    return CancelledError() if future.cancelled() else future.exception()


def _like(pool: ProcessPoolExecutor) -> ProcessPoolExecutor:
    """A new pool such as this was before it broke."""
    how = {
        "initializer": pool._initializer,
        "initargs": pool._initargs,
        "max_tasks_per_child": pool._max_tasks_per_child,
    }
    return ProcessPoolExecutor(pool._max_workers, pool._mp_context, **how)
