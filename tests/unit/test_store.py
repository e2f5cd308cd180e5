"""Artefacts: saved whole or not at all, and refused when they are damaged or hostile."""

import hashlib
import json
import os
import struct
from unittest.mock import DEFAULT, Mock

import numpy as np
import pytest
from harm import no_longer_than, no_more_than, resealed
from helpers import listed

from adkit import folders, store
from adkit.store import ArtefactError

OLD, NEW = ({"b": np.full(size, 7), "a": np.arange(size), "c": b"bytes"} for size in (9, 5000))
MIXED = {
    "flags": np.array([[True, False]]),
    "text": np.array(["é", "<b>"]),
    "columns": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "big": np.arange(3, dtype=">f8"),
    "number": np.array(2.5, np.float32),
    "none": np.zeros((0, 4), bool),
}


def save(path, files=OLD, **how):
    return store.save(path, "test", files, {}, **how)


def load(path, mapped=False):
    return store.load(path, "test", mapped)[0]


def holds(path, files) -> bool:
    found = load(path)
    return list(found) == list(files) and all(map(np.array_equal, found.values(), files.values()))


# ---- saving ----


@pytest.mark.parametrize("mapped", [False, True])
def test_what_is_saved_is_loaded_in_the_same_order(tmp_path, mapped):
    about = {"seed": np.int64(3), "lr": np.float32(0.5), "shape": (1, np.bool_(True))}
    store.save(tmp_path / "it", "test", MIXED, about)
    found, told = store.load(tmp_path / "it", "test", mapped)
    assert told == {"seed": 3, "lr": 0.5, "shape": [1, True]}
    assert list(found) == list(MIXED)
    for name, values in found.items():
        wanted = MIXED[name]
        assert values.shape == wanted.shape and values.dtype == wanted.dtype.newbyteorder("<")
        assert np.array_equal(values, wanted)
    assert mapped == (not found["flags"].flags.writeable)
    np.save(tmp_path / "text.npy", MIXED["text"])
    assert (tmp_path / "it" / "text.npy").read_bytes() == (tmp_path / "text.npy").read_bytes()


def test_the_same_is_not_saved_again_and_other_content_is_refused(tmp_path):
    path = save(tmp_path / "it")
    before = folders.stamp(path / "manifest.json")
    save(path)
    assert folders.stamp(path / "manifest.json") == before
    with pytest.raises(FileExistsError, match=r"already holds something else.*overwrite=True"):
        save(path, NEW)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        load(path / "c")
    assert holds(path, OLD)
    (path / "c").write_bytes(b"damaged")
    assert holds(save(path, NEW, overwrite=True), NEW) and listed(tmp_path) == ["it"]


