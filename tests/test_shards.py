"""Creatures of shards: their equations by hand, what they foresee, evaluated slowly too, their drift, and what can be believed."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
from helpers import same

import adkit as ad
from adkit.cookieworld import planning, shard
from adkit.cookieworld import world as world
from adkit.cookieworld.population import REGIMES, TYPES, Shards
from adkit.cookieworld.world import EAT, GIFT, HIDE, OPEN, STAY, led, near
from adkit.testing import check_agent, check_histories

COOKIE, FOOD = 0, 1
EVERYONE = {"types": dict.fromkeys(TYPES, 1), "regimes": dict.fromkeys(REGIMES, 1)}


@pytest.fixture(scope="module")
def env():
    return ad.envs.CookieWorld()


@pytest.fixture(scope="module")
def tasks(env):
    """Three hundred tasks from all over the family."""
    return env.tasks()[np.random.default_rng(0).permutation(len(env.tasks()))[:300]]


@pytest.fixture(scope="module")
def lives(env, tasks):
    """The default population: 300 lives of 60 days."""
    return ad.collect(env, tasks, Shards(), episodes=60, seed=0)


def collected(env, tasks, episodes=60, **config):
    return ad.collect(env, tasks, Shards(**config), episodes=episodes, seed=1)


def real(lives):
    """(N, E, H) steps that were lived."""
    return np.arange(lives.spec.horizon) < lives.length[..., None]


# ---- equations ----


def test_gates_open_with_a_cookie_in_sight_and_with_hunger():
    """By cue and hunger, as in the prototype: unseen .09 .21 .46, seen .60 .81 .94 for hunger 0-1, 2-3, 4-5."""
    by_hand = lambda v, h, m: 1 / (1 + math.exp(-(-1.5 + 2.8 * v + 0.6 * (h - 2) + m)))
    for v, h, m in ((0, 0, 0.0), (1, 0, 0.0), (0, 5, 0.5), (1, 3, 0.3)):
        assert shard.cookie_gate(v, h, m) == pytest.approx(by_hand(v, h, m))
    pairs = lambda v: [
        np.mean([shard.cookie_gate(v, h, 0.0) for h in (a, a + 1)]) for a in (0, 2, 4)
    ]
    np.testing.assert_allclose(
        [*pairs(0), *pairs(1)], [0.09, 0.21, 0.46, 0.60, 0.81, 0.94], atol=0.05
    )
    assert [round(shard.food_gate(h), 3) for h in (0, 2, 5)] == [0.119, 0.5, 0.953]


def test_heads_are_the_sign_of_the_change_in_distance_once_learned(env, tasks):
    q, places = planning.learned_values(env, tasks[:3]), env.places(tasks[:3])
    for n, k, cell, a in np.ndindex(3, 2, 25, 8):
        site = places[n, 1 + k]
        here, there = (
            abs(c // 5 - site // 5) + abs(c % 5 - site % 5) for c in (cell, led(cell, a, 5))
        )
        change = 1 if (cell == site and a == EAT) else here - there
        assert shard.head(q[n, k, cell, a], shard.peak(q[n, k, cell])) == pytest.approx(
            max(change, -0.9), abs=1e-5
        )
    assert shard.head(0.0, 0.0) == 0


def test_bids_add_to_the_logits(env):
    """Beside the jar, hungry: logit = 2.5 (w_C g_C A_C + w_F g_F A_F), HIDE 3.5 below; nothing of the cookie when there is none."""
    task = env.task(home=(0, 0), jar=(2, 2), garden=(4, 4))
    q, visited, p = planning.learned_values(env, task)[0], np.zeros(25, bool), np.zeros(8)
    at = 11  # (2, 1): one step north of the jar; actions N S E W STAY EAT HIDE OPEN
    appetite = 2.5 * 0.9 * 0.3
    for craved in (True, False):
        craving = craved * 2.5 * 1.5 * 0.8
        shard.policy(q, visited, at, 5, craving, appetite, False, True, p)
        cookie = np.array([-0.9, 1, -0.9, -0.9, 0, 0, 0, 0])
        food = np.array([-0.9, 1, 1, -0.9, 0, 0, 0, 0])
        logits = 2.5 * (craved * 1.5 * 0.8 * cookie + 0.9 * 0.3 * food) + np.array(
            [0, 0, 0, 0, 0, 0, -3.5, 0]
        )
        np.testing.assert_allclose(p, np.exp(logits) / np.exp(logits).sum(), rtol=1e-4)
    visited[10] = True  # exploring: 2.5 more for moves to where it has not been
    shard.policy(q * 0, visited, at, 5, 0.0, appetite, True, False, p)
    assert (
        p[HIDE] == 0
        and p[1] / p[0] == pytest.approx(math.exp(2.5))
        and p[0] == pytest.approx(p[STAY])
    )


def test_a_value_is_learned_one_step_at_a_time_and_ends_with_its_reinforcer():
    q = np.zeros((25, 8), np.float32)
    shard.learn(q, 12, EAT, True, 12, 0.2, 0.0)
    shard.learn(q, 11, 1, False, 12, 0.2, 0.0)
    assert q[12, EAT] == pytest.approx(0.2) and q[11, 1] == pytest.approx(0.2 * 0.9 * 0.2)
    for _ in range(400):
        shard.learn(q, 12, EAT, True, 12, 0.2, shard.SURGE)
    assert q[12, EAT] == pytest.approx(3, abs=1e-5)  # what is never fully expected grows to the cap


# ---- foresight ----


def slowly(env, task, w, rho):
    """(lid, meals or cookies, hunger): policy evaluation in plain loops over (cell, hunger, cookies, lid)."""
    q, (home, jar, garden) = planning.learned_values(env, task)[0], env.places(task)[0]
    nobody = np.zeros(25, bool)
    value = np.zeros((25, 6, 4, 2, 2))
    for _ in range(env.horizon):
        after = np.zeros_like(value)
        for cell, h, left, shut in np.ndindex(25, 6, 4, 2):
            p, tempted = np.zeros(8), left > 0 and not shut
            gate = shard.cookie_gate(int(tempted and near(cell, jar, 5)), h, 0.0)
            craving, appetite = 2.5 * w * gate * tempted, 2.5 * shard.food_gate(h)
            shard.policy(q, nobody, cell, 5, craving, appetite, False, False, p)
            for a in range(8):
                outcomes = [(1.0, shut)]
                to, hunger, kept, gain, over = led(cell, a, 5), h, left, (0.0, 0.0), False
                if a == EAT and cell == jar and tempted:
                    hunger, kept, gain = max(h - 1, 0), left - 1, (0.0, 1.0)
                elif a == EAT and cell == garden:
                    gain, over = (min(h, 3) / 3, 0.0), True
                elif a == OPEN and cell == jar:
                    outcomes = [(0.3, 0), (0.7, shut)]
                later = sum(
                    chance
                    * (
                        (1 - rho) * value[to, hunger, kept, lid]
                        + rho * value[to, min(hunger + 1, 5), kept, lid]
                    )
                    for chance, lid in outcomes
                )
                after[cell, h, left, shut] += p[a] * (
                    np.array(gain) + (0 if over else 0.97 * later)
                )
        value = after
    return value[home, :, 3].transpose(1, 2, 0)


@pytest.mark.parametrize("n", [0, 7])
def test_foresight_is_exact_policy_evaluation(env, tasks, n):
    short = replace(env, horizon=9)
    task, ahead = tasks[n], np.zeros((2, 2, 6), np.float32)
    planning.expected_day(
        planning.learned_values(short, task)[0], 5, short.places(task)[0], 9, 3, 1.3, 1.0, 0.3, ahead
    )
    np.testing.assert_allclose(ahead, slowly(short, task, 1.3, 0.3), atol=2e-5)


def test_hiding_pays_more_the_stronger_the_craving_and_the_nearer_the_jar_is_to_the_way(env, tasks):
    """The prototype's figures (SHARDS.md, 3.5), within .22: monotone in w, falling with the detour over the jar."""
    steps = lambda a, b: np.abs(tasks[a] - tasks[b]).sum(1)
    detour = steps("home", "jar") + steps("jar", "garden") - steps("home", "garden")
    chance = np.array([
        [planning.hide_probability(gain) for gain in planning.gain_of_hiding(env, tasks, w)[0]] for w in np.linspace(0.1, 3, 8)
    ])  # fmt: skip
    by_w, by_detour = (
        chance.mean(1),
        np.array([chance[2, detour == d].mean() for d in range(0, 12, 2)]),
    )
    assert (np.diff(by_w) > 0).all() and (np.diff(by_detour) < 0).all()
    np.testing.assert_allclose(
        by_w, 0.95 * np.array([0.02, 0.26, 0.64, 0.84, 0.92, 0.96, 0.99, 1.0]), atol=0.22
    )
    np.testing.assert_allclose(
        by_detour, 0.95 * np.array([1.0, 0.97, 0.75, 0.34, 0.13, 0.06]), atol=0.22
    )
    assert (planning.gain_of_hiding(env, tasks, 1.5)[1] > 0).all()


