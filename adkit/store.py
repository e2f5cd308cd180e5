"""Save and load a folder of arrays with a manifest: atomic, hashed, no pickle.

A concurrent reader of a folder sees the old version or the new one, never a mixture. Artefacts may
come from strangers: nothing in them is run, and every size is checked against the file before
memory is taken for it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

import numpy as np

from adkit import folders

FORMAT = 1
MANIFEST = folders.MANIFEST
MANIFEST_AT_MOST = 2**24  # bytes; the log of 100,000 training steps fits
VALUES_AT_MOST = 2**20  # in a manifest: read, each may take a hundred bytes
KINDS = "biufU"  # of dtypes: bool, integers, floats and text
UNTRACKED = {"trackfd": False} if sys.version_info >= (3, 13) else {}  # else one more open file
PIECE = 2**24  # bytes of a mapped array in memory at a time


class ArtefactError(ValueError):
    """A folder that is not, or no longer, what its manifest says."""

    def __init__(self, message: str):
        """Keep the message short and printable: it may quote the folder."""
        super().__init__(shown(message, 1500))


def shown(text: object, most: int = 300) -> str:
    """Return a stranger's text as it can be shown anywhere: short, and no control characters."""
    text = str(text)
    text = text if len(text) <= most else f"{text[: most - 3]}..."
    return "".join(c if c.isprintable() else "?" for c in text)


# ---- saving ----


def save(
    path: str | Path,
    kind: str,
    files: dict[str, np.ndarray | bytes],
    about: dict,
    overwrite: bool = False,
    parts: Iterable[dict[str, np.ndarray]] = (),
    rows: int = 0,
) -> Path:
    """Write arrays, as NAME.npy, and bytes to the folder `path`, whole or not at all.

    `parts` of further arrays, one in memory at a time, are joined along the first axis, to `rows`
    in all. `about` must be JSON, NumPy's numbers included. Saving the same content again does
    nothing. Other content raises FileExistsError, unless `overwrite` is given and the folder holds
    an artefact of the same kind. A link is followed. After an error the old content is untouched.
    """
    asked = path = Path(path)
    if path.is_symlink():
        path = path.resolve()
    folders.recover(path)
    before = folders.stamp(path)
    with folders.new_beside(path) as folder:
        folder.mkdir()
        names = [_write(folder, name, value) for name, value in files.items()]
        for part in parts:
            names += [_write(folder, name, value, rows) for name, value in part.items()]
        manifest = _describe(folder, names, kind, about)
        _check_size(text := json.dumps(manifest, indent=1).encode())
        (folder / MANIFEST).write_bytes(text)
        folders.flush(folder)
        with folders.locked(path.parent):
            folders.put_back(path)  # else reading it would wait for this lock
            there = _manifest_at(path, kind)
            if there and all(there[name] == manifest[name] for name in ("files", "about")):
                return asked
            if not (folders.vacant(path) or (overwrite and there)):
                raise FileExistsError(
                    f"{path} already holds something else; save under another name, or replace an "
                    f"artefact that is a {kind}, too: overwrite=True"
                )
            if folders.stamp(path) != before:
                raise FileExistsError(f"another process saved {path} meanwhile, which was kept")
            folders.exchange(folder, path)
    return asked


def _write(folder: Path, name: str, value: np.ndarray | bytes, rows: int | None = None) -> str:
    """Write bytes, an array, or the next part of an array of `rows`; return the file's name.

    `np.save` writes the same, but does not say why when the disk is full.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in KINDS:
            raise ValueError(f"{name}: dtype {value.dtype} cannot be stored; give numbers or text")
        name, value = f"{name}.npy", value.astype(value.dtype.newbyteorder("<"), copy=False)
    if name == MANIFEST or not folders.is_plain(name):
        raise ValueError(f"{name!r} cannot be a file's name here; use letters, digits, . and _")
    with open(folder / name, "ab") as file:
        if isinstance(value, np.ndarray):
            if not file.tell():
                shape = value.shape if rows is None else (rows, *value.shape[1:])
                header = {"descr": value.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            value = np.ascontiguousarray(value)
        file.write(value)
    return name


def _manifest_at(path: Path, kind: str) -> dict | None:
    try:
        return _read_manifest(path, kind)
    except (ArtefactError, FileNotFoundError):
        return None


def _describe(folder: Path, names: list[str], kind: str, about: dict) -> dict:
    """Return the sealed manifest of the files in a folder, which `load` gives in this order."""
    files = {}
    for name in dict.fromkeys(names):
        with open(folder / name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[name] = {"bytes": file.tell(), "sha256": digest}
    versions = {"python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in ("adkit", "numpy")}
    parts = {"format": FORMAT, "kind": kind, "about": as_json(about), "files": files}
    return seal(parts | {"made_with": versions})


def as_json(content: dict) -> dict:
    """Return the content as a manifest gives it back: Python's numbers, tuples as lists."""
    return json.loads(json.dumps(content, default=np.generic.item))


