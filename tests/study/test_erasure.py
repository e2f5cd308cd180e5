"""H2b and H6: changing what is read costs, changing what is not read costs nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import seeded
from probed import WIDTH, along, check_measures, gathered, transformer
from sklearn.linear_model import Ridge
from study import corpora, erasure, steering
from study.statistics import draws_of

import adkit as ad
from adkit.probing import Steering
from adkit.probing.probes import PENALTIES

TAP = "blocks.0.resid"


@pytest.fixture(scope="module")
def planted(parts):
    """A model and the parts, whose test lifetimes have the model's own policy.

    Its layers do nothing, so what it reads at a token is all it knows; its head never reads the
    last four of sixteen dimensions.
    """
    model = transformer(parts["test"].spec)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("out.weight"):
                parameter.zero_()
        model.head.weight[:, 12:] = 0
        model.embed_tokens.table[:, 12:] *= 0.3
    logits = ad.record(model, parts["test"], "logits").array[:, :, :-1]
    own = {"pi": torch.as_tensor(logits).softmax(-1).numpy()}
    return model, parts | {"test": replace(parts["test"], arrays=parts["test"].arrays | own)}


def erasing(direction, choice):
    """Return the choice with an eraser of another direction as that of w."""
    covariance = (choice.w.axes * choice.w.variance) @ choice.w.axes.T
    deviation = np.sqrt(direction @ covariance @ direction)
    readers, directions = direction[None] / deviation, deviation * direction[:, None]
    return replace(choice, w=replace(choice.w, directions=directions, readers=readers))


def test_erasing_what_is_read_costs_and_what_is_not_read_costs_nothing(planted, monkeypatch):
    model, parts = planted
    head, choice = model.head.weight.detach().double().numpy(), erasure.choose(model, parts)
    assert choice.tap == TAP and list(choice.read) == ["probe train", "probe val"]
    read = (head[1] - head[0]) / np.linalg.norm(head[1] - head[0])
    for direction in (read, np.eye(WIDTH)[15]):
        monkeypatch.setattr(erasure, "choose", lambda *_, d=direction: erasing(d, choice))
        frame, draws = erasure.per_lifetime(model, parts, n=24, random=3)
        found = erasure.measured(seeded(frame), seeded(draws))
        cost = (frame["nats: erased"] - frame["nats: clean"]).sum() / frame["n"].sum()
        assert cost > 0.02 if direction is read else 0 <= cost < 0.004
        assert set(frame["regime"]) <= {"D0", "D2", "D5"} and (frame["regime"] == "D2").sum() == 12
        # what is patched is all that is read later
        np.testing.assert_allclose(found["full_patch_share"], 1, atol=1e-5)


def test_the_tap_is_the_one_that_ridges_read_best_on_validation_lifetimes(parts):
    model, by_hand = transformer(parts["test"].spec, layers=4), {}
    few = {"probe train": parts["probe train"][:30], "probe val": parts["probe val"][:15]}
    pairs = [(h, corpora.sites(h)["cookie visible"]) for h in few.values()]
    y = [corpora.balance(histories)[at] for histories, at in pairs]
    for tap in ("blocks.0.resid", "blocks.1.resid", "blocks.2.resid"):
        x = [ad.record(model, h, tap).array[:, :, :-1][at].astype(float) for h, at in pairs]
        train, val = ((values - x[0].mean(0)) / x[0].std(0) for values in x)
        ridges = [Ridge(alpha=l2 * len(train)).fit(train, y[0]) for l2 in PENALTIES]
        missed = min(np.square(y[1] - ridge.predict(val)).sum() for ridge in ridges)
        by_hand[tap] = 1 - missed / np.square(y[1] - y[0].mean()).sum()
    choice = erasure.choose(model, few)
    assert choice.r2 == pytest.approx(by_hand, rel=1e-3, abs=1e-4)
    assert choice.tap == max(by_hand, key=by_hand.get)


def losses():
    """Drifting lifetimes lose .5 nat a decision, .1 of it at random; stable ones .2, all of it at
    random.
    """
    row = {"n": 10, "w": 5.0, "ww": 4.5, "l: clean": 10.0, "wl: clean": 9}
    row |= {"spread": 100, "missed: erased": 99}
    row |= {"pair base": 1.0, "pair donor": 5.0, "pair full": 4.0}
    row |= {"pair coordinate": 3.0, "pair w": 1.0}
    nats = {"clean": 10.0, "filter": 10.0, "cue": 17}
    names = ("erased", "erased at random", "frozen", "frozen at random", "static")
    drifting = nats | dict(zip(names, (15, 11, 14, 12, 12), strict=True))
    stable = nats | dict(zip(names, (12, 12, 11, 11, 10), strict=True))
    rows = []
    for i, regime in enumerate(("D2", "D2", "D0", "D5")):
        of = drifting if regime == "D2" else stable
        lost = {f"nats: {name}": value for name, value in of.items()}
        rows.append(row | lost | {"regime": regime, "orbit": i, "history": i})
    nulls = {"erased at random": [0.0, 0.1, 0.2], "frozen at random": [0.4, 0.1, 0.2]}
    draws = draws_of(**{name: np.array(x) for name, x in nulls.items()})
    return seeded(pd.DataFrame(rows), 2), seeded(draws, 2)


def test_losses_and_shares_come_from_sums_alone(hypotheses):
    found = erasure.measured(*losses())
    expected = {"drifting_loss": 0.4, "stable_loss": 0, "erased_contrast": 0.3}
    expected |= {"frozen_delta": 0.2, "frozen_contrast": 0.3, "frozen_stable_loss": 0.1}
    expected |= {"frozen_stable_excess": 0, "drift_tracking_value": 0.2, "cue_erasure": 0.7}
    expected |= {"full_patch_share": 0.75, "interchange_fidelity": 1}
    expected |= {"after_erasure_r2": 0.01, "random_p": 1 / 16}
    expected["frozen_p"] = expected["p"] = 6 / 16  # .3 twice, against .4, .1 and .2
    check_measures(found, expected, hypotheses["hypotheses"]["H2b"])
    np.testing.assert_allclose(found["null"], np.array([0.4, 0.1, 0.2]) - 0.7 / 3, atol=1e-12)


# ---- H6 ----


class Known:
    """Activations that hold w, cookies eaten and the cue, in a direction each."""

    head = torch.nn.Linear(WIDTH, 8)

    def __call__(self, histories):
        visible = histories.arrays["obs"][..., 1].astype(float)
        values = corpora.balance(histories), corpora.eaten(histories) / 5, visible
        return sum(along(of, i) for i, of in enumerate(values))


def test_vectors_point_at_what_they_are_made_of(parts, monkeypatch):
    pick = lambda *a, **k: {TAP: gathered(*a, **k)[TAP]}
    monkeypatch.setattr(steering, "gather", pick)
    found = steering.vectors(Known(), parts["probe train"], TAP)
    share = lambda vector, i: abs(vector[i]) / np.linalg.norm(vector)
    assert share(found["w"], 0) > 0.95 and share(found["w"], 1) < 0.2  # matched on cookies eaten
    assert share(found["cue"], 2) > 0.95
    head = Known.head.weight.detach().numpy()
    assert np.abs((head - head.mean(1, keepdims=True)) @ found["off"]).max() < 1e-6


@pytest.mark.parametrize("name", ["hide", "unread"])
def test_steering_moves_what_the_head_reads_and_nothing_else(planted, monkeypatch, name):
    model, parts = planted
    head = model.head.weight.detach().double().numpy()
    hide = head[6] - np.delete(head, 6, 0).mean(0)
    known = dict.fromkeys(("off", "cue", "action"), hide)
    known["w"] = hide if name == "hide" else np.eye(WIDTH)[15]
    monkeypatch.setattr(steering, "vectors", lambda *a: known)
    frame, draws = steering.per_lifetime(model, parts, n=16, random=3)
    found = steering.measured(seeded(frame), seeded(draws))
    test = frame[frame["part"] == "test"]
    of_random, of_others = (side for _, side in test.groupby(test["type"] != "R")["hide: 0"])
    assert of_random.isna().all() and of_others.notna().mean() > 0.8
    assert (frame["part"] == "probe val").sum() == 16
    if name == "hide":
        assert found["home_hide_slope"].low > 0.005 < found["primitive_hide_slope"].low
        per_dose = found["action_vector_hide"].estimate / 8
        assert found["home_hide_slope"].estimate == pytest.approx(per_dose, rel=0.5)
    else:
        assert (test["jar: 4"] - test["jar: -4"]).abs().mean() < 0.02
        assert abs(found["home_hide_slope"].estimate) < 0.003 and found["p"] > 0.2


def test_random_vectors_are_scaled_to_the_kl_of_w(planted):
    model, parts = planted
    few, head = parts["test"][:6], model.head.weight.detach().double().numpy()
    unrelated = Steering(model, few, TAP, corpora.sites(few)["unrelated"])
    w, doses = head[1] - head[0], {}

    def jar(vector, dose):
        doses.setdefault(tuple(vector), []).append(dose)
        return dose * np.sign(vector[0]) * np.array([1.0, 3.0])

    swings, draws = steering._random_swings(w, jar, jar, unrelated, random=4, seed=0)
    factors = []
    for vector, asked in doses.items():
        (scaled,) = {abs(dose) for dose in asked} - {4}
        factors.append(scaled / 4)
        kl = unrelated.kl(np.array(vector), factors[-1])
        assert kl == pytest.approx(unrelated.kl(w), rel=0.15)
    np.testing.assert_allclose(draws["random kl"], draws["random norm"] * factors)
    np.testing.assert_allclose(swings, np.mean(factors) * np.array([8, 24]))


def responses():
    """p(C) rises with the dose, in one lifetime of four it falls; S hides more, P does not;
    held-out layouts move .8 times as far.
    """
    up = {-4: 0.3, -2: 0.4, -1: 0.45, 0: 0.5, 1: 0.55, 2: 0.6, 4: 0.62}
    ends = [f"{of}, {which}: " for of in ("jar", "hide") for which in ("off", "cue", "action")]
    rows = []
    for i, (kind, sign) in enumerate((("S", 1), ("P", 1), ("R", 1), ("S", -1))):
        row = {f"jar: {dose}": 0.5 + sign * (p - 0.5) for dose, p in up.items()}
        row["random kl"] = 0.1
        row |= {f"hide: {dose}": 0.4 + 0.01 * dose * (kind == "S") for dose in up if kind != "R"}
        row |= {f"garden: {dose}": 0.5 - 0.01 * dose for dose in (0, 1, 2, 4)}
        row |= {f"{end}{dose}": 0.5 + 0.02 * dose for end in ends for dose in (-4, 4)}
        rows.append(row | {"type": kind, "orbit": i, "history": i, "part": "test"})
        trained = {"type": kind, "orbit": 9 + i, "history": 9 + i, "part": "probe val"}
        rows.append(trained | {"jar: -4": 0.3, "jar: 4": 0.5})
    null = {"random norm": [0.01, -0.05, 0.02], "random kl": [0.1, -0.2, 0.05]}
    draws = draws_of(**null, **{"hide random kl": [0.1, 0.0, 0.02]}, unembedding=0.5)
    return seeded(pd.DataFrame(rows), 2), seeded(draws, 2)


def test_slopes_swings_and_half_effects_come_from_sums_alone(hypotheses):
    found = steering.measured(*responses())
    expected = {"over_random_kl": 0.06, "spearman": 1, "anti_steerable": 0.25}
    expected |= {"ed50": 1.2, "meals_change": -0.012}
    expected |= {"home_hide_slope": 0.01, "home_hide_slope_projected": 0.02}
    expected |= {"primitive_hide_slope": 0, "transfer_ratio": 0.8}
    swings = ("projected_swing", "cue_swing", "action_vector_swing", "action_vector_hide")
    expected |= dict.fromkeys(swings, 0.16) | {"unembedding_share": 0.5, "seeds_agreeing": 0}
    expected["random_norm_p"] = 1 / 16
    expected["random_kl_p"] = expected["p"] = 4 / 16  # .16 twice, against .1, .2 and .05
    expected["home_hide_random_p"] = 4 / 16  # .08 twice, against .1, 0 and .02
    check_measures(found, expected, hypotheses["hypotheses"]["H6"])
    ranks = steering.spearman(np.array([[1.0, 2, 3, 5, 4, 6, 7], [7, 6, 5, 4, 3, 2, 1]]))
    np.testing.assert_allclose(ranks, [27 / 28, -1])
    assert np.isnan(steering.ed50(np.array([0.5, 0.4, 0.4, 0.3])))
