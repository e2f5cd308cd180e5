"""The first call of a notebook: threads, memory and the plot renderer of its machine."""

from __future__ import annotations

import os
import warnings

NEEDED_MB = 1000  # by the largest notebook


def setup_notebook() -> None:
    """Configure a notebook for the machine it runs on: threads, a memory warning, plotly.

    JupyterHub and Binder grant less than the machine shows, and say so in CPU_LIMIT (cores) and
    MEM_LIMIT (bytes). Where these are unset, as on a laptop, torch keeps its threads.
    """
    import plotly.io

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


def _granted(name: str) -> float | None:
    """Return how much JupyterHub grants this server; None where it sets no limit."""
    given = os.environ.get(name)
    return float(given) if given else None
