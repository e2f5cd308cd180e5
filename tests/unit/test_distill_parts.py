"""Parts of a training step: schedules, the loss of grouped windows, processes."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import scrambled
from torch.nn import functional as F

import adkit as ad
from adkit.models import distill as distill_module
from adkit.models.distill import Loss
from adkit.models.tokens import tokenize
from adkit.models.training import Processes, ahead, auto_dtype, half_decay


def test_learning_rates_rise_stay_and_fall_to_a_tenth():
    schedule = ad.Schedule(warm_up=10, decay=0.5)
    factors = [schedule.factor(step, 100) for step in range(100)]
    assert factors[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert set(factors[10:51]) == {1.0}
    assert np.diff(factors[50:]) == pytest.approx(-0.9 / 50) and factors[-1] > 0.1
    assert [half_decay(step, 100, 10) for step in (0, 9, 50, 75, 99)] == pytest.approx(
        [0.1, 1, 1, 0.5, 0.02]
    )


@torch.no_grad()
@pytest.mark.parametrize("loss", [Loss(), Loss(first_action_weight=4.0), Loss(label_smoothing=0.3)])
def test_the_loss_of_groups_and_of_shares_is_that_of_all_at_once(days, loss):
    model = ad.CausalTransformer(days.spec, context=320, layers=2, heads=2, width=32, seed=1)
    model, windows = scrambled(model), days.windows(np.arange(12), np.zeros(12, int), 20)
    tokens = tokenize(days.spec, windows)
    real, target = tokens.target >= 0, torch.as_tensor(tokens.target)
    how = {"label_smoothing": loss.label_smoothing, "reduction": "none"}
    nats = F.cross_entropy(model(tokens.to(model.device)).mT, target, **how).numpy()
    first = tokens.previous_action == days.spec.n_actions
    weight = np.where(first, loss.first_action_weight, 1.0) * real
    whole = (nats * weight).sum() / weight.sum()
    parts = list(loss.parts(model, windows))
    assert len(parts) == 4 and sum(parts).item() == pytest.approx(whole, abs=1e-5)
    halves = [{name: x[rows] for name, x in windows.items()} for rows in np.split(np.arange(12), 2)]
    shared = sum(part.item() for half in halves for part in loss.parts(model, half, windows))
    assert shared == pytest.approx(whole, abs=1e-5)


@torch.no_grad()
def test_a_predicted_label_adds_its_squared_error(days):
    eaten = days.arrays["reward"].sum(2)
    labelled = replace(days, arrays=days.arrays | {"eaten": eaten})
    # untrained, the model predicts 0
    model = ad.CausalTransformer(days.spec, context=320, layers=1, width=16, predictions=1)
    windows = labelled.windows(np.arange(12), np.zeros(12, int), 20, True)
    plain = sum(Loss().parts(model, windows)).item()
    loss = Loss(predict="eaten", mean=2.0, deviation=3.0)
    error = np.square((windows["eaten"] - 2.0) / 3.0).mean()
    assert sum(loss.parts(model, windows)).item() == pytest.approx(plain + 0.5 * error, rel=1e-4)


def test_an_interrupted_training_keeps_its_log(days, monkeypatch):
    model, taken = ad.CausalTransformer(days.spec, context=320, layers=1, width=8), [1.5, 2.0]
    monkeypatch.setattr(distill_module, "descend", lambda *_: taken.pop())
    with pytest.raises(IndexError):  # a KeyboardInterrupt would end pytest
        ad.distill(model, days, steps=5, batch=2)
    assert model.log.loss.tolist() == [2.0, 1.5] and model.log.index.tolist() == [1, 2]


def test_processes_that_found_different_checkpoints_stop(monkeypatch):
    monkeypatch.setattr("accelerate.utils.gather_object", lambda steps: [*steps, 0])
    Processes(torch.device("cpu"), 0, 2).check_equal(0, None)
    with pytest.raises(ValueError, match=r"different checkpoints in 'here', after \[40, 0\] steps"):
        Processes(torch.device("cpu"), 0, 2).check_equal(40, "here")


def test_bfloat16_is_for_processors_that_multiply_it(monkeypatch):
    for able in ({"avx512_bf16": True}, {}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        wanted = torch.bfloat16 if able else torch.float32
        assert auto_dtype("auto", torch.device("cpu")) == wanted


def test_work_ahead_comes_in_order_and_its_errors_where_they_belong():
    begun = []

    def work(item: int) -> float:
        begun.append(item)
        time.sleep(0.01 * (item % 2))
        return 1 / (5 - item)

    drawn = ahead(work, range(100))
    assert not begun and [next(drawn) for _ in range(5)] == [1 / 5, 1 / 4, 1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(drawn)
    assert 5 < max(begun) < 10
    assert list(ahead(work, range(3), threads=9)) == [1 / 5, 1 / 4, 1 / 3]
