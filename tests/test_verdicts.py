"""Verdicts: the shipped hypotheses can be judged, every word can be reached, and a confounded result is not supported."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study import figures
from study import verdicts as judging
from study.verdicts import (
    check_hypotheses,
    flips,
    gate,
    load_hypotheses,
    verdict,
    verdict_table,
    verdicts,
)

import adkit as ad
from adkit.stats import Interval

NOTEBOOKS = Path(ad.__file__).parents[1] / "notebooks"


@pytest.fixture(scope="module")
def hypotheses():
    return load_hypotheses(NOTEBOOKS / "hypotheses.yaml")


def meeting(rules):
    """For each measure a number that meets all its bounds, in the middle where there are two."""
    value = lambda bounds: np.mean(
        [
            limit if bound != "within" else 0.0
            for bound, limit in bounds.items()
            if bound not in ("kind", "says")
        ]
    )
    found = {measure: float(value(bounds)) for measure, bounds in rules.items()}
    raised = {
        m
        for m, bounds in rules.items()
        if set(bounds) & {"at_least", "low_at_least"} and not set(bounds) & {"at_most"}
    }
    return {measure: number + (1 if measure in raised else 0) for measure, number in found.items()}


def passing(entry):
    return meeting(entry["supported"]) | meeting(entry["controls"]) | {"p": 0.001}


def all_passing(hypotheses):
    gates = {name: meeting(rules) for name, rules in hypotheses["gates"].items()}
    return gates | {name: passing(entry) for name, entry in hypotheses["hypotheses"].items()}


def test_the_shipped_hypotheses_can_all_be_supported(hypotheses):
    assert {"H0", "H1", "H2a", "H2b", "H4", "H6"} <= set(hypotheses["hypotheses"]) and set(
        hypotheses["gates"]
    ) == {
        "G0",
        "G1",
        "G2",
        "G3",
    }
    found = verdicts(hypotheses, all_passing(hypotheses))
    assert {name: judged.verdict for name, judged in found.items()} == dict.fromkeys(
        hypotheses["hypotheses"], "supported"
    )
    table = verdict_table(found)
    assert (
        table.loc["H4", "verdict"] == "supported"
        and table.shape[0] == len(found)
        and table["why"].notna().all()
    )


def test_the_shipped_thresholds_are_the_designs(hypotheses):
    """SHARDS.md sections 4 and 7: changing one of these is a deviation, to be logged."""
    entries, gates = hypotheses["hypotheses"], hypotheses["gates"]
    assert gates["G1"]["gap_closed"] == {"at_least": 0.8} and gates["G1"]["type_ratio"] == {
        "at_least": 0.7,
        "at_most": 1.3,
    }
    assert gates["G1"]["random_hider_flip"] == {"at_most": 0.1} and gates["G3"][
        "false_positives"
    ] == {
        "at_least": 0.03,
        "at_most": 0.07,
    }
    assert (
        entries["H2a"]["supported"]["phi"] == {"at_least": 0.5, "low_at_least": 0.25}
        and entries["H2a"]["site"] == "first_visible"
    )
    assert entries["H2b"]["supported"]["frozen_delta"] == {"at_least": 0.005, "low_at_least": 0.0}
    assert entries["H4"]["supported"]["auc_share"] == {"at_least": 0.85}
    assert entries["H6"]["supported"]["anti_steerable"] == {"at_most": 0.25}
    assert "| date, commit |" in (NOTEBOOKS / "deviations.md").read_text()


def test_each_word_is_reached_for_its_own_reason(hypotheses):
    entry = hypotheses["hypotheses"]["H2a"]
    good = passing(entry) | {"phi": Interval(0.69, 0.47, 0.98), "p_holm": 0.01}
    judged = {
        "supported": verdict(entry, good, "H2a"),
        "refuted": verdict(entry, good | {"phi": Interval(0.1, 0.0, 0.2)}, "H2a"),
        "inconclusive": verdict(entry, good | {"phi": Interval(0.4, 0.1, 0.7)}, "H2a"),
        "untestable": verdict(entry, good | {"headroom": Interval(0.1, 0.05, 0.15)}, "H2a"),
    }
    assert [judged[word].verdict for word in judged] == list(judged)
    assert "phi 0.1 [0, 0.2] (rule: high_at_most 0.25)" in judged["refuted"].why
    assert (
        "minimum detectable effect 0.43" in str(judged["inconclusive"])
        and "not shown: phi 0.4" in judged["inconclusive"].why
    )
    assert (
        "positive control: headroom 0.1 [0.05, 0.15] (rule: low_at_least 0.15)"
        in judged["untestable"].why
    )


def test_a_control_that_was_not_run_and_a_failed_gate_are_untestable(hypotheses):
    entry = hypotheses["hypotheses"]["H4"]
    unrun = {name: value for name, value in passing(entry).items() if name != "filter_auc"}
    assert "filter_auc was not measured" in verdict(entry, unrun | {"p_holm": 0.01}).why
    measured = all_passing(hypotheses) | {"G1": {"gap_closed": 0.71}}
    found = verdicts(hypotheses, measured)
    assert {judged.verdict for judged in found.values()} == {
        "untestable"
    } and "gate G1 failed" in found["H0"].why
    table = gate(hypotheses["gates"]["G1"], measured["G1"])
    assert not table.passed.any() and "not measured" in set(table.value)


def test_a_cookie_counter_does_not_pass_for_drift_nor_a_copied_day_bit_for_hiding(hypotheses):
    """What the D1-only corpus gives: no headroom over the counter; decoy and stock alike."""
    h2a, h4 = (hypotheses["hypotheses"][name] for name in ("H2a", "H4"))
    counter = passing(h2a) | {
        "phi": Interval(0.8, -3.0, 5.0),
        "headroom": Interval(0.08, 0.02, 0.14),
        "p_holm": 0.01,
    }
    assert verdict(h2a, counter).verdict == "untestable"
    copied = passing(h4) | {
        "decoy_effect": Interval(0.3, 0.25, 0.35),
        "stock_minus_decoy": Interval(0.0, -0.02, 0.02),
        "p_holm": 0.01,
    }
    assert verdict(h4, copied).verdict == "refuted"


def test_grades_stop_at_the_first_that_fails(hypotheses):
    entry = hypotheses["hypotheses"]["H4"]
    measured = passing(entry) | {
        "p_holm": 0.01,
        "hide_rate_error": 0.01,
        "stock_ratio": Interval(1.0, 0.9, 1.1),
        "lapse_effect": -1.0,
    }
    assert verdict(entry, measured).grade == "conditioned on the cue bit"
    assert verdict(entry, measured | {"hide_rate_error": 0.2}).grade == ""


def test_p_values_are_adjusted_for_every_primary_endpoint_measured_or_not(hypotheses):
    measured = all_passing(hypotheses)
    one = {name: measured[name] for name in ("G0", "G1", "H0")} | {
        "H0": measured["H0"] | {"p": 0.008}
    }
    assert (
        "p_holm 0.056" in verdicts(hypotheses, one)["H0"].why
    )  # seven endpoints, six of them counted as 1
    assert (
        verdicts(hypotheses, one | {"H0": measured["H0"] | {"p": 0.007}})["H0"].verdict
        == "supported"
    )


def test_changed_thresholds_say_what_flips(hypotheses):
    measured = all_passing(hypotheses)
    measured["H2a"]["phi"] = Interval(0.45, 0.3, 0.6)
    table = flips(hypotheses, measured, {"H2a.supported.phi.at_least": 0.4})
    assert table.index[table.flips].tolist() == ["H2a"] and table.loc[
        "H2a", ["before", "after"]
    ].tolist() == [
        "inconclusive",
        "supported",
    ]
    assert not flips(hypotheses, measured, {"H2a.supported.phi.at_least": 0.49}).flips.any()
    assert set(flips(hypotheses, measured, {"G0.self_patch.at_most": -1.0}).after) == {"untestable"}
    with pytest.raises(ValueError, match="no threshold 'H2a.supported.phi.atleast'"):
        flips(hypotheses, measured, {"H2a.supported.phi.atleast": 0.4})


def test_the_figure_shows_effect_thresholds_sesoi_and_null(hypotheses):
    entry = hypotheses["hypotheses"]["H2a"]
    measured = passing(entry) | {
        "phi": Interval(0.4, 0.1, 0.7),
        "null": np.random.default_rng(0).normal(0, 0.05, 200),
    }
    figure = figures.verdict(verdict(entry, measured, "H2a"))
    names = [trace.name for trace in figure.data]
    assert (
        names[:2] == ["too small to matter", "null distribution"]
        and names[-1] == "phi = 0.4 [0.1, 0.7]"
    )
    assert (
        "supported: at_least 0.5" in names
        and "(minimum detectable effect 0.43)" in figure.layout.xaxis.title.text
    )
    assert figure.png().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda h: h["H0"].pop("estimator"), "H0 lacks estimator"),
        (lambda h: h["H0"].update(thresh=1), "H0 has thresh, which nobody reads"),
        (
            lambda h: h["H1"]["supported"].update(ece={"below": 0.03}),
            "H1.supported.ece: no bound 'below'; the bounds are at_least",
        ),
        (
            lambda h: h["H1"]["supported"].update(ece={"at_most": "small"}),
            "H1.supported.ece.at_most is 'small'; it must be a finite number",
        ),
        (lambda h: h["H1"]["supported"].update(ece={}), "H1.supported.ece has no bound"),
        (lambda h: h["H2a"].update(refuted={}), "H2a.refuted is {}"),
        (
            lambda h: h["H2a"].update(direction="up"),
            "H2a.direction is 'up'; choose greater or less",
        ),
        (
            lambda h: h["H2a"].update(direction="less"),
            "H2a.supported has no bound on phi in the direction less",
        ),
        (lambda h: h["H2b"].update(gates=["G9"]), "H2b.gates has 'G9'; the gates are G0"),
        (lambda h: h["H2b"].update(sesoi=0), "H2b.sesoi is 0; it must be a positive number"),
        (
            lambda h: h["H4"].update(expected="true"),
            "H4.expected is 'true'; choose one of supported",
        ),
        (
            lambda h: h["H4"]["controls"]["filter_auc"].pop("kind"),
            "H4.controls.filter_auc needs kind",
        ),
    ],
)
def test_a_broken_entry_is_refused_with_its_place(hypotheses, change, says):
    broken = deepcopy(hypotheses)
    change(broken["hypotheses"])
    with pytest.raises(ValueError, match=says):
        check_hypotheses(broken)


def test_names_nobody_wrote_down_are_refused(hypotheses):
    with pytest.raises(ValueError, match="H0 has no measure savings; it reads .*saving"):
        verdict(hypotheses["hypotheses"]["H0"], {"savings": 1.0}, "H0")
    with pytest.raises(ValueError, match="nothing is written about H9; there are G0"):
        verdicts(hypotheses, {"H9": {}})
    with pytest.raises(ValueError, match="need the keys gates and hypotheses"):
        check_hypotheses({})


def test_the_table_has_a_colour_for_each_word(hypotheses):
    found = all_passing(hypotheses)
    found["H1"]["hunger_ratio"], found["H2a"]["headroom"] = Interval(0.1, 0.0, 0.2), 0.0
    html = figures.verdicts(verdicts(hypotheses, found)).to_html()
    assert (
        "supported" in html
        and "#009E73" in html
        and "refuted" in html
        and "#D55E00" in html
        and "untestable" in html
    )


def test_a_watermark_is_in_the_figure_and_in_its_picture(hypotheses):
    judged = verdict(
        hypotheses["hypotheses"]["H2a"], passing(hypotheses["hypotheses"]["H2a"]), "H2a"
    )
    plain, marked = figures.verdict(judged), figures.verdict(judged).watermarked()
    assert "smoke run, not evidence" in marked.to_json() and "smoke run" not in plain.to_json()
    assert marked.png() != plain.png()


def test_a_lifetime_is_shown_beside_its_belief_and_all_lives_on_the_sliders_day():
    life, day = np.repeat([3, 8], 10), np.tile(np.arange(10), 2)
    rows = {
        "history": life,
        "day": day,
        "label": 0.1 * day,
        "believed": 0.1 * day,
        "read": life + 0.1 * day,
    }
    readings = pd.DataFrame(rows)[:-3]
    figure = figures.lifetime(readings)
    assert figure.data[0].x.tolist() == list(range(1, 11)) and figure.data[2].y[0] == 3
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == [str(d + 1) for d in range(10)]
    (moved, traces) = steps[2].args
    assert (
        list(traces) == [4, 5]
        and np.allclose(moved["x"], [[3, 3], [0.2, 0.2]])
        and moved["y"][1] == pytest.approx([3.2, 8.2])
    )
    assert figure.png()
    assert figures.lifetime(readings, 8).data[2].y[0] == 8
    with pytest.raises(ValueError, match=r"history=4 of 2 lives; there are \[3, 8\]"):
        figures.lifetime(readings, 4)


def test_an_interval_that_ends_at_nothing_does_not_exclude_it():
    rules = {"x": {"low_at_least": 0.0}}
    assert not judging.gate(rules, {"x": (0.0, 0.0, 0.0)}).passed.any()
    assert not judging.gate(rules, {"x": (0.1, 1e-14, 0.2)}).passed.any()
    assert judging.gate(rules, {"x": (0.1, 0.001, 0.2)}).passed.all()
    assert judging.gate({"x": {"low_at_least": 0.5}}, {"x": (0.6, 0.5, 0.7)}).passed.all()


def test_the_table_tells_threshold_null_and_controls(hypotheses):
    entry = hypotheses["hypotheses"]["H2a"]
    row = judging.verdict(
        entry, {"phi": (0.6, 0.5, 0.7), "headroom": 0.3, "null": np.linspace(0, 1, 101)}
    ).row()
    assert (
        row["threshold"] == "at_least 0.5, low_at_least 0.25"
        and row["null, 95%"] == "0.025 to 0.975"
    )
    assert row["controls"] == "failed: planted_phi, unrelated_r2"
