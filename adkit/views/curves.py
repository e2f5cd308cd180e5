"""Curves and maps of what was learned: plotly to look at closely, a static picture wherever plotly cannot run."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from adkit.display import as_png, with_picture
from adkit.histories import Histories
from adkit.protocols import Env
from adkit.tables import has_optimum, optimal_returns

if TYPE_CHECKING:
    import pandas as pd

    from adkit.probing import Verdict

# Okabe & Ito: distinguishable with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash", "dot")


class Figure(go.Figure):
    """A plotly figure that also carries a PNG, for nbconvert, GitHub and a notebook opened without a kernel."""

    _ipython_display_ = _repr_html_ = None  # plotly's own would send megabytes of script in place of the picture

    def _repr_mimebundle_(self, *args, **kwargs):
        """The live figure inside an Output widget, beside its picture: JupyterLab prefers a bare PNG to a bare plotly figure."""
        from ipywidgets import Output

        names = [trace.name for trace in self.data if trace.name and trace.showlegend is not False]
        plotly = {"application/vnd.plotly.v1+json": json.loads(self.to_json()), "text/plain": repr(self)}
        live = Output(outputs=({"output_type": "display_data", "data": plotly, "metadata": {}},))
        return with_picture(live._repr_mimebundle_(), self.png(), "Figure: " + html.unescape(", ".join(names)))

    def png(self, dpi: int = 100) -> bytes:
        """The figure as matplotlib draws it: lines, bands, heat maps and horizontal lines."""
        from matplotlib.figure import Figure as Canvas

        layout = self.layout
        panels = sorted({trace.xaxis or "x" for trace in self.data})
        canvas = Canvas(figsize=((layout.width or 760) / 100, (layout.height or 400) / 100), dpi=dpi, layout="constrained")
        axes = dict(zip(panels, np.ravel(canvas.subplots(1, max(1, len(panels)), sharey=len(panels) > 1)), strict=False))
        for trace in self.data:
            _draw(axes[trace.xaxis or "x"], trace, canvas)
        titles = [html.unescape(note.text) for note in layout.annotations or () if note.showarrow is False]
        for i, (panel, ax) in enumerate(axes.items()):
            axis = layout[panel.replace("x", "xaxis")]
            ax.set_xlabel(html.unescape(axis.title.text or ""), parse_math=False)
            ax.set_title(titles[i] if i < len(titles) else "", fontsize=10, parse_math=False)
            if axis.type == "log":
                ax.set_xscale("log")
        first = next(iter(axes.values()))
        first.set_ylabel(html.unescape(layout.yaxis.title.text or ""), parse_math=False)
        first.yaxis.set_visible(layout.yaxis.visible is not False)
        if layout.title.text:
            canvas.suptitle(html.unescape(layout.title.text), fontsize=11, parse_math=False)
        handles, labels = first.get_legend_handles_labels()
        if handles and layout.showlegend is not False:
            legend = canvas.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
            for text in legend.get_texts():
                text.set(text=html.unescape(text.get_text()), parse_math=False)
        return as_png(canvas)


def _draw(ax, trace, canvas) -> None:
    if trace.type == "heatmap":
        x, y = (np.arange(n) if v is None else v for n, v in zip(np.shape(trace.z)[::-1], (trace.x, trace.y), strict=True))
        image = ax.pcolormesh(x, y, trace.z, cmap="viridis", vmin=trace.zmin, vmax=trace.zmax)
        ax.set_ylim(len(y) - 0.5, -0.5)
        ax.set_aspect("equal")
        if trace.showscale is not False:
            canvas.colorbar(image, ax=ax, shrink=0.8)
    elif trace.fill == "toself":
        label = trace.name if trace.showlegend is not False else None
        ax.fill(trace.x, trace.y, color=_colour(trace.fillcolor), linewidth=0, label=label)
    else:
        styles = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (8, 3)), None: "-"}
        line = trace.line
        label = trace.name if trace.showlegend is not False else None
        marker = "o" if trace.mode and "markers" in trace.mode else None
        ax.plot(
            trace.x, trace.y, color=line.color, linestyle=styles[line.dash], linewidth=line.width or 2, label=label, marker=marker
        )
    ax.spines[["top", "right"]].set_visible(False)


def _text(words) -> str:
    """Text as plotly shows it literally: it reads tags, links among them, and names may come from a file."""
    return html.escape(str(words), quote=False)


def _colour(rgba: str) -> tuple[float, ...]:
    r, g, b, a = (float(part) for part in rgba.removeprefix("rgba(").removesuffix(")").split(","))
    return r / 255, g / 255, b / 255, a


def _band(colour: str, alpha: float = 0.18) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"


def learning_curves(
    histories: Mapping[str, Histories],
    env: Env | None = None,
    *,
    x: str = "episodes",
    log_x: bool = False,
    title: str = "",
) -> Figure:
    """Return per episode of several histories on the same axes, with a 95% band over tasks and lifetimes.

    `env` adds the optimum as a line where it is known. `x="steps"` counts environment steps instead of episodes;
    subsampled histories are drawn at their true episode numbers. Nothing is smoothed.
    """
    if not histories:
        raise ValueError("learning_curves needs at least one history: {'distilled': rollouts, ...}.")
    if x not in ("episodes", "steps"):
        raise ValueError(f'x={x!r}; choose "episodes" or "steps".')
    figure = Figure()
    for i, (name, history) in enumerate(histories.items()):
        returns = history.returns
        at = (history.episode + 1) * (history.length.mean() if x == "steps" else 1)
        mean, error = returns.mean((0, 1)), 1.96 * _standard_error(returns)
        _add_curve(figure, i, name, at, mean, mean - error, mean + error)
    if env is not None and has_optimum(env):
        last = max(trace.x.max() for trace in figure.data)
        optimum = np.mean([optimal_returns(env, history.tasks).mean() for history in histories.values()])
        figure.add_scatter(x=[1, last], y=[optimum] * 2, mode="lines", name="optimum", line={"color": "#888888", "width": 1})
    _lay_out(figure, title, "environment steps" if x == "steps" else "episode", "return per episode", log_x)
    return figure


def result_curves(
    table: pd.DataFrame, x: str, y: str, by: str, paper: Mapping[str, tuple] | None = None, *, log_x: bool = False, title: str = ""
) -> Figure:
    """Results of many runs: a line per value of column `by`, the mean over runs, in a band from the least to the most.

    `paper` has curves (x, y) read off somebody's figure, drawn in grey dashes under their names.
    """
    missing = [name for name in (x, y, by) if name not in table.columns]
    if missing or not len(table):
        raise ValueError(f"no column {', '.join(missing)} among {', '.join(table.columns)}." if missing else "the table is empty.")
    figure = Figure()
    for i, (name, rows) in enumerate(table.groupby(by, sort=False)):
        runs = rows.groupby(x)[y].agg(["mean", "min", "max"])
        mode = "lines" if len(runs) > 12 else "lines+markers"
        _add_curve(figure, i, str(name), runs.index.to_numpy(), *runs.to_numpy().T, mode)
    for name, (at, values) in (paper or {}).items():
        line = {"color": "#888888", "dash": "dash", "width": 1.5}
        figure.add_scatter(x=list(at), y=list(values), mode="lines+markers", name=_text(name), line=line)
    _lay_out(figure, title, x, y, log_x)
    return figure


def verdict(judged: Verdict) -> Figure:
    """A hypothesis at a glance: effect and interval, thresholds, the band of effects too small to matter, the null distribution."""
    name, gates = judged.measure, judged.rules[(judged.rules.measure == judged.measure) & (judged.rules.role != "control")]
    figure = Figure()
    box = lambda low, high, top: {"x": [low, high, high, low], "y": [0, 0, top, top]}
    figure.add_scatter(
        **box(-judged.sesoi, judged.sesoi, 1), fill="toself", mode="none", fillcolor=_band("#888888"), name="too small to matter"
    )
    if judged.null is not None and len(judged.null):
        count, edge = np.histogram(judged.null, bins=20)
        steps = {"x": np.r_[edge[0], np.repeat(edge, 2)[1:-1], edge[-1]], "y": np.r_[0, np.repeat(count, 2), 0] / count.max() * 0.8}
        figure.add_scatter(**steps, fill="toself", mode="none", fillcolor=_band(COLOURS[5], 0.5), name="null distribution")
    for i, (role, rules) in enumerate(gates.groupby("role", sort=False)):
        for rule in rules.rule:
            at = {"x": [float(rule.split()[1])] * 2, "y": [0, 1]}
            line = {"color": COLOURS[2 - i], "dash": DASHES[1 + i], "width": 1.5}
            figure.add_scatter(**at, mode="lines", line=line, name=_text(f"{role}: {rule}"))
    if judged.effect is not None:
        line = {"color": COLOURS[0], "width": 4}
        figure.add_scatter(x=judged.effect[1:], y=[0.9, 0.9], mode="lines", line=line, name="95% interval")
        figure.add_scatter(x=judged.effect[:1], y=[0.9], mode="markers", line=line, name=_text(f"{name} = {judged.effect}"))
    mde = f", minimum detectable effect {judged.mde:.2g}" if judged.verdict == "inconclusive" else ""
    _lay_out(figure, f"{judged.name}: {judged.verdict}{mde}", name, "", False)
    figure.update_yaxes(visible=False)
    return figure


def _add_curve(figure: Figure, i: int, name: str, at, mean, low, high, mode: str = "lines") -> None:
    """Line number i in its band."""
    colour, name = COLOURS[i % len(COLOURS)], _text(name)
    band = {"x": np.r_[at, at[::-1]], "y": np.r_[high, low[::-1]], "fill": "toself", "mode": "none"}
    figure.add_scatter(**band, fillcolor=_band(colour), hoverinfo="skip", showlegend=False, legendgroup=name, name=name)
    line = {"color": colour, "dash": DASHES[i % len(DASHES)], "width": 2}
    figure.add_scatter(x=at, y=mean, mode=mode, name=name, line=line, legendgroup=name)


def _lay_out(figure: Figure, title: str, x: str, y: str, log_x: bool) -> None:
    title, x, y = _text(title), _text(x), _text(y)
    figure.update_layout(
        title=title, template="simple_white", width=760, height=400, margin={"l": 60, "r": 20, "t": 40 if title else 20, "b": 50},
        xaxis={"title": x, "type": "log" if log_x else None}, yaxis={"title": y, "rangemode": "tozero"},
    )  # fmt: skip


def _standard_error(returns: np.ndarray) -> np.ndarray:
    """(E,) of the mean over tasks, whose lifetimes share a task; over lifetimes when there is one task."""
    groups = returns.mean(1) if len(returns) > 1 else returns[0]
    return groups.std(0, ddof=1) / np.sqrt(len(groups)) if len(groups) > 1 else np.zeros(returns.shape[2])


def visits(histories: Mapping[str, Histories], title: str = "") -> Figure:
    """Share of steps spent in each cell of a room, one heat map per history, x to the right and y downwards."""
    from plotly.subplots import make_subplots

    figure = Figure(make_subplots(1, len(histories), subplot_titles=[_text(name) for name in histories]))
    maps = {name: visit_shares(history) for name, history in histories.items()}
    top = max(share.max() for share in maps.values())
    for i, (name, share) in enumerate(maps.items()):
        axis = {"xaxis": f"x{i + 1 if i else ''}", "yaxis": f"y{i + 1 if i else ''}"}
        figure.add_heatmap(
            z=share.T, zmin=0, zmax=top, colorscale="Viridis", showscale=i == len(maps) - 1, name=_text(name), **axis
        )
    figure.update_xaxes(title="x", constrain="domain")
    figure.update_yaxes(autorange="reversed", scaleanchor="x")
    figure.update_layout(
        title=_text(title), template="simple_white", width=340 * len(maps), height=340, margin={"l": 40, "r": 20, "t": 60, "b": 40}
    )
    return figure


def visit_shares(histories: Histories) -> np.ndarray:
    """(width, height) share of all steps spent in each cell; observations must be (x, y)."""
    sizes = histories.spec.cardinality
    if sizes is None or len(sizes) != 2:
        raise ValueError(f"{histories.spec.name} has no (x, y) observations, so there is no map to draw.")
    real = np.arange(histories.spec.horizon) < histories.length[..., None]
    index = histories.spec.index(histories.arrays["obs"][real])
    return np.bincount(index, minlength=sizes[0] * sizes[1]).reshape(sizes) / len(index)
