"""EpisodeAttention in a real JupyterLab, and as an HTML file: dragged, clicked and typed at."""

from pathlib import Path

import numpy as np
import pytest
from helpers import looked_at
from lab import command, in_kernel, like, made, pixels, shown, wait_for_colour, wait_until

from adkit.views import maps

MAKE = """
import numpy as np, torch, ipywidgets
import adkit as ad

env = ad.envs.DarkRoom()
model = ad.CausalTransformer(env.spec, layers=4, heads=4, width=32)
generator = torch.Generator().manual_seed(0)
for parameter in model.parameters():
    parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
def lifetimes(episodes):
    tasks = env.tasks()[[40, 4]]
    return ad.collect(env, tasks, ad.sources.QLearning(), episodes=episodes, seed=3)
view = ad.views.EpisodeAttention(model, lifetimes(50), env, episode=20)
"""
SHOW = """
slider = ipywidgets.IntSlider(20, 0, 49, description="dragged")
slider.add_class("s-episode")
ipywidgets.jslink((slider, "value"), (view, "episode"))
ipywidgets.VBox([slider, view])
"""
BLUE = "#0072B2"


@pytest.fixture(scope="module")
def view():
    return made(MAKE)["view"]


@pytest.fixture(scope="module")
def lab(run_notebook):
    """The notebook, run in JupyterLab."""
    page = run_notebook("attention", MAKE, SHOW)
    shown(page)
    return page


@pytest.fixture(scope="module")
def offline(browser, view, tmp_path_factory):
    """The same view in a file of its own, opened from disk."""
    path = view.save(tmp_path_factory.mktemp("page") / "view.html")
    page = browser()
    page.goto(path.as_uri())
    shown(page)
    return page


@pytest.fixture(params=["lab", "offline"])
def page(request):
    return request.getfixturevalue(request.param)


def rounding(view, name: str) -> float:
    """Return half a byte's worth of the selected head's attention, as sent."""
    scale = np.frombuffer(view.data[f"{name}_scale"]["bytes"], "<f4").reshape(4, 6)
    return scale[view.layer, view.head] / 510 + 1e-6


def agrees(page, view) -> dict:
    """Assert that the browser shows what Python computes there, to the rounding of one byte."""
    assert not page.errors
    now = shown(page)
    for name in ("lifetime", "episode", "step", "layer", "head"):
        setattr(view, name, now[name])
    start, tokens, attention = looked_at(view)
    np.testing.assert_allclose(now["masses"], attention.sum(1), atol=rounding(view, "pooled"))
    chosen, error = now["attended"] - start, rounding(view, "full")
    np.testing.assert_allclose(now["steps"], attention[chosen][tokens[chosen]], atol=error)
    expected = view.probabilities(now["episode"], now["step"])
    np.testing.assert_allclose(now["probabilities"], expected, atol=1e-5)
    cells = maps.of(view.shown).cells[start : now["episode"] + 1][tokens]
    painted, visits = np.zeros((2, 9, 9))
    np.add.at(painted, tuple(cells.T), attention[tokens])
    np.add.at(visits, tuple(cells.T), 1)
    assert (abs(np.reshape(now["painted"], (9, 9)) - painted) <= error * visits).all()
    return now


def bars(page) -> np.ndarray:
    """Return the heights in pixels of the bars in the panel of attention per episode."""
    blue = like(pixels(page.locator(".ad-masses")), BLUE)
    now = shown(page)
    step = (blue.shape[1] - 6 - 38) / len(now["masses"])
    middles = (38 + step * (np.arange(len(now["masses"])) + 0.3)).astype(int)
    return np.array([blue[:, x - 1 : x + 2].any(1).sum() for x in middles])


def test_it_opens_with_what_python_computes_and_draws_bars_as_tall(page, view):
    now = agrees(page, view)
    assert now["episode"] == 20
    assert len(now["masses"]) == 7, "a window of ten of which three survive: 14 to 20"
    heights = bars(page)
    mass = np.array(now["masses"])
    uniform = 21 / (6 * 21 + 1)
    expected = (138 - 26) * mass / max(mass.max(), uniform)
    np.testing.assert_allclose(heights, expected, atol=7)  # lines over them hide a few pixels


