"""`import adkit` in a fresh process."""

import subprocess
import sys


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
