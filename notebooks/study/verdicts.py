"""Compare measurements with pre-registered thresholds and return exactly one verdict.

A hypothesis is an entry of `hypotheses.yaml`. Its rules are {measure: {bound: limit}}; the bounds:

    at_least, at_most             of the estimate
    low_at_least, high_at_most    of the interval's ends; strictly above a limit of 0
    within                        the whole interval lies within +-limit (TOST, at least as strict)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
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

TEXT = {"type": "string", "pattern": r"\S"}
BOUND = {name: {"type": "number"} for name in BOUNDS}
RULE = {"type": "object", "properties": BOUND, "additionalProperties": False, "minProperties": 1}
RULES = {"type": "object", "additionalProperties": RULE, "minProperties": 1}
CONTROL = {
    "type": "object",
    "properties": BOUND | {"kind": {"enum": ["positive", "negative"]}, "says": TEXT},
    "additionalProperties": False,
    "required": ["kind", "says"],
    "minProperties": 3,
}
TEXTS = ("claim", "estimator", "test", "split", "site", "corpus", "unit", "measure")
REQUIRED = dict.fromkeys(TEXTS, TEXT) | {
    "direction": {"enum": list(TOWARDS)},
    "expected": {"enum": list(VERDICTS)},
    "primary": {"type": "boolean"},
    "sesoi": {"type": "number", "exclusiveMinimum": 0},
    "gates": {"type": "array", "items": {"type": "string"}},
    "supported": RULES,
    "refuted": RULES,
    "controls": {"type": "object", "additionalProperties": CONTROL, "minProperties": 1},
}
OPTIONAL = {
    "grades": {"type": "object", "additionalProperties": RULES},
    "reported": {"type": "array", "items": {"type": "string"}},
}
HYPOTHESIS = {
    "type": "object",
    "properties": REQUIRED | OPTIONAL,
    "additionalProperties": False,
    "required": list(REQUIRED),
}
SCHEMA = {
    "type": "object",
    "properties": {
        "gates": {"type": "object", "additionalProperties": RULES},
        "hypotheses": {"type": "object", "additionalProperties": HYPOTHESIS},
    },
    "required": ["gates", "hypotheses"],
}


def load_hypotheses(path: str | Path) -> dict:
    """Read `hypotheses.yaml` and check it; ValueError names every fault and its place."""
    hypotheses = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    check_hypotheses(hypotheses)
    return hypotheses


def check_hypotheses(hypotheses: Mapping) -> None:
    """Raise ValueError, with every fault, unless gates and hypotheses follow `SCHEMA`."""
    errors = jsonschema.Draft202012Validator(SCHEMA).iter_errors(hypotheses)
    faults = [
        f"{'.'.join(map(str, error.path)) or 'the file'}: {error.message}" for error in errors
    ]
    if not faults:
        for name, entry in hypotheses["hypotheses"].items():
            if unknown := set(entry["gates"]) - set(hypotheses["gates"]):
                faults.append(f"hypotheses.{name}.gates: there is no gate {', '.join(unknown)}")
            bounds = set(entry["supported"].get(entry["measure"], {}))
            if not bounds & TOWARDS[entry["direction"]]:
                wanted = f"a bound on {entry['measure']} in the direction {entry['direction']}"
                faults.append(f"hypotheses.{name}.supported: {wanted} is missing")
    if faults:
        raise ValueError("the hypotheses cannot be judged:\n  " + "\n  ".join(faults))


# ---- one verdict ----


@dataclass(frozen=True, eq=False)
class Verdict:
    """The judgement of one hypothesis."""

    name: str
    claim: str
    verdict: str
    """One of `VERDICTS`."""
    why: str
    """The rules that decided."""
    measure: str
    effect: Interval | None
    """The primary measure; None if it was not measured."""
    sesoi: float
    """The smallest effect size of interest."""
    mde: float
    """The minimum detectable effect: the smallest true effect found in 8 of 10 such studies."""
    expected: str
    grade: str
    """How far a graded hypothesis got; "" for the others."""
    rules: pd.DataFrame = field(repr=False)
    """One row per rule: role, measure, rule, value, passed."""
    null: np.ndarray | None = field(repr=False, default=None)
    """Draws of the primary measure where there is nothing to find."""

    def __str__(self) -> str:
        effect = "not measured" if self.effect is None else str(self.effect)
        inconclusive = self.verdict == "inconclusive"
        mde = f"; minimum detectable effect {self.mde:.2g}" if inconclusive else ""
        grade = f" ({self.grade})" if self.grade else ""
        return f"{self.name}: {self.verdict}{grade}. {self.measure} = {effect}{mde}. {self.why}"

    def row(self) -> dict[str, Any]:
        """Return the verdict as a row of the verdict table."""
        null = ""
        if self.null is not None:
            null = "{:.3g} to {:.3g}".format(*np.nanquantile(self.null, [0.025, 0.975]))
        estimate, low, high = self.effect or (math.nan,) * 3
        rules = self.rules
        primary = (rules.role == "supported") & (rules.measure == self.measure)
        controls = rules[rules.role == "control"]
        failed = ", ".join(controls.measure[~controls.passed])
        return {
            "hypothesis": self.name,
            "verdict": self.verdict,
            "grade": self.grade,
            "measure": self.measure,
            "effect": estimate,
            "low": low,
            "high": high,
            "threshold": ", ".join(rules.rule[primary]),
            "null, 95%": null,
            "sesoi": self.sesoi,
            "detectable": self.mde,
            "controls": f"failed: {failed}" if failed else f"all {len(controls)} hold",
            "expected": self.expected,
            "why": self.why,
        }


def gate(rules: Mapping, measured: Mapping) -> pd.DataFrame:
    """Compare a gate's rules with the measurements, a row each; the gate holds if all passed."""
    return _frame(_judged("gate", rules, measured))


