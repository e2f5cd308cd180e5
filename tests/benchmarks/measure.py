"""Fair comparisons in one line: both sides in one process, by turns, the median of the ratios and
their spread.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = Path(__file__).with_name("kept.json")

# For a child: the most memory it ever held resident, in MB. Its own high-water mark where there is
# /proc, because a child's
# `ru_maxrss` starts at what its parent held when it spawned it.
PEAK_MB = """
def peak_mb():
    import pathlib, re, resource
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""


@dataclass(frozen=True)
class Result:
    """A line of the table that `make bench` ends with."""

    figure: str
    now: float
    """A ratio to the baseline of the same run, or, where there is none, the figure itself."""
    text: str
    less: bool = False
    """Less is better."""
    limit: str = ""
    """What share of the machine's own limit this is."""


RESULTS: list[Result] = []
FELL = 0.8  # a figure that is below so much of what was kept is marked


@cache
def machine() -> dict[str, float]:
    """What this machine can do, measured now: bytes copied a second; and, on the device that models
    are trained on, float32 and bfloat16 multiply-adds a second, as flops.
    """
    import numpy as np
    import torch

    def best(work: Callable[[], object], done: float) -> float:
        work()
        times = []
        for _ in range(5):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
        return done / min(times)

    size = 2**28
    limits, cuda = {}, torch.cuda.is_available()
    device, n, done = (
        ("cuda", 8192, torch.cuda.synchronize) if cuda else ("cpu", 2048, lambda: None)
    )
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = torch.randn(2, n, n, device=device).to(dtype)
        limits[name] = best(lambda a=a, b=b: (a @ b, done()), 2 * n**3)
    source, target = np.ones(size, np.uint8), np.empty(size, np.uint8)
    limits["bytes"] = best(lambda: np.copyto(target, source), 2 * size)
    return limits


def trains_on() -> str:
    """What models are trained on here, in words."""
    import torch

    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, threads: {torch.get_num_threads()}"
    )


def kept() -> dict[str, float]:
    """What the repository holds of earlier runs, by figure."""
    return json.loads(KEPT.read_text()) if KEPT.exists() else {}


def table(results: Sequence[Result], before: Mapping[str, float]) -> list[str]:
    """Lines: figure, this run, what is kept of it in the repository, share of the machine's limit;
    those that fell are marked.
    """
    lines = [f"{'figure':62} {'this run':>34} {'kept':>8} {'of the limit':>22}"]
    for result in results:
        was = before.get(result.figure)
        worse, better = (result.now, was) if result.less else (was, result.now)
        mark = "  FELL" if was is not None and better < FELL * worse else ""
        old = "-" if was is None else f"{was:.3g}"
        lines.append(f"{result.figure[:62]:62} {result.text:>34} {old:>8} {result.limit:>22}{mark}")
    return lines


def rate(work: Callable[[], int]) -> float:
    """Things per second: `work` does some and says how many."""
    began = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - began)


def compare(
    name: str,
    ours: Callable[[], float],
    baseline: Callable[[], float],
    asked: float | None,
    repetitions: int = 5,
    **each: float,
) -> float:
    """Print and return the median ratio of two rates (per second); AssertionError if it is below
    what was `asked`.

    `each` says what one of ours takes of the machine, such as bfloat16=flops or bytes=moved: then
    so does the table.

    The two take turns, and turns at going first, so that a machine that slows down slows both. One
    run of each before.
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
    figures = f"ours {mine:.2g}/s, baseline {theirs:.2g}/s, ratio {ratio:.3g}x"
    figures += f" [{ratios[0]:.3g}-{ratios[-1]:.3g}]"
    say(f"{name}: {figures} ({wanted})")
    shares = ", ".join(
        f"{mine * amount / machine()[what]:.0%} of {what}" for what, amount in each.items()
    )
    RESULTS.append(Result(name, ratio, f"{mine:.3g}/s, {ratio:.3g} x baseline", limit=shares))
    assert asked is None or ratio >= asked, f"{name}: {ratio:.3g}x, and {asked:g}x was asked."
    return ratio


def bound(name: str, values: Sequence[float], unit: str, most: float) -> float:
    """Print and return the median of `values`; AssertionError if it is not below `most`."""
    middle = statistics.median(values)
    say(
        f"{name}: {middle:.3g} {unit} [{min(values):.3g}-{max(values):.3g}] "
        f"(asked < {most:g} {unit})"
    )
    RESULTS.append(
        Result(
            name,
            middle,
            f"{middle:.3g} {unit}",
            less=True,
            limit=f"{middle / most:.0%} of what is allowed",
        )
    )
    assert middle < most, f"{name}: {middle:.3g} {unit}, and less than {most:g} was asked."
    return middle


def note(
    name: str,
    values: Sequence[float],
    unit: str = "",
    asked: float | None = None,
    less: bool = False,
) -> float:
    """Print and return the median of `values`, and put it in the table; whoever asked judges it.
    `less` is better.
    """
    middle = statistics.median(values)
    spread = f" [{short(min(values))}-{short(max(values))}]" if len(values) > 1 else ""
    wanted = "no bound" if asked is None else f"asked {'under ' * less}{short(asked)}{unit}"
    say(f"{name}: {short(middle)}{unit}{spread} ({wanted})")
    share = (
        "" if asked is None else f"{middle / asked:.0%} of what is {'allowed' if less else 'asked'}"
    )
    RESULTS.append(Result(name, middle, f"{short(middle)}{unit}", less, share))
    return middle


def short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def say(line: str) -> None:
    """A line of its own, whatever dots pytest has printed before."""
    print(f"\n{line}", end="", flush=True)


@contextmanager
def one_core() -> Iterator[None]:
    """Everything on one core, where `collect` and torch would use them all."""
    import torch

    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {max(cores)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def fresh(
    code: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> tuple[float, str]:
    """Run code in a new Python: seconds from spawning it to its end, and what it printed."""
    began = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    child = subprocess.run(
        command, env={**os.environ, **(environment or {})}, cwd=ROOT, capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    assert child.returncode == 0, child.stderr
    return seconds, child.stdout.strip()


def summary(write: Callable[[str], None], keep: bool) -> None:
    """The table, and what this machine can do; `keep` puts this run's figures into kept.json."""
    limits = machine()
    for line in table(RESULTS, kept()):
        write(line)
    flops = ", ".join(
        f"{name} {limits[name] / 1e9:,.0f} Gflop/s" for name in ("float32", "bfloat16")
    )
    write(f"This machine, now: {flops} ({trains_on()}), memory {limits['bytes'] / 1e9:.1f} GB/s.")
    if keep:
        figures = kept() | {result.figure: round(result.now, 4) for result in RESULTS}
        KEPT.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
