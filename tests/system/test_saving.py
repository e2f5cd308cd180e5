"""Saving where something is in the way: a full disk, a read-only place, another writer."""

import builtins
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from helpers import listed

from adkit import store

OLD, NEW = (
    {"a.npy": np.arange(size), "b.npy": np.full(size, 7), "c": b"bytes"} for size in (9, 5000)
)


def holds(path, files) -> bool:
    found, _ = store.load(path, "test")
    return all(map(np.array_equal, found.values(), files.values()))


# ---- calls that fail ----


class Disk:
    """Every call that may need room or a permission, counted; number `fails` raises `error`."""

    PLACES = (os, "fsync"), (os, "rename"), (os, "mkdir"), (os, "chmod"), (tempfile, "mkdtemp")

    def __init__(self, monkeypatch, fails: int, error: int):
        self.calls, self.fails, self.error = 0, fails, error
        for place, name in self.PLACES:
            monkeypatch.setattr(place, name, self.guarded(getattr(place, name)))
        whole = builtins.open

        def opened(name, mode="r", *args, **kwargs):
            if "w" not in mode:
                return whole(name, mode, *args, **kwargs)
            self.count()
            return File(whole(name, mode, *args, **kwargs), self)

        monkeypatch.setattr(builtins, "open", opened)

    def count(self):
        self.calls += 1
        if self.calls == self.fails:
            raise OSError(self.error, os.strerror(self.error))

    def guarded(self, function):
        def call(*args, **kwargs):
            self.count()
            return function(*args, **kwargs)

        return call


