"""The notebooks: short cells, committed with their pictures, and executed in the quick profile."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import adkit as ad

FOLDER = Path(ad.__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def code(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_asks_asserts_and_is_committed_with_small_outputs(path):
    cells = code(path)
    notebook = json.loads(path.read_text())
    first = "".join(notebook["cells"][0]["source"])
    assert all(word in first for word in ("?**", "| needs |", "| makes |", "| time, memory |"))
    assert [cell["metadata"].get("tags") for cell in cells].count(["parameters"]) == 1
    for cell in cells:
        source = "".join(cell["source"])
        assert len(source.splitlines()) <= 11 and "def " not in source, f"logic belongs in adkit:\n{source}"
        assert not [out for out in cell["outputs"] if out["output_type"] == "error"]
    assert "assert" in "".join(cells[-1]["source"]) and any("RESULT" in str(out) for out in cells[-1]["outputs"])
    pictures = [out for cell in cells for out in cell["outputs"] if "image/png" in out.get("data", {})]
    assert pictures, "committed without a picture"
    assert "widgets" not in notebook["metadata"] and path.stat().st_size < 1_000_000


def test_every_notebook_runs_in_the_quick_profile_within_a_gigabyte(tmp_path):
    done = subprocess.run(
        [sys.executable, FOLDER / "run.py", "--memory-limit", "1000"], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert all(path.stem in done.stdout for path in NOTEBOOKS)
