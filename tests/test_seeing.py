"""Encoders of pictures: what a student learns from its teacher, and what one learns from pictures and actions alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import adkit as ad
from adkit.envs import pixels

ENV = ad.envs.Watermaze(view=(12, 16), n_tasks=200)


@pytest.fixture(scope="module")
def walks():
    return ad.collect(ENV, ENV.tasks(), ad.sources.Random(), episodes=10)


def make(view, seed=0, **changes):
    spec = ad.envs.Watermaze(view=view, **changes).spec
    return ad.CausalTransformer(spec, context=100, layers=1, width=16, seed=seed)


def places(model, lives):
    """(places (n, PLACE), poses (n, 3)) of every fifth step."""
    poses = lives.arrays["obs"].reshape(-1, 3)[::5]
    with torch.no_grad():
        return model.embed_tokens.encoder.locate(
            torch.as_tensor(poses), torch.float32
        ).numpy(), poses


def error(model, train, test):
    """Median error of (x, y) as a linear function of the places, fitted on other walks."""
    one = lambda z: np.c_[z, np.ones(len(z))]
    (z, pose), (z_test, pose_test) = places(model, train), places(model, test)
    fit = np.linalg.lstsq(one(z), pose[:, :2], rcond=None)[0]
    return np.median(np.linalg.norm(one(z_test) @ fit - pose_test[:, :2], axis=1))


def test_pictures_and_actions_alone_teach_it_where_it_is(walks):
    model, train, test = make((12, 16)), walks[:160], walks[160:]
    before, nothing = (
        error(model, train, test),
        np.median(np.hypot(*test.arrays["obs"].reshape(-1, 3)[:, :2].T)),
    )
    log = ad.pretrain_encoder(model, train, steps=200, batch=64)
    assert (
        log.told_apart.iloc[-10:].mean() > 20 * log.told_apart.iloc[0]
        and log.loss.iloc[-1] < np.log(64 * 7) / 2
    )
    assert error(model, train, test) < 0.85 * before and before > 0.6 * nothing
    z, _ = places(model, train)
    np.testing.assert_allclose(z.mean(0), 0, atol=0.2)
    np.testing.assert_allclose(z.std(0), 1, atol=0.2)


def test_it_is_the_actions_that_teach_it(walks):
    """Told other actions than those taken, it learns only what pictures taken soon after one another have in common."""
    shuffled = np.random.default_rng(0).permuted(walks.arrays["action"], axis=2)
    other = replace(walks, arrays={**walks.arrays, "action": shuffled})
    logs = [
        ad.pretrain_encoder(make((12, 16)), lives, steps=150, batch=64) for lives in (walks, other)
    ]
    assert logs[0].told_apart.iloc[-10:].mean() > 1.3 * logs[1].told_apart.iloc[-10:].mean()


def test_what_it_has_learned_to_see_is_left_alone_by_distillation(walks):
    model = make((12, 16))
    ad.pretrain_encoder(model, walks, steps=2, batch=8)
    eye = [weight.clone() for weight in model.embed_tokens.encoder.eye.parameters()]
    reads = model.embed_tokens.encoder.inner.weight.clone()
    ad.distill(model, walks, steps=3, batch=2)
    assert all(
        torch.equal(a, b)
        for a, b in zip(eye, model.embed_tokens.encoder.eye.parameters(), strict=True)
    )
    assert not torch.equal(reads, model.embed_tokens.encoder.inner.weight)


def test_no_pose_reaches_it_but_through_the_picture(walks, monkeypatch):
    """With pictures of nothing there is nothing to learn."""
    monkeypatch.setattr(
        pixels,
        "render",
        lambda pose, size, kind, out: np.zeros((len(pose), *size, 3), out.dtype),
    )
    log = ad.pretrain_encoder(make((12, 16)), walks, steps=20, batch=16)
    assert log.loss.iloc[-1] > 0.99 * np.log(16 * 7)


@pytest.mark.parametrize(
    ("view", "changes", "says"),
    [
        ("pose", {}, "a model with view='pose' sees no pictures"), ((12, 16), dict(steps=0), "steps=0; give at least 1"),
        ((24, 32), {}, "view=\\(24, 32\\), and this is Watermaze"), ((12, 16), dict(ahead=50), "more than 50 steps; give ahead=49"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_refused(walks, view, changes, says):
    with pytest.raises(ValueError, match=says):
        ad.pretrain_encoder(make(view), walks, **changes)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("where", [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")])
def test_a_teacher_may_be_on_another_device(walks, where):
    student, teacher = make((12, 16)).to(where[0]), make("pose", 1).to(where[1])
    assert np.isfinite(ad.distill_encoder(student, teacher, walks, steps=2, batch=8).error).all()


def test_the_students_encoder_learns_what_the_teachers_says():
    env = ad.envs.Watermaze(view=(8, 8), n_tasks=8)
    lives = ad.collect(env, env.tasks(), ad.sources.Random(), episodes=3)
    make = lambda view, seed: ad.CausalTransformer(
        lives.seen_as(view).spec, context=100, layers=1, width=16, seed=seed
    )
    student, teacher = make((8, 8), 0), make("pose", 1)
    log = ad.distill_encoder(student, teacher, lives, steps=60, batch=128)
    assert log.error.iloc[-10:].mean() < 0.5 * log.error.iloc[0]
    mine, theirs = student.state_dict(), teacher.state_dict()
    assert all(
        torch.equal(mine[name], theirs[name])
        for name in theirs
        if not name.startswith("embed_tokens.encoder")
    )
    with pytest.raises(ValueError, match="both must be shown something"):
        ad.distill_encoder(make("nothing", 0), teacher, lives)
    with pytest.raises(ValueError, match="student and teacher differ in n_actions"):
        ad.distill_encoder(ad.CausalTransformer(ad.envs.DarkRoom().spec), teacher, lives)
