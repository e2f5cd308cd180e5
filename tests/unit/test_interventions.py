"""Recording, patching, erasing and steering: an effect where it must be, none elsewhere."""

import numpy as np
import pytest
import torch
from helpers import sliding

import adkit as ad
from adkit.probing import (
    Steering,
    action_probability,
    difference_of_means,
    erase,
    erasure_effect,
    off_unembedding,
    patch,
)
from adkit.probing.erasure import _frozen
from adkit.probing.record import only_at, pick
from adkit.probing.steering import DOSES

ROOM = ad.envs.DarkRoom(size=5, horizon=8)
LAKE = ad.envs.from_gymnasium("FrozenLake-v1", horizon=8, is_slippery=False)  # episodes end early
LAST = "blocks.1.resid"


@pytest.fixture(scope="module", params=[ROOM, LAKE], ids=["room", "lake"])
def world(request):
    return sliding(request.param, lifetimes=6)


@pytest.fixture(scope="module")
def pair():
    """Lifetimes on six tasks, and other lifetimes as their donors."""
    walk = lambda seed: ad.collect(
        ROOM, ROOM.tasks()[:6], ad.sources.Random(), episodes=4, seed=seed
    )
    return walk(3), walk(4)


def prefers(action, where=(slice(None), -1, 7)):
    """The outcome (N,): the logit of an action minus the mean, at one token of each lifetime."""
    return lambda logits: (logits - logits.mean(-1, keepdims=True))[(*where, action)]


# ---- recording ----


def test_a_change_everywhere_is_an_edit_and_one_somewhere_leaves_the_past_alone(world):
    model, histories = world
    clean = ad.record(model, histories).array
    double = lambda x: 2 * x
    with ad.edit(model, {"blocks.0.resid": double}):
        edited = ad.record(model, histories, "logits", batch=4).array
    changes = {"blocks.0.resid": lambda x, cut: double(x)}
    changed = ad.record(model, histories, batch=4, changes=changes).array
    np.testing.assert_array_equal(edited, changed)

    late = np.zeros(clean.shape[:3], bool)
    late[::2, 5, 1] = True  # episode 5 is in the second and third windows
    for at in (late, late[:, :, :-1]):  # tokens, or decisions
        changes = {"blocks.0.resid": only_at(at, double)}
        moved = np.abs(ad.record(model, histories, changes=changes).array - clean)
        assert not moved[1::2].any() and not moved[:, :5].any() and not moved[:, 5, 0].any()
        assert moved[::2, 5, 1].min() > 0


def test_resuming_saves_time_and_changes_nothing(world):
    """From every stream between blocks, with and without a change there."""
    model, long = world
    histories, at = long.episodes[:4], np.zeros((6, 4, 9), bool)
    at[::2, 1, 1] = True
    change = only_at(at, lambda x: x.flip(-1))
    run = lambda tap, resume, **changes: (
        ad.record(model, histories, tap, changes=changes, resume=resume).array
    )
    resumes = [(tap, [tap]) for tap in ("embed", "blocks.0.resid", LAST)]
    for changed, taps in [*resumes, ("blocks.0.resid", ["blocks.0.resid", LAST])]:
        resume = ad.record(model, histories, *taps)
        for changes in ({}, {changed: change}):
            for tap in (LAST, "logits"):
                whole = run(tap, None, **changes)
                np.testing.assert_allclose(run(tap, resume, **changes), whole, atol=1e-6)
    # nothing to resume from: it comes later, or there are more episodes than the window has
    np.testing.assert_array_equal(run("embed", resume), run("embed", None))
    sliding = ad.record(model, long, resume=ad.record(model, long, "blocks.0.resid"))
    np.testing.assert_array_equal(sliding.array, ad.record(model, long).array)


# ---- patching ----


def test_patching_the_whole_stream_brings_the_donors_behaviour(model, pair):
    base, donor = pair
    early, read = np.zeros((2, 6, 4, 9), bool)
    early[:, 1, :], read[:, 3, 7] = True, True
    at = {"early": early, "read": read}
    patched = patch(model, base, donor, "*resid", prefers(0), positions=at)
    assert patched.taps == ("blocks.0.resid", LAST) and patched.positions == ("early", "read")
    assert np.abs(patched.donor - patched.base).max() > 1e-3
    # the last stream where it is read is the answer, and is read nowhere else
    np.testing.assert_allclose(patched.patched[1, 1], patched.donor, atol=1e-5)
    moved, whole = patched.patched[1] - patched.base, patched.donor - patched.base
    np.testing.assert_allclose(moved.mean(-1) / whole.mean(), [0, 1], atol=1e-4)
    assert np.abs(patched.patched[0, 0] - patched.base).max() > 1e-3


