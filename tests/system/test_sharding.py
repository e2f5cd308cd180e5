"""Lifetimes in shards: the same bytes from any executor, also when workers die; resumed calls."""

import os
import signal
import threading
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import listed, same

import adkit as ad
from adkit.models.recurrent import RecurrentPolicy
from adkit.sharding import number_of_shards

ENV = ad.envs.DarkRoom(size=4, horizon=6)
TASKS = ENV.tasks()[:12]
SPAWN = get_context("spawn")


def collected(agent=None, **how):
    return ad.collect(
        ENV,
        TASKS,
        agent or ad.sources.QLearning(),
        **{"episodes": 5, "lifetimes": 3, "seed": 4} | how,
    )


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
    with ThreadPoolExecutor(3) as pool:
        for executor in (None, pool):
            found = collected(executor=executor, out=tmp_path / str(executor is None))
            assert same(whole, found) and found.tasks.equals(whole.tasks)
            assert not found.arrays["obs"].flags.writeable
        assert same(whole, collected(executor=pool))
    assert listed(tmp_path) == ["False", "True"]
    whole.save(tmp_path / "saved")
    for name in ("obs.npy", "reward.npy", "task.npy", "tasks.goal.npy"):
        assert (tmp_path / "saved" / name).read_bytes() == (tmp_path / "True" / name).read_bytes()


def test_labels_and_an_agents_own_loop_are_sharded_too(tmp_path):
    env = ad.envs.CookieWorld()
    creatures = lambda **how: ad.collect(
        env, env.tasks()[:9], ad.sources.Shards(), episodes=4, seed=1, **how
    )
    assert same(creatures(), creatures(out=tmp_path / "histories"))


def test_a_finished_call_is_not_repeated(tmp_path):
    out = tmp_path / "histories"
    before = collected(out=out)
    stamp = (out / "manifest.json").stat().st_mtime_ns
    assert same(before, collected(out=out)) and (out / "manifest.json").stat().st_mtime_ns == stamp
    for other in (
        {"seed": 5},
        {"episodes": 6},
        {"episodes": 4, "every": 1},
        {"agent": ad.sources.Random()},
    ):
        with pytest.raises(FileExistsError, match="holds other histories"):
            collected(out=out, **other)


def test_other_weights_are_another_agent(tmp_path):
    models = [
        ad.CausalTransformer(ENV.spec, context=18, layers=1, heads=1, width=8, seed=seed)
        for seed in (0, 1)
    ]
    collected(ad.InContext(models[0]), out=tmp_path / "histories")
    collected(ad.InContext(models[0]), out=tmp_path / "histories")
    with pytest.raises(FileExistsError, match="holds other histories"):
        collected(ad.InContext(models[1]), out=tmp_path / "histories")
    with (
        ad.edit(models[0], {"blocks.0.resid": lambda resid: 0 * resid}),
        pytest.raises(
            ValueError,
            match=r"being edited at blocks\.0\.resid, which no file .* told; collect without out=",
        ),
    ):
        collected(ad.InContext(models[0]), out=tmp_path / "ablated")
    policies = [RecurrentPolicy(ENV.spec, width=8, seed=0) for _ in range(2)]
    with torch.no_grad():
        policies[1].state_dict()[next(iter(policies[1].state_dict()))].add_(1)
    collected(ad.RL2(policies[0]), out=tmp_path / "recurrent")
    with pytest.raises(FileExistsError, match="holds other histories"):
        collected(ad.RL2(policies[1]), out=tmp_path / "recurrent")


class Undescribed(ad.sources.QLearning):
    """A source that holds something that is no value."""

    def __post_init__(self):
        object.__setattr__(self, "lr", threading.Lock())


def test_an_agent_that_cannot_be_described_keeps_nothing(tmp_path):
    with pytest.raises(ValueError, match="_thread.lock cannot be described; make it a frozen"):
        collected(Undescribed(), out=tmp_path / "histories")


