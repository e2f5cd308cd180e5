"""What all live views share: a front end that needs no kernel, in a notebook or on a page."""

from __future__ import annotations

import base64
import html
import json
import uuid
import zlib
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from adkit.views import pictures

VIEWS = Path(__file__).parent


class View(anywidget.AnyWidget):
    """A widget that goes on working without its kernel: its output holds all that it draws from.

    Where there is a kernel, its traits are two-way. Subclasses define `_esm`, `title`, and
    `describe()`, its one line of text.
    """

    title = ""
    """The title of the HTML page."""
    data = traitlets.Dict().tag(sync=True)
    """Everything the front end draws from, sent once."""
    key = traitlets.Unicode().tag(sync=True)
    """By which a saved output finds this widget, while there is one."""

    def __init__(self, **traits):
        super().__init__(key=uuid.uuid4().hex, **traits)

    def page(self) -> str:
        """Return one self-contained HTML page that works offline, with all controls."""
        return whole_page(self.title, self._fragment())

    def save(self, path: str | Path) -> Path:
        """Write the page (.html), or a picture of the view as it stands (.png, .svg, .pdf)."""
        return pictures.save(path, self.page())

    def _fragment(self) -> str:
        """Return the view, as it stands, as HTML for the middle of a page or a notebook."""
        inherited = anywidget.AnyWidget.class_trait_names()
        names = [name for name in self.trait_names(sync=True) if name not in inherited]
        state = {name: getattr(self, name) for name in names if not name.startswith("_")}
        encode = lambda data: {"base64": base64.b64encode(data).decode()}
        packed = zlib.compress(json.dumps(state, default=encode).encode())
        module = self._esm.replace("export default", "const view =").replace("</", "<\\/")
        return f"""<div class="adkit">{html.escape(self.describe())} (to see it, run the cell, or
trust this notebook)</div><script>(() => {{
const place = document.currentScript.previousElementSibling;
{module}
adkit.show(place, view, "{base64.b64encode(packed).decode()}");
}})()</script>"""

    def _repr_mimebundle_(self, **kwargs):
        return {"text/html": self._fragment(), "text/plain": self.describe()}


def script(*names: str) -> str:
    """Return the front end of a view: one ES module that asks nothing of a network."""
    return "".join((VIEWS / name).read_text() for name in ("common.js", *names))


def packed(array: np.ndarray, dtype: str) -> dict:
    """Return an array as the front end reads it: little-endian bytes with dtype and shape."""
    array = np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<"))
    return {"dtype": dtype, "shape": list(array.shape), "bytes": array.tobytes()}


def whole_page(title: str, fragment: str) -> str:
    """Return a page of its own for what a notebook holds of a view."""
    style = ":root { color-scheme: light dark } body { margin: 1rem }"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>{style}</style></head>
<body>{fragment}</body></html>
"""
