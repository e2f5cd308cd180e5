"""Verdicts: what was written down before the run, against what was measured, and exactly one of four words.

A hypothesis is an entry of `hypotheses.yaml`: rules on named measures, {measure: {bound: limit}}, with the bounds

    at_least, at_most             of the estimate
    low_at_least, high_at_most    of the interval's ends; above the limit, where it is 0
    within                        the whole interval lies within +-limit (TOST, at least as strict)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adkit.stats import Interval, detectable, holm

if TYPE_CHECKING:
    import pandas as pd

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
TEXTS = ("claim", "estimator", "test", "split", "site", "corpus", "unit", "measure")
NEEDED = (
    *TEXTS,
    "direction",
    "expected",
    "primary",
    "sesoi",
    "gates",
    "supported",
    "refuted",
    "controls",
)
OPTIONAL = ("grades", "reported")


@dataclass(frozen=True, eq=False)
class Verdict:
    """One of supported, refuted, inconclusive, untestable; and why."""

    name: str
    claim: str
    verdict: str
    why: str
    """The rules that decided."""
    measure: str
    effect: Interval | None
    """The primary measure; None if it was not measured."""
    sesoi: float
    """The smallest effect size of interest."""
    mde: float
    """The smallest true effect that would have been found in 8 of 10 such runs."""
    expected: str
    grade: str
    """Of a graded hypothesis, how far it got; "" otherwise."""
    rules: pd.DataFrame = field(repr=False)
    """One row per rule: role, measure, rule, value, passed."""
    null: np.ndarray | None = field(repr=False, default=None)
    """The primary measure where there is nothing to find."""

    def __str__(self) -> str:
        effect = "not measured" if self.effect is None else str(self.effect)
        mde = (
            f"; minimum detectable effect {self.mde:.2g}" if self.verdict == "inconclusive" else ""
        )
        return f"{self.name}: {self.verdict}{f' ({self.grade})' if self.grade else ''}. {self.measure} = {effect}{mde}. {self.why}"

    def row(self) -> dict[str, Any]:
        """A row of the verdict table."""
        null = (
            ""
            if self.null is None
            else "{:.3g} to {:.3g}".format(*np.nanquantile(self.null, [0.025, 0.975]))
        )
        estimate, low, high = self.effect or (math.nan,) * 3
        rules, controls = self.rules, self.rules[self.rules.role == "control"]
        threshold = ", ".join(
            rules.rule[(rules.role == "supported") & (rules.measure == self.measure)]
        )
        failed = ", ".join(controls.measure[~controls.passed])
        return {
            "hypothesis": self.name, "verdict": self.verdict, "grade": self.grade, "measure": self.measure, "effect": estimate,
            "low": low, "high": high, "threshold": threshold, "null, 95%": null, "sesoi": self.sesoi, "detectable": self.mde,
            "controls": f"failed: {failed}" if failed else f"all {len(controls)} hold", "expected": self.expected, "why": self.why,
        }  # fmt: skip


def load_hypotheses(path: str | Path) -> dict:
    """Read `hypotheses.yaml` and check it; ValueError says what is wrong where."""
    import yaml

    try:
        hypotheses = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise FileNotFoundError(
            f"{path} cannot be read ({error.strerror}); the study's are in notebooks/hypotheses.yaml."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    check_hypotheses(hypotheses)
    return hypotheses


def check_hypotheses(hypotheses: Mapping) -> None:
    """ValueError, with every fault, unless gates and hypotheses are complete and their rules can be read."""
    gates, faults = _parts(hypotheses)[0], []
    rules = lambda where, given, more=(): faults.extend(_faults(where, given, more))
    for name, gate in gates.items():
        rules(f"gates.{name}", gate)
    for name, entry in hypotheses["hypotheses"].items():
        if missing := [key for key in NEEDED if key not in entry]:
            faults.append(f"{name} lacks {', '.join(missing)}")
            continue
        if unknown := sorted(set(entry) - set(NEEDED) - set(OPTIONAL)):
            faults.append(f"{name} has {', '.join(unknown)}, which nobody reads")
        faults += [
            f"{name}.{key} is {entry[key]!r}; say it in words"
            for key in TEXTS
            if not _is_text(entry[key])
        ]
        rules(f"{name}.supported", entry["supported"])
        rules(f"{name}.refuted", entry["refuted"])
        rules(f"{name}.controls", entry["controls"], ("kind", "says"))
        for grade, steps in entry.get("grades", {}).items():
            rules(f"{name}.grades.{grade}", steps)
        for control, about in entry["controls"].items():
            if (
                not isinstance(about, Mapping)
                or about.get("kind") not in ("positive", "negative")
                or not _is_text(about.get("says"))
            ):
                faults.append(
                    f"{name}.controls.{control} needs kind, positive or negative, and says, what it shows"
                )
        if entry["direction"] not in TOWARDS:
            faults.append(
                f"{name}.direction is {entry['direction']!r}; choose {' or '.join(TOWARDS)}"
            )
        elif not TOWARDS[entry["direction"]] & set(entry["supported"].get(entry["measure"], {})):
            faults.append(
                f"{name}.supported has no bound on {entry['measure']} in the direction {entry['direction']}"
            )
        if entry["expected"] not in VERDICTS:
            faults.append(
                f"{name}.expected is {entry['expected']!r}; choose one of {', '.join(VERDICTS)}"
            )
        if not _is_number(entry["sesoi"]) or not entry["sesoi"] > 0:
            faults.append(f"{name}.sesoi is {entry['sesoi']!r}; it must be a positive number")
        faults += [
            f"{name}.gates has {gate!r}; the gates are {', '.join(gates)}"
            for gate in entry["gates"]
            if gate not in gates
        ]
    if faults:
        raise ValueError("hypotheses cannot be judged:\n  " + "\n  ".join(faults))


def _parts(hypotheses: Mapping) -> tuple[Mapping, Mapping]:
    """Gates and hypotheses."""
    names = "gates", "hypotheses"
    if not isinstance(hypotheses, Mapping) or not all(
        isinstance(hypotheses.get(name), Mapping) for name in names
    ):
        raise ValueError(
            "hypotheses need the keys gates and hypotheses, with names below each; load_hypotheses(path) reads such."
        )
    return hypotheses["gates"], hypotheses["hypotheses"]


def _faults(where: str, given: Any, more: tuple[str, ...] = ()) -> list[str]:
    """What keeps rules from being judged."""
    if not isinstance(given, Mapping) or not given:
        return [f"{where} is {given!r}; write {{measure: {{bound: limit}}}}"]
    faults = []
    for measure, bounds in given.items():
        bounds = (
            {k: v for k, v in bounds.items() if k not in more}
            if isinstance(bounds, Mapping)
            else {}
        )
        if not bounds:
            faults.append(f"{where}.{measure} has no bound; the bounds are {', '.join(BOUNDS)}")
        for bound, limit in bounds.items():
            if bound not in BOUNDS:
                faults.append(
                    f"{where}.{measure}: no bound {bound!r}; the bounds are {', '.join(BOUNDS)}"
                )
            elif not _is_number(limit):
                faults.append(f"{where}.{measure}.{bound} is {limit!r}; it must be a finite number")
    return faults


def gate(rules: Mapping, measured: Mapping) -> pd.DataFrame:
    """A gate's rules against what was measured: one row each. It holds if `.passed.all()`; if not, print it and stop."""
    if faults := _faults("the gate", rules):
        raise ValueError("; ".join(faults) + ".")
    return _frame(_judged("gate", rules, measured))


