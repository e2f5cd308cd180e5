"""Run the notebooks from top to bottom; say what each found, and what time and memory it took.

python notebooks/run.py                          all of them, in the quick profile
python notebooks/run.py 01 03 --profile full     these two, at full length
python notebooks/run.py --one-core --memory-limit 1000      as on Binder
"""

import argparse
import base64
import io
import os
import re
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from PIL import Image, ImageDraw
from tqdm import tqdm

from adkit.views import figure, pictures

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs" / "notebooks"
FOUND = re.compile(r"\*\*Found\.\*\* (.*)")
TIMEOUT = {"quick": 900, "standard": 24 * 3600, "full": 24 * 3600}  # seconds a cell may take


class PeakMemory:
    """The most memory (MB resident) that the kernel and its children held in a `with` block."""

    def __enter__(self):
        self.megabytes, self._over = 0.0, threading.Event()
        self._watch = threading.Thread(target=self._poll, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._watch.join()

    def _poll(self):
        while not self._over.wait(0.1):
            held = 0
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess, OSError):
                    held += most_held(process)
            self.megabytes = max(self.megabytes, held / 1e6)


def most_held(process: psutil.Process) -> int:
    """Return bytes resident: the most so far where the system keeps it (Linux), else those now."""
    status = Path(f"/proc/{process.pid}/status")
    kept = re.search(r"VmHWM:\s*(\d+) kB", status.read_text("utf-8")) if status.exists() else None
    return 1024 * int(kept[1]) if kept else process.memory_info().rss


def find(name: str) -> Path:
    """The notebook that a person means by a path, a file name, or the start of one such as 01."""
    if Path(name).is_file():
        return Path(name).resolve()
    found = sorted(HERE.glob(f"{name}*.ipynb"))
    if len(found) != 1:
        there = ", ".join(path.stem for path in sorted(HERE.glob("*.ipynb"))) or "none"
        sys.exit(f"{name!r} names {len(found)} notebooks; give one of: {there}")
    return found[0]


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def execute(notebook, folder: Path, bar) -> Exception | None:
    """Run every cell in a fresh kernel; return the error that stopped it, if one did."""
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=TIMEOUT[os.environ["ADKIT_PROFILE"]],
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],
        on_cell_executed=lambda **_: bar.update(),
    )
    try:
        client.execute()
    except CellControlSignal as error:  # a cell raised, or ran past its time
        return error
    except DeadKernelError:
        return RuntimeError(
            "The kernel was killed, most often because memory ran out. "
            "Close other kernels and run again."
        )


def draw(notebook) -> None:
    """Put a picture beside each live view and figure, for whoever reads without scripts."""
    outputs = (out for cell in code_cells(notebook) for out in cell.outputs)
    shown = [
        out.data for out in outputs if "data" in out and (figure.PLOTLY in out.data or is_view(out))
    ]
    for data, png in zip(shown, pictures.draw(map(one_page, shown)), strict=True):
        # JupyterLab would show a figure's PNG, at one width, in place of the live figure
        kind = "jpeg" if figure.PLOTLY in data else "png"
        data[f"image/{kind}"] = base64.b64encode(small_picture(png, kind)).decode()


def small_picture(png: bytes, kind: str) -> bytes:
    """Return a picture in a third of the bytes, with no difference to see."""
    pixels, small = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    if kind == "png":
        pixels = stamped(pixels).quantize(256, dither=Image.Dither.NONE)
    pixels.save(small, kind, optimize=True, quality=75)
    return small.getvalue()


def stamped(view: Image.Image) -> Image.Image:
    """Return the picture of a view with a line below it: its sliders look as if they moved."""
    whole = Image.new("RGB", (view.width, view.height + 22), "white")
    whole.paste(view, (0, 0))
    says = "This is a picture. Run the notebook, and it moves."
    ImageDraw.Draw(whole).text((4, view.height + 4), says, fill="#767676", font_size=13)
    return whole


def is_view(out: NotebookNode) -> bool:
    return out.get("data", {}).get("text/html", "").startswith('<div class="adkit ')


def one_page(data: dict) -> str:
    """Return an output as a page of its own."""
    if figure.PLOTLY not in data:
        return pictures.whole_page("", data["text/html"])
    parts = {part: data[figure.PLOTLY][part] for part in ("data", "layout")}
    return figure.Figure(parts).page()


def tidy(notebook) -> None:
    """Leave out what changes from run to run: timings, progress bars and widget state."""
    notebook.metadata.pop("widgets", None)
    for cell in code_cells(notebook):
        cell.metadata.pop("execution", None)
        cell.outputs = [out for out in cell.outputs if not is_progress(out)]


def is_progress(out: NotebookNode) -> bool:
    """Return whether an output is what a progress bar wrote: itself, or the spaces after it."""
    text = out.get("text", "x").replace("\x1b[A", "")  # which moves a line up
    return not text.strip() or bool(re.search(r"\w/s\]|s/\w[\w ]*\]", text))


