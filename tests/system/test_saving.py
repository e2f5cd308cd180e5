"""Saving where something is in the way: no room, a kill, another writer."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from harm import no_longer_than
from helpers import listed

from adkit import folders, store
from adkit.views import pictures


def write(path, number: int, overwrite: bool = True) -> str:
    try:
        store.save(path, "test", {"a": np.full(20_000, number)}, {"writer": number}, overwrite)
        return "kept"
    except FileExistsError as error:
        known = "another process saved" in str(error) or "already holds" in str(error)
        return "told" if known else str(error)


def writer(path, mapped: bool = False) -> int:
    """Return who wrote what is there, all of it."""
    files, about = store.load(path, "test", mapped)
    assert (files["a"] == about["writer"]).all()
    return about["writer"]


def run(code: str, folder) -> subprocess.CompletedProcess:
    """Run code in a process of its own that has the path of an artefact, PATH."""
    start = f"import os, resource, signal, sys\nfrom test_saving import *\nPATH = '{folder}/it'\n"
    where = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    how = {"capture_output": True, "text": True, "check": False, "env": where}
    return subprocess.run([sys.executable, "-c", start + code], **how)


LIMITED = """
import adkit as ad
env = ad.envs.AdversarialBandit(arms=3, horizon=4)
histories = ad.collect(env, env.tasks()[:50], ad.sources.UCB(), episodes=1, lifetimes=20)
rows = np.arange(5000)
for limit, call in (
    (100_000, lambda: ad.interchange.to_minari(histories, "room/x-v0", PATH + "s")),
    (2_000, lambda: ad.interchange.to_parquet(histories, PATH + "s/x.parquet")),
    (2_000, lambda: store.save(PATH, "test", {"a": rows}, {}, overwrite=True)),
    (2_000, lambda: store.save(PATH + "2", "test", {}, {}, parts=[{"a": rows}], rows=5000)),
):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        call()
    except OSError as error:
        assert "was not saved (File too large); nothing was changed" in str(error), error
        print("told")
"""


def test_a_limit_on_file_sizes_stops_a_save_and_nothing_else(tmp_path):
    """The kernel refuses to write more than so many bytes. HDF5 itself would crash."""
    write(tmp_path / "it", 7)
    done = run(LIMITED, tmp_path)
    assert done.stdout == "told\n" * 4, done.stderr
    assert writer(tmp_path / "it") == 7 and listed(tmp_path) == ["it", "its"]
    left = [path.name for path in (tmp_path / "its").rglob("*") if path.is_file()]
    assert set(left) == {folders.LOCK}


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    write(tmp_path / "it", 1)
    kill = "os.fsync = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\nwrite(PATH, 2)"
    assert run(kill, tmp_path).returncode == -9
    assert writer(tmp_path / "it") == 1 and len(listed(tmp_path)) == 2
    write(tmp_path / "it", 3)
    assert writer(tmp_path / "it") == 3 and listed(tmp_path) == ["it"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("numbers", [(0, 1), (3, 3)])
def test_of_two_writers_one_wins_whole_and_the_other_is_told(
    tmp_path, monkeypatch, overwrite, numbers
):
    """They meet when each has written all but not replaced anything."""
    path, said = tmp_path / "it", []
    if overwrite:
        write(path, 7)
    meet, flush = threading.Barrier(2), folders.flush
    monkeypatch.setattr(folders, "flush", lambda place: (flush(place), meet.wait(30)))
    work = lambda number: said.append((write(path, number, overwrite), number))
    threads = [threading.Thread(target=work, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same = numbers == (3, 3)  # the same content is no conflict
    assert sorted(word for word, _ in said) == ["kept", "kept" if same else "told"]
    assert ("kept", writer(path)) in said and listed(tmp_path) == ["it"]


def rewrite(path, number: int) -> list[str]:
    return [write(path, 100 * number + i) for i in range(15)]


def test_a_reader_never_meets_half_of_what_two_processes_write(tmp_path):
    path = tmp_path / "it"
    write(path, 0)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        writers = [pool.submit(rewrite, path, n) for n in (1, 2)]
        while not all(future.done() for future in writers):
            for mapped in (False, True):
                writer(path, mapped)
        said = [word for future in writers for word in future.result()]
    assert set(said) <= {"kept", "told"} and "kept" in said and listed(tmp_path) == ["it"]


def test_a_live_process_keeps_what_it_is_writing(tmp_path, monkeypatch):
    """Process numbers say nothing: the other one may be in another container."""
    monkeypatch.setattr(os, "getpid", lambda: 2**30)
    path = tmp_path / "it"
    with folders.new_beside(path) as new:
        new.mkdir()
        assert run("os.getpid = lambda: 1\nprint(write(PATH, 2))", tmp_path).stdout == "kept\n"
        assert new.is_dir()
    assert writer(path) == 2 and listed(tmp_path) == ["it"]


def test_nothing_of_others_is_removed(tmp_path):
    """Neither what lies where an old version would be put aside, nor a pipe."""
    path, old = tmp_path / "it", tmp_path / ".it.old"
    old.mkdir()
    (old / "notes").write_text("mine")
    assert write(path, 1) == "kept" and "in the way" in write(path, 2)
    assert writer(path) == 1 and (old / "notes").read_text() == "mine"
    path.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        writer(path)
    os.mkfifo(path)
    with no_longer_than(10):
        assert write(path, 3) == "told"
    pipe = tmp_path / "page.html"
    os.mkfifo(pipe)
    with no_longer_than(10), pytest.raises(ValueError, match="is no file"):
        pictures.save(pipe, "page")
    assert pipe.is_fifo() and old.is_dir()


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_files_have_the_users_permissions(tmp_path, mask):
    before = os.umask(mask)
    try:
        write(tmp_path / "it", 1)
        page = pictures.save(tmp_path / "page.html", "page")
    finally:
        os.umask(before)
    assert (tmp_path / "it").stat().st_mode & 0o777 == 0o777 & ~mask
    for file in (page, tmp_path / "it" / "a.npy"):
        assert file.stat().st_mode & 0o777 == 0o666 & ~mask


UNWRITABLE = """
import numba.core.caching as caching
def ensure(self):
    if not caching.config.CACHE_DIR:
        raise OSError("this is read-only, and so is home")
    os.makedirs(self.get_cache_path(), exist_ok=True)
caching._CacheLocator.ensure_cache_path = ensure
for name in [name for name in sys.modules if name.startswith("adkit")]:
    del sys.modules[name]
import adkit as ad
env = ad.envs.AdversarialBandit(arms=3, horizon=4)
print(len(ad.collect(env, env.tasks()[:2], ad.sources.QLearning(), episodes=1)))
"""


def test_compiled_code_is_kept_elsewhere_where_nothing_can_be_written(tmp_path):
    done = run(UNWRITABLE, tmp_path)
    assert done.stdout == "2\n", done.stderr
    assert done.stderr.count("set NUMBA_CACHE_DIR to a folder that can be written") == 1
