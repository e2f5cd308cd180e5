"""Plotly figures: how we colour them, size them, and escape the names in them."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.io import templates

from adkit.store import shown
from adkit.views import pictures

# Okabe & Ito: distinguishable with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
PLOTLY = "application/vnd.plotly.v1+json"
GREY = "#767676"  # legible on white and on black: a figure does not know JupyterLab's theme
AXIS = {"linecolor": GREY, "tickcolor": GREY}
CLEAR = "rgba(0,0,0,0)"
AGENTS = {  # one colour and one dash for one meaning, in every figure
    "distilled": (COLOURS[0], "solid"),
    "no memory": (COLOURS[1], "dot"),
    "source": (COLOURS[4], "dash"),
    "expert distillation": (COLOURS[3], "dashdot"),
    "RL2": (COLOURS[2], "longdash"),
    "particle filter": (COLOURS[5], "longdashdot"),
    "random": ("#8C6D46", "longdashdot"),
    "optimum": (GREY, "dash"),  # alone in grey
}
# from Tol's muted palette
OTHERS = [("#AA4499", "solid"), ("#999933", "dash"), ("#44AA99", "dot"), ("#6699CC", "dashdot")]
OTHERS += [("#882255", "longdash")]
# plotly's "simple_white" less its looks of forty kinds of traces, which each figure would carry
templates["adkit"] = go.layout.Template(layout=templates["simple_white"].layout)
templates["adkit"].layout.update(
    font={"color": GREY},
    paper_bgcolor=CLEAR,
    plot_bgcolor=CLEAR,
    margin={"l": 60, "r": 20, "t": 40, "b": 50},
    legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
    xaxis=AXIS,
    yaxis=AXIS,
)


class Figure(go.Figure):
    """A plotly figure of any traces that a saved notebook shows without a kernel.

    It is as wide as its place, and in the colours of its theme.
    """

    # plotly's own would put megabytes of script into the notebook
    _ipython_display_ = _repr_html_ = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.update_layout(template="adkit")

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
        look = {"default_width": "100%", "config": {"displayModeBar": False, "responsive": True}}
        drawn = self.to_html(include_plotlyjs=True, full_html=False, **look)
        return pictures.whole_page("adkit", f'<div style="max-width: 760px">{drawn}</div>')


# ---- parts of figures ----


def plain(words) -> str:
    """Return text that plotly, which reads tags and TeX, shows as it is: it may be a stranger's."""
    return html.escape(shown(words), quote=False).replace("$", "&#36;")


def band(colour: str, alpha: float = 0.18) -> str:
    """Return a colour such as "#0072B2" made transparent."""
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"


def agent(name) -> str | None:
    """Return the agent of `AGENTS` with which a name begins, None if there is none."""
    return next((agent for agent in AGENTS if str(name).startswith(agent)), None)


def styles(names: Iterable[str]) -> dict[str, dict]:
    """Return each curve's colour and dash: an agent's own if its name begins with one of `AGENTS`.

    A second curve of the same agent has its colour and the next dash. ValueError for more curves
    than can be told apart.
    """
    given, others = {}, iter(OTHERS)
    for name in names:
        colour, dash = AGENTS.get(agent(name)) or next(others, ("", ""))
        used = [style["dash"] for style in given.values() if style["color"] == colour]
        dash = next((d for d in (dash, *DASHES) if d not in used), None)
        if not (colour and dash):
            most = f"a figure tells {len(OTHERS)} curves apart beside {', '.join(AGENTS)}"
            raise ValueError(f"{most}; {name!r} is one too many: draw two figures")
        given[name] = {"color": colour, "dash": dash}
    return given


def add_curve(
    figure: Figure, name: str, style: dict, at, mean, low=None, high=None, mode="lines"
) -> None:
    """Add a line, with its band if it has one; `style` is one of `styles`."""
    name = plain(name)
    group = {"name": name, "legendgroup": name}
    if low is not None:
        area = {"x": np.r_[at, at[::-1]], "y": np.r_[high, low[::-1]], "fill": "toself"}
        hidden = {"mode": "none", "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(**area, **hidden, **group, fillcolor=band(style["color"]))
    figure.add_scatter(x=at, y=mean, mode=mode, line=style | {"width": 2}, **group)


def head(figure: Figure, title: str, subtitle: str = "") -> None:
    """Give a figure its title, a line under it, and room for those that are there."""
    text = {"text": plain(title), "subtitle": {"text": plain(subtitle)}}
    place = {"yref": "container", "y": 1, "yanchor": "top", "pad": {"t": 12}}
    figure.update_layout(title=text | place, margin={"t": 68 if title and subtitle else 40})


def lay_out(
    figure: Figure, title: str, x: str, y: str, log_x: bool = False, subtitle: str = ""
) -> None:
    """Give a figure of curves its title, what its lines and bands are, its axes and height."""
    head(figure, title, subtitle)
    figure.update_layout(height=420)
    figure.update_xaxes(title=plain(x), type="log" if log_x else None)
    figure.update_yaxes(title=plain(y), rangemode="tozero")