def seal(manifest: dict) -> dict:
    """Return the manifest with a hash of itself."""
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    text = json.dumps(content, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return content | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


# ---- loading ----


def load(
    path: str | Path,
    kind: str,
    mapped: bool = False,
    at_most: Callable[[dict], float] = lambda about: float("inf"),
) -> tuple[dict[str, np.ndarray | bytes], dict]:
    """Read and verify what `save` wrote: ({name: array or bytes}, about).

    `mapped` arrays stay on disk, read-only, and may be larger than memory; each is read once, to
    verify it. Their files must not change from then on. Of other files none is read that is larger
    than `at_most(about)`. Raises ArtefactError if anything is missing, damaged or not an artefact.
    """
    path = Path(path)
    while True:
        before = folders.stamp(path)
        try:
            manifest = _read_manifest(path, kind)
            entries, most = manifest["files"].items(), at_most(manifest["about"])
            files = {name: _read(path, name, entry, mapped, most) for name, entry in entries}
        except (ArtefactError, FileNotFoundError):
            if folders.stamp(path) == before:  # else it was replaced while it was read
                raise
        else:
            return {n.removesuffix(".npy"): of for n, of in files.items()}, manifest["about"]


def find(name: str) -> Path:
    """Return the newest copy of an artefact: from `runs/`, or else the one shipped in `data/`."""
    root = Path(os.environ.get("ADKIT_ROOT", Path(__file__).resolve().parents[1]))
    for folder in (root / "runs", root / "data"):
        folders.recover(folder / name)
        if (folder / name / MANIFEST).is_file():
            return folder / name
    raise FileNotFoundError(
        f"no artefact {name!r} under {root}/runs or {root}/data; run the notebook that makes it"
    )


def _read_manifest(path: Path, kind: str) -> dict:
    folders.recover(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; nothing was saved under this name")
    with _opened(path, MANIFEST) as file:
        text = file.read(MANIFEST_AT_MOST + 1)
    try:
        _check_size(text)
        manifest = json.loads(text.decode())
        found, sealed = (manifest["format"], manifest["kind"]), seal(manifest)["sha256"]
        if not isinstance(manifest["about"], dict):
            raise TypeError("`about` is no object")
        if not all({"bytes", "sha256"} <= entry.keys() for entry in manifest["files"].values()):
            raise KeyError("a file has no size and hash")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtefactError(f"{path}/{MANIFEST} is damaged: {str(error)[:200]!r}") from None
    if found != (FORMAT, kind):
        other = f"{found[1]!r} in format {found[0]}"
        raise ArtefactError(f"{path} must hold {kind!r} in format {FORMAT}, got {other}")
    if manifest.get("sha256", sealed) != sealed:  # the first artefacts had no seal
        raise ArtefactError(f"{path}/{MANIFEST} does not match its own sha256; it is damaged")
    return manifest


def _check_size(text: bytes) -> None:
    if len(text) > MANIFEST_AT_MOST:
        raise ValueError(f"it is over {MANIFEST_AT_MOST:,} bytes: `about` takes too much")
    if sum(map(text.count, (b",", b"[", b"{"))) > VALUES_AT_MOST:
        raise ValueError(f"it holds over {VALUES_AT_MOST:,} values: `about` takes too much")


def _opened(path: Path, name: str) -> BinaryIO:
    """Open a regular file of the folder; a link is not followed, a pipe not waited for."""
    file = path / name
    if not folders.is_plain(name) or file.is_symlink() or not file.is_file():
        raise ArtefactError(f"{path}: {name!r} is missing, or no plain file of this folder")
    return open(file, "rb")


def _read(path: Path, name: str, entry: dict, mapped: bool, most: float) -> np.ndarray | bytes:
    with _opened(path, name) as file:
        size = os.fstat(file.fileno()).st_size
        if size != entry["bytes"]:
            raise ArtefactError(f"{path}: {name} has {size} bytes, not {entry['bytes']}: truncated")
        if size > most and not name.endswith(".npy"):
            raise ArtefactError(f"{path}: {name} has {size:,} bytes, more than the {most:,} needed")
        if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
            raise ArtefactError(f"{path}: {name} does not match its sha256; it is damaged")
        file.seek(0)
        if not name.endswith(".npy"):
            return file.read()
        try:
            return _read_array(file, mapped)
        except Exception as error:  # Python parses the header, and says anything
            raise ArtefactError(f"{path}: {name} is no array: {error}") from None


def _read_array(file: BinaryIO, mapped: bool) -> np.ndarray:
    """Read or map a .npy file of version 1.0; it fails unless the file is large enough."""
    np.lib.format.read_magic(file)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in KINDS or not dtype.itemsize:
        raise ValueError(f"its dtype is {dtype}")
    if mapped and 0 not in shape:
        order = "F" if fortran else "C"
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, **UNTRACKED)
        values = np.ndarray(shape, dtype, buffer, file.tell(), order=order)
    else:
        file.seek(0)
        values = np.load(file, allow_pickle=False)
    if dtype.kind == "b" and any(part.view(np.uint8).max(initial=0) > 1 for part in pieces(values)):
        raise ValueError("a bool is neither 0 nor 1")
    if dtype.kind == "U":
        for part in pieces(values):
            codes = part.ravel().view(np.uint32)
            if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any():
                raise ValueError("its text is not Unicode")
    return values


def pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an array's rows, some at a time; a mapped array need not fit in memory."""
    array = np.atleast_1d(array)
    rows = max(1, PIECE * len(array) // max(1, array.nbytes))
    for i in range(0, len(array), rows):
        yield array[i : i + rows]
        let_go(array)


def let_go(array: np.ndarray) -> None:
    """Give back the memory of the pages of a mapped array that were read."""
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
