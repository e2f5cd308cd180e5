"""Long operations go on to the same result after SIGKILL at random moments.

`ADKIT_KILLS` sets how often each is killed; 20.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = os.environ.get("ADKIT_KILLS", "20")


@pytest.mark.parametrize("operation", ["collect", "distill", "figures", "study"])
def test_killed_at_random_moments_it_goes_on_to_the_same_result(operation, tmp_path):
    command = [sys.executable, Path(__file__).with_name("kills.py"), operation, tmp_path, KILLS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    results = [line for line in done.stdout.splitlines() if len(line) == 64]
    assert len(results) >= 2 and len(set(results)) == 1, results
