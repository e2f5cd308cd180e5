"""Saving where something is in the way: a full disk, a read-only place, another writer."""

import os
import shutil
import subprocess
import sys
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
import adkit as ad
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
rows = np.arange(5000)
folder = Path(PATH).parent
env = ad.envs.AdversarialBandit(arms=3, horizon=4)
histories = ad.collect(env, env.tasks()[:50], ad.sources.UCB(), episodes=1, lifetimes=20)
for write in (
    lambda: histories.to_minari("room/x-v0", folder),
    lambda: histories.to_parquet(folder / "x.parquet"),
):
    try:
        write()
    except OSError as error:
        assert "was not written (File too large), and nothing is left of it" in str(error), error
        print("told")
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
    """The kernel refuses to write more than so many bytes. HDF5 itself would crash."""
    store.save(tmp_path / "it", "test", OLD, {})
    done = run(f"PATH = {str(tmp_path / 'it')!r}\n" + LIMITED)
    assert done.stdout == "told\n" * 5, done.stderr
    assert holds(tmp_path / "it", OLD) and listed(tmp_path) == ["it", "room"]


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
