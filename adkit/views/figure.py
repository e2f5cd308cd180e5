"""Plotly figures: how we colour them, size them, and escape the names in them."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.io import templates

from adkit.views import pictures

# Okabe & Ito: distinguishable with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash", "dot")
PLOTLY = "application/vnd.plotly.v1+json"
GREY = "#767676"  # legible on white and on black: a figure does not know JupyterLab's theme
AXIS = {"linecolor": GREY, "tickcolor": GREY}
CLEAR = "rgba(0,0,0,0)"
templates["adkit"] = go.layout.Template(
    layout={
        "font": {"color": GREY},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "legend": {"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
        "xaxis": AXIS,
        "yaxis": AXIS,
    }
)


class Figure(go.Figure):
    """A plotly figure of any traces that a saved notebook shows without a kernel.

    It is as wide as its place, and in the colours of its theme.
    """

    # plotly's own would put megabytes of script into the notebook
    _ipython_display_ = _repr_html_ = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.update_layout(template="simple_white+adkit")

    def _repr_mimebundle_(self, *args, **kwargs):
        """Return the figure as JupyterLab draws it, live, and a line of text."""
        names = [trace.name for trace in self.data if trace.name and trace.showlegend is not False]
        text = "Figure: " + html.unescape(", ".join(names))
        return {PLOTLY: json.loads(self.to_json()), "text/plain": text}

    def save(self, path: str | Path) -> Path:
        """Write a page that works offline (.html), or a picture (.png, .svg, .pdf)."""
        return pictures.save(path, self.page())

    def page(self) -> str:
        """Return the figure as one self-contained HTML page."""
        look = {"default_width": "760px", "config": {"displayModeBar": False}}
        return self.to_html(include_plotlyjs=True, **look)


# ---- parts of figures ----


def plain(words) -> str:
    """Return text that plotly, which reads tags, shows literally: names may come from a file."""
    return html.escape(str(words), quote=False)


def band(colour: str, alpha: float = 0.18) -> str:
    """Return a colour such as "#0072B2" made transparent."""
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"


def add_curve(figure: Figure, i: int, name: str, at, mean, low, high, mode: str = "lines") -> None:
    """Add line number `i` with its band."""
    colour, dash, name = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], plain(name)
    group = {"name": name, "legendgroup": name}
    area = {"x": np.r_[at, at[::-1]], "y": np.r_[high, low[::-1]], "fill": "toself", "mode": "none"}
    hidden = {"fillcolor": band(colour), "hoverinfo": "skip", "showlegend": False}
    figure.add_scatter(**area, **hidden, **group)
    line = {"color": colour, "dash": dash, "width": 2}
    figure.add_scatter(x=at, y=mean, mode=mode, line=line, **group)


def lay_out(figure: Figure, title: str, x: str, y: str, log_x: bool = False) -> None:
    """Give a figure of curves its title, axes and size."""
    xaxis = {"title": plain(x), "type": "log" if log_x else None}
    yaxis = {"title": plain(y), "rangemode": "tozero"}
    size_figure(figure, title, height=420, xaxis=xaxis, yaxis=yaxis)


def size_figure(figure: Figure, title: str, **layout) -> None:
    """Give a figure its title, its size and the margins they need."""
    margin = {"l": 60, "r": 20, "t": 40 if title else 20, "b": 50}
    figure.update_layout(**{"title": plain(title), "margin": margin} | layout)
