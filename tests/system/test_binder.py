"""Binder without docker or conda: what mybinder.org would read, install and run."""

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
CONDA = {"torch": "pytorch-cpu"}  # PyPI's name: conda-forge's
NEWS = "@jupyterlab/apputils-extension:announcements"


def run(*command, **how) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, check=False, **how)


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
