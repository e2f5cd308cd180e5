"""What every live view shares: its script, a picture for those who cannot run it, and a page of its own."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from pathlib import Path

import numpy as np

VIEWS = Path(__file__).parent / "views"
ATTENTION, CURSOR, REWARD, GOOD = "#0072B2", "#D55E00", "#E69F00", "#009E73"  # Okabe & Ito, as in common.js


def script(name: str) -> str:
    """The front end of a view: one plain ES module, no bundler, nothing from the network."""
    return (VIEWS / "common.js").read_text() + (VIEWS / name).read_text()


def with_picture(bundle, png: bytes, text: str) -> dict:
    """A widget's mimebundle with a PNG and a line of text: what GitHub, nbconvert and a notebook without a kernel show."""
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    return {**data, "image/png": base64.b64encode(png).decode(), "text/plain": text}


def packed(array: np.ndarray, dtype: str) -> dict:
    """An array as the front end takes it: little-endian bytes with dtype and shape."""
    array = np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<"))
    return {"dtype": dtype, "shape": list(array.shape), "bytes": array.tobytes()}


def page(path: str | Path, title: str, name: str, state: dict) -> Path:
    """Write a view as one HTML file that works offline, with its controls; whole or not at all."""
    values = json.dumps(state, default=lambda data: {"base64": base64.b64encode(data).decode()})
    safe = values.replace("<", "\\u003c")  # no text from a file may close the script
    module = script(name).replace("export default", "const view =").replace("</", "<\\/")
    path = Path(path)
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>:root {{ color-scheme: light dark }} body {{ margin: 1rem; font-family: system-ui, sans-serif }}</style></head>
<body><main id="view"></main>
<script type="module">{module}
view.render({{ model: adkit.offline({safe}), el: document.getElementById("view") }});
</script></body></html>
"""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def token_cells(lifetime) -> np.ndarray:
    """(E, H + 1, 2) where each token of one lifetime was seen; an episode's last is where its last action led."""
    obs = lifetime.arrays["obs"][0]
    cells = np.concatenate([obs, np.zeros_like(obs[:, :1])], axis=1)
    cells[np.arange(len(cells)), lifetime.length[0]] = lifetime.arrays["final_obs"][0]
    return cells


def goal_cell(lifetime) -> list[int] | None:
    """The (x, y) of the lifetime's goal, if its task has one."""
    goal = lifetime.task_values["goal"][0] if len(lifetime) and "goal" in lifetime.task_values.columns else None
    return [int(v) for v in goal] if np.shape(goal) == (2,) else None


# ---- still pictures ----


def as_png(canvas) -> bytes:
    """A matplotlib figure as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(canvas)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def draw_room(ax, painted: np.ndarray, path: np.ndarray, goal=None) -> None:
    """A room (columns, rows) with its cells painted, x to the right and y downwards, and the way (t, 2) walked so far."""
    columns, rows = painted.shape
    ax.imshow(painted.T, cmap="Blues", vmin=0, vmax=max(painted.max(), 1e-9) * 1.2, extent=(-0.5, columns - 0.5, rows - 0.5, -0.5))
    ax.set_xticks(np.arange(-0.5, columns), [])
    ax.set_yticks(np.arange(-0.5, rows), [])
    ax.grid(color="#c4c9cf", linewidth=0.6)
    ax.tick_params(length=0)
    ax.plot(*path.T, color="#333333", linewidth=1.5)
    ax.plot(*path[0], "o", markerfacecolor="none", markeredgecolor=GOOD, markersize=11, markeredgewidth=2)
    ax.plot(*path[-1], "o", color=CURSOR, markersize=8)
    if goal is not None:
        ax.plot(*goal, "s", markerfacecolor="none", markeredgecolor=REWARD, markersize=16, markeredgewidth=2)
