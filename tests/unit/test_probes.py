"""Probes and erasers: what is planted is found on groups never seen, what is not there is not."""

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.linear_model import LogisticRegression, Ridge

import adkit as ad
from adkit.probing import erase, fit
from adkit.probing.erasure import leace
from adkit.probing.labels import Sessions, _nearest
from adkit.probing.record import Recording

N, E, D = 60, 12, 10
GROUPS = np.arange(N) // 2


def walks(rng, *shape):
    """Random walks over episodes: slow, and about nothing."""
    return rng.normal(size=shape).cumsum(1)


def planted():
    """Activations (N, E, D) that hold a slow label (N, E) in one direction, among slow noise."""
    rng = np.random.default_rng(0)
    label, direction = walks(rng, N, E), rng.normal(size=D)
    return label[..., None] * direction + walks(rng, N, E, D), label


def test_property_10_a_probe_on_shuffled_labels_is_at_chance_and_a_planted_label_is_found():
    stream, label = planted()
    rng = np.random.default_rng(1)
    shuffled = fit(stream, rng.permutation(label), groups=GROUPS)
    assert shuffled.score < 0.1 and shuffled.interval.low < 0.05 and shuffled.p > 0.05
    compare = {"untrained": walks(rng, N, E, D), "weak": label + 6 * walks(rng, N, E)}
    probe = fit(stream, label, groups=GROUPS, compare=compare | {"label": label})
    controls = probe.controls
    assert probe.score > 0.6 and probe.interval.low > 0.4 and probe.p <= 1 / 201
    assert controls["untrained"] < 0.1 and controls["shuffled"] < 0.3
    assert controls["shuffled"] == np.quantile(probe.null, 0.95)
    assert controls["weak"] < probe.score < 0.99 < controls["label"]
    assert controls["selectivity"] > 0.4
    assert list(probe.sums) == ["probe", "untrained", "weak", "label"]
    said = str(probe)
    assert "R2 " in said and str(probe.interval) in said and f"p = {probe.p:.2g}" in said
    assert all(f"{score:.3f}" in said for score in controls.values())


def test_the_score_can_be_redone_by_hand():
    stream, label = planted()
    holdout = np.repeat(["train", "val", "test"], [30, 10, 20])
    probe = fit(stream, label, groups=GROUPS, holdout=holdout, l2=1e-3, permutations=0)
    x, y = stream.reshape(-1, D), label.ravel()
    train, test = (np.repeat(holdout, E) == name for name in ("train", "test"))
    x = (x - x[train].mean(0)) / x[train].std(0)
    model = Ridge(alpha=1e-3 * train.sum()).fit(x[train], y[train])
    guess = model.predict(x[test])
    r2 = 1 - ((y[test] - guess) ** 2).sum() / ((y[test] - y[train].mean()) ** 2).sum()
    assert probe.score == probe.sums["probe"].score == pytest.approx(r2)
    assert probe.history.tolist() == list(range(40, 60))
    np.testing.assert_allclose(probe.read(stream[50:52])[..., 0], guess.reshape(20, E)[10:12])
    by_lifetime = lambda values: values.reshape(20, E)
    centred = lambda values: values - by_lifetime(values).mean(1).repeat(E)
    sums = probe.sums["probe"]
    within = sums.within_product.sum() / np.sqrt(sums.within_read.sum() * sums.within_label.sum())
    assert within == pytest.approx(pearsonr(centred(y[test]), centred(guess)).statistic)
    level = by_lifetime(y[test]).mean(1), by_lifetime(guess).mean(1)
    np.testing.assert_allclose(sums.level_missed, E * (level[0] - level[1]) ** 2)
    np.testing.assert_allclose(sums.level_spread, E * (level[0] - y[train].mean()) ** 2)


def test_a_stratum_takes_out_what_two_kinds_of_lifetime_differ_in():
    """Labels and activations both know the regime, and share nothing else."""
    rng = np.random.default_rng(0)
    regime = np.arange(N) % 2
    stream = walks(rng, N, E, D) + 20 * regime[:, None, None]
    label = walks(rng, N, E) + 20 * regime[:, None]
    free, within = (fit(stream, label, stratum=stratum) for stratum in (None, regime))
    assert free.score == within.score > 0.8 and free.p < 0.01 and within.p > 0.05


def test_a_probe_of_names_is_not_selective():
    """Activations that name a kind read any label of kinds, until kinds are held out."""
    rng = np.random.default_rng(0)
    kinds = np.arange(N) // 6
    stream = np.eye(10)[kinds][:, None] + 0.01 * rng.normal(size=(N, E, 10))
    label = np.broadcast_to(rng.normal(size=10)[kinds][:, None], (N, E))
    how = {"groups": kinds, "kinds": kinds, "permutations": 1}
    seen, unseen = (fit(stream, label, holdout=of, **how) for of in ("lifetime", "task"))
    assert seen.interval.low > 0.9 and unseen.interval.low < 0
    assert seen.controls["control task"] > 0.8 and abs(seen.controls["selectivity"]) < 0.2
    other = Sessions.of(stream, label).of_kinds(kinds, rng)
    assert (kinds[other] != kinds).all() and len(set(zip(kinds, other, strict=True))) == 10
    alone = fit(stream, label, groups=kinds, kinds=np.arange(N), permutations=1)
    assert np.isnan(alone.controls["selectivity"])