def test_dragging_a_linked_slider_moves_the_view_without_the_kernel(lab, view):
    handle = lab.locator(".s-episode .noUi-handle")
    handle.scroll_into_view_if_needed()
    before, room = shown(lab)["episode"], pixels(lab.locator(".ad-room"))
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    lab.mouse.move(x, y)
    lab.mouse.down()
    lab.mouse.move(x + 60, y, steps=60)
    lab.mouse.up()
    value = int(handle.get_attribute("aria-valuenow").split(".")[0])
    assert wait_until(lab, f"v.episode === {value}")["episode"] > before
    agrees(lab, view)
    assert (pixels(lab.locator(".ad-room")) != room).any(), "the room was not redrawn"
    assert int(in_kernel(lab, "print(view.episode)")) == value


def test_arrows_step_and_space_plays(page, view):
    page.locator(".adkit-view .ad-episode").fill("10")
    page.locator(".adkit-view .ad-step").fill("18")
    wait_until(page, "v.episode === 10 && v.step === 18")
    page.locator(".adkit-view").focus()
    keys = {"ArrowRight": (10, 19), "ArrowDown": (11, 19)}
    keys |= {"ArrowUp": (10, 19), "ArrowLeft": (10, 18)}
    for key, (episode, step) in keys.items():
        page.keyboard.press(key)
        wait_until(page, f"v.episode === {episode} && v.step === {step}")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # past the end of an episode lies the next
    wait_until(page, "v.episode === 11 && v.step === 0")
    agrees(page, view)
    page.keyboard.press(" ")
    wait_until(page, "v.step >= 3")
    page.keyboard.press(" ")
    assert page.locator(".ad-playing").get_attribute("aria-pressed") == "false"


def test_a_click_on_a_thumbnail_selects_the_head(page, view):
    canvas = page.locator(".ad-heads")
    unit = min(44, (canvas.bounding_box()["width"] - 18) / 6)
    for layer, head in ((0, 3), (3, 5)):
        canvas.click(position={"x": 16 + unit * (head + 0.5), "y": 18 + unit * (layer + 0.5)})
        wait_until(page, f"v.layer === {layer} && v.head === {head}")
        agrees(page, view)
        vermilion = like(pixels(canvas), "#D55E00")
        x, y = int(16 + unit * (head + 0.5)), int(18 + unit * layer + 2)
        assert vermilion[y - 2 : y + 3, x].any(), "the selected head is not outlined"


def test_a_click_on_the_return_curve_jumps_to_the_episode(page, view):
    canvas = page.locator(".ad-returns")
    x = 42 + (canvas.bounding_box()["width"] - 6 - 38 - 8) * 40 / 49
    canvas.click(position={"x": x, "y": 60})
    wait_until(page, "v.episode === 40")
    agrees(page, view)
    cursor = like(pixels(canvas), "#D55E00")[20]
    assert cursor[int(x) - 2 : int(x) + 3].any(), "the cursor is not where the click was"


def test_clicks_and_brackets_choose_the_episode_whose_steps_are_shown(page, view):
    canvas, now = page.locator(".ad-masses"), shown(page)
    x = 38 + (canvas.bounding_box()["width"] - 44) * 1.5 / len(now["masses"])
    canvas.click(position={"x": x, "y": 60})
    start = now["episode"] - len(now["masses"]) + 1
    wait_until(page, f"v.attended === {start + 1}")
    page.locator(".adkit-view").focus()
    page.keyboard.press("]")
    wait_until(page, f"v.attended === {start + 2}")
    agrees(page, view)
    page.keyboard.press("[")
    wait_until(page, f"v.attended === {start + 1}")
    page.keyboard.press("Escape")
    wait_until(page, f"v.attended === {start + int(np.argmax(now['masses']))}")


