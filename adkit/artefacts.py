"""Folders of arrays with a manifest: atomic, hashed, never overwritten silently; they may come from strangers, so nothing in them
is run, and every size is held against the bytes that are there before memory is taken for it."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

import numpy as np

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_AT_MOST = 2**26  # bytes; the log of a million training steps fits
STORED = "bool, integers, floats and text"
NPY = re.compile(  # what np.save writes for those, and nothing else
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][biufU]\d{1,4})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}, )*(?:\d{1,18},?)?)\), \} *\n",
    re.DOTALL,
)


class ArtefactError(ValueError):
    """A folder that is not, or no longer, what its manifest says."""

    def __init__(self, message: str):
        """Text from the folder may be in the message: without control characters, and not at any length."""
        text = "".join(c if c.isprintable() else "?" for c in message[:1500])
        super().__init__(text)


def save(path: str | Path, kind: str, files: dict[str, np.ndarray | bytes], about: dict, overwrite=False) -> Path:
    """Write arrays (as .npy) and bytes to the folder `path`, whole or not at all.

    The same content onto itself is a no-op; other content raises FileExistsError unless `overwrite`, and so does a process that
    saved there meanwhile: the first to finish is kept whole. A crash, a full disk (OSError) or a folder that may not be written
    leaves the old content untouched. `about` must be JSON; it comes back from `load`.
    """
    path = Path(path)
    for name in files:
        if not _plain(name):
            raise ValueError(
                f"{name!r} cannot be a file's name here: it must be printable, without any of / \\ : and no dot first."
            )
    blobs = {name: _npy(name, value) if isinstance(value, np.ndarray) else value for name, value in files.items()}
    entries = {name: {"bytes": len(blob), "sha256": _sha256(blob)} for name, blob in blobs.items()}
    made_with = {"python": platform.python_version(), **{p: metadata.version(p) for p in ("adkit", "numpy")}}
    manifest = seal({"format": FORMAT, "kind": kind, "about": about, "files": entries, "made_with": made_with})
    blobs[MANIFEST] = json.dumps(manifest, indent=1).encode()
    about_to = json.loads(blobs[MANIFEST])
    try:
        _recover(path)
        before = _glance(path)
        if path.exists() and not overwrite:
            if _same(path, about_to):
                return path
            raise _Taken(f"{path} already holds something else; save under another name or pass overwrite=True.")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            for name, blob in blobs.items():
                with open(temporary / name, "wb") as file:
                    file.write(blob)
                    file.flush()
                    os.fsync(file.fileno())
            os.chmod(temporary, 0o755)
            with _alone(path.parent):
                _put_back(path)
                if _glance(path) == before:
                    _exchange(temporary, path)
                elif not _same(path, about_to):
                    raise _Taken(f"another process saved {path} meanwhile; its content is kept. Save again, or under another name.")
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except _Taken:
        raise
    except OSError as error:
        size = sum(map(len, blobs.values()))
        raise OSError(
            error.errno,
            f"{path} was not saved ({error.strerror}), what was there is untouched; it needs {size:,} bytes in a folder that "
            "may be written. Make room, or save elsewhere",
        ) from error
    return path


class _Taken(FileExistsError):
    """Somebody else's content is in this place."""


def _exchange(new: Path, path: Path) -> None:
    """Put `new` in the place of `path`, or leave all as it was."""
    retired = _retired(path)
    shutil.rmtree(retired, ignore_errors=True)
    try:
        if path.exists():
            os.rename(path, retired)
        os.rename(new, path)
    except BaseException:
        _put_back(path)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def _recover(path: Path) -> None:
    """Put back the old folder if a crash came between retiring it and putting the new one in its place."""
    if _orphaned(path):
        with _alone(path.parent):  # waits for a process that is between the two
            _put_back(path)


def _put_back(path: Path) -> None:
    if _orphaned(path):
        os.rename(_retired(path), path)


def _orphaned(path: Path) -> bool:
    return _retired(path).is_dir() and not path.exists()


