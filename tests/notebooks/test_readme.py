"""The README does what it says: its Python runs, its files exist, its make targets are there."""

import re
import subprocess
from pathlib import Path

import nbformat
import numpy as np
from cover import COVER, cover
from PIL import Image
from run import result

import adkit as ad

ROOT = Path(ad.__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_python_block_runs_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the blocks write files
    scope = {"__name__": "readme"}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(block, "README.md", "exec"), scope)
    rollouts, forgetful = scope["rollouts"], scope["forgetful"]
    assert rollouts.returns[:, :, -5:].mean() > 3 * forgetful.returns.mean()
    histories, best = scope["orchard_histories"], ad.optimal_returns(scope["env"], scope["train"])
    assert histories.returns[:, :, -10:].mean() > 0.99 * best.mean()
    held_out = scope["rollouts_held_out"]
    assert len(held_out.task_values) == len(scope["test"]) == 10
    assert len(scope["log"]) == 20
    assert (tmp_path / "attention.html").stat().st_size > 100_000


def test_every_file_it_names_exists():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    paths = re.findall(r"`((?:notebooks|adkit|tests|data)/[\w./]+)`", README)
    assert links and paths
    assert not [name for name in links + paths if not (ROOT / name).exists()]
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert all(f"`{name}`" in README for name in notebooks)


def test_its_answers_and_its_picture_are_those_of_the_notebooks():
    for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"):
        answer = result(nbformat.read(path, as_version=4))
        assert f"| {answer} |" in README, f"README's answer of {path.stem} should be: {answer}"
    apart = np.asarray(Image.open(COVER), int) - np.asarray(cover(), int)
    assert abs(apart).max() <= 8, "run notebooks/cover.py"  # decoders of JPEG differ in a last bit


def test_every_make_target_it_names_exists():
    quiet = {"capture_output": True, "text": True, "check": True}
    targets = subprocess.run(["make", "-s", "help"], cwd=ROOT, **quiet).stdout
    named = set(re.findall(r"(?:`|^)make (\w+)", README, re.MULTILINE))
    assert named and all(f"make {name}" in targets for name in named)


def test_the_badge_opens_the_first_notebook():
    assert "?urlpath=lab/tree/notebooks/00_start_here.ipynb" in README