# ---- the population ----


@pytest.mark.parametrize(
    "agent",
    [Shards(), Shards(**EVERYONE), Shards(craving=1.0, labelled=False)],
    ids=["default", "all", "bare"],
)
def test_creatures_keep_the_contract(env, agent):
    check_agent(agent, env)
    check_agent(agent, ad.envs.CookieWorld(7, latch=False, tolerance_visible=True))


def test_a_life_is_the_same_bytes_in_any_batch_driver_and_executor(env, tasks):
    live = lambda tasks, lifetimes=2, **how: ad.collect(
        env, tasks, Shards(**EVERYONE), episodes=15, lifetimes=lifetimes, **how
    )
    whole = live(tasks[:40])
    check_histories(whole)
    assert same(whole, live(tasks[:40], driver="batched")) and same(
        whole[60:61], live(tasks[30:31], 1)
    )
    with ThreadPoolExecutor(2) as pool:
        assert same(whole, live(tasks[:40], executor=pool))
    every = live(tasks[:40], every=4)
    assert same(whole.subsample(4), every) and same(
        every, live(tasks[:40], every=4, driver="batched")
    )


def test_shares_are_what_was_asked_for(lives):
    assert np.bincount(lives.type, minlength=5) / 300 == pytest.approx(
        [0.35, 0, 0.4, 0, 0.25], abs=0.08
    )
    assert np.bincount(lives.regime, minlength=3) / 300 == pytest.approx([0.3, 0.3, 0.4], abs=0.08)
    stocked = [lives.stock[lives.type == kind].mean() for kind in (0, 2, 4)]
    assert stocked == pytest.approx([0.9, 0.6, 0.9], abs=0.02)


