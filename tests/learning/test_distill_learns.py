"""Distillation trains: the loss falls, validation is logged, labels are predicted."""

from dataclasses import replace

import numpy as np
import pytest
from golden import differences
from probe_worlds import OneFault

import adkit as ad
from adkit import store


def test_training_lowers_the_loss_and_logs_validation(env):
    train, held_out = env.tasks().split(0.8, seed=0)
    source = ad.sources.PosteriorSampling()
    histories, unseen = (
        ad.collect(env, tasks, source, episodes=8, lifetimes=8) for tasks in (train, held_out)
    )
    model = ad.CausalTransformer(env.spec, context=32, width=32)
    validation = ad.Validation(env, unseen, every=30)
    log = ad.distill(model, histories, steps=60, batch=16, validation=validation)
    assert log.index.tolist() == list(range(1, 61))
    assert log.loss.iloc[-10:].mean() < 0.75 * np.log(5)
    validated = log.dropna()
    assert validated.index.tolist() == [30, 60] and (validated.val_loss < np.log(5)).all()
    assert validated.val_return.iloc[-1] > 0.3


def test_only_memory_across_episodes_solves_the_world_that_needs_it():
    """One of two actions is rewarded; which one is the task."""
    env = OneFault("across episodes")
    source = ad.sources.QLearning(lr=0.5, exploration=0.4)
    histories = ad.collect(env, env.tasks(), source, episodes=8, lifetimes=128)
    model = ad.CausalTransformer(env.spec, context=32, layers=2, width=32)
    ad.distill(model, histories, steps=80, batch=32)
    policy = ad.RecurrentPolicy(env.spec, width=16)
    log = ad.distill_recurrent(policy, histories, episodes=8, steps=150, batch=32, lr=1e-2)
    assert log.loss.iloc[-1] < 0.8 * log.loss.iloc[0]

    def returns(agent):
        how = {"episodes": 8, "lifetimes": 64, "seed": 1}
        return ad.collect(env, env.tasks(), agent, **how).returns

    for student in (ad.InContext(model), ad.RL2(policy)):
        found = returns(student)
        assert found[:, :, -2:].mean() > 0.9 * 4 and ad.stats.improvement(found).low > 0.5
    wiped = returns(ad.InContext(model, memory="episode"))
    assert abs(ad.stats.improvement(wiped).estimate) < 0.3


def test_a_model_learns_to_predict_a_label(days):
    eaten = (days.arrays["reward"] == 0.5).sum(2).astype(np.float32)
    days = replace(days, arrays=days.arrays | {"eaten before": eaten.cumsum(1) - eaten})
    model = ad.CausalTransformer(days.spec, context=320, layers=2, width=32, predictions=1, seed=1)
    schedule = ad.Schedule(from_start=1.0, short=0.0)
    log = ad.distill(model, days, steps=60, batch=12, schedule=schedule, predict="eaten before")
    predicted = ad.record(model, days, "prediction").array[:, :, 0, 0]
    label = days.arrays["eaten before"]
    assert np.corrcoef(predicted.ravel(), label.ravel())[0, 1] > 0.7
    assert log.loss.iloc[-10:].mean() < log.loss.iloc[:10].mean() - 0.3


def test_a_nan_loss_stops_training_before_a_checkpoint(env, histories, tmp_path):
    model = ad.CausalTransformer(env.spec, context=32, layers=1, width=16)
    how = {"steps": 60, "batch": 4, "checkpoint": tmp_path / "c"}
    with pytest.raises(ValueError, match="the loss became nan; lower the learning rate"):
        ad.distill(
            model, histories, **how, schedule=ad.Schedule(lr=1e37, matrix_lr=1e30, warm_up=0)
        )
    _, about = store.load(tmp_path / "c", "distillation checkpoint")
    assert about["log"] == [], "only the weights to begin with are there"


@pytest.mark.parametrize("group", ["training", "rollouts"])
def test_losses_and_actions_are_those_of_before_the_rebuild(group):
    assert differences(group) == []
