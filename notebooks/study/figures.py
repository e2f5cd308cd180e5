"""Figures of the study: drifting strengths, what a probe reads of them, and verdicts."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from plotly.subplots import make_subplots

from adkit.views.figure import COLOURS, DASHES, GREY, Figure, band, lay_out, plain
from study.verdicts import VERDICTS, Verdict, verdict_table

WORDS = dict(zip(VERDICTS, (COLOURS[2], COLOURS[1], COLOURS[0], "#777777"), strict=True))
READINGS = {  # column of `drift.readings`: its name in the legend, its colour
    "label": ("true", GREY),
    "believed": ("particle filter's estimate", COLOURS[2]),
    "read": ("read by the probe", COLOURS[0]),
}
LOOK = {"margin": {"l": 60, "r": 20, "t": 60, "b": 40}, "title": ""}
LEFT, RIGHT = {"xaxis": "x", "yaxis": "y"}, {"xaxis": "x2", "yaxis": "y2"}


def watermarked(figure: Figure) -> Figure:
    """Write across a figure of a smoke run that it is no evidence; return the figure."""
    font = {"size": 34, "color": "rgba(150,150,150,0.45)"}
    middle = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "textangle": -15}
    text = {"text": "smoke run, not evidence", "showarrow": False, "font": font}
    return figure.add_annotation(**text, **middle)


# ---- verdicts ----


def verdict(judged: Verdict) -> Figure:
    """Draw one hypothesis: effect, 95% interval, thresholds, negligible effects and null draws."""
    figure = Figure()
    small = {"x": judged.sesoi * np.array([-1, 1, 1, -1]), "y": [0, 0, 1, 1]}
    fill = {"fill": "toself", "mode": "none"}
    figure.add_scatter(**small, **fill, fillcolor=band("#888888"), name="too small to matter")
    if judged.null is not None and len(judged.null):
        count, edge = np.histogram(judged.null, bins=20)
        x = np.r_[edge[0], np.repeat(edge, 2)[1:-1], edge[-1]]
        y = np.r_[0, np.repeat(count, 2), 0] / count.max() * 0.8
        blue = band(COLOURS[5], 0.5)
        figure.add_scatter(x=x, y=y, **fill, fillcolor=blue, name="null distribution")
    rules = judged.rules[judged.rules.measure == judged.measure]  # as vertical lines
    for i, (role, of) in enumerate(rules[rules.role != "control"].groupby("role", sort=False)):
        line = {"color": COLOURS[2 - i], "dash": DASHES[1 + i], "width": 1.5}
        for rule in of.rule:
            ends = {"x": [float(rule.split()[1])] * 2, "y": [0, 1]}
            figure.add_scatter(**ends, mode="lines", line=line, name=plain(f"{role}: {rule}"))
    if judged.effect is not None:
        line = {"color": COLOURS[0], "width": 4}
        ends = {"x": judged.effect[1:], "y": [0.9, 0.9]}
        figure.add_scatter(**ends, mode="lines", line=line, name="95% interval")
        name = plain(f"{judged.measure} = {judged.effect}")
        figure.add_scatter(x=judged.effect[:1], y=[0.9], mode="markers", line=line, name=name)
    inconclusive = judged.verdict == "inconclusive"
    mde = f" (minimum detectable effect {judged.mde:.2g})" if inconclusive else ""
    lay_out(figure, f"{judged.name}: {judged.verdict}", f"{judged.measure}{mde}", "", False)
    figure.update_yaxes(visible=False)
    return figure


def verdicts(judged: Mapping[str, Verdict]) -> Styler:
    """Return the verdict table that fits a page, coloured by verdict.

    `verdicts.verdict_table` is the whole table, reasons included.
    """
    table = verdict_table(judged)
    rows = table.itertuples()
    effects = [f"{r.measure}\n{r.effect:.3g} [{r.low:.3g}, {r.high:.3g}]" for r in rows]
    shown = table[["verdict", "null, 95%", "sesoi", "detectable", "controls"]].copy()
    shown["verdict"] = (table.verdict + "\n" + table.grade).str.strip()
    shown.insert(1, "effect, 95%", effects)
    shown.insert(2, "supported if", table.threshold.str.replace(", ", "\n"))
    shown["null, 95%"] = shown["null, 95%"].str.replace(" to ", "\nto ")
    paint = table.verdict.map(lambda word: f"background-color: {WORDS[word]}; color: white")
    style = shown.style.apply(lambda _: paint, subset=["verdict"])
    style.set_table_attributes('class="mathjax_ignore"')
    style.set_properties(**{"white-space": "pre", "text-align": "left"})
    digits = dict.fromkeys(("sesoi", "detectable"), "{:.3g}")
    return style.format(digits, na_rep="", escape="html").format_index(escape="html")


# ---- drift ----


def drift(strengths: Mapping[str, np.ndarray]) -> Figure:
    """Draw how strengths (N, days) change, one panel per name.

    The first six of each are thin lines, the mean over all N a thick one.
    """
    names = [plain(name) for name in strengths]
    figure = Figure(make_subplots(1, len(names), shared_yaxes=True, subplot_titles=names))
    thin, thick = {"color": COLOURS[5], "width": 0.8}, {"color": COLOURS[0], "width": 2.5}
    for i, (name, values) in enumerate(zip(names, strengths.values(), strict=True), 1):
        number, day = "" if i == 1 else i, np.arange(1, values.shape[1] + 1)
        axes = {"xaxis": f"x{number}", "yaxis": f"y{number}", "mode": "lines", "x": day}
        for lifetime in values[:6]:
            figure.add_scatter(y=lifetime, name=name, line=thin, **axes)
        figure.add_scatter(y=values.mean(0), name=f"{name}, mean", line=thick, **axes)
    figure.update_xaxes(title="day")
    figure.update_yaxes(title="strength of the cookie shard", col=1, rangemode="tozero")
    figure.update_layout(height=300, showlegend=False, **LOOK)
    return figure


def lifetime(readings: pd.DataFrame) -> Figure:
    """Draw a lifetime's strength day by day, and all lifetimes on the day that a slider names.

    `readings` come from `drift.readings`; the lifetime is the one with most days.
    """
    one = readings[readings["history"] == readings["history"].value_counts().idxmax()]
    titles = ["one lifetime", "all lifetimes, that day"]
    figure = Figure(make_subplots(1, 2, column_widths=[0.62, 0.38], subplot_titles=titles))
    for dash, (column, (name, colour)) in zip(DASHES, READINGS.items(), strict=False):
        line = {"color": colour, "width": 2, "dash": dash}
        x, y = one["day"] + 1, one[column]
        figure.add_scatter(x=x, y=y, mode="lines", name=name, line=line, **LEFT)
    values = readings[list(READINGS)]
    ends = [values.min().min(), values.max().max()]
    diagonal = {"color": "#BBBBBB", "width": 1}
    figure.add_scatter(x=ends, y=ends, mode="lines", line=diagonal, showlegend=False, **RIGHT)
    _add_day_slider(figure, readings, ends)
    figure.update_layout(height=430, **LOOK)
    for col, x, y in ((1, "day", "strength, cookie over food, log"), (2, "true", "read")):
        figure.update_xaxes(title=x, col=col)
        figure.update_yaxes(title=y, col=col)
    return figure


def _add_day_slider(figure: Figure, readings: pd.DataFrame, ends: list[float]) -> None:
    """Add a cursor on the left and the dots of its day on the right, both moved by a slider."""
    days = sorted(readings["day"].unique())
    first = readings["day"].value_counts().sort_index().idxmax()  # the day with most lifetimes
    cursor, dots = len(figure.data), len(figure.data) + 1

    def on(day: int) -> tuple[dict, dict]:
        of = readings[readings["day"] == day]
        dots = {"x": of["label"].tolist(), "y": of["read"].tolist()}
        return {"x": [day + 1] * 2, "y": ends}, dots

    line, points = on(first)
    red = {"color": COLOURS[1], "width": 1.5}
    figure.add_scatter(**line, mode="lines", line=red, showlegend=False, **LEFT)
    look = {"mode": "markers", "marker": {"size": 7}, "line": {"color": COLOURS[0]}}
    figure.add_scatter(**points, **look, showlegend=False, name="read by the probe", **RIGHT)
    steps = []
    for day in days:
        line, points = on(day)
        change = {axis: [line[axis], points[axis]] for axis in "xy"}
        steps.append({"method": "restyle", "args": [change, [cursor, dots]], "label": str(day + 1)})
    slider = {"active": days.index(first), "steps": steps, "currentvalue": {"prefix": "day "}}
    figure.update_layout(sliders=[slider | {"pad": {"t": 45}}])
