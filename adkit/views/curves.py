"""Learning curves and heat maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from adkit.histories import Histories
from adkit.protocols import Env
from adkit.stats import bootstrap_draws
from adkit.tables import has_optimum, optimal_returns
from adkit.views.figure import Figure, add_curve, lay_out, plain, styles

if TYPE_CHECKING:
    import pandas as pd

OPEN = "circle-open", "square-open", "diamond-open"


def learning_curves(
    histories: Mapping[str, Histories], env: Env | None = None, *, log_x: bool = False
) -> Figure:
    """Draw return per episode of several histories, with a 95% band: a bootstrap over tasks, then
    over lifetimes within them.

    `env` adds the optimum as a line where it is known. Subsampled histories are drawn at their true
    episode numbers. Nothing is smoothed.
    """
    if not isinstance(histories, Mapping) or not histories:
        raise ValueError("histories need names on a figure; try {'distilled': rollouts}")
    if odd := [name for name, each in histories.items() if not isinstance(each, Histories)]:
        given = type(histories[odd[0]]).__name__
        raise ValueError(f"{odd[0]!r} must be Histories, as ad.collect returns, got {given}")
    figure = Figure()
    style = styles(histories)
    for name, history in histories.items():
        alike = lambda spec: (spec.name, spec.horizon, spec.cardinality, spec.shape)
        if env is not None and alike(history.spec) != alike(env.spec):
            both = f"{name!r} was collected in {alike(history.spec)}, `env` is {alike(env.spec)}"
            raise ValueError(f"{both}: its optimum is another; leave `env` out")
        returns = history.returns  # (tasks, lifetimes, E)
        task = np.repeat(np.arange(len(returns)), returns.shape[1])
        drawn = bootstrap_draws(returns.reshape(len(task), -1), [task])  # (draws, E)
        low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
        add_curve(figure, name, style[name], history.episode + 1, returns.mean((0, 1)), low, high)
    if env is not None and has_optimum(env):
        last = max(trace.x.max() for trace in figure.data)
        best = np.mean([optimal_returns(env, each.tasks).mean() for each in histories.values()])
        line = {"mode": "lines", "line": styles(["optimum"])["optimum"] | {"width": 1}}
        figure.add_scatter(x=[1, last], y=[best] * 2, name="optimum", **line)
    says = "line: mean; band: 95% bootstrap over tasks and lifetimes"
    lay_out(figure, "", "episode", "return per episode", log_x, says)
    return figure


def result_curves(
    table: pd.DataFrame,
    x: str,
    y: str,
    by: str,
    paper: Mapping[str, tuple] | None = None,
    *,
    log_x: bool = False,
    title: str = "",
) -> Figure:
    """Draw column `y` over column `x` for each value of column `by`, one row per training seed.

    A line is the mean over seeds; where these differ, a band reaches from the least to the most.
    `paper` has curves (x, y) read off a published figure: thin lines with open markers, in the
    colour of the agent with which their names begin.
    """
    figure, paper = Figure(), paper or {}
    style = styles([*map(str, table[by].unique()), *paper])
    banded = False
    for name, rows in table.groupby(by, sort=False):
        seeds = rows.groupby(x)[y].agg(["mean", "min", "max"])
        mode = "lines" if len(seeds) > 12 else "lines+markers"
        at, mean, *ends = seeds.index.to_numpy(), *seeds.to_numpy().T
        differ = (ends[0] < ends[1]).any()
        banded |= differ
        ends = ends if differ else (None, None)
        add_curve(figure, str(name), style[str(name)], at, mean, *ends, mode)
    for i, (name, (at, values)) in enumerate(paper.items()):
        curve = {"x": list(at), "y": list(values), "name": plain(name), "mode": "lines+markers"}
        marker = {"symbol": OPEN[i % len(OPEN)], "size": 7}
        figure.add_scatter(**curve, line=style[name] | {"width": 1.2}, marker=marker)
    says = "line: mean of training seeds; band: from the least to the most" if banded else ""
    lay_out(figure, title, x, y, log_x, says)
    return figure


def heat_map(table: pd.DataFrame, top: float | None = None) -> Figure:
    """Draw a table of numbers from 0 to `top` (by default its largest), each written in its colour.

    Rows run downwards, columns across; the axes have the names of the table's index and columns.
    """
    values = table.to_numpy(float)
    scale = {"zmin": 0, "zmax": top or values.max() or 1, "colorscale": "Viridis"}
    figure = Figure()
    figure.add_heatmap(z=values, texttemplate="%{z:.2f}", **scale)
    figure.update_layout(height=max(220, 110 + 34 * len(values)))
    figure.update_xaxes(**_ticks(table.columns))
    figure.update_yaxes(autorange="reversed", **_ticks(table.index))
    return figure


def _ticks(labels: pd.Index) -> dict:
    """Return an axis whose ticks are the labels of a table."""
    text = [plain(label) for label in labels]
    return {"tickvals": np.arange(len(text)), "ticktext": text, "title": plain(labels.name or "")}