def verdict(
    entry: Mapping, measured: Mapping, name: str = "", failed_gates: tuple[str, ...] = ()
) -> Verdict:
    """Judge one hypothesis: `measured` holds an Interval or a number per measure, and `null`, the null distribution.

    Untestable if a gate or a control failed or was not run, or the primary measure is missing; else refuted if any refuting
    rule holds; else supported if every supporting rule does - a measure that is missing supports nothing; else inconclusive.
    """
    if missing := [key for key in NEEDED if key not in entry]:
        raise ValueError(
            f"{name or 'the entry'} lacks {', '.join(missing)}; give one of load_hypotheses(path)['hypotheses']."
        )
    used = {
        "null",
        "p",
        "p_holm",
        entry["measure"],
        *entry["supported"],
        *entry["refuted"],
        *entry["controls"],
    }
    used |= {measure for steps in entry.get("grades", {}).values() for measure in steps} | set(
        entry.get("reported", ())
    )
    if unknown := sorted(set(measured) - used):
        raise ValueError(
            f"{name} has no measure {', '.join(unknown)}; it reads {', '.join(sorted(used))}."
        )
    roles = {"supported": entry["supported"], "refuted": entry["refuted"]}
    controls = {
        measure: {k: v for k, v in c.items() if k in BOUNDS}
        for measure, c in entry["controls"].items()
    }
    judged = {
        role: _judged(role, rules, measured)
        for role, rules in (roles | {"control": controls}).items()
    }
    effect = _interval(measured.get(entry["measure"]))
    bad = [row for row in judged["control"] if not row["passed"]]
    refuting = [row for row in judged["refuted"] if row["passed"]]
    lacking = [row for row in judged["supported"] if not row["passed"]]
    if failed_gates:
        word, why = "untestable", f"gate {', '.join(failed_gates)} failed"
    elif bad:
        told = (f"{entry['controls'][row['measure']]['kind']} control: {_told(row)}" for row in bad)
        word, why = "untestable", "; ".join(told)
    elif effect is None:
        word, why = "untestable", f"{entry['measure']} was not measured"
    elif refuting:
        word, why = "refuted", "; ".join(map(_told, refuting))
    elif not lacking:
        word, why = "supported", f"all {len(judged['supported'])} rules hold"
    else:
        word, why = "inconclusive", "not shown: " + "; ".join(map(_told, lacking))
    grade = ""
    for step, rules in entry.get("grades", {}).items():  # each includes those before it
        if not all(row["passed"] for row in _judged("grade", rules, measured)):
            break
        grade = step
    mde = math.nan if effect is None else detectable(effect)
    null = None if measured.get("null") is None else np.asarray(measured["null"], float)
    rows = _frame([row for role in judged.values() for row in role])
    return Verdict(
        name,
        entry["claim"],
        word,
        why,
        entry["measure"],
        effect,
        entry["sesoi"],
        mde,
        entry["expected"],
        grade,
        rows,
        null,
    )


