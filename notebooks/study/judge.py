"""From the study's tables of per-lifetime results to the measures of every gate and hypothesis.

A new hypothesis is one entry in `hypotheses.yaml`, one file beside this one that measures it, a
line in `MEASURES`, and, if it needs a new table, a row in `jobs.py` that makes the table. Its
p-value joins the Holm correction of the primary hypotheses, so that it can change their verdicts.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from study import competence, compression, drift, erasure, hiding, steering
from study.statistics import Measures, over_seeds, pick
from study.verdicts import Verdict, verdict

Tables = Mapping[str, pd.DataFrame]


def must_be_seen(frame: pd.DataFrame, tolerance: pd.DataFrame, hides: pd.DataFrame) -> Measures:
    """Measure what gate G2 names, `tolerance` being the table of the positive control."""
    drifts = pick(frame, regime="D2")
    return {
        "tolerance_visible_r2": drift.over_counting(tolerance),
        "planted_found": drift.r2(drifts, "planted belief", "spread: belief"),
        "planted_erased": drift.r2(drifts, "planted erased", "spread: belief"),
        "random_hider_auc": hiding.auc(pick(hides, type="R"), "model", hiding.GAINS),
    }


def must_not_be_seen(frame: pd.DataFrame, false_positives: pd.DataFrame) -> Measures:
    """Measure what gate G3 names: what is found where there is nothing."""
    return {
        "untrained_r2": drift.r2(pick(frame, regime="D2"), "untrained"),
        "false_positives": float((false_positives["p"] <= 0.05).mean()),
    }


MEASURES = {  # name: the function that measures it, and the tables that the function takes
    "G0": (lambda checks: checks.drop(columns="seed").max().to_dict(), "instruments"),
    "G1": (competence.measured_competence, "competence", "returns", "edits action only"),
    "G2": (must_be_seen, "drift", "drift tolerance visible", "hiding"),
    "G3": (must_not_be_seen, "drift", "false positives"),
    "H0": (compression.measured, "compression"),
    "H1": (competence.measured_activation, "competence", "edits action only", "edits untrained"),
    "H2a": (drift.measured, "drift", "drift draws"),
    "H2a_future": (drift.measured, "drift ahead", "drift ahead draws"),
    "H2b": (erasure.measured, "erasure", "erasure draws"),
    "H4": (hiding.measured, "hiding", "edits action only", "edits primitive only"),
    "H6": (steering.measured, "steering", "steering draws"),
}


def load(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Read every table of a folder such as data/cookie_world, by name.

    Raises FileNotFoundError if a table that a hypothesis needs is missing.
    """
    tables = {path.stem: pd.read_csv(path) for path in sorted(Path(folder).glob("*.csv"))}
    needed = {name for _, *names in MEASURES.values() for name in names}
    if missing := sorted(needed - set(tables)):
        raise FileNotFoundError(
            f"{folder} has no tables {', '.join(missing)}; `make study ARGS=standard` makes those "
            "for which there is a job in study/jobs.py"
        )
    return tables


def measured(tables: Tables, names: tuple[str, ...] = tuple(MEASURES)) -> dict[str, Measures]:
    """Measure the gates and hypotheses `names`: {"G1": {"gap_closed": Interval, ...}, ...}."""
    found = {}
    for name in names:
        measure, *needed = MEASURES[name]
        found[name] = measure(*(tables[table] for table in needed))
    return found


def by_seed(hypotheses: Mapping, tables: Tables) -> pd.DataFrame:
    """Return every hypothesis's primary measure in each training seed alone.

    The column "estimate" has the t-interval of these few numbers: between so few seeds the
    bootstrap's interval is too narrow.
    """
    rows, seeds = {}, sorted(tables["competence"]["seed"].unique())
    for name, entry in hypotheses["hypotheses"].items():
        each = [{t: pick(tables[t], seed=seed) for t in MEASURES[name][1:]} for seed in seeds]
        found = [measured(of, (name,))[name][entry["measure"]] for of in each]
        values = [float(np.ravel(one)[0]) for one in found]
        rows[name] = [entry["measure"], *values, over_seeds(values)]
    columns = ["measure", *(f"seed {seed}" for seed in seeds), "estimate"]
    return pd.DataFrame.from_dict(rows, "index", columns=columns)


def alone(hypotheses: Mapping, tables: Tables, name: str, without: tuple[str, ...] = ()) -> Verdict:
    """Judge one hypothesis by itself, whatever the gates say and without adjusting its p-value.

    Rules on the measures `without` are left out. For planted cases: what does the judge say of a
    corpus or a predictor that cannot have what the hypothesis looks for?
    """
    entry = dict(hypotheses["hypotheses"][name])
    for role in ("supported", "refuted"):
        entry[role] = {key: rule for key, rule in entry[role].items() if key not in without}
    found = measured(tables, (name,))[name]
    found = {key: value for key, value in found.items() if key not in without}
    return verdict(entry, found | {"p_holm": found["p"]}, name)