def test_a_donor_whose_episodes_ended_at_other_times_gives_the_same_steps_activations(world):
    """In FrozenLake episodes end at different steps: a step is elsewhere in the packed window."""
    model, histories = world
    base, donor = histories[:3].episodes[:4], histories[3:].episodes[:4]
    read = np.arange(9) <= np.minimum(base.length, donor.length)[..., None]
    read &= np.random.default_rng(0).random(read.shape) < 0.5
    total = lambda logits: np.where(read, logits[..., 0] - logits.mean(-1), 0).sum((1, 2))
    at = {"here": read, "nowhere": np.zeros_like(read)}
    run = lambda donor, tap: patch(model, base, donor, tap, total, positions=at)
    patched = run(donor, "*resid")
    np.testing.assert_allclose(patched.patched[-1, 0], patched.donor, atol=1e-4)
    assert np.abs(patched.donor - patched.base).min() > 1e-3
    both = np.arange(9) <= np.minimum(base.length, donor.length)[..., None]
    early = "blocks.0.resid"
    every = patch(model, base, donor, early, total).patched
    there = patch(model, base, donor, early, total, positions={"both": both}).patched
    np.testing.assert_array_equal(every, there)
    heads, own = run(donor, "blocks.1.attn.z"), run(base, "blocks.*.attn.z")
    here, nowhere = heads.patched[0] - heads.base
    assert np.abs(here).min() > 1e-4 and not nowhere.any()
    np.testing.assert_allclose(own.patched, np.broadcast_to(own.base, (2, 2, 3)), rtol=1e-5)


def test_a_subspace_or_an_erasers_coordinate_is_patched_beside_the_whole(model, pair):
    base, donor = pair
    read, rng = np.zeros((6, 4, 9), bool), np.random.default_rng(0)
    read[:, 3, 7] = True
    run = lambda of: patch(model, base, donor, LAST, prefers(0), positions={"": read}, subspace=of)
    whole, one = run(rng.normal(size=(16, 16))), run(rng.normal(size=16))
    np.testing.assert_allclose(whole.patched, whole.full, atol=1e-5)
    assert np.abs(one.patched - one.full).max() > 1e-3
    streams = [ad.record(model, histories, LAST).array for histories in pair]
    eraser = erase(np.concatenate(streams), rng.normal(size=(12, 4, 9)))
    moved = (streams[1] - streams[0]) @ eraser.readers.T @ eraser.directions.T
    changes = {LAST: lambda x, cut: x + (cut(read)[..., None] * cut(moved)).to(x)}
    by_hand = prefers(0)(ad.record(model, base, changes=changes).array)
    np.testing.assert_allclose(run(eraser).patched[0, 0], by_hand, atol=1e-5)


# ---- erasing ----


@pytest.fixture(scope="module")
def own(model, histories):
    """Lifetimes, the stream, the model's logits, and the loss against its own choices."""
    some = histories[:40]
    logits = ad.record(model, some).array
    policy = torch.as_tensor(logits[:, :, :-1]).softmax(-1).numpy()
    nats = lambda found: -(policy * torch.as_tensor(found[:, :, :-1]).log_softmax(-1).numpy())
    return (
        some,
        ad.record(model, some, LAST),
        logits,
        lambda found: nats(found).sum(-1).mean((1, 2)),
    )


def as_large(effect):
    """Return how many random erasures have as large a mean effect."""
    return (effect.random.mean(1) >= effect.erased.mean()).sum()


def test_erasing_what_is_used_costs_more_than_erasing_at_random(model, own):
    """The logit margin of action 0 is used, noise is not."""
    some, stream, logits, loss = own
    used = erase(stream, logits[..., 0] - logits.mean(-1))
    effect = erasure_effect(model, some, {LAST: used}, loss, random=19)
    assert as_large(effect) == 0 and (effect.erased - effect.random).mean() > 0.02
    noise = erase(stream, np.random.default_rng(0).normal(size=logits.shape[:3]))
    unused = erasure_effect(model, some, {LAST: noise}, loss, random=19)
    assert as_large(unused) > 0 and (unused.erased - unused.random).mean() < 0.02
    with ad.edit(model, {LAST: used}):
        np.testing.assert_allclose(loss(ad.record(model, some).array), effect.erased, atol=1e-6)
    nowhere = np.zeros(logits.shape[:3], bool)
    effect = erasure_effect(model, some, {LAST: used}, loss, random=1, at=nowhere)
    np.testing.assert_array_equal(effect.erased, effect.clean)


