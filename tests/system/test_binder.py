"""Binder, without docker or conda: what mybinder.org would read, install and run, and that each check catches what it is for."""

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
    """What would go wrong on Binder, from the first check that finds anything."""
    for check in (environment, versions, dry_run, post_build):
        if found := list(check(folder)):
            return found
    return []


def environment(folder):
    """environment.yml says what conda and repo2docker can read, and takes all of it from conda-forge."""
    if not (folder / "environment.yml").exists():
        yield "there is no environment.yml"
        return
    env = yaml.safe_load((folder / "environment.yml").read_text())
    if env["channels"] != ["conda-forge", "nodefaults"]:
        yield f"channels {env['channels']} are not conda-forge alone"
    for spec in env["dependencies"]:
        try:
            MatchSpec(spec, strict=False)
        except TypeError:  # a section such as pip: PyPI's torch is gigabytes of CUDA, and "-e ." solves anew for every commit
            yield f"{spec} is not a conda package"
        except InvalidMatchSpecError as error:
            yield f"{spec}: {error}"


def versions(folder):
    """environment.yml has every requirement of adkit in adkit's range, and the tested versions lie inside."""
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
    """{name: range of versions}; PyPI's plain ranges mean the same to conda."""
    specs = [MatchSpec(requirement, strict=False) for requirement in requirements]
    return {spec.name.normalized: spec.version for spec in specs}


def dry_run(folder):
    """repo2docker, told what mybinder.org tells it, writes the image that we mean."""
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
    """postBuild, in an environment without adkit, installs adkit and turns JupyterLab's news off: there and nowhere else."""
    prefix = fresh_environment(folder.with_name("environment"))
    ours = Path(sys.prefix, "etc/jupyter/labconfig/page_config.json")
    before = ours.read_bytes() if ours.exists() else None
    where = {
        "PATH": f"{prefix / 'bin'}{os.pathsep}{os.defpath}",
        "HOME": str(prefix),
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }
    run = lambda *command, cwd: subprocess.run(
        command, cwd=cwd, env=where, capture_output=True, text=True, check=False
    )

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
    """What conda would have made: all that runs here, without adkit and without a download."""
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
    """A copy of this checkout without what git ignores."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    return shutil.copytree(
        ROOT, tmp_path / "adkit", ignore=shutil.ignore_patterns(".git", *ignored)
    )


def test_binder_builds_this_checkout(checkout):
    assert problems(checkout) == []


SPEC = "numpy>=1.26"
BROKEN = {  # what is done to a checkout: the file, the text there, what it becomes; and what must be said about it
    "no environment": ("environment.yml", None, None, "no environment.yml"),
    "another channel": ("environment.yml", "nodefaults", "defaults", "not conda-forge alone"),
    "a pip section": (
        "environment.yml",
        "  - pip\n",
        "  - pip: [torch]\n",
        "{'pip': ['torch']} is not a conda package",
    ),
    "a bad match-spec": ("environment.yml", SPEC, "numpy=>1.26==", "unable to parse"),
    "a package missing": (
        "environment.yml",
        "  - anywidget>=0.9.18\n",
        "",
        "anywidget >=0.9.18, environment.yml has None",
    ),
    "ranges that differ": (
        "environment.yml",
        SPEC,
        "numpy>=9",
        "numpy >=1.26, environment.yml has >=9",
    ),
    "an untested range": ("pyproject.toml", SPEC, "numpy>=9", "is outside >=9"),
    "an untested tool": ("pyproject.toml", '"pytest>=8"', '"pytest>=99"', "is outside >=99"),
    "no tested version": (
        "constraints.txt",
        "\nnumpy==",
        "\nnumpy-typing==",
        "numpy is not in constraints.txt",
    ),
    "python of any version": (
        "environment.yml",
        "python=3.11 ",
        "python>=3.11 ",
        "another Python than 3.11",
    ),
    "a folder that hides it": (
        "binder/environment.yml",
        None,
        "dependencies: [python=3.11]",
        "does not install environment.yml",
    ),
    "an empty one": ("binder/README.md", None, "", "repo2docker stops"),
    "no postBuild": ("postBuild", None, None, "does not run postBuild"),
    "a postBuild that fails": ("postBuild", None, "#!/bin/sh\nexit 1", "postBuild stops"),
    "a postBuild that needs the net": (
        "postBuild",
        None,
        "#!/bin/sh\npip install --no-deps -e .",
        "postBuild stops",
    ),
    "a postBuild that does nothing": ("postBuild", None, "#!/bin/sh\n", "adkit at no place"),
    "a postBuild that leaves the news": (
        "postBuild",
        f'jupyter labextension disable "{NEWS}"',
        "exit",
        "JupyterLab's news on",
    ),
}


@pytest.mark.parametrize(("file", "old", "new", "says"), BROKEN.values(), ids=BROKEN)
def test_binder_would_not_build(checkout, file, old, new, says):
    path = checkout / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if new is None:
        path.unlink()
    elif old is None:
        path.write_text(new)
    else:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    assert says in " ".join(problems(checkout))
