"""What every live view shares: its script, a picture for those who cannot run it, and a page of its own."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
from pathlib import Path

import numpy as np

VIEWS = Path(__file__).parent
ATTENTION, CURSOR, REWARD, GOOD = (
    "#0072B2",
    "#D55E00",
    "#E69F00",
    "#009E73",
)  # Okabe & Ito, as in common.js
ACROSS = 20  # cells across the map of a round room, whose radius is 1
PLATFORM = 0.12  # the radius of the Watermaze's
NOSE = 1.4  # cells: how far a heading points


def script(name: str) -> str:
    """The front end of a view: one plain ES module, no bundler, nothing from the network."""
    return (VIEWS / "common.js").read_text() + (VIEWS / name).read_text()


def with_picture(bundle, png: bytes, text: str) -> dict:
    """A widget's mimebundle with a PNG and a line of text: what GitHub, nbconvert and a notebook without a kernel show."""
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    return {**data, "image/png": base64.b64encode(png).decode(), "text/plain": text}


class Picture:
    """A still picture, and a line that says what it shows."""

    def __init__(self, png: bytes, text: str):
        self.png, self.text = png, text

    def _repr_mimebundle_(self, **kwargs):
        return with_picture({}, self.png, self.text)


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
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(
            f"{str(path)!r} is no file in a folder that is there; name one, such as 'view.html'."
        )
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


# ---- maps ----


def map_kind(lifetime) -> str | None:
    """How a lifetime's world is drawn: a "grid" of cells, a "round" room, a row of "arms", or not at all."""
    spec = lifetime.spec
    if spec.view is not None:
        return "round"
    if spec.cardinality and (len(spec.cardinality) == 2 or "home" in lifetime.task_values.columns):
        return "grid"
    return "arms" if "means" in lifetime.task_values.columns and spec.cardinality == (1,) else None


def map_size(lifetime) -> tuple[int, int]:
    """(columns, rows) of its map; (0, 0) if there is none."""
    kind, cardinality = map_kind(lifetime), lifetime.spec.cardinality
    grid = (
        cardinality
        if kind == "grid" and len(cardinality) == 2
        else (math.isqrt(cardinality[0]),) * 2
        if cardinality
        else None
    )
    columns, rows = {
        "round": (ACROSS, ACROSS),
        "grid": grid,
        "arms": (lifetime.spec.n_actions, 1),
        None: (0, 0),
    }[kind]
    return int(columns), int(rows)


def token_cells(lifetime) -> np.ndarray:
    """(E, H + 1, 2) where on its map each token of one lifetime was seen, in cells; an episode's last is where its last action led.

    In a round room cells have fractions; among arms it is the one just pulled, and -1 before.
    """
    obs, kind = lifetime.arrays["obs"][0], map_kind(lifetime)
    if kind == "arms":
        pulled = np.concatenate(
            [np.full_like(obs[:, :1, 0], -1, np.int16), lifetime.arrays["action"][0]], axis=1
        )
        return np.stack([pulled, np.minimum(pulled, 0)], axis=-1)
    cells = _of_tokens(lifetime, obs, lifetime.arrays["final_obs"][0])
    if kind == "grid" and cells.shape[-1] > 2:  # the first coordinate is the number of the cell
        return np.stack(np.divmod(cells[..., 0], map_size(lifetime)[1]), axis=-1)
    return in_cells(cells) if kind == "round" else cells


def _of_tokens(lifetime, steps: np.ndarray, final: np.ndarray) -> np.ndarray:
    """(E, H + 1, ...) from what was there before each step (E, H, ...) and after the last (E, ...)."""
    tokens = np.concatenate([steps, np.zeros_like(steps[:, :1])], axis=1)
    tokens[np.arange(len(tokens)), lifetime.length[0]] = final
    return tokens


def in_cells(place: np.ndarray) -> np.ndarray:
    """Places (..., 2 or more) in a round room as cells (..., 2) of its map: y points down there."""
    return (place[..., :2] * [1, -1] + 1) * (ACROSS / 2) - 0.5


