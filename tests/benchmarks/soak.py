"""python soak.py --minutes 30: the notebooks of `make demo` in one process, again and again.

It measures what the process holds and what it leaves behind.

Exits with 1 if the last rounds hold 5% more memory than the first after warming up, or if anything
temporary is left: whatever is in the temporary folder, and what adkit keeps beside an artefact
while it writes one.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import ipywidgets
import psutil

ROOT = Path(__file__).resolve().parents[2]
WARM = 2  # rounds in which caches fill
BESIDE = (
    ".tmp",
    ".old",
    ".shards",
)  # how the names of adkit's own temporary folders end; they begin with a dot
CACHE = "torchinductor_"  # torch's, a folder for each user


def lived(notebook: Path) -> None:
    """Run a notebook's cells, and show what each ends with, as a kernel would."""
    space: dict = {"__name__": "__main__"}
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = (
            ast.Expression(tree.body.pop().value)
            if tree.body and isinstance(tree.body[-1], ast.Expr)
            else None
        )
        exec(compile(tree, notebook.name, "exec"), space)
        shown = eval(compile(last, notebook.name, "eval"), space) if last else None
        for show in ("_repr_mimebundle_", "_repr_html_"):
            if hasattr(shown, show) and getattr(shown, show):
                getattr(shown, show)()
                break
    ipywidgets.Widget.close_all()  # ipywidgets itself holds every widget until its kernel ends


def left(temporary: Path) -> set[Path]:
    """Everything in the temporary folder, and adkit's own temporary folders wherever notebooks
    write.
    """
    written = (
        place for name in ("runs", "data", "notebooks") for place in (ROOT / name).rglob(".*")
    )
    kept = (
        place
        for top in temporary.iterdir()
        if not top.name.startswith(CACHE)
        for place in (top, *top.rglob("*"))
    )
    return {*kept, *(place for place in written if place.suffix in BESIDE)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument(
        "notebooks",
        nargs="*",
        default=["[0-9][0-9]"],
        help="numbers of notebooks; by default all that have one",
    )
    given = parser.parse_args()
    os.chdir(ROOT / "notebooks")
    notebooks = [
        notebook
        for number in given.notebooks
        for notebook in sorted(Path().glob(f"{number}_*.ipynb"))
    ]
    if not notebooks:
        parser.error(f"no notebook begins with {', '.join(given.notebooks)}")
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    os.environ["ADKIT_PROFILE"] = "quick"
    before, process, held, began = left(folder), psutil.Process(), [], time.perf_counter()
    while time.perf_counter() - began < 60 * given.minutes or len(held) < WARM + 4:
        for notebook in notebooks:
            lived(notebook)
        gc.collect()
        held.append(process.memory_info().rss / 2**20)
        print(
            f"{(time.perf_counter() - began) / 60:5.1f} min, round {len(held)}: {held[-1]:.0f} MB",
            file=sys.stderr,
            flush=True,
        )
    few = max(1, (len(held) - WARM) // 4)
    first, last = statistics.median(held[WARM : WARM + few]), statistics.median(held[-few:])
    forgotten = sorted(left(folder) - before)
    memory = f"{first:.0f} MB, then {last:.0f} MB ({last / first - 1:+.1%})"
    print(
        f"{len(held)} rounds: {memory}; {len(forgotten)} temporary files or folders left",
        *forgotten,
        sep="\n",
    )
    shutil.rmtree(folder, ignore_errors=True)
    return int(last > 1.05 * first or bool(forgotten))


if __name__ == "__main__":
    sys.exit(main())