def test_a_frozen_coordinate_stays_at_its_lifetimes_mean_and_a_random_one_moves_as_far(model, own):
    some, stream, logits, _ = own
    eraser = erase(stream, logits[..., 0] - logits.mean(-1))
    at, before = np.zeros(logits.shape[:3], bool), stream.array
    at[:, 2:5, 1:4] = True
    where = {"at": at, "stream": before, "like": eraser}
    run = lambda change: ad.record(model, some, LAST, changes={LAST: change}).array
    after = run(_frozen(eraser, **where))
    np.testing.assert_array_equal(after[~at], before[~at])
    for n in range(len(some)):
        read = after[n][at[n]] @ eraser.readers.T
        np.testing.assert_allclose(read, (before[n][at[n]] @ eraser.readers.T).mean(), atol=1e-4)
    other = run(_frozen(eraser.random(1)[0], **where))
    moved = lambda after: np.square(after - before).sum()
    assert moved(other) == pytest.approx(moved(after), rel=1e-3)
    size = lambda found: np.abs(found - logits).sum((1, 2, 3))
    effect = erasure_effect(model, some, {LAST: eraser}, size, at=at, random=1, freeze=True)
    frozen = size(ad.record(model, some, changes={LAST: _frozen(eraser, **where)}).array)
    np.testing.assert_allclose(effect.erased, frozen, rtol=1e-5)
    assert not effect.clean.any() and effect.random.all()


def test_outcomes_are_means_over_the_decisions_that_were_taken(world):
    model, histories = world
    logits, action = ad.record(model, histories).array, histories.arrays["action"]
    where = np.zeros(action.shape, bool)
    where[3, 2] = True
    log_p = torch.as_tensor(logits[3, 2]).log_softmax(-1).numpy()
    wanted = np.arange(logits.shape[-1]) < np.full((*action.shape, 1), 2)
    p = action_probability(wanted, where)(logits)
    assert np.isnan(np.delete(p, 3)).all()
    assert p[3] == pytest.approx(np.exp(log_p[:8, :2]).sum(-1).mean(), rel=1e-5)


# ---- steering ----


def test_a_factor_brings_a_vector_to_equal_kl(model, histories):
    at = np.zeros((40, 8, 8), bool)
    at[:, :, 3] = True
    steering, rng = Steering(model, histories[:40], LAST, at), np.random.default_rng(0)
    one, other = rng.normal(size=(2, 16))
    factor = steering.factor(other, steering.kl(one))
    assert steering.kl(other, factor) == pytest.approx(steering.kl(one), rel=0.1)
    assert steering.kl(one, 0.0) == pytest.approx(0, abs=1e-9)
    stream = steering.stream.array
    add = 0.2 * np.linalg.norm(pick(stream, at), axis=-1).mean() * one / np.linalg.norm(one)
    moved = stream + (np.pad(at, [(0, 0), (0, 0), (0, 1)])[..., None] * add).astype(np.float32)
    by_hand = ad.record(model, histories[:40], changes={LAST: lambda x, cut: cut(moved)}).array
    np.testing.assert_allclose(steering.logits(7 * one, 2.0), by_hand, atol=1e-5)


def test_nothing_is_left_at_the_last_layer_without_the_unembedding(model, histories):
    """Along the head's own direction for action 0 the logits move; off the head's they do not."""
    head = model.head.weight.detach().numpy().astype(float)
    vector = head[0] - head[1:].mean(0)
    left, share = off_unembedding(vector + 0.1, model)
    assert share > 0.9 and off_unembedding(left, model)[1] < 1e-9
    steering, late = Steering(model, histories[:40], LAST), (slice(None), slice(4, None), slice(8))
    response = lambda v, dose: prefers(0, late)(steering.logits(v, dose)).mean()
    doses = [response(vector, dose) for dose in DOSES]
    assert (np.diff(doses) > 0).all()
    assert abs(response(left, 1) - response(left, -1)) < 0.2 * (response(vector, 1) - doses[2])


def test_means_are_compared_within_strata():
    """Label and stratum are confounded: unmatched, the difference is mostly the confound."""
    rng = np.random.default_rng(0)
    stratum = rng.integers(5, size=400)
    high = rng.random(400) < stratum / 5  # none of stratum 0
    x = 10 * stratum[:, None] * np.eye(3)[0] + high[:, None] * np.eye(3)[1]
    x += 0.1 * rng.normal(size=(400, 3))
    np.testing.assert_allclose(difference_of_means(x, high, stratum), [0, 1, 0], atol=0.05)
    assert difference_of_means(x, high)[0] > 5
