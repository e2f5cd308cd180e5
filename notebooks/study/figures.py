"""Studies of creatures: strengths that drift, what a probe reads of them, and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from adkit.views.figure import COLOURS, DASHES, Figure, band, lay_out, plain

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

    from study.verdicts import Verdict

WORDS = {
    "supported": COLOURS[2],
    "refuted": COLOURS[1],
    "inconclusive": COLOURS[0],
    "untestable": "#777777",
}


def verdict(judged: Verdict) -> Figure:
    """A hypothesis at a glance: effect and interval, thresholds, the band of effects too small to matter, the null distribution."""
    if not hasattr(judged, "rules"):
        raise ValueError(
            f"{type(judged).__name__} given; give one verdict, such as probing.verdicts(...)['H0']."
        )
    name, gates = (
        judged.measure,
        judged.rules[(judged.rules.measure == judged.measure) & (judged.rules.role != "control")],
    )
    figure = Figure()
    box = lambda low, high, top: {"x": [low, high, high, low], "y": [0, 0, top, top]}
    figure.add_scatter(
        **box(-judged.sesoi, judged.sesoi, 1),
        fill="toself",
        mode="none",
        fillcolor=band("#888888"),
        name="too small to matter",
    )
    if judged.null is not None and len(judged.null):
        count, edge = np.histogram(judged.null, bins=20)
        steps = {
            "x": np.r_[edge[0], np.repeat(edge, 2)[1:-1], edge[-1]],
            "y": np.r_[0, np.repeat(count, 2), 0] / count.max() * 0.8,
        }
        figure.add_scatter(
            **steps,
            fill="toself",
            mode="none",
            fillcolor=band(COLOURS[5], 0.5),
            name="null distribution",
        )
    for i, (role, rules) in enumerate(gates.groupby("role", sort=False)):
        for rule in rules.rule:
            at = {"x": [float(rule.split()[1])] * 2, "y": [0, 1]}
            line = {"color": COLOURS[2 - i], "dash": DASHES[1 + i], "width": 1.5}
            figure.add_scatter(**at, mode="lines", line=line, name=plain(f"{role}: {rule}"))
    if judged.effect is not None:
        line = {"color": COLOURS[0], "width": 4}
        figure.add_scatter(
            x=judged.effect[1:], y=[0.9, 0.9], mode="lines", line=line, name="95% interval"
        )
        figure.add_scatter(
            x=judged.effect[:1],
            y=[0.9],
            mode="markers",
            line=line,
            name=plain(f"{name} = {judged.effect}"),
        )
    mde = (
        f" (minimum detectable effect {judged.mde:.2g})" if judged.verdict == "inconclusive" else ""
    )
    lay_out(figure, f"{judged.name}: {judged.verdict}", f"{name}{mde}", "", False)
    figure.update_yaxes(visible=False)
    return figure


def drift(strengths: Mapping[str, np.ndarray], title: str = "", lives: int = 6) -> Figure:
    """How strengths (N, days) of lives changed, one panel each: the first `lives` of them, thin, and the mean of all, thick."""
    from plotly.subplots import make_subplots

    wrong = {
        name: np.shape(values)
        for name, values in strengths.items()
        if np.ndim(values) != 2 or 0 in np.shape(values)
    }
    if wrong or not strengths:
        raise ValueError(
            f"strengths {wrong}; give (lives, days) under a name: {{'D1': lives.w_cookie.reshape(...)[:, :, 0]}}."
        )
    figure = Figure(
        make_subplots(
            1, len(strengths), shared_yaxes=True, subplot_titles=[plain(name) for name in strengths]
        )
    )
    for i, (name, values) in enumerate(strengths.items()):
        axis = {
            "xaxis": f"x{i + 1 if i else ''}",
            "yaxis": f"y{i + 1 if i else ''}",
            "mode": "lines",
        }
        day = np.arange(1, values.shape[1] + 1)
        for life in values[:lives]:
            figure.add_scatter(
                x=day,
                y=life,
                name=plain(name),
                showlegend=False,
                line={"color": COLOURS[5], "width": 0.8},
                **axis,
            )
        figure.add_scatter(
            x=day,
            y=values.mean(0),
            name=plain(f"{name}, mean"),
            line={"color": COLOURS[0], "width": 2.5},
            **axis,
        )
    figure.update_xaxes(title="day")
    figure.update_yaxes(title="strength of the cookie shard", col=1, rangemode="tozero")
    size = {
        "width": 60 + 165 * len(strengths),
        "height": 300,
        "margin": {"l": 60, "r": 20, "t": 60, "b": 40},
    }
    figure.update_layout(title=plain(title), template="simple_white", showlegend=False, **size)
    return figure


def lifetime(readings: pd.DataFrame, history: int | None = None, title: str = "") -> Figure:
    """One life's strength day by day, as it was, as a filter believes and as a probe reads; and all lives on the slider's day.

    `readings` are those of `adkit.endpoints.drift.readings`; `history` is the number of the life, by default the one seen most.
    """
    from plotly.subplots import make_subplots

    if missing := sorted({"history", "day", "label", "read", "believed"} - set(readings.columns)):
        raise ValueError(
            f"readings have no {', '.join(missing)}; adkit.endpoints.drift.readings(model, lives) makes them."
        )
    lives = readings["history"].value_counts()
    if not len(lives) or (history is not None and history not in lives.index):
        there = sorted(lives.index)[:8]
        raise ValueError(
            f"history={history} of {len(lives)} lives; there are {there}. Give one of them, and readings that have rows."
        )
    life = readings[readings["history"] == (lives.idxmax() if history is None else history)]
    figure = Figure(
        make_subplots(
            1, 2, column_widths=[0.62, 0.38], subplot_titles=["one life", "all lives, that day"]
        )
    )
    for i, (column, name) in enumerate(
        {"label": "true", "believed": "filter's belief", "read": "read by the probe"}.items()
    ):
        line = {"color": COLOURS[(6, 2, 0)[i]], "width": 2, "dash": DASHES[i]}
        figure.add_scatter(
            x=life["day"] + 1,
            y=life[column],
            mode="lines",
            name=name,
            line=line,
            xaxis="x",
            yaxis="y",
        )
    ends = [
        readings[["label", "read", "believed"]].min().min(),
        readings[["label", "read", "believed"]].max().max(),
    ]
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": "#BBBBBB", "width": 1},
        showlegend=False,
        xaxis="x2",
        yaxis="y2",
    )
    of = lambda day: readings[readings["day"] == day]
    days = sorted(readings["day"].unique())
    first = readings["day"].value_counts().sort_index().idxmax()  # shown: the day with most lives
    shown, cursor = of(first), {"x": [first + 1] * 2, "y": ends}
    figure.add_scatter(
        **cursor,
        mode="lines",
        line={"color": "#D55E00", "width": 1.5},
        showlegend=False,
        xaxis="x",
        yaxis="y",
    )
    dots = {
        "mode": "markers",
        "showlegend": False,
        "marker": {"size": 7},
        "line": {"color": COLOURS[0]},
    }
    figure.add_scatter(
        x=shown["label"], y=shown["read"], **dots, xaxis="x2", yaxis="y2", name="read by the probe"
    )
    moved = lambda day: {
        "x": [[day + 1] * 2, of(day)["label"].tolist()],
        "y": [ends, of(day)["read"].tolist()],
    }
    steps = [
        {"method": "restyle", "args": [moved(day), [4, 5]], "label": str(day + 1)} for day in days
    ]
    slider = {
        "active": days.index(first),
        "steps": steps,
        "currentvalue": {"prefix": "day "},
        "pad": {"t": 45},
    }
    size = {"width": 860, "height": 430, "margin": {"l": 60, "r": 20, "t": 60, "b": 40}}
    figure.update_layout(title=plain(title), template="simple_white", sliders=[slider], **size)
    figure.update_xaxes(title="day", col=1)
    figure.update_yaxes(title="strength, cookie over food, log", col=1)
    figure.update_xaxes(title="true", col=2)
    figure.update_yaxes(title="read", col=2)
    return figure


def verdicts(judged: Mapping[str, Verdict]) -> Styler:
    """What of `adkit.probing.verdict_table` fits a page, a colour for each of the four words; the whole has the reasons, too."""
    from study.verdicts import verdict_table

    table = verdict_table(judged)
    interval = [
        f"{row.measure}\n{row.effect:.3g} [{row.low:.3g}, {row.high:.3g}]"
        for row in table.itertuples()
    ]
    shown = table[["verdict", "null, 95%", "sesoi", "detectable", "controls"]].copy()
    shown.insert(1, "effect, 95%", interval)
    shown.insert(2, "supported if", table.threshold.str.replace(", ", "\n"))
    shown["null, 95%"] = shown["null, 95%"].str.replace(" to ", "\nto ")
    paint = lambda word: f"background-color: {WORDS[word]}; color: white"
    style = shown.assign(verdict=(table.verdict + "\n" + table.grade).str.strip()).style
    style.apply(lambda _: table.verdict.map(paint), subset=["verdict"]).set_table_attributes(
        'class="mathjax_ignore"'
    )
    style.set_properties(**{"white-space": "pre", "text-align": "left"})
    return style.format(
        dict.fromkeys(("sesoi", "detectable"), "{:.3g}"), na_rep="", escape="html"
    ).format_index(escape="html")
