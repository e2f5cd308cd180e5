"""Replace a folder whole: a reader sees the old one or the new one, and a crash loses neither."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".adkit.lock"  # beside the artefacts of a folder; it stays there
MANIFEST = "manifest.json"


@contextmanager
def new_beside(path: Path) -> Iterator[Path]:
    """Yield a place that does not exist yet, for what will be `path`; then remove what is left.

    It is in a folder of its own that is locked as long as it is used: so those of dead processes
    are known, on any machine that shares the disk, and removed. An OSError says that `path` was not
    saved, and why.
    """
    name = f".{path.name}.new-", path.parent
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as mine:
            with locked(path.parent):
                for lock in path.parent.glob(f"{glob.escape(name[0])}*.tmp/{LOCK}"):
                    with suppress(Timeout), FileLock(lock, timeout=0):
                        shutil.rmtree(lock.parent, ignore_errors=True)
                new = tempfile.TemporaryDirectory(".tmp", *name, ignore_cleanup_errors=True)
                folder = Path(mine.enter_context(new))
                mine.enter_context(FileLock(folder / LOCK))
            yield folder / path.name
    except FileExistsError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        why = f"{path} was not saved ({reason}); nothing was changed"
        number = error.errno or errno.EIO  # HDF5 gives none
        raise OSError(number, f"{why}. Make room, or save elsewhere") from error


def flush(place: Path) -> None:
    """Make sure that what was written to a file, or a folder's files, is on the disk."""
    for path in (place, *place.rglob("*")):
        if path.is_file():
            with open(path, "r+b") as file:  # Windows flushes no file that is only read
                os.fsync(file.fileno())


def locked(folder: Path) -> FileLock:
    """Return the lock on a folder's artefacts, for a `with` block."""
    return FileLock(folder / LOCK)


def is_plain(name: str) -> bool:
    """Return whether this names a file in its folder on any machine, and no other place."""
    plain = re.fullmatch(r"[^./\\:][^/\\:]*", name)
    return bool(plain) and name.isprintable() and len(name.encode()) <= 200


def vacant(path: Path) -> bool:
    """Return whether nothing is there, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def exchange(new: Path, path: Path) -> None:
    """Put the folder `new`, of `new_beside`, in the place of `path`, or leave all as it was.

    Old folders are moved beside `new`, which is removed in the end: half of one is never met.
    """
    retired = _retired(path)
    if vacant(path) and path.exists():
        path.rmdir()
    try:
        if path.exists():
            if os.path.lexists(retired):
                if not _is_ours(retired):
                    says = "is in the way, and no artefact: move it elsewhere"
                    raise FileExistsError(f"{retired} {says}")
                os.rename(retired, new.with_name(f"{new.name}.older"))
            os.rename(path, retired)
        os.rename(new, path)
    except BaseException:
        put_back(path)
        raise
    if _is_ours(retired):
        with suppress(OSError):
            os.rename(retired, new.with_name(f"{new.name}.old"))


def recover(path: Path) -> None:
    """Put the old folder back if a crash came after it was retired and before the new one came."""
    path = path.resolve() if path.is_symlink() else path
    if _is_orphaned(path):
        with locked(path.parent):  # waits for a process that is between the two
            put_back(path)


def put_back(path: Path) -> None:
    """Give a retired folder its name back, unless another one has it; needs the lock."""
    if _is_orphaned(path):
        os.rename(_retired(path), path)


def _is_orphaned(path: Path) -> bool:
    return _is_ours(_retired(path)) and not path.exists()


def _is_ours(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def _retired(path: Path) -> Path:
    return path.parent / f".{path.name}.old"


def stamp(path: Path) -> tuple[int, int] | None:
    """Return what tells this content from later content, or None if there is nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
