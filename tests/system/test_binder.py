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
from rattler.exceptions import InvalidMatchSpecError

import adkit as ad

ROOT = Path(ad.__file__).parents[1]
CONDA = {
    "torch": "pytorch-cpu",
    "matplotlib": "matplotlib-base",
}  # PyPI's name: conda-forge's, where they differ
NEWS = "@jupyterlab/apputils-extension:announcements"


def problems(folder):
    """Return what would go wrong on Binder, from the first check that finds anything."""
    for check in (environment, versions, dry_run, post_build):
        if found := list(check(folder)):
            return found
    return []


def environment(folder):
    """Check that conda can read environment.yml and that everything comes from conda-forge."""
    if not (folder / "environment.yml").exists():
        yield "there is no environment.yml"
        return
    env = yaml.safe_load((folder / "environment.yml").read_text())
    if env["channels"] != ["conda-forge", "nodefaults"]:
        yield f"channels {env['channels']} are not conda-forge alone"
    for spec in env["dependencies"]:
        try:
            MatchSpec(spec, strict=False)
        except TypeError:  # a pip section: PyPI's torch is gigabytes of CUDA
            yield f"{spec} is not a conda package"
        except InvalidMatchSpecError as error:
            yield f"{spec}: {error}"


def versions(folder):
    """Check that environment.yml has adkit's requirements and that the pins lie inside them."""
    pins = dict(
        re.findall(r"^([\w.-]+)==(.+)$", (folder / "constraints.txt").read_text(), re.MULTILINE)
    )
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    required = ranges(project["dependencies"])
    offered = ranges(yaml.safe_load((folder / "environment.yml").read_text())["dependencies"])
    for name, wanted in (required | ranges(project["optional-dependencies"]["test"])).items():
        if name not in pins:
            yield f"{name} is not in constraints.txt"
        elif not VersionSpec(wanted).matches(Version(pins[name])):
            yield f"{name} {pins[name]} was tested and is outside {wanted}"
    for name, wanted in required.items():
        if (found := offered.get(CONDA.get(name, name))) != wanted:
            yield f"adkit needs {name} {wanted}, environment.yml has {found}"


def ranges(requirements):
    """Return {name: range of versions}; PyPI's plain ranges mean the same to conda."""
    specs = [MatchSpec(requirement, strict=False) for requirement in requirements]
    return {spec.name.normalized: spec.version for spec in specs}


def dry_run(folder):
    """Check that repo2docker, called as mybinder.org calls it, writes the image that we mean."""
    command = [
        "-m",
        "repo2docker",
        "--no-build",
        "--debug",
        "--Repo2Docker.default_buildpack=None",
        ".",
    ]
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False
    )
    says = done.stdout + done.stderr
    if done.returncode:
        yield f"repo2docker stops: {says.strip().splitlines()[-1]}"
        return
    if "conda environment for python=3.11\n" not in says:  # what it cannot read, it takes for 3.10
        yield "repo2docker builds on another Python than 3.11"
    if 'env update -p ${NB_PYTHON_PREFIX} --file "environment.yml"' not in says:
        yield "repo2docker does not install environment.yml"
    if "RUN ./postBuild\n" not in says:
        yield "repo2docker does not run postBuild"


def post_build(folder):
    """Check that postBuild installs adkit and disables JupyterLab's news, there alone."""
    prefix = fresh_environment(folder.with_name("environment"))
    ours = Path(sys.prefix, "etc/jupyter/labconfig/page_config.json")
    before = ours.read_bytes() if ours.exists() else None
    where = {
        "PATH": f"{prefix / 'bin'}{os.pathsep}{os.defpath}",
        "HOME": str(prefix),
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }

    def run(*command: str, cwd: Path) -> subprocess.CompletedProcess:
        quiet = {"capture_output": True, "text": True, "check": False}
        return subprocess.run(command, cwd=cwd, env=where, **quiet)

    built = run("./postBuild", cwd=folder)
    if built.returncode:
        yield f"postBuild stops: {built.stdout}{built.stderr}"
        return
    found = run("python", "-c", "import adkit; print(adkit.__file__)", cwd=prefix).stdout.strip()
    if found != str(folder / "adkit/__init__.py"):
        yield f"postBuild leaves adkit at {found or 'no place'}"
    page = prefix / "etc/jupyter/labconfig/page_config.json"
    if not page.exists() or not json.loads(page.read_text())["disabledExtensions"].get(NEWS):
        yield "postBuild leaves JupyterLab's news on"
    if before != (ours.read_bytes() if ours.exists() else None):
        yield "postBuild reaches outside its environment"


def fresh_environment(prefix):
    """Make what conda would make: the packages installed here, without adkit, no download."""
    venv.create(prefix, symlinks=True, with_pip=False)
    packages = sysconfig.get_path("purelib", vars={"base": str(prefix)})
    Path(packages, "here.pth").write_text(
        sysconfig.get_path("purelib")
    )  # .pth files over there, adkit's too, are not followed
    for name, module in {
        "pip": "pip",
        "jupyter": "jupyter",
        "jupyter-labextension": "jupyterlab.labextensions",
    }.items():
        script = prefix / "bin" / name
        script.write_text(f'#!/bin/sh\nexec python -m {module} "$@"\n')
        script.chmod(0o755)
    return prefix


@pytest.fixture
def checkout(tmp_path):
    """Return a copy of this checkout without the files that git ignores."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    return shutil.copytree(
        ROOT, tmp_path / "adkit", ignore=shutil.ignore_patterns(".git", *ignored)
    )


def test_binder_builds_this_checkout(checkout):
    assert problems(checkout) == []


SPEC = "numpy>=1.26"
BROKEN = {  # file, the text there, what it becomes, what must be said about it
    "no environment": ("environment.yml", None, None, "no environment.yml"),
    "another channel": ("environment.yml", "nodefaults", "defaults", "not conda-forge alone"),
    "a pip section": ("environment.yml", "  - pip\n", "  - pip: [torch]\n", "not a conda package"),
    "ranges that differ": ("environment.yml", SPEC, "numpy>=9", "environment.yml has >=9"),
    "an untested range": ("pyproject.toml", SPEC, "numpy>=9", "is outside >=9"),
    "any python": ("environment.yml", "python=3.11 ", "python>=3.11 ", "another Python than 3.11"),
    "no postBuild": ("postBuild", None, None, "does not run postBuild"),
    "a postBuild that fails": ("postBuild", None, "#!/bin/sh\nexit 1", "postBuild stops"),
    "an idle postBuild": ("postBuild", None, "#!/bin/sh\n", "adkit at no place"),
}


@pytest.mark.parametrize(("file", "old", "new", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_checkout_is_noticed(checkout, file, old, new, message):
    path = checkout / file
    if new is None:
        path.unlink()
    elif old is None:
        path.write_text(new)
    else:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    assert message in " ".join(problems(checkout))