def verdicts(hypotheses: Mapping, measured: Mapping[str, Mapping]) -> dict[str, Verdict]:
    """Judge every hypothesis that was measured, {name: verdict}; `measured` has the gates' measures under their names too.

    The primary endpoints' `p` are adjusted together (Holm) and judged as `p_holm`; one not yet measured counts as 1.
    """
    gates, entries = _parts(hypotheses)
    if unknown := sorted(set(measured) - set(entries) - set(gates)):
        raise ValueError(
            f"nothing is written about {', '.join(unknown)}; there are {', '.join([*gates, *entries])}."
        )
    failed = {
        name
        for name, rules in gates.items()
        if not gate(rules, measured.get(name, {})).passed.all()
    }
    primary = [name for name, entry in entries.items() if entry["primary"]]
    adjusted = dict(
        zip(
            primary,
            holm([float(measured.get(name, {}).get("p", 1.0)) for name in primary]),
            strict=True,
        )
    )
    return {
        name: verdict(
            entry,
            {
                **measured[name],
                **(
                    {"p_holm": float(adjusted[name])}
                    if name in adjusted and "p" in measured[name]
                    else {}
                ),
            },
            name,
            tuple(sorted(failed & set(entry["gates"]))),
        )
        for name, entry in entries.items()
        if name in measured
    }


def verdict_table(verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """One row per hypothesis, verdicts first."""
    import pandas as pd

    if (
        not isinstance(verdicts, Mapping)
        or not verdicts
        or not all(isinstance(judged, Verdict) for judged in verdicts.values())
    ):
        raise ValueError(
            f"{verdicts!r} are no verdicts; give those of verdicts(hypotheses, measured), at least one."
        )
    return pd.DataFrame([judged.row() for judged in verdicts.values()]).set_index("hypothesis")


def flips(
    hypotheses: Mapping, measured: Mapping[str, Mapping], changes: Mapping[str, float]
) -> pd.DataFrame:
    """The verdicts before and after thresholds change: `{"H2a.supported.phi.at_least": 0.4, "G1.gap_closed.at_least": 0.7}`."""
    import pandas as pd

    changed = deepcopy(dict(hypotheses))
    for path, limit in changes.items():
        first, *steps, last = path.split(".")
        node = {**changed["gates"], **changed["hypotheses"]}.get(first)
        for step in steps:
            node = node.get(step) if isinstance(node, dict) else None
        if not isinstance(node, dict) or not _is_number(node.get(last)):
            raise ValueError(
                f"no threshold {path!r}; write it as hypothesis.role.measure.bound, such as H2a.supported.phi.at_least."
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


def _judged(role: str, rules: Mapping, measured: Mapping) -> list[dict]:
    """A row per bound; what was not measured passes none."""
    rows = []
    for measure, bounds in rules.items():
        value = _interval(measured.get(measure))
        for bound, limit in bounds.items():
            passed = value is not None and bool(BOUNDS[bound](value, limit))
            rows.append(
                {
                    "role": role,
                    "measure": measure,
                    "rule": f"{bound} {limit:g}",
                    "value": value,
                    "passed": passed,
                }
            )
    return rows


def _told(row: dict) -> str:
    return f"{row['measure']} {'was not measured' if row['value'] is None else _short(row['value'])} (rule: {row['rule']})"


def _short(value: Interval) -> str:
    return f"{value.estimate:.3g}" if value.low == value.high else str(value)


def _interval(value: Any) -> Interval | None:
    """A measure as an interval, a number being its own; None for what is missing or no number."""
    if value is None:
        return None
    if isinstance(value, str) or (isinstance(value, tuple | list) and len(value) != 3):
        raise ValueError(
            f"{value!r} was measured; give a number, or Interval(estimate, low, high)."
        )
    interval = (
        Interval(*map(float, value))
        if isinstance(value, tuple | list)
        else Interval(*[float(value)] * 3)
    )
    return interval if all(map(math.isfinite, interval)) else None


def _frame(rows: list[dict]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        [
            row | {"value": "not measured" if row["value"] is None else _short(row["value"])}
            for row in rows
        ]
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
