"""Set-up, import and Binder: the first commands of a stranger, and what mybinder.org would run."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from rattler import MatchSpec, Version, VersionSpec

import adkit as ad

ROOT = Path(ad.__file__).parents[1]
TOOLS = ["make", "sh", "awk", "find", "df", "sed", "uname", "rm", "mkdir", "touch", "printf", "id"]
OLD_PYTHON = 'case "$2" in *ensurepip*) exit 1;; *print*) echo 3.11;; esac'
FULL_DISK = 'echo head; echo "x 1 1 204800 1 /"'
CONDA = {"torch": "pytorch-cpu"}  # PyPI's name: conda-forge's
NEWS = "@jupyterlab/apputils-extension:announcements"


def run(*command, **how) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, check=False, **how)


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
    done = run("make", "setup", cwd=tmp_path, env={"PATH": str(tools)})
    assert done.returncode and says in done.stderr
    assert not (tmp_path / ".venv" / ".ready").exists()


def test_jupyterlab_is_bound_to_this_machine_and_keeps_its_token():
    """`make lab` listens on 127.0.0.1 only, and no shipped file opens it elsewhere."""
    say = ["make", "-n", "-o", "pyproject.toml", "-o", "constraints.txt", "lab", "ARGS="]
    said = run(*say, cwd=ROOT).stdout
    (command,) = (line for line in said.splitlines() if "-m jupyterlab" in line)
    options = {*command.split("-m jupyterlab")[1].split()}
    assert options - {"--allow-root"} == {"notebooks", "--ServerApp.ip=127.0.0.1"}
    assert not [*ROOT.glob("*jupyter*config*"), *ROOT.glob("**/.jupyter")]
    assert "ServerApp" not in (ROOT / "postBuild").read_text()


def test_adkit_imports_from_the_folder_that_holds_the_clone(tmp_path):
    """A clone named adkit, seen from its parent folder, must not look like an empty package."""
    (tmp_path / "adkit").symlink_to(ROOT)
    code = "import adkit; print(adkit.EnvSpec.__name__)"
    assert run(sys.executable, "-c", code, cwd=tmp_path).stdout == "EnvSpec\n"


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


# ---- Binder, without docker or conda ----


def ranges(requirements) -> dict[str, str]:
    """Return {name: range of versions}; PyPI's plain ranges mean the same to conda."""
    specs = [MatchSpec(requirement, strict=False) for requirement in requirements]
    return {spec.name.normalized: spec.version for spec in specs}


def test_the_environment_has_the_requirements_of_adkit_and_the_tested_versions_lie_inside():
    env = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert env["channels"] == ["conda-forge", "nodefaults"]  # PyPI's torch is gigabytes of CUDA
    offered = ranges(env["dependencies"])  # fails on a pip section
    pins = re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = ranges(project["dependencies"])
    for name, wanted in required.items():
        assert offered.get(CONDA.get(name, name)) == wanted, name
    for name, wanted in (required | ranges(project["optional-dependencies"]["test"])).items():
        assert VersionSpec(wanted).matches(Version(dict(pins)[name])), name


@pytest.fixture
def checkout(tmp_path):
    """Return a copy of this checkout without the files that git ignores."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    ignore = shutil.ignore_patterns(".git", *ignored)
    return shutil.copytree(ROOT, tmp_path / "adkit", ignore=ignore)


def test_repo2docker_writes_the_image_that_we_mean(checkout):
    """It is called as mybinder.org calls it."""
    flags = "--no-build", "--debug", "--Repo2Docker.default_buildpack=None", "."
    done = run(sys.executable, "-m", "repo2docker", *flags, cwd=checkout)
    says = done.stdout + done.stderr
    assert done.returncode == 0, says[-2000:]
    assert "conda environment for python=3.11\n" in says  # what it cannot read, it takes for 3.10
    assert 'env update -p ${NB_PYTHON_PREFIX} --file "environment.yml"' in says
    assert "RUN ./postBuild\n" in says


@pytest.fixture
def environment(tmp_path):
    """Return what conda would make: the packages installed here, without adkit, no download."""
    prefix = tmp_path / "environment"
    venv.create(prefix, symlinks=True, with_pip=False)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(prefix)}))
    # .pth files over there, adkit's too, are not followed
    (packages / "here.pth").write_text(sysconfig.get_path("purelib"))
    modules = {"pip": "pip", "jupyter": "jupyter"}
    for name, module in (modules | {"jupyter-labextension": "jupyterlab.labextensions"}).items():
        script = prefix / "bin" / name
        script.write_text(f'#!/bin/sh\nexec python -m {module} "$@"\n')
        script.chmod(0o755)
    return prefix


def test_post_build_installs_adkit_and_disables_jupyterlabs_news_there_alone(checkout, environment):
    pages = [Path(p, "etc/jupyter/labconfig/page_config.json") for p in (sys.prefix, environment)]
    content = lambda page: page.read_bytes() if page.exists() else None
    before = content(pages[0])
    where = {"PATH": f"{environment / 'bin'}{os.pathsep}{os.defpath}", "HOME": str(environment)}
    where |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    built = run("./postBuild", cwd=checkout, env=where)
    assert built.returncode == 0, built.stdout + built.stderr
    code = "import adkit; print(adkit.__file__)"
    found = run("python", "-c", code, cwd=environment, env=where).stdout.strip()
    assert found == str(checkout / "adkit/__init__.py")
    assert json.loads(content(pages[1]))["disabledExtensions"].get(NEWS)
    assert content(pages[0]) == before
