"""Set-up: what a stranger's first command meets, and that the lists of packages agree."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import adkit as ad

ROOT = Path(ad.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line and not line.startswith("#")
)
CONDA = (ROOT / "environment.yml").read_text()


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


def version(text):
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_every_requirement_is_pinned_in_range_and_on_binder(requirement):
    name = re.match(r"[\w-]+", requirement)[0]
    for bound, number in re.findall(r"(>=|<)([\d.]+)", requirement):
        inside = version(PINS[name]) >= version(number) if bound == ">=" else version(PINS[name]) < version(number)
        assert inside, f"{name} {PINS[name]} was tested and is outside {requirement}"
    conda = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}.get(name, name)
    assert re.search(rf"^  - {conda}\b", CONDA, re.MULTILINE), f"{conda} is missing from environment.yml"


def test_nobody_downloads_cuda_by_accident():
    assert PINS["torch"] == "2.13.0" and "pytorch-cpu" in CONDA and "cuda" not in CONDA.lower().split("# never")[0]
    assert re.search(r"^  - python=3\.11\b", CONDA, re.MULTILINE), "repo2docker reads only python=3.x"
    assert not (ROOT / "binder").exists() and not (ROOT / ".binder").exists(), "they would hide environment.yml"
    assert os.access(ROOT / "postBuild", os.X_OK) and "pip install --no-deps -e ." in (ROOT / "postBuild").read_text()
