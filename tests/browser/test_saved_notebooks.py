"""A notebook that was saved shows every figure and view again, with no kernel behind it."""

import shutil
from pathlib import Path

import pytest
from lab import OPEN, command, run_all, wait_until

import adkit as ad

NOTEBOOKS = Path(ad.__file__).parents[1] / "notebooks"

MAKE = """
import adkit as ad

ad.setup_notebook()
env = ad.envs.DarkRoom(size=5, horizon=8)
lives = ad.collect(env, env.tasks()[:4], ad.sources.QLearning(), episodes=12, lifetimes=2)
model = ad.CausalTransformer(env.spec, context=40, layers=2, heads=2, width=16)
attention = ad.views.EpisodeAttention(model, lives, env, episode=7)
"""
SHOWN = [
    "attention",
    "ad.views.replay(lives[0])",
    "ad.views.SideBySide({'a': ad.views.EpisodeAttention(model, lives, env, episode=2), "
    "'b': ad.views.replay(lives)})",
    "ad.views.learning_curves({'source': lives}, env)",
    "ad.views.Figure().add_bar(x=['a', 'b'], y=[1, 2])",
]
OUTPUTS = ".jp-NotebookPanel .jp-OutputArea-output"
STOP = """jupyterapp.shell.currentWidget.context.sessionContext.shutdown()
  .then(() => { window.__stopped = true }); 0"""


def open_saved(page, name: str) -> str:
    """Open a notebook, and do not run it; return the server's address."""
    server = page.url.split("/lab/")[0]
    page.goto("about:blank")
    page.goto(f"{server}/lab/workspaces/{name}-again/tree/{name}.ipynb?reset")
    page.wait_for_function(OPEN)
    return server


@pytest.fixture(scope="module")
def page(run_notebook):
    return run_notebook("saved", MAKE, *SHOWN)


def test_a_saved_notebook_moves_without_its_kernel_and_runs_again(page):
    wait_until(page, "v.episode === 7 && v.without")
    command(page, "docmanager:save")
    page.evaluate(STOP)
    page.wait_for_function("window.__stopped")
    server = open_saved(page, "saved")
    wait_until(page, "v.episode === 7 && !v.without")
    page.locator(".EpisodeAttention .ad-episode").fill("9")
    page.locator(".EpisodeAttention .ad-lifetime").select_option("3")
    wait_until(page, "v.episode === 9 && v.lifetime === 3")
    page.locator(".Player .ad-time").fill("50")
    wait_until(page, "v.episode === 5 && v.step === 5", ".Player")
    page.locator(".SideBySide .ad-episode").fill("4")
    for view in ("EpisodeAttention", "Player"):
        wait_until(page, "v.episode === 4", f".SideBySide .{view}")
    page.wait_for_function(f"document.querySelectorAll('{OUTPUTS}').length === 7")
    _, _, *shown = page.locator(OUTPUTS).all()  # the first are a style, and what was found
    for output in shown:
        output.scroll_into_view_if_needed()
        output.locator("canvas, .main-svg, img").first.wait_for()  # plotly saves a picture, too
        assert "rror" not in output.inner_text() and output.bounding_box()["height"] > 150
    wide = page.viewport_size
    page.set_viewport_size(wide | {"width": 700})
    pictures = page.locator("img.plot-img").all()
    assert pictures
    for picture in pictures:  # plotly's, of the width it was saved at
        box, place = picture.bounding_box(), picture.locator("xpath=..").bounding_box()
        assert box["width"] <= place["width"] + 1 and box["width"] > 200
    page.set_viewport_size(wide)
    run_all(page, server, "saved")
    wait_until(page, "v.episode === 7 && v.without")
    assert not page.errors


def test_a_notebook_as_committed_shows_its_pictures(page, run_notebook):
    shutil.copy(NOTEBOOKS / "00_start_here.ipynb", run_notebook.folder)
    open_saved(page, "00_start_here")
    for shown in (".jp-RenderedImage img", ".jp-RenderedPlotly .main-svg"):  # of a view; a figure
        picture = page.locator(shown).first
        picture.wait_for()
        assert picture.bounding_box()["width"] > 400
    assert "rror" not in " ".join(page.locator(OUTPUTS).all_inner_texts())
