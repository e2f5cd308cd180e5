"""Figures that carry their own picture: plotly to look at closely, and what matplotlib draws of it wherever plotly cannot run."""

from __future__ import annotations

import html
import json

import numpy as np
import plotly.graph_objects as go

from adkit.views.page import as_png, with_picture

# Okabe & Ito: distinguishable with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash", "dot")
MARK = "watermark"


class Figure(go.Figure):
    """A plotly figure that also carries a PNG, for nbconvert, GitHub and a notebook opened without a kernel."""

    _ipython_display_ = _repr_html_ = (
        None  # plotly's own would send megabytes of script in place of the picture
    )

    def _repr_mimebundle_(self, *args, **kwargs):
        """The live figure inside an Output widget, beside its picture: JupyterLab prefers a bare PNG to a bare plotly figure."""
        from ipywidgets import Output

        names = [trace.name for trace in self.data if trace.name and trace.showlegend is not False]
        plotly = {
            "application/vnd.plotly.v1+json": json.loads(self.to_json()),
            "text/plain": repr(self),
        }
        live = Output(outputs=({"output_type": "display_data", "data": plotly, "metadata": {}},))
        return with_picture(
            live._repr_mimebundle_(), self.png(), "Figure: " + html.unescape(", ".join(names))
        )

    def png(self, dpi: int = 100) -> bytes:
        """The figure as matplotlib draws it: lines, bands, heat maps and horizontal lines."""
        from matplotlib.figure import Figure as Canvas

        layout = self.layout
        panels = sorted({trace.xaxis or "x" for trace in self.data})
        canvas = Canvas(
            figsize=((layout.width or 760) / 100, (layout.height or 400) / 100),
            dpi=dpi,
            layout="constrained",
        )
        axes = dict(
            zip(
                panels,
                np.ravel(canvas.subplots(1, max(1, len(panels)), sharey=len(panels) > 1)),
                strict=False,
            )
        )
        for trace in self.data:
            _draw(axes[trace.xaxis or "x"], trace, canvas)
        notes = {note.name: note.text for note in layout.annotations or () if note.name == MARK}
        titles = [
            html.unescape(note.text)
            for note in layout.annotations or ()
            if note.showarrow is False and note.name != MARK
        ]
        for i, (panel, ax) in enumerate(axes.items()):
            axis = layout[panel.replace("x", "xaxis")]
            ax.set_xlabel(html.unescape(axis.title.text or ""), parse_math=False)
            ax.set_title(titles[i] if i < len(titles) else "", fontsize=10, parse_math=False)
            if axis.type == "log":
                ax.set_xscale("log")
            if axis.ticktext:
                ax.set_xticks(
                    axis.tickvals, [html.unescape(text) for text in axis.ticktext], parse_math=False
                )
        first = next(iter(axes.values()))
        first.set_ylabel(html.unescape(layout.yaxis.title.text or ""), parse_math=False)
        first.yaxis.set_visible(layout.yaxis.visible is not False)
        if layout.yaxis.ticktext:
            first.set_yticks(
                layout.yaxis.tickvals,
                [html.unescape(text) for text in layout.yaxis.ticktext],
                parse_math=False,
            )
        if layout.title.text:
            canvas.suptitle(html.unescape(layout.title.text), fontsize=11, parse_math=False)
        handles, labels = first.get_legend_handles_labels()
        if handles and layout.showlegend is not False:
            legend = canvas.legend(
                handles, labels, loc="outside right upper", frameon=False, fontsize=8
            )
            for text in legend.get_texts():
                text.set(text=html.unescape(text.get_text()), parse_math=False)
        for text in notes.values():
            canvas.text(
                0.5,
                0.5,
                text,
                ha="center",
                va="center",
                fontsize=26,
                color="#999999",
                alpha=0.45,
                rotation=15,
            )
        return as_png(canvas)

    def watermarked(self, text: str = "smoke run, not evidence") -> Figure:
        """The same figure with something written across it that nobody can miss."""
        font = {"size": 34, "color": "rgba(150,150,150,0.45)"}
        self.add_annotation(
            name=MARK,
            text=text,
            xref="paper",
            yref="paper",
            x=0.5,
            y=0.5,
            showarrow=False,
            textangle=-15,
            font=font,
        )
        return self


def _draw(ax, trace, canvas) -> None:
    if trace.type == "heatmap":
        x, y = (
            np.arange(n) if v is None else v
            for n, v in zip(np.shape(trace.z)[::-1], (trace.x, trace.y), strict=True)
        )
        image = ax.pcolormesh(x, y, trace.z, cmap="viridis", vmin=trace.zmin, vmax=trace.zmax)
        ax.set_ylim(len(y) - 0.5, -0.5)
        ax.set_aspect("equal" if trace.texttemplate is None else "auto")
        for (row, column), value in np.ndenumerate(
            np.asarray(trace.z) if trace.texttemplate else np.zeros((0, 0))
        ):
            dark = value < (trace.zmin + trace.zmax) / 2
            ax.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "black",
            )
        if trace.showscale is not False:
            canvas.colorbar(image, ax=ax, shrink=0.8)
    elif trace.fill == "toself":
        label = trace.name if trace.showlegend is not False else None
        ax.fill(trace.x, trace.y, color=_colour(trace.fillcolor), linewidth=0, label=label)
    else:
        styles = {
            "solid": "-",
            "dash": "--",
            "dot": ":",
            "dashdot": "-.",
            "longdash": (0, (8, 3)),
            None: "-",
        }
        line = trace.line
        label = trace.name if trace.showlegend is not False else None
        style = styles[line.dash] if not trace.mode or "lines" in trace.mode else ""
        marker = "o" if trace.mode and "markers" in trace.mode else None
        ax.plot(
            trace.x,
            trace.y,
            color=line.color,
            linestyle=style,
            linewidth=line.width or 2,
            label=label,
            marker=marker,
        )
    ax.spines[["top", "right"]].set_visible(False)


def plain(words) -> str:
    """Text as plotly shows it literally: it reads tags, links among them, and names may come from a file."""
    return html.escape(str(words), quote=False)


def _colour(rgba: str) -> tuple[float, ...]:
    r, g, b, a = (float(part) for part in rgba.removeprefix("rgba(").removesuffix(")").split(","))
    return r / 255, g / 255, b / 255, a


def band(colour: str, alpha: float = 0.18) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"


def add_curve(figure: Figure, i: int, name: str, at, mean, low, high, mode: str = "lines") -> None:
    """Line number i in its band."""
    colour, name = COLOURS[i % len(COLOURS)], plain(name)
    area = {"x": np.r_[at, at[::-1]], "y": np.r_[high, low[::-1]], "fill": "toself", "mode": "none"}
    figure.add_scatter(
        **area,
        fillcolor=band(colour),
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
        name=name,
    )
    line = {"color": colour, "dash": DASHES[i % len(DASHES)], "width": 2}
    figure.add_scatter(x=at, y=mean, mode=mode, name=name, line=line, legendgroup=name)


def lay_out(figure: Figure, title: str, x: str, y: str, log_x: bool) -> None:
    title, x, y = plain(title), plain(x), plain(y)
    figure.update_layout(
        title=title, template="simple_white", width=760, height=400, margin={"l": 60, "r": 20, "t": 40 if title else 20, "b": 50},
        xaxis={"title": x, "type": "log" if log_x else None}, yaxis={"title": y, "rangemode": "tozero"},
    )  # fmt: skip
