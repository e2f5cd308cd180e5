"""The parts of a shard agent's policy, and the arrows drawn of them, by hand."""

from itertools import product

import numpy as np
import pytest

import adkit as ad
from adkit.cookieworld import anatomy, planning, shard, world
from adkit.cookieworld.world import EAT
from adkit.views import fields


@pytest.fixture(scope="module")
def env():
    return ad.envs.CookieWorld()


@pytest.fixture(scope="module")
def tasks(env):
    return env.tasks()[np.random.default_rng(0).permutation(len(env.tasks()))[:60]]


@pytest.fixture
def view(env):
    """The jar 2 to 6 steps from home."""
    task = [env.task(home=(0, 4), jar=(2, y), garden=(4, 4)) for y in (4, 3, 2, 1, 0)]
    jars = {name: np.concatenate([one[name] for one in task]) for name in task[0].columns}
    return ad.views.PolicyField(env, ad.Tasks(jars))


def cell(x: int, y: int) -> int:
    return 5 * x + y


# ---- numbers ----


def test_the_policy_is_that_of_the_agents(view):
    unvisited, p = np.zeros(25, bool), np.zeros(8)
    for full, view.hunger, view.strength, view.task in ((True, 5, 3.0, 3), (False, 3, 2.0, 2)):
        view.full = full
        odds = np.exp(view.bids().sum(0) + shard.BASE)
        np.testing.assert_allclose(view.policy(), odds / odds.sum(-1, keepdims=True), rtol=1e-5)
        q = anatomy.learned_values(view.env, view.tasks)[view.task]
        appetite = 2.5 * shard.food_gate(view.hunger)
        for at in range(25):
            seen = world.near(at, cell(*view.tasks["jar"][view.task]), 5)
            craving = 2.5 * full * view.strength * shard.cookie_gate(seen, view.hunger)
            shard.policy(q, unvisited, at, 5, craving, appetite, False, True, p)
            np.testing.assert_allclose(view.policy()[at], p, rtol=1e-5)
    assert not view.bids()[0].any(), "an empty jar has no pull"


def gain_of_hiding(env, task, w_cookie, w_food):
    """Return the meals gained (6,) and cookies avoided (6,) in one task, by waking hunger."""
    q, place = anatomy.learned_values(env, task)[0], env.places(task)[0]
    rho, psi = float(task["rho"][0]), float(task["psi"][0])
    ahead = np.empty((2, 2, 6), np.float32)  # lid, (meals, cookies), hunger
    planning.expected_day(q, env.size, place, env.horizon, 3, w_cookie, w_food, rho, ahead)
    avoided = ahead[0, 1] - ahead[1, 1]
    return ahead[1, 0] - ahead[0, 0] + psi * avoided, avoided


def test_hiding_is_worth_what_a_planner_computes(env, tasks):
    strengths = np.array([0.3, 1.1, 2.6])
    p, avoided = anatomy.hiding(env, tasks, strengths, w_food=0.9)
    for n, (i, w) in product((0, len(tasks) - 1), enumerate(strengths)):
        gain, fewer = gain_of_hiding(env, tasks[[n]], w, 0.9)
        np.testing.assert_allclose(avoided[n, i], fewer, rtol=1e-6)
        np.testing.assert_allclose(p[n, i], 0.95 / (1 + np.exp(-40 * (gain - 0.1))), rtol=1e-4)


def test_the_view_reads_its_table(view):
    view.task, view.hunger, view.strength = 2, 1, 1.0
    chance, fewer = view.planned()
    gain, avoided = gain_of_hiding(view.env, view.tasks[[2]], 1.0, 1.0)
    assert chance == pytest.approx(planning.hide_probability(gain[1]), abs=1e-3)
    assert fewer == pytest.approx(avoided[1], abs=1e-3)
    view.full = False
    assert view.planned() == (pytest.approx(planning.hide_probability(0.0)), 0)


def test_detour_and_balance_by_hand(view):
    """The balance is a mean over twelve contexts."""
    assert anatomy.detour(view.tasks).tolist() == [0, 2, 4, 6, 8]
    shares = []
    for visible, hunger in product((0, 1), range(6)):
        cookie = 1.5 * shard.cookie_gate(visible, hunger)
        shares.append(cookie / (cookie + 0.8 * shard.food_gate(hunger)))
    assert anatomy.balance(np.array([[0.0, 1.5]]), 0.8)[0].tolist() == [0, np.mean(shares)]


# ---- pictures ----


def test_the_picture_is_of_what_the_traits_say(view):
    text = lambda: view._repr_mimebundle_()["text/plain"]
    assert text() == "PolicyField: hunger 1, strength 1.2, a full jar 2 steps from home"
    seen = {view.png()}
    for name, value in {"hunger": 4, "strength": 2.2, "task": 3, "full": False}.items():
        setattr(view, name, value)
        seen.add(view.png())
    assert len(seen) == 5 and "an empty jar 5 steps" in text()


def test_arrows_of_any_square_room_can_be_drawn():
    env = ad.envs.CookieWorld(7)
    task = env.tasks()[:1]
    heads = dict(zip(anatomy.SHARDS, anatomy.heads(env, task)[0], strict=True))
    picture = ad.views.arrow_fields(heads, task)
    assert picture.alt == "Fields: cookie, food, explore"
    heads["food"] = heads["explore"]
    assert picture.data[1:4] == b"PNG" and picture.data != ad.views.arrow_fields(heads, task).data


def test_discs_are_as_wide_as_eating_and_waiting_are_likely(view):
    view.task, view.hunger, view.strength = 2, 3, 2.0
    p, jar, garden = view.policy(), cell(2, 2), cell(4, 4)
    radii = fields._radii(p, view.tasks[[2]])
    eat, rest = (radius**2 / (fields.REACH / 2) ** 2 for radius in radii)
    np.testing.assert_allclose(eat[[jar, garden]], p[[jar, garden], EAT])
    np.testing.assert_allclose(eat + rest + p[:, :4].sum(1), 1)
    assert not np.delete(eat, [jar, garden]).any()
