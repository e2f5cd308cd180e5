"""Verdicts: each word is reached for its own reason, and a confounded result is not supported."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import yaml
from study import figures
from study.verdicts import brief, flips, gate, load_hypotheses, verdict, verdicts

from adkit.stats import Interval


def meeting(rules):
    """Return for each measure a number that meets all its bounds."""
    found = {}
    for measure, bounds in rules.items():
        limits = {bound: x for bound, x in bounds.items() if bound not in ("kind", "says")}
        number = float(np.mean([0.0 if bound == "within" else x for bound, x in limits.items()]))
        from_below = limits.keys() & {"at_least", "low_at_least"} and "at_most" not in limits
        found[measure] = number + 1 if from_below else number
    return found


def passing(entry):
    return meeting(entry["supported"]) | meeting(entry["controls"]) | {"p": 0.001, "p_holm": 0.01}


def all_passing(hypotheses):
    entries = {name: passing(entry) for name, entry in hypotheses["hypotheses"].items()}
    return {name: meeting(rules) for name, rules in hypotheses["gates"].items()} | entries


@pytest.fixture
def h2a(hypotheses):
    return hypotheses["hypotheses"]["H2a"]


def test_every_hypothesis_can_be_supported_unless_a_gate_fails_or_a_control_was_not_run(hypotheses):
    measured = all_passing(hypotheses)
    words = {name: judged.verdict for name, judged in verdicts(hypotheses, measured).items()}
    names = "H0", "H1", "H2a", "H2a_future", "H2b", "H4", "H6"
    assert words == dict.fromkeys(names, "supported")
    del measured["H4"]["filter_auc"]
    assert "filter_auc not measured" in verdicts(hypotheses, measured)["H4"].why
    found = verdicts(hypotheses, measured | {"G1": {"gap_closed": 0.71}})
    assert {judged.verdict for judged in found.values()} == {"untestable"}
    assert "gate G1 failed" in found["H0"].why


REASONS = {
    "supported": ({}, "all 9 rules hold"),
    "refuted": ({"phi": (0.1, 0.0, 0.2)}, "phi .10 [.00, .20] (rule: high_at_most 0.25)"),
    "inconclusive": ({"phi": (0.4, 0.1, 0.7)}, "not shown: phi .40"),
    "untestable": (
        {"headroom": (0.1, 0.05, 0.15)},
        "positive control: headroom .10 [.05, .15] (rule: low_at_least 0.15)",
    ),
}


@pytest.mark.parametrize("word", REASONS)
def test_each_word_is_reached_for_its_own_reason(h2a, word):
    change, why = REASONS[word]
    judged = verdict(h2a, passing(h2a) | {"phi": (0.69, 0.47, 0.98)} | change, "H2a")
    assert judged.verdict == word and why in judged.why
    says = figures.verdict(judged).layout.title.subtitle.text
    assert ("an effect of .429" in says) == (word == "inconclusive")


def test_grades_stop_at_the_first_that_fails(hypotheses):
    h4 = hypotheses["hypotheses"]["H4"]
    measured = passing(h4) | {"hide_rate_error": 0.01, "lapse_effect": -1.0}
    measured |= {"stock_ratio": (1.0, 0.9, 1.1)}
    assert verdict(h4, measured).grade == "conditioned on the cue bit"
    assert verdict(h4, measured | {"hide_rate_error": 0.2}).grade == ""


def test_p_values_are_adjusted_for_every_primary_hypothesis_measured_or_not(hypotheses):
    measured = {name: all_passing(hypotheses)[name] for name in ("G0", "G1", "H0")}
    with_p = lambda p: measured | {"H0": measured["H0"] | {"p": p}}
    assert "p_holm .056" in verdicts(hypotheses, with_p(0.008))["H0"].why  # 7 x .008
    assert verdicts(hypotheses, with_p(0.007))["H0"].verdict == "supported"


def test_changed_thresholds_say_what_flips(hypotheses):
    measured = all_passing(hypotheses)
    measured["H2a"]["phi"] = (0.45, 0.3, 0.6)
    table = flips(hypotheses, measured, {"H2a.supported.phi.at_least": 0.4})
    assert table.index[table.flips].tolist() == ["H2a"]
    assert table.loc["H2a", ["before", "after"]].tolist() == ["inconclusive", "supported"]
    assert not flips(hypotheses, measured, {"H2a.supported.phi.at_least": 0.49}).flips.any()
    assert set(flips(hypotheses, measured, {"G0.self_patch.at_most": -1.0}).after) == {"untestable"}
    with pytest.raises(ValueError, match="no threshold 'H2a.supported.phi.atleast'"):
        flips(hypotheses, measured, {"H2a.supported.phi.atleast": 0.4})


FAULTS = {
    "H0: missing or unknown: estimator": lambda h: h["H0"].pop("estimator"),
    "H0: missing or unknown: thresh": lambda h: h["H0"].update(thresh=1),
    "H1.supported.ece: .*got below": lambda h: h["H1"]["supported"].update(ece={"below": 1}),
    "H1.supported.ece: bounds must be": lambda h: h["H1"]["supported"].update(ece={}),
    "phi in the direction less is missing": lambda h: h["H2a"].update(direction="less"),
    "H2b.gates: there is no gate G9": lambda h: h["H2b"].update(gates=["G9"]),
    "filter_auc: its kind must be": lambda h: h["H4"]["controls"]["filter_auc"].pop("kind"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_entry_is_refused_with_its_place(hypotheses, fault, tmp_path):
    broken = deepcopy(hypotheses)
    FAULTS[fault](broken["hypotheses"])
    (tmp_path / "hypotheses.yaml").write_text(yaml.safe_dump(broken))
    with pytest.raises(ValueError, match=fault):
        load_hypotheses(tmp_path / "hypotheses.yaml")


def test_an_interval_that_ends_at_zero_does_not_exclude_it():
    holds = lambda limit, x: gate({"x": {"low_at_least": limit}}, {"x": x}).passed.all()
    assert not holds(0.0, (0.0, 0.0, 0.0)) and not holds(0.0, (0.1, 1e-14, 0.2))
    assert holds(0.0, (0.1, 0.001, 0.2)) and holds(0.5, (0.6, 0.5, 0.7))


def test_the_figure_of_a_verdict_shows_effect_limits_sesoi_and_null(h2a):
    null = np.random.default_rng(0).normal(0, 0.05, 200)
    measured = passing(h2a) | {"phi": Interval(0.4, 0.1, 0.7), "null": null}
    judged = verdict(h2a, measured, "H2a")
    figure = figures.verdict(judged)
    assert figure.layout.title.text == "H2a: inconclusive"
    on = {trace.name: trace for trace in figure.data if trace.xaxis == "x"}
    assert on["not as needed"].x[0] == 0.4 and on["at least"].x[0] == 0.5
    above, refutes = on["interval above"], on["limit that refutes"]
    assert above.x[0] == refutes.x[0] == 0.25 and refutes.y[0] < on["at least"].y[0] == above.y[0]
    small, chance = (on["for comparison"].error_x.array[i] for i in (1, 2))
    assert small == h2a["sesoi"] and chance == pytest.approx(0.1, abs=0.02)
    table = figures.decided(judged)
    assert set(table.found) == {".40 [.10, .70]"} and set(table.holds) == {"no"}
    assert table.asked.to_list() == [
        "support: at least .5",
        "support: interval above .25",
        "refuted: interval below .25",
    ]


def test_figures_have_plain_words_for_every_measure_and_claim(hypotheses):
    rules = dict(hypotheses["gates"])
    for name, entry in hypotheses["hypotheses"].items():
        assert name in figures.WORDS["claims"]
        rules[name] = entry["supported"] | entry["refuted"] | entry["controls"]
    named = {name: [figures.words(name, measure) for measure in of] for name, of in rules.items()}
    for name, of in named.items():
        assert all(unit and "_" not in said for said, unit in of), name
        assert len({said for said, _ in of}) == len(of), f"{name}: two measures have one name"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ((0.3141, 0.2178, 0.4012), ".31 [.22, .40]"),
        ((0.0212, 0.0096, 0.0366), ".021 [.010, .037]"),
        ((10.04, -0.5, 20.0), "10 [-0, 20]"),
        (0.00498, ".00498"),
        (1.0, "1"),
        (-6.86e-15, "0"),
    ],
)
def test_numbers_are_short(value, says):
    assert brief(value) == says


def test_all_verdicts_are_drawn_and_told_and_what_is_not_tested_says_so(hypotheses):
    found = all_passing(hypotheses)
    found["H1"]["hunger_ratio"], found["H2a"]["headroom"] = (0.1, 0.0, 0.2), 0.0
    judged = verdicts(hypotheses, found)
    html = figures.verdicts(judged).to_html()
    for word in ("supported", "refuted", "untestable"):
        assert word in html and figures.STYLES[word] in html
    assert html.count("not tested") == 2 and "Not tested here" in html
    drawn = {trace.name for trace in figures.overview(judged).data if trace.showlegend}
    assert {"supported", "refuted", "untestable"} <= drawn and "inconclusive" not in drawn


def test_a_lifetime_is_shown_beside_all_lifetimes_on_the_sliders_day():
    history, day = np.repeat([3, 8], 10), np.tile(np.arange(10), 2)
    rows = {"history": history, "day": day, "label": 0.1 * day, "believed": 0.1 * day}
    readings = pd.DataFrame(rows | {"read": history + 0.1 * day})[:-3]
    figure = figures.lifetime(readings)  # of the lifetime with most days
    assert figure.data[0].x.tolist() == list(range(1, 11)) and figure.data[2].y[0] == 3
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == [str(d + 1) for d in range(10)]
    moved, traces = steps[2].args
    assert list(traces) == [4, 5] and np.allclose(moved["x"], [[3, 3], [0.2, 0.2]])
    assert moved["y"][1] == pytest.approx([3.2, 8.2])
