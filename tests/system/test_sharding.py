"""Lifetimes in shards: the same bytes from any executor, also when workers die; resumed calls."""

import os
import signal
import threading
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from harm import Hang, no_longer_than
from helpers import listed, same, scrambled

import adkit as ad
from adkit import rollout, store

ENV = ad.envs.DarkRoom(size=4, horizon=6)
TASKS = ENV.tasks()[:12]
SPAWN = get_context("spawn")


def collected(agent=None, **how):
    how = {"episodes": 5, "lifetimes": 3, "seed": 4} | how
    return ad.collect(ENV, TASKS, agent or ad.sources.QLearning(), **how)


@dataclass(frozen=True)
class Mortal(ad.sources.QLearning):
    """A source that once kills its worker, or fails; the file marks that this has happened."""

    file: str = ""
    how: str = "die"

    def simulate(self, *arguments):
        if not Path(self.file).exists():
            Path(self.file).touch()
            if self.how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError("the disk was away") if self.how == "fail" else ValueError("never")
        return super().simulate(*arguments)


def test_shards_are_put_together_in_order(tmp_path):
    whole = collected()
    (tmp_path / "here").mkdir()  # an empty folder is nothing yet
    with ThreadPoolExecutor(3) as pool:
        for name, executor in {"here": None, "threads": pool}.items():
            found = collected(executor=executor, out=tmp_path / name, seed=np.int64(4))
            assert same(whole, found) and found.tasks.equals(whole.tasks)
            assert not found.arrays["obs"].flags.writeable
        assert same(whole, collected(executor=pool))
    assert listed(tmp_path) == ["here", "threads"]
    whole.save(tmp_path / "saved")
    for name in ("obs.npy", "reward.npy", "task.npy", "tasks.goal.npy"):
        assert (tmp_path / "saved" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


# ---- the identity of a call ----


@dataclass(frozen=True)
class Holds(ad.sources.Random):
    """A source that holds something."""

    value: object = None


def numbers(change: float) -> Holds:
    return Holds(np.where(np.arange(2000) == 1000, change, 0.0))


def transformer(seed: int = 0) -> ad.CausalTransformer:
    how = {"context": 18, "layers": 1, "heads": 1, "width": 8}
    return ad.CausalTransformer(ENV.spec, **how, seed=seed)


@pytest.mark.parametrize(
    ("call", "other"),
    [
        (lambda: {}, {"seed": 5}),
        (lambda: {}, {"episodes": 6}),
        (lambda: {"every": 2}, {}),
        (lambda: {}, {"agent": ad.sources.Random()}),
        (lambda: {"agent": numbers(0.0)}, {"agent": numbers(1e-12)}),
        (lambda: {"agent": Holds(transformer())}, {"agent": Holds(scrambled(transformer()))}),
        (lambda: {"agent": ad.InContext(transformer())}, {"agent": ad.InContext(transformer(1))}),
    ],
)
def test_a_finished_call_is_not_repeated_and_another_is_refused(tmp_path, call, other):
    out = tmp_path / "histories"
    before = collected(**call(), out=out)
    stamp = (out / "manifest.json").stat().st_mtime_ns
    assert same(before, collected(**call(), out=out))
    assert (out / "manifest.json").stat().st_mtime_ns == stamp
    with pytest.raises(FileExistsError, match="holds other histories"):
        collected(**other, out=out)


def test_an_agent_that_cannot_be_described_keeps_nothing(tmp_path):
    with pytest.raises(ValueError, match="_thread.lock cannot be described; make it a frozen"):
        collected(Holds(threading.Lock()), out=tmp_path / "histories")


def test_an_edit_is_told_to_no_file_and_to_no_other_process(tmp_path):
    model = transformer()
    with ad.edit(model, {"blocks.0.resid": lambda resid: 0 * resid}):
        with pytest.raises(ValueError, match=r"edited at blocks\.0\.resid, .* without out="):
            collected(ad.InContext(model), out=tmp_path / "ablated")
        with (
            ProcessPoolExecutor(1, SPAWN) as pool,
            pytest.raises(ValueError, match="no other process .* no executor but threads"),
        ):
            collected(ad.InContext(model), executor=pool)
        with ThreadPoolExecutor(1) as pool:
            agent = ad.InContext(model)
            assert same(collected(agent), collected(agent, executor=pool))


@pytest.mark.parametrize("agent", [ad.sources.StableBaselines3("A2C"), Holds(1)])
def test_torch_is_not_forked(agent):
    agent = Holds(transformer()) if isinstance(agent, Holds) else agent
    with (
        ProcessPoolExecutor(1, get_context("fork")) as pool,
        pytest.raises(ValueError, match=r"hang in forked processes; spawn them: .*\"spawn\""),
    ):
        collected(agent, executor=pool)


# ---- calls that stopped ----


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """Return a path where a call left six of sixteen shards, and the sizes of later shards."""
    made, real = [], rollout._simulated

    def counted(env, tasks, agent, task, number, **how):
        if len(made) == 6:
            raise KeyboardInterrupt
        made.append(len(task))
        return real(env, tasks, agent, task, number, **how)

    monkeypatch.setattr(rollout, "_simulated", counted)
    with pytest.raises(KeyboardInterrupt):
        collected(out=tmp_path / "histories")
    made[:] = [None] * 7  # it stops no more
    yield tmp_path / "histories", lambda: len(made) - 7


def test_a_call_that_stopped_goes_on_where_it_stopped(stopped):
    out, made = stopped
    assert not out.exists() and len(list(out.parent.glob(".histories.shards/1*"))) == 6
    with pytest.raises(FileExistsError, match="holds shards of another call; remove it"):
        collected(out=out, seed=9)
    shard = out.parent / ".histories.shards" / "16.3"
    (shard / "reward.npy").write_bytes((shard / "reward.npy").read_bytes()[:-1])
    with ThreadPoolExecutor(5) as pool:  # however many go on with it
        found = collected(out=out, executor=pool, workers=9)
    assert made() == 10 + 1, "what is damaged is made again"
    assert same(found, collected()) and listed(out.parent) == ["histories"]


def test_another_process_with_the_same_call_may_be_first(stopped, monkeypatch):
    """It puts the shards together and removes them while this one still runs."""
    out, _ = stopped
    save = store.save

    def late(path, kind, *given, **how):
        if kind == "histories":
            monkeypatch.setattr(store, "save", save)
            collected(out=out)
        return save(path, kind, *given, **how)

    monkeypatch.setattr(store, "save", late)
    assert same(collected(out=out), collected())
    assert store.save is save and listed(out.parent) == ["histories"]


def test_an_interrupt_stops_compiled_lifetimes_soon():
    env = ad.envs.DarkRoom()
    call = lambda: ad.collect(
        env, env.tasks(), ad.sources.QLearning(), episodes=2000, lifetimes=500, every=2000
    )
    ad.collect(env, env.tasks()[:1], ad.sources.QLearning(), episodes=1)  # compiled
    began = time.monotonic()
    with pytest.raises(Hang), no_longer_than(1):
        call()
    assert time.monotonic() - began < 3


# ---- workers that die ----


def test_a_shard_whose_worker_is_lost_is_made_again(tmp_path):
    with ProcessPoolExecutor(2, SPAWN) as pool:
        for how in ("fail", "die"):
            found = collected(Mortal(file=str(tmp_path / how), how=how), executor=pool)
            assert (tmp_path / how).exists() and same(collected(), found)


def test_an_error_that_would_come_again_is_raised_at_once(tmp_path):
    with ProcessPoolExecutor(1, SPAWN) as pool:
        with pytest.raises(ValueError, match="never"):
            collected(Mortal(file=str(tmp_path / "gone"), how="again"), executor=pool)
        with pytest.raises(BrokenExecutor) as lost:
            collected(Mortal(file=str(tmp_path / "killed")), executor=pool, retries=0)
    assert "move classes of a notebook into a file" in lost.value.__notes__[0]
    with ThreadPoolExecutor(1) as pool, pytest.raises(OSError, match="the disk was away"):
        collected(Mortal(file=str(tmp_path / "other"), how="fail"), executor=pool, retries=0)


def test_a_dask_cluster_that_loses_a_worker_gives_the_same_lifetimes(tmp_path):
    import distributed

    where = {"dashboard_address": None, "local_directory": str(tmp_path)}
    with (
        distributed.LocalCluster(2, threads_per_worker=1, **where) as cluster,
        distributed.Client(cluster) as client,
    ):
        for how in ("fail", "die"):
            agent = Mortal(file=str(tmp_path / how), how=how)
            call = {"executor": client.get_executor(), "out": tmp_path / f"{how} histories"}
            assert same(collected(), collected(agent, **call)) and (tmp_path / how).exists()
