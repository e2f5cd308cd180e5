"""Populations of shard agents: types, regimes, labels, drift and learning."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import pytest
from helpers import same

import adkit as ad
from adkit.cookieworld import world
from adkit.cookieworld.population import REGIMES, TYPES, Shards
from adkit.cookieworld.world import GIFT, HIDE
from adkit.testing import check_agent, check_histories

EVERYONE = {"types": dict.fromkeys(TYPES, 1), "regimes": dict.fromkeys(REGIMES, 1)}


@pytest.fixture(scope="module")
def env():
    return ad.envs.CookieWorld()


@pytest.fixture(scope="module")
def tasks(env):
    """Three hundred tasks from all over the family."""
    return env.tasks()[np.random.default_rng(0).permutation(len(env.tasks()))[:300]]


@pytest.fixture(scope="module")
def histories(env, tasks):
    """The default population: 300 histories of 60 days."""
    return ad.collect(env, tasks, Shards(), episodes=60, seed=0)


def collected(env, tasks, episodes=60, **config):
    return ad.collect(env, tasks, Shards(**config), episodes=episodes, seed=1)


def real(histories):
    """Return which steps (N, E, H) exist."""
    return np.arange(histories.spec.horizon) < histories.length[..., None]


# ---- the population ----


@pytest.mark.parametrize(
    "agent",
    [Shards(), Shards(**EVERYONE), Shards(craving=1.0, labelled=False)],
    ids=["default", "all", "bare"],
)
def test_shard_agents_keep_the_contract(env, agent):
    check_agent(agent, env)
    check_agent(agent, ad.envs.CookieWorld(7, latch=False, tolerance_visible=True))


def test_a_lifetime_is_the_same_bytes_in_any_batch_driver_and_executor(env, tasks):
    collect = lambda tasks, lifetimes=2, **how: ad.collect(
        env, tasks, Shards(**EVERYONE), episodes=15, lifetimes=lifetimes, **how
    )
    whole = collect(tasks[:40])
    check_histories(whole)
    assert same(whole, collect(tasks[:40], driver="batched")) and same(
        whole[60:61], collect(tasks[30:31], 1)
    )
    with ThreadPoolExecutor(2) as pool:
        assert same(whole, collect(tasks[:40], executor=pool))
    every = collect(tasks[:40], every=4)
    assert same(whole.subsample(4), every) and same(
        every, collect(tasks[:40], every=4, driver="batched")
    )


def test_shares_are_what_was_asked_for(histories):
    assert np.bincount(histories.type, minlength=5) / 300 == pytest.approx(
        [0.35, 0, 0.4, 0, 0.25], abs=0.08
    )
    assert np.bincount(histories.regime, minlength=3) / 300 == pytest.approx(
        [0.3, 0.3, 0.4], abs=0.08
    )
    stocked = [histories.stock[histories.type == kind].mean() for kind in (0, 2, 4)]
    assert stocked == pytest.approx([0.9, 0.6, 0.9], abs=0.02)


def test_labels_describe_the_history(histories):
    """Action probabilities sum to one and explain the actions; bits are the observed ones."""
    exist, pi = real(histories), histories.arrays["pi"]
    np.testing.assert_allclose(pi.sum(-1)[exist], 1, atol=1e-5)
    taken = np.take_along_axis(pi, histories.arrays["action"][..., None].astype(int), -1)[..., 0][
        exist
    ]
    entropy = -(pi * np.log(np.where(pi > 0, pi, 1))).sum(-1)[exist]
    assert (taken > 0).all() and -np.log(taken).mean() == pytest.approx(entropy.mean(), abs=0.01)
    assert not pi[~exist].any() and not histories.arrays["w_cookie"][~exist].any()
    obs = histories.arrays["obs"]
    assert np.array_equal(histories.gift, obs[:, :, 0, GIFT]) and np.array_equal(
        histories.arrays["hunger"], obs[..., world.HUNGER]
    )


def test_on_empty_days_the_policy_ignores_the_cookie_shard(env, tasks):
    """Exactly: the same bytes, for every type, with the strength tripled."""
    script = np.zeros((40, 60, 3), np.int8)
    empty = tasks[:40].replace(script=script)
    rng, env_rng = (ad.Rng.of(0, purpose, np.arange(40)) for purpose in ("agent", "env"))
    policies = []
    for factor in (1, 3):
        shards = Shards(types=dict.fromkeys(TYPES, 1), regimes={"D0": 1}, tasks=empty)
        learner = shards.start(env.spec, rng, episodes=10)
        learner.agents.state["w"] *= factor
        state, obs = env.reset(empty, env_rng.at(0))
        policies.append([])
        for t in range(60):
            first = state.body["time"] == 0
            action = learner.act(obs, first)
            policies[-1].append(learner.agents.state["pi"].copy())
            state, step = env.step(state, empty, action, env_rng.at(t))
            learner.update(ad.Transition(obs, action, *step[1:], step.obs))
            obs, done = step.obs.copy(), step.terminated | step.truncated
            fresh, morning = env.next_episode(state, empty, env_rng.at(t + 1))
            state.body[done], obs[done] = fresh.body[done], morning[done]
    assert np.array_equal(*policies) and np.ptp(learner.agents.state["w"]) > 1


def test_each_type_hides_when_it_should(env, tasks):
    """On late mornings: S and L hide a full jar, R any jar, P by mistake, N never."""
    late = slice(20, None)
    hides = {}
    for kind in TYPES:
        histories = collected(env, tasks, types={kind: 1}, stock={})
        morning = histories.arrays["pi"][:, late, 0, HIDE]
        hides[kind] = (
            morning[histories.stock[:, late] == 0].mean(),
            morning[histories.stock[:, late] == 1].mean(),
        )
        if kind == "N":
            assert not (histories.arrays["action"] == HIDE).any()
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


def test_type_L_hides_only_after_lapses(env, tasks):
    histories = collected(env, tasks, types={"L": 1}, regimes={"D0": 1}, stock={})
    hidden = (histories.arrays["action"] == HIDE).any(2)
    ate = ((histories.arrays["reward"] > 0) & ~histories.arrays["terminated"]).any(2)
    for n in np.flatnonzero(hidden.any(1)):
        full = histories.stock[n] == 1
        assert (
            ate[n, : hidden[n].argmax()].any()
            or not full[hidden[n].argmax()]
            or histories.gain[n, hidden[n].argmax()] <= 0.1
        )


# ---- drift ----


def test_strengths_change_as_their_regimes_say(env, tasks):
    of = {
        regime: collected(env, tasks[:100], regimes={regime: 1}, types={"P": 1})
        for regime in REGIMES
    }
    morning = {
        regime: histories.arrays["w_cookie"][:, :, 0] for regime, histories in of.items()
    }  # (N, E)
    gifts = {regime: histories.gift for regime, histories in of.items()}
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


def test_recovery_has_six_empty_days_and_a_falling_strength(env, tasks):
    histories = collected(env, tasks[:100], regimes={"D6": 1}, types={"P": 1}, stock={"P": 1.0})
    empty = histories.stock == 0
    assert (empty.sum(1) == 6).all()
    begin = empty.argmax(1)
    w, rows = histories.arrays["w_cookie"][:, :, 0], np.arange(100)
    assert (
        all(empty[n, begin[n] : begin[n] + 6].all() for n in rows)
        and begin.min() >= 18
        and begin.max() < 36
    )
    quiet = ~np.array([histories.gift[n, begin[n] + 1 : begin[n] + 6].any() for n in rows])
    waned = (w[rows, begin + 1] - w[rows, begin + 5])[quiet]
    assert waned.min() >= 0 and waned.mean() > 0.2


def test_yoked_agents_have_eaten_as_much_as_their_partners_by_every_morning(env, tasks):
    partners, yoked = (
        collected(env, tasks[:100], regimes={regime: 1}, types={"P": 1, "S": 1})
        for regime in ("D1", "D5")
    )
    assert np.array_equal(partners.type, yoked.type) and not yoked.eta.any() and partners.eta.all()

    def by_morning(histories):
        eaten = ((histories.arrays["reward"] > 0) & ~histories.arrays["terminated"]).sum(2)
        return np.cumsum(histories.gift, axis=1) + np.cumsum(eaten, axis=1) - eaten

    assert (
        np.array_equal(by_morning(partners), by_morning(yoked))
        and by_morning(yoked)[:, -1].mean() > 30
    )
    drift = lambda histories: np.abs(np.diff(histories.arrays["w_cookie"][:, :, 0], axis=1)).sum(1)
    assert drift(partners).min() > 0 and not drift(yoked).any()


# ---- learning ----


def test_agents_still_improve_after_a_fortnight(env, tasks):
    """Meals a day of P and S in D0 grow from days 5-14 to 15-24 and to 50-59."""
    for kind in ("P", "S"):
        histories = collected(env, tasks, types={kind: 1}, regimes={"D0": 1})
        meals = (
            histories.arrays["terminated"].any(2)[:, None].astype(float)
        )  # (task, lifetime, day)
        more = lambda late, early, meals=meals: ad.stats.bootstrap(
            meals[..., late] - meals[..., early]
        )
        early, late = more(slice(15, 25), slice(5, 15)), more(slice(50, 60), slice(15, 25))
        assert early.low > 0.02 and late.low > 0.02, (kind, early, late)


# ---- configuration ----

CHANGED = dict(
    types={"R": 1},
    regimes={"D2": 1},
    stock={},
    lr=0.5,
    craving=2.0,
    walk=(0.1, 0.3),
    labelled=False,
)


@pytest.mark.parametrize("name", CHANGED)
def test_every_field_of_shards_changes_something(env, tasks, name):
    assert {f.name for f in fields(Shards)} - {"tasks"} == set(CHANGED), "give a changed value"
    a, b = (
        collected(env, tasks[:20], episodes=12, **config) for config in ({}, {name: CHANGED[name]})
    )
    assert set(a.arrays) != set(b.arrays) or not same(a, b)
