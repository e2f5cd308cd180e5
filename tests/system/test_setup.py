"""Set-up: the first command of a stranger, on a machine that lacks something."""

import os
import shutil
import subprocess
import sys
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
    for tool in [
        "make",
        "sh",
        "awk",
        "find",
        "df",
        "sed",
        "uname",
        "rm",
        "mkdir",
        "touch",
        "printf",
        "id",
    ]:
        (tools / tool).symlink_to(shutil.which(tool))
    return tmp_path, tools


def setup(folder, tools, *how):
    return subprocess.run(
        ["make", "setup", *how],
        cwd=folder,
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    os.chmod(path, 0o755)


def test_without_python_it_says_what_to_install(bare):
    done = setup(*bare)
    assert (
        done.returncode
        and "No Python 3.11 or newer among" in done.stderr
        and "apt install python3" in done.stderr
    )
    assert not (bare[0] / ".venv").exists()


def test_without_the_venv_module_it_names_the_package(bare):
    folder, tools = bare
    script(tools / "python3.11", 'case "$2" in *ensurepip*) exit 1;; *print*) echo 3.11;; esac')
    done = setup(folder, tools)
    assert (
        done.returncode
        and "apt install python3.11-venv" in done.stderr
        and not (folder / ".venv").exists()
    )


def test_without_disk_space_it_says_how_much_is_missing(bare):
    folder, tools = bare
    script(tools / "python3.11", "exit 0")
    (tools / "df").unlink()
    script(tools / "df", 'echo head; echo "x 1 1 204800 1 /"')
    done = setup(folder, tools)
    assert (
        done.returncode
        and "Only 200 MB of disk are free" in done.stderr
        and not (folder / ".venv" / ".ready").exists()
    )


def test_jupyterlab_is_bound_to_this_machine_and_keeps_its_token():
    """`make lab` listens on 127.0.0.1 only, and no shipped file opens it elsewhere."""
    say = ["make", "-n", "-o", "pyproject.toml", "-o", "constraints.txt", "lab", "ARGS="]
    said = subprocess.run(say, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (command,) = (line for line in said.splitlines() if "-m jupyterlab" in line)
    options = command.split("-m jupyterlab")[1].split()
    assert (
        set(options) <= {"notebooks", "--ServerApp.ip=127.0.0.1", "--allow-root"}
        and "--ServerApp.ip=127.0.0.1" in options
    )
    assert (
        not [*ROOT.glob("*jupyter*config*"), *ROOT.glob("**/.jupyter")]
        and "ServerApp" not in (ROOT / "postBuild").read_text()
    )


def test_jupyterlab_itself_takes_those_options_to_mean_a_token_and_this_machine():
    code = """
from jupyter_server.serverapp import ServerApp
app = ServerApp()
app.parse_command_line(["--ServerApp.ip=127.0.0.1", "--allow-root"])
assert app.ip == "127.0.0.1" and not app.allow_remote_access and not app.allow_origin
assert len(app.identity_provider_class(parent=app).token) >= 32, "no token"
"""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")
    }
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_adkit_imports_from_the_folder_that_holds_the_clone(tmp_path):
    """A clone named adkit, seen from its parent folder, must not look like an empty package."""
    (tmp_path / "adkit").symlink_to(ROOT)
    code = "import adkit; print(adkit.EnvSpec.__name__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "EnvSpec\n"