def verdict(
    entry: Mapping, measured: Mapping, name: str = "", failed_gates: tuple[str, ...] = ()
) -> Verdict:
    """Judge one hypothesis.

    `measured` holds an Interval or a number per measure, and `null`, draws of the null.
    The verdict is untestable if a gate or a control failed or was not measured, or the primary
    measure is missing; else refuted if any refuting rule holds; else supported if every supporting
    rule holds; else inconclusive. A measure that is missing passes no rule.
    """
    if unknown := sorted(set(measured) - _measures(entry)):
        raise ValueError(f"{name} has no measure {', '.join(unknown)}")
    bounds = lambda control: {key: control[key] for key in control if key in BOUNDS}
    controls = {measure: bounds(control) for measure, control in entry["controls"].items()}
    rules = {"supported": entry["supported"], "refuted": entry["refuted"], "control": controls}
    judged = {role: _judged(role, of, measured) for role, of in rules.items()}
    effect = _interval(measured.get(entry["measure"]))
    word, why = _decide(entry, judged, effect, failed_gates)
    null = measured.get("null")
    return Verdict(
        name=name,
        claim=entry["claim"],
        verdict=word,
        why=why,
        measure=entry["measure"],
        effect=effect,
        sesoi=entry["sesoi"],
        mde=math.nan if effect is None else detectable(effect),
        expected=entry["expected"],
        grade=_grade(entry, measured),
        rules=_frame([row for rows in judged.values() for row in rows]),
        null=None if null is None else np.asarray(null, float),
    )


def _measures(entry: Mapping) -> set[str]:
    """Return the names of all measures that a hypothesis reads or reports."""
    graded = (rules for rules in entry.get("grades", {}).values())
    parts = entry["supported"], entry["refuted"], entry["controls"], *graded
    always = {"null", "p", "p_holm", entry["measure"], *entry.get("reported", ())}
    return always.union(*parts)


def _decide(
    entry: Mapping, judged: Mapping, effect: Interval | None, failed_gates: tuple[str, ...]
) -> tuple[str, str]:
    """Return the verdict's word and the rules that decided."""
    bad = [row for row in judged["control"] if not row["passed"]]
    refuting = [row for row in judged["refuted"] if row["passed"]]
    lacking = [row for row in judged["supported"] if not row["passed"]]
    if failed_gates:
        return "untestable", f"gate {', '.join(failed_gates)} failed"
    if bad:
        kind = lambda row: entry["controls"][row["measure"]]["kind"]
        return "untestable", "; ".join(f"{kind(row)} control: {_told(row)}" for row in bad)
    if effect is None:
        return "untestable", f"{entry['measure']} was not measured"
    if refuting:
        return "refuted", "; ".join(map(_told, refuting))
    if lacking:
        return "inconclusive", "not shown: " + "; ".join(map(_told, lacking))
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
    for measure, bounds in rules.items():
        value = _interval(measured.get(measure))
        for bound, limit in bounds.items():
            passed = value is not None and bool(BOUNDS[bound](value, limit))
            row = {"role": role, "measure": measure, "rule": f"{bound} {limit:g}"}
            rows.append(row | {"value": value, "passed": passed})
    return rows


def _interval(value: Any) -> Interval | None:
    """Return a measure, an interval or a number, as an interval; None if missing or not finite."""
    if value is None:
        return None
    ends = value if isinstance(value, tuple | list) else (value,) * 3
    interval = Interval(*map(float, ends))
    return interval if all(map(math.isfinite, interval)) else None


def _told(row: dict) -> str:
    value = "was not measured" if row["value"] is None else _short(row["value"])
    return f"{row['measure']} {value} (rule: {row['rule']})"


def _short(value: Interval | None) -> str:
    if value is None:
        return "not measured"
    return f"{value.estimate:.3g}" if value.low == value.high else str(value)


def _frame(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame([row | {"value": _short(row["value"])} for row in rows])


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
    for name, entry in entries.items():
        if name in measured:
            of = dict(measured[name])
            if name in adjusted and "p" in of:
                of["p_holm"] = adjusted[name]
            failed = tuple(sorted(name for name in entry["gates"] if not passed[name]))
            judged[name] = verdict(entry, of, name, failed)
    return judged


def verdict_table(verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """Return one row per hypothesis, the verdict first."""
    return pd.DataFrame([judged.row() for judged in verdicts.values()]).set_index("hypothesis")


def flips(
    hypotheses: Mapping, measured: Mapping[str, Mapping], changes: Mapping[str, float]
) -> pd.DataFrame:
    """Return the verdicts before and after thresholds change.

    `changes` is {"H2a.supported.phi.at_least": 0.4, "G1.gap_closed.at_least": 0.7}.
    """
    changed = deepcopy(dict(hypotheses))
    for path, limit in changes.items():
        *steps, last = path.split(".")
        node = {**changed["gates"], **changed["hypotheses"]}
        for step in steps:
            node = node.get(step) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last not in node:
            raise ValueError(
                f"no threshold {path!r}; name it as hypothesis.role.measure.bound, "
                "such as H2a.supported.phi.at_least"
            )
        node[last] = limit
    check_hypotheses(changed)
    before, after = verdicts(hypotheses, measured), verdicts(changed, measured)
    rows = {
        name: {"before": before[name].verdict, "after": after[name].verdict, "why": after[name].why}
        for name in before
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.assign(flips=table.before != table.after)[["before", "after", "flips", "why"]]