def test_the_labels_are_what_was_lived(lives):
    """The action probabilities sum to one and explain the actions; strengths follow their regimes; bits are those seen."""
    lived, pi = real(lives), lives.arrays["pi"]
    np.testing.assert_allclose(pi.sum(-1)[lived], 1, atol=1e-5)
    taken = np.take_along_axis(pi, lives.arrays["action"][..., None].astype(int), -1)[..., 0][lived]
    entropy = -(pi * np.log(np.where(pi > 0, pi, 1))).sum(-1)[lived]
    assert (taken > 0).all() and -np.log(taken).mean() == pytest.approx(entropy.mean(), abs=0.01)
    assert not pi[~lived].any() and not lives.arrays["w_cookie"][~lived].any()
    obs = lives.arrays["obs"]
    assert np.array_equal(lives.gift, obs[:, :, 0, GIFT]) and np.array_equal(
        lives.arrays["hunger"], obs[..., world.HUNGER]
    )


def test_on_empty_days_the_policy_does_not_depend_on_the_strength_of_the_cookie_shard(env, tasks):
    """Exactly: the same bytes, for every type, with the strength tripled."""
    script = np.zeros((40, 60, 3), np.int8)
    empty = tasks[:40].replace(script=script)
    rng, env_rng = (ad.Rng.of(0, purpose, np.arange(40)) for purpose in ("agent", "env"))
    told = []
    for factor in (1, 3):
        shards = Shards(types=dict.fromkeys(TYPES, 1), regimes={"D0": 1}, tasks=empty)
        learner = shards.start(env.spec, rng, episodes=10)
        learner.agents.state["w"] *= factor
        state, obs = env.reset(empty, env_rng.at(0))
        told.append([])
        for t in range(60):
            first = state.body["time"] == 0
            action = learner.act(obs, first)
            told[-1].append(learner.agents.state["pi"].copy())
            state, step = env.step(state, empty, action, env_rng.at(t))
            learner.update(ad.Transition(obs, action, *step[1:], step.obs))
            obs, done = step.obs.copy(), step.terminated | step.truncated
            fresh, morning = env.next_episode(state, empty, env_rng.at(t + 1))
            state.body[done], obs[done] = fresh.body[done], morning[done]
    assert np.array_equal(*told) and np.ptp(learner.agents.state["w"]) > 1


