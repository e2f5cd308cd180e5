"""What shards want where: the numbers by hand, the pictures made of them, and the sliders in a real JupyterLab."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
import traitlets
from lab import chromium, in_kernel, jupyterlab, pixels, run_all, shown, wait_until, write_notebook
from study import figures

import adkit as ad
from adkit.cookieworld import anatomy, planning, shard
from adkit.cookieworld import world as world
from adkit.cookieworld.world import EAST, EAT, NORTH, SOUTH

MAKE = """
import numpy as np
import adkit as ad

env = ad.envs.CookieWorld()
family = env.tasks()
here = (family["home"] == (0, 4)).all(1) & (family["garden"] == (4, 4)).all(1) & (family["jar"][:, 0] == 2)
tasks = family[here & (family["rho"] == 0.15) & (family["psi"] == 0.6)][::-1]  # the jar 2 to 6 steps from home
view = ad.views.PolicyField(env, tasks)
"""


@pytest.fixture
def view():
    scope = {}
    exec(MAKE, scope)
    return scope["view"]


@pytest.fixture(scope="module")
def env():
    return ad.envs.CookieWorld()


@pytest.fixture(scope="module")
def tasks(env):
    return env.tasks()[np.random.default_rng(0).permutation(len(env.tasks()))[:60]]


# ---- numbers ----


def test_gates_are_those_that_creatures_lived_by(env, tasks):
    lives = ad.collect(env, tasks, ad.sources.Shards(), episodes=20)
    lived = np.arange(16) < lives.length[..., None]
    obs, gates = lives.arrays["obs"][lived].astype(int), anatomy.gates()
    np.testing.assert_allclose(
        lives.arrays["gate_cookie"][lived],
        gates[obs[:, world.VISIBLE], obs[:, world.HUNGER]],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        lives.arrays["gate_food"][lived], gates[2, obs[:, world.HUNGER]], rtol=1e-6
    )
    assert (np.diff(gates) > 0).all() and (gates[1] > gates[0] + 0.35).all()


def test_heads_point_at_what_their_shard_wants(env):
    task = env.task(home=(0, 4), jar=(2, 2), garden=(4, 4))
    cookie, food, explore = anatomy.heads(env, task)[0]
    at = lambda x, y: 5 * x + y
    np.testing.assert_allclose(
        cookie[at(2, 1)], [-0.9, 1, -0.9, -0.9, 0, 0, 0, 0], atol=1e-5
    )  # north of the jar
    np.testing.assert_allclose(
        cookie[at(0, 0)], [0, 1, 1, 0, 0, 0, 0, 0], atol=1e-5
    )  # in a corner: two ways, two walls
    np.testing.assert_allclose(
        food[at(4, 4)], [-0.9, 0, 0, -0.9, 0, 1, 0, 0], atol=1e-5
    )  # in the garden
    assert explore[at(2, 2)].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert (
        explore[at(0, 3)].tolist() == [1, 0, 1, 1, 0, 0, 0, 0] and explore[at(0, 4), SOUTH] == 0
    )  # home is known
    nothing = np.zeros((1, 2, 25, 8))
    assert not anatomy.heads(env, task, nothing)[0, :2].any()
    with pytest.raises(ValueError, match=r"values q of shape \(2, 25, 8\); give \(1, 2, 25, 8\)"):
        anatomy.heads(env, task, nothing[0])


def test_the_policy_is_the_softmax_of_the_bids(view):
    for view.hunger, view.strength, view.task, view.full in (
        (1, 1.2, 0, True),
        (5, 3.0, 3, True),
        (0, 0.0, 4, True),
        (3, 2.0, 2, False),
    ):
        logits = view.bids().sum(0) + shard.BASE
        np.testing.assert_allclose(
            view.policy(), np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), rtol=1e-5
        )
        assert view.full or not view.bids()[0].any()


def test_a_bid_by_hand(view):
    """Above the jar, hungry: 2.5 x strength x gate, and beyond its sight the gate is the other one."""
    view.hunger, view.strength, view.task = 3, 2.0, 2  # the jar at (2, 2)
    gate = lambda visible: 1 / (1 + math.exp(1.5 - 2.8 * visible - 0.6))
    cookie, food = view.bids()
    assert cookie[11, SOUTH] == pytest.approx(2.5 * 2 * gate(1), rel=1e-4)
    assert (
        cookie[10, SOUTH] == pytest.approx(2.5 * 2 * gate(0), rel=1e-4)
        and cookie[12, EAT] == cookie[11, SOUTH]
    )
    assert (
        food[24, EAT] == pytest.approx(2.5 / (1 + math.exp(-1)), rel=1e-4)
        and food[11, NORTH] < 0 < food[11, EAST]
    )


def test_a_stronger_shard_and_a_hungrier_creature_pull_more(view):
    """Beside the jar the chance of stepping in grows with the strength; two steps away, with hunger."""
    env, task = view.env, view.tasks[[2]]
    steps_in = [anatomy.policy(env, task, w, hunger=2)[0, 11, SOUTH] for w in (0, 1, 2, 3)]
    hungrier = [anatomy.policy(env, task, 3.0, hunger=h)[0, 10, SOUTH] for h in range(6)]
    assert (np.diff(steps_in) > 0).all() and (np.diff(hungrier) > 0).all()
    view.task = 2
    view.full = False
    calm = view.policy()
    view.strength = 0.3
    assert np.array_equal(calm, view.policy())


def test_hiding_is_worth_what_a_planner_foresees(env, tasks):
    strengths = np.array([0.3, 1.1, 2.6])
    p, avoided = anatomy.hiding(env, tasks, strengths, w_food=0.9)
    for (i, w), h in product(enumerate(strengths), (0, 2, 5)):
        gain, fewer = planning.gain_of_hiding(env, tasks, w, 0.9, h)
        np.testing.assert_allclose(avoided[:, i, h], fewer, rtol=1e-6)
        np.testing.assert_allclose(p[:, i, h], 0.95 / (1 + np.exp(-40 * (gain - 0.1))), rtol=1e-4)


def test_the_view_tells_what_is_in_its_table(view):
    view.task, view.hunger, view.strength = 2, 1, 1.0
    chance, fewer = view.planned()
    gain, avoided = planning.gain_of_hiding(view.env, view.tasks[[2]], 1.0, 1.0, 1)
    assert chance == pytest.approx(planning.hides(gain[0]), abs=1e-3) and fewer == pytest.approx(
        avoided[0], abs=1e-3
    )
    view.full = False
    assert view.planned() == (pytest.approx(planning.hides(0.0)), 0)


def test_detours_by_hand(env):
    at = lambda jar: int(anatomy.detour(env.task(home=(0, 4), jar=jar, garden=(4, 4)))[0])
    assert [at((2, y)) for y in (4, 3, 2, 1, 0)] == [0, 2, 4, 6, 8]


def test_the_balance_of_power_is_a_mean_over_twelve_contexts():
    by_hand = np.mean([
        1.5 * shard.cookie_gate(v, h, 0.0) / (1.5 * shard.cookie_gate(v, h, 0.0) + 0.8 * shard.food_gate(h))
        for v in (0, 1) for h in range(6)
    ])  # fmt: skip
    assert anatomy.balance(1.5, 0.8) == pytest.approx(by_hand)
    share = anatomy.balance(np.array([[0.0, 0.1], [1.0, 3.0]]), 1.0)
    assert (
        share.shape == (2, 2)
        and share[0, 0] == 0
        and (np.diff(share.ravel()) > 0).all()
        and share.max() < 1
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda env, tasks: anatomy.policy(env, tasks, -1),
            "w_cookie=-1, .* strengths are at least 0, hunger is 0 to 5",
        ),
        (
            lambda env, tasks: anatomy.policy(env, tasks, 1, hunger=6),
            "hunger=6; .* hunger is 0 to 5",
        ),
        (
            lambda env, tasks: ad.views.PolicyField(ad.envs.DarkRoom(), tasks),
            "DarkRoom.*creatures of shards live in a CookieWorld",
        ),
        (
            lambda env, tasks: ad.views.PolicyField(env, tasks[:0]),
            "0 tasks, w_food=1.0; give at least one task",
        ),
        (
            lambda env, tasks: ad.views.arrow_fields({}, tasks[:1]),
            r"fields \{\}; give \(cells, 8\) of one square room",
        ),
        (
            lambda env, tasks: ad.views.arrow_fields({"a": np.ones((24, 8))}, tasks[:1]),
            r"\(24, 8\)\}; give \(cells, 8\)",
        ),
        (
            lambda env, tasks: ad.views.arrow_fields({"a": np.ones((25, 8))}, tasks),
            "60 tasks given; a picture shows one",
        ),
        (
            lambda env, tasks: ad.views.heat_map(pd.DataFrame([[1, np.nan]])),
            r"a table of \(1, 2\) with 1 gaps; give numbers",
        ),
        (
            lambda env, tasks: ad.views.heat_map(pd.DataFrame()),
            "give numbers of at least 0, and at least one",
        ),
        (
            lambda env, tasks: figures.drift({}),
            r"strengths \{\}; give \(lives, days\) under a name",
        ),
        (
            lambda env, tasks: figures.drift({"D1": np.ones(3)}),
            r"strengths \{'D1': \(3,\)\}; give \(lives, days\)",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_way_out(env, tasks, call, says):
    with pytest.raises(ValueError, match=says):
        call(env, tasks)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("hunger", 6, "5"), ("strength", 3.5, "3"), ("task", 5, "tasks 0 to 4"), ("task", -1, "0")],
)
def test_traits_refuse_what_the_view_does_not_have(view, name, value, says):
    with pytest.raises(traitlets.TraitError, match=says):
        setattr(view, name, value)


# ---- pictures ----


def test_the_still_picture_is_of_what_the_traits_say(view, tmp_path):
    bundle = view._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert (
        bundle["text/plain"] == "PolicyField: hunger 1, strength 1.2, a full jar 2 steps from home"
    )
    seen = {view.png()}
    for name, value in {"hunger": 4, "strength": 2.2, "task": 3, "full": False}.items():
        setattr(view, name, value)
        seen.add(view.png())
    assert len(seen) == 5 and "an empty jar 5 steps" in view._repr_mimebundle_()["text/plain"]
    assert view.to_html(tmp_path / "view.html").stat().st_size > 20_000


def test_fields_of_any_square_room_can_be_drawn():
    env = ad.envs.CookieWorld(7)
    task = env.tasks()[:1]
    heads = anatomy.heads(env, task)[0]
    picture = ad.views.arrow_fields(
        dict(zip(anatomy.SHARDS, heads, strict=True)), task, title="heads"
    )
    assert (
        picture._repr_mimebundle_()["text/plain"] == "Fields: cookie, food, explore"
        and picture.png[1:4] == b"PNG"
    )
    assert (
        picture.png
        != ad.views.arrow_fields(
            dict(zip(anatomy.SHARDS, heads[::-1], strict=True)), task, title="heads"
        ).png
    )


def test_discs_are_as_wide_as_eating_and_idling_are_likely(view):
    from adkit.views import fields

    view.task, view.hunger, view.strength = 2, 3, 2.0
    p = view.policy()
    eat, rest = (radii**2 / (fields.REACH / 2) ** 2 for radii in fields._discs(p, view.tasks[[2]]))
    np.testing.assert_allclose(eat[[12, 24]], p[[12, 24], EAT])
    np.testing.assert_allclose(eat + rest + p[:, :4].sum(1), 1)
    assert not np.delete(eat, [12, 24]).any()


def test_a_heat_map_and_drifts_show_the_numbers_they_are_given():
    table = pd.DataFrame(
        [[0.1, 0.2], [0.3, 0.4], [0.5, 0.9]],
        pd.Index(list("abc"), name="row"),
        pd.Index([1, 2], name="column"),
    )
    figure = ad.views.heat_map(table, title="t")
    (trace,) = figure.data
    assert (
        np.array_equal(trace.z, table)
        and (trace.zmin, trace.zmax) == (0, 0.9)
        and figure.layout.yaxis.autorange == "reversed"
    )
    assert figure.layout.xaxis.ticktext == ("1", "2") and figure.layout.yaxis.title.text == "row"
    assert figure.png() != ad.views.heat_map(table, top=2, title="t").png()
    lives = np.arange(30.0).reshape(10, 3)
    figure = figures.drift({"D0": lives * 0 + 1, "D1": lives}, lives=4)
    mean = [trace for trace in figure.data if trace.name == "D1, mean"]
    assert (
        len(figure.data) == 10
        and mean[0].y.tolist() == lives.mean(0).tolist()
        and mean[0].x.tolist() == [1, 2, 3]
    )
    assert figure._repr_mimebundle_()["text/plain"] == "Figure: D0, mean, D1, mean"


# ---- live ----


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    write_notebook(folder / "fields.ipynb", MAKE, "view")
    with chromium() as open_page, jupyterlab(folder) as address:
        page = open_page()
        run_all(page, address, "fields")
        yield page


VIEW = ".PolicyField"


def agrees(page, view):
    """What the browser shows is what Python computes with the same sliders."""
    assert not page.errors
    now = shown(page, VIEW)
    for name in ("hunger", "strength", "task", "full"):
        setattr(view, name, now[name])
    np.testing.assert_allclose(np.reshape(now["policy"], (25, 8)), view.policy(), atol=1e-5)
    np.testing.assert_allclose(np.reshape(now["bids"], (2, 25, 8)), view.bids(), atol=1e-5)
    np.testing.assert_allclose([now["hides"], now["avoids"]], view.planned(), atol=1e-5)
    return now


def test_sliders_redraw_the_rooms_in_jupyterlab(lab, view):
    assert agrees(lab, view)["hunger"] == 1
    for slider, value, changes in (
        ("hunger", "4", "food"),
        ("strength", "2.6", "cookie"),
        ("task", "3", "cookie"),
    ):
        room = lab.locator(f"{VIEW} .ad-{changes}")
        before, policy = pixels(room), pixels(lab.locator(f"{VIEW} canvas.ad-policy"))
        lab.locator(f"{VIEW} input.ad-{slider}").fill(value)
        wait_until(lab, f"v.{slider} === {value}", VIEW)
        agrees(lab, view)
        assert (pixels(room) != before).any() and (
            pixels(lab.locator(f"{VIEW} canvas.ad-policy")) != policy
        ).any(), slider
        assert in_kernel(lab, f"print(view.{slider})").strip() == value
    lab.locator(f"{VIEW} input.ad-full").uncheck()
    now = wait_until(lab, "!v.full", VIEW)
    assert agrees(lab, view) and not np.any(now["bids"][:200])


def test_python_moves_the_sliders_and_keys_do(lab, view):
    in_kernel(lab, "view.full, view.hunger, view.strength, view.task = True, 2, 0.5, 1")
    wait_until(lab, "v.full && v.hunger === 2 && v.strength === 0.5 && v.task === 1", VIEW)
    agrees(lab, view)
    lab.locator(VIEW).focus()
    for key, change in {
        "ArrowRight": "v.strength === 0.6",
        "ArrowUp": "v.hunger === 3",
        "ArrowLeft": "v.strength === 0.5",
    }.items():
        lab.keyboard.press(key)
        wait_until(lab, change, VIEW)
    agrees(lab, view)
    assert "3 steps" in lab.locator(f"{VIEW} .bar").inner_text() and lab.hosts <= {
        "127.0.0.1",
        "data",
        "blob",
    }
