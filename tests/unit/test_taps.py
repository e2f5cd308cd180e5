"""Taps: recorded with each token's own window, edited inside a block and nowhere else."""

import numpy as np
import torch
from helpers import same, scrambled

import adkit as ad
from adkit.models.taps import names


def test_record_takes_wildcards_and_gives_every_token_its_own_window(env, model):
    rollouts = ad.collect(env, env.tasks()[:3], ad.InContext(model), episodes=7, lifetimes=2)
    recording = ad.record(model, rollouts, "blocks.*.resid", "blocks.1.attn.pattern")
    assert sorted(recording.values) == ["blocks.0.resid", "blocks.1.attn.pattern", "blocks.1.resid"]
    assert recording["blocks.0.resid"].shape == (6, 7, 9, 16)
    pattern = recording["blocks.1.attn.pattern"]
    assert pattern.shape == (6, 7, 9, 2, 36)
    assert recording.window_start.tolist() == [0, 0, 0, 0, 3, 3, 3]
    first = ad.record(model, rollouts.episodes[:4], "blocks.0.resid").array
    np.testing.assert_allclose(recording["blocks.0.resid"][:, :4], first, atol=1e-6)
    assert (pattern[:, 5, 0, :, :19] > 0).all()  # two episodes and the token itself
    assert (pattern[:, 5, 0, :, 19:] == 0).all()


def test_an_edit_has_an_effect_inside_its_block_and_none_after_it(env, model):
    act = lambda: ad.collect(env, env.tasks()[:3], ad.InContext(model), episodes=6, seed=2)
    before, taps = act(), [model.get_submodule(name) for name in names(model)]
    with ad.edit(model, {"*.resid": lambda x: x.flip(-1)}):
        during = act()
        with ad.edit(model, {"blocks.1.resid": torch.zeros_like}):
            assert not same(before, during) and not same(during, act())
        assert same(during, act())
    assert same(before, act()) and not any(tap.edits for tap in taps)


def test_recording_packed_windows_changes_no_activation(days, monkeypatch):
    """With patterns a window runs slot by slot; without, packed, and long ones in chunks."""
    monkeypatch.setattr("adkit.models.transformer.CHUNK", 64)
    assert (days.length + 1).sum(1).min() > 64
    model = ad.CausalTransformer(days.spec, context=320, layers=2, heads=2, width=32, seed=1)
    model = scrambled(model)
    packed = ad.record(model, days, "logits", "blocks.0.resid")
    whole = ad.record(model, days, "logits", "blocks.*.attn.pattern")
    real = np.arange(17) <= days.length[..., None]
    np.testing.assert_allclose(packed["logits"][real], whole["logits"][real], atol=1e-5)
    assert not packed["logits"][~real].any()
    put_back = {"blocks.0.resid": lambda x, cut: cut(packed["blocks.0.resid"]).to(x)}
    again = ad.record(model, days, "logits", changes=put_back).array
    np.testing.assert_array_equal(again[real], packed["logits"][real])
