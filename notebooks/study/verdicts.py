"""Compare measurements with pre-registered thresholds and return exactly one verdict.

A hypothesis is an entry of `hypotheses.yaml`. Its rules are {measure: {bound: limit}}; the bounds:

    at_least, at_most             of the estimate
    low_at_least, high_at_most    of the interval's ends; strictly above a limit of 0
    within                        the whole interval lies within +-limit (TOST, at least as strict)
"""

import math
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from adkit.stats import Interval, holm
from study.statistics import detectable

ZERO = 1e-9  # up to rounding
VERDICTS = ("supported", "refuted", "inconclusive", "untestable")
BOUNDS = {
    "at_least": lambda x, limit: x.estimate >= limit,
    "at_most": lambda x, limit: x.estimate <= limit,
    "low_at_least": lambda x, limit: x.low >= limit and (limit != 0 or x.low > ZERO),
    "high_at_most": lambda x, limit: x.high <= limit,
    "within": lambda x, limit: -limit <= x.low and x.high <= limit,
}
TOWARDS = {"greater": {"at_least", "low_at_least"}, "less": {"at_most", "high_at_most"}}


# ---- what was written down ----

REQUIRED = {"claim", "estimator", "test", "split", "site", "corpus", "unit", "measure"}
REQUIRED |= {"direction", "expected", "primary", "sesoi", "gates"}
REQUIRED |= {"supported", "refuted", "controls"}
OPTIONAL = {"grades", "reported"}


def load_hypotheses(path: str | Path) -> dict:
    """Read `hypotheses.yaml`; ValueError names every fault and its place.

    A rule under a misspelt name must not go unnoticed: it would never be applied.
    """
    text = Path(path).read_text(encoding="utf-8")
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
        raise ValueError(
            f"{path} has aliases (*name), which can stand for any amount: write it out"
        )
    hypotheses = yaml.safe_load(text)
    gates, faults = hypotheses["gates"], []
    rules = {f"gates.{name}": rules for name, rules in gates.items()}
    for name, entry in hypotheses["hypotheses"].items():
        if wrong := (REQUIRED - set(entry)) | (set(entry) - REQUIRED - OPTIONAL):
            faults.append(f"{name}: missing or unknown: {', '.join(sorted(wrong))}")
            continue
        rules |= {f"{name}.{role}": entry[role] for role in ("supported", "refuted", "controls")}
        rules |= {f"{name}.{grade}": of for grade, of in entry.get("grades", {}).items()}
        faults += [
            f"{name}.gates: there is no gate {gate}" for gate in set(entry["gates"]) - set(gates)
        ]
        bounds = set(entry["supported"].get(entry["measure"], {}))
        if not bounds & TOWARDS[entry["direction"]]:
            wanted = f"a bound on {entry['measure']} in the direction {entry['direction']}"
            faults.append(f"{name}.supported: {wanted} is missing")
        for measure, control in entry["controls"].items():
            if control.get("kind") not in ("positive", "negative"):
                faults.append(f"{name}.controls.{measure}: its kind must be positive or negative")
    for place, of in rules.items():
        for measure, rule in of.items():
            bounds = set(rule) - {"kind", "says"}
            if not bounds or bounds - set(BOUNDS):
                wanted = f"bounds must be of {', '.join(BOUNDS)}, got {', '.join(bounds)}"
                faults.append(f"{place}.{measure}: {wanted}")
    if faults:
        raise ValueError("the hypotheses cannot be judged:\n  " + "\n  ".join(faults))
    return hypotheses


# ---- one verdict ----


@dataclass(frozen=True, eq=False)
class Verdict:
    """The judgement of one hypothesis."""

    name: str
    verdict: str  # one of `VERDICTS`
    why: str  # the rules that decided
    measure: str
    effect: Interval | None  # the primary measure; None if it was not measured
    sesoi: float  # the smallest effect size of interest
    mde: float  # the smallest true effect found in 8 of 10 such studies
    expected: str
    grade: str  # how far a graded hypothesis got; "" for the others
    rules: pd.DataFrame = field(repr=False)  # one row each: role, measure, rule, value, passed
    null: np.ndarray | None = field(repr=False, default=None)
    """Draws of the primary measure where there is nothing to find."""


def gate(rules: Mapping, measured: Mapping) -> pd.DataFrame:
    """Compare a gate's rules with the measurements, a row each; the gate holds if all passed."""
    return pd.DataFrame(_judged("gate", rules, measured))


def verdict(
    entry: Mapping, measured: Mapping, name: str = "", failed_gates: tuple[str, ...] = ()
) -> Verdict:
    """Judge one hypothesis.

    `measured` holds an Interval or a number per measure, and `null`, draws of the null.
    The verdict is untestable if a gate or a control failed or was not measured, or the primary
    measure is missing; else refuted if any refuting rule holds; else supported if every supporting
    rule holds; else inconclusive. A measure that is missing passes no rule.
    """
    rules = {"supported": entry["supported"], "refuted": entry["refuted"]}
    rules["control"] = entry["controls"]
    judged = {role: _judged(role, of, measured) for role, of in rules.items()}
    effect = _interval(measured.get(entry["measure"]))
    word, why = _decide(entry, judged, effect, failed_gates)
    return Verdict(
        name=name,
        verdict=word,
        why=why,
        effect=effect,
        mde=math.nan if effect is None else detectable(effect),
        grade=_grade(entry, measured),
        rules=pd.DataFrame([row for rows in judged.values() for row in rows]),
        null=measured.get("null"),
        **{key: entry[key] for key in ("measure", "sesoi", "expected")},
    )


