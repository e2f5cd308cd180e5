"""Run the CookieWorld study behind notebooks 07 to 09, as far as results are missing.

make study ARGS=standard            three seeds, two jobs at a time: about 2.5 hours on two cores
make study ARGS=full                five seeds, all twins at full length
make study ARGS=smoke               minutes: every job once, tiny; proves nothing

It can be killed at any moment and started again: finished jobs are kept, training goes on from its
last checkpoint. Work is in runs/shards; tables and the model that notebooks open go to
data/cookie_world.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from study import jobs
from study.jobs import PROFILES

ROOT = Path(__file__).resolve().parents[2]
WORK, DATA = ROOT / "runs" / "shards", ROOT / "data" / "cookie_world"


def make(profile: str, folder: Path, name: str) -> float:
    """Make and keep one job's result, in a process of its own; return the CPU seconds it took."""
    import torch

    torch.set_num_threads(1)
    began = time.process_time()
    job, *needs = jobs.every_job(PROFILES[profile], folder)[name]
    made = job(*(jobs.load(folder, need) for need in needs))
    if isinstance(made, tuple):
        made, draws = made
        kind, _, seed = name.partition("/")
        write_table(folder / f"{kind} draws" / f"{seed}.csv", draws)
    if isinstance(made, pd.DataFrame):
        write_table(folder / f"{name}.csv", made)
    else:
        made.save(folder / name, overwrite=True)
    shutil.rmtree(folder / "checkpoints" / name.removeprefix("model/"), ignore_errors=True)
    return time.process_time() - began


def write_table(path: Path, table: pd.DataFrame) -> None:
    write(path, table.to_csv(index=False, float_format="%.5g"))


def write(path: Path, text: str) -> None:
    """Write a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_text(text, encoding="utf-8")
    os.replace(path.with_suffix(".part"), path)


def keep_settings(profile: str, folder: Path) -> None:
    """Keep the settings beside the results; stop the run if the results there had others."""
    training = {"batch": jobs.BATCH, "first_action_weight": jobs.FIRST_ACTION_WEIGHT}
    settings = PROFILES[profile] | {"model": jobs.MODEL}
    settings = json.loads(json.dumps(settings | {"training": asdict(jobs.SCHEDULE) | training}))
    kept = folder / "settings.json"
    there = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else settings
    if differ := sorted(name for name in settings if settings[name] != there.get(name)):
        sys.exit(
            f"{folder} holds results of other {', '.join(differ)}; "
            "move it away, or name another folder with --work"
        )
    write(kept, json.dumps(settings, indent=1))


def run(profile: str, folder: Path, at_once: int = 2) -> int:
    """Make what is missing, `at_once` jobs at a time; return how many failed or wait for one.

    Each job starts as soon as what it needs is there, in a process of its own: a job whose process
    is killed takes no other with it, and is tried once more.
    """
    every, began = jobs.every_job(PROFILES[profile], folder), time.perf_counter()
    done = lambda name: (folder / name).exists() or (folder / f"{name}.csv").exists()
    waiting = [name for name in every if not done(name)]
    total, failed, killed = len(waiting), 0, set()
    print(f"{profile}: {len(every)} jobs, {len(every) - total} of them done.", flush=True)
    running: dict[Future, tuple[str, ProcessPoolExecutor]] = {}
    while waiting or running:
        for name in [name for name in waiting if all(map(done, every[name][1:]))]:
            if len(running) < at_once:
                waiting.remove(name)
                pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
                running[pool.submit(make, profile, folder, name)] = name, pool
        if not running:
            print(f"{len(waiting)} jobs wait for what failed: {', '.join(waiting)}", flush=True)
            break
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            name, pool = running.pop(future)
            pool.shutdown()
            if error := future.exception():
                # a process is killed most often because memory ran out
                again = isinstance(error, BrokenExecutor) and name not in killed
                killed.add(name)
                waiting += [name] * again
                failed += not again
            says = f"FAILED: {error!r}" if error else f"{future.result():.0f} CPU s"
            minutes = (time.perf_counter() - began) / 60
            count = total - len(waiting) - len(running)
            print(f"{count:3}/{total} {minutes:6.1f} min | {name} | {says}", flush=True)
    return failed + len(waiting)


def publish(folder: Path) -> None:
    """Join the tables of all seeds and put them, with the first seed's model, into data/."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for path in sorted(folder.glob("*/*.csv")):
        table = pd.read_csv(path).assign(seed=int(path.stem))
        tables.setdefault(path.parent.name, []).append(table)
    for name, parts in tables.items():
        write_table(DATA / f"{name}.csv", pd.concat(parts))
    jobs.load(folder, f"model/{jobs.MAIN}/0").save(DATA / "model", overwrite=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--at-once", type=int, default=2, help="processes; 2")
    parser.add_argument("--work", type=Path, default=WORK, help="working folder; runs/shards")
    given = parser.parse_args(arguments)
    folder = given.work / given.profile
    keep_settings(given.profile, folder)
    failed = run(given.profile, folder, given.at_once)
    if not failed and given.profile != "smoke":
        publish(folder)
    return int(failed > 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