def small(notebook) -> NotebookNode:
    """Return the notebook with pictures in place of views, which would be megabytes in git."""
    for out in (out for cell in code_cells(notebook) for out in cell.outputs):
        if is_view(out) and "image/png" in out.data:
            del out.data["text/html"]
    return notebook


def result(notebook) -> str:
    """Return the sentence that says what the notebook found; it stands at its top."""
    said = (
        out.get("data", {}).get("text/markdown", "")
        for cell in code_cells(notebook)
        for out in cell.outputs
    )
    return next((text[1] for text in map(FOUND.match, said) if text), "")


def write(notebook, name: str) -> None:
    RUNS.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, RUNS / f"{name}.ipynb")
    page, _ = HTMLExporter(embed_images=True).from_notebook_node(
        notebook, {"metadata": {"name": name}}
    )
    (RUNS / f"{name}.html").write_text(page, encoding="utf-8")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = "such as 01; all the numbered ones when none is given"
    parser.add_argument("names", nargs="*", metavar="notebook", help=which)
    how_long = "how long each notebook trains and acts; standard is for 07 to 09"
    parser.add_argument("--profile", choices=TIMEOUT, help=how_long)
    keep = "also keep the outputs in notebooks/"
    parser.add_argument("--in-place", action="store_true", help=keep)
    quick = "do not draw figures and views, for readers without scripts"
    parser.add_argument("--no-pictures", action="store_true", help=quick)
    parser.add_argument("--one-core", action="store_true", help="run on a single core")
    most = {"type": float, "default": float("inf"), "metavar": "MB"}
    fails = "fail when a notebook holds more than this"
    parser.add_argument("--memory-limit", **most, help=fails)
    return parser


def limit(profile: str, one_core: bool, megabytes: float) -> None:
    """Tell the kernels, by the environment, what they may take."""
    os.environ["ADKIT_PROFILE"] = profile
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the Makefile does, and why
    if one_core:
        os.environ["CPU_LIMIT"] = "1"
        if hasattr(os, "sched_setaffinity"):  # Linux
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the kernels inherit it
    if megabytes < float("inf"):
        os.environ["MEM_LIMIT"] = str(int(megabytes * 1e6))


def read_notebooks(names: list[str], profile: str) -> dict[Path, NotebookNode]:
    """Return the notebooks, if all of them have the profile."""
    paths = [find(name) for name in names] or sorted(HERE.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        sys.exit(f"There are no notebooks in {HERE}.")
    notebooks = {path: nbformat.read(path, as_version=4) for path in paths}
    for path, notebook in notebooks.items():
        code = "".join(cell.source for cell in code_cells(notebook))
        if "ADKIT_PROFILE" in code and f'"{profile}"' not in code:
            lacks = f"{path.stem} has no profile {profile!r}"
            sys.exit(f"{lacks}; name those that have, or give another --profile.")
    return notebooks


def run(
    path: Path, notebook: NotebookNode, bar: tqdm, in_place: bool, drawn: bool, most: float
) -> tuple[str, Exception | None, bool]:
    """Run one notebook; return its row, its error, and whether it held too much memory."""
    start = time.perf_counter()
    with PeakMemory() as peak:
        error = execute(notebook, path.parent, bar)
    seconds = time.perf_counter() - start
    if drawn:
        draw(notebook)
    tidy(notebook)
    write(notebook, path.stem)
    if in_place and not error:
        nbformat.write(small(notebook), path)
    above = peak.megabytes > most
    says = "FAILED" if error else result(notebook) + f"  ABOVE {most:.0f} MB" * above
    return f"{seconds:7.1f}  {peak.megabytes:7.0f}  {says}", error, above


def main() -> int:
    profile = ["--profile", os.environ.get("ADKIT_PROFILE", "quick")]
    args = arguments().parse_args([*profile, *sys.argv[1:]])
    drawn = not args.no_pictures and pictures.browser() is not None
    if not (drawn or args.no_pictures):
        print(f"Without pictures: {pictures.HELP}", file=sys.stderr)
    if args.in_place and not drawn:
        sys.exit("notebooks are kept with their pictures only")
    limit(args.profile, args.one_core, args.memory_limit)
    notebooks = read_notebooks(args.names, args.profile)
    width = max([len("notebook"), *(len(path.stem) for path in notebooks)])
    cells, failed = sum(len(code_cells(notebook)) for notebook in notebooks.values()), False
    with tqdm(total=cells, unit="cell", disable=None, leave=False) as bar:
        bar.write(f"{'notebook':{width}}  seconds  peak MB  result")
        for path, notebook in notebooks.items():
            bar.set_description(path.stem)
            row, error, above = run(path, notebook, bar, args.in_place, drawn, args.memory_limit)
            bar.write(f"{path.stem:{width}}  {row}")
            failed |= bool(error) or above
            if error:
                break
    where = f"The executed notebooks and their HTML are in {os.path.relpath(RUNS)}."
    print(f"\n{where} To open the workbench: make lab")
    if error:
        sys.stdout.flush()
        print(f"\n{path.stem} stopped here:\n{error}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
