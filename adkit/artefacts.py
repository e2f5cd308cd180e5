"""Folders of arrays with a manifest: atomic, hashed, never overwritten silently, no pickle anywhere."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np

FORMAT = 1
MANIFEST = "manifest.json"


class ArtefactError(ValueError):
    """A folder that is not, or no longer, what its manifest says."""


def save(path: str | Path, kind: str, files: dict[str, np.ndarray | bytes], about: dict, overwrite=False) -> Path:
    """Write arrays (as .npy) and bytes to the folder `path`, whole or not at all.

    The same content onto itself is a no-op; other content raises FileExistsError unless `overwrite`. A crash leaves
    the old folder untouched. `about` must be JSON; it comes back from `load`.
    """
    path = Path(path)
    blobs = {name: _npy(value) if isinstance(value, np.ndarray) else value for name, value in files.items()}
    manifest = {
        "format": FORMAT,
        "kind": kind,
        "about": about,
        "files": {name: {"bytes": len(blob), "sha256": _sha256(blob)} for name, blob in blobs.items()},
        "made_with": {"python": platform.python_version(), **{p: metadata.version(p) for p in ("adkit", "numpy")}},
    }
    text = json.dumps(manifest, indent=1, allow_nan=False)
    _recover(path)
    if path.exists() and not overwrite:
        if _same(path, json.loads(text)):
            return path
        raise FileExistsError(f"{path} already holds something else; save under another name or pass overwrite=True.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    retired = path.parent / f".{path.name}.old"
    try:
        for name, blob in {**blobs, MANIFEST: text.encode()}.items():
            with open(temporary / name, "wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o755)
        if path.exists():
            shutil.rmtree(retired, ignore_errors=True)
            os.rename(path, retired)
        os.rename(temporary, path)
    finally:
        _recover(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)
    return path


def _recover(path: Path) -> None:
    """Put back the old folder if a crash came between retiring it and putting the new one in its place."""
    retired = path.parent / f".{path.name}.old"
    if retired.is_dir() and not path.exists():
        os.rename(retired, path)


def load(path: str | Path, kind: str) -> tuple[dict[str, np.ndarray | bytes], dict]:
    """Read and verify a folder that `save` wrote: ({file name: array or bytes}, about)."""
    path = Path(path)
    manifest = _manifest(path, kind)
    files = {}
    for name, entry in manifest["files"].items():
        if Path(name).name != name or (path / name).is_symlink():
            raise ArtefactError(f"{path}: the manifest names {name!r}, which is not a plain file of this folder.")
        if not (path / name).is_file():
            raise ArtefactError(f"{path}: {name} is missing; the folder is incomplete, make or download it again.")
        blob = (path / name).read_bytes()
        if len(blob) != entry["bytes"]:
            raise ArtefactError(f"{path}: {name} has {len(blob)} bytes, its manifest says {entry['bytes']}: truncated.")
        if _sha256(blob) != entry["sha256"]:
            raise ArtefactError(f"{path}: {name} does not match its sha256; it was changed or damaged.")
        files[name] = np.load(io.BytesIO(blob), allow_pickle=False) if name.endswith(".npy") else blob
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


def _manifest(path: Path, kind: str) -> dict:
    _recover(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; nothing was saved under this name.")
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        found = manifest["format"], manifest["kind"]
        manifest["about"], [(entry["bytes"], entry["sha256"]) for entry in manifest["files"].values()]
    except FileNotFoundError:
        raise ArtefactError(f"{path} has no {MANIFEST}; it is not an adkit artefact.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(f"{path}/{MANIFEST} cannot be read ({error!r}); it was changed or damaged.") from None
    if found != (FORMAT, kind):
        raise ArtefactError(f"{path} holds {found[1]!r} in format {found[0]}; wanted {kind!r} in format {FORMAT}.")
    return manifest


def _same(path: Path, manifest: dict) -> bool:
    try:
        found = _manifest(path, manifest["kind"])
    except (ArtefactError, FileNotFoundError):
        return False
    return found["files"] == manifest["files"] and found["about"] == manifest["about"]


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _sha256(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()
