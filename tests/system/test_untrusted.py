"""Artefacts from strangers load equal or raise ArtefactError, soon, and run nothing.

A hundred cases of each kind here; `ADKIT_FUZZ=2000` in the environment tries two thousand.
"""

import hashlib
import json
import os
import shutil
import struct

import numpy as np
import pytest
from harm import mutated, no_longer_than, no_more_than, resealed, text_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import adkit as ad
from adkit import store
from adkit.models.distill import distill
from adkit.models.network import pack_tensors, unpack_tensors
from adkit.store import ArtefactError

CASES = int(os.environ.get("ADKIT_FUZZ", 100))
KINDS = ["histories", "on disk", "transformer", "recurrent", "checkpoint"]


@pytest.fixture(scope="module")
def kinds(env, histories, tmp_path_factory):
    """Return by kind: ({file: bytes}, load(folder))."""
    few, home = histories[:3].episodes[:3], tmp_path_factory.mktemp("whole")
    transformer = lambda: ad.CausalTransformer(env.spec, context=16, layers=2, heads=2, width=4)

    def train(folder):
        model, how = transformer(), {"precision": "float32", "schedule": ad.Schedule(short=0.0)}
        return model, distill(model, few, steps=2, batch=2, checkpoint=folder, **how)

    few.save(home / "histories")
    few.save(home / "on disk")
    transformer().save(home / "transformer")
    ad.RecurrentPolicy(env.spec, width=3).save(home / "recurrent")
    train(home / "checkpoint")
    mapped = lambda folder: ad.Histories.load(folder, mapped=True)
    models = ad.CausalTransformer.load, ad.RecurrentPolicy.load
    loads = dict(zip(KINDS, (ad.Histories.load, mapped, *models, train), strict=True))
    read = lambda name: {file.name: file.read_bytes() for file in (home / name).iterdir()}
    table = {name: (read(name), load) for name, load in loads.items()}
    return lambda kind: table[kind]  # a function, so that no failure prints it all


def put(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, blob in files.items():
        (folder / name).write_bytes(blob)
    return folder


def content(folder) -> dict:
    """Return what a folder holds, in whatever spelling of its files' headers."""
    manifest, files = json.loads((folder / "manifest.json").read_bytes()), {}
    for name in manifest["files"]:
        if name.endswith(".npy"):
            values = np.load(folder / name)
            files[name] = values.dtype, values.shape, values.tobytes()
        else:
            files[name] = pack_tensors(unpack_tensors((folder / name).read_bytes()))
    return {"files": files, "about": manifest["about"]}


def within(part, whole) -> bool:
    """Return whether `whole` says all that `part` says; the rest has defaults."""
    if isinstance(part, dict):
        return all(key in whole and within(value, whole[key]) for key, value in part.items())
    return part == whole


# ---- harm ----


def harmed(rng, name: str, blob: bytes) -> bytes:
    """Return a file's bytes, changed as a bad disk would or as a stranger may."""
    at, how = rng.randrange(len(blob)), rng.choice(["flip", "flip", "cut", "longer", "header"])
    if how == "flip":
        at = rng.choice([at, at % 160])
        return blob[:at] + bytes([blob[at] ^ rng.randint(1, 255)]) + blob[at + 1 :]
    if how != "header" or not name.endswith(".safetensors"):
        return blob[:at] + (blob[:0] if how == "cut" else b"\n" + blob[at:])
    size = struct.unpack("<Q", blob[:8])[0]
    head = text_of(mutated(rng, json.loads(blob[8 : 8 + size])))
    return struct.pack("<Q", len(head)) + head + blob[8 + size :]


def harm(rng, folder, files) -> bool:
    """Harm a folder in one way; return whether by a stranger, who puts the hashes right again."""
    name, how = rng.choice(sorted(files)), rng.choice(["bytes", "manifest", "place"])
    if how == "place":
        (folder / name).unlink()
        rng.choice([os.mkdir, os.mkfifo, lambda file: os.symlink("/dev/zero", file)])(folder / name)
        return False
    manifest, blob = json.loads(files[store.MANIFEST]), harmed(rng, name, files[name])
    if how == "manifest":
        manifest = mutated(rng, manifest)
    else:
        (folder / name).write_bytes(blob)
        if name == store.MANIFEST:
            return False
        entry = {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
        manifest["files"][name] = entry
    if rng.random() < 0.3:  # the hashes stay wrong
        if how == "manifest":
            (folder / store.MANIFEST).write_bytes(text_of(manifest))
        return False
    try:
        (folder / store.MANIFEST).write_bytes(text_of(store.seal(manifest)))
    except ValueError:  # what cannot be written as text
        (folder / store.MANIFEST).write_bytes(text_of(manifest))
    return True


@pytest.mark.filterwarnings("ignore:Initializing zero-element")  # a width of 0
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(rng=st.randoms(use_true_random=True))
def test_a_harmed_artefact_loads_equal_or_says_so(kinds, kind, tmp_path_factory, rng):
    files, load = kinds(kind)
    home = tmp_path_factory.getbasetemp() / "harmed"
    shutil.rmtree(home, ignore_errors=True)
    folder, whole = put(home / "it", files), put(home / "whole", files)
    by_stranger = harm(rng, folder, files)
    try:
        with no_longer_than(30):
            loaded = load(folder)
    except ArtefactError as error:
        assert str(error).isprintable() and len(str(error)) < 2000
        return
    whole = folder if by_stranger else whole  # else it must be what was saved
    if kind == "checkpoint":
        kept, log = content(whole), loaded[1].reset_index().to_dict("records")
        if len(kept["about"]["log"]) == len(log):  # else it went on from there
            assert log == kept["about"]["log"]
            network = pack_tensors(loaded[0].state_dict())
            assert network == kept["files"]["weights.safetensors"]
        return
    assert within(content(whole), content(loaded.save(home / "again"))) and repr(loaded)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize(
    ("kind", "changed", "says"),
    [
        ("transformer", {"width": 10**6, "heads": 1}, "tensor 'blocks.0"),
        ("transformer", {"context": 10**12}, "tensor 'embed_tokens"),
        ("transformer", {"layers": 10**9}, "must be in 1 to 256"),
        ("transformer", {"cardinality": [10**12]}, "1,024 sizes of 1 to 2.31"),
        ("transformer", {"cardinality": [2**31]}, "tensor 'embed_tokens.table'"),
        ("recurrent", {"width": 10**6}, "tensor 'logits.weight'"),
        ("recurrent", {"width": 0}, "complete network"),
        ("recurrent", {"cardinality": None, "shape": [2**31, 2**31]}, "complete network"),
        ("histories", {"horizon": 10**12}, "`horizon` must be 1 to 2"),
        ("histories", {"cardinality": [5] * 100_000}, "1,024 sizes"),
        ("histories", {"horizon": 2**31 - 1}, "lifetimes in DarkRoom need"),
    ],
)
def test_no_memory_is_taken_for_sizes_that_the_files_have_not(kinds, kind, changed, says, tmp_path):
    files, load = kinds(kind)

    def ask(manifest):
        for part in (manifest["about"]["spec"], manifest["about"].get("config", {})):
            part.update({name: value for name, value in changed.items() if name in part})

    resealed(put(tmp_path, files), ask)
    with no_longer_than(30), no_more_than(2**26), pytest.raises(ArtefactError, match=says):
        load(tmp_path)
