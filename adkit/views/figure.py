"""Plotly figures with a static picture, which matplotlib draws, for pages without scripts."""

from __future__ import annotations

import html
import json

import numpy as np
import plotly.graph_objects as go
from ipywidgets import Output

from adkit.views.page import draw_png, with_picture

# Okabe & Ito: distinguishable with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash", "dot")
STYLES = {"dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (8, 3))}  # plotly: matplotlib
MARK = "watermark"


class Figure(go.Figure):
    """A plotly figure that also carries a PNG, for GitHub and notebooks without a kernel."""

    # plotly's own would put megabytes of script in place of the picture
    _ipython_display_ = _repr_html_ = None

    def _repr_mimebundle_(self, *args, **kwargs):
        """Return the live figure inside an Output widget, beside its picture.

        JupyterLab prefers a bare PNG to a bare plotly figure, but not to a widget.
        """
        names = [trace.name for trace in self.data if trace.name and trace.showlegend is not False]
        plotly = {
            "application/vnd.plotly.v1+json": json.loads(self.to_json()),
            "text/plain": repr(self),
        }
        live = Output(outputs=({"output_type": "display_data", "data": plotly, "metadata": {}},))
        text = "Figure: " + literal(", ".join(names))
        return with_picture(live._repr_mimebundle_(), self.png(), text)

    def png(self) -> bytes:
        """Return the figure as matplotlib draws it: lines, bands and heat maps."""
        width, height = self.layout.width or 760, self.layout.height or 400
        return draw_png(self._draw, width / 100, height / 100)

    def _draw(self, canvas) -> None:
        from matplotlib.ticker import LogFormatter

        layout = self.layout
        panels = sorted({trace.xaxis or "x" for trace in self.data}) or ["x"]
        subplots = np.ravel(canvas.subplots(1, len(panels), sharey=len(panels) > 1))
        axes = dict(zip(panels, subplots, strict=True))
        for trace in self.data:
            _draw_trace(axes[trace.xaxis or "x"], trace)
        notes = layout.annotations or ()
        titles = [note.text for note in notes if note.showarrow is False and note.name != MARK]
        for i, (panel, ax) in enumerate(axes.items()):
            axis = layout[panel.replace("x", "xaxis")]
            _label(ax.xaxis, axis)
            if axis.type == "log":
                ax.set_xscale("log")
                formatter = LogFormatter(labelOnlyBase=False)
                ax.xaxis.set(major_formatter=formatter, minor_formatter=formatter)
            ax.set_title(literal(titles[i]) if i < len(titles) else "", fontsize=10)
        first = subplots[0]
        _label(first.yaxis, layout.yaxis)
        first.yaxis.set_visible(layout.yaxis.visible is not False)
        if layout.title.text:
            canvas.suptitle(literal(layout.title.text), fontsize=11)
        handles, labels = first.get_legend_handles_labels()
        if handles and layout.showlegend is not False:
            place = {"loc": "outside right upper", "frameon": False, "fontsize": 8}
            canvas.legend(handles, labels, **place)
        for note in notes:
            if note.name == MARK:
                look = {"fontsize": 26, "color": "#999999", "alpha": 0.45, "rotation": 15}
                canvas.text(0.5, 0.5, note.text, ha="center", va="center", **look)

    def watermarked(self, text: str = "smoke run, not evidence") -> Figure:
        """Write a warning across the figure; return the figure."""
        font = {"size": 34, "color": "rgba(150,150,150,0.45)"}
        middle = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "textangle": -15}
        self.add_annotation(name=MARK, text=text, showarrow=False, font=font, **middle)
        return self


def _label(axis, like) -> None:
    """Give a matplotlib axis the title and the ticks of a plotly axis."""
    axis.set_label_text(literal(like.title.text))
    if like.ticktext:
        axis.set_ticks(like.tickvals, [literal(text) for text in like.ticktext])


def _draw_trace(ax, trace) -> None:
    """Draw one plotly trace with matplotlib: a heat map, a band, or a line."""
    label = literal(trace.name) if trace.showlegend is not False else None
    if trace.type == "heatmap":
        _draw_heat_map(ax, trace)
    elif trace.fill == "toself":
        ax.fill(trace.x, trace.y, color=_rgba(trace.fillcolor), linewidth=0, label=label)
    else:
        mode, line = trace.mode or "lines", trace.line
        style = STYLES.get(line.dash, "-") if "lines" in mode else ""
        look = {"color": line.color, "linestyle": style, "linewidth": line.width or 2}
        ax.plot(trace.x, trace.y, marker="o" if "markers" in mode else None, label=label, **look)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_heat_map(ax, trace) -> None:
    aspect = "auto" if trace.texttemplate else "equal"
    image = ax.imshow(trace.z, "viridis", vmin=trace.zmin, vmax=trace.zmax, aspect=aspect)
    if trace.texttemplate:
        middle = {"ha": "center", "va": "center", "fontsize": 8}
        for (row, column), value in np.ndenumerate(np.asarray(trace.z)):
            colour = "white" if value < (trace.zmin + trace.zmax) / 2 else "black"
            ax.text(column, row, f"{value:.2f}", color=colour, **middle)
    if trace.showscale is not False:
        ax.figure.colorbar(image, ax=ax, shrink=0.8)


# ---- parts of figures ----


def plain(words) -> str:
    """Return text that plotly, which reads tags, shows literally: names may come from a file."""
    return html.escape(str(words), quote=False)


def literal(text: str | None) -> str:
    """Return the text that `plain` escaped."""
    return html.unescape(text or "")


def band(colour: str, alpha: float = 0.18) -> str:
    """Return a colour such as "#0072B2" made transparent."""
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"


def _rgba(colour: str) -> np.ndarray:
    """Return what `band` returned as matplotlib reads it."""
    numbers = colour.removeprefix("rgba(").removesuffix(")").split(",")
    return np.array(numbers, float) / (255, 255, 255, 1)


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
    size_figure(figure, title, width=760, height=400, xaxis=xaxis, yaxis=yaxis)


def size_figure(figure: Figure, title: str, **layout) -> None:
    """Give a figure its title, its size and the margins they need."""
    margin = {"l": 60, "r": 20, "t": 40 if title else 20, "b": 50}
    look = {"title": plain(title), "template": "simple_white", "margin": margin}
    figure.update_layout(**look | layout)
