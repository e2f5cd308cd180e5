"""EpisodeAttention in a real JupyterLab in real Chromium: from a slider's key or drag to changed
pixels, and to first display.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from measure import bound, note

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))
from lab import in_kernel, jupyterlab, open_browser, run_all, shown, write_notebook

MAKE = """
import torch, ipywidgets
import adkit as ad

ad.setup_notebook()
env = ad.envs.DarkRoom()
model = ad.CausalTransformer(env.spec, layers=4, heads=4)
generator = torch.Generator().manual_seed(0)
for parameter in model.parameters():
    parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
lifetime = ad.collect(env, env.tasks()[40:41], ad.sources.QLearning(), episodes=50)
long = ad.collect(env, env.tasks()[40:41], ad.sources.QLearning(), episodes=1000)
"""
SHOW = """
view = ad.views.EpisodeAttention(model, lifetime, env, episode=0)
slider = ipywidgets.IntSlider(0, 0, 49)
slider.add_class("s-episode")
ipywidgets.jslink((slider, "value"), (view, "episode"))
display(slider, view)
"""
LONG = """
view = ad.views.EpisodeAttention(model, long, env, episode=0)
box = ipywidgets.VBox([view])
box.add_class("s-long")
box
"""
# From the key's own time stamp to the animation frame after the one in which the view was drawn:
# its pixels are out by then.
WATCH = """
window.__keys = []; window.__paints = [];
addEventListener("keydown", event => __keys.push(event.timeStamp), true);
new MutationObserver(() => requestAnimationFrame(() => __paints.push(performance.now())))
  .observe(document.querySelector(".EpisodeAttention"),
           { attributes: true, attributeFilter: ["data-frames"] });
0
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    write_notebook(folder / "see.ipynb", MAKE)
    with jupyterlab(folder) as address, open_browser() as open_page:
        page = open_page()
        run_all(page, address, "see")
        page.wait_for_timeout(2000)  # JupyterLab has only just started: let it come to rest
        page.folder = folder
        yield page


def show(page, code: str, selector: str) -> float:
    """Seconds from running a cell to the first picture."""
    page.evaluate("void jupyterapp.commands.execute('notebook:insert-cell-below'); 0")
    page.evaluate(
        "code => { jupyterapp.shell.currentWidget.content.activeCell"
        ".model.sharedModel.setSource(code) }",
        code,
    )
    began = page.evaluate("performance.now()")
    page.evaluate("void jupyterapp.commands.execute('notebook:run-cell'); 0")
    page.wait_for_function(f"document.querySelector({selector!r})?.dataset.frames > 0", polling=10)
    return (page.evaluate("performance.now()") - began) / 1000


def test_first_display(lab):
    bound(
        "first display, 50 episodes, 4 x 4 heads", [show(lab, SHOW, ".EpisodeAttention")], "s", 1.5
    )


def test_a_key_to_changed_pixels(lab):
    handle = lab.locator(".s-episode .noUi-handle")
    handle.scroll_into_view_if_needed()
    handle.focus()
    lab.evaluate(WATCH)
    for _ in range(45):
        lab.keyboard.press("ArrowRight")
        lab.wait_for_timeout(120)
    keys, paints = np.array(lab.evaluate("__keys")), np.array(lab.evaluate("__paints"))
    assert shown(lab)["episode"] == 45 and len(keys) == 45
    waits = np.array([paints[paints > key][0] - key for key in keys])
    note("slider key to changed pixels", waits, " ms", less=True)
    bound("slider key to changed pixels, 95th percentile", [np.quantile(waits, 0.95)], "ms", 50)


def test_frames_of_a_drag(lab):
    handle, track = lab.locator(".s-episode .noUi-handle"), lab.locator(".s-episode .noUi-base")
    box, room = handle.bounding_box(), track.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    lab.mouse.move(x, y)
    lab.mouse.down()
    before = int(lab.locator(".EpisodeAttention").get_attribute("data-frames"))
    began = time.perf_counter()
    for i in range(30):
        lab.mouse.move(room["x"] + room["width"] * (0.95 - 0.03 * i), y)
        lab.wait_for_timeout(max(0, 1000 * (began + 0.05 * (i + 1) - time.perf_counter())))
    seconds = time.perf_counter() - began
    lab.mouse.up()
    frames = int(lab.locator(".EpisodeAttention").get_attribute("data-frames")) - before
    note("frames drawn in a drag of 30 slider events", [frames], asked=30)
    note("that drag", [seconds], " s", less=True)
    assert frames >= 30


def test_size_of_the_saved_notebook(lab):
    lab.evaluate(
        "window.__saved = 0; void jupyterapp.shell.currentWidget.context.save()"
        ".then(() => { window.__saved = 1 }); 0"
    )
    lab.wait_for_function("window.__saved")
    saved = lab.folder / "see.ipynb"
    assert "adkit.show(" in saved.read_text(), "saved without its view"
    # it holds the views whole, to reopen without a kernel (1 MB was allowed before it did)
    bound("saved notebook", [saved.stat().st_size / 1e6], "MB", 3)


def test_a_long_lifetime(lab):
    bound(
        "first display, 1000 episodes (20,000 steps), 4 x 4 heads",
        [show(lab, LONG, ".s-long .EpisodeAttention")],
        "s",
        5,
    )
    said = in_kernel(
        lab, "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)"
    )
    bound("the kernel's memory by then", [float(said)], "MB", 1000)
