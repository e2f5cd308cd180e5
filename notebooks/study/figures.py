"""Figures of the study: drifting strengths, what a probe reads, verdicts in plain words."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from pandas.io.formats.style import Styler
from plotly.subplots import make_subplots

from adkit.stats import Interval
from adkit.views import intervals
from adkit.views.dots import MARKS
from adkit.views.figure import AGENTS, GREY, Figure, plain, styles
from study.verdicts import VERDICTS, Verdict, brief

WORDS = yaml.safe_load(Path(__file__).parents[1].joinpath("words.yaml").read_text("utf-8"))
NAMES = {"H2a_future": "H2a ahead"}  # of hypotheses, where they are not their own
STYLES = {word: style["color"] for word, style in styles(VERDICTS).items()}
HOLDS = "as needed", "not as needed", "for comparison"  # kinds of rows in the picture of a verdict
REFUTES = "limit that refutes"  # what a "threshold" is here
BESIDE = 0.3  # of a row: limits stand below its line, or above it if they refute
SIDES = {  # bound of a rule: the marks it gives, and what it asks in words
    "at_least": ({"at least": 1}, "at least {}"),
    "at_most": ({"at most": 1}, "at most {}"),
    "low_at_least": ({"interval above": 1}, "interval above {}"),
    "high_at_most": ({"interval below": 1}, "interval below {}"),
    "within": ({"interval above": -1, "interval below": 1}, "interval within ±{}"),
}
# columns of `drift.readings`: their names in the legend
READINGS = {"label": "true strength", "believed": "particle filter", "read": "probe of the model"}
PROBE = {"color": AGENTS["distilled"][0], "dash": "dot"}
LOOKS = styles(READINGS.values()) | {READINGS["read"]: PROBE}
LOOK = {"margin": {"l": 60, "r": 20, "t": 60, "b": 40}, "title": ""}
LEFT, RIGHT = {"xaxis": "x", "yaxis": "y"}, {"xaxis": "x2", "yaxis": "y2"}


def watermarked(figure: Figure) -> Figure:
    """Write across a figure of a smoke run that it is no evidence; return the figure."""
    font = {"size": 34, "color": "rgba(150,150,150,0.45)"}
    text = {"text": "smoke run, not evidence", "showarrow": False, "textangle": -15, "font": font}
    return figure.add_annotation(xref="paper", yref="paper", x=0.5, y=0.5, **text)


# ---- verdicts ----


def words(name: str, measure: str) -> list[str]:
    """Return what a measure of a gate or hypothesis is called, and its unit."""
    said = WORDS["measures"]
    return said.get(f"{name}.{measure}") or said.get(measure) or [measure, ""]


def rows(name: str, rules: pd.DataFrame, prefix: str = "") -> pd.DataFrame:
    """Return a row for `intervals` per measure in the rules of a gate or hypothesis."""
    table = {}
    for measure, of in rules.groupby("measure", sort=False):
        said, unit = words(name, measure)
        holds = (of.passed != (of.role == "refuted")).all()
        row = dict(of.iloc[0][[*Interval._fields]], unit=unit, kind=HOLDS[int(not holds)])
        for role, (bound, limit) in zip(of.role, of.rule.str.split(), strict=True):
            marks = {"threshold": 1} if role == "refuted" else SIDES[bound][0]
            row |= {mark: sign * float(limit) for mark, sign in marks.items()}
        table[prefix + "control: " * ("control" in set(of.role)) + said] = row
    return pd.DataFrame.from_dict(table, "index")


def drawn(parts: Iterable[pd.DataFrame], kinds: tuple[str, ...] = HOLDS, **titles) -> Figure:
    """Draw `rows` of gates or hypotheses, with the limits between which they must lie.

    Limits that support stand below the line of their row, limits that refute above it.
    """
    table = pd.concat(parts)
    table["kind"] = pd.Categorical(table["kind"], kinds)
    figure = intervals(table, by="kind", panel="unit", **titles).update_traces(cliponaxis=False)
    for trace in figure.data:
        if trace.name in MARKS:
            refutes = trace.name == "threshold"
            trace.update(y=trace.y + (-BESIDE if refutes else BESIDE), marker={"size": 9})
            if refutes:
                says = REFUTES + " %{x:.3g}<extra></extra>"
                trace.update(name=REFUTES, legendgroup=REFUTES, hovertemplate=says)
    beside = {"marker": {"color": GREY, "symbol": "circle-open"}, "error_x": {"color": GREY}}
    figure.update_traces(beside, selector={"name": HOLDS[2]})
    figure.for_each_xaxis(lambda axis: "AUC" in axis.title.text or axis.update(rangemode="tozero"))
    return figure.update_yaxes(ticklabelstandoff=8)  # room for a mark at the left end


def verdict(judged: Verdict) -> Figure:
    """Draw every measure of a hypothesis, its limits, and what chance makes of the first."""
    beside = {"for comparison: too small to matter": (0, -judged.sesoi, judged.sesoi)}
    if judged.null is not None:
        low, high = np.nanquantile(judged.null, [0.025, 0.975])
        beside["for comparison: by chance alone"] = np.nanmean(judged.null), low, high
    beside = pd.DataFrame.from_dict(beside, "index", columns=[*Interval._fields])
    least = f"; an effect of {brief(judged.mde)} would be found 8 times in 10"
    says = "dot: estimate; line: 95% interval" + least * (judged.verdict == "inconclusive")
    title = f"{NAMES.get(judged.name, judged.name)}: {judged.verdict}"
    table = rows(judged.name, judged.rules)
    parts = table[:1], beside.assign(unit=table["unit"].iloc[0], kind=HOLDS[2]), table[1:]
    return drawn(parts, title=title, subtitle=says)


def overview(judged: Mapping[str, Verdict]) -> Figure:
    """Draw every hypothesis's first measure with the limit that it had to pass."""
    first = {name: one.rules[one.rules.measure == one.measure] for name, one in judged.items()}
    parts = {name: rows(name, of, NAMES.get(name, name) + ": ") for name, of in first.items()}
    return drawn([part.assign(kind=judged[n].verdict) for n, part in parts.items()], VERDICTS)