@dataclass(frozen=True)
class Table(ad.sources.Random):
    """A source that holds numbers."""

    numbers: np.ndarray | torch.nn.Module = None


def test_every_number_of_a_description_tells_agents_apart(tmp_path):
    numbers = np.zeros(2000)
    for i, change in enumerate((1.0, 1e-12)):
        other = numbers.copy()
        other[1000] += change
        collected(Table(numbers), out=tmp_path / str(i))
        collected(Table(numbers.copy()), out=tmp_path / str(i))
        with pytest.raises(FileExistsError, match="holds other histories"):
            collected(Table(other), out=tmp_path / str(i))


def test_other_weights_in_any_field_are_another_agent(tmp_path):
    torch.manual_seed(0)
    collected(Table(torch.nn.Linear(2, 2)), out=tmp_path / "histories")
    with pytest.raises(FileExistsError, match="holds other histories"):
        collected(Table(torch.nn.Linear(2, 2)), out=tmp_path / "histories")


def test_an_edit_is_not_sent_to_another_process():
    model = ad.CausalTransformer(ENV.spec, context=18, layers=1, heads=1, width=8)
    with ad.edit(model, {"blocks.0.resid": lambda resid: 0 * resid}):
        with (
            ProcessPoolExecutor(1, SPAWN) as pool,
            pytest.raises(ValueError, match="no other process .* no executor but threads"),
        ):
            collected(ad.InContext(model), executor=pool)
        with ThreadPoolExecutor(1) as pool:
            assert same(
                collected(ad.InContext(model)), collected(ad.InContext(model), executor=pool)
            )


@dataclass(frozen=True)
class Labelled(ad.sources.Random):
    """A source whose lifetimes carry a label of any kind."""

    label: tuple = ("step", np.float32)

    def labels(self, spec):
        return {"told": self.label}


def test_shards_are_many_enough_for_all_workers_and_never_large():
    assert number_of_shards(1000, 10, workers=2) == 16
    assert number_of_shards(1000, 10, workers=50) == 200
    assert number_of_shards(1000, 2**20, workers=2) == 16
    assert number_of_shards(3000, 2**20, workers=2) == 47
    assert number_of_shards(9, 10, workers=2) == 9


def test_only_the_label_of_a_step_has_a_shape():
    for per in ("lifetime", "episode", "day"):
        with pytest.raises(ValueError, match=rf"got 'told' per '{per}' of shape \(7,\)"):
            collected(Labelled(label=(per, np.float32, 7)))


def test_an_empty_folder_is_nothing_yet(tmp_path):
    (tmp_path / "histories").mkdir()
    assert same(collected(out=tmp_path / "histories"), collected()) and listed(tmp_path) == [
        "histories"
    ]


def test_any_whole_number_is_a_seed(tmp_path):
    assert same(collected(), collected(seed=np.int64(4), out=tmp_path / "histories"))
    collected(seed=np.int64(4)).save(tmp_path / "saved")


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """Return a path where a call left six of sixteen shards, and the sizes of later shards."""
    module, made = __import__("sys").modules["adkit.rollout"], []
    real = module._simulated

    def counted(env, tasks, agent, task, number, **how):
        if len(made) == 6:
            raise KeyboardInterrupt
        made.append(len(task))
        return real(env, tasks, agent, task, number, **how)

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(module, "_simulated", counted)
        collected(out=tmp_path / "histories")
    again = []
    monkeypatch.setattr(
        module,
        "_simulated",
        lambda *given, **how: (again.append(len(given[3])), real(*given, **how))[1],
    )
    return tmp_path / "histories", again


def test_a_call_that_stopped_goes_on_where_it_stopped(stopped):
    out, made = stopped
    assert not out.exists() and len(list(out.parent.glob(".histories.shards/1*"))) == 6
    with pytest.raises(FileExistsError, match="holds shards of another call; remove it"):
        collected(out=out, seed=9)
    found = collected(out=out)
    assert len(made) == 16 - 6 and same(found, collected())
    assert listed(out.parent) == ["histories"]


