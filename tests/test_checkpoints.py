"""Checkpoints of a training: which folders they may go to, which parameters they hold, and how often they are kept."""

from importlib import import_module

import pytest
import torch

import adkit as ad

ENV = ad.envs.Watermaze(view=(8, 8), n_tasks=8)


@pytest.fixture(scope="module")
def walks():
    return ad.collect(ENV, ENV.tasks(), ad.sources.Random(), episodes=3)


def trained(walks, **how):
    """A model whose eye was taught first, and is frozen; and the losses."""
    model = ad.CausalTransformer(ENV.spec, context=100, layers=1, width=16)
    ad.pretrain_encoder(model, walks, steps=2, batch=8)
    return model, ad.distill(model, walks, **{"steps": 6, "batch": 2} | how).loss.tolist()


def test_a_training_with_a_frozen_eye_goes_on_where_it_was_stopped(walks, tmp_path, monkeypatch):
    module = import_module("adkit.models.distill")
    kept, save = tmp_path / "checkpoint", module.save
    kept.mkdir()  # as tempfile.mkdtemp does

    def once(*given):
        save(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(module, "save", once)
        trained(walks, checkpoint=kept)
    (whole, losses), (resumed, again) = trained(walks), trained(walks, checkpoint=kept)
    assert losses == again
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )
