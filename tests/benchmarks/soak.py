"""python soak.py --minutes 30: the quick notebooks in one process, again and again; what it holds, and what it leaves behind.

Exits with 1 if the last rounds hold 5% more memory than the first after warming up, or a temporary file is left.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
WARM = 3  # rounds in which caches fill


def lived(notebook: Path) -> None:
    """Run a notebook's cells, and show what each ends with, as a kernel would."""
    space: dict = {"__name__": "__main__"}
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = ast.Expression(tree.body.pop().value) if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, notebook.name, "exec"), space)
        shown = eval(compile(last, notebook.name, "eval"), space) if last else None
        for show in ("_repr_mimebundle_", "_repr_html_"):
            if hasattr(shown, show) and getattr(shown, show):
                getattr(shown, show)()
                break


def left(*folders: Path) -> set[Path]:
    return {file for folder in folders for file in folder.iterdir()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("notebooks", nargs="*", default=["00", "01", "03"], help="numbers of notebooks")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    os.chdir(ROOT / "notebooks")
    notebooks = [next(Path().glob(f"{number}_*.ipynb")) for number in given.notebooks]
    runs = ROOT / "runs"
    runs.mkdir(exist_ok=True)
    before, process, held, began = left(folder, runs), psutil.Process(), [], time.perf_counter()
    while time.perf_counter() - began < 60 * given.minutes or len(held) < WARM + 4:
        for notebook in notebooks:
            lived(notebook)
        gc.collect()
        held.append(process.memory_info().rss / 2**20)
        print(f"{(time.perf_counter() - began) / 60:5.1f} min, round {len(held)}: {held[-1]:.0f} MB", file=sys.stderr, flush=True)
    few = max(1, (len(held) - WARM) // 4)
    first, last = statistics.median(held[WARM : WARM + few]), statistics.median(held[-few:])
    forgotten = left(folder, runs) - before
    says = f"{len(held)} rounds: {first:.0f} MB, then {last:.0f} MB ({last / first - 1:+.1%}); {len(forgotten)} files left"
    print(says, *forgotten)
    return int(last > 1.05 * first or bool(forgotten))


if __name__ == "__main__":
    sys.exit(main())
