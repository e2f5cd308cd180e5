"""The parts of a shard agent's policy, by hand."""

from itertools import product

import numpy as np
import pytest

import adkit as ad
from adkit.cookieworld import anatomy, planning, shard, world


@pytest.fixture(scope="module")
def env():
    return ad.envs.CookieWorld()


@pytest.fixture(scope="module")
def tasks(env):
    return env.tasks()[np.random.default_rng(0).permutation(len(env.tasks()))[:60]]


def cell(x: int, y: int) -> int:
    return 5 * x + y


# ---- numbers ----


def test_gates_are_those_that_agents_used(env, tasks):
    histories = ad.collect(env, tasks, ad.sources.Shards(), episodes=20)
    real = np.arange(16) < histories.length[..., None]
    obs, gates = histories.arrays["obs"][real].astype(int), anatomy.gates()
    cookie, food = (histories.arrays[name][real] for name in ("gate_cookie", "gate_food"))
    hunger = obs[:, world.HUNGER]
    np.testing.assert_allclose(cookie, gates[obs[:, world.VISIBLE], hunger], rtol=1e-6)
    np.testing.assert_allclose(food, gates[2, hunger], rtol=1e-6)
    assert (np.diff(gates) > 0).all() and (gates[1] > gates[0] + 0.35).all()


def test_heads_point_at_what_their_shard_wants(env):
    task = env.task(home=(0, 4), jar=(2, 2), garden=(4, 4))
    cookie, food, explore = anatomy.heads(env, task)[0]
    north_of_the_jar, corner, garden = cell(2, 1), cell(0, 0), cell(4, 4)
    near = lambda values, expected: np.testing.assert_allclose(values, expected, atol=1e-5)
    near(cookie[north_of_the_jar], [-0.9, 1, -0.9, -0.9, 0, 0, 0, 0])
    near(cookie[corner], [0, 1, 1, 0, 0, 0, 0, 0])  # two ways, two walls
    near(food[garden], [-0.9, 0, 0, -0.9, 0, 1, 0, 0])
    assert explore[cell(2, 2)].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert explore[cell(0, 3)].tolist() == [1, 0, 1, 1, 0, 0, 0, 0], "home is known"


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


def test_detour_and_balance_by_hand(env):
    """The balance is a mean over twelve contexts."""
    jars = [env.task(home=(0, 4), jar=(2, y), garden=(4, 4)) for y in (4, 3, 2, 1, 0)]
    assert [anatomy.detour(task).item() for task in jars] == [0, 2, 4, 6, 8]
    shares = []
    for visible, hunger in product((0, 1), range(6)):
        cookie = 1.5 * shard.cookie_gate(visible, hunger)
        shares.append(cookie / (cookie + 0.8 * shard.food_gate(hunger)))
    assert anatomy.balance(np.array([[0.0, 1.5]]), 0.8)[0].tolist() == [0, np.mean(shares)]


# ---- views ----


def test_a_policy_field_says_what_its_sliders_say(env):
    view = ad.views.PolicyField(env, env.task(home=(0, 4), jar=(2, 4), garden=(4, 4)))
    text = lambda: view._repr_mimebundle_()["text/plain"]
    assert text() == "PolicyField: hunger 1, strength 1.2, a full jar 2 steps from home"
    view.hunger, view.strength, view.full = 4, 2.2, False
    assert text() == "PolicyField: hunger 4, strength 2.2, an empty jar 2 steps from home"


def test_arrows_of_any_square_room_can_be_shown():
    env = ad.envs.CookieWorld(7)
    task = env.tasks()[:1]
    heads = dict(zip(anatomy.SHARDS, anatomy.heads(env, task)[0], strict=True))
    view = ad.views.ArrowFields(heads, task)
    assert view.describe() == "Fields: cookie, food, explore"
    assert view.data["size"] == 7 and view.data["values"]["shape"] == [3, 49, 8]
    assert view.data["sites"] == env.places(task)[0, 1:].tolist()
