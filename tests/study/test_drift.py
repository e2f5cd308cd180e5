"""H2a: planted drift is found, and a cookie counter is not taken for it."""

import numpy as np
import pandas as pd
import pytest
from helpers import seeded
from probed import along, check_measures, counts_cookies, gathered, holds_drift, transformer
from study import corpora, drift, readouts
from study.statistics import draws_of
from study.verdicts import verdict

import adkit as ad


@pytest.fixture(autouse=True)
def streams(monkeypatch):
    """In these tests a model is a function from histories to activations."""
    monkeypatch.setattr(readouts, "gather", gathered)


def measure(model, parts, twins=("untrained", "drift free"), **how):
    frame, draws = drift.per_lifetime(model, parts, dict.fromkeys(twins), **how)
    return frame, drift.measured(seeded(frame), seeded(draws))


@pytest.mark.parametrize("model", [holds_drift, counts_cookies])
def test_drift_is_supported_and_a_cookie_counter_is_not(parts, hypotheses, model):
    frame, found = measure(model, parts, permutations=99)
    drifts = seeded(frame[frame["regime"] == "D2"])
    r2 = lambda name, *spread: drift.r2(drifts, name, *spread).estimate
    assert r2("planted belief", "spread: belief") > 0.9 and r2("untrained") < 0.1
    assert r2("planted erased", "spread: belief") < 0.05
    over_counting = drift.over_counting(drifts)
    assert found["planted_phi"].estimate > 0.8 and found["unrelated_r2"].estimate < 0.05
    entry = hypotheses["hypotheses"]["H2a"]
    rules = entry["supported"] | entry["refuted"] | entry["controls"]
    kept = {name: value for name, value in found.items() if name in rules}
    judged = verdict(entry, kept | {"p_holm": 0.01})
    if model is holds_drift:
        assert judged.verdict == "supported", judged.why
        assert found["phi"].low > 0.7 and found["permutation_p"] == 0.01
        assert found["within_r2"].low > 0.1 and found["yoked_auc"].estimate > 0.8
        assert over_counting.low > 0.05
    else:
        assert judged.verdict in ("refuted", "inconclusive"), judged.why
        assert found["phi"].estimate < 0.25 and abs(found["yoked_auc"].estimate - 0.5) < 0.2
        assert over_counting.low <= 0.05


def test_at_home_a_model_of_actions_alone_stands_beside(parts):
    twins = "untrained", "drift free", "action only"
    frame, found = measure(holds_drift, parts, twins, site="empty home", permutations=19)
    assert found["phi"].low > 0.7 and found["action_only_phi"].high < 0.5
    assert found["over_action_only"].low > 0.3
    assert set(frame["regime"]) == {"D1", "D2", "D5"}


@pytest.mark.parametrize("shown", [True, False])
def test_another_label_can_be_asked_for(parts, shown):
    model = (lambda histories: along(drift.tolerance(histories))) if shown else None
    frame, _ = drift.per_lifetime(model, parts, {}, label=drift.tolerance, permutations=1)
    over = drift.over_counting(seeded(frame))
    assert over.low > 0.05 if shown else over.estimate < 0.05


def test_another_regime_can_be_judged_without_a_yoked_one(parts):
    without = {name: h[h.arrays["regime"] != drift.YOKED] for name, h in parts.items()}
    frame, found = measure(holds_drift, without, ("untrained",), regime=drift.USE, permutations=9)
    assert set(frame["regime"]) == {"D1"} and "yoked_auc" not in found
    assert found["phi"].estimate > 0.5


def test_readings_are_the_truth_the_estimate_and_the_probe_day_by_day(parts):
    found = drift.readings(holds_drift, parts)
    assert set(found["regime"]) == {"D2"} and found["label"].corr(found["read"]) > 0.8
    row = found.iloc[40]
    drifting = parts["test"][parts["test"].arrays["regime"] == drift.DRIFT]
    one, day = drifting[int(row["history"])], int(row["day"])
    at = corpora.sites(one)["first visible"][0, day]
    assert row["label"] == pytest.approx(corpora.balance(one)[0, day][at].item())
    assert row["believed"] == pytest.approx(one.arrays["belief_rel"][0, day][at].item())
    blind = drift.readings(None, parts)
    assert abs(blind["label"].corr(blind["read"])) < 0.4
    other_order = dict(reversed(parts.items())) | {"more": parts["test"]}
    pd.testing.assert_frame_equal(drift.readings(holds_drift, other_order), found)


def test_an_untrained_twin_attends_and_knows_nothing(parts):
    model = transformer(parts["test"].spec)
    twin = drift.untrained(model)
    streams = ad.record(twin, parts["test"][:2], "embed", "blocks.1.resid")
    assert np.abs(streams["embed"] - streams["blocks.1.resid"]).max() > 0.1
    assert drift.untrained(model).head.weight.equal(twin.head.weight)
    assert not twin.head.weight.equal(model.head.weight)


def sums():
    """R2 of B1 .2, of the probe .5, of the filter .8; D1 is read higher in 30 of 40 pairs."""
    missed = {"B1": 80, "probe": 50, "B4": 20, "B3": 60, "logits": 120, "untrained": 90}
    missed |= {"drift free": 95, "action only": 80, "planted": 20, "planted belief": 5}
    missed |= {"planted erased": 99, "unrelated": 100}
    row = {f"missed: {name}": value for name, value in missed.items()}
    row |= dict.fromkeys(("spread", "spread: belief", "spread: unrelated"), 100)
    for name, product in (("probe", 3.0), ("B4", 6.0)):
        row |= {f"level missed: {name}": 25, f"level spread: {name}": 100}
        row |= {f"within product: {name}": product, f"within read: {name}": 9}
        row[f"within label: {name}"] = 16
    rows = [row | {"regime": "D2", "orbit": i, "history": i} for i in range(6)]
    won = {"pairs": 20, "wins": 15, "wins: filter": 20, "wins: gifts": 10}
    for i, regime in enumerate(("D1", "D5") * 2, 10):
        rows.append({"regime": regime, "orbit": i, "history": i} | won)
    draws = draws_of(permutation=np.array([0.0, 0.1, 0.6]), selectivity=0.3)
    return seeded(pd.DataFrame(rows), 2), seeded(draws, 2)


def test_shares_and_areas_come_from_sums_alone(hypotheses):
    frame, draws = sums()
    found, entries = drift.measured(frame, draws), hypotheses["hypotheses"]
    expected = {"phi": 0.5, "headroom": 0.6, "planted_phi": 1, "action_only_phi": 0}
    expected |= {"over_logits": 0.5, "over_rich_features": 0.1, "over_untrained": 0.4}
    expected |= {"over_drift_free": 0.45, "unrelated_r2": 0, "level_r2": 0.75}
    expected |= {"within_r2": 1 / 16, "within_share_of_filter": 0.25, "selectivity": 0.3, "p": 0.5}
    expected |= {"yoked_auc": 0.75, "yoked_auc_of_filter": 1, "yoked_auc_of_gifts": 0.5}
    check_measures(found, expected, entries["H2a"], entries["H2a_future"])
    np.testing.assert_allclose(found["null"], (np.array([0, 0.1, 0.6]) - 0.2) / 0.6)
    controls = [
        drift.r2(frame[:6], f"planted {name}", "spread: belief") for name in ("belief", "erased")
    ]
    assert [one.estimate for one in controls] == pytest.approx([0.95, 0.01])
