"""What adkit costs before it does anything, and the most memory the quick path ever holds."""

from __future__ import annotations

from measure import PEAK_MB, bound, fresh, say

QUICK_PATH = """
import adkit as ad

env = ad.envs.DarkRoom()
train, test = env.tasks().split(0.8, seed=0)
histories = ad.collect(env, train, ad.sources.QLearning(), episodes=500, lifetimes=64, every=25)
made = peak_mb()
model = ad.CausalTransformer(env.spec)
ad.distill(model, histories, steps=20)
distilled = peak_mb()
ad.collect(env, test[:16], ad.InContext(model), episodes=12, lifetimes=8)
print(made, distilled, peak_mb())
"""


def test_import():
    code = (
        "import time; began = time.perf_counter(); import adkit; print(time.perf_counter() - began)"
    )
    bound("import adkit", [float(fresh(code)[1]) for _ in range(6)][1:], "s", 0.4)


def test_import_leaves_the_heavy_ones_for_later():
    heavy = ("torch", "numba", "pandas", "plotly", "scipy", "statsmodels", "IPython")
    _, loaded = fresh(
        f"import adkit, sys; print(*[name for name in {heavy} if name in sys.modules])"
    )
    assert not loaded, f"import adkit also imports {loaded}."


def test_memory_of_the_quick_path():
    made, distilled, rolled_out = map(float, fresh(PEAK_MB + QUICK_PATH)[1].split())
    say(
        f"peak memory so far: histories {made:.0f} MB, "
        f"20 steps of distillation {distilled:.0f} MB, rollouts {rolled_out:.0f} MB"
    )
    bound("resident memory of the quick path", [rolled_out], "MB", 1000)
