"""Encoders of pictures learn from pictures and actions alone, or from a teacher that sees poses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import adkit as ad

ENV = ad.envs.Watermaze(view=(12, 16), n_tasks=200)


@pytest.fixture(scope="module")
def walks():
    return ad.collect(ENV, ENV.tasks(), ad.sources.Random(), episodes=10)


def make(view, seed=0):
    spec = ad.envs.Watermaze(view=view).spec
    return ad.CausalTransformer(spec, context=100, layers=1, width=16, seed=seed)


def places(model, histories):
    """Return (places (n, PLACE), poses (n, 3)) of every fifth step."""
    poses = histories.arrays["obs"].reshape(-1, 3)[::5]
    with torch.no_grad():
        z = model.embed_tokens.encoder.locate(torch.as_tensor(poses), torch.float32)
    return z.numpy(), poses


def error(model, train, test):
    """Return the median error of (x, y) read linearly from the places, fitted on other walks."""
    one = lambda z: np.c_[z, np.ones(len(z))]
    (z, pose), (z_test, pose_test) = places(model, train), places(model, test)
    fit = np.linalg.lstsq(one(z), pose[:, :2], rcond=None)[0]
    return np.median(np.linalg.norm(one(z_test) @ fit - pose_test[:, :2], axis=1))


def test_pictures_and_actions_alone_teach_where_a_picture_was_taken(walks):
    model, train, test = make((12, 16)), walks[:160], walks[160:]
    before = error(model, train, test)
    nothing = np.median(np.hypot(*test.arrays["obs"].reshape(-1, 3)[:, :2].T))
    log = ad.pretrain_encoder(model, train, steps=200, batch=64)
    assert log.told_apart.iloc[-10:].mean() > 20 * log.told_apart.iloc[0]
    assert log.loss.iloc[-1] < np.log(64 * 7) / 2
    assert error(model, train, test) < 0.85 * before and before > 0.6 * nothing
    z, _ = places(model, train)
    np.testing.assert_allclose(z.mean(0), 0, atol=0.2)
    np.testing.assert_allclose(z.std(0), 1, atol=0.2)


def test_shuffled_actions_teach_less(walks):
    """What is left is what pictures taken soon after one another have in common."""
    shuffled = np.random.default_rng(0).permuted(walks.arrays["action"], axis=2)
    other = replace(walks, arrays={**walks.arrays, "action": shuffled})
    train = lambda h: ad.pretrain_encoder(make((12, 16)), h, steps=150, batch=64)
    right, wrong = (train(h).told_apart.iloc[-10:].mean() for h in (walks, other))
    assert right > 1.3 * wrong


def test_the_students_encoder_learns_the_teachers_outputs():
    env = ad.envs.Watermaze(view=(8, 8), n_tasks=8)
    histories = ad.collect(env, env.tasks(), ad.sources.Random(), episodes=3)
    student, teacher = make((8, 8)), make("pose", 1)
    log = ad.distill_encoder(student, teacher, histories, steps=60, batch=128)
    assert log.error.iloc[-10:].mean() < 0.5 * log.error.iloc[0]
    mine, theirs = student.state_dict(), teacher.state_dict()
    same = {name for name in theirs if name in mine and torch.equal(mine[name], theirs[name])}
    assert same == {name for name in theirs if not name.startswith("embed_tokens.encoder")}


@pytest.mark.parametrize("view", [(8, 12), "pose", "nothing"])
def test_training_reaches_every_parameter_and_lowers_the_loss(view):
    env = ad.envs.Watermaze(ends="platform", view=view, n_tasks=400)
    histories = ad.collect(env, env.tasks()[:30], ad.sources.GoalSearch(), episodes=6)
    model = ad.CausalTransformer(env.spec, context=100, layers=1, heads=2, width=16)
    before = {name: value.clone() for name, value in model.named_parameters()}
    precision = "bfloat16" if view == "pose" else "float32"
    log = ad.distill(model, histories, steps=20, batch=8, precision=precision)
    assert log["loss"].iloc[-5:].mean() < log["loss"].iloc[:5].mean() - 0.02
    assert all(not torch.equal(before[name], value) for name, value in model.named_parameters())
