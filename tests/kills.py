"""python kills.py OPERATION FOLDER KILLS: run it, kill it at a random moment, run it again, until it was killed so often.

Prints a hash of each finished result, the first from a run that was left alone, and fails where work was done again that no kill
can have cost. A helper of test_kills.py: one process imports everything, and forks; children are killed by SIGKILL.
"""

import hashlib
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1] / "notebooks"))

import numpy as np
import pandas as pd
import torch

import adkit as ad
from adkit import store

torch.set_num_threads(1)
ENV = ad.envs.DarkRoom(size=4, horizon=6)
TASKS = ENV.tasks()[:12]
LOG = None  # beside the folder: a line for each piece of work that was done
LOST = {
    "collect": 1,
    "distill": 4,
    "figures": 1,
    "shards": 1,
}  # pieces that a kill may cost: done, and not yet kept
FORKING = SimpleNamespace(
    get_context=lambda _: multiprocessing.get_context("fork")
)  # what is replaced here stays so in workers


def done() -> None:
    with open(LOG, "a") as log:
        log.write("done\n")


class Logged(ad.sources.StableBaselines3):
    def simulate(self, *given):
        lived = super().simulate(*given)
        done()
        return lived


def collect(folder: Path) -> None:
    ad.collect(ENV, TASKS, Logged("A2C"), episodes=10, lifetimes=2, seed=1, out=folder / "lives")


def distill(folder: Path) -> None:
    lives = ad.collect(ENV, TASKS, ad.sources.QLearning(), episodes=30, lifetimes=2, seed=1)
    model = ad.CausalTransformer(ENV.spec, context=36, layers=2, heads=2, width=16)
    heads = model.heads
    model.heads = lambda *given, **how: (done(), heads(*given, **how))[
        1
    ]  # once a step: no episode ends early
    log = ad.distill(model, lives, steps=60, batch=16, checkpoint=folder / "checkpoint")
    log.drop(columns="seconds").to_csv(folder / "log.part")
    os.replace(folder / "log.part", folder / "log.csv")
    model.save(folder / "model", overwrite=True)


def figures(folder: Path) -> None:
    """The evaluation sweeps behind notebook 09, of runs that are small."""
    import figures

    def nap(i: int):
        def live(seed: int):
            time.sleep(0.05)
            yield "a", np.full((2, 1, 50), float(i))

        return live

    figures.every_run = lambda: [figures.Run("nap", str(i), 0, nap(i), "1") for i in range(8)]
    figures.multiprocessing, keep = FORKING, figures.keep
    figures.keep = lambda *given: (
        done(),
        keep(*given),
    )  # runs this short are done faster than they are kept
    assert figures.main(["--at-once", "1", "--out", str(folder / "tables")]) == 0


def shards(folder: Path) -> None:
    """The hypotheses' profile, of jobs that are small."""
    import shards

    def table(i):
        return lambda bench: (time.sleep(0.05), done(), pd.DataFrame({"x": [i]}))[-1]

    jobs = {
        f"part/{i}": shards.Job(f"part/{i}", (f"part/{i - 1}",) if i else (), table(i))
        for i in range(8)
    }
    shards.every_job, shards.multiprocessing = lambda profile: jobs, FORKING
    assert shards.run("smoke", folder / "work", 1) == 0


OPERATIONS = {f.__name__: f for f in (collect, distill, figures, shards)}


def result(folder: Path) -> str:
    """A hash of everything that is there; clocks and versions in manifests apart."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        inside = "checkpoint" in file.parts or file.name in (store.MANIFEST, "runs.csv")
        digest.update(
            file.relative_to(folder).as_posix().encode() + (b"" if inside else file.read_bytes())
        )
    return digest.hexdigest()


def log_of(folder: Path) -> Path:
    return folder.with_suffix(".log")


def pieces(folder: Path) -> int:
    return len(log_of(folder).read_text().splitlines())


def attempt(work, folder: Path, patience: float) -> bool:
    """Whether it ended by itself within so many seconds; else it was killed."""
    global LOG
    LOG = log_of(folder)
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        code = 1
        try:
            work(folder)
            code = 0
        finally:
            os._exit(code)
    began = time.monotonic()
    while time.monotonic() - began < patience:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, f"it failed: {status}"
            return True
        time.sleep(0.002)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def main(operation: str, root: Path, kills: int) -> None:
    work, chance, killed, runs = OPERATIONS[operation], random.Random(0), 0, 0
    if operation == "collect":  # else every child would spend its life on importing it
        import stable_baselines3  # noqa: F401
    (root / "reference").mkdir()
    began = time.monotonic()
    assert attempt(work, root / "reference", 300)
    usual = time.monotonic() - began
    print(result(root / "reference"), flush=True)
    while killed < kills:
        folder = root / str(runs)
        folder.mkdir()
        before = killed
        while not attempt(work, folder, chance.uniform(0, usual) if killed < kills else 300):
            killed += 1
        most = pieces(root / "reference") + LOST[operation] * (killed - before)
        assert pieces(folder) <= most, (
            f"after {killed - before} kills {pieces(folder)} pieces were done, more than {most}"
        )
        print(result(folder), flush=True)
        runs += 1


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
