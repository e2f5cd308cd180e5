"""Artefacts from strangers: whatever was done to a folder, it loads equal or raises ArtefactError, soon, and runs nothing.

A hundred cases of each kind here; `ADKIT_FUZZ=2000 make test ARGS=tests/test_untrusted.py` tries two thousand of each.
"""

import copy
import hashlib
import json
import os
import resource
import shutil
import signal
import struct
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import adkit as ad
from adkit import store
from adkit.models import weights
from adkit.store import ArtefactError
from adkit.models.distill import distill

CASES = int(os.environ.get("ADKIT_FUZZ", 100))
DEEP = "as deep as it gets"
HOSTILE = [
    None, True, -1, 0, 1, 2, 1.5, -0.0, 1e308, float("nan"), 10**12, 2**63, 10**30, "", "5", "é☃", "\ud800", "\0", "x" * 5000,
    "../../etc/passwd", "/etc/passwd", "..", ".", "manifest.json", "object", "<img src=x onerror=alert(1)>",
    [], {}, [[1]], [10**12] * 2, [1] * 2000, {"a": 1}, DEEP,
]  # fmt: skip
NAMES = ["x", "../x.npy", "a\0b", "\ud800", "x" * 300, "", "tasks..npy", "action"]
NPY = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }"
HEADERS = [
    NPY % ("|O", "(3,)"), NPY % ("<f8", "(1000000000000,)"), NPY % ("<f8", "(-1,)"), NPY % ("<f8", "(0, 999999999999999999)"),
    NPY % ("<U0", "(1000000000000,)"), NPY % ("<M8[ns]", "(3,)"), NPY % ("<i3", "(3,)"), NPY % ("<U9999", "()"),
    NPY % ("<i8", "(" + "1, " * 99 + ")"), "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (3,), }",
    "__import__('os').system('touch /tmp/owned')", "(" * 3000, "",
]  # fmt: skip


def learn(folder, histories):
    model = ad.CausalTransformer(histories.spec, context=16, layers=1, heads=2, width=4)
    log = distill(
        model,
        histories,
        steps=2,
        batch=2,
        schedule=ad.Schedule(short=0.0),
        precision="float32",
        checkpoint=folder,
    )
    return model, log


@pytest.fixture(scope="module")
def kinds(env, histories, tmp_path_factory):
    """By kind: ({file: bytes}, load(folder))."""
    few = ad.Histories.concatenate([histories[:1], histories[40:42]]).episodes[:3]
    texts = few.task_values.replace(goal=few.task_values["goal"], text=np.array(["é", "<b>"]))
    few = ad.Histories(few.spec, texts, few.task, few.arrays, few.episode, few.about)
    home = tmp_path_factory.mktemp("whole")
    few.save(home / "histories")
    ad.CausalTransformer(env.spec, context=16, layers=2, heads=2, width=4).save(
        home / "transformer"
    )
    ad.RecurrentPolicy(env.spec, width=3).save(home / "recurrent")
    learn(home / "checkpoint", few)
    loads = {
        "histories": ad.Histories.load, "transformer": ad.CausalTransformer.load, "recurrent": ad.RecurrentPolicy.load,
        "checkpoint": lambda folder: learn(folder, few), "on disk": lambda folder: ad.Histories.load(folder, mapped=True),
    }  # fmt: skip
    shutil.copytree(home / "histories", home / "on disk")
    read = lambda name: {file.name: file.read_bytes() for file in (home / name).iterdir()}
    table = {name: (read(name), load) for name, load in loads.items()}
    return lambda kind: table[kind]  # a function, so that no failure prints it all


