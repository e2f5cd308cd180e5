"""The error messages of probing."""

import numpy as np
import pytest

import adkit as ad
from adkit.probing import ablate_head, difference_of_means, fit, patch
from adkit.probing.record import only_at

ROOM = ad.envs.DarkRoom(size=5, horizon=8)
LONG = ad.collect(ROOM, ROOM.tasks()[:6], ad.sources.Random(), episodes=5)
WALKS = LONG.episodes[:4]
MODEL = ad.CausalTransformer(ROOM.spec, context=32, layers=2, heads=2, width=16)
STREAM = np.random.default_rng(0).normal(size=(60, 12, 3))


MISTAKES = {
    r"`array` needs a recording of one tap, got embed, blocks.0.resid.*recording\['embed'\]": (
        lambda: ad.record(MODEL, WALKS, "embed", "*resid").array
    ),
    r"`cut` needs an array \(6, 4, 9\) and more, got \(6, 4\)": (
        lambda: ad.record(MODEL, WALKS, changes={"embed": only_at(np.ones((6, 4), bool), abs)})
    ),
    r"labels must have one row per task, 60, or per token, \(60, 12\); got \(7,\)": (
        lambda: fit(STREAM, np.zeros(7))
    ),
    "labels must be finite at every token that is read; choose tokens with `where`": (
        lambda: fit(STREAM, np.full((60, 12), np.nan))
    ),
    "`holdout` must leave tokens for train, val and test, got none for val": (
        lambda: fit(STREAM, np.zeros((60, 12)), holdout=["train", "test"] * 30)
    ),
    "no stratum of `match` contains both high and low; use fewer matching variables": (
        lambda: difference_of_means(STREAM[:8, 0], np.arange(8) > 3, np.arange(8))
    ),
    r"`donor` must have one history per history of `base`, .* got \(5, 4\) in DarkRoom": (
        lambda: patch(MODEL, WALKS, WALKS[:5], "embed", np.sum)
    ),
    r"must fit in the model's window of 4 episodes, got 5; try base.episodes\[:4\]": (
        lambda: patch(MODEL, LONG, LONG, "embed", np.sum)
    ),
    r"`ablate_head` needs blocks.\*.attn.z \(B, heads, S, d\), got \(6, 36, 16\)": (
        lambda: ad.record(MODEL, WALKS, changes={"embed": lambda x, cut: ablate_head(0)(x)})
    ),
}


@pytest.mark.parametrize("says", MISTAKES)
def test_a_mistake_is_told(says):
    with pytest.raises(ValueError, match=says):
        MISTAKES[says]()