def test_taps_are_chosen_on_validation_and_the_null_is_the_highest_of_all():
    """One tap holds the label where it is fitted and chosen, the other where it is scored."""
    _, label = planted()
    rng, holdout = np.random.default_rng(4), np.repeat(["train", "val", "test"], N // 3)

    def holds(where):
        signal = (where[:, None] * label)[..., None] * rng.normal(size=D)
        return (signal + 0.1 * walks(rng, N, E, D))[:, :, None]

    values = {"chosen": holds(holdout != "test"), "scored": holds(holdout != "val")}
    recording = Recording(values, np.arange(N), np.zeros(E, int))
    how = {"holdout": holdout, "permutations": 9, "kinds": GROUPS}
    probe = fit(recording, label[:, :, None], compare={"again": recording}, **how)
    assert probe.tap == "chosen" and probe.taps["chosen"] < 0.3 < 0.7 < probe.taps["scored"]
    assert probe.controls["again"] == probe.score == probe.taps["chosen"]
    alone = [fit(stream, label[:, :, None], **how).null for stream in values.values()]
    np.testing.assert_allclose(probe.null, np.max(alone, axis=0))


def test_only_chosen_tokens_are_read_and_groups_are_never_split():
    stream, label = planted()
    where = np.random.default_rng(0).random((N, E)) < 0.3
    probe = fit(stream, np.where(where, label, np.nan), groups=GROUPS, where=where)
    assert probe.score > 0.5 and probe.p < 0.01
    assert np.bincount(probe.history // 2, minlength=30).tolist().count(2) == 9


def test_between_tokens_that_are_read_the_nearest_of_the_same_episode_lends_its_label():
    used = np.zeros((1, 2, 4), bool)
    used[0, :, 0] = True  # the last step of an episode is nearer to the next one's first
    assert _nearest(used).tolist() == [[0, 0, 0, 0, 4, 4, 4, 4]]


def test_a_curved_probe_reads_what_erasing_leaves():
    rng = np.random.default_rng(0)
    stream = rng.normal(size=(200, 5, 4))
    label = stream[..., 1] + stream[..., 0] ** 2
    gone = erase(stream, label)(stream)
    read = lambda x, curved: fit(x, label, curved=curved, permutations=0).score
    assert read(gone, False) < 0.1 < 0.3 < read(stream, False)
    assert read(gone, True) > 0.4


@pytest.mark.parametrize("labels", [1, 3])
def test_leace_equals_an_independent_derivation(labels):
    """By generalised inverses: x - C (C' S^-1 C)^+ C' S^-1 (x - mean), with C = Cov(x, y).

    EleutherAI's concept-erasure 0.2.4 without shrinkage, tried by hand, differs by 2e-13.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 8)) @ rng.normal(size=(8, 8)) + rng.normal(size=8)
    y = x[:, :labels] ** 2 + x @ rng.normal(size=(8, labels))
    erased = leace(x, y)(x)
    s, c = np.cov(x.T, bias=True), (x - x.mean(0)).T @ (y - y.mean(0)) / len(x)
    left = (erased - erased.mean(0)).T @ (y - y.mean(0)) / len(x)
    assert np.abs(left).max() < 1e-8 < np.abs(c).max()
    inverse = np.linalg.inv(s)
    projector = c @ np.linalg.pinv(c.T @ inverse @ c) @ c.T @ inverse
    np.testing.assert_allclose(erased, x - (x - x.mean(0)) @ projector.T, atol=1e-9)


def test_erasing_changes_as_little_as_it_must_and_nothing_that_does_not_vary():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(300, 5)), np.full((300, 1), 7.0)], axis=1)
    eraser = erase(x[:, None], x[:, :1])
    assert np.abs(eraser(x)[:, 1:] - x[:, 1:]).max() < 1 and (eraser(x)[:, 5] == 7).all()
    np.testing.assert_allclose(eraser(eraser(x)), eraser(x), atol=1e-9)
    assert eraser(x.astype(np.float32)).dtype == np.float32
    np.testing.assert_array_equal(erase(x[:, None], np.zeros((300, 1)))(x), x)


@pytest.mark.parametrize("labels", [1, 2])
def test_random_erasers_remove_as_much_variance_and_leave_the_label(labels):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 24)) * np.geomspace(0.5, 2, 24)
    y = x[:, 8 : 8 + labels] + 0.1 * rng.normal(size=(600, labels))
    eraser = leace(x, y)
    for other in eraser.random(20):
        assert other.directions.shape == eraser.directions.shape
        assert other.removed == pytest.approx(eraser.removed, rel=1e-3)
        assert ((other(x) - x) ** 2).sum(1).mean() == pytest.approx(eraser.removed, rel=1e-3)
        np.testing.assert_allclose(other(other(x)), other(x), atol=1e-8)

    def left(eraser):
        erased, high = eraser(x), y[:, 0] > 0
        return LogisticRegression(max_iter=5000).fit(erased, high).score(erased, high)

    assert left(eraser) < 0.65 < 0.8 < np.mean([left(other) for other in eraser.random(20)])


def test_a_real_recording_knows_where_the_agent_stands(histories, model):
    """The column is in the embedding, in labels of tokens and of tasks; noise is not."""
    column = histories.arrays["obs"][..., 0].astype(float)
    stream = ad.record(model, histories, "embed", "blocks.1.resid")
    how = {"where": np.arange(8) < histories.length[..., None], "permutations": 19}
    probe = fit(stream, column, **how)
    assert probe.score > 0.6 and probe.p == 0.05 and set(probe.taps) == {"embed", "blocks.1.resid"}
    noise = np.random.default_rng(0).normal(size=column.shape)
    assert fit(stream, noise, **how).p > 0.05
    goal = histories.task_values["goal"]
    by_token = np.broadcast_to(goal[histories.task][:, None, None], (*column.shape, 2))
    by_task, by_token = (fit(stream, labels, **how) for labels in (goal, by_token))
    assert by_task.score == pytest.approx(by_token.score)