class File:
    """A file that has written half of what it was given when the disk is full."""

    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, blob):
        blob = bytes(blob)
        self.file.write(blob[: len(blob) // 2])
        self.disk.count()
        self.file.write(blob[len(blob) // 2 :])


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("existing", [False, True])
def test_whichever_call_fails_the_old_artefact_is_whole(tmp_path, monkeypatch, existing, error):
    path, fails, disk = tmp_path / "deep" / "it", 0, None
    while disk is None or disk.calls >= fails:  # until one gets through without having met it
        shutil.rmtree(tmp_path / "deep", ignore_errors=True)
        if existing:
            store.save(path, "test", OLD, {})
        fails += 1
        with monkeypatch.context() as patch:
            disk, saved = Disk(patch, fails, error), False
            try:
                store.save(path, "test", NEW, {}, overwrite=True)
                saved = True  # also where it could not make a folder that is there already
            except OSError as raised:
                assert raised.errno == error, raised
                assert f"was not saved ({os.strerror(error)})" in str(raised)
        left = listed(path.parent) if path.parent.exists() else []
        assert left == ["it"] * (existing or saved), f"call {fails} left {left}"
        assert not left or holds(path, NEW if saved else OLD)
    assert fails > 15 and saved


# ---- real disks ----


def run(code: str, *command: str) -> subprocess.CompletedProcess:
    start = "import sys, os, errno, numpy as np\nfrom adkit import store\n"
    root = os.path.dirname(os.path.dirname(store.__file__))
    return subprocess.run(
        [*command, sys.executable, "-c", start + code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
        check=False,
    )


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
rows = np.arange(5000)
for save in (
    lambda: store.save(PATH, "test", {"a.npy": rows}, {}, overwrite=True),
    lambda: store.assemble(PATH + "2", "test", [{"a": rows}], {}),
    lambda: store.assemble(PATH + "2", "test", [], {}, a=rows),
):
    try:
        save()
    except OSError as error:
        assert error.errno == errno.EFBIG and "was not saved (File too large)" in str(error), error
        print("told")
"""


def test_a_limit_on_file_sizes_stops_a_save_and_nothing_else(tmp_path):
    """The kernel refuses to write more than so many bytes."""
    store.save(tmp_path / "it", "test", OLD, {})
    done = run(f"PATH = {str(tmp_path / 'it')!r}\n" + LIMITED)
    assert done.stdout == "told\n" * 3, done.stderr
    assert holds(tmp_path / "it", OLD) and listed(tmp_path) == ["it"]


MOUNTED = """
import subprocess
def mount(*how): subprocess.run(["mount", *how], check=True)
mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", FOLDER)
path = FOLDER + "/it"
store.save(path, "test", {"a.npy": np.arange(9)}, {})
def refused(size, number):
    try:
        store.save(path, "test", {"a.npy": np.arange(size)}, {}, overwrite=True)
    except OSError as error:
        assert error.errno == number and "was not saved" in str(error), error
        assert len(store.load(path, "test")[0]["a.npy"]) == 9
        assert sorted(os.listdir(FOLDER)) == [".adkit.lock", "it"], os.listdir(FOLDER)
        print(error)
refused(100_000, errno.ENOSPC)
mount("-o", "remount,ro", FOLDER)
refused(10, errno.EROFS)
"""


def test_a_full_and_a_read_only_file_system(tmp_path):
    """A real tmpfs of 256 KiB, where this machine lets a user mount one in a name space."""
    alone = "unshare", "--user", "--map-root-user", "--mount"
    allowed = (
        shutil.which("unshare") and not subprocess.run([*alone, "true"], check=False).returncode
    )
    done = run(f"FOLDER = {str(tmp_path)!r}\n" + MOUNTED, *alone) if allowed else None
    if done is None or "CalledProcessError" in done.stderr:
        pytest.skip("no file system may be mounted here")
    assert "No space left on device" in done.stdout, done.stderr
    assert "Read-only file system" in done.stdout, done.stderr


def test_a_folder_that_may_not_be_written(tmp_path):
    store.save(tmp_path / "it", "test", OLD, {})
    os.chmod(tmp_path, 0o555)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("root may write anywhere; a read-only file system is tried above")
        with pytest.raises(PermissionError, match="was not saved"):
            store.save(tmp_path / "it", "test", NEW, {}, overwrite=True)
        assert holds(tmp_path / "it", OLD)
    finally:
        os.chmod(tmp_path, 0o755)


KILLED = """
import signal
os.chmod = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
store.save(PATH, "test", {"a.npy": np.arange(5)}, {}, overwrite=True)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    path = store.save(tmp_path / "it", "test", OLD, {})
    assert run(f"PATH = {str(path)!r}\n" + KILLED).returncode == -9
    assert holds(path, OLD) and len(listed(tmp_path)) == 2
    store.save(path, "test", NEW, {}, overwrite=True)
    assert holds(path, NEW) and listed(tmp_path) == ["it"]


# ---- two in the same place ----


def write(path, number: int, overwrite: bool) -> str:
    try:
        store.save(path, "test", {"a.npy": np.full(20_000, number)}, {"writer": number}, overwrite)
        return "kept"
    except FileExistsError as error:
        known = "another process saved" in str(error) or "already holds" in str(error)
        return "told" if known else str(error)


def at_once(monkeypatch, *calls) -> list[str]:
    """Return what writers say that meet when each has written all but not replaced anything."""
    meet, chmod, said = threading.Barrier(len(calls)), os.chmod, {}
    monkeypatch.setattr(os, "chmod", lambda *given: (chmod(*given), meet.wait(30)))
    work = lambda n: said.update({n: write(*calls[n])})
    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [said[n] for n in range(len(calls))]


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_two_writers_one_wins_whole_and_the_other_is_told(tmp_path, monkeypatch, overwrite):
    path = tmp_path / "it"
    if overwrite:
        store.save(path, "test", OLD, {})
    said = at_once(monkeypatch, (path, 0, overwrite), (path, 1, overwrite))
    assert sorted(said) == ["kept", "told"]
    files, about = store.load(path, "test")
    assert said[about["writer"]] == "kept" and (files["a.npy"] == about["writer"]).all()
    assert listed(tmp_path) == ["it"]


def test_the_same_content_from_two_at_once_is_no_conflict(tmp_path, monkeypatch):
    path = tmp_path / "it"
    assert at_once(monkeypatch, (path, 3, False), (path, 3, False)) == ["kept", "kept"]
    assert listed(tmp_path) == ["it"]


def rewrite(path, number: int) -> list[str]:
    return [write(path, 100 * number + i, True) for i in range(15)]


def test_a_reader_never_meets_half_of_what_two_processes_write(tmp_path):
    path = tmp_path / "it"
    write(path, 0, False)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        writers = [pool.submit(rewrite, path, n) for n in (1, 2)]
        while not all(writer.done() for writer in writers):
            for mapped in (False, True):
                files, about = store.load(path, "test", mapped)
                assert (files["a.npy"] == about["writer"]).all()
        said = [word for writer in writers for word in writer.result()]
    assert set(said) <= {"kept", "told"} and "kept" in said and listed(tmp_path) == ["it"]
