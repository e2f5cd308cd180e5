"""Pictures that an installed browser draws of views, figures and executed notebooks."""

import base64
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from lab import bitmap, like, write_notebook

import adkit as ad
from adkit.cookieworld import anatomy
from adkit.views import figure, pictures

RUN = Path(ad.__file__).parents[1] / "notebooks" / "run.py"
BLUE, VERMILION, GREEN = figure.COLOURS[:3]


def drawn(*shown) -> list[np.ndarray]:
    return [bitmap(png) for png in pictures.draw(each.page() for each in shown)]


def player(env, agent, show_goal: bool) -> ad.views.Player:
    lifetime = ad.collect(env, env.tasks()[[3]], agent, episodes=20)
    view = ad.views.Player({"one": lifetime}, episode=15)
    view.show_goal = show_goal
    return view


def test_a_player_draws_every_kind_of_world_and_what_is_hidden_in_it():
    agents = {ad.envs.Watermaze(ends="platform"): ad.sources.GoalSearch()}
    agents |= {ad.envs.DarkKeyToDoor(size=5, horizon=12): ad.sources.Random()}
    agents |= {ad.envs.AdversarialBandit(): ad.sources.UCB()}
    views = [player(env, agent, goal) for env, agent in agents.items() for goal in (True, False)]
    images = drawn(*views)
    for shown, hidden in zip(images[::2], images[1::2], strict=True):
        assert like(shown, "#E69F00").sum() > like(hidden, "#E69F00").sum() + 20
        assert like(hidden, GREEN).any() and like(hidden, VERMILION).any(), "start and place"


def test_every_kind_of_figure_and_view_has_a_picture(env, model, histories):
    task = ad.envs.CookieWorld().tasks()[:1]
    fields = dict(zip(anatomy.SHARDS, anatomy.heads(ad.envs.CookieWorld(), task)[0], strict=True))
    bars, curve = ad.views.Figure(), ad.views.learning_curves({"distilled": histories}, env)
    bars.add_bar(x=["a", "b"], y=[1, 2], marker={"color": VERMILION})
    attention = ad.views.EpisodeAttention(model, histories[7], env)
    *images, lines = drawn(ad.views.ArrowFields(fields, task), bars, attention, curve)
    for image, colour in zip(images, (VERMILION, VERMILION, BLUE), strict=True):
        assert like(image, colour).any()
    assert lines.shape == (420, 760, 3)
    assert like(lines, BLUE).any()


def test_figures_and_views_are_saved_as_pages_and_pictures(histories, tmp_path):
    starts = {"html": b"<", "png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF"}
    curve, replay = ad.views.learning_curves({"it": histories}), ad.views.replay(histories[0])
    kept = {"html": curve, "png": replay, "svg": replay, "pdf": curve}
    for kind, start in starts.items():
        path = kept[kind].save(tmp_path / f"picture.{kind}")
        assert path.read_bytes().startswith(start), kind
    assert b"return per episode" in curve.save(tmp_path / "text.svg").read_bytes()
    with pytest.raises(ValueError, match="must end in .html, .png, .svg, .pdf, got .*gif"):
        curve.save(tmp_path / "picture.gif")


def test_an_executed_notebook_holds_a_picture_of_every_output(tmp_path):
    make = "import adkit as ad; env = ad.envs.DarkRoom(size=5, horizon=8)"
    make += "; lives = ad.collect(env, env.tasks()[:1], ad.sources.Random(), episodes=3)"
    cells = make, "ad.views.replay(lives[0])", "ad.views.learning_curves({'distilled': lives}, env)"
    write_notebook(tmp_path / "few.ipynb", *cells)
    command = [sys.executable, RUN, tmp_path / "few.ipynb", "--in-place"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(tmp_path / "few.ipynb", as_version=4)
    kinds = "image/png", "image/jpeg"  # JupyterLab would show a figure's PNG in place of it
    shown = [
        cell.outputs[-1].data[kind] for cell, kind in zip(notebook.cells[1:], kinds, strict=True)
    ]
    replay, curve = (bitmap(base64.b64decode(picture)) for picture in shown)
    assert like(replay, VERMILION).any()
    assert (curve[..., 2] - curve[..., 0] > 60).sum() > 100, "a line in blue, as a JPEG has it"


def test_without_a_browser_it_says_what_would_get_one(histories, monkeypatch):
    monkeypatch.setattr(pictures, "browser", lambda: None)
    with pytest.raises(RuntimeError, match="apt-get install chromium"):
        ad.views.replay(histories[0]).save("picture.png")
