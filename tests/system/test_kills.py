"""Long operations go on to the same result after SIGKILL at random moments.

`ADKIT_KILLS` sets how often each is killed; 20. As a script, it runs one operation until it was
killed so often. That process imports everything, and forks; its children are killed.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stable_baselines3  # noqa: F401  # else every child would spend its time on importing it
import torch

import adkit as ad

ENV = ad.envs.DarkRoom(size=4, horizon=6)
LOST = {"collect": 1, "distill": 4}  # pieces of work done and not yet kept, at most, at a kill


@pytest.mark.parametrize("operation", LOST)
def test_killed_at_random_moments_it_goes_on_to_the_same_result(operation, tmp_path):
    kills = os.environ.get("ADKIT_KILLS", "20")
    command = [sys.executable, __file__, operation, tmp_path, kills]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


def logged(function, log: Path):
    """Return the function, with a line in the log for each call that it ends."""

    def call(*given, **how):
        result = function(*given, **how)
        with open(log, "a") as file:
            file.write("done\n")
        return result

    return call


def collect(folder: Path, log: Path) -> None:
    class Logged(ad.sources.StableBaselines3):
        simulate = logged(ad.sources.StableBaselines3.simulate, log)

    how = {"episodes": 10, "lifetimes": 2, "seed": 1, "out": folder / "histories"}
    found = ad.collect(ENV, ENV.tasks()[:12], Logged("A2C"), **how)
    arrays = b"".join(values.tobytes() for values in found.arrays.values())
    (folder / "result").write_text(hashlib.sha256(arrays).hexdigest())


def distill(folder: Path, log: Path) -> None:
    source = ad.sources.QLearning()
    found = ad.collect(ENV, ENV.tasks()[:12], source, episodes=30, lifetimes=2, seed=1)
    model = ad.CausalTransformer(ENV.spec, context=36, layers=2, heads=2, width=16)
    model.heads = logged(model.heads, log)  # once a step: no episode ends early
    log = ad.distill(model, found, steps=60, batch=16, checkpoint=folder / "checkpoint")
    (folder / "result").write_text(repr(log.loss.tolist()))


def ends(work, folder: Path, patience: float) -> bool:
    """Return whether it ended by itself within so many seconds; else it was killed."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work(folder, folder.with_suffix(".log"))
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


def main(operation: str, root: Path, kills: int) -> None:
    """Fail where the result is another, or work was done again that no kill can have cost."""
    work, chance, killed, runs = globals()[operation], random.Random(0), 0, 0
    torch.set_num_threads(1)
    pieces = lambda folder: len(folder.with_suffix(".log").read_text().splitlines())
    reference, began = root / "reference", time.monotonic()
    reference.mkdir()
    assert ends(work, reference, 300)
    usual = time.monotonic() - began
    while killed < kills:
        folder, before, runs = root / str(runs), killed, runs + 1
        folder.mkdir()
        while not ends(work, folder, chance.uniform(0, usual) if killed < kills else 300):
            killed += 1
        most = pieces(reference) + LOST[operation] * (killed - before)
        assert pieces(folder) <= most, f"{pieces(folder)} pieces were done, over {most}"
        assert (folder / "result").read_text() == (reference / "result").read_text()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
