"""PolicyField in a real JupyterLab: its sliders and keys show what the agents would do."""

import numpy as np
import pytest
from lab import in_kernel, made, pixels, shown, wait_until

from adkit.cookieworld import anatomy, planning, shard, world

MAKE = """
import adkit as ad

env = ad.envs.CookieWorld()
family = env.tasks()
here = (family["home"] == (0, 4)).all(1) & (family["garden"] == (4, 4)).all(1)
here &= (family["jar"][:, 0] == 2) & (family["rho"] == 0.15) & (family["psi"] == 0.6)
tasks = family[here][::-1]  # the jar 2 to 6 steps from home
view = ad.views.PolicyField(env, tasks)
"""
VIEW = ".PolicyField"
EMPTY = planning.hide_probability(0.0)  # nothing to gain from hiding


@pytest.fixture(scope="module")
def worlds():
    scope = made(MAKE)
    return scope["env"], scope["tasks"]


@pytest.fixture(scope="module")
def lab(run_notebook):
    return run_notebook("fields", MAKE, "view")


def policy(q, jar: int, hunger: int, strength: float, full: bool) -> np.ndarray:
    """Return (25, 8) the probabilities with which an agent acts that has visited every cell."""
    p, unvisited = np.zeros((25, 8)), np.zeros(25, bool)
    for cell in range(25):
        seen = world.near(cell, jar, 5)
        craving = shard.BETA * full * strength * shard.cookie_gate(seen, hunger)
        appetite = shard.BETA * shard.food_gate(hunger)
        shard.policy(q, unvisited, cell, 5, craving, appetite, False, True, p[cell])
    return p


def agrees(page, worlds):
    """Assert that the browser shows what agents of this strength and hunger do."""
    assert not page.errors
    (env, tasks), now = worlds, shown(page, VIEW)
    hunger, strength, full, task = (now[name] for name in ("hunger", "strength", "full", "task"))
    one = tasks[[task]]
    q, jar = anatomy.learned_values(env, one)[0], env.places(one)[0, 1]
    shows = np.reshape(now["policy"], (25, 8))
    np.testing.assert_allclose(shows, policy(q, jar, hunger, strength, full), atol=1e-5)
    odds = np.exp(np.reshape(now["bids"], (2, 25, 8)).sum(0) + shard.BASE)
    np.testing.assert_allclose(odds / odds.sum(-1, keepdims=True), shows, atol=1e-5)
    hides, avoids = anatomy.hiding(env, one, np.array([strength]))
    planned = [hides[0, 0, hunger], avoids[0, 0, hunger]] if full else [EMPTY, 0]
    np.testing.assert_allclose([now["hides"], now["avoids"]], planned, atol=1e-5)
    return now


def test_sliders_redraw_the_rooms(lab, worlds):
    assert agrees(lab, worlds)["hunger"] == 1
    room = lambda name: lab.locator(f"{VIEW} canvas.ad-{name}")
    changes = {"hunger": ("4", "food"), "strength": ("2.6", "cookie"), "task": ("3", "cookie")}
    for slider, (value, changed) in changes.items():
        before = [pixels(room(name)) for name in (changed, "policy")]
        lab.locator(f"{VIEW} input.ad-{slider}").fill(value)
        wait_until(lab, f"v.{slider} === {value}", VIEW)
        agrees(lab, worlds)
        after = [pixels(room(name)) for name in (changed, "policy")]
        assert all((a != b).any() for a, b in zip(before, after, strict=True)), slider
        assert in_kernel(lab, f"print(view.{slider})").strip() == value
    lab.locator(f"{VIEW} input.ad-full").uncheck()
    now = wait_until(lab, "!v.full", VIEW)
    assert agrees(lab, worlds) and not np.any(now["bids"][:200])


def test_python_and_keys_move_the_sliders(lab, worlds):
    in_kernel(lab, "view.full, view.hunger, view.strength, view.task = True, 2, 0.5, 1")
    wait_until(lab, "v.full && v.hunger === 2 && v.strength === 0.5 && v.task === 1", VIEW)
    agrees(lab, worlds)
    lab.locator(VIEW).focus()
    keys = {"ArrowRight": "v.strength === 0.6", "ArrowUp": "v.hunger === 3"}
    for key, change in (keys | {"ArrowLeft": "v.strength === 0.5"}).items():
        lab.keyboard.press(key)
        wait_until(lab, change, VIEW)
    agrees(lab, worlds)
    assert "3 steps" in lab.locator(f"{VIEW} .bar").inner_text()
    assert lab.hosts <= {"127.0.0.1", "data", "blob"}, "the view asked another machine"
