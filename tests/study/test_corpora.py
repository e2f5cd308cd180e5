"""Which lifetimes are judged, at which decisions, and after which edits."""

import numpy as np
import pytest
from study import corpora, interventions

from adkit.cookieworld.world import DECOY, DX, DY, EAT, HIDE, POSITION, STOCK, VISIBLE


def xy(obs):
    return np.stack(np.divmod(obs[..., POSITION].astype(int), 5), -1)


def test_test_layouts_are_never_trained_on(judged):
    trained = corpora.training("main", 50, seed=0, days=2)
    assert not set(trained.task_values["orbit"]) & set(judged.arrays["orbit"])
    assert not trained.labels and len(set(trained.task.tolist())) == 50
    assert set(np.unique(judged.arrays["type"])) == {0, 2, 4}


def test_shuffled_days_are_the_same_days():
    plain, shuffled = (
        corpora.training(corpus, 20, 0, days=6).arrays["obs"]
        for corpus in ("main", "episode shuffled")
    )
    assert not np.array_equal(plain, shuffled)
    for one, other in zip(plain, shuffled, strict=True):
        assert sorted(day.tobytes() for day in one) == sorted(day.tobytes() for day in other)


def test_sites_are_what_they_are_called(judged):
    where, obs = corpora.sites(judged), judged.arrays["obs"]
    assert not where["cookie visible"][:, : corpora.LATE].any()
    assert not where["home late"][:, :, 1:].any()
    assert (where["first visible"].sum(2) <= 1).all() and not where["first visible"][:, :, 0].any()
    assert (obs[where["empty home"]][:, STOCK] == 1).all()
    assert not (where["unrelated"] & where["decision"]).any()
    assert obs[where["cookie visible"]][:, VISIBLE].all()
    assert (where["cookie visible"] <= where["jar in view"]).all()
    assert not (where["garden alone in view"] & where["jar in view"]).any()
    assert all(here.any() for here in where.values())


def test_going_for_the_jar_brings_it_nearer(judged):
    jar, real, at = corpora.directed(judged), corpora.sites(judged)["all"], xy(judged.arrays["obs"])
    place = judged.task_values["jar"][judged.task][:, None, None]
    distance = lambda at: np.abs(at - place).sum(-1)
    for move, by in enumerate(zip(DX, DY, strict=True)):
        closer = distance((at + by).clip(0, 4)) < distance(at)
        np.testing.assert_array_equal(jar[real, move], closer[real])
    np.testing.assert_array_equal(jar[real, EAT], (distance(at) == 0)[real])
    assert jar[real, EAT].any() and not jar[..., [4, 6, 7]].any()


def test_cookies_ahead_count_the_next_five_days(judged):
    eaten, ahead = (judged.arrays["reward"] == 0.5).sum(2), corpora.cookies_ahead(judged)
    np.testing.assert_allclose(ahead[:, 3], eaten[:, 3:8].sum(1) / 5)
    np.testing.assert_allclose(ahead[:, -1], eaten[:, -1])


@pytest.mark.parametrize("kind", interventions.EDITS)
def test_an_edit_is_possible_and_changes_only_what_it_says(judged, kind):
    made = interventions.edit(kind, judged, 12)
    assert made.after.n_episodes == 13 and len(made.rows)
    before, after, row = made.before.arrays, made.after.arrays, np.arange(len(made.rows))
    if kind == "stock":
        assert ((made.sign > 0) == (after["obs"][:, 12, 0, STOCK] == 2)).all()
    if kind == "delay":  # it is compared at the same place
        places = before["obs"][row, 12, made.at, :4], after["obs"][row, 12, made.moved, :4]
        np.testing.assert_array_equal(*places)
    past = [(before[n][:, :12] != after[n][:, :12]).any() for n in ("obs", "action", "reward")]
    assert any(past) == (kind == "lapse")
    at, moves = xy(after["obs"][:, 12]), np.zeros((9, 2), int)
    moves[: len(DX)] = np.stack([DX, DY], 1)
    led = (at[:, :-1] + moves[after["action"][:, 12, :-1]]).clip(0, 4)
    until = np.arange(at.shape[1] - 1) < made.moved[:, None]
    assert until.any() or kind in interventions.MORNING_EDITS
    np.testing.assert_array_equal(led[until], at[:, 1:][until])  # it goes where its actions lead
    if kind in interventions.MORNING_EDITS:
        late = corpora.sites(judged)["home late"][:, 12, 0]
        assert late[made.rows].all() and not late.all()


def test_edits_do_to_the_filter_what_they_mean(effects):
    mean = effects.groupby(["kind", "type"])["effect"].mean()
    assert mean["stock", "S"] > 0.3 > abs(mean["stock", "R"]) and mean["cue", "P"] > 1
    decoys = effects[effects["kind"].isin(["decoy", "decoy seen"])]
    assert decoys["effect"].abs().max() < 1e-6


def test_a_predictor_that_follows_the_decoy_is_caught(judged):
    """Whether the decoy was on or off before the edit."""

    def follows(histories):
        p = np.full((*histories.arrays["action"].shape, 8), 0.1)
        p[..., HIDE] += 0.3 * (histories.arrays["obs"][:, :, :1, DECOY] == 2)
        return p

    found = interventions.effects(judged, follows, (12, 20), ("decoy",))
    assert found["effect"].to_numpy() == pytest.approx(0.3)
