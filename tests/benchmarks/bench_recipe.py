"""The acceptance experiments: from nothing to worlds learned in context, every run in a fresh
process.

    python tests/benchmarks/bench_recipe.py --recipe "dark room, q-learning" --splits 3 --seeds 3

Each run imports, collects histories on the training tasks, distils, and lets the frozen model live
on held-out ones. Its clock starts when its process is spawned and stops when the distilled agent is
evaluated; the controls come after that. Prints a table and writes `runs/recipe.csv`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from math import nan
from pathlib import Path
from typing import NamedTuple

import pytest
from measure import PEAK_MB, ROOT, note, say


class Asked(NamedTuple):
    """What issues 2 and 4 ask of a recipe on held-out tasks: a share of the optimum, by an episode,
    within some seconds.
    """

    share: float
    episode: int
    seconds: float
    last: int = 5
    """Episodes, up to that one, whose mean return counts."""
    lifetimes: int = 2
    """Per held-out task."""


ASKED = {
    "dark room": Asked(0.95, 50, 60, last=10, lifetimes=8),
    "dark room, q-learning": Asked(0.90, 50, 100, last=10, lifetimes=8),
    "key to door": Asked(1.95 / 2, 20, 360),
    "key to door, q-learning": Asked(1.9 / 2, 50, 360),
    "hard": Asked(0.95, 50, 360, lifetimes=8),
    "hard, q-learning": Asked(0.90, 100, 360, lifetimes=4),
}
CONTROLS_AT_MOST = 0.35  # of the optimum, in the Dark Room
CURVE = (1, 5, 10, 20, 30, 50, 100)
OUT = ROOT / "runs" / "recipe.csv"


# ---- one run; in its own process ----


def live(
    name: str, split: int, seed: int, controls: bool, ed: bool, began: float
) -> dict[str, float | str]:
    """One row of the table; `began` is when, on the monotonic clock, this process was spawned."""
    clock = Clock(began)
    import adkit as ad
    from adkit.stats import episodes_to

    recipe, asked = ad.RECIPES[name], ASKED[name]
    train, test = recipe.split(split)
    clock.lap("import")
    histories = recipe.histories(train, seed)
    clock.lap("histories")
    optimum = ad.optimal_returns(recipe.env, test)  # (tasks,)

    def returns(agent):
        """Return (task, lifetime, episode); actions sampled with seeds that no training used."""
        how = {"episodes": asked.episode, "lifetimes": asked.lifetimes, "seed": 1000 + seed}
        return ad.collect(recipe.env, test, agent, **how).returns

    def reached(values) -> float:
        return float(values[:, :, -asked.last :].mean() / optimum.mean())

    model, _ = recipe.distil(histories, seed)
    clock.lap("distill")
    student = returns(ad.InContext(model))
    clock.lap("evaluate")

    last = student[:, :, -asked.last :]
    row = {"recipe": name, "split": split, "seed": seed, "reached": reached(student)}
    row |= {
        f"ep{e}": float(student[:, :, e - 1].mean() / optimum.mean()) if e <= asked.episode else nan
        for e in CURVE
    }
    row |= {
        "to_0.8": episodes_to(student, 0.8 * optimum),
        "to_0.9": episodes_to(student, 0.9 * optimum),
    }
    row |= {
        "dead_tasks": int((last.sum((1, 2)) == 0).sum()),
        "dead_lifetimes": int((last.sum(2) == 0).sum()),
    }
    row |= {
        "seconds": clock.total,
        **{f"s_{stage}": seconds for stage, seconds in clock.laps.items()},
        "peak_mb": peak_mb(),
    }
    row |= {
        "source_late": float(
            histories.episode_returns[:, -2:].mean() / ad.optimal_returns(recipe.env, train).mean()
        )
    }
    row |= {
        "no memory": reached(returns(ad.InContext(model, memory="episode"))) if controls else nan
    }
    learned = histories.episodes[-max(2, histories.n_episodes // 4) :] if ed else None
    row |= {"ed": reached(returns(ad.InContext(recipe.distil(learned, seed)[0]))) if ed else nan}
    return row


def peak_mb() -> float:
    scope: dict = {}
    exec(PEAK_MB, scope)
    return scope["peak_mb"]()


class Clock:
    """Seconds by stage since a process was spawned."""

    def __init__(self, began: float):
        self.began, self.before, self.laps = began, began, {}

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.laps[stage], self.before = now - self.before, now

    @property
    def total(self) -> float:
        return self.before - self.began


# ---- many runs ----


def run(
    name: str,
    split: int,
    seed: int,
    controls: bool = True,
    ed: bool = False,
    environment: dict[str, str] | None = None,
) -> dict:
    """A run in a fresh process; its row."""
    job = {
        "name": name,
        "split": split,
        "seed": seed,
        "controls": controls,
        "ed": ed,
        "began": time.monotonic(),
    }
    child = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--run", json.dumps(job)],
        env={**os.environ, **(environment or {})}, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    if child.returncode:
        raise RuntimeError(f"the run {job} failed:\n{child.stderr[-4000:]}")
    return json.loads(child.stdout.splitlines()[-1])


COLUMNS = (
    "recipe",
    "split",
    "seed",
    "reached",
    *(f"ep{episode}" for episode in CURVE),
    "to_0.8",
    "to_0.9",
    "dead_tasks",
)
COLUMNS += (
    "dead_lifetimes",
    "no memory",
    "ed",
    "source_late",
    "seconds",
    "s_import",
    "s_histories",
    "s_distill",
    "s_evaluate",
)
COLUMNS += ("peak_mb",)


def line(values: list) -> str:
    def cell(value) -> str:
        if not isinstance(value, float):
            return str(value)
        return "-" if value != value else f"{value:.1f}" if value >= 2 else f"{value:.3f}"

    widths = [max(map(len, ASKED)), *(max(6, len(name)) for name in COLUMNS[1:])]
    return " ".join(f"{cell(value):>{width}}" for width, value in zip(widths, values, strict=True))


def write(rows: list[dict], path: Path) -> None:
    """All rows so far, after every run: an interruption loses one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)


