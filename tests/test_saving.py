"""Saving where something is in the way: a full disk, a folder that may not be written, another process in the same place."""

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

from adkit import store

OLD, NEW = (
    {"a.npy": np.arange(size), "b.npy": np.full(size, 7), "c": b"bytes"} for size in (9, 5000)
)


def holds(path, files) -> bool:
    found, _ = store.load(path, "test")
    return all(
        np.array_equal(found[name], files[name]) if name != "c" else found[name] == b"bytes"
        for name in files
    )


class Disk:
    """Every call that may need room or a permission, counted; the one with number `fails` raises `error`."""

    def __init__(self, monkeypatch, fails: int, error: int):
        self.calls, self.fails, self.error = 0, fails, error
        for place, name in (
            (os, "fsync"),
            (os, "rename"),
            (os, "mkdir"),
            (os, "chmod"),
            (tempfile, "mkdtemp"),
        ):
            monkeypatch.setattr(place, name, self.guarded(getattr(place, name)))
        whole = builtins.open

        def opened(name, mode="r", *args, **kwargs):
            if "w" not in mode:
                return whole(name, mode, *args, **kwargs)
            self.count()
            return _File(whole(name, mode, *args, **kwargs), self)

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


class _File:
    """A file that has written half of what it was given when the disk is full."""

    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, blob):
        self.file.write(blob[: len(blob) // 2])
        self.disk.count()
        self.file.write(blob[len(blob) // 2 :])

    def flush(self):
        self.disk.count()
        self.file.flush()

    def fileno(self):
        return self.file.fileno()


@pytest.mark.parametrize(
    "error", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO]
)
@pytest.mark.parametrize("existing", [False, True])
def test_whichever_call_fails_the_previous_artefact_is_intact(
    tmp_path, monkeypatch, existing, error
):
    path = tmp_path / "deep" / "it"
    fails, disk = 0, None
    while disk is None or disk.calls >= fails:  # until one gets through without having met it
        shutil.rmtree(tmp_path / "deep", ignore_errors=True)
        if existing:
            store.save(path, "test", OLD, {})
        fails += 1
        with monkeypatch.context() as patch:
            disk, saved = Disk(patch, fails, error), False
            try:
                store.save(path, "test", NEW, {}, overwrite=True)
                saved = True  # whole, although it was told that it cannot make a folder that is there already
            except OSError as raised:
                assert raised.errno == error and os.strerror(error) in str(raised), raised
                assert "was not saved" in str(raised) and "Make room, or save elsewhere" in str(
                    raised
                )
        left = os.listdir(path.parent) if path.parent.exists() else []
        assert left == (["it"] if existing or saved else []), f"call {fails} left {left}"
        assert not left or holds(path, NEW if saved else OLD)
    assert fails > 15 and saved


def run(code: str, *command: str) -> subprocess.CompletedProcess:
    start = "import sys, errno, numpy as np\nfrom adkit import store\n"
    environment = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(store.__file__))}
    return subprocess.run(
        [*command, sys.executable, "-c", start + code],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_a_limit_on_file_sizes_stops_a_save_and_nothing_else(tmp_path):
    """The real thing, without any privilege: the kernel refuses to write more than so many bytes."""
    store.save(tmp_path / "it", "test", OLD, {})
    done = run(
        f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    store.save({str(tmp_path / "it")!r}, "test", {{"a.npy": np.arange(5000)}}, {{}}, overwrite=True)
except OSError as error:
    assert error.errno == errno.EFBIG and "was not saved (File too large)" in str(error), error
    print("told")
"""
    )
    assert done.stdout == "told\n", done.stderr
    assert holds(tmp_path / "it", OLD) and os.listdir(tmp_path) == ["it"]


MOUNT = """
import subprocess, os
def mount(*how): subprocess.run(["mount", *how], check=True)
mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", FOLDER)
path = FOLDER + "/it"
store.save(path, "test", {"a.npy": np.arange(9)}, {})
def refused(size, number):
    try:
        store.save(path, "test", {"a.npy": np.arange(size)}, {}, overwrite=True)
    except OSError as error:
        assert error.errno == number and "was not saved" in str(error), error
        assert len(store.load(path, "test")[0]["a.npy"]) == 9 and sorted(os.listdir(FOLDER)) == [".adkit.lock", "it"], os.listdir(FOLDER)
        print(error)
refused(100_000, errno.ENOSPC)
store.save(path, "test", {"a.npy": np.arange(9)}, {}, overwrite=True)
mount("-o", "remount,ro", FOLDER)
refused(10, errno.EROFS)
"""


def test_a_full_and_a_read_only_file_system(tmp_path):
    """A real tmpfs of 256 KiB, where this machine lets a user mount one in a name space of their own."""
    alone = "unshare", "--user", "--map-root-user", "--mount"
    if (
        not shutil.which("unshare")
        or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no user name spaces here")
    done = run(f"FOLDER = {str(tmp_path)!r}\n" + MOUNT, *alone)
    if "CalledProcessError" in done.stderr:
        pytest.skip("no tmpfs may be mounted here")
    assert "No space left on device" in done.stdout and "Read-only file system" in done.stdout, (
        done.stderr
    )


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


# ---- two in the same place ----


def write(path, number: int, overwrite: bool) -> str:
    try:
        store.save(path, "test", {"a.npy": np.full(20_000, number)}, {"writer": number}, overwrite)
        return "kept"
    except FileExistsError as error:
        return (
            "told"
            if "another process saved" in str(error) or "already holds" in str(error)
            else str(error)
        )


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_two_that_write_at_once_one_wins_whole_and_the_other_is_told(
    tmp_path, monkeypatch, overwrite
):
    """Both have seen the same state before either is done, at every run: they meet before the last step."""
    path = tmp_path / "it"
    if overwrite:
        store.save(path, "test", OLD, {})
    meet, chmod, said = threading.Barrier(2), os.chmod, {}
    monkeypatch.setattr(os, "chmod", lambda *args: (chmod(*args), meet.wait(30))[0])
    pair = [
        threading.Thread(target=lambda n=n: said.update({n: write(path, n, overwrite)}))
        for n in (0, 1)
    ]
    [each.start() for each in pair], [each.join() for each in pair]
    assert sorted(said.values()) == ["kept", "told"]
    files, about = store.load(path, "test")
    assert (
        said[about["writer"]] == "kept"
        and (files["a.npy"] == about["writer"]).all()
        and os.listdir(tmp_path) == ["it"]
    )


def test_the_same_content_from_two_at_once_is_no_conflict(tmp_path, monkeypatch):
    meet, chmod, said = threading.Barrier(2), os.chmod, []
    monkeypatch.setattr(os, "chmod", lambda *args: (chmod(*args), meet.wait(30))[0])
    pair = [
        threading.Thread(target=lambda: said.append(write(tmp_path / "it", 3, False)))
        for _ in range(2)
    ]
    [each.start() for each in pair], [each.join() for each in pair]
    assert said == ["kept", "kept"] and os.listdir(tmp_path) == ["it"]


def rewrite(path, number: int) -> list[str]:
    return [write(path, 100 * number + i, True) for i in range(15)]


def test_processes_that_overwrite_and_one_that_reads_never_meet_half_an_artefact(tmp_path):
    path = tmp_path / "it"
    write(path, 0, False)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        writers = [pool.submit(rewrite, path, n) for n in (1, 2)]
        while not all(writer.done() for writer in writers):
            files, about = store.load(path, "test")
            assert (files["a.npy"] == about["writer"]).all()
        said = [word for writer in writers for word in writer.result()]
    assert set(said) <= {"kept", "told"} and "kept" in said and os.listdir(tmp_path) == ["it"]


@pytest.mark.parametrize("what", ["notes", "another kind", "a file", "no manifest"])
def test_what_is_no_such_artefact_is_never_overwritten(tmp_path, what):
    path = tmp_path / "place"
    if what == "a file":
        path.write_text("mine")
    elif what == "another kind":
        store.save(path, "other", {"c": b"mine"}, {})
    else:
        path.mkdir()
        (path / ("manifest.json" if what == "no manifest" else "notes.txt")).write_text("mine")
    before = sorted((file, file.read_bytes()) for file in tmp_path.rglob("*") if file.is_file())
    with pytest.raises(
        FileExistsError,
        match="place holds no test, and only that is overwritten; save under another name",
    ):
        store.save(path, "test", NEW, {}, overwrite=True)
    assert (
        sorted((file, file.read_bytes()) for file in tmp_path.rglob("*") if file.is_file())
        == before
    )


def test_below_a_file_there_is_no_room(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        FileExistsError, match="lies below .*file, which is a file; save under another name"
    ):
        store.save(tmp_path / "file" / "x" / "y", "test", NEW, {})


def test_a_damaged_artefact_and_an_empty_folder_are_overwritten(tmp_path):
    path = store.save(tmp_path / "damaged", "test", OLD, {})
    (path / "c").write_bytes(b"other")
    (tmp_path / "empty").mkdir()
    for name in ("damaged", "empty"):
        assert holds(store.save(tmp_path / name, "test", NEW, {}, overwrite=True), NEW)


def test_an_empty_folder_is_nothing_and_no_leave_is_needed(tmp_path):
    (tmp_path / "it").mkdir()
    assert holds(store.save(tmp_path / "it", "test", NEW, {}), NEW)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="already holds something else"):
        store.save(tmp_path / "full", "test", NEW, {})


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    disk, link = tmp_path / "disk" / "it", tmp_path / "here" / "link"
    link.parent.mkdir()
    link.symlink_to(disk)  # to nothing, at first
    for files in (OLD, NEW, OLD):
        assert store.save(link, "test", files, {}, overwrite=True) == link
        assert holds(link, files) and holds(disk, files) and link.is_symlink()
    assert os.listdir(disk.parent) == ["it"] and os.listdir(link.parent) == ["link"]
    disk.rename(disk.parent / ".it.old")  # what a crash leaves
    assert holds(link, OLD)


def test_numbers_of_numpy_are_saved_as_numbers(tmp_path):
    path = store.save(
        tmp_path / "x",
        "test",
        {},
        {"seed": np.int64(3), "lr": np.float32(0.5), "shape": (1, np.bool_(True))},
    )
    assert store.load(path, "test")[1] == {"seed": 3, "lr": 0.5, "shape": [1, True]}
    with pytest.raises(
        TypeError,
        match="of type set is no JSON and cannot be saved; give numbers, text, lists or dicts",
    ):
        store.save(tmp_path / "y", "test", {}, {"x": {1}})


def test_what_a_crash_retired_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("ADKIT_ROOT", str(tmp_path))
    path = store.save(tmp_path / "runs" / "mine", "test", OLD, {})
    path.rename(path.parent / ".mine.old")  # between retiring it and putting the new one there
    assert store.find("mine") == path and holds(path, OLD)
