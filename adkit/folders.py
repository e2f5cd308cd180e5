"""Replace a folder whole: a reader sees the old one or the new one, and a crash loses neither."""

from __future__ import annotations

import errno
import glob
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

LOCK = ".adkit.lock"  # beside the artefacts of a folder; it stays there


@contextmanager
def new_beside(path: Path) -> Iterator[Path]:
    """Yield an empty folder for what will be `path`; remove it, and those of dead processes.

    An OSError says that `path` was not saved, and why.
    """
    mine = f".{path.name}.{platform.node()}-"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{glob.escape(mine)}*.tmp"):
            pid = left.name.removeprefix(mine).split(".")[0]
            if pid.isdigit() and not _is_alive(int(pid)):
                shutil.rmtree(left, ignore_errors=True)
        name = f"{mine}{os.getpid()}.", path.parent
        with tempfile.TemporaryDirectory(".tmp", *name, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except FileExistsError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        why = f"{path} was not saved ({reason}); nothing was changed"
        number = error.errno or errno.EIO  # HDF5 gives none
        raise OSError(number, f"{why}. Make room, or save elsewhere") from error


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # else it is another user's
    return True


def flush(folder: Path) -> None:
    """Make sure that what was written to the folder's files is on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
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
    """Put the folder `new` in the place of `path`, or leave all as it was."""
    retired = _retired(path)
    shutil.rmtree(retired, ignore_errors=True)
    try:
        if path.exists():
            os.rename(path, retired)
        os.rename(new, path)
    except BaseException:
        put_back(path)
        raise
    shutil.rmtree(retired, ignore_errors=True)


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
    return _retired(path).is_dir() and not path.exists()


def _retired(path: Path) -> Path:
    return path.parent / f".{path.name}.old"


def stamp(path: Path) -> tuple[int, int] | None:
    """Return what tells this content from later content, or None if there is nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