def headings(lifetime) -> np.ndarray:
    """(E, H + 1) radians where poses have them, else nothing."""
    if map_kind(lifetime) != "round":
        return np.zeros(0)
    return _of_tokens(
        lifetime, lifetime.arrays["obs"][0, :, :, 2], lifetime.arrays["final_obs"][0, :, 2]
    )


def painted(
    size: tuple[int, int], cells: np.ndarray, weight: np.ndarray | float = 1.0
) -> np.ndarray:
    """(columns, rows) how often, or with how much weight, cells (n, 2) were visited; those before the first pull are on no map."""
    counts, at = np.zeros(size), np.rint(cells).astype(int)
    there = at[:, 0] >= 0
    np.add.at(counts, tuple(at[there].T), np.broadcast_to(weight, len(at))[there])
    return counts


def _circle(x: float, y: float, radius: float) -> list:
    return [
        [x + radius * np.cos(angle), y + radius * np.sin(angle)]
        for angle in np.linspace(0, 2 * np.pi, 49)
    ]


GLYPHS = {  # lines around (0, 0), in cells
    "goal": [[(-0.38, -0.38), (0.38, -0.38), (0.38, 0.38), (-0.38, 0.38), (-0.38, -0.38)]],
    "key": [
        _circle(-0.2, 0, 0.16),
        [(-0.04, 0), (0.38, 0), (0.38, 0.16)],
        [(0.22, 0), (0.22, 0.13)],
    ],
    "door": [
        [(-0.24, 0.4), (-0.24, -0.4), (0.24, -0.4), (0.24, 0.4), (-0.24, 0.4)],
        _circle(0.12, 0.03, 0.04),
    ],
    "platform": [_circle(0, 0, PLATFORM * ACROSS / 2)],
    "home": [[(-0.36, 0.4), (-0.36, -0.05), (0, -0.42), (0.36, -0.05), (0.36, 0.4), (-0.36, 0.4)]],
    "jar": [[(-0.2, -0.2), (-0.3, -0.1), (-0.3, 0.4), (0.3, 0.4), (0.3, -0.1), (0.2, -0.2)]],
    "garden": [
        [(0, 0.4), (0, -0.1)],
        [(-0.3, -0.15), (0, 0.15), (0.3, -0.15)],
        [(-0.2, -0.4), (0, -0.1), (0.2, -0.4)],
    ],
    "lid open": [[(-0.24, -0.26), (0.16, -0.46)]],
    "lid closed": [
        [(-0.24, -0.26), (0.24, -0.26)],
        [(-0.06, -0.26), (-0.06, -0.34), (0.06, -0.34), (0.06, -0.26)],
    ],
    "cookies": [_circle(-0.12, 0.26, 0.09), _circle(0.12, 0.26, 0.09), _circle(0, 0.06, 0.09)],
    "gift": [
        [(0.05, 0.1), (0.32, 0.1), (0.32, 0.36), (0.05, 0.36), (0.05, 0.1)],
        [(0.185, 0.36), (0.185, 0.1), (0.1, 0), (0.27, 0), (0.185, 0.1)],
    ],
    "hide": [
        [(-0.3, 0.14), (-0.02, 0.14), (-0.02, 0.36), (-0.3, 0.36), (-0.3, 0.14)],
        [(-0.24, 0.14), (-0.24, 0), (-0.08, 0), (-0.08, 0.14)],
    ],
}
GLYPHS["best"] = GLYPHS["goal"]
PLACES = ("goal", "key", "door", "home", "jar", "garden")


def marks(lifetime) -> list[dict]:
    """What is hidden in the lifetime's world: name, place (x, y) in cells, and the lines of its glyph there."""
    kind, columns = map_kind(lifetime), lifetime.task_values.columns
    if not len(lifetime) or kind is None:
        return []
    if kind == "arms":
        found = {"best": (int(columns["means"][0].argmax()), 0)}
    elif kind == "round":
        found = {"platform": in_cells(columns["goal"][0])} if "goal" in columns else {}
    else:
        return sites(lifetime.task_values)
    return [_mark(name, *place) for name, place in found.items()]


def sites(tasks) -> list[dict]:
    """Marks of the places (x, y) that the first of these tasks names."""
    found = {
        name: tasks[name][0]
        for name in PLACES
        if name in tasks.columns and tasks[name].shape[1:] == (2,)
    }
    return [_mark(name, *place) for name, place in found.items()]


