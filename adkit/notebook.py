"""The first call of a notebook, and its last: the machine it runs on, and what it found."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

NEEDED_MB = 1000  # by the largest notebook


def setup_notebook() -> Callable[[str, str, str], None]:
    """Configure a notebook for the machine it runs on: threads, a memory warning, plotly.

    JupyterHub and Binder grant less than the machine shows, and say so in CPU_LIMIT (cores) and
    MEM_LIMIT (bytes). Where these are unset, as on a laptop, torch keeps its threads.

    Returns `found(what, how_sure, why)`. The last cell calls it with three sentences made from the
    results above it, and they appear here, at the top.
    """
    import plotly.io
    from IPython import get_ipython
    from IPython.display import DisplayHandle, Markdown, display

    if cores := _granted("CPU_LIMIT"):
        import torch

        # with more threads than cores granted, the server pauses all of them
        torch.set_num_threads(max(1, int(cores)))
    memory = _granted("MEM_LIMIT")
    if memory and memory < NEEDED_MB * 1e6:
        warnings.warn(
            f"This server grants {memory / 1e6:.0f} MB, and the notebook needs about {NEEDED_MB} "
            "MB: shut down other kernels, or start a larger server.",
            stacklevel=2,
        )
    plotly.io.renderers.default = "plotly_mimetype"  # figures in JupyterLab, small in the file
    top = DisplayHandle() if get_ipython() else None
    if top:
        # on reopening, JupyterLab shows a figure's picture until the mouse enters: let it shrink
        style = "<style>img.plot-img { max-width: 100%; height: auto }</style>"
        display({"text/html": style, "text/plain": ""}, raw=True)
        top.display(Markdown("*What was found appears here after the last cell.*"))

    def found(what: str, how_sure: str, why: str) -> None:
        """Show at the top of the notebook what was found, how sure that is, and why it matters."""
        said = {"Found.": what, "How sure.": how_sure, "Why it matters.": why}
        text = "\n\n".join(f"**{name}** {sentence}" for name, sentence in said.items())
        top.update(Markdown(text)) if top else print(text)

    return found


def _granted(name: str) -> float | None:
    """Return how much JupyterHub grants this server; None where it sets no limit."""
    given = os.environ.get(name)
    return float(given) if given else None
