"""The notebooks: short cells, committed with small outputs, and executed in the quick profile."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import plotly.io
import pytest
import torch

import adkit as ad

FOLDER = Path(ad.__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
LINES_PER_CELL, LINES_PER_CLASS = 10, 20


def run(*arguments, **environment) -> subprocess.CompletedProcess:
    """Run notebooks/run.py."""
    command = [sys.executable, FOLDER / "run.py", *arguments]
    quiet = {"capture_output": True, "text": True, "timeout": 900, "check": False}
    return subprocess.run(command, env=os.environ | environment, **quiet)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_asserts_its_answer_within_a_gigabyte(path):
    done = run(path, "--no-pictures", "--memory-limit", "1000")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_asks_a_question_and_is_committed_with_small_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    title, first, question = notebook["cells"][:3]
    assert title["cell_type"] == "markdown" and len(title["source"]) == 1
    opening = "".join(first["outputs"][-1]["data"]["text/markdown"])
    said = [rf"\*\*{name}\.\*\* .+" for name in ("Found", "How sure", "Why it matters")]
    assert re.fullmatch("\n\n".join(said), opening)
    asks = "".join(question["source"])
    assert all(word in asks for word in ("?**", "| needs |", "| makes |", "| time, memory |"))
    assert [cell["metadata"].get("tags") for cell in cells].count(["parameters"]) == 1
    for cell in cells:
        source = "".join(cell["source"])
        lines = [line for line in source.splitlines() if line.strip()]
        allowed = LINES_PER_CLASS if source.startswith(("@dataclass", "class ")) else LINES_PER_CELL
        assert len(lines) <= allowed, f"move this to adkit or to the study:\n{source}"
        assert not [out for out in cell["outputs"] if out["output_type"] == "error"]
    assert "assert" in "".join(cells[-2]["source"]), "the claim is asserted"
    assert "found(" in "".join(cells[-1]["source"]), "what was found is told from the results"
    shows = lambda cell: (
        "image/" in str([[*out.get("data", {})] for out in cell.get("outputs", [])])
    )
    before = [ahead for ahead, cell in pairwise(notebook["cells"]) if shows(cell)]
    assert before, "no picture is committed"
    captions = ["".join(cell["source"]) for cell in before if cell["cell_type"] == "markdown"]
    assert len(captions) == len(before) and min(map(len, captions)) > 80, "a picture has a caption"
    assert "widgets" not in notebook["metadata"] and path.stat().st_size < 1_000_000


def test_a_profile_that_a_notebook_lacks_is_refused_before_it_starts():
    assert "00_start_here has no profile 'standard'" in run(ADKIT_PROFILE="standard").stderr
    assert "argument --profile: invalid choice: 'ful'" in run("00", ADKIT_PROFILE="ful").stderr


def test_a_notebook_above_the_memory_limit_fails(tmp_path):
    asks = """import os, torch, numpy as np, adkit as ad
found = ad.setup_notebook()
given = len(os.sched_getaffinity(0)), torch.get_num_threads(), os.environ["MEM_LIMIT"]
found(" ".join(map(str, given)), "", "")
hungry = np.ones(50_000_000); del hungry  # 400 MB, for a moment"""
    path = tmp_path / "hungry.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(asks)]), path)
    done = run(path, "--one-core", "--memory-limit", "400")
    assert done.returncode == 1 and "1 1 400000000  ABOVE 400 MB" in done.stdout, done.stderr


@pytest.fixture
def threads(monkeypatch):
    """Return torch's thread count as a function; put it and plotly's renderer back afterwards."""
    before = torch.get_num_threads()
    monkeypatch.setattr(plotly.io.renderers, "default", plotly.io.renderers.default)
    yield torch.get_num_threads
    torch.set_num_threads(before)


def test_set_up_follows_the_limits_of_the_server(threads, monkeypatch, capsys):
    monkeypatch.setenv("MEM_LIMIT", "2147483648")
    for limit, used in {"1": 1, "0.5": 1, "2.9": 2, "3.0": 3}.items():
        monkeypatch.setenv("CPU_LIMIT", limit)
        ad.setup_notebook()
        assert threads() == used
    monkeypatch.delenv("CPU_LIMIT")
    ad.setup_notebook()
    assert threads() == 3 and capsys.readouterr() == ("", "")  # no limit: left alone
    monkeypatch.setenv("MEM_LIMIT", "512000000")
    with pytest.warns(UserWarning, match="512 MB.*1000 MB"):
        ad.setup_notebook()
