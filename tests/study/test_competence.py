"""G0, G1, H1 and H4 on predictors whose answer is known: the filter, its prior, the source."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import seeded
from probed import transformer
from study import competence, hiding, instruments, interventions

from adkit.cookieworld.population import TYPES
from adkit.cookieworld.world import HIDE


def test_the_gap_is_closed_by_the_filter_and_not_by_its_prior(judged):
    filtered, prior = judged.arrays["belief_pi"], judged.arrays["prior_pi"]
    gap = lambda p: competence.gap_closed(seeded(competence.per_lifetime(judged, p), 2))
    assert gap(filtered).estimate == pytest.approx(1, abs=1e-5)
    assert gap(prior).estimate == pytest.approx(0, abs=1e-5)
    half = gap((filtered + prior) / 2)
    assert 0 < half.low < half.estimate < 1.01


def test_the_source_is_calibrated_and_an_overconfident_model_is_not(judged, edits):
    def measure(p):
        frame = seeded(competence.per_lifetime(judged, p))
        return competence.measured_activation(frame, edits, edits)

    exact = measure(judged.arrays["pi"])
    assert exact["calibration_slope"].estimate == pytest.approx(1, abs=1e-4)
    assert exact["ece"].estimate < 1e-4
    assert exact["cue_ratio"].estimate == pytest.approx(1, abs=1e-4)
    sharp = judged.arrays["pi"] ** 3
    sharp = measure(sharp / np.maximum(sharp.sum(-1, keepdims=True), 1e-9))
    assert sharp["calibration_slope"].high < 0.9 and sharp["ece"].estimate > 0.03


def test_half_an_effect_is_half_a_ratio(judged, effects, edits):
    columns = ("effect", *interventions.LOGS)
    halved = effects.assign(**{name: effects[name] / 2 for name in columns})
    half = seeded(competence.compared(halved, effects))
    assert competence.change_ratio(half, "cue").estimate == pytest.approx(0.5)
    hides = seeded(hiding.per_lifetime(judged, judged.arrays["belief_pi"]))
    of_half, beside_half = hiding.measured(hides, half, edits), hiding.measured(hides, edits, half)
    assert of_half["stock_ratio"].estimate == pytest.approx(0.5)
    assert of_half["lapse_ratio"].estimate == pytest.approx(0.5)
    assert beside_half["over_primitive_twin"].low > 0 > of_half["over_primitive_twin"].high
    expected = beside_half["stock_effect"].estimate / 2
    assert beside_half["over_primitive_twin"].estimate == pytest.approx(expected)


def test_returns_that_rise_are_an_improvement(judged):
    reward = np.zeros_like(judged.arrays["reward"])
    reward[:, :, 0] = np.arange(24) / 24
    rising = replace(judged, arrays=judged.arrays | {"reward": reward})
    found = competence.improvement(seeded(competence.returns_per_lifetime(rising)))
    assert found == pytest.approx([20 / 24] * 3)


def hides(judged, edits, p):
    return hiding.measured(seeded(hiding.per_lifetime(judged, p)), edits, edits)


def test_hiding_is_judged_by_who_hides(judged, edits):
    blind = judged.arrays["belief_pi"].copy()
    blind[:, :, 0] = 1 / 8
    assert hides(judged, edits, judged.arrays["pi"])["auc_share"].estimate == pytest.approx(1)
    assert hides(judged, edits, blind)["auc_share"].estimate == pytest.approx(0, abs=0.01)
    hid = judged.arrays["action"][:, :, 0] == HIDE
    rate = lambda name: hid[judged.arrays["type"] == TYPES.index(name)].mean()
    assert rate("S") > 5 * rate("P")


def test_the_instruments_pass_their_gate(judged):
    found = instruments.checked(transformer(judged.spec), judged, tap="blocks.0.resid").iloc[0]
    assert found["self_patch"] < 1e-6 and found["leace_covariance"] < 1e-8
    assert found["policy_sum"] < 1e-6 and found["empty_day_dependence"] == 0
    assert (instruments.false_positives(40)["p"] <= 0.05).mean() < 0.2
