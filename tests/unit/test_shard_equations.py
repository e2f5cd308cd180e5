"""The equations of a shard by hand, and planning against policy evaluation in plain loops."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import scattered

import adkit as ad
from adkit.cookieworld import anatomy, planning, shard
from adkit.cookieworld.world import EAT, HIDE, OPEN, STAY, led, near

ENV = ad.envs.CookieWorld()


@pytest.fixture(scope="module")
def tasks():
    return scattered(ENV, 300)


# ---- equations ----


def test_gates_open_with_a_cookie_in_sight_and_with_hunger():
    """By cue and hunger (0-1, 2-3, 4-5): unseen .09 .21 .46, seen .60 .81 .94."""
    for v, h in ((0, 0), (1, 0), (0, 5), (1, 3)):
        by_hand = 1 / (1 + math.exp(-(-1.5 + 2.8 * v + 0.6 * (h - 2))))
        assert shard.cookie_gate(v, h) == pytest.approx(by_hand)
    pairs = [[shard.cookie_gate(v, h + i) for i in (0, 1)] for v in (0, 1) for h in (0, 2, 4)]
    expected = [0.09, 0.21, 0.46, 0.60, 0.81, 0.94]
    np.testing.assert_allclose(np.mean(pairs, axis=1), expected, atol=0.05)
    assert [round(shard.food_gate(h), 3) for h in (0, 2, 5)] == [0.119, 0.5, 0.953]


def test_heads_are_the_sign_of_the_change_in_distance_once_learned(tasks):
    q, places = anatomy.learned_values(ENV, tasks[:3]), ENV.places(tasks[:3])
    for n, k, cell, a in np.ndindex(3, 2, 25, 8):
        site = places[n, 1 + k]
        here, there = (
            abs(c // 5 - site // 5) + abs(c % 5 - site % 5) for c in (cell, led(cell, a, 5))
        )
        change = 1 if (cell == site and a == EAT) else here - there
        found = shard.head(q[n, k, cell, a], q[n, k, cell].max())
        assert found == pytest.approx(max(change, -0.9), abs=1e-5)
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


def test_a_value_is_learned_one_step_at_a_time_and_ends_with_its_reinforcer():
    q = np.zeros((25, 8), np.float32)
    shard.learn(q, 12, EAT, True, 12, 0.2, 0.0)
    shard.learn(q, 11, 1, False, 12, 0.2, 0.0)
    assert q[12, EAT] == pytest.approx(0.2) and q[11, 1] == pytest.approx(0.2 * 0.9 * 0.2)
    for _ in range(400):
        shard.learn(q, 12, EAT, True, 12, 0.2, shard.SURGE)
    assert q[12, EAT] == pytest.approx(3, abs=1e-5)  # what is never fully expected grows to the cap


# ---- planning ----


def slowly(env, task, w, rho):
    """Return (lid, meals or cookies, hunger): policy evaluation in plain loops."""
    q, (home, jar, garden) = anatomy.learned_values(env, task)[0], env.places(task)[0]
    unvisited, p = np.zeros(25, bool), np.zeros(8)
    value = np.zeros((25, 6, 4, 2, 2))
    for _ in range(env.horizon):
        after = np.zeros_like(value)
        for cell, h, left, shut in np.ndindex(25, 6, 4, 2):
            tempted = left > 0 and not shut
            gate = shard.cookie_gate(int(tempted and near(cell, jar, 5)), h)
            craving, appetite = 2.5 * w * gate * tempted, 2.5 * shard.food_gate(h)
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


@pytest.mark.parametrize("n", [0, 7])
def test_planning_is_exact_policy_evaluation(tasks, n):
    short, task, ahead = replace(ENV, horizon=9), tasks[n], np.zeros((2, 2, 6), np.float32)
    q, place = anatomy.learned_values(short, task)[0], short.places(task)[0]
    planning.expected_day(q, 5, place, 9, 3, 1.3, 1.0, 0.3, ahead)
    np.testing.assert_allclose(ahead, slowly(short, task, 1.3, 0.3), atol=2e-5)
