"""Curves and maps of what was learned: plotly to look at closely, a static picture wherever plotly cannot run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from adkit import checks
from adkit.histories import Histories
from adkit.protocols import Env
from adkit.tables import has_optimum, optimal_returns
from adkit.views.figure import Figure, add_curve, lay_out, plain

if TYPE_CHECKING:
    import pandas as pd


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
    if isinstance(histories, Histories) or not histories:
        raise ValueError(
            f"{_how_many(histories)}; give at least one history under its name: {{'distilled': rollouts, ...}}."
        )
    if x not in ("episodes", "steps"):
        raise ValueError(f'x={x!r}; choose "episodes" or "steps".')
    figure = Figure()
    for i, (name, history) in enumerate(histories.items()):
        returns = history.returns
        at = (history.episode + 1) * (history.length.mean() if x == "steps" else 1)
        mean, error = returns.mean((0, 1)), 1.96 * _standard_error(returns)
        add_curve(figure, i, name, at, mean, mean - error, mean + error)
    if env is not None and has_optimum(env):
        last = max(trace.x.max() for trace in figure.data)
        optimum = np.mean(
            [optimal_returns(env, history.tasks).mean() for history in histories.values()]
        )
        figure.add_scatter(
            x=[1, last],
            y=[optimum] * 2,
            mode="lines",
            name="optimum",
            line={"color": "#888888", "width": 1},
        )
    lay_out(
        figure,
        title,
        "environment steps" if x == "steps" else "episode",
        "return per episode",
        log_x,
    )
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
    """Results of many runs: a line per value of column `by`, the mean over runs, in a band from the least to the most.

    `paper` has curves (x, y) read off somebody's figure, drawn in grey dashes under their names.
    """
    if missing := [name for name in (x, y, by) if name not in table.columns]:
        raise ValueError(
            f"the table has no column {', '.join(missing)}; it has {', '.join(table.columns)}."
        )
    if not len(table):
        raise ValueError("the table is empty; there is no curve to draw.")
    figure = Figure()
    for i, (name, rows) in enumerate(table.groupby(by, sort=False)):
        runs = rows.groupby(x)[y].agg(["mean", "min", "max"])
        mode = "lines" if len(runs) > 12 else "lines+markers"
        add_curve(figure, i, str(name), runs.index.to_numpy(), *runs.to_numpy().T, mode)
    for name, (at, values) in (paper or {}).items():
        line = {"color": "#888888", "dash": "dash", "width": 1.5}
        figure.add_scatter(
            x=list(at), y=list(values), mode="lines+markers", name=plain(name), line=line
        )
    lay_out(figure, title, x, y, log_x)
    return figure


def _how_many(histories) -> str:
    return (
        "Histories without a name given"
        if isinstance(histories, Histories)
        else "no histories given"
    )


def _standard_error(returns: np.ndarray) -> np.ndarray:
    """(E,) of the mean over tasks, whose lifetimes share a task; over lifetimes when there is one task."""
    groups = returns.mean(1) if len(returns) > 1 else returns[0]
    return (
        groups.std(0, ddof=1) / np.sqrt(len(groups))
        if len(groups) > 1
        else np.zeros(returns.shape[2])
    )


def heat_map(table: pd.DataFrame, top: float | None = None, title: str = "") -> Figure:
    """A table of numbers from 0 to `top` (its largest, if not given) as a picture: rows downwards, columns across, each number
    written in its colour. Axes are called what the table calls its columns and its index."""
    numbers = table.to_numpy(float)
    if not numbers.size or not np.isfinite(numbers).all() or numbers.min() < 0:
        raise ValueError(
            f"a table of {table.shape} with {np.isnan(numbers).sum()} gaps; give numbers of at least 0, and at least one."
        )
    figure = Figure()
    figure.add_heatmap(
        z=numbers,
        zmin=0,
        zmax=top or numbers.max() or 1,
        colorscale="Viridis",
        texttemplate="%{z:.2f}",
        name=plain(title),
    )
    ticks = lambda labels: {
        "tickvals": np.arange(len(labels)),
        "ticktext": [plain(label) for label in labels],
        "title": plain(labels.name or ""),
    }
    rows, columns = numbers.shape
    size = {"width": max(420, 170 + 52 * columns), "height": max(220, 110 + 34 * rows)}
    figure.update_layout(
        title=plain(title),
        template="simple_white",
        margin={"l": 60, "r": 20, "t": 40 if title else 20, "b": 50},
        **size,
    )
    figure.update_xaxes(**ticks(table.columns))
    figure.update_yaxes(autorange="reversed", **ticks(table.index))
    return figure


def visits(histories: Mapping[str, Histories], title: str = "") -> Figure:
    """Share of steps spent in each cell of a room, one heat map per history, x to the right and y downwards."""
    from plotly.subplots import make_subplots

    if isinstance(histories, Histories) or not histories:
        raise ValueError(
            f"{_how_many(histories)}; give at least one history under its name: {{'distilled': rollouts, ...}}."
        )
    figure = Figure(
        make_subplots(1, len(histories), subplot_titles=[plain(name) for name in histories])
    )
    maps = {name: visit_shares(history) for name, history in histories.items()}
    top = max(share.max() for share in maps.values())
    for i, (name, share) in enumerate(maps.items()):
        axis = {"xaxis": f"x{i + 1 if i else ''}", "yaxis": f"y{i + 1 if i else ''}"}
        figure.add_heatmap(
            z=share.T,
            zmin=0,
            zmax=top,
            colorscale="Viridis",
            showscale=i == len(maps) - 1,
            name=plain(name),
            **axis,
        )
    figure.update_xaxes(title="x", constrain="domain")
    figure.update_yaxes(autorange="reversed", scaleanchor="x")
    figure.update_layout(
        title=plain(title),
        template="simple_white",
        width=340 * len(maps),
        height=340,
        margin={"l": 40, "r": 20, "t": 60, "b": 40},
    )
    return figure


def visit_shares(histories: Histories) -> np.ndarray:
    """(width, height) share of all steps spent in each cell; observations must be (x, y)."""
    sizes = checks.histories(histories).spec.cardinality
    if sizes is None or len(sizes) != 2:
        raise ValueError(
            f"{histories.spec.name} has no (x, y) observations, so there is no map to draw; give histories of a room."
        )
    real = np.arange(histories.spec.horizon) < histories.length[..., None]
    index = histories.spec.index(histories.arrays["obs"][real])
    return np.bincount(index, minlength=sizes[0] * sizes[1]).reshape(sizes) / len(index)