@pytest.mark.parametrize("what", ["notes", "another kind", "a file", "no manifest"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_only_artefacts_of_the_same_kind_are_overwritten(tmp_path, what, overwrite):
    path = tmp_path / "place"
    if what == "a file":
        path.write_text("mine")
    elif what == "another kind":
        store.save(path, "other", {"c": b"mine"}, {})
    else:
        path.mkdir()
        (path / ("manifest.json" if what == "no manifest" else "notes.txt")).write_text("mine")
    files = lambda: {file: file.read_bytes() for file in tmp_path.rglob("[!.]*") if file.is_file()}
    before = files()
    with pytest.raises(FileExistsError, match="place already holds something else"):
        save(path, overwrite=overwrite)
    assert files() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("function", ["fsync", "rename"])
def test_a_save_that_fails_changes_nothing(tmp_path, monkeypatch, function, existing, error):
    path, real = tmp_path / "it", getattr(os, function)
    if existing:
        save(path)
    for call in range({"fsync": 4, "rename": 1 + existing}[function]):
        calls = Mock(side_effect=[*[DEFAULT] * call, error, DEFAULT], wraps=real)
        says = r"it was not saved \(No space left on device\)|^$"
        with monkeypatch.context() as patch, pytest.raises(type(error), match=says):
            patch.setattr(os, function, calls)
            save(path, NEW, overwrite=True)
        assert listed(tmp_path) == ["it"] * existing and (not existing or holds(path, OLD))
    assert holds(save(path, NEW, overwrite=True), NEW)


def test_what_another_process_retires_and_then_dies_is_put_back(tmp_path, monkeypatch):
    path = save(tmp_path / "it")
    monkeypatch.setattr(folders, "flush", lambda _: path.rename(tmp_path / ".it.old"))
    with no_longer_than(10):
        save(path, NEW, overwrite=True)
    assert holds(path, NEW) and listed(tmp_path) == ["it"]


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    disk, link = tmp_path / "disk" / "it", tmp_path / "here" / "link"
    link.parent.mkdir()
    link.symlink_to(disk)  # to nothing, at first
    for files in (OLD, NEW, OLD):
        assert save(link, files, overwrite=True) == link
        assert holds(link, files) and holds(disk, files) and link.is_symlink()
    assert listed(disk.parent) == ["it"] and listed(link.parent) == ["link"]
    disk.rename(disk.parent / ".it.old")  # what a crash leaves
    assert holds(link, OLD)


ODD_NAMES = ["../a", ".a", "a/b", "", "a\\b", "a\nb", "x" * 300, "manifest.json"]


@pytest.mark.parametrize(
    ("files", "about", "says"),
    [
        *(({name: b""}, {}, "cannot be a file's name") for name in ODD_NAMES),
        ({"a": np.array([None])}, {}, "a: dtype object cannot be stored"),
        ({"a": np.zeros(2, "M8[s]")}, {}, "cannot be stored; give numbers or text"),
        ({}, {"x": {1}}, "'set' object"),
        ({}, {"x": float("nan")}, "not JSON compliant"),
        ({}, {"x": "x" * store.MANIFEST_AT_MOST}, "`about` takes"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, files, about, says):
    with pytest.raises((ValueError, TypeError), match=says):
        store.save(tmp_path / "it", "test", files, about)
    assert not listed(tmp_path)


# ---- finding ----


def test_find_prefers_what_this_checkout_made_and_what_a_crash_retired(tmp_path, monkeypatch):
    monkeypatch.setenv("ADKIT_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="run the notebook that makes it"):
        store.find("room/it")
    for place in ("data", "runs"):
        path = save(tmp_path / place / "room" / "it")
        assert store.find("room/it") == path
    path.rename(path.parent / ".it.old")  # between retiring it and putting the new one there
    assert store.find("room/it") == path and holds(path, OLD)


# ---- loading what is damaged, or a stranger's ----


def manifest(**changed):
    return lambda path: resealed(path, lambda manifest: manifest.update(changed))


def edited(name, old, new):
    """Return a change of a file's bytes, which are as many as before."""
    change = lambda file: file.write_bytes(file.read_bytes().replace(old, new, 1))
    return lambda path: change(path / name)


def instead(name, put):
    """Return a change that puts something else in a file's place."""
    return lambda path: (path / name).unlink() or put(path / name)


def large(path, name, size=3 * 10**9):
    """Make a file of so many zeros that takes no room, as its manifest says."""
    os.truncate(path / name, size)
    resealed(path, lambda manifest: manifest["files"][name].update(bytes=size))


DAMAGE = [
    (instead("manifest.json", lambda file: None), "'manifest.json' is missing"),
    (instead("manifest.json", lambda file: file.write_text("{")), "manifest.json is damaged"),
    (lambda path: os.truncate(path / "manifest.json", 2**40), "it is over 16,777,216 bytes"),
    (edited("manifest.json", b'"about": {}', b'"about": []'), "`about` is no object"),
    (lambda path: (path / "manifest.json").write_bytes(b"[" + b"{}," * 2**22), "1,048,576 values"),
    (lambda path: large(path, "c"), "c has 3,000,000,000 bytes, more than the 100 needed"),
    (edited("manifest.json", b"numpy", b"n_mpy"), "does not match its own sha256"),
    (lambda path: os.truncate(path / "a.npy", 100), "a.npy has 100 bytes, not 200: truncated"),
    (edited("a.npy", b"\1", b"\2"), r"a\.npy does not match its sha256"),
    (instead("a.npy", lambda file: None), "'a.npy' is missing"),
    (instead("a.npy", lambda file: file.symlink_to(file.with_name("b.npy"))), "'a.npy' is missing"),
    (instead("a.npy", os.mkfifo), "'a.npy' is missing, or no plain file"),
    (manifest(files={"../x": {"bytes": 1, "sha256": ""}}), "'../x' is missing, or no plain file"),
    (manifest(format=99), "in format 1, got 'test' in format 99"),
    (manifest(kind="cake"), "must hold 'test' in format 1, got 'cake'"),
    (manifest(files=None), "is damaged"),
    (manifest(files={"a.npy": {}}), "is damaged"),
]


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(("damage", "says"), DAMAGE)
def test_a_damaged_folder_is_refused(tmp_path, damage, says, mapped):
    path = save(tmp_path / "it")
    damage(path)
    with no_longer_than(30), no_more_than(2**26), pytest.raises(ArtefactError, match=says):
        store.load(path, "test", mapped, at_most=lambda about: 100)


@pytest.mark.parametrize("mapped", [False, True])
def test_an_older_artefact_is_loaded(tmp_path, mapped):
    """Its manifest is not sealed, and NumPy itself wrote its arrays."""
    path, columns = save(tmp_path / "it", {"a": OLD["a"]}), np.asfortranarray(np.eye(3)[:2])
    np.save(path / "a.npy", columns)
    reseal_array(path)
    manifest = json.loads((path / "manifest.json").read_bytes())
    del manifest["sha256"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert np.array_equal(load(path, mapped)["a"], columns)


def reseal_array(path):
    blob = (path / "a.npy").read_bytes()
    entry = {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
    resealed(path, lambda manifest: manifest["files"].update({"a.npy": entry}))


HEADER = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }"
PAIRS = [("|O", "(1,)"), ("<f8", "(1000000000000,)"), ("<f8", "(-1, -1)"), ("<f8", "(2,)")]
PAIRS += [("<U0", "(1000000,)"), ("<M8[ns]", "(1,)"), ("<i3", "(3,)"), ("<U9999", "()")]
PAIRS += [("<i8", f"({'1, ' * 99})"), ("|b1", "(8,)"), ("<U2", "()"), ("<U1", "(2,)")]
HEADERS = [HEADER % pair for pair in PAIRS] + ["(" * 3000, "", "__import__('os').abort()"]
HEADERS += ["{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }"]


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("header", HEADERS)
def test_a_strangers_array_is_refused_without_taking_memory(tmp_path, header, mapped):
    path = save(tmp_path / "it", {"a": np.array([1.5])})
    header = header.encode() + b"\n"
    body = b"" if b"U0" in header else b"\xff" * 8  # neither bools, nor text
    body = b"\0\xd8\0\0" * 2 if b"U1" in header else body  # half of a pair
    blob = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + body
    (path / "a.npy").write_bytes(blob)
    reseal_array(path)
    with no_longer_than(30), no_more_than(2**26), pytest.raises(ArtefactError, match="a.npy is no"):
        load(path, mapped)