def passing(lifetime) -> list[dict]:
    """Marks that come and go in the CookieWorld - the lid, cookies in the jar, a gift, the latch - with `when` (E, H + 1) they
    are there, packed."""
    columns = lifetime.task_values.columns
    if not len(lifetime) or not lifetime.n_episodes or "jar" not in columns:
        return []
    from adkit.cookieworld.world import CLOSED, COOKIES, GIFT

    felt = _of_tokens(
        lifetime, lifetime.arrays["obs"][0], lifetime.arrays["final_obs"][0]
    )  # (E, H + 1, 12)
    given, left, closed = felt[:, :1, GIFT] > 0, felt[..., COOKIES] > 0, felt[..., CLOSED] > 0
    times = {
        "lid open": ~closed,
        "lid closed": closed,
        "cookies": left,
        "gift": given & (np.arange(felt.shape[1]) == 0),
        "hide": closed,
    }
    place = {"gift": "home", "hide": "home"}
    return [
        _mark(name, *columns[place.get(name, "jar")][0]) | {"when": packed(when, "uint8")}
        for name, when in times.items()
    ]


def there(mark: dict, episode: int, token: int) -> bool:
    """Whether a mark is there at a token of an episode."""
    if "when" not in mark:
        return True
    _, tokens = mark["when"]["shape"]
    return mark["when"]["bytes"][episode * tokens + token] > 0


def _mark(name: str, x: float, y: float) -> dict:
    lines = [[[float(x + dx), float(y + dy)] for dx, dy in line] for line in GLYPHS[name]]
    return {"name": name, "x": float(x), "y": float(y), "lines": lines}


# ---- still pictures ----


def as_png(canvas) -> bytes:
    """A matplotlib figure as a PNG of 256 colours: a third of the bytes that true colour would put into a notebook."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    drawn, buffer = FigureCanvasAgg(canvas), io.BytesIO()
    drawn.draw()
    Image.fromarray(np.asarray(drawn.buffer_rgba())).convert("RGB").quantize(
        256, dither=Image.Dither.NONE
    ).save(buffer, "png")
    return buffer.getvalue()


def draw_room(
    ax,
    painted: np.ndarray,
    path: np.ndarray,
    marks=(),
    kind: str = "grid",
    heading: float | None = None,
) -> None:
    """A map (columns, rows) with its cells painted, x to the right and y downwards, and the way (t, 2) walked so far."""
    columns, rows = painted.shape
    if kind == "round":
        centre = (np.array(painted.shape) - 1) / 2
        outside = np.hypot(*(np.indices(painted.shape) - centre[:, None, None])) > columns / 2
        painted = np.ma.array(painted, mask=outside)
        ax.plot(*np.array(_circle(*centre, columns / 2)).T, color="#777777", linewidth=1.5)
        ax.axis("off")
    ax.imshow(
        painted.T,
        cmap="Blues",
        vmin=0,
        vmax=max(painted.max(), 1e-9) * 1.2,
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
    )
    ax.set_xticks(np.arange(-0.5, columns), [])
    ax.set_yticks(np.arange(-0.5, rows), [])
    ax.grid(color="#c4c9cf", linewidth=0.6)
    ax.tick_params(length=0)
    if kind == "arms":
        for arm, pulls in enumerate(painted[:, 0]):
            ax.text(arm, 0.8, f"{pulls:g}", ha="center", fontsize=7)
    for mark in marks:
        for line in mark["lines"]:
            ax.plot(*np.array(line).T, color=REWARD, linewidth=2)
    path = path[path[:, 0] >= 0]
    if not len(path):
        return
    ax.plot(*path.T, color="#333333", linewidth=1.5)
    ax.plot(
        *path[0],
        "o",
        markerfacecolor="none",
        markeredgecolor=GOOD,
        markersize=11,
        markeredgewidth=2,
    )
    if heading is not None:
        ahead = path[-1] + NOSE * np.array([np.cos(heading), -np.sin(heading)])
        ax.plot(*np.stack([path[-1], ahead]).T, color=CURSOR, linewidth=3)
    ax.plot(*path[-1], "o", color=CURSOR, markersize=8)
