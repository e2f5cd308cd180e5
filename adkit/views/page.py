"""What all live views share: a front end, and an HTML page that works offline."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from adkit.views import pictures

VIEWS = Path(__file__).parent


class View(anywidget.AnyWidget):
    """A widget that is also a page.

    Subclasses define `_esm`, `title`, and `describe()`, its one line of text.
    """

    title = ""
    """The title of the HTML page."""
    data = traitlets.Dict().tag(sync=True)
    """Everything the front end draws from, sent once."""

    def to_html(self, path: str | Path) -> Path:
        """Write the page to a file; return its path."""
        Path(path).write_text(self.page(), encoding="utf-8")
        return Path(path)

    def png(self) -> bytes:
        """Return a picture of the view as it stands; RuntimeError without a browser to draw it."""
        (picture,) = pictures.draw([self.page()])
        return picture

    def page(self) -> str:
        """Return one self-contained HTML page that works offline, with all controls."""
        inherited = anywidget.AnyWidget.class_trait_names()
        names = [name for name in self.trait_names(sync=True) if name not in inherited]
        state = {name: getattr(self, name) for name in names if not name.startswith("_")}
        return offline(self.title, self._esm, state)

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        return {**data, "text/plain": self.describe()}


def script(*names: str) -> str:
    """Return the front end of a view: one ES module that asks nothing of a network."""
    return "".join((VIEWS / name).read_text() for name in ("common.js", *names))


def packed(array: np.ndarray, dtype: str) -> dict:
    """Return an array as the front end reads it: little-endian bytes with dtype and shape."""
    array = np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<"))
    return {"dtype": dtype, "shape": list(array.shape), "bytes": array.tobytes()}


def offline(title: str, module: str, state: dict) -> str:
    """Return a view's module and state as one HTML page; bytes are packed, or {"base64": text}."""
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
