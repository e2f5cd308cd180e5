"""python kills.py OPERATION FOLDER KILLS: run it, kill and rerun it until killed so often.

Prints a hash of each finished result, the first from a run that was left alone. Fails where work
was done again that no kill can have cost. One process imports everything, and forks; its children
are killed by SIGKILL.
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

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

import numpy as np
import pandas as pd
import torch

import adkit as ad
from adkit import folders, store

torch.set_num_threads(1)
ENV = ad.envs.DarkRoom(size=4, horizon=6)
TASKS = ENV.tasks()[:12]
LOG = None  # beside the folder: a line for each piece of work that was done
LOST = {"collect": 1, "distill": 4, "figures": 1, "study": 1}  # pieces done and not yet kept
FORKING = SimpleNamespace(get_context=lambda _: multiprocessing.get_context("fork"))
"""In place of `multiprocessing`, so that workers have what is replaced here."""


def done() -> None:
    with open(LOG, "a") as log:
        log.write("done\n")


def logged(function):
    """Return the function, with a line in the log for each call that it ends."""

    def call(*given, **how):
        result = function(*given, **how)
        done()
        return result

    return call


class Logged(ad.sources.StableBaselines3):
    simulate = logged(ad.sources.StableBaselines3.simulate)


def collect(folder: Path) -> None:
    out = folder / "histories"
    ad.collect(ENV, TASKS, Logged("A2C"), episodes=10, lifetimes=2, seed=1, out=out)


def distill(folder: Path) -> None:
    found = ad.collect(ENV, TASKS, ad.sources.QLearning(), episodes=30, lifetimes=2, seed=1)
    model = ad.CausalTransformer(ENV.spec, context=36, layers=2, heads=2, width=16)
    model.heads = logged(model.heads)  # once a step: no episode ends early
    log = ad.distill(model, found, steps=60, batch=16, checkpoint=folder / "checkpoint")
    log.drop(columns="seconds").to_csv(folder / "log.part")
    os.replace(folder / "log.part", folder / "log.csv")
    model.save(folder / "model", overwrite=True)


def figures(folder: Path) -> None:
    """The evaluation sweeps behind the paper's figures, of runs that are small."""
    import figures

    def nap(i: int):
        def live(seed: int):
            time.sleep(0.05)
            yield "a", np.full((2, 1, 50), float(i))

        return live

    figures.every_run = lambda: [figures.Run("nap", str(i), 0, nap(i), "1") for i in range(8)]
    figures.multiprocessing = FORKING
    figures.keep = logged(figures.keep)  # runs this short are done faster than they are kept
    assert figures.main(["--at-once", "1", "--out", str(folder / "tables")]) == 0


def study(folder: Path) -> None:
    """The study of the CookieWorld, of jobs that are small."""
    from study import jobs, run

    def table(i: int):
        def make(bench):
            time.sleep(0.05)
            return pd.DataFrame({"x": [i]})

        return logged(make)

    needs = lambda i: (f"part/{i - 1}",) if i else ()
    planted = [jobs.Job(f"part/{i}", needs(i), table(i)) for i in range(8)]
    jobs.every_job = lambda profile: {job.name: job for job in planted}
    run.multiprocessing = FORKING
    assert run.run("smoke", folder / "work", 1) == 0


OPERATIONS = {f.__name__: f for f in (collect, distill, figures, study)}


def result(folder: Path) -> str:
    """Return a hash of everything that is there; clocks and versions in manifests apart."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        varies = "checkpoint" in file.parts or file.name in (store.MANIFEST, "runs.csv")
        if file.name != folders.LOCK:
            digest.update(file.relative_to(folder).as_posix().encode())
            digest.update(b"" if varies else file.read_bytes())
    return digest.hexdigest()


def log_of(folder: Path) -> Path:
    return folder.with_suffix(".log")


def pieces(folder: Path) -> int:
    return len(log_of(folder).read_text().splitlines())


def attempt(work, folder: Path, patience: float) -> bool:
    """Return whether it ended by itself within so many seconds; else it was killed."""
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
    if operation == "collect":  # else every child would spend its time on importing it
        import stable_baselines3  # noqa: F401
    (root / "reference").mkdir()
    began = time.monotonic()
    assert attempt(work, root / "reference", 300)
    usual = time.monotonic() - began
    print(result(root / "reference"), flush=True)
    while killed < kills:
        folder, before = root / str(runs), killed
        folder.mkdir()
        while not attempt(work, folder, chance.uniform(0, usual) if killed < kills else 300):
            killed += 1
        most = pieces(root / "reference") + LOST[operation] * (killed - before)
        again = f"after {killed - before} kills {pieces(folder)} pieces were done, over {most}"
        assert pieces(folder) <= most, again
        print(result(folder), flush=True)
        runs += 1


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