def content(folder) -> dict:
    """What a folder holds: its arrays as they are on disk, and tensors in whatever order and spacing their header names them."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    plain = lambda file: (
        file.read_bytes()
        if file.suffix == ".npy"
        else weights.pack(weights.unpack(file.read_bytes()))
    )
    return {
        "files": {name: plain(folder / name) for name in manifest["files"]},
        "about": manifest["about"],
    }


def within(part, whole) -> bool:
    """Whether `whole` says all that `part` says; what `part` leaves out has a default."""
    if isinstance(part, dict):
        return part.keys() <= whole.keys() and all(
            within(value, whole[key]) for key, value in part.items()
        )
    return part == whole


# ---- harm ----


def places(tree):
    """Every (container, key) of a JSON tree."""
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


def mutated(rng, tree):
    """The tree with one value replaced, moved, renamed or gone."""
    tree = copy.deepcopy(tree)
    every = list(places(tree))
    container, key = rng.choice(every)
    old, how = container[key], rng.choice(["hostile", "near", "gone", "renamed", "another's"])
    if how == "hostile":
        container[key] = rng.choice(HOSTILE)
    elif how == "near":
        container[key] = old + rng.choice([-1, 1, 0.5]) if isinstance(old, int | float) else [old]
    elif how == "another's":
        other, name = rng.choice(every)
        container[key] = copy.deepcopy(other[name])
    else:
        del container[key]
        if how == "renamed" and isinstance(container, dict):
            container[rng.choice([*NAMES, f"{key} "])] = old
    return tree


def text_of(tree) -> bytes:
    nested = "[" * 50_000 + "]" * 50_000
    return json.dumps(tree, indent=1).replace(f'"{DEEP}"', nested).encode()


def flipped(rng, blob: bytes, some: int) -> bytes:
    blob = bytearray(blob)
    for _ in range(rng.randint(1, some)):
        near = rng.random() < 0.5
        at = rng.randint(0, (min(len(blob), 160) if near else len(blob)) - 1)
        blob[at] ^= rng.randint(1, 255)
    return bytes(blob)


def harmed(rng, name: str, blob: bytes) -> bytes:
    """One file's bytes, changed as a bad disk would or as a stranger may."""
    hows = ["flip", "flip", "cut", "longer", "inside"] + ["header"] * 2 * (name != store.MANIFEST)
    how = rng.choice(hows)
    if how == "flip":
        return flipped(rng, blob, 4)
    at = rng.randint(0, len(blob) - 1)
    if how != "header":
        return {
            "cut": blob[:at],
            "longer": blob + blob[at:],
            "inside": blob[:at] + b"\n" + blob[at:],
        }[how]
    if name.endswith(".npy"):
        head = rng.choice(HEADERS).encode()
        size = struct.unpack("<H", blob[8:10])[0]
        return blob[:8] + struct.pack("<H", len(head) + 1) + head + b"\n" + blob[10 + size :]
    size = struct.unpack("<Q", blob[:8])[0]
    head = text_of(mutated(rng, json.loads(blob[8 : 8 + size])))
    return struct.pack("<Q", len(head)) + head + blob[8 + size :]


def misplaced(rng, folder, name) -> None:
    """Something in a file's place that is no plain file, or not there at all."""
    file, away = folder / name, folder.parent / "away"
    shutil.move(file, away)
    match rng.choice(["gone", "link", "dangling", "device", "pipe", "folder", "loop"]):
        case "link":
            file.symlink_to(away)
        case "dangling":
            file.symlink_to(folder / "nowhere")
        case "device":
            file.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "loop":
            file.symlink_to(file)


