"""The study of creatures, judged: tables of per-life results in, measures of every gate and hypothesis out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adkit.stats import Interval, over_seeds
from study import competence, compression, drift, erasure, hiding, steering
from study.verdicts import Verdict, check_hypotheses, verdict

if TYPE_CHECKING:
    import pandas as pd

NEEDED = {
    "G0": ("instruments",),
    "G1": ("competence", "returns", "edits action only"),
    "G2": ("drift", "drift tolerance visible", "hiding"),
    "G3": ("drift", "false positives"),
    "H0": ("compression",),
    "H1": ("competence", "edits action only", "edits untrained"),
    "H2a": ("drift", "drift draws"),
    "H2a_future": ("drift ahead", "drift ahead draws"),
    "H2b": ("erasure", "erasure draws"),
    "H4": ("hiding", "edits action only", "edits primitive only"),
    "H6": ("steering", "steering draws"),
}


def load(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Every table of a folder such as data/cookie_world, by name; ValueError when one that is judged by is missing."""
    import pandas as pd

    tables = {path.stem: pd.read_csv(path) for path in sorted(Path(folder).glob("*.csv"))}
    if missing := sorted({name for names in NEEDED.values() for name in names} - set(tables)):
        raise ValueError(
            f"{folder} has no tables {', '.join(missing)}; `make study ARGS= standard` makes them."
        )
    return tables


def measured(
    tables: Mapping[str, pd.DataFrame], names=tuple(NEEDED)
) -> dict[str, dict[str, Interval | float]]:
    """What the gates and hypotheses `names` read, of tables of all seeds: {"G1": {"gap_closed": Interval, ...}, ...}."""
    if unknown := sorted(set(names) - set(NEEDED)):
        raise ValueError(f"nothing measures {', '.join(unknown)}; there are {', '.join(NEEDED)}.")
    _check(tables, names)
    return {name: MEASURES[name](*(tables[table] for table in NEEDED[name])) for name in names}


def _check(tables: Mapping[str, pd.DataFrame], names: Iterable[str]) -> None:
    if missing := sorted({table for name in names for table in NEEDED[name]} - set(tables)):
        raise ValueError(
            f"no table {', '.join(missing)}, which {', '.join(names)} are measured by; study.load(folder) has all."
        )


def _seen(
    drifting: pd.DataFrame, tolerance: pd.DataFrame, hid: pd.DataFrame
) -> dict[str, Interval]:
    """G2."""
    return drift.measured_controls(drifting, tolerance) | {
        "random_hider_auc": hiding.measured_random(hid)
    }


def _unseen(drifting: pd.DataFrame, false_positives: pd.DataFrame) -> dict[str, Interval | float]:
    """G3."""
    return drift.measured_controls(drifting) | {
        "false_positives": float((false_positives["p"] <= 0.05).mean())
    }


MEASURES = {
    "G0": lambda instruments: instruments.drop(columns="seed").max().to_dict(),
    "G1": competence.measured_competence,
    "G2": _seen,
    "G3": _unseen,
    "H0": compression.measured,
    "H1": competence.measured_activation,
    "H2a": drift.measured,
    "H2a_future": drift.measured,
    "H2b": erasure.measured,
    "H4": hiding.measured,
    "H6": steering.measured,
}


def by_seed(hypotheses: Mapping, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The headline measure of every hypothesis in each seed alone, and the t-interval of these few numbers: with as many seeds as
    this the bootstrap's own is hardly to be trusted between seeds."""
    import pandas as pd

    check_hypotheses(hypotheses)
    _check(tables, hypotheses["hypotheses"])
    seeds = sorted(tables["competence"]["seed"].unique())
    rows = {}
    for name, entry in hypotheses["hypotheses"].items():
        apart = [
            {need: tables[need][tables[need]["seed"] == seed] for need in NEEDED[name]}
            for seed in seeds
        ]
        found = [float(np.ravel(measured(of, [name])[name][entry["measure"]])[0]) for of in apart]
        spread = {"mean, t-interval": str(over_seeds(found))} if len(seeds) > 1 else {}
        rows[name] = (
            {"measure": entry["measure"]}
            | {f"seed {s}": x for s, x in zip(seeds, found, strict=True)}
            | spread
        )
    return pd.DataFrame(rows).T


def alone(
    hypotheses: Mapping,
    tables: Mapping[str, pd.DataFrame],
    name: str,
    without: tuple[str, ...] = (),
) -> Verdict:
    """One hypothesis judged by itself, whatever gates say: `p` is not adjusted for others, and rules of measures `without`, which
    such lives cannot have, are left out. For shows of what the pipeline says of somebody who cannot have what is looked for."""
    check_hypotheses(hypotheses)
    if name not in hypotheses["hypotheses"]:
        raise ValueError(
            f"no hypothesis {name!r}; there are {', '.join(hypotheses['hypotheses'])}."
        )
    entry, found = hypotheses["hypotheses"][name], measured(tables, [name])[name]
    kept = {
        role: {k: rule for k, rule in entry[role].items() if k not in without}
        for role in ("supported", "refuted")
    }
    found = {k: value for k, value in found.items() if k not in without}
    return verdict({**entry, **kept}, found | {"p_holm": found["p"]}, name)
