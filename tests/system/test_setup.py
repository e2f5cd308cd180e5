"""Set-up and import: the first commands of a stranger, on a machine that lacks something."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import adkit as ad

ROOT = Path(ad.__file__).parents[1]
TOOLS = ["make", "sh", "awk", "find", "df", "sed", "uname", "rm", "mkdir", "touch", "printf", "id"]
OLD_PYTHON = 'case "$2" in *ensurepip*) exit 1;; *print*) echo 3.11;; esac'
FULL_DISK = 'echo head; echo "x 1 1 204800 1 /"'


@pytest.mark.parametrize(
    ("scripts", "says"),
    [
        ({}, "No Python 3.11 or newer among"),
        ({}, "apt install python3"),
        ({"python3.11": OLD_PYTHON}, "apt install python3.11-venv"),
        ({"python3.11": "exit 0", "df": FULL_DISK}, "Only 200 MB of disk are free"),
    ],
)
def test_what_is_missing_is_named(tmp_path, scripts, says):
    """In a checkout without .venv, with a PATH that holds a few tools alone."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in {*TOOLS} - {*scripts}:
        (tools / tool).symlink_to(shutil.which(tool))
    for name, text in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    quiet = {"capture_output": True, "text": True, "check": False}
    done = subprocess.run(["make", "setup"], cwd=tmp_path, env={"PATH": str(tools)}, **quiet)
    assert done.returncode and says in done.stderr
    assert not (tmp_path / ".venv" / ".ready").exists()


def test_jupyterlab_is_bound_to_this_machine_and_keeps_its_token():
    """`make lab` listens on 127.0.0.1 only, and no shipped file opens it elsewhere."""
    say = ["make", "-n", "-o", "pyproject.toml", "-o", "constraints.txt", "lab", "ARGS="]
    said = subprocess.run(say, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (command,) = (line for line in said.splitlines() if "-m jupyterlab" in line)
    options = {*command.split("-m jupyterlab")[1].split()}
    assert options - {"--allow-root"} == {"notebooks", "--ServerApp.ip=127.0.0.1"}
    assert not [*ROOT.glob("*jupyter*config*"), *ROOT.glob("**/.jupyter")]
    assert "ServerApp" not in (ROOT / "postBuild").read_text()


def test_adkit_imports_from_the_folder_that_holds_the_clone(tmp_path):
    """A clone named adkit, seen from its parent folder, must not look like an empty package."""
    (tmp_path / "adkit").symlink_to(ROOT)
    command = [sys.executable, "-c", "import adkit; print(adkit.EnvSpec.__name__)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "EnvSpec\n"


def test_importing_adkit_loads_nothing_heavy_and_changes_nothing():
    code = """
import random, sys, numpy as np
before = random.getstate(), np.random.get_state()[1].tobytes()
import adkit
heavy = {"torch", "numba", "pandas", "scipy", "sklearn", "statsmodels", "yaml", "plotly"}
heavy |= {"playwright", "ipywidgets"}
heavy &= set(sys.modules)
assert not heavy, heavy
assert before == (random.getstate(), np.random.get_state()[1].tobytes())
import gymnasium
assert gymnasium.make("adkit/DarkRoom-v0", goal=(3, 4)).reset(seed=0)[0].tolist() == [4, 4]
from adkit.rollout import collect
assert adkit.collect is collect
import adkit.models.distill  # a module of the same name
assert adkit.distill is adkit.models.distill.distill
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
