"""Set-up: what a stranger's first command meets. That the lists of packages agree: test_binder.py."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import adkit as ad

ROOT = Path(ad.__file__).parents[1]


@pytest.fixture
def bare(tmp_path):
    """A checkout without .venv, and a PATH without any python3."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("make", "sh", "awk", "find", "df", "sed", "uname", "rm", "mkdir", "touch", "printf", "id"):
        (tools / tool).symlink_to(shutil.which(tool))
    return tmp_path, tools


def setup(folder, tools, *how):
    return subprocess.run(
        ["make", "setup", *how], cwd=folder, env={"PATH": str(tools)}, capture_output=True, text=True, check=False
    )


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    os.chmod(path, 0o755)


def test_without_python_it_says_what_to_install(bare):
    done = setup(*bare)
    assert done.returncode and "No Python 3.11 or newer among" in done.stderr and "apt install python3" in done.stderr
    assert not (bare[0] / ".venv").exists()


def test_without_the_venv_module_it_names_the_package(bare):
    folder, tools = bare
    script(tools / "python3.11", 'case "$2" in *ensurepip*) exit 1;; *print*) echo 3.11;; esac')
    done = setup(folder, tools)
    assert done.returncode and "apt install python3.11-venv" in done.stderr and not (folder / ".venv").exists()


def test_without_disk_space_it_says_how_much_is_missing(bare):
    folder, tools = bare
    script(tools / "python3.11", "exit 0")
    (tools / "df").unlink()
    script(tools / "df", 'echo head; echo "x 1 1 204800 1 /"')
    done = setup(folder, tools)
    assert done.returncode and "Only 200 MB of disk are free" in done.stderr and not (folder / ".venv" / ".ready").exists()


def test_jupyterlab_is_bound_to_this_machine_and_keeps_its_token():
    recipe = (ROOT / "Makefile").read_text().split("\nlab:")[1].split("\n\n")[0]
    assert "--ServerApp.ip=127.0.0.1" in recipe and "token" not in recipe and "password" not in recipe