def _retired(path: Path) -> Path:
    return path.parent / f".{path.name}.old"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder, where its file system has locks; a process that dies lets go of it."""
    if fcntl is None:
        yield
        return
    lock = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def load(path: str | Path, kind: str) -> tuple[dict[str, np.ndarray | bytes], dict]:
    """Read and verify a folder that `save` wrote: ({file name: array or bytes}, about). Runs nothing that is in it."""
    path = Path(path)
    for _ in range(5):
        seen = _glance(path)
        try:
            return _load(path, kind)
        except (ArtefactError, FileNotFoundError):
            if _glance(path) == seen:  # else another process has put new content there while this one read
                raise
    raise ArtefactError(f"{path} changes all the time; load it when the process that saves it has finished.")


def _load(path: Path, kind: str) -> tuple[dict[str, np.ndarray | bytes], dict]:
    manifest = _manifest(path, kind)
    files = {}
    for name, entry in manifest["files"].items():
        blob = _read(path, name, entry["bytes"])
        if _sha256(blob) != entry["sha256"]:
            raise ArtefactError(f"{path}: {name} does not match its sha256; it was changed or damaged.")
        files[name] = _array(path, name, blob) if name.endswith(".npy") else bytes(blob)
    return files, manifest["about"]


def verify(path: str | Path, kind: str) -> None:
    """Raise ArtefactError unless every file is there and matches its hash."""
    load(path, kind)


def find(name: str) -> Path:
    """The newest copy of an artefact: what this checkout made (`runs/`), or else what adkit ships (`data/`)."""
    root = Path(os.environ.get("ADKIT_ROOT", Path(__file__).resolve().parents[1]))
    for folder in (root / "runs", root / "data"):
        if (folder / name / MANIFEST).is_file():
            return folder / name
    raise FileNotFoundError(f"no artefact {name!r} under {root}/runs or {root}/data; run the notebook that makes it.")


def seal(manifest: dict) -> dict:
    """The manifest with a hash of itself, so that no flipped byte in it goes unseen either."""
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    text = json.dumps(content, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return content | {"sha256": _sha256(text.encode())}


def _manifest(path: Path, kind: str) -> dict:
    _recover(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; nothing was saved under this name.")
    if not os.path.lexists(path / MANIFEST):
        raise ArtefactError(f"{path} has no {MANIFEST}; it is not an adkit artefact.")
    text = _read(path, MANIFEST)
    try:
        manifest = json.loads(text.decode())
        found, sealed = (manifest["format"], manifest["kind"]), seal(manifest)["sha256"]
        if not isinstance(manifest["about"], dict):
            raise TypeError("about is no object")
        for name, entry in manifest["files"].items():
            if not (isinstance(entry["sha256"], str) and type(entry["bytes"]) is int and entry["bytes"] >= 0):
                raise TypeError(f"files: {name} has no size and hash")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtefactError(f"{path}/{MANIFEST} cannot be read ({str(error)[:200]!r}); it was changed or damaged.") from None
    if found != (FORMAT, kind):
        raise ArtefactError(f"{path} holds {found[1]!r} in format {found[0]}; wanted {kind!r} in format {FORMAT}.")
    if manifest.get("sha256", sealed) != sealed:  # those made before there was a seal have none
        raise ArtefactError(f"{path}/{MANIFEST} does not match its own sha256; it was changed or damaged.")
    return manifest


def _same(path: Path, manifest: dict) -> bool:
    try:
        found = _manifest(path, manifest["kind"])
    except (ArtefactError, FileNotFoundError):
        return False
    return found["files"] == manifest["files"] and found["about"] == manifest["about"]


def _glance(path: Path) -> tuple[int, ...] | None:
    """What tells the content of `path` from other content put there later; None if there is nothing."""
    for place in (path / MANIFEST, path):
        with suppress(OSError):
            found = os.lstat(place)
            return found.st_ino, found.st_mtime_ns, found.st_size
    return None


def _plain(name: str) -> bool:
    """Whether this names a file in its folder, on any machine, and no other place."""
    return name.isprintable() and not re.search(r"^\.|[/\\:]|^$", name) and len(name.encode()) <= 200 and name != MANIFEST


def _read(path: Path, name: str, size: int | None = None) -> bytearray:
    """The bytes of a regular file in the folder `path`: `size` of them, if given."""
    if name != MANIFEST and not _plain(name):
        raise ArtefactError(f"{path}: the manifest names {name!r}, which is not a plain file of this folder.")
    # a link is not followed, and a pipe not waited for
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        source = open(path / name, "rb", opener=lambda place, _: os.open(place, flags))  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise ArtefactError(f"{path}: {name} is missing; the folder is incomplete, make or download it again.") from None
    except OSError as error:
        raise ArtefactError(f"{path}: {name} is not a plain file of this folder, or not readable ({error.strerror}).") from None
    with source:
        found = os.fstat(source.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ArtefactError(f"{path}: {name} is not a plain file of this folder.")
        if size is None and found.st_size > MANIFEST_AT_MOST:
            raise ArtefactError(f"{path}: {name} has {found.st_size:,} bytes; no manifest has more than {MANIFEST_AT_MOST:,}.")
        if size not in (None, found.st_size):
            raise ArtefactError(f"{path}: {name} has {found.st_size} bytes, its manifest says {size}: truncated.")
        try:
            blob = bytearray(found.st_size)
        except MemoryError:
            raise ArtefactError(f"{path}: {name} has {found.st_size:,} bytes, more than there is memory.") from None
        if source.readinto(blob) != len(blob):
            raise ArtefactError(f"{path}: {name} was cut short while it was read.")
    return blob


def _array(path: Path, name: str, blob: bytearray) -> np.ndarray:
    """The array in a .npy file, over the same memory."""
    head = NPY.match(blob)
    if head is None or int.from_bytes(blob[8:10], "little") != head.end() - 10:
        raise ArtefactError(f"{path}: {name} does not begin as an array of {STORED} does.")
    descr, fortran, dims = (part.decode() for part in head.groups())
    shape = tuple(int(n) for n in dims.replace(",", " ").split())
    try:
        dtype = np.dtype(descr)
        if not dtype.itemsize or math.prod(shape) * dtype.itemsize != len(blob) - head.end():
            raise ValueError(f"{len(blob) - head.end():,} bytes follow")
        array = np.ndarray(shape, dtype, blob, head.end(), order="F" if fortran == "True" else "C")
        if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
            raise ValueError("a bool is neither 0 nor 1")
        if dtype.kind == "U":
            "".join(array.ravel().tolist()).encode()
    except (ValueError, TypeError) as error:
        raise ArtefactError(f"{path}: {name} cannot be an array {shape} of {descr}: {error}.") from None
    return array


def _npy(name: str, array: np.ndarray) -> bytes:
    if array.dtype.kind not in "biufU":
        raise ValueError(f"{name}: dtype {array.dtype} cannot be stored; artefacts hold {STORED}.")
    buffer = io.BytesIO()
    np.save(buffer, array.astype(array.dtype.newbyteorder("<"), copy=False), allow_pickle=False)
    return buffer.getvalue()


def _sha256(blob: bytes | bytearray) -> str:
    return hashlib.sha256(blob).hexdigest()
