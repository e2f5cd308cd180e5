"""A job of half a minute on a Dask cluster of two processes with a thread each, against two threads
of this process.

The source is compiled Q-learning in the Dark Room, the quickest that there is, so that sending back
what was lived weighs most: of 500 episodes every hundredth is kept, about 7 MB for each second of
work. `ADKIT_DASK_SECONDS=3` makes it a job of 3 seconds.
"""

from __future__ import annotations

import os
import time
from functools import partial
from unittest import mock

import numpy as np
import pytest
from measure import bound, note, say

import adkit as ad

SECONDS = float(os.environ.get("ADKIT_DASK_SECONDS", 35))
ENV = ad.envs.DarkRoom()
EPISODES, EVERY = 500, 100
CORES = sorted(os.sched_getaffinity(0))[:2] if hasattr(os, "sched_setaffinity") else []


def collected(lifetimes: int, executor=None) -> tuple[float, ad.Histories]:
    """Seconds, and what was lived, by so many lifetimes on each of the 81 tasks."""
    began = time.perf_counter()
    lives = ad.collect(
        ENV,
        ENV.tasks(),
        ad.sources.QLearning(),
        episodes=EPISODES,
        lifetimes=lifetimes,
        every=EVERY,
        executor=executor,
    )
    return time.perf_counter() - began, lives


@pytest.fixture
def two_cores():
    """This thread, and what it starts, on two cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES)
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture
def pool(two_cores, tmp_path):
    """The executor of a cluster whose workers have begun, each on a core of its own: a worker's
    lifetimes use all its cores.
    """
    import distributed

    settings = {
        "threads_per_worker": 1,
        "dashboard_address": None,
        "local_directory": str(tmp_path),
    }
    with (
        mock.patch.dict(
            os.environ
        ),  # where Dask leaves OMP_NUM_THREADS=1, for whatever is measured after this
        distributed.LocalCluster(2, **settings) as cluster,
        distributed.Client(cluster) as client,
    ):
        for worker, core in zip(client.nthreads(), CORES, strict=True):
            client.run(
                os.sched_setaffinity, 0, {core}, workers=[worker]
            )  # before its thread is there, which inherits it
            assert client.submit(
                os.sched_getaffinity, 0, workers=[worker], pure=False
            ).result() == {core}
        yield client.get_executor()


@pytest.mark.skipif(len(CORES) < 2, reason="two cores to choose are needed")
def test_a_cluster_of_two_processes_against_two_threads(pool):
    for executor in (None, pool):
        collected(8, executor)  # what is compiled is loaded everywhere
    few = max(8, min(100, int(3 * SECONDS)))
    lifetimes = max(8, round(few * SECONDS / min(collected(few)[0] for _ in range(3))))
    ways = {
        "threads": partial(collected, lifetimes),
        "cluster": partial(collected, lifetimes, pool),
    }
    turns, reference = [], None
    for turn in range(3):
        done = {
            way: ways[way]() for way in sorted(ways, reverse=turn % 2 == 0)
        }  # turns at going first, too
        turns.append({way: seconds for way, (seconds, _) in done.items()})
        reference = reference or done["threads"][1]
        for _, lives in done.values():
            assert all(
                np.array_equal(values, lives.arrays[name])
                for name, values in reference.arrays.items()
            ), "not bit-identical"
    size = sum(values.nbytes for values in reference.arrays.values())
    say(
        f"{len(reference):,} lifetimes of {EPISODES} episodes, "
        f"of which {size / 1e6:,.0f} MB come back"
    )
    note(
        f"collecting a job of {SECONDS:g} s, two threads",
        [turn["threads"] for turn in turns],
        " s",
        less=True,
    )
    ratios = [turn["cluster"] / turn["threads"] for turn in turns]
    bound(f"collecting a job of {SECONDS:g} s, Dask, two processes", ratios, "times as long", 1.3)
