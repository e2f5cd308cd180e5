"""Sets of lives come by name: in whatever order, and whatever else is among them, what is kept is about the test lives."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from study import corpora, drift

import adkit as ad

DAYS, WIDTH = 10, 4


@pytest.fixture(scope="module")
def lives():
    rng, sets = np.random.default_rng(0), {}
    for i, (part, n) in enumerate({"probe train": 60, "probe val": 30, "test": 40}.items()):
        tasks = corpora.split()[part == "test"].drawn(n, seed=i)
        source = replace(corpora.population(labelled=True), regimes=corpora.JUDGED)
        found = ad.collect(corpora.world(), tasks, source, episodes=DAYS, seed=i)
        beliefs = {
            "belief_rel": corpora.balance(found) + 0.3 * rng.normal(size=(n, DAYS, 1)),
            "orbit": tasks["orbit"][found.task],
        }
        sets[part] = replace(found, arrays=found.arrays | beliefs)
    return sets


@pytest.mark.parametrize(
    "measure", [drift.readings, lambda *given: drift.per_life(*given, {}, permutations=2)[0]]
)
def test_the_order_of_the_parts_changes_nothing(lives, measure, monkeypatch):
    def gathered(model, histories, at, *taps, batch=16):
        noise = np.random.default_rng(len(histories)).normal(size=(*at.shape, WIDTH))
        streams = {
            "embed": noise,
            "blocks.0.resid": noise + 5 * corpora.balance(histories)[..., None],
            "logits": noise,
        }
        return {name: values[at] for name, values in streams.items()}

    monkeypatch.setattr(drift, "gather", gathered)
    usual = measure(None, lives)
    other = {name: lives[name] for name in ("test", "probe val", "probe train")} | {
        "more": lives["test"]
    }
    pd.testing.assert_frame_equal(measure(None, other), usual)
    assert usual["history"].max() < 40 and usual["orbit"].isin(lives["test"].arrays["orbit"]).all()