def decided(judged: Verdict) -> pd.DataFrame:
    """Return the rules on the first measure, and all others that do not hold, in plain words."""
    rules = judged.rules
    rules = rules[(rules.measure == judged.measure) | (rules.passed == (rules.role == "refuted"))]
    asks = [SIDES[bound][1].format(brief(float(x))) for bound, x in rules.rule.str.split()]
    said = {
        "measure": [words(judged.name, measure)[0] for measure in rules.measure],
        "found": [brief(Interval(*row)) for row in rules[[*Interval._fields]].to_numpy()],
        "asked": rules.role.replace("supported", "support").str.cat(asks, ": ").to_list(),
        "holds": np.where(rules.passed, "yes", "no"),
    }
    return pd.DataFrame(said).set_index("measure")


def verdicts(judged: Mapping[str, Verdict]) -> Styler:
    """Return claims and verdicts in plain words; those that nobody has measured say so."""
    table = {}
    for name, claim in (dict.fromkeys(judged, "") | WORDS["claims"]).items():
        row = {"claim": claim, "verdict": "not tested", "found": "", "controls": ""}
        if one := judged.get(name):
            controls = one.rules.passed[one.rules.role == "control"]
            row["verdict"] = one.verdict + WORDS["grades"].get(one.grade, one.grade)
            row["found"] = brief(one.effect) if one.effect else "not measured"
            row["controls"] = f"{controls.sum()} of {len(controls)} hold"
        table[NAMES.get(name, name)] = row
    shown = pd.DataFrame.from_dict(table, "index").sort_index()
    paint = lambda text: f"border-left: 8px solid {STYLES.get(text.split()[0], GREY)}"
    style = shown.style.map(paint, subset=["verdict"]).set_properties(**{"text-align": "left"})
    style.set_table_attributes('class="mathjax_ignore"')
    return style.format(escape="html").format_index(escape="html")


# ---- drift ----


def drift(strengths: Mapping[str, np.ndarray]) -> Figure:
    """Draw how strengths (N, days) change, one panel per name.

    The first six of each are thin lines, the mean over all N a thick one.
    """
    names = [plain(name) for name in strengths]
    figure = Figure(make_subplots(1, len(names), shared_yaxes=True, subplot_titles=names))
    thin, thick = {"color": GREY, "width": 0.8}, {"color": AGENTS["source"][0], "width": 2.5}
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
    for column, name in READINGS.items():
        line, x, y = LOOKS[name] | {"width": 2}, one["day"] + 1, one[column]
        figure.add_scatter(x=x, y=y, mode="lines", name=name, line=line, **LEFT)
    values = readings[list(READINGS)]
    ends = [values.min().min(), values.max().max()]
    same = {"mode": "lines", "line": {"color": GREY, "width": 1}, "showlegend": False}
    figure.add_scatter(x=ends, y=ends, **same, **RIGHT)
    _add_day_slider(figure, readings, ends)
    figure.update_layout(height=430, **LOOK)
    for col, x, y in ((1, "day", "log strength, cookie over food"), (2, "true", "probe")):
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
    figure.add_scatter(**line, mode="lines", line={"color": GREY}, showlegend=False, **LEFT)
    look = {"mode": "markers", "marker": {"size": 7, "color": PROBE["color"]}}
    figure.add_scatter(**points, **look, showlegend=False, name=READINGS["read"], **RIGHT)
    steps = []
    for day in days:
        line, points = on(day)
        change = {axis: [line[axis], points[axis]] for axis in "xy"}
        steps.append({"method": "restyle", "args": [change, [cursor, dots]], "label": str(day + 1)})
    slider = {"active": days.index(first), "steps": steps, "currentvalue": {"prefix": "day "}}
    figure.update_layout(sliders=[slider | {"pad": {"t": 45}}])
