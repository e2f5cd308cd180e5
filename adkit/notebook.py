"""The first call of a notebook: fit it to the machine it runs on, be that a laptop or Binder."""

from __future__ import annotations

import math
import os
import warnings
from importlib import import_module
from threading import Thread


def setup_notebook(*, need_mb: float = 1000) -> None:
    """Use the cores this server grants, say when it grants less memory than the notebook needs, and draw plotly in JupyterLab.

    What draws the views' still pictures is loaded meanwhile, in a thread: it would be half of the wait for the first view.

    JupyterHub and Binder grant less than the machine shows, and put what they grant in CPU_LIMIT (cores) and MEM_LIMIT (bytes).
    Where these are unset, as on a laptop, torch keeps its threads. Raises ValueError when either is not a number above 0.
    """
    import plotly.io

    if not 0 < need_mb < math.inf:
        raise ValueError(
            f"need_mb={need_mb}; give the megabytes that the notebook needs, such as 1000."
        )
    if cores := _granted("CPU_LIMIT", "cores above 0, such as 1 or 2.5"):
        import torch

        torch.set_num_threads(
            max(1, int(cores))
        )  # threads beyond what is granted only make the server pause all of them
    memory = _granted("MEM_LIMIT", "bytes above 0, such as 2147483648")
    if memory and memory < need_mb * 1e6:
        warnings.warn(
            f"This server grants {memory / 1e6:.0f} MB and the notebook needs about {need_mb:.0f} MB, or its kernel is killed: "
            "shut down the other kernels, or start a larger server.",
            stacklevel=2,
        )
    Thread(
        target=lambda: [
            import_module(f"matplotlib.{name}") for name in ("figure", "backends.backend_agg")
        ],
        daemon=True,
    ).start()
    plotly.io.renderers.default = (
        "plotly_mimetype"  # figures live in JupyterLab, and small in the file
    )


def _granted(name: str, what: str) -> float | None:
    """How much JupyterHub grants this server; None where it sets no limit."""
    given = os.environ.get(name)
    if not given:
        return None
    try:
        amount = float(given)
    except ValueError:
        amount = math.nan
    if not 0 < amount < math.inf:
        raise ValueError(
            f"{name}={given!r} in the environment should be a number of {what}. Correct it, or unset it for no limit."
        )
    return amount
