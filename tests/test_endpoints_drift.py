"""Drift, erasure and steering of creatures' models: what is planted is found and used, and a cookie counter passes for neither."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import scrambled
from sklearn.linear_model import Ridge
from study import corpora, drift, erasure, steering
from study.verdicts import load_hypotheses, verdict
from test_verdicts import NOTEBOOKS

import adkit as ad
from adkit.probing.probes import PENALTIES
from adkit.probing.record import record
from adkit.stats import draws_of, exchange_p

DAYS, WIDTH = 24, 16
RENAMED = {"over_episode_shuffled"}  # in the full profile alone


@pytest.fixture(scope="module")
def lives():
    """Sets of lives whose beliefs are made up: the truth, level and drift, seen through noise."""
    rng, sets = np.random.default_rng(0), {}
    for i, (part, n) in enumerate({"probe train": 90, "probe val": 40, "test": 70}.items()):
        tasks = corpora.split()[part == "test"]
        source = replace(corpora.population(labelled=True), regimes=corpora.JUDGED)
        tasks = tasks[np.sort(rng.choice(len(tasks), n, replace=False))]
        found = ad.collect(corpora.world(), tasks, source, episodes=DAYS, seed=i)
        pi = found.arrays["pi"]
        beliefs = {
            "belief_rel": corpora.balance(found) + 0.3 * rng.normal(size=(n, DAYS, 1)),
            "belief_pi": 0.9 * pi + 0.0125,
        }
        beliefs |= {"prior_pi": np.full_like(pi, 0.125), "orbit": tasks["orbit"][found.task]}
        sets[part] = replace(found, arrays=found.arrays | beliefs)
    return sets


@pytest.fixture(scope="module")
def hypotheses():
    return load_hypotheses(NOTEBOOKS / "hypotheses.yaml")["hypotheses"]


@pytest.fixture
def streams(monkeypatch):
    """A model is then a function that makes activations (N, E, H, D) of histories, or noise: None."""

    def gathered(model, histories, at, *taps, batch=16):
        noise = np.random.default_rng(len(histories)).normal(
            size=(*at.shape, WIDTH)
        ) * np.geomspace(2, 0.1, WIDTH)
        values = noise + (0 if model is None else model(histories))
        return {"embed": noise[at], "blocks.0.resid": values[at], "logits": noise[at][:, :8]}

    monkeypatch.setattr(drift, "gather", gathered)
    monkeypatch.setattr(
        steering, "gather", lambda *a, **k: {"blocks.0.resid": gathered(*a, **k)["blocks.0.resid"]}
    )


def along(values):
    """(N, E, H, D) with the values in one direction."""
    return 15 * values[..., None] * np.eye(WIDTH)[0]


def seeds(frame, n=1):
    return pd.concat([frame.assign(seed=i) for i in range(n)])


# ---- H2a ----


def test_planted_drift_is_found_and_a_cookie_counter_is_not_taken_for_it(
    lives, streams, hypotheses
):
    def counter(histories):
        eaten, day = (
            corpora.eaten(histories).astype(float),
            np.arange(DAYS)[:, None] * np.ones(histories.spec.horizon),
        )
        return along(eaten / 5) + 15 * (day / 10)[..., None] * np.eye(WIDTH)[1]

    found = {}
    for name, model in {
        "drift": lambda histories: along(corpora.balance(histories)),
        "counter": counter,
    }.items():
        frame, draws = drift.per_life(
            model, lives, {"untrained": None, "drift free": None}, permutations=99
        )
        found[name] = drift.measured(seeds(frame), seeds(draws)) | {"p_holm": 0.01}
        controls = drift.measured_controls(seeds(frame), seeds(frame))
        assert (
            controls["planted_found"].estimate > 0.9 and controls["planted_erased"].estimate < 0.05
        )
        assert controls["untrained_r2"].estimate < 0.1 and (
            controls["tolerance_visible_r2"].low > 0.05
        ) == (name == "drift")
    drifts, counts = found["drift"], found["counter"]
    assert (
        drifts["phi"].low > 0.7
        and drifts["permutation_p"] == 0.01
        and drifts["belief_r2"].low > 0.3
    )
    assert (
        drifts["over_untrained"].low > 0.3
        and drifts["selectivity"] > 0.3
        and drifts["planted_phi"].estimate > 0.8
    )
    assert (
        drifts["unrelated_r2"].estimate < 0.05
        and drifts["within_r2"].low > 0.1
        and drifts["yoked_auc"].estimate > 0.8
    )
    assert (
        counts["phi"].estimate < 0.25
        and abs(counts["yoked_auc"].estimate - 0.5) < 0.2
        and counts["over_logits"].low < 0.2
    )
    entry = hypotheses["H2a"]
    kept = entry["supported"] | entry["refuted"] | entry["controls"]
    judged = {
        name: verdict(entry, {k: v for k, v in values.items() if k in kept})
        for name, values in found.items()
    }
    assert judged["drift"].verdict == "supported", judged["drift"].why
    assert judged["counter"].verdict in ("refuted", "inconclusive"), judged["counter"].why


def test_at_home_a_model_of_actions_alone_stands_beside(lives, streams):
    how = {"site": "empty home", "permutations": 19}
    frame, draws = drift.per_life(
        lambda histories: along(corpora.balance(histories)),
        lives,
        {"untrained": None, "drift free": None, "action only": None},
        **how,
    )
    found = drift.measured(seeds(frame), seeds(draws))
    assert (
        found["phi"].low > 0.7
        and found["action_only_phi"].high < 0.5
        and found["over_action_only"].low > 0.3
    )
    assert {"history", "orbit", "type", "regime"} <= set(frame) and set(frame["regime"]) == {
        "D1",
        "D2",
        "D5",
    }
    assert len(seeds(frame, 3).to_csv(float_format="%.6g")) < 300_000


def test_another_label_can_be_asked_for(lives, streams):
    found = {}
    for name, model in {
        "shown": lambda histories: along(drift.tolerance(histories)),
        "not shown": None,
    }.items():
        frame, _ = drift.per_life(
            model, lives, {"untrained": None}, label=drift.tolerance, permutations=1
        )
        found[name] = drift.measured_controls(seeds(frame), seeds(frame))["tolerance_visible_r2"]
    assert found["shown"].low > 0.05 > found["not shown"].estimate


def test_readings_are_the_truth_the_belief_and_the_probe_day_by_day(lives, streams):
    model = lambda histories: along(corpora.balance(histories))
    found = drift.readings(model, lives)
    assert set(found["regime"]) == {"D2"} and np.corrcoef(found["label"], found["read"])[0, 1] > 0.8
    one = found.iloc[40]
    life = lives["test"][int(one["history"])]
    at = corpora.sites(life)["first visible"][0, int(one["day"])]
    for name, values in {
        "label": corpora.balance(life),
        "believed": life.arrays["belief_rel"],
    }.items():
        np.testing.assert_allclose(one[name], values[0, int(one["day"])][at], rtol=1e-6)
    assert abs(np.corrcoef(found["label"], drift.readings(None, lives)["read"])[0, 1]) < 0.4


def test_another_regime_can_be_judged_without_anybody_to_compare_with(lives, streams):
    used = {
        part: histories[histories.arrays["regime"] != drift.YOKED]
        for part, histories in lives.items()
    }
    model = lambda histories: along(corpora.balance(histories))
    frame, draws = drift.per_life(
        model, used, {"untrained": None}, regime=drift.USE, permutations=9
    )
    assert set(frame["regime"]) == {"D1"} and "wins" not in frame
    found = drift.measured(seeds(frame), seeds(draws))
    assert "yoked_auc" not in found and found["phi"].estimate > 0.5


def test_an_untrained_twin_looks_back_and_knows_nothing(lives):
    model = scrambled(
        ad.CausalTransformer(lives["test"].spec, context=16 * DAYS, layers=2, heads=2, width=WIDTH)
    )
    twin = drift.untrained(model)
    some = lives["test"][:2]
    streams = record(twin, some, "embed", "blocks.1.resid")
    assert np.abs(streams["embed"] - streams["blocks.1.resid"]).max() > 0.1
    assert drift.untrained(model).head.weight.equal(
        twin.head.weight
    ) and not twin.head.weight.equal(model.head.weight)


def sums_of_probes():
    """R2 of B1 .2, probe .5, filter .8; of 40 pairs D1 is read higher in 30."""
    missed = {
        "B1": 80,
        "probe": 50,
        "B4": 20,
        "B3": 60,
        "logits": 120,
        "untrained": 90,
        "drift free": 95,
        "action only": 80,
    }
    missed |= {
        "planted": 20,
        "planted belief": 5,
        "planted erased": 99,
        "unrelated": 100,
        "belief": 30,
    }
    row = {f"missed: {name}": value for name, value in missed.items()} | dict.fromkeys(
        ("spread", "spread: belief", "spread: unrelated"), 100
    )
    for who, read in (("probe", 3.0), ("B4", 6.0)):
        row |= {
            f"level missed: {who}": 25,
            f"level spread: {who}": 100,
            f"within product: {who}": read,
        }
        row |= {f"within read: {who}": 9, f"within label: {who}": 16}
    frame = pd.DataFrame([row | {"regime": "D2", "orbit": i, "history": i} for i in range(6)])
    won = {"pairs": 20, "wins": 15, "wins: filter": 20, "wins: gifts": 10}
    sides = [
        {"regime": r, "orbit": 10 + i, "history": 10 + i} | won
        for i, r in enumerate(("D1", "D5") * 2)
    ]
    draws = draws_of(permutation=np.array([0.0, 0.1, 0.6]), selectivity=0.3)
    return seeds(pd.concat([frame, pd.DataFrame(sides)]), 2), seeds(draws, 2)


def test_shares_and_areas_come_from_sums_alone():
    frame, draws = sums_of_probes()
    found = drift.measured(frame, draws)
    want = {
        "phi": 0.5,
        "headroom": 0.6,
        "over_logits": 0.5,
        "over_rich_features": 0.1,
        "over_untrained": 0.4,
        "planted_phi": 1,
    }
    want |= {
        "unrelated_r2": 0,
        "belief_r2": 0.7,
        "level_r2": 0.75,
        "within_r2": 1 / 16,
        "within_share_of_filter": 0.25,
    }
    want |= {
        "yoked_auc": 0.75,
        "yoked_auc_of_filter": 1,
        "yoked_auc_of_gifts": 0.5,
        "selectivity": 0.3,
        "p": 0.5,
        "action_only_phi": 0,
        "over_drift_free": 0.45,
    }
    assert {name: np.ravel(found[name])[0] for name in want} == pytest.approx(want)
    np.testing.assert_allclose(found["null"], (np.array([0, 0.1, 0.6]) - 0.2) / 0.6)
    assert drift.measured_controls(frame)["planted_found"].estimate == pytest.approx(0.95)
    few = drift.measured(frame.drop(columns=["missed: action only", "missed: drift free"]), draws)
    assert "over_drift_free" not in few and "action_only_phi" not in few


# ---- H2b ----


@pytest.fixture(scope="module")
def creature(lives):
    """A model whose layers do nothing, so that what it reads at a token is all it knows, and that never reads the last four of
    sixteen dimensions; and lives that are its own: their policy is what it says."""
    model = scrambled(
        ad.CausalTransformer(lives["test"].spec, context=16 * DAYS, layers=2, heads=2, width=WIDTH)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("out.weight"):
                parameter.zero_()
        model.head.weight[:, 12:] = 0
        model.embed_tokens.table[:, 12:] *= 0.3
    logits = record(model, lives["test"], "logits").array[:, :, :-1]
    own = {"pi": torch.as_tensor(logits).softmax(-1).numpy()}
    return model, lives | {"test": replace(lives["test"], arrays=lives["test"].arrays | own)}


def chosen(model, lives, direction, beside):
    """Erase one direction as w and another one as the control concept; in all layers, the one here and the other one later."""
    choice = erasure.choose(model, lives)
    eraser = choice.erasers["w"]

    def of(direction):
        deviation = np.sqrt(direction @ (eraser.axes * eraser.variance) @ eraser.axes.T @ direction)
        return replace(
            eraser, directions=deviation * direction[:, None], readers=direction[None] / deviation
        )

    erasers = {"w": of(direction), "control": of(beside), "cue": choice.erasers["cue"]}
    return replace(
        choice,
        erasers=erasers,
        everywhere={choice.tap: erasers["w"], "blocks.1.resid": erasers["control"]},
    )


def test_erasing_what_is_read_costs_and_erasing_what_is_not_read_costs_nothing(
    creature, monkeypatch
):
    monkeypatch.setattr(erasure, "CONTROL_DRAWS", 3)
    model, lives = creature
    head = model.head.weight.detach().double().numpy()
    used, unused, found, everywhere = (
        (head[1] - head[0]) / np.linalg.norm(head[1] - head[0]),
        np.eye(WIDTH)[15],
        [],
        [],
    )
    for w, control in ((used, unused), (unused, used)):
        frame, draws = erasure.per_life(
            model, lives, chosen(model, lives, w, control), n=24, random=3
        )
        found.append(erasure.measured(seeds(frame), seeds(draws)))
        cost = {
            row: (frame[f"nats: {row}"] - frame["nats: clean"]).sum() / frame["n"].sum()
            for row in ("erased", "control")
        }
        of_used, of_unused = (cost["erased"], cost["control"])[:: 1 if w is used else -1]
        assert of_used > 0.02 and 0 <= of_unused < 0.004
        assert set(frame["regime"]) <= {"D0", "D2", "D5"} and (frame["regime"] == "D2").sum() == 12
        everywhere.append(frame["nats: all layers"] - frame["nats: clean"])
        assert everywhere[-1].sum() / frame["n"].sum() > 0.02
        np.testing.assert_allclose(frame["nats: prior"], frame["n"] * np.log(8), rtol=1e-5)
    np.testing.assert_allclose(*everywhere, atol=1e-4)  # both directions, in either order
    np.testing.assert_allclose(
        found[0]["delta"].estimate, -found[1]["delta"].estimate
    )  # beside the same random erasures
    assert found[0]["delta"].estimate != 0
    for measured in found:
        np.testing.assert_allclose(
            measured["full_patch_share"], 1, atol=1e-5
        )  # what is patched is all that is read later


def test_a_frozen_coordinate_is_the_lifes_mean_and_all_else_is_left(creature):
    model, lives = creature
    some, direction = lives["test"][:4], np.eye(WIDTH)[3]
    eraser = chosen(model, lives, direction, direction).erasers["w"]
    at = erasure._tokens(corpora.sites(some)["cookie visible"])
    before = record(model, some, "blocks.0.resid").array
    frozen = record(
        model,
        some,
        "blocks.0.resid",
        changes={"blocks.0.resid": erasure._frozen(eraser, at, before)},
    ).array
    np.testing.assert_allclose(np.delete(frozen, 3, -1), np.delete(before, 3, -1), atol=1e-5)
    np.testing.assert_array_equal(frozen[~at], before[~at])
    for n in np.flatnonzero(at.any((1, 2))):
        np.testing.assert_allclose(
            frozen[n, ..., 3][at[n]], before[n, ..., 3][at[n]].mean(), atol=1e-4
        )
    other = {"blocks.0.resid": erasure._frozen(eraser.random(1)[0], at, before, like=eraser)}
    other = record(model, some, "blocks.0.resid", changes=other).array
    assert np.square(other - before).sum() == pytest.approx(
        np.square(frozen - before).sum(), rel=1e-3
    )


def test_the_tap_and_the_control_are_chosen_by_validation_r2_alone(creature):
    model, lives = creature
    choice = erasure.choose(model, lives)
    beside = {name: value for name, value in choice.r2.items() if name.startswith("r2: ")}
    assert choice.tap == "blocks.0.resid" and set(beside) == {
        f"r2: {name}" for name in erasure.CONCEPTS
    }
    assert choice.control == min(
        erasure.CONCEPTS[1:], key=lambda name: abs(beside[f"r2: {name}"] - beside["r2: w"])
    )
    assert set(choice.read[2]) == {"train", "val"} and len(choice.read[0]) == len(choice.read[1])
    one = ad.CausalTransformer(
        lives["test"].spec, context=16 * DAYS, layers=1, heads=2, width=WIDTH
    )
    with pytest.raises(ValueError, match="has one block; .*Two blocks are needed"):
        erasure.choose(one, lives)


def test_of_several_taps_the_one_is_chosen_that_ridges_read_best_on_validation_lives(lives):
    model = scrambled(
        ad.CausalTransformer(lives["test"].spec, context=16 * DAYS, layers=4, heads=2, width=WIDTH)
    )
    sets, by_hand = (
        {"probe train": lives["probe train"][:30], "probe val": lives["probe val"][:15]},
        {},
    )
    at = [corpora.sites(histories)["cookie visible"] for histories in sets.values()]
    y = [
        corpora.balance(histories)[here] for histories, here in zip(sets.values(), at, strict=True)
    ]
    for tap in ("blocks.0.resid", "blocks.1.resid", "blocks.2.resid"):
        x = [
            record(model, h, tap).array[:, :, :-1][here].astype(float)
            for h, here in zip(sets.values(), at, strict=True)
        ]
        train, val = ((values - x[0].mean(0)) / x[0].std(0) for values in x)
        ridges = [Ridge(alpha=l2 * len(train)).fit(train, y[0]) for l2 in PENALTIES]
        missed = min(np.square(y[1] - ridge.predict(val)).sum() for ridge in ridges)
        by_hand[f"r2 of w: {tap}"] = 1 - missed / np.square(y[1] - y[0].mean()).sum()
    choice = erasure.choose(model, sets)
    assert {name: r2 for name, r2 in choice.r2.items() if "of w" in name} == pytest.approx(
        by_hand, rel=1e-3, abs=1e-4
    )
    assert f"r2 of w: {choice.tap}" == max(by_hand, key=by_hand.get)


def sums_of_losses():
    """Drifting lives lose .5 nat a token, .1 of it at random; stable ones .2, all of it at random; the control costs nothing."""
    life = {
        "n": 10,
        "w": 5.0,
        "ww": 4.5,
        "spread": 100,
        "missed: clean": 40,
        "missed: erased": 99,
        "missed: erased, curved": 90,
    }
    life |= {f"l: {which}": 10.0 for which in ("clean", "erased", "frozen")} | {
        "wl: clean": 9,
        "wl: erased": 6,
        "wl: frozen": 5,
    }
    life |= {
        "pair base": 1.0,
        "pair donor": 5.0,
        "pair full": 4.0,
        "pair coordinate": 3.0,
        "pair w": 1.0,
    }
    nats = dict.fromkeys(("clean", "control", "control at random", "filter"), 10.0) | {
        "cue": 17,
        "all layers": 16,
    }
    drifting = nats | {
        "erased": 15,
        "erased at random": 11,
        "frozen": 14,
        "frozen at random": 12,
        "static": 12,
        "prior": 18,
    }
    stable = nats | {
        "erased": 12,
        "erased at random": 12,
        "frozen": 11,
        "frozen at random": 11,
        "static": 10,
        "prior": 13,
    }
    sides = ("D2", drifting), ("D2", drifting), ("D0", stable), ("D5", stable)
    rows = [
        life | {f"nats: {k}": v for k, v in of.items()} | {"regime": r, "orbit": i, "history": i}
        for i, (r, of) in enumerate(sides)
    ]
    draws = draws_of(
        **{
            "erased at random": np.array([0.0, 0.1, 0.2]),
            "frozen at random": np.array([0.4, 0.1, 0.2]),
        }
    )
    return seeds(pd.DataFrame(rows), 2), seeds(pd.concat([draws, draws_of(unembedding=0.5)]), 2)


def test_losses_slopes_and_shares_come_from_sums_alone():
    found = erasure.measured(*sums_of_losses())
    want = {
        "delta": 0.4,
        "drifting_loss": 0.4,
        "stable_loss": 0,
        "control_delta": 0,
        "all_layers_delta": 0,
        "frozen_delta": 0.2,
    }
    want |= {
        "erased_contrast": 0.3,
        "frozen_contrast": 0.3,
        "frozen_stable_loss": 0.1,
        "frozen_stable_excess": 0,
        "tracking_value": 0.5,
        "drift_tracking_value": 0.2,
        "cue_erasure": 0.7,
        "slope_loss": 0.75,
    }
    want |= {
        "within_slope_loss": 0.75,
        "frozen_slope_loss": 1,
        "full_patch_share": 0.75,
        "interchange_fidelity": 1,
    }
    want |= {
        "leftover_r2": 0.1,
        "before_erasure_r2": 0.6,
        "after_erasure_r2": 0.01,
        "level_value": 0.45,
        "unembedding_share": 0.5,
    }
    assert {name: np.ravel(found[name])[0] for name in want} == pytest.approx(want)
    assert (
        found["random_p"] == 1 / 16 and found["p"] == found["frozen_p"] == 6 / 16
    )  # .3 twice, against .4, .1 and .2
    np.testing.assert_allclose(found["null"], np.array([0.4, 0.1, 0.2]) - 0.7 / 3, atol=1e-12)


# ---- H6 ----


class Known:
    """Activations that hold w, cookies eaten and the cue, in a direction each."""

    head = torch.nn.Linear(WIDTH, 8)

    def __call__(self, histories):
        visible = histories.arrays["obs"][..., 1].astype(float)
        parts = corpora.balance(histories), corpora.eaten(histories) / 5, visible
        return sum(15 * values[..., None] * np.eye(WIDTH)[i] for i, values in enumerate(parts))


def test_vectors_point_at_what_they_are_made_of(lives, streams):
    found = steering.vectors(Known(), lives["probe train"], "blocks.0.resid", 5)
    towards = lambda vector, i: abs(vector[i]) / np.linalg.norm(vector)
    assert towards(found["w"], 0) > 0.95 and towards(found["w"], 1) < 0.2, (
        "matched on cookies eaten"
    )
    assert towards(found["cue"], 2) > 0.95 and found["shuffled"].shape == (5, WIDTH)
    assert np.mean(found["shuffled"][:, 0] / found["w"][0]) < 0.5
    head = Known.head.weight.detach().numpy()
    assert np.abs((head - head.mean(1, keepdims=True)) @ found["off"]).max() < 1e-6


def test_steering_moves_what_the_head_reads_and_nothing_else(creature, monkeypatch):
    model, lives = creature
    head = model.head.weight.detach().double().numpy()
    hide, found = head[6] - np.delete(head, 6, 0).mean(0), {}
    for name, w in {"hide": hide, "unread": np.eye(WIDTH)[15]}.items():
        known = dict.fromkeys(("off", "cue", "action"), hide) | {
            "w": w,
            "shuffled": np.random.default_rng(1).normal(size=(3, WIDTH)),
        }
        monkeypatch.setattr(steering, "vectors", lambda *a, known=known: known)
        frame, draws = steering.per_life(model, lives, "blocks.0.resid", n=16, random=3)
        found[name] = steering.measured(seeds(frame), seeds(draws))
    test = frame[frame["part"] == "test"]
    assert (
        test["hide: 0"].isna().eq(test["type"] == "R").all()
        and (frame["part"] == "probe val").sum() == 16
    )
    assert draws["kind"].value_counts()[["random norm", "random kl", "shuffled"]].tolist() == [
        3,
        3,
        3,
    ]  # as many shuffled as were given
    hides, unread = found["hide"], found["unread"]
    assert (
        hides["home_hide_slope"].low > 0.005 and hides["primitive_hide_slope"].low > 0.005
    )  # it is no planner
    assert hides["home_hide_slope"].estimate == pytest.approx(
        hides["action_vector_hide"].estimate / 8, rel=0.5
    )
    assert abs(unread["slope"].estimate) < 0.003 and abs(unread["home_hide_slope"].estimate) < 0.003
    assert unread["p"] > 0.2 and unread["over_random_norm"].estimate < 0.01


def test_steering_is_done_where_it_is_told(lives):
    """With layers that look back, what is added elsewhere would show."""
    model = scrambled(
        ad.CausalTransformer(lives["test"].spec, context=16 * DAYS, layers=2, heads=2, width=WIDTH)
    )
    some, vector = lives["test"][:4], np.eye(WIDTH)[2]
    here = corpora.sites(some)["home late"]
    here &= np.arange(DAYS)[:, None] == 20
    stream = record(model, some, "blocks.0.resid")
    size = 2 * 0.1 * np.linalg.norm(stream.array[:, :, :-1][here], axis=-1).mean()
    moved = stream.array.copy()
    moved[:, :, :-1][here] += (size * vector).astype(np.float32)
    by_hand = record(
        model, some, "logits", changes={"blocks.0.resid": lambda x, cut: cut(moved)}
    ).array[:, :, :-1][here]
    p = steering._foretold(model, some, stream, here)(7 * vector, 2.0)
    np.testing.assert_allclose(p, torch.as_tensor(by_hand).softmax(-1).numpy(), atol=1e-5)


def test_random_vectors_are_scaled_until_they_do_equal_harm():
    harm = lambda vector, factor: 0.02 * (np.linalg.norm(vector) * factor) ** 1.8
    for vector in (np.ones(4), 0.1 * np.ones(4)):
        factor = steering._equally(harm, vector, 0.5, 1.0)
        assert harm(vector, factor) == pytest.approx(0.5, rel=0.1)


def responses():
    """p(C) rises with the dose, in one life of four it falls; S hides more, P does not; held-out layouts move .8 times as far."""
    up, rows = {-4: 0.3, -2: 0.4, -1: 0.45, 0: 0.5, 1: 0.55, 2: 0.6, 4: 0.62}, []
    ends = [f"{of}, {which}: " for of in ("jar", "hide") for which in ("off", "cue", "action")]
    for i, (kind, sign) in enumerate((("S", 1), ("P", 1), ("R", 1), ("S", -1))):
        row = {f"jar: {dose}": 0.5 + sign * (p - 0.5) for dose, p in up.items()} | {
            "random norm": 0.02,
            "random kl": 0.1,
        }
        row |= {f"hide: {dose}": 0.4 + 0.01 * dose * (kind == "S") for dose in up if kind != "R"}
        row |= {f"garden: {dose}": 0.5 - 0.01 * dose for dose in (0, 1, 2, 4)}
        row |= {f"{end}{dose}": 0.5 + 0.02 * dose for end in ends for dose in (-4, 4)}
        rows.append(row | {"type": kind, "orbit": i, "history": i, "part": "test"})
        rows.append(
            {
                "jar: -4": 0.3,
                "jar: 4": 0.5,
                "type": kind,
                "orbit": 9 + i,
                "history": 9 + i,
                "part": "probe val",
            }
        )
    null = {
        "random norm": [0.01, -0.05, 0.02],
        "random kl": [0.1, -0.2, 0.05],
        "shuffled": [0.0, 0.0, 0.0],
    }
    null["hide random kl"] = [0.1, 0.0, 0.02]
    return seeds(pd.DataFrame(rows), 2), seeds(draws_of(**null, unembedding=0.5), 2)


def test_slopes_swings_and_half_effects_come_from_sums_alone():
    found = steering.measured(*responses())
    want = {
        "over_random_kl": 0.06,
        "over_random_norm": 0.14,
        "spearman": 1,
        "anti_steerable": 0.25,
        "ed50": 1.2,
    }
    want |= {
        "meals_change": -0.012,
        "transfer_ratio": 0.8,
        "home_hide_slope": 0.01,
        "home_hide_slope_projected": 0.02,
    }
    want |= {
        "primitive_hide_slope": 0,
        "projected_swing": 0.16,
        "cue_swing": 0.16,
        "cue_slope": 0.02,
        "unembedding_share": 0.5,
    }
    want |= {
        "action_vector_swing": 0.16,
        "action_vector_hide": 0.16,
        "slope": 0.5 * 1.78 / 42,
        "seeds_agreeing": 0,
    }
    assert {name: np.ravel(found[name])[0] for name in want} == pytest.approx(want)
    assert (found["random_norm_p"], found["shuffled_label_p"]) == (1 / 16, 1 / 16)
    assert found["home_hide_random_p"] == 4 / 16  # .08 twice, against .1, 0 and .02
    assert found["p"] == found["random_kl_p"] == 4 / 16  # .16 twice, against .1, .2 and .05
    np.testing.assert_allclose(
        steering._spearman(np.array([[1.0, 2, 3, 5, 4, 6, 7], [7, 6, 5, 4, 3, 2, 1]])),
        [27 / 28, -1],
    )
    assert np.isnan(steering._ed50(np.array([0.5, 0.4, 0.4, 0.3])))


# ---- all of them ----


@pytest.mark.parametrize("name", ["H2a", "H2a_future", "H2b", "H6"])
def test_every_measure_that_was_written_down_is_measured(hypotheses, name):
    entry = hypotheses[name]
    makes, measured = {
        "H2a": (sums_of_probes, drift.measured), "H2b": (sums_of_losses, erasure.measured), "H6": (responses, steering.measured),
    }[name.removesuffix("_future")]  # fmt: skip
    found = measured(*makes())
    wanted = {
        *entry["supported"],
        *entry["refuted"],
        *entry["controls"],
        *entry.get("reported", ()),
        "p",
        "null",
    } - {"p_holm"}
    assert wanted - RENAMED <= set(found) and entry["measure"] in found
    assert all(np.isfinite(np.ravel(value)).all() for value in found.values())


def test_gates_are_measured(hypotheses):
    frame, _ = sums_of_probes()
    gates = load_hypotheses(NOTEBOOKS / "hypotheses.yaml")["gates"]
    elsewhere = {"random_hider_auc", "false_positives"}  # of hiding and of instruments
    assert {*gates["G2"], *gates["G3"]} - elsewhere <= set(drift.measured_controls(frame, frame))


def test_p_values_of_several_seeds_count_every_exchange():
    assert exchange_p([1.0], [[0.0, 0.5, 2.0]]) == 0.5
    assert exchange_p([3.0, 3.0], np.zeros((2, 9))) == 0.01
    assert exchange_p([1.0, 0.0], [[0.0], [1.0]]) == 0.75
    assert exchange_p(np.ones(5), np.zeros((5, 30)), most=10_000) < 1e-3
    with pytest.raises(ValueError, match=r"observed \(2,\), null \(1, 3\)"):
        exchange_p([1.0, 2.0], [[0.0, 1.0, 2.0]])


def test_cookies_are_counted_as_they_are_eaten(lives):
    some = lives["test"][:6]
    a, count = some.arrays, 0
    total = corpora.eaten(some)
    for e in range(DAYS):
        for t in range(some.length[3, e]):
            count += int(a["obs"][3, e, 0, 7]) if t == 0 else 0
            assert total[3, e, t] == count
            count += 0 < a["reward"][3, e, t] < 1
    assert count > 0 and (np.diff(corpora.exposure(some)[:, :, 0] // 1000, axis=1) >= 0).all()
