"""The notebooks: short cells, committed with their pictures, and executed in the quick profile."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import plotly.io
import pytest
import torch

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
        written = [line for line in source.splitlines() if line.strip()]
        short = (
            len(written) <= 20
            if source.startswith("@dataclass")
            else len(source.splitlines()) <= 11 and "def " not in source
        )
        assert short, (
            f"logic belongs in adkit, and a reader's own world or learner in twenty lines:\n{source}"
        )
        assert not [out for out in cell["outputs"] if out["output_type"] == "error"]
    assert "assert" in "".join(cells[-1]["source"]) and any(
        "RESULT" in str(out) for out in cells[-1]["outputs"]
    )
    pictures = [
        out for cell in cells for out in cell["outputs"] if "image/png" in out.get("data", {})
    ]
    assert pictures, "committed without a picture"
    assert "widgets" not in notebook["metadata"] and path.stat().st_size < 1_000_000


def test_every_notebook_runs_in_the_quick_profile_within_a_gigabyte(tmp_path):
    done = subprocess.run(
        [sys.executable, FOLDER / "run.py", "--memory-limit", "1000"],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert all(path.stem in done.stdout for path in NOTEBOOKS)


def test_the_environment_names_the_profile_and_a_notebook_without_it_is_not_begun():
    run = lambda profile, *names: subprocess.run(
        [sys.executable, FOLDER / "run.py", *names],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"ADKIT_PROFILE": profile},
    )  # fmt: skip
    assert "00_start_here has no profile 'standard'; name those that have" in run("standard").stderr
    assert "argument --profile: invalid choice: 'ful'" in run("ful", "00").stderr


def test_a_notebook_is_held_to_one_core_and_fails_above_the_memory_limit(tmp_path):
    asks = """import os, torch, numpy as np
print("RESULT", len(os.sched_getaffinity(0)), torch.get_num_threads(), os.environ["CPU_LIMIT"], os.environ["MEM_LIMIT"])
hungry = np.ones(50_000_000); del hungry  # 400 MB, for a moment"""
    path = tmp_path / "hungry.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(asks)]), path)
    run = [sys.executable, FOLDER / "run.py", path, "--one-core", "--memory-limit", "400"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "1 1 1 400000000  ABOVE 400 MB" in done.stdout, (
        done.stdout + done.stderr
    )


@pytest.fixture
def threads():
    """How many torch uses; these and plotly's renderer are given back after the test."""
    before, renderer = torch.get_num_threads(), plotly.io.renderers.default
    yield torch.get_num_threads
    torch.set_num_threads(before)
    plotly.io.renderers.default = renderer


def test_set_up_follows_the_limits_of_the_server(threads, monkeypatch, capsys):
    for given, used in {"1": 1, "0.5": 1, "2.9": 2, "3.0": 3}.items():
        monkeypatch.setenv("CPU_LIMIT", given)
        monkeypatch.setenv("MEM_LIMIT", "2147483648")
        assert ad.setup_notebook() is None and threads() == used
    monkeypatch.delenv("CPU_LIMIT")
    ad.setup_notebook()
    assert threads() == 3 and capsys.readouterr() == ("", "")  # no limit: left alone
    assert plotly.io.renderers.default == "plotly_mimetype"


def test_set_up_says_when_memory_is_short(threads, monkeypatch):
    monkeypatch.delenv("CPU_LIMIT", raising=False)
    monkeypatch.setenv("MEM_LIMIT", "512000000")
    with pytest.warns(
        UserWarning,
        match="grants 512 MB and the notebook needs about 1000 MB.*shut down the other kernels",
    ):
        ad.setup_notebook()
    ad.setup_notebook(need_mb=512)


@pytest.mark.parametrize("name", ["CPU_LIMIT", "MEM_LIMIT"])
@pytest.mark.parametrize("nonsense", ["lots", "0", "-1", "nan", "inf", "2G"])
def test_set_up_refuses_a_limit_that_is_none(name, nonsense, threads, monkeypatch):
    monkeypatch.setenv(name, nonsense)
    with pytest.raises(ValueError, match=f"{name}='{nonsense}'.* above 0, such as .*unset it"):
        ad.setup_notebook()