def _decide(
    entry: Mapping, judged: Mapping, effect: Interval | None, failed_gates: tuple[str, ...]
) -> tuple[str, str]:
    """Return the verdict's word and the rules that decided."""
    told = lambda row: f"{row['measure']} {row['value']} (rule: {row['rule']})"
    bad = [row for row in judged["control"] if not row["passed"]]
    refuting = [row for row in judged["refuted"] if row["passed"]]
    lacking = [row for row in judged["supported"] if not row["passed"]]
    if failed_gates:
        return "untestable", f"gate {', '.join(failed_gates)} failed"
    if bad:
        kind = lambda row: entry["controls"][row["measure"]]["kind"]
        return "untestable", "; ".join(f"{kind(row)} control: {told(row)}" for row in bad)
    if effect is None:
        return "untestable", f"{entry['measure']} was not measured"
    if refuting:
        return "refuted", "; ".join(map(told, refuting))
    if lacking:
        return "inconclusive", "not shown: " + "; ".join(map(told, lacking))
    return "supported", f"all {len(judged['supported'])} rules hold"


def _grade(entry: Mapping, measured: Mapping) -> str:
    """Return the last grade whose rules, and those of all grades before it, hold."""
    reached = ""
    for grade, rules in entry.get("grades", {}).items():
        if not all(row["passed"] for row in _judged("grade", rules, measured)):
            break
        reached = grade
    return reached


def _judged(role: str, rules: Mapping, measured: Mapping) -> list[dict]:
    """Return a row per bound; a measure that is missing passes none."""
    rows = []
    for measure, rule in rules.items():
        value = _interval(measured.get(measure))
        shown = "not measured" if value is None else brief(value)
        for bound in [name for name in rule if name in BOUNDS]:
            passed = value is not None and bool(BOUNDS[bound](value, rule[bound]))
            row = {"role": role, "measure": measure, "rule": f"{bound} {rule[bound]:g}"}
            numbers = (value or Interval(*[math.nan] * 3))._asdict()
            rows.append(row | {"value": shown, "passed": passed} | numbers)
    return rows


def brief(value: Interval | float) -> str:
    """Return a number to three digits, an interval to two of its width: .31 [.22, .40]."""
    estimate, low, high = value if isinstance(value, tuple) else (value,) * 3
    shown = f"{estimate:.3g}" if abs(estimate) > ZERO else "0"
    if high - low > ZERO:
        digits = max(0, 1 - math.floor(math.log10(high - low)))
        shown = "{:.{n}f} [{:.{n}f}, {:.{n}f}]".format(*value, n=digits)
    return re.sub(r"\b0\.", ".", shown)


def _interval(value: Any) -> Interval | None:
    """Return a measure, an interval or a number, as an interval; None if missing or not finite."""
    if value is None:
        return None
    ends = value if isinstance(value, tuple | list) else (value,) * 3
    interval = Interval(*map(float, ends))
    return interval if all(map(math.isfinite, interval)) else None


# ---- all verdicts ----


def verdicts(hypotheses: Mapping, measured: Mapping[str, Mapping]) -> dict[str, Verdict]:
    """Judge every hypothesis that was measured; `measured` holds the gates' measures too.

    The p-values of the primary hypotheses are adjusted together (Holm) and judged as `p_holm`; one
    that was not measured counts as 1.
    """
    gates, entries = hypotheses["gates"], hypotheses["hypotheses"]
    passed = {name: gate(gates[name], measured.get(name, {})).passed.all() for name in gates}
    primary = [name for name, entry in entries.items() if entry["primary"]]
    p = holm([float(measured.get(name, {}).get("p", 1.0)) for name in primary])
    adjusted = dict(zip(primary, map(float, p), strict=True))
    judged = {}
    for name in [name for name in entries if name in measured]:
        of, entry = measured[name], entries[name]
        if name in adjusted and "p" in of:
            of = of | {"p_holm": adjusted[name]}
        failed = tuple(gate for gate in sorted(entry["gates"]) if not passed[gate])
        judged[name] = verdict(entry, of, name, failed)
    return judged


def flips(
    hypotheses: Mapping, measured: Mapping[str, Mapping], changes: Mapping[str, float]
) -> pd.DataFrame:
    """Return the verdicts before and after thresholds change.

    `changes` is {"H2a.supported.phi.at_least": 0.4, "G1.gap_closed.at_least": 0.7}.
    """
    changed = deepcopy(dict(hypotheses))
    for path, limit in changes.items():
        *steps, bound = path.split(".")
        try:
            rule = reduce(getitem, steps, changed["gates"] | changed["hypotheses"])
            _, rule[bound] = rule[bound], limit  # only a bound that is there can change
        except (KeyError, TypeError):
            raise ValueError(
                f"no threshold {path!r}; name it as hypothesis.role.measure.bound, "
                "such as H2a.supported.phi.at_least"
            ) from None
    before, after = verdicts(hypotheses, measured), verdicts(changed, measured)
    columns = {"before": before, "after": after}
    table = pd.DataFrame({n: {h: v.verdict for h, v in of.items()} for n, of in columns.items()})
    return table.assign(flips=table.before != table.after)
