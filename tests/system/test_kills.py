"""A call of `collect` with `out=` goes on to the same result after SIGKILL at random moments.

`ADKIT_KILLS` sets how often it is killed; 20. This file is also the script that does it: a process
that imports everything, and forks children to be killed.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import stable_baselines3  # noqa: F401  # else every child would spend its time on importing it
import torch
from helpers import same

import adkit as ad

ENV = ad.envs.DarkRoom(size=4, horizon=6)


def test_killed_at_random_moments_it_goes_on_to_the_same_result(tmp_path):
    kills, where = os.environ.get("ADKIT_KILLS", "20"), os.pathsep.join(sys.path)
    how = {"capture_output": True, "text": True, "timeout": 600, "check": False}
    command = [sys.executable, __file__, tmp_path, kills]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": where}, **how)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


def collect(folder: Path) -> ad.Histories:
    """Collect in a folder, with a line in its log for each shard that is made."""

    class Logged(ad.sources.StableBaselines3):
        def simulate(self, *given):
            done = super().simulate(*given)
            with open(folder / "log", "a") as file:
                file.write("done\n")
            return done

    how = {"episodes": 10, "lifetimes": 2, "seed": 1, "out": folder / "histories"}
    return ad.collect(ENV, ENV.tasks()[:12], Logged("A2C"), **how)


def ends(folder: Path, patience: float) -> bool:
    """Return whether it ends by itself within so many seconds; else it is killed."""
    child = os.fork()
    if not child:
        code = 1
        try:
            collect(folder)
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
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def main(root: Path, kills: int) -> None:
    """Fail where the result is another, or shards are made again that no kill can have cost."""
    chance, killed, runs, began = random.Random(0), 0, 0, time.monotonic()
    torch.set_num_threads(1)
    shards = lambda folder: len((folder / "log").read_text().splitlines())
    reference = root / "reference"
    reference.mkdir()
    assert ends(reference, 300)
    usual, wanted = time.monotonic() - began, collect(reference)
    while killed < kills:
        folder, before, runs = root / str(runs), killed, runs + 1
        folder.mkdir()
        while not ends(folder, chance.uniform(0, usual) if killed < kills else 300):
            killed += 1
        assert shards(folder) <= shards(reference) + killed - before
        assert same(collect(folder), wanted)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