def test_however_many_workers_go_on_with_it_nothing_is_repeated(stopped):
    out, made = stopped
    with ThreadPoolExecutor(5) as pool:
        assert same(collected(executor=pool, out=out), collected())
    assert len(made) == 10 + 1  # and the call without out=


def test_a_damaged_shard_is_made_again(stopped):
    out, made = stopped
    shard = out.parent / ".histories.shards" / "16.3"
    (shard / "reward.npy").write_bytes((shard / "reward.npy").read_bytes()[:-1])
    found = collected(out=out)
    assert len(made) == 11 and same(found, collected())


def test_another_process_with_the_same_call_may_be_first(stopped, monkeypatch):
    """It puts the shards together and removes them while this one still runs."""
    out, _ = stopped
    assemble = ad.Histories.assemble

    def late(path, parts, whole):
        monkeypatch.setattr(ad.Histories, "assemble", assemble)
        collected(out=out)
        return assemble(path, parts, whole)

    monkeypatch.setattr(ad.Histories, "assemble", late)
    found = collected(out=out)
    assert ad.Histories.assemble is assemble and same(found, collected())
    assert listed(out.parent) == ["histories"]


@pytest.mark.parametrize("how", ["die", "fail"])
def test_a_shard_whose_worker_is_lost_is_made_again(tmp_path, how):
    reference = collected()
    with ProcessPoolExecutor(2, SPAWN) as pool:
        found = collected(Mortal(file=str(tmp_path / "gone"), how=how), executor=pool)
    assert (tmp_path / "gone").exists() and same(reference, found)


def test_an_error_that_would_come_again_is_raised_at_once(tmp_path):
    with ProcessPoolExecutor(1, SPAWN) as pool, pytest.raises(ValueError, match="never"):
        collected(Mortal(file=str(tmp_path / "gone"), how="again"), executor=pool)
    with ThreadPoolExecutor(1) as pool, pytest.raises(OSError, match="the disk was away"):
        collected(Mortal(file=str(tmp_path / "other"), how="fail"), executor=pool, retries=0)
    with ProcessPoolExecutor(1, SPAWN) as pool, pytest.raises(BrokenExecutor) as lost:
        collected(Mortal(file=str(tmp_path / "killed")), executor=pool, retries=0)
    assert "move classes of a notebook into a file" in lost.value.__notes__[0]


def test_a_dask_cluster_that_loses_a_worker_gives_the_same_lifetimes(tmp_path):
    import distributed

    reference = collected(episodes=40)
    with (
        distributed.LocalCluster(
            2, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path)
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert same(reference, collected(executor=client.get_executor(), episodes=40))
        assert same(
            reference,
            collected(
                Mortal(file=str(tmp_path / "failed"), how="fail"),
                executor=client.get_executor(),
                episodes=40,
            ),
        )
        found = collected(
            Mortal(file=str(tmp_path / "gone")),
            executor=client.get_executor(),
            episodes=40,
            out=tmp_path / "histories",
        )
    assert (tmp_path / "gone").exists() and same(reference, found)


def test_mapped_histories_are_sampled_and_trained_on_as_others(tmp_path):
    whole = collected(episodes=12)
    whole.save(tmp_path / "histories")
    mapped = ad.Histories.load(tmp_path / "histories", mapped=True)
    assert same(whole, mapped) and same(whole[5:9].episodes[2:], mapped[5:9].episodes[2:])
    trained = []
    for histories in (whole, mapped):
        model = ad.CausalTransformer(ENV.spec, context=18, layers=1, heads=1, width=8)
        trained.append(ad.distill(model, histories, steps=3, batch=4).loss.tolist())
    assert trained[0] == trained[1]
    with pytest.raises(ValueError, match="read-only"):
        mapped.arrays["reward"][0] = 1
