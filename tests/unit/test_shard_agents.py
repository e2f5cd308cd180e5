"""Populations of shard agents: types, regimes, labels and drift; a particle filter follows them."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import real, scattered

import adkit as ad
from adkit.cookieworld import observer, population, world
from adkit.cookieworld.population import TYPES, Shards
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


def test_the_walk_of_D2_is_slow_and_bounded(tasks):
    w = strength(collected(tasks[:100], regimes={"D2": 1}, types={"P": 1}))
    inside, steps = (w[:, 1:] > 0.3) & (w[:, 1:] < 2.8), np.diff(w, axis=1)
    assert steps[inside].std() == pytest.approx(0.12, abs=0.005)
    assert w.min() >= 0.1 and w.max() <= 3
    assert np.abs(np.corrcoef(steps[inside], 1.2 - w[:, :-1][inside])[0, 1]) < 0.3


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


# ---- the particle filter: what it knows, and what it sees ----


@pytest.fixture(scope="module")
def followed(histories):
    return histories[:60]


@pytest.fixture(scope="module")
def posterior(followed):
    return ad.ParticleFilter(Shards(), particles=500).follow(followed)


def test_the_filter_predicts_better_than_the_prior_and_worse_than_the_source(followed, posterior):
    pi, exist = followed.arrays["pi"], real(followed)
    prior = ad.ParticleFilter(Shards(), particles=500, updates=False).follow(followed)
    predicted = pi, posterior["belief_pi"], prior["belief_pi"]
    nats = [-(pi * np.log(np.maximum(p, 1e-9))).sum(-1)[exist].mean() for p in predicted]
    assert nats[0] + 0.02 < nats[1] < nats[2] - 0.02
    for name in ("belief_pi", "belief_type"):
        np.testing.assert_allclose(posterior[name].sum(-1)[exist], 1, atol=1e-4)
    assert not posterior["belief_type"][..., [1, 3]].any()  # no N, no L in this population


def test_the_filter_finds_type_and_strength(followed, posterior):
    late = real(followed) & (np.arange(60) >= 30)[:, None]
    of_lifetimes = followed.type, followed.w_food
    kind, w_food = (np.broadcast_to(x[:, None, None], late.shape) for x in of_lifetimes)
    assert (posterior["belief_type"].argmax(-1) == kind)[late].mean() > 0.9
    tempted = late & (followed.arrays["obs"][..., 1] == 1)
    true = np.log(followed.arrays["w_cookie"][tempted] / w_food[tempted])
    error = posterior["belief_rel"][tempted] - true
    assert error.std() < 0.75 * true.std() and abs(error.mean()) < 0.1


def test_the_filter_sees_what_a_model_sees_one_history_at_a_time(followed, posterior):
    arrays = {name: followed.arrays[name].copy() for name in ("obs", "final_obs")}
    for obs in arrays.values():
        obs[..., 8:] = 0
    told = ("action", "reward", "terminated", "truncated")
    stripped = replace(followed, arrays=arrays | {name: followed.arrays[name] for name in told})
    again = ad.ParticleFilter(Shards(), particles=500).follow(stripped[50:52])
    assert all(np.array_equal(again[name], posterior[name][50:52]) for name in again)
    replace(followed, arrays=followed.arrays | posterior).check()


def test_a_particle_with_the_true_traits_has_the_true_strength(tasks, monkeypatch):
    """In regimes without chance, whatever its hunger."""
    source = Shards(regimes=dict.fromkeys(["D0", "D1", "D3", "D4"], 1))
    made = ad.collect(ENV, tasks[:60], source, episodes=40, seed=0)
    rng = ad.Rng.of(0, "agent", made.task_values.ids, np.zeros(60, int))
    traits = source.traits(made.task_values, rng)
    particles = np.zeros((60, 1), observer.PARTICLE)
    for name in traits.dtype.names:
        particles[name][:, 0] = traits[name]
    particles["w"] = particles["w_first"]
    drawn = particles, rng.keys[:, None]
    monkeypatch.setattr(ad.ParticleFilter, "_drawn", lambda self, ids: drawn)
    found = ad.ParticleFilter(source, updates=False).follow(made)["belief_rel"]
    relative = made.arrays["w_cookie"] / traits["w_food"][:, None, None]
    np.testing.assert_allclose(found[real(made)], np.log(relative[real(made)]), atol=1e-5)


def test_the_filter_weighs_the_mornings_stock_bit():
    """Worlds of P always have a full jar, those of S never: the first morning tells."""
    source = Shards(types={"P": 1, "S": 1}, stock={"P": 1.0, "S": 0.0})
    made = ad.collect(ENV, ENV.tasks()[::4000], source, episodes=1, lifetimes=2)
    told = ad.ParticleFilter(source, particles=100).follow(made)["belief_type"][:, 0, 0]  # (N, 5)
    assert set(made.type) == {0, 2} and (told[np.arange(len(made)), made.type] > 0.99).all()
