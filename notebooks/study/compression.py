"""H0: do three shards compress what a model does by itself better than one utility does, or a table of contexts and actions?

The predictors are fitted by maximum likelihood to half of the layout orbits and scored on the other half, parameters counted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from adkit import checks
from adkit.histories import Histories
from adkit.stats import Interval
from study.corpora import against, interval
from study.predictors import PREDICTORS, Utility, decisions

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("model", "source", "unitary")
PER_LIFE = "compression.per_life, with a column seed"
CODED = ["n", *PREDICTORS]  # columns of `code`


def per_life(
    histories: Histories, kind: str = "model", site: str = "decision", seed: int = 0
) -> pd.DataFrame:
    """Held-out bits per decision of each life under each predictor; half of the orbits are held out, then the others.

    `kind` names the lives: "model", its own rollouts; "source", judged lives; "unitary", somebody's whose actions are drawn anew
    from the single utility that fits them best. `bits_*` are without the parameters, whose number is in `parameters_*` and which
    the `coded` decisions of the same half share.
    """
    import pandas as pd

    made = decisions(histories, site)
    orbits = np.unique(made.orbit[made.life])
    if kind not in KINDS or len(orbits) < 2:
        raise ValueError(
            f"kind={kind!r}, decisions in {len(orbits)} orbits; kinds are {', '.join(KINDS)}, and it takes 2 orbits."
        )
    if kind == "unitary":
        everything = Utility(made)
        made = replace(made, action=everything.drawn(everything.fit(), seed))
    half = np.isin(made.orbit, np.random.default_rng(seed).permutation(orbits)[::2])[made.life]
    frames = []
    for held_out in (half, ~half):
        known, new = made[~held_out], made[held_out]
        lives, row, count = np.unique(new.life, return_inverse=True, return_counts=True)
        columns = {
            "history": lives,
            "orbit": made.orbit[lives],
            "decisions": count,
            "coded": len(new),
            "kind": kind,
        }
        for name, predictor in PREDICTORS.items():
            fitted = predictor(known)
            nats = predictor(new).nats(fitted.fit()).numpy()
            columns |= {
                f"bits_{name}": np.bincount(row, nats) / count / np.log(2),
                f"parameters_{name}": fitted.parameters,
            }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames).sort_values("history", ignore_index=True)


def code(lives: pd.DataFrame) -> np.ndarray:
    """(lives, 4) decisions, and their bits by shards, utility and table, with a share of the (k / 2) log2(n) of parameters."""
    columns = [f"{what}_{name}" for name in PREDICTORS for what in ("bits", "parameters")]
    checks.columns(lives, "coded", "decisions", *columns, made_by=PER_LIFE)
    each = np.log2(lives["coded"]) / lives["coded"] / 2
    bits = [
        lives["decisions"] * (lives[f"bits_{name}"] + lives[f"parameters_{name}"] * each)
        for name in PREDICTORS
    ]
    return np.stack([lives["decisions"], *bits], axis=1)


def saved(mean: np.ndarray) -> np.ndarray:
    """Bits per decision that shards save on the better of their rivals, of means (..., 4) of `code`."""
    if np.shape(mean)[-1:] != (4,):
        raise ValueError(
            f"means of shape {np.shape(mean)}; give (..., 4): means of what code(lives) makes."
        )
    return (mean[..., 2:].min(-1) - mean[..., 1]) / mean[..., 0]


def measured(lives: pd.DataFrame) -> dict[str, Interval | float]:
    """What H0 names, of `per_life` frames of every kind, joined over seeds; the source's lives may come but once.

    A seed agrees if the interval of its own saving, over orbits and lives, lies above 0; `p` is the share of bootstrap draws in
    which nothing is saved.
    """
    checks.rows(lives, PER_LIFE, kind=KINDS)
    told = lives.assign(**dict(zip(CODED, code(lives).T, strict=True)))
    saving = lambda of: interval(of, CODED, saved)
    by = {kind: told[told["kind"] == kind] for kind in KINDS if (lives["kind"] == kind).any()}
    found = {
        "saving" if kind == "model" else f"{kind}_saving": saving(of) for kind, of in by.items()
    }
    if "model" in by:
        found["seeds_agreeing"] = float(
            np.mean([saving(of).low > 0 for _, of in by["model"].groupby("seed")])
        )
        found |= against(by["model"], CODED, saved)
    return found