def test_python_sets_traits_and_answers_what_would_be_without_a_head_or_an_episode(lab, view):
    in_kernel(
        lab, "view.layer, view.head, view.episode, view.step, view.attended = 1, 2, 26, 7, 24"
    )
    now = wait_until(lab, "v.episode === 26 && v.attended === 24 && v.without")
    agrees(lab, view)
    assert in_kernel(lab, "print(view.layer, view.head, view.episode, view.step)") == "1 2 26 7\n"
    head, episode = (np.array(now["without"][name]) for name in ("head", "episode"))
    np.testing.assert_allclose(head, view.probabilities(26, 7, ablate=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(episode, view.probabilities(26, 7, without=24), atol=1e-5)
    assert np.abs(head - now["probabilities"]).max() > 1e-4
    in_kernel(lab, "view.attended, view.episode, view.step = -1, 0, 5")
    now = wait_until(lab, "v.episode === 0 && v.without && v.without.head")
    assert now["without"]["episode"] is None, "the first episode has nothing earlier to remove"


def test_the_picker_shows_another_lifetime_where_it_can(lab, offline, view):
    picker = ".EpisodeAttention select.ad-lifetime"
    in_kernel(lab, "view.episode = 30")
    before = wait_until(lab, "v.episode === 30")
    lab.locator(picker).select_option(label="goal (0, 4), lifetime 0")
    assert wait_until(lab, "v.lifetime === 1")["masses"] != before["masses"]
    agrees(lab, view)
    assert in_kernel(lab, "print(view.lifetime); view.lifetime = 0") == "1\n"
    wait_until(lab, "v.lifetime === 0")
    agrees(lab, view)
    lab.locator("[title='next lifetime']").click()
    wait_until(lab, "v.lifetime === 1")
    agrees(lab, view)
    assert "1 of 2 are kept here, the others need a kernel" in offline.locator(".bar").inner_text()
    other = offline.locator(f"{picker} option").last
    assert other.is_disabled() and other.inner_text() == "goal (0, 4), lifetime 0 (needs a kernel)"


def test_relative_to_uniform_and_log_redraw(page):
    page.locator(".adkit-view .ad-episode").fill("33")
    raw = wait_until(page, "v.episode === 33")
    tokens = np.r_[np.full(len(raw["masses"]) - 1, 21), raw["step"] + 1]
    page.locator(".ad-normalised").check()
    now = wait_until(page, "v.normalised")
    relative = np.array(raw["masses"]) / (tokens / tokens.sum())
    np.testing.assert_allclose(now["masses"], relative, rtol=1e-3)
    before = bars(page)
    page.locator(".ad-logarithmic").check()
    wait_until(page, "v.logarithmic")
    assert (bars(page) >= before - 1).all() and bars(page).sum() > before.sum()
    page.locator(".ad-logarithmic").uncheck()
    page.locator(".ad-normalised").uncheck()


def test_it_follows_jupyterlabs_theme(lab):
    command(lab, "apputils:change-theme", theme="JupyterLab Dark")
    wait_until(lab, "v.dark")
    lab.wait_for_function("!document.querySelector('#jupyterlab-splash')")
    wait_for_colour(lab.locator(".ad-masses"), "#56B4E9")
    command(lab, "apputils:change-theme", theme="JupyterLab Light")
    wait_until(lab, "!v.dark")


def test_a_long_lifetime_asks_the_kernel_for_steps(lab):
    """Pooled attention is there at once; beyond the size cap, rows come on demand."""
    in_kernel(lab, "long = ad.views.EpisodeAttention(model, lifetimes(300), env, episode=200)")
    in_kernel(lab, "assert not long.data['full']['bytes']; box = ipywidgets.VBox([long])")
    in_kernel(lab, "box.add_class('s-long')")
    command(lab, "notebook:insert-cell-below")
    cell = "jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel"
    lab.evaluate(f"{cell}.setSource('box'); 0")
    command(lab, "notebook:run-cell")
    now = wait_until(lab, "v.episode === 200 && v.steps", ".s-long .EpisodeAttention")
    code = f"import sys; sys.path.append({str(Path(__file__).parents[1])!r}); "
    code += "from helpers import looked_at; _, tokens, row = looked_at(long); "
    code += "w = row.sum(1).argmax(); print(*row[w][tokens[w]])"
    steps = np.array(in_kernel(lab, code).split(), float)
    np.testing.assert_allclose(now["steps"], steps, atol=1e-5)


def test_nothing_leaves_the_machine_and_nothing_throws(lab, offline):
    assert lab.hosts <= {"127.0.0.1", "data", "blob"}, lab.hosts
    assert offline.hosts <= {"file", "data", "blob"}, offline.hosts
    assert not lab.errors and not offline.errors
