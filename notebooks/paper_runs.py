"""The runs behind notebook 10: every experiment of the paper that we redraw.

python notebooks/paper_runs.py                  what data/paper_figures lacks, two runs at a time
python notebooks/paper_runs.py tasks "hard |"   only runs that have one of these in their name
python notebooks/paper_runs.py --list           what there is, and what is done

Each run is a process of one thread. Its results are written as soon as it ends; started again, this
goes on with the rest. A run whose settings have changed is run anew.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd
from experiments import Run, every_run

import adkit as ad

OUT = Path(__file__).resolve().parents[1] / "data" / "paper_figures"
FIRST = 10, 20, 30, 50, 100, 200, 300, 500, 1000
POINTS = np.unique(np.r_[np.round(np.geomspace(1, 2000, 50)).astype(int), FIRST])
"""Episodes, counted from 1, whose return is kept."""


def measure(run: Run, data: Path) -> tuple[pd.DataFrame, dict]:
    """Return a run's curves, and what it cost and came to; save its models below `data`."""
    import torch

    torch.set_num_threads(1)
    wall, cpu, tables, found = time.perf_counter(), time.process_time(), [], {}
    for curve, values in run.curves(run.seed):
        if hasattr(values, "save"):
            values.save(data / curve, overwrite=True)
            continue
        found[curve] = values
        by_task = pd.DataFrame(values.mean(1))  # a row per task, a column per episode
        points = POINTS[values.shape[2] >= POINTS]
        columns = {"episode": points, "return": by_task.mean().to_numpy()[points - 1]}
        columns["standard_error"] = by_task.sem().to_numpy()[points - 1]
        last10 = by_task.to_numpy()[:, -10:].mean()
        tables.append(pd.DataFrame({"curve": curve} | columns | {"last10": last10}))
    about = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    if {"distilled", "source", "optimum"} <= found.keys():
        target = 0.8 * found["optimum"].mean()
        for name in ("source", "distilled"):
            about[f"{name}_episodes"] = ad.stats.episodes_to(found[name], target)
        ratio = ad.stats.speed_up(found["source"], found["distilled"], target)
        about |= {f"ratio_{name}": value for name, value in ratio._asdict().items()}
    return pd.concat(tables), about


def read(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame({"setting": [], "key": []})
    return pd.read_csv(path, dtype={"setting": str}).fillna({"setting": ""})


def write(path: Path, rows: pd.DataFrame, **of) -> None:
    """Put rows into a table in place of older ones `of` the same run; whole or not at all."""
    rows = rows.assign(**of)[[*of, *rows.columns]]
    if path.exists():
        old = read(path)
        rows = pd.concat([old[(old[list(of)] != pd.Series(of)).any(axis=1)], rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(path.with_suffix(".part"), index=False, float_format="%.4g")
    os.replace(path.with_suffix(".part"), path)


def keep(run: Run, curves: pd.DataFrame, about: dict, out: Path) -> None:
    """Write a run's curves, then that it is done."""
    of, done = {"setting": run.setting, "seed": run.seed}, pd.DataFrame([{"key": run.key} | about])
    write(out / f"{run.experiment}.csv", curves, **of)
    write(out / "runs.csv", done, experiment=run.experiment, **of)


def run_all(left: list[Run], out: Path, at_once: int) -> int:
    """Run what is left and keep what comes; return how many failed."""
    began, failed, alike = time.perf_counter(), 0, {}
    for run in left:
        alike.setdefault(run.work, []).append(run)
    with ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as pool:
        data = out.resolve().parent
        futures = {pool.submit(measure, runs[0], data): runs for runs in alike.values()}
        for i, future in enumerate(as_completed(futures), 1):
            minutes, runs = (time.perf_counter() - began) / 60, futures[future]
            name = f"{i:3}/{len(futures)} {minutes:5.1f} min | {runs[0].key}"
            if error := future.exception():
                failed += 1
                print(f"{name} | FAILED: {error!r}", flush=True)
                continue
            curves, about = future.result()
            for run in runs:
                keep(run, curves, about, out)
            late = curves.groupby("curve", sort=False)["last10"].first()
            shown = ", ".join(f"{curve} {value:.3f}" for curve, value in late.items())
            print(f"{name} | {about['cpu_s']:.0f} CPU s | last ten: {shown}", flush=True)
    return failed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("texts", nargs="*", help="only runs that have one of these in their name")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--at-once", type=int, default=2, help="processes; 2")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for tables; models go beside")
    given = parser.parse_args(arguments)
    done = set(read(given.out / "runs.csv")["key"])
    wanted = [r for r in every_run() if any(text in r.key for text in given.texts or [""])]
    if not wanted:
        texts = " or ".join(map(repr, given.texts))
        parser.error(f"no run has {texts} in its name; --list shows them all.")
    left = [run for run in wanted if run.key not in done]
    print(f"{len(wanted)} runs, {len(wanted) - len(left)} of them done.", flush=True)
    if given.list:
        for run in wanted:
            print("  done " if run.key in done else "  to do", run.key)
        return 0
    return int(run_all(left, given.out, given.at_once) > 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
