"""Models of pictures, poses and nothing: what each reads, and how many pictures it draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import scrambled

import adkit as ad
from adkit.envs import pixels
from adkit.models.encoders import encoder
from adkit.models.tokens import tokenize


@pytest.fixture(scope="module")
def searches():
    maze = ad.envs.Watermaze(ends="platform", n_tasks=400)
    return ad.collect(maze, maze.tasks()[:4], ad.sources.GoalSearch(), episodes=6, seed=0)


def make(view, histories):
    seen = histories.seen_as(view)
    return scrambled(ad.CausalTransformer(seen.spec, context=150, layers=2, width=16)), seen


@torch.inference_mode()
def logits(model, histories, change=lambda obs: obs):
    n = len(histories)
    tokens = tokenize(model.spec, histories.windows(np.arange(n), np.zeros(n, int), 3))
    tokens = replace(tokens, obs=change(tokens.obs)).to(model.device)
    return model(tokens)[tokens.valid]


def test_a_model_of_pictures_reads_nothing_but_pictures(searches, monkeypatch):
    model, seen = make((8, 12), searches)
    plain, nearly = logits(model, seen), lambda obs: obs * np.float32(1 + 1e-6)
    assert torch.equal(plain, logits(model, seen, nearly)), "other poses, the same pictures"
    assert not torch.equal(plain, logits(model, seen, np.negative))
    grey = lambda obs, dtype: torch.zeros(len(obs), 8, 12, 3, dtype=dtype)
    monkeypatch.setattr(model.embed_tokens.encoder, "draw", grey)
    assert torch.equal(logits(model, seen), logits(model, seen, np.negative))


def test_a_blind_model_does_not_read_poses(searches):
    for view, blind in (("nothing", True), ("pose", False)):
        model, seen = make(view, searches)
        assert torch.equal(logits(model, seen), logits(model, seen, np.negative)) == blind
    mirrored = lambda obs: obs * np.array([1, 1, -1], np.float32)  # turned to the other side
    assert not torch.equal(logits(model, seen), logits(model, seen, mirrored))


def test_models_get_the_very_same_pictures(searches):
    poses = torch.as_tensor(searches.arrays["obs"].reshape(-1, 3))
    exact = (pixels.render(poses.numpy()).astype(np.float32) - 128) / 64
    picture = encoder(ad.envs.Watermaze().spec, 8)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        drawn = picture.draw(poses, dtype)
        assert drawn.dtype == dtype and torch.equal(drawn.float(), torch.as_tensor(exact))
