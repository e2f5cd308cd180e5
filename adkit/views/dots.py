"""A picture of a table of estimates: a dot and its interval in each row."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from plotly.subplots import make_subplots

from adkit.stats import Interval
from adkit.views.figure import GREY, Figure, agent, head, plain, styles

MARKS = {"threshold": "line-ns-open", "control": "diamond-open"}
MARKS |= {"at least": "triangle-right-open", "at most": "triangle-left-open"}
MARKS |= {"interval above": "triangle-right", "interval below": "triangle-left"}
"""Columns marked beside the dots. A triangle points to where a dot or an interval should be."""
SYMBOLS = "circle", "square", "x", "cross", "star", "hexagram", "hourglass", "bowtie"
KIND = "kind of row"
FAINT = "rgba(128,128,128,0.25)"
LETTERS = 40  # of a row's name on one line, so that names take a third of 700 pixels


def intervals(
    table: pd.DataFrame | pd.Series | Mapping[str, Interval],
    x: str = "",
    by: str | None = None,
    panel: str | None = None,
    *,
    title: str = "",
    subtitle: str = "dot: estimate; line: 95% interval",
) -> Figure:
    """Draw each row of a table as a dot with its interval, in the table's order from the top.

    `table` has the columns "estimate", "low" and "high"; or "estimate" alone, of numbers or of
    `ad.stats.Interval`; a series or mapping of Intervals does as well. Its index names the rows.
    What columns with the names of `MARKS`, such as "threshold" and "control", hold is marked on the
    same axis. The column `by` has a word for each row's kind, which gives the dot its symbol and a
    colour of `styles`; without it the row's name gives the colour. The column `panel` has axis
    titles, such as units, each with an axis of its own; `x` is the title where there is one axis.
    ValueError for a table without what is drawn.
    """
    table = _rows(table, by, panel)
    kinds = _kinds(table, by)
    colours = {name: style["color"] for name, style in styles(filter(None, kinds)).items()}
    parts = list(table.groupby(panel, sort=False)) if panel else [(x, table)]
    labels = [[_label(name) for name in part.index] for _, part in parts]
    lines = lambda each: 1 + max(label.count("<br>") for label in each)
    tall = [len(each) * (9 + 15 * lines(each)) + 10 for each in labels]
    inside = sum(tall) + 60 * (len(parts) - 1)
    space = {"row_heights": tall, "vertical_spacing": 60 * (len(parts) > 1) / inside}
    figure = Figure(make_subplots(len(parts), 1, **space))
    for row, (axis, part) in enumerate(parts, 1):
        for kind, symbol in zip(kinds, SYMBOLS if by else SYMBOLS[:1] * len(kinds), strict=False):
            look = {"symbol": symbol, "color": colours.get(kind, GREY)}
            dots = _dots(part.where(part[KIND] == kind), look)
            figure.add_scatter(**dots, name=plain(kind), row=row, col=1)
        for column in [mark for mark in MARKS if mark in part]:
            figure.add_scatter(**_marks(part, column), name=column, row=row, col=1)
        ends = {"range": [len(part) - 0.4, -0.6], "showgrid": True, "gridcolor": FAINT}
        ticks = {"tickvals": np.arange(len(part)), "ticktext": labels[row - 1], "ticks": ""}
        figure.update_yaxes(**ends, **ticks, automargin=True, showline=False, row=row)
        zero = {"zeroline": True, "zerolinecolor": FAINT}
        figure.update_xaxes(title=plain(axis), **zero, row=row)
    _one_legend(figure, set() if by else set(map(plain, kinds)))
    head(figure, title, subtitle)
    figure.update_layout(height=inside + figure.layout.margin.t + 100)
    return figure


def _rows(table, by: str | None, panel: str | None) -> pd.DataFrame:
    """Return the table with the columns estimate, low and high as numbers."""
    if not isinstance(table, pd.DataFrame):
        table = pd.Series(table, dtype=object).to_frame("estimate")
    wanted = ["estimate", *[column for column in (by, panel) if column]]
    missing = [column for column in wanted if column not in table]
    if missing or table.empty:
        lacks = f"no column {missing[0]!r}" if missing else "no rows"
        try_ = "try pd.DataFrame([ad.stats.bootstrap(values), ...], index=names)"
        raise ValueError(f"a table with rows and {wanted} is drawn; this has {lacks}; {try_}")
    if "low" not in table:
        ends = [each if isinstance(each, tuple) else (each,) * 3 for each in table["estimate"]]
        table = table.assign(**dict(zip(Interval._fields, zip(*ends, strict=True), strict=True)))
    table = table.astype(dict.fromkeys([*Interval._fields, *MARKS.keys() & table], float))
    table[KIND] = table[by].astype(str) if by else [agent(name) or "" for name in table.index]
    if (table["low"] > table["high"]).any():
        row = table.index[table["low"] > table["high"]][0]
        raise ValueError(f"the low end of an interval must not be above the high end: row {row!r}")
    return table


def _kinds(table: pd.DataFrame, by: str | None) -> list[str]:
    """Return the kinds of rows in their order: that of their categories, or of the rows."""
    ordered = by and isinstance(table[by].dtype, pd.CategoricalDtype)
    return list(map(str, table[by].cat.categories if ordered else dict.fromkeys(table[KIND])))


def _label(name) -> str:
    """Return a row's name as plotly shows it, on as many lines as it needs."""
    words = ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)
    return "<br>".join(map(plain, textwrap.wrap(words, LETTERS) or [""]))


def _dots(part: pd.DataFrame, look: dict) -> dict:
    """Return a trace of dots with their intervals; rows of NaN leave their place empty."""
    estimate, low, high = (part[column].to_numpy() for column in Interval._fields)
    width = {"array": high - estimate, "arrayminus": estimate - low, "color": look["color"]}
    says = [Interval(*row) for row in zip(estimate, low, high, strict=True)]
    bars = {"error_x": width | {"symmetric": False, "thickness": 2.5, "width": 0}}
    text = {"text": [str(one) for one in says], "hovertemplate": "%{text}", "mode": "markers"}
    return {"x": estimate, "y": np.arange(len(part)), "marker": look | {"size": 9}} | text | bars


def _marks(part: pd.DataFrame, column: str) -> dict:
    """Return a trace of what a column such as "threshold" holds."""
    line = {"width": 2, "color": GREY}
    look = {"symbol": MARKS[column], "size": 12, "color": GREY, "line": line}
    hover = {"hovertemplate": column + " %{x:.3g}<extra></extra>", "mode": "markers"}
    return {"x": part[column].to_numpy(), "y": np.arange(len(part)), "marker": look} | hover


def _one_legend(figure: Figure, shown: set[str]) -> None:
    """Show each name once, and never those `shown` beside the rows."""
    for trace in figure.data:
        there = not np.isnan(np.asarray(trace.x, float)).all()
        trace.update(legendgroup=trace.name, showlegend=there and trace.name not in shown)
        shown |= {trace.name} if there else set()