def failures(row: dict) -> list[str]:
    """What was asked of a run and not reached."""
    asked, missed = ASKED[row["recipe"]], []
    if row["reached"] < asked.share:
        missed.append(
            f"{row['reached']:.3f} of the optimum by episode {asked.episode}, "
            f"asked {asked.share:.3f}"
        )
    if row["seconds"] > asked.seconds:
        missed.append(f"{row['seconds']:.0f} s from nothing, asked under {asked.seconds} s")
    if row["dead_tasks"]:
        missed.append(
            f"{row['dead_tasks']} tasks without any reward in their last {asked.last} episodes"
        )
    missed += [
        f"{name} reaches {row[name]:.2f}, asked below {CONTROLS_AT_MOST}"
        for name in ("no memory", "ed")
        if row[name] >= CONTROLS_AT_MOST and row["recipe"].startswith("dark room")
    ]
    return [f"{row['recipe']}, split {row['split']}, seed {row['seed']}: {what}" for what in missed]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", choices=[*ASKED, "all"], default="all")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--cold",
        metavar="FOLDER",
        help="an empty folder for Numba's cache: the first run compiles everything",
    )
    parser.add_argument(
        "--no-controls", action="store_true", help="neither no memory nor expert distillation (ED)"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.run:
        print(json.dumps(live(**json.loads(given.run))))
        return
    environment = {"NUMBA_CACHE_DIR": given.cold} if given.cold else {}
    rows: list[dict] = []
    print(line(list(COLUMNS)), flush=True)
    for name in ASKED if given.recipe == "all" else [given.recipe]:
        for split in range(given.splits):
            for seed in range(given.seeds):
                controls = not given.no_controls
                rows.append(
                    run(
                        name,
                        split,
                        seed,
                        controls,
                        ed=controls and seed == 0,
                        environment=environment,
                    )
                )
                print(line([rows[-1][column] for column in COLUMNS]), flush=True)
                write(rows, given.out)
    for name in dict.fromkeys(row["recipe"] for row in rows):
        mine = [row for row in rows if row["recipe"] == name]
        shares, seconds = (
            sorted(row["reached"] for row in mine),
            sorted(row["seconds"] for row in mine),
        )
        middle, asked = len(mine) // 2, ASKED[name]
        reached = (
            f"worst {shares[0]:.3f}, median {shares[middle]:.3f}, best {shares[-1]:.3f} "
            f"of the optimum by episode {asked.episode}"
        )
        took = f"median {seconds[middle]:.1f} s, slowest {seconds[-1]:.1f} s"
        print(
            f"{name}: {len(mine)} runs, {reached}; {took} "
            f"(asked of every run: {asked.share:.3f}, under {asked.seconds} s)"
        )
    print(
        "\n".join(what for row in rows for what in failures(row)) or "everything asked was reached"
    )


@pytest.mark.parametrize("name", list(ASKED))
def test_held_out_tasks_are_learned_in_context(name):
    row, asked = run(name, split=0, seed=0, ed=True), ASKED[name]
    note(
        f"{name}: share of the optimum by episode {asked.episode}",
        [row["reached"]],
        asked=asked.share,
    )
    note(f"{name}: from nothing", [row["seconds"]], " s", asked=asked.seconds, less=True)
    stages = ", ".join(
        f"{column[2:]} {row[column]:.1f} s" for column in COLUMNS if column.startswith("s_")
    )
    controls = f"no memory {row['no memory']:.3f}, ED {row['ed']:.3f}"
    say(
        f"{name}: {stages}; 0.8 of the optimum after {row['to_0.8']:.0f} episodes, "
        f"{controls}, {row['peak_mb']:.0f} MB"
    )
    assert not failures(row), "; ".join(failures(row))


if __name__ == "__main__":
    main()
