"""Behaviour and artefacts of the version before the rebuild; golden.py says what is compared."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from golden import differences, losses, of_histories, same, tiny, worlds

import adkit as ad

SAVED = Path(__file__).parent / "artefacts"
NOTES = json.loads((SAVED / "notes.json").read_text())


@pytest.mark.parametrize("group", ["envs", "histories", "study"])
def test_nothing_changed(group):
    assert differences(group) == []


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("name", ["histories", "labelled", "poses"])
def test_saved_histories_load(name, mapped):
    assert of_histories(ad.Histories.load(SAVED / name, mapped=mapped)) == NOTES[name]


def test_a_saved_model_loads_and_computes_the_same():
    model = ad.CausalTransformer.load(SAVED / "model")
    logits = ad.record(model, ad.Histories.load(SAVED / "room"), "logits").array
    found = ["numbers", float(np.nansum(logits)), float(np.nanstd(logits))]
    assert same(NOTES["model logits"], found)


def test_a_saved_recurrent_policy_loads():
    weights = ad.RecurrentPolicy.load(SAVED / "recurrent").state_dict().values()
    found = ["numbers", *(float(values.abs().sum()) for values in weights)]
    assert same(NOTES["recurrent weights"], found)


def test_a_saved_checkpoint_resumes(tmp_path):
    """12 of 24 steps were taken by the old version; the rest gives the losses it would have had."""
    shutil.copytree(SAVED / "checkpoint", tmp_path / "checkpoint")
    histories, model = ad.Histories.load(SAVED / "room"), tiny(worlds()["room"])
    found = losses(model, histories, steps=24, checkpoint=tmp_path / "checkpoint")
    assert same(NOTES["checkpoint losses"], found)
