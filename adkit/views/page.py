"""What all live views share: a front end, a static picture, and an HTML page that works offline."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable
from pathlib import Path

import anywidget
import numpy as np
import traitlets

VIEWS = Path(__file__).parent
# Okabe & Ito, as in common.js: distinguishable with any colour vision
ATTENTION = "#0072B2"
CURSOR = "#D55E00"
REWARD = "#E69F00"
GOOD = "#009E73"


# ---- live views ----


class View(anywidget.AnyWidget):
    """A widget with a static picture.

    Subclasses define `_esm`, `title`, `png()` and `describe()`, its one line of text.
    """

    title = ""
    """The title of the HTML page."""
    data = traitlets.Dict().tag(sync=True)
    """Everything the front end draws from, sent once."""

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained HTML file that works offline, with all controls."""
        inherited = anywidget.AnyWidget.class_trait_names()
        names = [name for name in self.trait_names(sync=True) if name not in inherited]
        state = {name: getattr(self, name) for name in names if not name.startswith("_")}
        Path(path).write_text(_page(self.title, self._esm, state), encoding="utf-8")
        return Path(path)

    def _repr_mimebundle_(self, **kwargs):
        return with_picture(super()._repr_mimebundle_(**kwargs), self.png(), self.describe())


def script(name: str) -> str:
    """Return the front end of a view: one ES module that asks nothing of a network."""
    return (VIEWS / "common.js").read_text() + (VIEWS / name).read_text()


def packed(array: np.ndarray, dtype: str) -> dict:
    """Return an array as the front end reads it: little-endian bytes with dtype and shape."""
    array = np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<"))
    return {"dtype": dtype, "shape": list(array.shape), "bytes": array.tobytes()}


def _page(title: str, module: str, state: dict) -> str:
    """Return a view's module and state as one HTML page."""
    values = json.dumps(state, default=lambda data: {"base64": base64.b64encode(data).decode()})
    safe = values.replace("<", "\\u003c")  # no text from a file may close the script
    module = module.replace("export default", "const view =").replace("</", "<\\/")
    style = "body { margin: 1rem; font-family: system-ui, sans-serif }"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>:root {{ color-scheme: light dark }} {style}</style></head>
<body><main id="view"></main>
<script type="module">{module}
view.render({{ model: adkit.offline({safe}), el: document.getElementById("view") }});
</script></body></html>
"""


# ---- static pictures ----


def with_picture(bundle, png: bytes, text: str) -> dict:
    """Add a PNG and a line of text to a widget's mimebundle, for GitHub and nbconvert."""
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    return {**data, "image/png": base64.b64encode(png).decode(), "text/plain": text}


def draw_png(draw: Callable, width: float, height: float, layout: str | None = "constrained"):
    """Return what `draw(canvas)` draws on a matplotlib figure of this size in inches, as a PNG.

    All text is literal: names may come from a file, and a name is never read as a formula. The
    picture has 256 colours, a third of the bytes that true colour would put into a notebook.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    with matplotlib.rc_context({"text.parse_math": False}):
        canvas = Figure(figsize=(width, height), dpi=100, layout=layout)
        draw(canvas)
        drawn = FigureCanvasAgg(canvas)
        drawn.draw()
    pixels = Image.fromarray(np.asarray(drawn.buffer_rgba())).convert("RGB")
    buffer = io.BytesIO()
    pixels.quantize(256, dither=Image.Dither.NONE).save(buffer, "png")
    return buffer.getvalue()