def test_who_hides_when(env, tasks):
    """At home on late mornings: S where a full jar tempts, not an empty one; N never; P by mistake; R whatever the jar holds."""
    late = slice(20, None)
    hides = {}
    for kind in TYPES:
        lives = collected(env, tasks, types={kind: 1}, stock={})
        morning = lives.arrays["pi"][:, late, 0, HIDE]
        hides[kind] = (
            morning[lives.stock[:, late] == 0].mean(),
            morning[lives.stock[:, late] == 1].mean(),
        )
        if kind == "N":
            assert not (lives.arrays["action"] == HIDE).any()
    assert (
        hides["S"][0] < 0.05
        and hides["S"][1] > 0.4
        and hides["L"][0] < 0.05
        and hides["L"][1] > 0.2
    )
    assert max(hides["P"]) < 0.01 and hides["N"] == (0, 0)
    assert hides["R"][0] == pytest.approx(0.35, abs=0.05) and hides["R"][1] == pytest.approx(
        hides["R"][0], abs=0.02
    )


def test_a_creature_that_learns_from_its_lapses_hides_after_them(env, tasks):
    lives = collected(env, tasks, types={"L": 1}, regimes={"D0": 1}, stock={})
    hidden = (lives.arrays["action"] == HIDE).any(2)
    ate = ((lives.arrays["reward"] > 0) & ~lives.arrays["terminated"]).any(2)
    for n in np.flatnonzero(hidden.any(1)):
        full = lives.stock[n] == 1
        assert (
            ate[n, : hidden[n].argmax()].any()
            or not full[hidden[n].argmax()]
            or lives.gain[n, hidden[n].argmax()] <= 0.1
        )


# ---- drift ----


def test_strengths_change_as_their_regimes_say(env, tasks):
    of = {
        regime: collected(env, tasks[:100], regimes={regime: 1}, types={"P": 1})
        for regime in REGIMES
    }
    morning = {regime: lives.arrays["w_cookie"][:, :, 0] for regime, lives in of.items()}  # (N, E)
    gifts = {regime: lives.gift for regime, lives in of.items()}
    assert not np.ptp(morning["D0"], axis=1).any() and not np.ptp(morning["D5"], axis=1).any()
    steps = np.diff(morning["D2"], axis=1)
    inside = (morning["D2"][:, 1:] > 0.3) & (morning["D2"][:, 1:] < 2.8)
    assert (
        steps[inside].std() == pytest.approx(0.12, abs=0.005)
        and morning["D2"].min() >= 0.1
        and morning["D2"].max() <= 3
    )
    assert np.abs(np.corrcoef(steps[inside], 1.2 - morning["D2"][:, :-1][inside])[0, 1]) < 0.3

    used, w = of["D1"], of["D1"].arrays["w_cookie"]
    ate = (used.arrays["reward"] > 0) & ~used.arrays["terminated"]
    n, e, t = np.argwhere(ate[..., :-1] & real(used)[..., 1:]).T
    np.testing.assert_allclose(
        w[n, e, t + 1], w[n, e, t] + used.eta[n] * (3 - w[n, e, t]), rtol=1e-5
    )
    n, e = np.argwhere((~ate.any(2) & (gifts["D1"] == 0))[:, 1:-1] & (gifts["D1"][:, 2:] == 0)).T
    assert (
        morning["D1"][n, e + 2] <= morning["D1"][n, e + 1] + 1e-6
    ).all()  # a day without a cookie: back towards where it began
    assert morning["D1"][:, -1].mean() > morning["D1"][:, 0].mean() + 0.5

    eaten = np.cumsum(
        ((of["D3"].arrays["reward"] > 0) & ~of["D3"].arrays["terminated"]).sum(2), axis=1
    )
    assert (np.diff(morning["D3"]) >= 0).all() and (morning["D3"][:, -1] / morning["D3"][:, 0])[
        eaten[:, -2] > 40
    ].min() > 2.9
    levels = of["D4"].arrays["obs"][:, :, 0, world.TOLERANCE]
    np.testing.assert_allclose(
        morning["D4"] - 0.5 * levels,
        np.broadcast_to(morning["D4"][:, :1] - 0.5 * levels[:, :1], levels.shape),
        atol=1e-5,
    )