def harm(rng, folder, files) -> bool:
    """Harm a folder in one way; whether by a stranger, who puts the hashes right again."""
    name = rng.choice(sorted(files))
    manifest = json.loads(files[store.MANIFEST])
    how = rng.choice(["bytes", "stranger's bytes", "manifest", "stranger's manifest", "place"])
    if how == "place":
        misplaced(rng, folder, name)
        return False
    if how == "bytes" or (name == store.MANIFEST and how == "stranger's bytes"):
        (folder / name).write_bytes(harmed(rng, name, files[name]))
        return False
    if how == "stranger's bytes":
        blob = harmed(rng, name, files[name])
        (folder / name).write_bytes(blob)
        manifest["files"][name] = {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
    else:
        manifest = mutated(rng, manifest)
    by_stranger = how != "manifest"
    if by_stranger:
        try:
            manifest = store.seal(manifest)
        except ValueError:  # what cannot be written as text
            by_stranger = False
    (folder / store.MANIFEST).write_bytes(text_of(manifest))
    return by_stranger


class Hang(Exception):
    """It took too long; no OSError, which might be caught."""


@contextmanager
def no_longer_than(seconds: int):
    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def no_more_than(size: int):
    """Bytes beside those that the process has now: what asks for more is refused it, whether it would ever touch it or not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("kind", ["histories", "on disk", "transformer", "recurrent", "checkpoint"])
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(rng=st.randoms(use_true_random=True))
def test_a_harmed_artefact_loads_equal_or_says_so(kinds, kind, tmp_path_factory, rng):
    files, load = kinds(kind)
    home = tmp_path_factory.getbasetemp() / "harmed"
    shutil.rmtree(home, ignore_errors=True)
    folder = home / "it"
    folder.mkdir(parents=True)
    for name, blob in files.items():
        (folder / name).write_bytes(blob)
    by_stranger = harm(rng, folder, files)
    try:
        with no_longer_than(30):
            loaded = load(folder)
    except ArtefactError as error:
        assert str(error).isprintable() and len(str(error)) < 2000
        return
    whole = folder
    if not by_stranger:  # then it must be what was saved, whatever the folder says now
        whole = home / "whole"
        whole.mkdir()
        for name, blob in files.items():
            (whole / name).write_bytes(blob)
    if kind == "checkpoint":
        network, log = (
            weights.pack(loaded[0].state_dict()),
            loaded[1].reset_index().to_dict("records"),
        )
        kept = json.loads((whole / "manifest.json").read_bytes())["about"]["log"]
        if len(kept) == len(log):  # else it went on from there
            assert log == kept and network == weights.pack(
                weights.unpack((whole / "weights.safetensors").read_bytes())
            )
        return
    assert within(content(whole), content(loaded.save(home / "again")))
    assert repr(loaded).encode()


# ---- sizes ----


def resealed(folder, change):
    """Change a folder as a stranger may: its manifest is whole again afterwards."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    change(manifest)
    (folder / "manifest.json").write_bytes(text_of(store.seal(manifest)))
    return folder


@pytest.mark.parametrize(
    ("kind", "changed", "says"),
    [
        ("transformer", {"width": 10**6, "heads": 1}, "tensor 'blocks.0"),
        ("transformer", {"context": 10**12}, "tensor 'embed_tokens"), ("transformer", {"layers": 10**9}, "must be in 1 to 256"),
        ("transformer", {"cardinality": [10**12]}, "1,024 entries up to 2.31"),
        ("transformer", {"cardinality": [2**31]}, "tensor 'embed_tokens.table'"),
        ("recurrent", {"width": 10**6}, "tensor 'logits.weight'"),
        ("recurrent", {"cardinality": None, "shape": [2**31, 2**31]}, "complete network"),
        ("histories", {"horizon": 10**12}, "horizon="), ("histories", {"cardinality": [5] * 100_000}, "has 100000 entries"),
        ("histories", {"n_actions": 2.5}, "give whole numbers"), ("histories", {"horizon": 2**31 - 1}, "lifetimes need"),
        ("histories", {"cardinality": [5, 2]}, "out of range"),
    ],
)  # fmt: skip
def test_no_memory_is_taken_for_sizes_that_the_files_have_not(kinds, kind, changed, says, tmp_path):
    """Some megabytes at most, whatever a manifest of a kilobyte asks for."""
    files, load = kinds(kind)
    for name, blob in files.items():
        (tmp_path / name).write_bytes(blob)

    def ask(manifest):
        for part in (manifest["about"]["spec"], manifest["about"].get("config", {})):
            part.update({name: value for name, value in changed.items() if name in part})

    resealed(tmp_path, ask)
    with no_more_than(2**26), pytest.raises(ArtefactError, match=says):
        load(tmp_path)


def test_more_memory_than_is_allowed_is_not_had():
    for take in (lambda: np.empty(2**28, np.uint8), lambda: torch.empty(2**28, dtype=torch.uint8)):
        with no_more_than(2**26), pytest.raises((MemoryError, RuntimeError)):
            take()


def test_a_sparse_manifest_of_a_terabyte_is_not_read(kinds, tmp_path):
    with open(tmp_path / "manifest.json", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(ArtefactError, match="no manifest has more than"):
        kinds("histories")[1](tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../a.npy", ".a.npy", "a/b.npy", "a\\b.npy", "a\nb.npy", "", "manifest.json", "x" * 300],
)
def test_what_could_not_be_loaded_is_not_saved(name, tmp_path):
    with pytest.raises(ValueError, match="cannot be a file's name"):
        store.save(tmp_path / "it", "test", {name: b""}, {})
    with pytest.raises(
        ValueError,
        match="dtype object cannot be stored; artefacts hold bool, integers, floats and text",
    ):
        store.save(tmp_path / "it", "test", {"a.npy": np.array([None])}, {})
    assert not os.listdir(tmp_path)


def test_an_artefact_made_before_manifests_were_sealed_still_loads(kinds, tmp_path):
    for kind in ("histories", "transformer", "recurrent"):
        files, load = kinds(kind)
        for name, blob in files.items():
            (tmp_path / name).write_bytes(blob)
        manifest = json.loads(files["manifest.json"])
        del manifest["sha256"]
        (tmp_path / "manifest.json").write_bytes(text_of(manifest))
        load(tmp_path)
