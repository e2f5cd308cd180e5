"""Folders that are exchanged whole: whoever reads, or writes at the same time, meets the old one or the new one."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None


def beside(path: Path) -> Path:
    """A new empty folder that may become `path`; those that processes of this machine died over are swept away."""
    mine = f".{path.name}.{platform.node()}-"
    for left in path.parent.glob(f"{glob.escape(mine)}*.tmp"):
        pid = left.name.removeprefix(mine).split(".")[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{mine}{os.getpid()}.", suffix=".tmp", dir=path.parent))


def vacant(path: Path) -> bool:
    """Whether nothing is there, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def real(path: Path) -> Path:
    """Where a link leads, which is what is exchanged; else the path itself."""
    return path.resolve() if path.is_symlink() else path


def exchange(new: Path, path: Path) -> None:
    """Put `new` in the place of `path`, or leave all as it was."""
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
    """Put back the old folder if a crash came between retiring it and putting the new one in its place."""
    path = real(path)
    if _orphaned(path):
        with alone(path.parent):  # waits for a process that is between the two
            put_back(path)


def put_back(path: Path) -> None:
    if _orphaned(path):
        os.rename(_retired(path), path)


def _orphaned(path: Path) -> bool:
    return _retired(path).is_dir() and not path.exists()


def _retired(path: Path) -> Path:
    return path.parent / f".{path.name}.old"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def alone(folder: Path) -> Iterator[None]:
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


def glance(path: Path, inside: str) -> tuple[int, ...] | None:
    """What tells the content of `path` from other content put there later; None if there is nothing."""
    for place in (path / inside, path):
        with suppress(OSError):
            found = os.lstat(place)
            return found.st_ino, found.st_mtime_ns, found.st_size
    return None
