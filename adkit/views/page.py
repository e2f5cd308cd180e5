"""What all live views share: a front end that needs no kernel, in a notebook or on a page."""

from __future__ import annotations

import base64
import html
import json
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anywidget
import numpy as np
import pandas as pd
import traitlets

from adkit.store import shown
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

    data = traitlets.Dict().tag(sync=True)
    """Everything the front end draws from, sent once."""
    key = traitlets.Unicode().tag(sync=True)
    """By which a saved output finds this widget, while there is one."""

    def __init__(self, limits: Mapping[str, int] | None = None, **traits):
        self.limits = limits or {}  # the last value of traits that count something
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
        return pictures.whole_page(shown(self.describe()), self._fragment())

    def save(self, path: str | Path) -> Path:
        """Write the page (.html), or a picture of the view as it stands (.png, .svg, .pdf)."""
        return pictures.save(path, self.page())

    def own(self) -> list[str]:
        """Return the names of the traits that make up what is shown."""
        inherited = {*anywidget.AnyWidget.class_trait_names(), "_esm", "_anywidget_id"}
        return [name for name in self.trait_names(sync=True) if name not in inherited]

    def _state(self, at_most: int = KEPT_AT_MOST) -> dict:
        """Return all that an output without a kernel draws from."""
        return {name: getattr(self, name) for name in self.own()}

    def _fragment(self) -> str:
        """Return the view, as it stands, as HTML for the middle of a page or a notebook."""
        module = self._esm.replace("export default", "const view =").replace("</", "<\\/")
        text = html.escape(shown(self.describe()))
        return f"""<div class="adkit mathjax_ignore">{text} (to see it, run the cell, or
trust this notebook)</div><script>(() => {{
const place = document.currentScript.previousElementSibling;
{module}
adkit.show(place, view, "{compressed(self._state())}");
}})()</script>"""

    def _repr_mimebundle_(self, **kwargs):
        return {"text/html": self._fragment(), "text/plain": shown(self.describe())}


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

    def __init__(self, histories: Sequence[Histories], limits: Mapping[str, int], **traits):
        on_task = [pd.Series(each.task).groupby(each.task).cumcount() for each in histories]
        self.order = np.argsort(on_task[0], kind="stable").tolist()
        called = zip(*map(_called, histories, on_task), strict=True)
        traits |= {"lifetimes": [" / ".join(dict.fromkeys(names)) for names in called]}
        super().__init__({"lifetime": len(self.order) - 1} | limits, **traits)

    @traitlets.default("data")
    def _first_data(self) -> dict:
        return self.numbers(self.lifetime)

    @traitlets.observe("lifetime")
    def _next_data(self, change) -> None:
        self.data = self.numbers(self.lifetime)

    def _state(self, at_most: int = KEPT_AT_MOST) -> dict:
        kept, size = {}, len(compressed(self.data))
        room = at_most - size
        for lifetime in self.order:
            if room >= size and lifetime != self.lifetime:
                kept[lifetime] = compressed(self.numbers(lifetime))
                size = len(kept[lifetime])
                room -= size
        return super()._state() | {"kept": kept}


def _called(histories: Histories, on_task: Sequence[int]) -> list[str]:
    """Return what each lifetime is called: what its task has of its own, and its number there."""
    tasks = histories.task_values
    brief = {name: values for name, values in tasks.columns.items() if values[0].size <= 3}
    brief = {
        name: values for name, values in brief.items() if (values != values[:1]).any()
    } or brief
    number = lambda x: f"{x:.3g}" if isinstance(x, np.number) else shown(x, 60)
    several = lambda xs: f"({', '.join(map(number, xs))})" if xs.ndim else number(xs)
    text = lambda task: ", ".join(f"{name} {several(of[task])}" for name, of in brief.items())
    what = [text(task) or f"task {tasks.ids[task]}" for task in range(len(tasks))]
    return [f"{what[task]}, lifetime {n}" for task, n in zip(histories.task, on_task, strict=True)]


def compressed(state: dict) -> str:
    """Return what a front end needs as text: JSON, compressed, in base 64."""
    encode = lambda data: {"base64": base64.b64encode(data).decode()}
    return base64.b64encode(zlib.compress(json.dumps(state, default=encode).encode())).decode()


def script(*names: str) -> str:
    """Return the front end of a view: one ES module that asks nothing of a network."""
    return "".join((VIEWS / name).read_text(encoding="utf-8") for name in ("common.js", *names))


def packed(array: np.ndarray, dtype: str) -> dict:
    """Return an array as the front end reads it: little-endian bytes with dtype and shape."""
    values = np.asarray(array)
    array = np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<"))
    if array.dtype.kind in "iu" and not (array == values).all():
        raise ValueError(f"{values.min()} to {values.max()} do not fit in {dtype}")
    return {"dtype": dtype, "shape": list(array.shape), "bytes": array.tobytes()}