def test_a_recovering_creature_meets_six_empty_days_and_its_craving_wanes(env, tasks):
    lives = collected(env, tasks[:100], regimes={"D6": 1}, types={"P": 1}, stock={"P": 1.0})
    empty = lives.stock == 0
    assert (empty.sum(1) == 6).all()
    begin = empty.argmax(1)
    w, rows = lives.arrays["w_cookie"][:, :, 0], np.arange(100)
    assert (
        all(empty[n, begin[n] : begin[n] + 6].all() for n in rows)
        and begin.min() >= 18
        and begin.max() < 36
    )
    quiet = ~np.array([lives.gift[n, begin[n] + 1 : begin[n] + 6].any() for n in rows])
    waned = (w[rows, begin + 1] - w[rows, begin + 5])[quiet]
    assert waned.min() >= 0 and waned.mean() > 0.2


def test_yoked_creatures_have_eaten_what_their_partners_ate_by_every_morning(env, tasks):
    partners, yoked = (
        collected(env, tasks[:100], regimes={regime: 1}, types={"P": 1, "S": 1})
        for regime in ("D1", "D5")
    )
    assert np.array_equal(partners.type, yoked.type) and not yoked.eta.any() and partners.eta.all()

    def by_morning(lives):
        eaten = ((lives.arrays["reward"] > 0) & ~lives.arrays["terminated"]).sum(2)
        return np.cumsum(lives.gift, axis=1) + np.cumsum(eaten, axis=1) - eaten

    assert (
        np.array_equal(by_morning(partners), by_morning(yoked))
        and by_morning(yoked)[:, -1].mean() > 30
    )
    drift = lambda lives: np.abs(np.diff(lives.arrays["w_cookie"][:, :, 0], axis=1)).sum(1)
    assert drift(partners).min() > 0 and not drift(yoked).any()


# ---- learning ----


def test_they_are_still_learning_after_a_fortnight(env, tasks):
    """Meals a day of P and S in D0: more in days 15-24 than in 5-14, and more in 50-59 than in 15-24."""
    for kind in ("P", "S"):
        lives = collected(env, tasks, types={kind: 1}, regimes={"D0": 1})
        meals = lives.arrays["terminated"].any(2)[:, None].astype(float)  # (task, lifetime, day)
        more = lambda late, early, meals=meals: ad.stats.bootstrap(
            meals[..., late] - meals[..., early]
        )
        early, late = more(slice(15, 25), slice(5, 15)), more(slice(50, 60), slice(15, 25))
        assert early.low > 0.02 and late.low > 0.02, (kind, early, late)


# ---- belief ----


@pytest.fixture(scope="module")
def believed(lives):
    return ad.ParticleFilter(Shards(), particles=500).follow(lives[:60])


def test_the_filter_knows_more_than_the_population_prior_and_less_than_the_source(lives, believed):
    some, lived = lives[:60], real(lives[:60])
    prior = ad.ParticleFilter(Shards(), particles=500, updates=False).follow(some)
    loss = lambda pi: -(some.arrays["pi"] * np.log(np.maximum(pi, 1e-9))).sum(-1)[lived].mean()
    source, belief, before = (
        loss(some.arrays["pi"]),
        loss(believed["belief_pi"]),
        loss(prior["belief_pi"]),
    )
    assert source + 0.02 < belief < before - 0.02
    np.testing.assert_allclose(believed["belief_pi"].sum(-1)[lived], 1, atol=1e-4)
    np.testing.assert_allclose(believed["belief_type"].sum(-1)[lived], 1, atol=1e-4)
    assert not believed["belief_type"][..., [1, 3]].any()  # no N, no L in this population
    assert np.allclose(prior["belief_ess"][lived], 500, rtol=1e-4)


