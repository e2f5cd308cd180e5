"""Populations of shard agents: types, regimes, labels, drift and learning."""

import numpy as np
import pytest
from helpers import real, scattered

import adkit as ad
from adkit.cookieworld import population, world
from adkit.cookieworld.population import REGIMES, TYPES, Shards
from adkit.cookieworld.world import GIFT, HIDE

ENV = ad.envs.CookieWorld()


@pytest.fixture(scope="module")
def tasks():
    return scattered(ENV, 300)


@pytest.fixture(scope="module")
def histories(tasks):
    """The default population: 300 histories of 60 days."""
    return ad.collect(ENV, tasks, Shards(), episodes=60, seed=0)


def collected(tasks, episodes=60, **config):
    return ad.collect(ENV, tasks, Shards(**config), episodes=episodes, seed=1)


def ate(histories):
    """Return whether each step (N, E, H) is rewarded for a cookie."""
    return (histories.arrays["reward"] > 0) & ~histories.arrays["terminated"]


def strength(histories):
    """Return the strength of the cookie shard in the morning (N, E)."""
    return histories.arrays["w_cookie"][:, :, 0]


# ---- the population ----


def test_labels_describe_the_history(histories):
    """Action probabilities sum to one and explain the actions; bits are the observed ones."""
    arrays, exist, pi = histories.arrays, real(histories), histories.arrays["pi"]
    np.testing.assert_allclose(pi.sum(-1)[exist], 1, atol=1e-5)
    taken = np.take_along_axis(pi, arrays["action"][..., None].astype(int), -1)[exist]
    entropy = -(pi * np.log(np.where(pi > 0, pi, 1))).sum(-1)[exist]
    assert (taken > 0).all() and -np.log(taken).mean() == pytest.approx(entropy.mean(), abs=0.01)
    assert not pi[~exist].any() and not arrays["w_cookie"][~exist].any()
    assert np.array_equal(histories.gift, arrays["obs"][:, :, 0, GIFT])
    assert np.array_equal(arrays["hunger"], arrays["obs"][..., world.HUNGER])


def test_on_empty_days_the_policy_ignores_the_cookie_shard(tasks, monkeypatch):
    """Exactly: the same bytes, for every type, with the strength tripled."""
    empty = tasks[:40].replace(script=np.zeros((40, 60, 3), np.int8))
    everyone = {"types": dict.fromkeys(TYPES, 1), "regimes": {"D0": 1}}
    weak = collected(empty, **everyone)
    thrice = 3 * np.array(population.FIRST_STRENGTHS)
    monkeypatch.setattr(population, "FIRST_STRENGTHS", thrice)
    strong = collected(empty, **everyone)
    np.testing.assert_allclose(strength(strong), 3 * strength(weak), rtol=1e-6)
    assert np.array_equal(strong.pi, weak.pi)


def test_each_type_hides_when_it_should(tasks):
    """On late mornings: S and L hide a full jar, R any jar, P by mistake, N never."""
    hides = {}
    for kind in TYPES:
        histories = collected(tasks, types={kind: 1}, stock={})
        morning, stock = histories.arrays["pi"][:, 20:, 0, HIDE], histories.stock[:, 20:]
        hides[kind] = empty, full = morning[stock == 0].mean(), morning[stock == 1].mean()
        if kind in "SL":
            assert empty < 0.05 and full > {"S": 0.4, "L": 0.2}[kind]
    assert max(hides["P"]) < 0.01 and hides["N"] == (0, 0)
    assert hides["R"] == pytest.approx((0.35, 0.35), abs=0.05) and abs(np.diff(hides["R"])) < 0.02


def test_type_L_hides_only_after_lapses(tasks):
    histories = collected(tasks, types={"L": 1}, regimes={"D0": 1}, stock={})
    hidden = (histories.arrays["action"] == HIDE).any(2)
    rows = np.flatnonzero(hidden.any(1))
    day = hidden[rows].argmax(1)  # the first on which the agent hides the cookies
    lapsed = np.array([ate(histories)[n, :d].any() for n, d in zip(rows, day, strict=True)])
    by_mistake = (histories.stock[rows, day] == 0) | (histories.gain[rows, day] <= 0.1)
    assert len(rows) > 100 and (lapsed | by_mistake).all()


