"""The study of creatures: who is judged, where, against which edits; and that endpoints say what is so."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import scrambled
from study import competence, corpora, hiding, instruments, interventions
from study import counterfactuals as replays
from study import run as shards
from study import verdicts as judging

import adkit as ad
from adkit.cookieworld.population import TYPES
from adkit.cookieworld.world import DX, DY, EAT, HIDE, POSITION, STOCK, VISIBLE

sys.path.pop(0)


@pytest.fixture(scope="module")
def lives():
    return corpora.judged("test", 40, days=24)


@pytest.fixture(scope="module")
def believer():
    follow = ad.ParticleFilter(corpora.population(labelled=True), particles=200).follow
    return lambda histories: follow(histories)["belief_pi"]


@pytest.fixture(scope="module")
def effects(lives, believer):
    return interventions.effects(lives, believer, (12, 20))


@pytest.fixture(scope="module")
def edits(effects):
    return seeded(competence.compared(effects, effects))


def test_nobody_is_judged_in_a_layout_that_was_trained_on(lives):
    trained = corpora.lives("main", 50, seed=0, days=2)
    orbit = trained.task_values["orbit"]
    assert not set(orbit) & set(lives.arrays["orbit"])
    assert not trained.labels and len(set(trained.task.tolist())) == 50
    assert set(np.unique(lives.arrays["type"])) == {0, 2, 4}


def test_shuffled_days_are_those_that_were_lived():
    lived, shuffled = (
        corpora.lives(corpus, 20, seed=0, days=6) for corpus in ("main", "episode shuffled")
    )
    assert not np.array_equal(lived.arrays["obs"], shuffled.arrays["obs"])
    for one, other in zip(lived.arrays["obs"], shuffled.arrays["obs"], strict=True):
        assert sorted(day.tobytes() for day in one) == sorted(day.tobytes() for day in other)


def test_the_corpora_differ_in_what_they_say():
    assert set(corpora.population("drift free").regimes) == {"D0"}
    assert set(corpora.population("confounded").regimes) == {"D1"}
    assert (
        corpora.world("tolerance visible").tolerance_visible
        and not corpora.world("main").tolerance_visible
    )
    with pytest.raises(ValueError, match="no corpus 'D1'; there are main, drift free"):
        corpora.population("D1")
    with pytest.raises(ValueError, match="no part 'train'; there are test"):
        corpora.judged("train", 4)


def test_sites_are_what_they_are_called(lives):
    where, obs = corpora.sites(lives), lives.arrays["obs"]
    assert (
        not where["cookie visible"][:, : corpora.LATE].any()
        and not where["home late"][:, :, 1:].any()
    )
    assert (where["first visible"].sum(2) <= 1).all() and not where["first visible"][:, :, 0].any()
    assert (obs[where["empty home"]][:, STOCK] == 1).all()
    assert not (where["unrelated"] & where["decision"]).any()
    assert obs[where["cookie visible"]][:, VISIBLE].all() and not [
        name for name, here in where.items() if not here.any()
    ]


def test_going_for_the_jar_brings_it_nearer(lives):
    jar, real = corpora.directed(lives), corpora.sites(lives)["all"]
    xy = np.stack(np.divmod(lives.arrays["obs"][..., POSITION].astype(int), 5), -1)
    far = lambda xy: np.abs(xy - lives.task_values["jar"][lives.task][:, None, None]).sum(-1)
    for move, by in enumerate(zip(DX, DY, strict=True)):
        np.testing.assert_array_equal(jar[real, move], (far((xy + by).clip(0, 4)) < far(xy))[real])
    np.testing.assert_array_equal(jar[real, EAT], (far(xy) == 0)[real])
    assert jar[real, EAT].any() and not jar[..., [4, 6, 7]].any()


def test_cookies_ahead_count_what_will_be_eaten(lives):
    eaten = (lives.arrays["reward"] == 0.5).sum(2)
    np.testing.assert_allclose(corpora.cookies_ahead(lives)[:, 3], eaten[:, 3:8].sum(1) / 5)
    np.testing.assert_allclose(corpora.cookies_ahead(lives)[:, -1], eaten[:, -1])


def test_an_edit_changes_what_it_says_and_no_later_day(lives):
    for kind in interventions.EDITS:
        made = interventions.edit(kind, lives, 12)
        assert made.after.n_episodes == 13 and made.ok.any()
        past = [
            (made.before.arrays[n][:, :12] != made.after.arrays[n][:, :12]).any()
            for n in ("obs", "action", "reward")
        ]
        assert any(past) == (kind == "lapse")
        could = replays.possible(corpora.world(), made.after)
        assert (
            could[made.ok, :12].all()
            and could[made.ok, 12][np.arange(17) <= made.moved[made.ok, None]].all()
        ), kind
    full = interventions.edit("stock", lives, 12)
    assert ((full.sign > 0) == (full.after.arrays["obs"][:, 12, 0, STOCK] == 2)).all()
    delayed = interventions.edit("delay", lives, 12)
    row = np.flatnonzero(delayed.ok)
    same = [
        h.arrays["obs"][row, 12, t[row], :4]
        for h, t in ((delayed.before, delayed.at), (delayed.after, delayed.moved))
    ]
    np.testing.assert_array_equal(*same)
    with pytest.raises(ValueError, match="edit 'gift' on day 3; there are stock, decoy"):
        interventions.edit("gift", lives, 3)


def test_edits_do_to_the_filter_what_they_mean(effects):
    found = effects
    mean = found.groupby(["kind", "type"])["effect"].mean()
    assert mean["stock", "S"] > 0.3 > abs(mean["stock", "R"])
    assert mean["cue", "P"] > 1
    assert found[found["kind"].isin(["decoy", "decoy seen"])]["effect"].abs().max() < 1e-6


def test_a_decoy_that_is_followed_is_seen(lives):
    """Whether it was on or off before."""
    from adkit.cookieworld.world import DECOY

    def follows(histories):
        p = np.full((*histories.arrays["action"].shape, 8), 0.1)
        p[..., HIDE] += 0.3 * (histories.arrays["obs"][:, :, :1, DECOY] == 2)
        return p

    found = interventions.effects(lives, follows, (12, 20), ("decoy",))
    assert found["effect"].to_numpy() == pytest.approx(0.3)
    late = corpora.sites(lives)["home late"][:, :, 0]
    for kind in ("stock", "decoy", "lapse"):
        assert not interventions.edit(kind, lives, 12).ok[~late[:, 12]].any()
    assert not late[:, 12].all()


def seeded(frame, seeds=1):
    import pandas as pd

    return pd.concat([frame.assign(seed=seed) for seed in range(seeds)])


def test_the_gap_is_closed_by_the_filter_and_not_by_its_prior(lives):
    a = lives.arrays
    per = lambda p: seeded(competence.per_life(lives, p), 2)
    assert competence.gap_closed(per(a["belief_pi"])).estimate == pytest.approx(1, abs=1e-5)
    assert competence.gap_closed(per(a["prior_pi"])).estimate == pytest.approx(0, abs=1e-5)
    half = competence.gap_closed(per((a["belief_pi"] + a["prior_pi"]) / 2))
    assert 0 < half.low < half.estimate < 1.01


def test_the_source_is_calibrated_and_an_overconfident_model_is_not(lives, edits):
    measure = lambda p: competence.measured_activation(
        seeded(competence.per_life(lives, p)), edits, edits
    )
    exact = measure(lives.arrays["pi"])
    assert (
        exact["calibration_slope"].estimate == pytest.approx(1, abs=1e-4)
        and exact["ece"].estimate < 1e-4
    )
    assert (
        exact["cue_ratio"].estimate == pytest.approx(1, abs=1e-4)
        and exact["kl_to_source"].estimate < 1e-4
    )
    sharp = lives.arrays["pi"] ** 3
    sharp = measure(sharp / np.maximum(sharp.sum(-1, keepdims=True), 1e-9))
    assert sharp["calibration_slope"].high < 0.9 and sharp["ece"].estimate > 0.03


def test_half_an_effect_is_half_a_ratio(lives, effects, edits):
    halved = effects.assign(**{name: effects[name] / 2 for name in ("effect", *interventions.LOGS)})
    half = seeded(competence.compared(halved, effects))
    assert competence.change_ratio(half, "cue").estimate == pytest.approx(0.5)
    assert competence.effect_ratio(half, "stock", "S").estimate == pytest.approx(0.5)
    foretold = seeded(hiding.per_life(lives, lives.arrays["belief_pi"]))
    found, beside = hiding.measured(foretold, half, edits), hiding.measured(foretold, edits, half)
    assert (found["stock_ratio"].estimate, found["lapse_ratio"].estimate) == pytest.approx(
        (0.5, 0.5)
    )
    assert beside["over_primitive_twin"].low > 0 > found["over_primitive_twin"].high
    assert beside["over_primitive_twin"].estimate == pytest.approx(
        beside["stock_effect"].estimate / 2
    )


def test_returns_that_rise_are_an_improvement(lives):
    reward = np.zeros_like(lives.arrays["reward"])
    flat = replace(lives, arrays=lives.arrays | {"reward": reward})
    assert competence.improvement(seeded(competence.returns_per_life(flat))).estimate == 0
    rising = reward.copy()
    rising[:, :, 0] = np.arange(24) / 24
    rising = replace(lives, arrays=lives.arrays | {"reward": rising})
    assert competence.improvement(seeded(competence.returns_per_life(rising))) == pytest.approx(
        [20 / 24] * 3
    )


def test_hiding_is_judged_by_who_hides(lives, edits):
    blind = lives.arrays["belief_pi"].copy()
    blind[:, :, 0] = 1 / 8
    for p, least, most in ((lives.arrays["pi"], 0.99, 1.01), (blind, -0.01, 0.01)):
        found = hiding.measured(seeded(hiding.per_life(lives, p)), edits, edits)
        assert least < found["auc_share"].estimate < most
    filtered = hiding.measured(
        seeded(hiding.per_life(lives, lives.arrays["belief_pi"])), edits, edits
    )
    assert filtered["filter_auc"] == filtered["model_auc"] and filtered[
        "within_slope_share"
    ].estimate == pytest.approx(1)
    assert (
        filtered["stock_ratio"].estimate == pytest.approx(1)
        and filtered["over_primitive_twin"].estimate == 0
    )
    assert abs(filtered["primitive_excess"].estimate) < 1e-6
    bit = hiding.measured(seeded(hiding.per_life(lives, hiding.copied(lives))), edits, edits)
    assert bit["auc_share"].estimate < 0.85 and abs(bit["within_slope_share"].estimate) < 1e-9, (
        "a bit passes for foresight"
    )
    hides = lives.arrays["action"][:, :, 0] == HIDE
    of = lambda name: hides[lives.arrays["type"] == TYPES.index(name)].mean()
    assert of("S") > 5 * of("P")


def test_the_instruments_pass_their_gate(lives):
    model, some = (
        scrambled(ad.CausalTransformer(lives.spec, context=24 * 16, layers=2, heads=2, width=16)),
        lives[:6],
    )
    found = instruments.checked(model, some, tap="blocks.0.resid")
    assert found["self_patch"] < 1e-6 and found["leace_covariance"] < 1e-8
    read = ad.record(model, some, "blocks.0.resid", "logits")
    another = {
        "blocks.0.resid": lambda x, cut: cut(np.roll(read["blocks.0.resid"], 1, 0)).to(x)
    }  # what a patch can do
    assert (
        np.abs(ad.record(model, some, "logits", changes=another).array - read["logits"]).max() > 0.1
    )
    assert found["policy_sum"] < 1e-6 and found["empty_day_dependence"] == 0
    assert (instruments.false_positives(40) <= 0.05).mean() < 0.2


def test_what_hypotheses_name_is_measured(lives, edits):
    hypotheses = judging.load_hypotheses(Path(shards.__file__).parents[1] / "hypotheses.yaml")
    p = lives.arrays["belief_pi"]
    activation = competence.measured_activation(seeded(competence.per_life(lives, p)), edits, edits)
    hidden = hiding.measured(seeded(hiding.per_life(lives, p)), edits, edits)
    for name, found in {"H1": activation, "H4": hidden}.items():
        entry = hypotheses["hypotheses"][name]
        named = {
            *entry["supported"],
            *entry["refuted"],
            *entry["controls"],
            *entry["reported"],
            entry["measure"],
        } - {"p_holm"}
        assert named <= set(found), named - set(found)


@pytest.mark.parametrize("profile", shards.PROFILES)
def test_every_job_can_be_made_in_its_turn(profile):
    jobs = shards.every_job(shards.PROFILES[profile])
    seen = set()
    for name, job in jobs.items():
        assert set(job.needs) <= seen, f"{name} needs what comes later"
        seen.add(name)


def test_results_of_other_settings_are_not_gone_on_with(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shards, "every_job", lambda profile: {})
    call = ["smoke", "--work", str(tmp_path), "--out", str(tmp_path / "out")]
    assert shards.main(call) == shards.main(call) == 0
    monkeypatch.setattr(shards, "TRAINING", shards.TRAINING | {"opening": 1.0})
    with pytest.raises(SystemExit):
        shards.main(call)
    assert (
        "smoke holds results of other training; move it away, or name another place with --work"
        in capsys.readouterr().err
    )
