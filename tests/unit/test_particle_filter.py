"""The particle filter: what it knows, and what it sees."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import real, scattered

import adkit as ad
from adkit.cookieworld import observer
from adkit.cookieworld.population import Shards


@pytest.fixture(scope="module")
def histories():
    """The default population: 60 lifetimes of 60 days."""
    env = ad.envs.CookieWorld()
    return ad.collect(env, scattered(env, 60), Shards(), episodes=60, seed=0)


@pytest.fixture(scope="module")
def posterior(histories):
    return ad.ParticleFilter(Shards(), particles=500).follow(histories)


def test_the_filter_predicts_better_than_the_prior_and_worse_than_the_source(histories, posterior):
    pi, exist = histories.arrays["pi"], real(histories)
    prior = ad.ParticleFilter(Shards(), particles=500, updates=False).follow(histories)
    predicted = pi, posterior["belief_pi"], prior["belief_pi"]
    nats = [-(pi * np.log(np.maximum(p, 1e-9))).sum(-1)[exist].mean() for p in predicted]
    assert nats[0] + 0.02 < nats[1] < nats[2] - 0.02
    for name in ("belief_pi", "belief_type"):
        np.testing.assert_allclose(posterior[name].sum(-1)[exist], 1, atol=1e-4)
    assert not posterior["belief_type"][..., [1, 3]].any()  # no N, no L in this population


def test_the_filter_finds_type_and_strength(histories, posterior):
    late = real(histories) & (np.arange(60) >= 30)[:, None]
    of_lifetimes = histories.type, histories.w_food
    kind, w_food = (np.broadcast_to(x[:, None, None], late.shape) for x in of_lifetimes)
    assert (posterior["belief_type"].argmax(-1) == kind)[late].mean() > 0.9
    tempted = late & (histories.arrays["obs"][..., 1] == 1)
    true = np.log(histories.arrays["w_cookie"][tempted] / w_food[tempted])
    error = posterior["belief_rel"][tempted] - true
    assert error.std() < 0.75 * true.std() and abs(error.mean()) < 0.1


def test_the_filter_sees_what_a_model_sees_one_history_at_a_time(histories, posterior):
    arrays = {name: histories.arrays[name].copy() for name in ("obs", "final_obs")}
    for obs in arrays.values():
        obs[..., 8:] = 0
    told = ("action", "reward", "terminated", "truncated")
    stripped = replace(histories, arrays=arrays | {name: histories.arrays[name] for name in told})
    again = ad.ParticleFilter(Shards(), particles=500).follow(stripped[50:52])
    assert all(np.array_equal(again[name], posterior[name][50:52]) for name in again)
    replace(histories, arrays=histories.arrays | posterior).check()


def test_a_particle_with_the_true_traits_has_the_true_strength(monkeypatch):
    """In regimes without chance, whatever its hunger."""
    env, source = ad.envs.CookieWorld(), Shards(regimes=dict.fromkeys(["D0", "D1", "D3", "D4"], 1))
    made = ad.collect(env, scattered(env, 60), source, episodes=40, seed=0)
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
    source = ad.sources.Shards(types={"P": 1, "S": 1}, stock={"P": 1.0, "S": 0.0})
    env = ad.envs.CookieWorld()
    made = ad.collect(env, env.tasks()[::4000], source, episodes=1, lifetimes=2)
    told = ad.ParticleFilter(source, particles=100).follow(made)["belief_type"][:, 0, 0]  # (N, 5)
    assert set(made.type) == {0, 2} and (told[np.arange(len(made)), made.type] > 0.99).all()
