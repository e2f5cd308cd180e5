"""PolicyField in a real JupyterLab: its sliders and keys redraw what Python computes."""

import numpy as np
import pytest
from lab import in_kernel, pixels, shown, wait_until

MAKE = """
import adkit as ad

env = ad.envs.CookieWorld()
family = env.tasks()
here = (family["home"] == (0, 4)).all(1) & (family["garden"] == (4, 4)).all(1)
here &= (family["jar"][:, 0] == 2) & (family["rho"] == 0.15) & (family["psi"] == 0.6)
view = ad.views.PolicyField(env, family[here][::-1])  # the jar 2 to 6 steps from home
"""
VIEW = ".PolicyField"


@pytest.fixture(scope="module")
def view():
    scope = {}
    exec(MAKE, scope)
    return scope["view"]


@pytest.fixture(scope="module")
def lab(run_notebook):
    return run_notebook("fields", MAKE, "view")


def agrees(page, view):
    """Assert that the browser shows what Python computes with the same sliders."""
    assert not page.errors
    now = shown(page, VIEW)
    for name in ("hunger", "strength", "task", "full"):
        setattr(view, name, now[name])
    np.testing.assert_allclose(np.reshape(now["policy"], (25, 8)), view.policy(), atol=1e-5)
    np.testing.assert_allclose(np.reshape(now["bids"], (2, 25, 8)), view.bids(), atol=1e-5)
    np.testing.assert_allclose([now["hides"], now["avoids"]], view.planned(), atol=1e-5)
    return now


def test_sliders_redraw_the_rooms(lab, view):
    assert agrees(lab, view)["hunger"] == 1
    room = lambda name: lab.locator(f"{VIEW} canvas.ad-{name}")
    changes = {"hunger": ("4", "food"), "strength": ("2.6", "cookie"), "task": ("3", "cookie")}
    for slider, (value, changed) in changes.items():
        before = [pixels(room(name)) for name in (changed, "policy")]
        lab.locator(f"{VIEW} input.ad-{slider}").fill(value)
        wait_until(lab, f"v.{slider} === {value}", VIEW)
        agrees(lab, view)
        after = [pixels(room(name)) for name in (changed, "policy")]
        assert all((a != b).any() for a, b in zip(before, after, strict=True)), slider
        assert in_kernel(lab, f"print(view.{slider})").strip() == value
    lab.locator(f"{VIEW} input.ad-full").uncheck()
    now = wait_until(lab, "!v.full", VIEW)
    assert agrees(lab, view) and not np.any(now["bids"][:200])


def test_python_and_keys_move_the_sliders(lab, view):
    in_kernel(lab, "view.full, view.hunger, view.strength, view.task = True, 2, 0.5, 1")
    wait_until(lab, "v.full && v.hunger === 2 && v.strength === 0.5 && v.task === 1", VIEW)
    agrees(lab, view)
    lab.locator(VIEW).focus()
    keys = {"ArrowRight": "v.strength === 0.6", "ArrowUp": "v.hunger === 3"}
    for key, change in (keys | {"ArrowLeft": "v.strength === 0.5"}).items():
        lab.keyboard.press(key)
        wait_until(lab, change, VIEW)
    agrees(lab, view)
    assert "3 steps" in lab.locator(f"{VIEW} .bar").inner_text()
    assert lab.hosts <= {"127.0.0.1", "data", "blob"}, "the view asked another machine"
