"""Folders of arrays with a manifest: atomic, hashed, never overwritten silently; they may come from strangers, so nothing in them
is run, and every size is held against the bytes that are there before memory is taken for it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import stat
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

import numpy as np

from adkit import npy, places

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_AT_MOST = 2**26  # bytes; the log of a million training steps fits


class ArtefactError(ValueError):
    """A folder that is not, or no longer, what its manifest says."""

    def __init__(self, message: str):
        """Text from the folder may be in the message: without control characters, and not at any length."""
        text = "".join(c if c.isprintable() else "?" for c in message[:1500])
        super().__init__(text)


def save(
    path: str | Path, kind: str, files: dict[str, np.ndarray | bytes], about: dict, overwrite=False
) -> Path:
    """Write arrays (as .npy) and bytes to the folder `path`, whole or not at all.

    The same content onto itself is a no-op; other content raises FileExistsError unless `overwrite`, and so does a process that
    saved there meanwhile: the first to finish is kept whole. What is no artefact of this kind is never overwritten; an empty folder
    is nothing, and a link is followed. A crash, a full disk (OSError) or a folder that may not be written leaves the old content
    untouched. `about` must be JSON, NumPy's numbers included; it comes back from `load`.
    """
    blobs = {
        _checked(name): npy.stored(name, value) if isinstance(value, np.ndarray) else value
        for name, value in files.items()
    }
    manifest = _made(
        kind,
        about,
        {name: {"bytes": len(blob), "sha256": _sha256(blob)} for name, blob in blobs.items()},
    )

    def fill(folder: Path) -> dict:
        for name, blob in blobs.items():
            with open(folder / name, "wb") as file:
                file.write(blob)
        return manifest

    return _place(Path(path), kind, fill, overwrite, manifest)


def assemble(
    path: str | Path, kind: str, parts: Iterable[dict[str, np.ndarray]], about: dict, **whole
) -> Path:
    """As `save` without `overwrite`, of arrays that come in parts, one below the other: only one part is in memory at a time.

    All parts have the same names, dtypes and shapes but for their first axis; `whole` are arrays that come in one piece.
    """

    def fill(folder: Path) -> dict:
        shapes: dict[str, tuple] = {}
        for part in parts:
            for name, values in part.items():
                n, dtype, rest = shapes.get(name, (0, values.dtype, values.shape[1:]))
                if (values.dtype, values.shape[1:]) != (dtype, rest):
                    raise ValueError(
                        f"{name}: a part of {values.dtype} {values.shape} below others of {dtype} {(n, *rest)}; make them alike."
                    )
                shapes[name] = n + len(values), dtype, rest
                with open(folder / f"{_checked(name)}.npy", "r+b" if n else "wb") as file:
                    file.seek(0, os.SEEK_END)
                    file.write(
                        np.ascontiguousarray(values)
                        if n
                        else npy.head(values.dtype, values.shape) + values.tobytes()
                    )
        for name, (n, dtype, rest) in shapes.items():
            with open(
                folder / f"{name}.npy", "r+b"
            ) as file:  # the header leaves room for the number of rows to grow
                file.write(npy.head(dtype, (n, *rest)))
        for name, values in whole.items():
            (folder / f"{_checked(name)}.npy").write_bytes(npy.stored(name, values))
        return _made(kind, about, {file.name: _weighed(file) for file in sorted(folder.iterdir())})

    return _place(Path(path), kind, fill, overwrite=False)


def _place(
    path: Path,
    kind: str,
    fill: Callable[[Path], dict],
    overwrite: bool,
    manifest: dict | None = None,
) -> Path:
    """Let `fill` write files into a folder beside `path` and name their manifest, and put it there, whole or not at all.

    If the manifest is known before, the same content is seen without writing it.
    """
    asked, size = path, 0
    try:
        path = places.real(path)
        if file := next((above for above in path.parents if above.is_file()), None):
            raise FileExistsError(
                f"{path} lies below {file}, which is a file; save under another name."
            )
        places.recover(path)
        before = places.glance(path, MANIFEST)
        if path.exists() and not overwrite and manifest and _same(path, manifest):
            return asked
        if not (overwrite or places.vacant(path)):
            raise FileExistsError(
                f"{path} already holds something else; save under another name or pass overwrite=True."
            )
        if path.exists() and not _replaceable(path, kind):
            raise FileExistsError(
                f"{path} holds no {kind}, and only that is overwritten; save under another name or remove it."
            )
        size = sum(entry["bytes"] for entry in manifest["files"].values()) if manifest else 0
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = places.beside(path)
        try:
            manifest = fill(temporary)
            (temporary / MANIFEST).write_bytes(json.dumps(manifest, indent=1).encode())
            for file in temporary.iterdir():
                _sync(file)
            os.chmod(temporary, 0o755)
            with places.alone(path.parent):
                places.put_back(path)
                if places.glance(path, MANIFEST) == before:
                    places.exchange(temporary, path)
                elif not _same(path, manifest):
                    raise FileExistsError(
                        f"another process saved {path} meanwhile; its content is kept. Save again, or under another name."
                    )
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except FileExistsError:
        raise
    except OSError as error:
        needs = (
            f"it needs {size:,} bytes in a folder that may be written"
            if size
            else "its folder must be one that may be written"
        )
        raise OSError(
            error.errno,
            f"{path} was not saved ({error.strerror}), what was there is untouched; {needs}. Make room, or save elsewhere",
        ) from error
    return asked


def _replaceable(path: Path, kind: str) -> bool:
    """Whether only an artefact of this kind, perhaps a damaged one, or nothing would be lost with the folder."""
    if not path.is_dir() or not any(path.iterdir()):
        return path.is_dir()
    try:
        return json.loads((path / MANIFEST).read_bytes())["kind"] == kind
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _made(kind: str, about: dict, entries: dict) -> dict:
    """The manifest of such files, as it will be read."""
    made_with = {
        "python": platform.python_version(),
        **{p: metadata.version(p) for p in ("adkit", "numpy")},
    }
    return seal(
        as_json(
            {
                "format": FORMAT,
                "kind": kind,
                "about": about,
                "files": entries,
                "made_with": made_with,
            }
        )
    )


def as_json(content: dict) -> dict:
    """The content as it comes back from a manifest: NumPy's numbers as Python's, tuples as lists."""
    return json.loads(json.dumps(content, default=_number))


def _number(value):
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(
        f"{value!r} of type {type(value).__name__} is no JSON and cannot be saved; give numbers, text, lists or dicts."
    )


def _checked(name: str) -> str:
    if not _plain(name):
        raise ValueError(
            f"{name!r} cannot be a file's name here: it must be printable, without any of / \\ : and no dot first."
        )
    return name


def _sync(file: Path) -> None:
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())


def _weighed(file: Path) -> dict:
    with open(file, "rb") as opened:
        return {
            "bytes": file.stat().st_size,
            "sha256": hashlib.file_digest(opened, "sha256").hexdigest(),
        }


def load(
    path: str | Path, kind: str, mapped: bool = False
) -> tuple[dict[str, np.ndarray | bytes], dict]:
    """Read and verify a folder that `save` wrote: ({file name: array or bytes}, about). Runs nothing that is in it.

    `mapped` arrays stay on disk, read-only, and may be larger than memory; all of them is read once, to verify it.
    """
    path = Path(path)
    for _ in range(5):
        seen = places.glance(path, MANIFEST)
        try:
            return _load(path, kind, mapped)
        except (ArtefactError, FileNotFoundError):
            if (
                places.glance(path, MANIFEST) == seen
            ):  # else another process has put new content there while this one read
                raise
    raise ArtefactError(
        f"{path} changes all the time; load it when the process that saves it has finished."
    )


def _load(path: Path, kind: str, mapped: bool) -> tuple[dict[str, np.ndarray | bytes], dict]:
    manifest = _manifest(path, kind)
    files = {}
    for name, entry in manifest["files"].items():
        array = name.endswith(".npy")
        blob, digest = _read(path, name, entry["bytes"], mapped and array)
        if digest != entry["sha256"]:
            raise ArtefactError(
                f"{path}: {name} does not match its sha256; it was changed or damaged."
            )
        try:
            files[name] = npy.array(blob) if array else bytes(blob)
        except ValueError as error:
            raise ArtefactError(f"{path}: {name}: {error}.") from None
    return files, manifest["about"]


def verify(path: str | Path, kind: str) -> None:
    """Raise ArtefactError unless every file is there and matches its hash."""
    load(path, kind)


def find(name: str) -> Path:
    """The newest copy of an artefact: what this checkout made (`runs/`), or else what adkit ships (`data/`)."""
    root = Path(os.environ.get("ADKIT_ROOT", Path(__file__).resolve().parents[1]))
    for folder in (root / "runs", root / "data"):
        places.recover(folder / name)
        if (folder / name / MANIFEST).is_file():
            return folder / name
    raise FileNotFoundError(
        f"no artefact {name!r} under {root}/runs or {root}/data; run the notebook that makes it."
    )


def seal(manifest: dict) -> dict:
    """The manifest with a hash of itself, so that no flipped byte in it goes unseen either."""
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    text = json.dumps(content, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return content | {"sha256": _sha256(text.encode())}


def _manifest(path: Path, kind: str) -> dict:
    places.recover(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; nothing was saved under this name.")
    if not os.path.lexists(path / MANIFEST):
        raise ArtefactError(f"{path} has no {MANIFEST}; it is not an adkit artefact.")
    text, _ = _read(path, MANIFEST)
    try:
        manifest = json.loads(text.decode())
        found, sealed = (manifest["format"], manifest["kind"]), seal(manifest)["sha256"]
        if not isinstance(manifest["about"], dict):
            raise TypeError("about is no object")
        for name, entry in manifest["files"].items():
            if not (
                isinstance(entry["sha256"], str)
                and type(entry["bytes"]) is int
                and entry["bytes"] >= 0
            ):
                raise TypeError(f"files: {name} has no size and hash")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtefactError(
            f"{path}/{MANIFEST} cannot be read ({str(error)[:200]!r}); it was changed or damaged."
        ) from None
    if found != (FORMAT, kind):
        raise ArtefactError(
            f"{path} holds {found[1]!r} in format {found[0]}; wanted {kind!r} in format {FORMAT}."
        )
    if manifest.get("sha256", sealed) != sealed:  # those made before there was a seal have none
        raise ArtefactError(
            f"{path}/{MANIFEST} does not match its own sha256; it was changed or damaged."
        )
    return manifest


def _same(path: Path, manifest: dict) -> bool:
    try:
        found = _manifest(path, manifest["kind"])
    except (ArtefactError, FileNotFoundError):
        return False
    return found["files"] == manifest["files"] and found["about"] == manifest["about"]


def _plain(name: str) -> bool:
    """Whether this names a file in its folder, on any machine, and no other place."""
    return (
        name.isprintable()
        and not re.search(r"^\.|[/\\:]|^$", name)
        and len(name.encode()) <= 200
        and name != MANIFEST
    )


def _read(
    path: Path, name: str, size: int | None = None, mapped: bool = False
) -> tuple[bytearray | npy.Disk, str]:
    """The bytes of a regular file in the folder `path`, `size` of them, if given, left on disk if `mapped`; and their sha256."""
    if name != MANIFEST and not _plain(name):
        raise ArtefactError(
            f"{path}: the manifest names {name!r}, which is not a plain file of this folder."
        )
    # a link is not followed, and a pipe not waited for
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        source = open(path / name, "rb", opener=lambda place, _: os.open(place, flags))  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise ArtefactError(
            f"{path}: {name} is missing; the folder is incomplete, make or download it again."
        ) from None
    except OSError as error:
        raise ArtefactError(
            f"{path}: {name} is not a plain file of this folder, or not readable ({error.strerror})."
        ) from None
    with source:
        found = os.fstat(source.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ArtefactError(f"{path}: {name} is not a plain file of this folder.")
        if size is None and found.st_size > MANIFEST_AT_MOST:
            raise ArtefactError(
                f"{path}: {name} has {found.st_size:,} bytes; no manifest has more than {MANIFEST_AT_MOST:,}."
            )
        if size not in (None, found.st_size):
            raise ArtefactError(
                f"{path}: {name} has {found.st_size} bytes, its manifest says {size}: truncated."
            )
        if mapped and found.st_size:
            return npy.Disk.of(source)
        try:
            blob = bytearray(found.st_size)
        except MemoryError:
            raise ArtefactError(
                f"{path}: {name} has {found.st_size:,} bytes, more than there is memory."
            ) from None
        if source.readinto(blob) != len(blob):
            raise ArtefactError(f"{path}: {name} was cut short while it was read.")
    return blob, _sha256(blob)


def _sha256(blob: bytes | bytearray) -> str:
    return hashlib.sha256(blob).hexdigest()
