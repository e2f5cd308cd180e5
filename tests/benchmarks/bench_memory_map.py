"""Histories larger than memory: windows drawn from a map on disk, and the same from memory.

Both as training draws them, ahead and in two threads: reads of a map wait outside Python's lock.

`python tests/benchmarks/bench_memory_map.py 20` does it once with a sparse artefact of 20 GB.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
from measure import PEAK_MB, compare, fresh, rate, say

import adkit as ad
from adkit import store
from adkit.models.tokens import sample_windows
from adkit.models.training import ahead
from adkit.seeds import Rng

ENV = ad.envs.DarkRoom()
EPISODES, WINDOW, BATCH = 200, 20, 64
LIFETIME = EPISODES * (ENV.spec.horizon * 9 + 2)  # bytes
DRAW = """
import json, sys, time
import adkit as ad
from adkit.seeds import Rng
from adkit.models.tokens import sample_windows
from adkit.models.training import ahead
began = time.perf_counter()
histories = ad.Histories.load(sys.argv[1], mapped=sys.argv[2] == "mapped")
loaded = time.perf_counter() - began
import numpy as np
def draw(step):
    rng = Rng.of(0, "draw", np.arange(int(sys.argv[4]))).at(step)
    return sample_windows(histories, int(sys.argv[3]), int(sys.argv[4]), 0.5, rng)
for _ in ahead(draw, range(20)): pass
began = time.perf_counter()
for _ in ahead(draw, range(20, 1020)): pass
print(json.dumps([1000 / (time.perf_counter() - began), loaded, peak_mb()]))
"""


def sparse(folder: Path, gigabytes: float) -> Path:
    """Save an artefact of so much, nearly all holes: full episodes in which nothing happens."""
    n, spec, tasks = round(gigabytes * 1e9 / LIFETIME), ENV.spec, ENV.tasks()
    whose = {"task": np.arange(n) * len(tasks) // n, "episode": np.arange(EPISODES)}
    whose |= {"task_ids": tasks.ids}
    whose |= {f"tasks.{name}": values for name, values in tasks.columns.items()}

    def fill(place: Path) -> list[str]:
        layout = spec.layout(n, EPISODES)
        for name, (shape, dtype) in layout.items():
            with open(place / f"{name}.npy", "wb") as file:
                store._write_header(file, np.dtype(dtype), shape)
                file.truncate(file.tell() + math.prod(shape) * np.dtype(dtype).itemsize)
        ends = np.lib.format.open_memmap(place / "truncated.npy", "r+")
        ends[..., -1] = True
        ends.flush()
        for name, values in whose.items():
            store._write(place, f"{name}.npy", values)
        return [f"{name}.npy" for name in (*layout, *whose)]

    return store._replace(folder / "sparse", "histories", fill, {"spec": asdict(spec)}, False)


def drawn(path: Path, how: str) -> tuple[float, float, float]:
    """Windows' batches a second, seconds to load, MB held at most, in a fresh process."""
    return tuple(json.loads(fresh(PEAK_MB + DRAW, str(path), how, str(WINDOW), str(BATCH))[1]))


def test_windows_from_a_map(tmp_path):
    how = {"episodes": EPISODES, "lifetimes": 20, "out": tmp_path / "histories"}
    mapped = ad.collect(ENV, ENV.tasks(), ad.sources.QLearning(), **how)
    whole = ad.Histories.load(tmp_path / "histories")

    def draw(histories) -> float:
        def work(steps: int = 50) -> int:
            window = lambda step: sample_windows(
                histories, WINDOW, BATCH, 0.5, Rng.of(0, "draw", np.arange(BATCH)).at(step)
            )
            return sum(1 for _ in ahead(window, range(steps)))

        return rate(work)

    ways = (lambda: draw(mapped)), (lambda: draw(whole))
    compare("windows drawn from a map, memory", *ways, asked=0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("gigabytes", type=float)
    parser.add_argument(
        "--in-memory",
        type=float,
        default=2.0,
        help="gigabytes of the artefact that is read into memory",
    )
    given = parser.parse_args()
    for how, size in (
        ("mapped", given.gigabytes),
        ("memory", given.in_memory),
        ("mapped", given.in_memory),
    ):
        with tempfile.TemporaryDirectory() as folder:
            speed, loaded, peak = drawn(sparse(Path(folder), size), how)
            what = f"{speed:,.0f} batches/s of {BATCH} x {WINDOW} episodes"
            say(f"{size:g} GB, {how}: {what}, loaded in {loaded:.0f} s, {peak:,.0f} MB at most")
    print()


if __name__ == "__main__":
    main()
