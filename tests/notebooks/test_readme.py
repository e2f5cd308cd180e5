"""The README does what it says: its Python runs, its files exist, its make targets are there."""

import re
import subprocess
from pathlib import Path

import adkit as ad

ROOT = Path(ad.__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_python_block_runs_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it writes a file
    scope = {"__name__": "readme"}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["rollouts"].returns[:, :, -5:].mean() > 3 * scope["amnesiac"].returns.mean()
    assert (
        scope["life"].returns[:, :, -1].mean()
        == ad.optimal_returns(scope["env"], scope["env"].tasks()).mean()
    )
    assert len(scope["log"]) == 20 and (tmp_path / "attention.html").stat().st_size > 100_000


def test_every_file_it_names_exists():
    named = re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(
        r"`(notebooks/[\w.]+)`", README
    )
    assert named and not [name for name in named if not (ROOT / name).exists()]
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert all(f"`{name}`" in README for name in notebooks)


def test_every_make_target_it_names_is_there():
    targets = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(
        f"make {name}" in targets
        for name in set(re.findall(r"(?:`|^)make (\w+)", README, re.MULTILINE))
    )


def test_the_badge_opens_the_first_notebook():
    assert "?urlpath=lab/tree/notebooks/00_start_here.ipynb" in README
