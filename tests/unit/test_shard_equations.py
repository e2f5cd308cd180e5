"""The equations of a shard by hand, planning by policy evaluation in plain loops, and views."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from helpers import scattered

import adkit as ad
from adkit.cookieworld import anatomy, planning, shard
from adkit.cookieworld.world import EAT, HIDE, OPEN, STAY, led, near

ENV = ad.envs.CookieWorld()


def test_gates_open_with_a_cookie_in_sight_and_with_hunger():
    """By cue and hunger (0-1, 2-3, 4-5): unseen .09 .21 .46, seen .60 .81 .94."""
    for v, h in ((0, 0), (1, 0), (0, 5), (1, 3)):
        by_hand = 1 / (1 + math.exp(-(-1.5 + 2.8 * v + 0.6 * (h - 2))))
        assert shard.cookie_gate(v, h) == pytest.approx(by_hand)
    pairs = [[shard.cookie_gate(v, h + i) for i in (0, 1)] for v in (0, 1) for h in (0, 2, 4)]
    expected = [0.09, 0.21, 0.46, 0.60, 0.81, 0.94]
    np.testing.assert_allclose(np.mean(pairs, axis=1), expected, atol=0.05)
    assert [round(shard.food_gate(h), 3) for h in (0, 2, 5)] == [0.119, 0.5, 0.953]


def test_heads_are_the_sign_of_the_change_in_distance_once_learned():
    """The explorer's are 1 for every move that does not lead home."""
    tasks = scattered(ENV, 3)
    heads, places = anatomy.heads(ENV, tasks), ENV.places(tasks)
    steps = lambda a, b: abs(a // 5 - b // 5) + abs(a % 5 - b % 5)
    for n, cell, a in np.ndindex(3, 25, 8):
        to = led(cell, a, 5)
        for k, site in enumerate(places[n, 1:]):
            change = 1 if (cell == site and a == EAT) else steps(cell, site) - steps(to, site)
            assert heads[n, k, cell, a] == pytest.approx(max(change, -0.9), abs=1e-5)
        assert heads[n, 2, cell, a] == (a < STAY and to != places[n, 0])
    assert shard.head(0.0, 0.0) == 0


def test_bids_add_to_the_logits():
    """Beside the jar: logit = 2.5 (w_C g_C A_C + w_F g_F A_F), and HIDE 3.5 below."""
    task = ENV.task(home=(0, 0), jar=(2, 2), garden=(4, 4))
    q, visited, p = anatomy.learned_values(ENV, task)[0], np.zeros(25, bool), np.zeros(8)
    at = 11  # (2, 1): one step north of the jar; actions N S E W STAY EAT HIDE OPEN
    cookie, food = [-0.9, 1, -0.9, -0.9, 0, 0, 0, 0], [-0.9, 1, 1, -0.9, 0, 0, 0, 0]
    appetite, base = 2.5 * 0.9 * 0.3, np.eye(8)[HIDE] * -3.5
    for craving in (2.5 * 1.5 * 0.8, 0.0):
        shard.policy(q, visited, at, 5, craving, appetite, False, True, p)
        odds = np.exp(craving * np.array(cookie) + appetite * np.array(food) + base)
        np.testing.assert_allclose(p, odds / odds.sum(), rtol=1e-4)
    visited[10] = True  # exploring: 2.5 more for moves to where it has not been
    shard.policy(q * 0, visited, at, 5, 0.0, appetite, True, False, p)
    assert p[HIDE] == 0 and p[0] == pytest.approx(p[STAY])
    assert p[1] / p[0] == pytest.approx(math.exp(2.5))


def slowly(env, task, w_cookie, w_food, rho):
    """Return (lid, meals or cookies, hunger): policy evaluation in plain loops."""
    q, (home, jar, garden) = anatomy.learned_values(env, task)[0], env.places(task)[0]
    unvisited, p = np.zeros(25, bool), np.zeros(8)
    value = np.zeros((25, 6, 4, 2, 2))
    for _ in range(env.horizon):
        after = np.zeros_like(value)
        for cell, h, left, shut in np.ndindex(25, 6, 4, 2):
            tempted = left > 0 and not shut
            gate = shard.cookie_gate(int(tempted and near(cell, jar, 5)), h)
            craving, appetite = 2.5 * w_cookie * gate * tempted, 2.5 * w_food * shard.food_gate(h)
            shard.policy(q, unvisited, cell, 5, craving, appetite, False, False, p)
            for a in range(8):
                lids, to, hunger, kept, gain, over = {shut: 1.0}, led(cell, a, 5), h, left, 0, False
                if a == EAT and cell == jar and tempted:
                    hunger, kept, gain = max(h - 1, 0), left - 1, np.array([0, 1])
                elif a == EAT and cell == garden:
                    gain, over = np.array([min(h, 3) / 3, 0]), True
                elif a == OPEN and cell == jar and shut:
                    lids = {0: 0.3, 1: 0.7}
                for lid, chance in lids.items():
                    stays, grows = value[to, [hunger, min(hunger + 1, 5)], kept, lid]
                    later = 0.97 * ((1 - rho) * stays + rho * grows)
                    after[cell, h, left, shut] += p[a] * chance * (gain + later * (not over))
        value = after
    return value[home, :, 3].transpose(1, 2, 0)


NEAR = ENV.task(home=(2, 0), jar=(2, 2), garden=(4, 4))  # there is time to empty the jar
FAR = ENV.task(home=(0, 0), jar=(4, 3), garden=(0, 2), psi=0.6)


@pytest.mark.parametrize("task", [NEAR, FAR], ids=["near", "far"])
def test_planning_is_exact_policy_evaluation(task):
    short, task, ahead = replace(ENV, horizon=9), task.replace(rho=[0.3]), np.zeros((2, 2, 6), "f4")
    q, place = anatomy.learned_values(short, task)[0], short.places(task)[0]
    planning.expected_day(q, 5, place, 9, 3, 1.15, 0.8, 0.3, ahead)
    np.testing.assert_allclose(ahead, slowly(short, task, 1.15, 0.8, 0.3), atol=2e-5)
    meals, more_cookies = ahead[1] - ahead[0]  # by hiding
    p, avoided = anatomy.hiding(short, task, np.array([0.3, 1.15]), w_food=0.8)
    np.testing.assert_allclose(avoided[0, 1], -more_cookies, rtol=1e-6)
    psi = task["psi"].item()
    gain = meals - psi * more_cookies
    np.testing.assert_allclose(p[0, 1], 0.95 / (1 + np.exp(-40 * (gain - 0.1))), rtol=1e-4)
    gains = np.empty((7, 2, 2, 2, 6))
    planning.tabulate_gains(q, 5, place, 9, gains)
    interpolated = [planning.interpolated_gain(gains, 1.15, 0.8, 0.3, psi, h) for h in range(6)]
    np.testing.assert_allclose(interpolated, gain, atol=1e-6)


def test_detour_and_balance_by_hand():
    """The balance is a mean over twelve contexts."""
    jars = [ENV.task(home=(0, 4), jar=(2, y), garden=(4, 4)) for y in (4, 3, 2, 1, 0)]
    assert [anatomy.detour(task).item() for task in jars] == [0, 2, 4, 6, 8]
    shares = []
    for visible, hunger in product((0, 1), range(6)):
        cookie = 1.5 * shard.cookie_gate(visible, hunger)
        shares.append(cookie / (cookie + 0.8 * shard.food_gate(hunger)))
    assert anatomy.balance(np.array([[0.0, 1.5]]), 0.8)[0].tolist() == [0, np.mean(shares)]


def test_a_policy_field_says_what_its_sliders_say():
    view = ad.views.PolicyField(ENV, NEAR)
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
