"""What all live views share: a front end that needs no kernel, in a notebook or on a page."""

from __future__ import annotations

import base64
import html
import json
import uuid
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import anywidget
import numpy as np
import traitlets

from adkit.views import pictures

if TYPE_CHECKING:
    from adkit.histories import Histories

VIEWS = Path(__file__).parent
KEPT_AT_MOST = 2 * 2**20
"""Compressed bytes of lifetimes in one output; the lifetime shown is there whatever its size."""
COUNTED = "lifetime", "episode", "step", "layer", "head", "attended"


class View(anywidget.AnyWidget):
    """A widget that goes on working without its kernel: its output holds all that it draws from.

    Where there is a kernel, its traits are two-way. Subclasses define `_esm`, and
    `describe()`, its one line of text.
    """

    limits: Mapping[str, int] = MappingProxyType({})
    """The last value of traits that count something."""

    data = traitlets.Dict().tag(sync=True)
    """Everything the front end draws from, sent once."""
    key = traitlets.Unicode().tag(sync=True)
    """By which a saved output finds this widget, while there is one."""

    def __init__(self, **traits):
        super().__init__(key=uuid.uuid4().hex, **traits)

    @traitlets.validate(*COUNTED)
    def _check_range(self, proposal) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        least, most = -(name == "attended"), self.limits.get(name, value)
        if not least <= value <= most:
            raise traitlets.TraitError(f"`{name}` must be in {least} to {most}, got {value}")
        return value

    def page(self) -> str:
        """Return one self-contained HTML page that works offline, with all controls."""
        return whole_page(self.describe(), self._fragment())

    def save(self, path: str | Path) -> Path:
        """Write the page (.html), or a picture of the view as it stands (.png, .svg, .pdf)."""
        return pictures.save(path, self.page())

    def own(self) -> list[str]:
        """Return the names of the traits that make up what is shown."""
        inherited = anywidget.AnyWidget.class_trait_names()
        names = (name for name in self.trait_names(sync=True) if name not in inherited)
        return [name for name in names if not name.startswith("_")]

    def _state(self, at_most: int = KEPT_AT_MOST) -> dict:
        """Return all that an output without a kernel draws from."""
        return {name: getattr(self, name) for name in self.own()}

    def _fragment(self) -> str:
        """Return the view, as it stands, as HTML for the middle of a page or a notebook."""
        module = self._esm.replace("export default", "const view =").replace("</", "<\\/")
        return f"""<div class="adkit">{html.escape(self.describe())} (to see it, run the cell, or
trust this notebook)</div><script>(() => {{
const place = document.currentScript.previousElementSibling;
{module}
adkit.show(place, view, "{compressed(self._state())}");
}})()</script>"""

    def _repr_mimebundle_(self, **kwargs):
        return {"text/html": self._fragment(), "text/plain": self.describe()}


class LifetimeView(View):
    """A view of one of several lifetimes, with a picker.

    A kernel computes the lifetime that is picked. A saved output holds the one that it shows and,
    as far as `KEPT_AT_MOST` goes, the first of each task, then the second of each, and so on; its
    picker says that the others need a kernel. Subclasses define `numbers(lifetime)`, what the front
    end draws that lifetime from.
    """

    lifetime = traitlets.Int(0).tag(sync=True)
    lifetimes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """What the picker calls each lifetime."""

    def __init__(self, histories: Sequence[Histories], lifetime: int, **traits):
        if not 0 <= lifetime < len(histories[0]):
            last = len(histories[0]) - 1
            raise ValueError(f"`lifetime` must be in 0 to {last}, got {lifetime}")
        numbers = [_number_on_task(each.task) for each in histories]
        called = zip(*map(_called, histories, numbers), strict=True)
        self.order = np.argsort(numbers[0], kind="stable").tolist()
        traits |= {"lifetimes": [" / ".join(dict.fromkeys(names)) for names in called]}
        super().__init__(data=self.numbers(lifetime), lifetime=lifetime, **traits)

    def picked(self) -> str:
        """Return the name of the lifetime shown, after a comma; nothing if there is but one."""
        return f", {self.lifetimes[self.lifetime]}" if len(self.lifetimes) > 1 else ""

    @traitlets.observe("lifetime")
    def _show_lifetime(self, change) -> None:
        if self.data["lifetime"] != self.lifetime:
            self.data = self.numbers(self.lifetime)

    def _state(self, at_most: int = KEPT_AT_MOST) -> dict:
        kept, size = {}, 0
        others = [lifetime for lifetime in self.order if lifetime != self.lifetime]
        room = at_most - len(compressed(self.data)) if others else 0
        for lifetime in others:
            if room < size:  # of the one before
                break
            kept[lifetime] = compressed(self.numbers(lifetime))
            size = len(kept[lifetime])
            room -= size
        return super()._state() | {"kept": kept}


def _number_on_task(task: np.ndarray) -> list[int]:
    """Return the number of each lifetime among those of its task, from 0."""
    seen = Counter()
    return [(seen.update([one]), seen[one] - 1)[1] for one in task.tolist()]


def _called(histories: Histories, numbers: list[int]) -> list[str]:
    """Return what each lifetime is called: what its task has of its own, and its number there."""
    tasks = histories.task_values
    varied = [name for name, of in tasks.columns.items() if (of != of[:1]).any()] or tasks.columns
    brief = [name for name in varied if tasks[name][0].size <= 3]
    text = lambda value: f"{value:.3g}" if isinstance(value, np.number) else str(value)
    called = []
    for task, number in zip(histories.task, numbers, strict=True):
        values = {name: ", ".join(map(text, tasks[name][task].flat)) for name in brief}
        what = (f"{n} ({v})" if "," in v else f"{n} {v}" for n, v in values.items())
        called.append(f"{', '.join(what) or f'task {tasks.ids[task]}'}, lifetime {number}")
    return called


def compressed(state: dict) -> str:
    """Return what a front end needs as text: JSON, compressed, in base 64."""
    encode = lambda data: {"base64": base64.b64encode(data).decode()}
    return base64.b64encode(zlib.compress(json.dumps(state, default=encode).encode())).decode()


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
