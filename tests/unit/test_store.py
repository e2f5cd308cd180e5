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

from adkit import store
from adkit.store import ArtefactError

OLD, NEW = (
    {"b.npy": np.full(size, 7), "a.npy": np.arange(size), "c": b"bytes"} for size in (9, 5000)
)
MIXED = {
    "flags.npy": np.array([[True, False]]),
    "text.npy": np.array(["é", "<b>"]),
    "columns.npy": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "big.npy": np.arange(3, dtype=">f8"),
    "number.npy": np.array(2.5, np.float32),
    "none.npy": np.zeros((0, 4), np.uint8),
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
    save(tmp_path / "it", MIXED)
    found = load(tmp_path / "it", mapped)
    assert list(found) == list(MIXED)
    for name, values in found.items():
        wanted = MIXED[name]
        assert values.shape == wanted.shape and values.dtype == wanted.dtype.newbyteorder("<")
        assert np.array_equal(values, wanted)
    assert mapped == (not found["flags.npy"].flags.writeable)


def test_numpy_writes_the_same_bytes(tmp_path):
    save(tmp_path / "it")
    np.save(tmp_path / "a.npy", OLD["a.npy"])
    assert (tmp_path / "it" / "a.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()


def test_parts_are_joined_or_leave_nothing_behind(tmp_path):
    parts = [{"x": np.zeros((2, 3))}, {"x": np.zeros((2, 4))}]
    with pytest.raises(ValueError, match=r"x: rows of .*4.* after rows of .*3"):
        store.assemble(tmp_path / "it", "test", parts, {})
    assert not listed(tmp_path)
    rows = np.arange(30, dtype=np.int16).reshape(10, 3)
    parts = ({"x": part} for part in np.split(rows, [4, 7]))
    store.assemble(tmp_path / "it", "test", parts, {"a": 1}, b=rows[0])
    assert holds(tmp_path / "it", {"x.npy": rows, "b.npy": rows[0]})
    assert store.load(tmp_path / "it", "test")[1] == {"a": 1}


def test_the_same_is_not_saved_again_and_other_content_is_refused(tmp_path):
    path = save(tmp_path / "it")
    before = os.stat(path / "manifest.json")
    save(path)
    assert os.stat(path / "manifest.json") == before
    with pytest.raises(FileExistsError, match="already holds something else"):
        save(path, NEW)
    assert holds(path, OLD)
    assert holds(save(path, NEW, overwrite=True), NEW) and listed(tmp_path) == ["it"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("function", ["fsync", "chmod", "rename"])
def test_a_save_that_fails_changes_nothing(tmp_path, monkeypatch, function, existing, error):
    path, real = tmp_path / "it", getattr(os, function)
    if existing:
        save(path)
    for call in range({"fsync": 4, "chmod": 1, "rename": 1 + existing}[function]):
        calls = Mock(side_effect=[*[DEFAULT] * call, error, DEFAULT], wraps=real)
        says = r"it was not saved \(No space left on device\)|^$"
        with monkeypatch.context() as patch, pytest.raises(type(error), match=says):
            patch.setattr(os, function, calls)
            save(path, NEW, overwrite=True)
        assert listed(tmp_path) == ["it"] * existing and (not existing or holds(path, OLD))
    assert holds(save(path, NEW, overwrite=True), NEW)


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
    files = lambda: {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    before = files()
    with pytest.raises(FileExistsError, match="place holds no test.* save under another name"):
        save(path, overwrite=overwrite)
    assert files() == before


def test_below_a_file_there_is_no_place(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="lies below the file .*; save under another name"):
        save(tmp_path / "file" / "x" / "y")


def test_a_damaged_artefact_is_overwritten_and_an_empty_folder_filled(tmp_path):
    path = save(tmp_path / "damaged")
    (path / "c").write_bytes(b"other")
    (tmp_path / "empty").mkdir()
    assert holds(save(path, NEW, overwrite=True), NEW)
    assert holds(save(tmp_path / "empty"), OLD)


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


def test_numbers_of_numpy_are_saved_as_numbers(tmp_path):
    about = {"seed": np.int64(3), "lr": np.float32(0.5), "shape": (1, np.bool_(True))}
    path = store.save(tmp_path / "x", "test", {}, about)
    assert store.load(path, "test")[1] == {"seed": 3, "lr": 0.5, "shape": [1, True]}


@pytest.mark.parametrize(
    ("files", "about", "says"),
    [
        *(({name: b""}, {}, "cannot be a file's name") for name in ("../a.npy", ".a", "a/b", "")),
        *(({name: b""}, {}, "cannot be a file's name") for name in ("a\\b", "a\nb", "x" * 300)),
        ({"manifest.json": b""}, {}, "cannot be a file's name"),
        ({"a.npy": np.array([None])}, {}, "a.npy: dtype object cannot be stored"),
        ({"a.npy": np.zeros(2, "M8[s]")}, {}, "cannot be stored; give numbers or text"),
        ({}, {"x": {1}}, "cannot be saved as JSON; give numbers, text, lists or dicts"),
        ({}, {"x": float("nan")}, "not JSON compliant"),
        ({}, {"x": "x" * store.MANIFEST_AT_MOST}, "`about` takes"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, files, about, says):
    with pytest.raises((ValueError, TypeError), match=says):
        store.save(tmp_path / "it", "test", files, about)
    assert not listed(tmp_path)


# ---- finding ----


def test_find_prefers_what_this_checkout_made(tmp_path, monkeypatch):
    monkeypatch.setenv("ADKIT_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="run the notebook that makes it"):
        store.find("room/it")
    for place in ("data", "runs"):
        path = save(tmp_path / place / "room" / "it")
        assert store.find("room/it") == path


def test_what_a_crash_retired_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("ADKIT_ROOT", str(tmp_path))
    path = save(tmp_path / "runs" / "it")
    path.rename(path.parent / ".it.old")  # between retiring it and putting the new one there
    assert store.find("it") == path and holds(path, OLD)
    path.rename(path.parent / ".it.old")
    assert holds(path, OLD) and listed(path.parent) == ["it"]


# ---- loading what is damaged, or a stranger's ----


def damage(path, how):
    manifest, file = path / "manifest.json", path / "a.npy"
    text = json.loads(manifest.read_bytes())
    match how:
        case "no manifest":
            manifest.unlink()
        case "not JSON":
            manifest.write_text("{")
        case "seal":
            manifest.write_text(json.dumps(text | {"about": {"a": 1}}))
        case "huge":
            os.truncate(manifest, 2**40)
        case "missing":
            file.unlink()
        case "truncated":
            os.truncate(file, 100)
        case "flipped":
            file.write_bytes(file.read_bytes()[:-1] + b"\1")
        case "escape":
            resealed(path, lambda m: m["files"].update({"../x": m["files"].pop("a.npy")}))
        case "linked":
            file.rename(path.parent / "elsewhere")
            file.symlink_to(path.parent / "elsewhere")
        case "pipe":
            file.unlink()
            os.mkfifo(file)
        case _:
            resealed(path, lambda m: m.update(how))


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no manifest", "has no manifest.json; it is not an adkit artefact"),
        ("not JSON", "manifest.json is damaged"), ("seal", "does not match its own sha256"),
        ("huge", "manifest.json is over 16,777,216 bytes"), ("missing", "a.npy is missing"),
        ("truncated", "a.npy has 100 bytes, not 200: truncated"),
        ("flipped", r"a\.npy does not match its sha256"), ("linked", "a.npy cannot be read"),
        ("escape", "'../x' in the manifest is not a plain file"), ("pipe", "not a plain file"),
        ({"format": 99}, "in format 1, got 'test' in format 99"),
        ({"kind": "cake"}, "must hold 'test' in format 1, got 'cake'"),
        ({"files": None}, "is damaged"), ({"files": {"a.npy": {}}}, "is damaged"),
        ({"about": []}, "`about` is no object"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_refused(tmp_path, how, says, mapped):
    path = save(tmp_path / "it")
    damage(path, how)
    with no_longer_than(30), pytest.raises(ArtefactError, match=says):
        load(path, mapped)


@pytest.mark.parametrize("what", ["nothing", "a file"])
def test_no_folder_is_no_artefact(tmp_path, what):
    if what == "a file":
        (tmp_path / "it").write_text("hello")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        load(tmp_path / "it")


def test_an_artefact_made_before_manifests_were_sealed_is_loaded(tmp_path):
    file = save(tmp_path / "it") / "manifest.json"
    manifest = json.loads(file.read_bytes())
    del manifest["sha256"]
    file.write_text(json.dumps(manifest))
    assert holds(tmp_path / "it", OLD)


HEADER = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }"
HEADERS = [
    HEADER % ("|O", "(1,)"), HEADER % ("<f8", "(1000000000000,)"), HEADER % ("<f8", "(-1,)"),
    HEADER % ("<f8", "(2,)"), HEADER % ("<U0", "(1000000,)"), HEADER % ("<M8[ns]", "(1,)"),
    HEADER % ("<i3", "(3,)"), HEADER % ("<U9999", "()"), HEADER % ("<i8", f"({'1, ' * 99})"),
    HEADER % ("|b1", "(8,)"), HEADER % ("<U2", "()"), "(" * 3000, "", "__import__('os').abort()",
    "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }",
]  # fmt: skip


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("header", HEADERS)
def test_a_strangers_array_is_refused_without_taking_memory(tmp_path, header, mapped):
    path = save(tmp_path / "it", {"a.npy": np.array([1.5])})
    header = header.encode() + b"\n"
    body = b"" if b"U0" in header else b"\xff" * 8  # neither bools, nor text
    blob = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + body
    (path / "a.npy").write_bytes(blob)
    entry = {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
    resealed(path, lambda manifest: manifest["files"].update({"a.npy": entry}))
    with no_longer_than(30), no_more_than(2**26), pytest.raises(ArtefactError, match="a.npy is no"):
        load(path, mapped)
