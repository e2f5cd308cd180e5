"""Artefacts from strangers load equal or raise ArtefactError, soon, and run nothing.

A hundred cases of each kind here; `ADKIT_FUZZ=2000` in the environment tries two thousand.
"""

import hashlib
import json
import os
import shutil
import sys
from contextlib import contextmanager, nullcontext

import pytest
from harm import mutated, no_longer_than, no_more_than, resealed, text_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import adkit as ad
from adkit import store
from adkit.store import ArtefactError

CASES = int(os.environ.get("ADKIT_FUZZ", 100))
KINDS = ["histories", "on disk", "transformer", "recurrent", "checkpoint"]


def read(folder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def kinds(env, histories, tmp_path_factory):
    """Return by kind: ({file: bytes}, load(folder))."""
    few, home = histories[:3].episodes[:3], tmp_path_factory.mktemp("whole")
    transformer = lambda: ad.CausalTransformer(env.spec, context=16, layers=2, heads=2, width=4)

    def train(folder):
        model, how = transformer(), {"precision": "float32", "schedule": ad.Schedule(short=0.0)}
        ad.distill(model, few, steps=2, batch=2, checkpoint=folder, **how)
        return model

    few.save(home / "histories")
    few.save(home / "on disk")
    transformer().save(home / "transformer")
    ad.RecurrentPolicy(env.spec, width=3).save(home / "recurrent")
    train(home / "checkpoint").save(home / "trained")
    mapped = lambda folder: ad.Histories.load(folder, mapped=True)
    loads = ad.Histories.load, mapped, ad.CausalTransformer.load, ad.RecurrentPolicy.load, train
    table = {name: (read(home / name), load) for name, load in zip(KINDS, loads, strict=True)}
    table["trained"] = read(home / "trained"), None
    return lambda kind: table[kind]  # a function, so that no failure prints it all


WATCHED = []  # places where files are being opened, or () while nobody looks
sys.addaudithook(lambda event, of: event == "open" and WATCHED and WATCHED.append(of[0]))


@contextmanager
def opened_only_in(home):
    """Fail if a file is opened elsewhere, but for programs and what the system tells."""
    programs = *map(os.path.realpath, (sys.prefix, sys.base_prefix, os.getcwd())), "/proc", "/sys"
    WATCHED.append(str(home))
    try:
        yield
    finally:
        found, WATCHED[:] = WATCHED[:], []
    places = [os.path.realpath(path) for path in found if isinstance(path, str | os.PathLike)]
    assert not [path for path in places if not path.startswith((str(home.resolve()), *programs))]


def put(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, blob in files.items():
        (folder / name).write_bytes(blob)
    return folder


def harmed(rng, blob: bytes) -> bytes:
    """Return a file's bytes, changed as a bad disk would or as a stranger may."""
    at, how = rng.randrange(len(blob)), rng.choice(["flip", "flip in the header", "cut", "longer"])
    if how == "cut":
        return blob[:at]
    if how == "longer":
        return blob[:at] + b"\n" + blob[at:]
    at = at if how == "flip" else at % 160
    return blob[:at] + bytes([blob[at] ^ rng.randint(1, 255)]) + blob[at + 1 :]


def harm(rng, folder, files) -> bool:
    """Harm a folder in one way; return whether by a stranger, who puts the hashes right again."""
    name, how = rng.choice(sorted(files)), rng.choice(["bytes", "manifest", "place"])
    if how == "place":
        (folder / name).unlink()
        rng.choice([os.mkdir, os.mkfifo, lambda file: os.symlink("/dev/zero", file)])(folder / name)
        return False
    manifest, stranger = json.loads(files[store.MANIFEST]), rng.random() < 0.7
    if how == "bytes":
        blob = harmed(rng, files[name])
        (folder / name).write_bytes(blob)
        if name == store.MANIFEST or not stranger:
            return False
        entry = {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
        manifest["files"][name] = entry
    else:
        manifest = mutated(rng, manifest)
    if stranger:
        try:
            manifest = store.seal(manifest)
        except ValueError:  # what cannot be written as text
            stranger = False
    (folder / store.MANIFEST).write_bytes(text_of(manifest))
    return stranger


@pytest.mark.filterwarnings("ignore:Initializing zero-element")  # a width of 0
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(rng=st.randoms(use_true_random=True))
def test_a_harmed_artefact_loads_equal_or_says_so(kinds, kind, tmp_path_factory, rng):
    files, load = kinds(kind)
    home = tmp_path_factory.getbasetemp() / "harmed"
    shutil.rmtree(home, ignore_errors=True)
    by_stranger = harm(rng, put(home / "it", files), files)
    try:
        limit = nullcontext() if kind == "checkpoint" else no_more_than(300 * 2**20)  # it trains
        with no_longer_than(30), limit, opened_only_in(home):
            loaded = load(home / "it")
    except ArtefactError as error:
        assert str(error).isprintable() and len(str(error)) < 2000
        return
    again = read(loaded.save(home / "again"))
    if not by_stranger:  # it must be what was saved
        whole = kinds("trained" if kind == "checkpoint" else kind)[0]
        assert all(again[name] == whole[name] for name in whole if name != store.MANIFEST)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize(
    ("kind", "changed", "says"),
    [
        ("transformer", {"width": 10**6, "heads": 1}, "size mismatch for blocks.0"),
        ("transformer", {"layers": 10**9}, "must be in 1 to 256"),
        ("transformer", {"cardinality": [2**31]}, "size mismatch for embed_tokens.table"),
        ("recurrent", {"width": 10**6}, "size mismatch for logits.weight"),
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