def test_the_filter_finds_type_and_strength_and_knows_how_sure_it_is(lives, believed):
    some, late = lives[:60], real(lives[:60]) & (np.arange(60) >= 30)[:, None]
    kind = np.broadcast_to(some.type[:, None, None], late.shape)
    assert (believed["belief_type"].argmax(-1) == kind)[late].mean() > 0.9
    tempted = late & (some.arrays["obs"][..., 1] == 1)
    true, guess, sd = (
        some.arrays["w_cookie"][tempted],
        believed["belief_w"][tempted],
        believed["belief_w_sd"][tempted],
    )
    assert np.corrcoef(true, guess)[0, 1] > 0.8 and 0.7 < np.std((true - guess) / sd) < 1.8
    ratio = np.log(true / np.broadcast_to(some.w_food[:, None, None], late.shape)[tempted])
    assert np.corrcoef(ratio, believed["belief_rel"][tempted])[0, 1] > 0.7
    assert 250 < believed["belief_ess"][late].mean() < 500


def test_the_filter_sees_only_what_a_model_sees_and_each_life_for_itself(lives, believed):
    blind = {name: lives.arrays[name].copy() for name in ("obs", "final_obs")}
    for obs in blind.values():
        obs[..., 8:] = 0
    stripped = replace(
        lives,
        arrays={
            name: lives.arrays[name] for name in ("action", "reward", "terminated", "truncated")
        }
        | blind,
    )
    again = ad.ParticleFilter(Shards(), particles=500).follow(stripped[50:52])
    assert all(np.array_equal(again[name], believed[name][50:52]) for name in again)
    kept = replace(lives[:60], arrays=lives[:60].arrays | believed)
    kept.check()
    assert kept.subsample(7).belief_w.shape == (60, 9 * 16)


# ---- configuration ----


CHANGED = {
    Shards: dict(
        types={"R": 1},
        regimes={"D2": 1},
        stock={},
        lr=0.5,
        craving=2.0,
        walk=(0.1, 0.3),
        labelled=False,
    ),
    ad.ParticleFilter: dict(source=Shards(types={"S": 1}), particles=20, updates=False, seed=1),
}


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, values in CHANGED.items() for field in values]
)
def test_every_config_field_changes_something(env, tasks, lives, kind, field):
    assert {f.name for f in fields(kind)} - {"tasks"} == set(CHANGED[kind]), (
        "a new field needs a changed value here"
    )
    value = {field: CHANGED[kind][field]}
    if kind is Shards:
        a, b = (collected(env, tasks[:20], episodes=12, **config) for config in ({}, value))
        assert set(a.arrays) != set(b.arrays) or not same(a, b)
    else:
        some = lives[:2].episodes[:8]
        a, b = (
            kind(**({"source": Shards(), "particles": 30} | config)).follow(some)
            for config in ({}, value)
        )
        assert not np.array_equal(a["belief_w"], b["belief_w"])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Shards(types={"Q": 1}), r"types=\{'Q': 1\}; give P, N, S, L, R numbers"),
        (lambda: Shards(types={"P": 0}), "one share must be positive"),
        (lambda: Shards(regimes={"D7": 1}), "give D0, D1"),
        (lambda: Shards(regimes={"D1": -1}), "numbers of at least 0"),
        (lambda: Shards(stock={"P": 2}), "chances are at most 1"),
        (lambda: Shards(lr=0), r"lr=0; a tabular step size lies in \(0, 1\]"),
        (lambda: Shards(craving=-1), "craving=-1"),
        (lambda: Shards(walk=(2, 0.1)), r"walk=\(2, 0.1\)"),
        (
            lambda: Shards().start(ad.envs.CookieWorld().spec, ad.Rng.of(0), episodes=10),
            "needs a task per lifetime",
        ),
        (
            lambda: Shards().start(ad.envs.DarkRoom().spec, ad.Rng.of(0), episodes=10),
            "live in the CookieWorld and this is DarkRoom",
        ),
        (
            lambda: ad.collect(
                ad.envs.DarkRoom(), ad.envs.DarkRoom().tasks(), Shards(), episodes=1
            ),
            r"this is DarkRoom; QLearning\(\) serves",
        ),
        (
            lambda: ad.ParticleFilter(Shards(), particles=1),
            "particles=1; a belief needs at least 10",
        ),
        (
            lambda: ad.ParticleFilter(Shards()).follow(
                ad.collect(
                    ad.envs.DarkRoom(),
                    ad.envs.DarkRoom().tasks()[:1],
                    ad.sources.Random(),
                    episodes=1,
                )
            ),
            "these are histories of DarkRoom",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_way_out(call, says):
    with pytest.raises(ValueError, match=says):
        call()