# ---- drift ----


@pytest.fixture(scope="module")
def drifting(tasks):
    types = {"types": {"P": 1}}
    return {name: collected(tasks[:100], regimes={name: 1}, **types) for name in REGIMES}


def test_the_walk_of_D2_is_slow_and_bounded(drifting):
    w = strength(drifting["D2"])
    inside, steps = (w[:, 1:] > 0.3) & (w[:, 1:] < 2.8), np.diff(w, axis=1)
    assert steps[inside].std() == pytest.approx(0.12, abs=0.005)
    assert w.min() >= 0.1 and w.max() <= 3
    assert np.abs(np.corrcoef(steps[inside], 1.2 - w[:, :-1][inside])[0, 1]) < 0.3


def test_the_strength_of_D1_grows_with_use_and_decays_overnight(drifting):
    used = drifting["D1"]
    w, eaten, gifts, morning = used.arrays["w_cookie"], ate(used), used.gift, strength(used)
    n, e, t = np.argwhere(eaten[..., :-1] & real(used)[..., 1:]).T
    grown = w[n, e, t] + used.eta[n] * (3 - w[n, e, t])
    np.testing.assert_allclose(w[n, e, t + 1], grown, rtol=1e-5)
    n, e = np.argwhere((~eaten.any(2) & (gifts == 0))[:, 1:-1] & (gifts[:, 2:] == 0)).T
    assert (morning[n, e + 2] <= morning[n, e + 1] + 1e-6).all()  # after a day without a cookie
    assert morning[:, -1].mean() > morning[:, 0].mean() + 0.5


def test_D3_follows_the_value_of_a_cookie_and_D4_tolerance(drifting):
    w, eaten = strength(drifting["D3"]), ate(drifting["D3"]).sum(2).cumsum(1)
    assert (np.diff(w) >= 0).all() and (w[:, -1] / w[:, 0])[eaten[:, -2] > 40].min() > 2.9
    without = (
        strength(drifting["D4"]) - 0.5 * drifting["D4"].arrays["obs"][:, :, 0, world.TOLERANCE]
    )
    np.testing.assert_allclose(np.ptp(without, axis=1), 0, atol=1e-5)
    assert np.ptp(strength(drifting["D4"]), axis=1).any()


def test_recovery_has_six_empty_days_and_a_falling_strength(tasks):
    how = {"regimes": {"D6": 1}, "types": {"P": 1}, "stock": {"P": 1.0}}
    histories = collected(tasks[:100], **how)
    empty, w, rows = histories.stock == 0, strength(histories), np.arange(100)
    begin = empty.argmax(1)
    days = begin[:, None] + np.arange(6)
    assert (empty.sum(1) == 6).all() and empty[rows[:, None], days].all()
    assert begin.min() >= 18 and begin.max() < 36
    quiet = ~histories.gift[rows[:, None], days[:, 1:]].any(1)
    waned = (w[rows, begin + 1] - w[rows, begin + 5])[quiet]
    assert waned.min() >= 0 and waned.mean() > 0.2


def test_yoked_agents_have_eaten_as_much_as_their_partners_by_every_morning(tasks):
    how = {"types": {"P": 1, "S": 1}}
    partners, yoked = (collected(tasks[:100], regimes={name: 1}, **how) for name in ("D1", "D5"))
    assert np.array_equal(partners.type, yoked.type) and not yoked.eta.any() and partners.eta.all()

    def by_morning(histories):
        eaten = ate(histories).sum(2)
        return np.cumsum(histories.gift, axis=1) + np.cumsum(eaten, axis=1) - eaten

    assert np.array_equal(by_morning(partners), by_morning(yoked))
    assert by_morning(yoked)[:, -1].mean() > 30
    assert (
        np.ptp(strength(partners), axis=1).min() > 0 and not np.ptp(strength(yoked), axis=1).any()
    )
