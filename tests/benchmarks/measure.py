"""Fair comparisons in one line: both sides in one process, by turns, the median of the ratios and their spread."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# For a child: the most memory it ever held resident, in MB. Its own high-water mark where there is /proc, because a child's
# `ru_maxrss` starts at what its parent held when it spawned it.
PEAK_MB = """
def peak_mb():
    import pathlib, re, resource
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""


def rate(work: Callable[[], int]) -> float:
    """Things per second: `work` does some and says how many."""
    began = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - began)


def compare(
    name: str, ours: Callable[[], float], baseline: Callable[[], float], asked: float | None, repetitions: int = 5
) -> float:
    """Print and return the median ratio of two rates (per second); AssertionError if it is below what was `asked`.

    The two take turns, and turns at going first, so that a machine that slows down slows both. One run of each before.
    """
    ours(), baseline()
    pairs = []
    for repetition in range(repetitions):
        if repetition % 2:
            theirs = baseline()
            pairs.append((ours(), theirs))
        else:
            pairs.append((ours(), baseline()))
    ratios = sorted(mine / theirs for mine, theirs in pairs)
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(ratios)
    wanted = "no bound" if asked is None else f"asked {asked:g}x"
    figures = f"ours {mine:.2g}/s, baseline {theirs:.2g}/s, ratio {ratio:.3g}x [{ratios[0]:.3g}-{ratios[-1]:.3g}]"
    say(f"{name}: {figures} ({wanted})")
    assert asked is None or ratio >= asked, f"{name}: {ratio:.3g}x, and {asked:g}x was asked."
    return ratio


def bound(name: str, values: Sequence[float], unit: str, most: float) -> float:
    """Print and return the median of `values`; AssertionError if it is not below `most`."""
    middle = statistics.median(values)
    say(f"{name}: {middle:.3g} {unit} [{min(values):.3g}-{max(values):.3g}] (asked < {most:g} {unit})")
    assert middle < most, f"{name}: {middle:.3g} {unit}, and less than {most:g} was asked."
    return middle


def say(line: str) -> None:
    """A line of its own, whatever dots pytest has printed before."""
    print(f"\n{line}", end="", flush=True)


def fresh(code: str, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[float, str]:
    """Run code in a new Python: seconds from spawning it to its end, and what it printed."""
    began = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    child = subprocess.run(command, env={**os.environ, **(environment or {})}, cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    assert child.returncode == 0, child.stderr
    return seconds, child.stdout.strip()
