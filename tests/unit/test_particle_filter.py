"""The particle filter: what it knows, how sure it is, and what it sees."""

from dataclasses import fields, replace

import numpy as np
import pytest

import adkit as ad
from adkit.cookieworld.population import Shards

ALL_BUT_OBS = ("action", "reward", "terminated", "truncated")


@pytest.fixture(scope="module")
def histories():
    """The default population: 60 lifetimes of 60 days."""
    env = ad.envs.CookieWorld()
    tasks = env.tasks()[np.random.default_rng(0).permutation(len(env.tasks()))[:60]]
    return ad.collect(env, tasks, Shards(), episodes=60, seed=0)


def real(histories):
    """Return which steps (N, E, H) exist."""
    return np.arange(histories.spec.horizon) < histories.length[..., None]


@pytest.fixture(scope="module")
def posterior(histories):
    return ad.ParticleFilter(Shards(), particles=500).follow(histories)


def test_the_filter_predicts_better_than_the_prior_and_worse_than_the_source(histories, posterior):
    some, exist = histories, real(histories)
    prior = ad.ParticleFilter(Shards(), particles=500, updates=False).follow(some)
    loss = lambda pi: -(some.arrays["pi"] * np.log(np.maximum(pi, 1e-9))).sum(-1)[exist].mean()
    source, belief, before = (
        loss(some.arrays["pi"]),
        loss(posterior["belief_pi"]),
        loss(prior["belief_pi"]),
    )
    assert source + 0.02 < belief < before - 0.02
    np.testing.assert_allclose(posterior["belief_pi"].sum(-1)[exist], 1, atol=1e-4)
    np.testing.assert_allclose(posterior["belief_type"].sum(-1)[exist], 1, atol=1e-4)
    assert not posterior["belief_type"][..., [1, 3]].any()  # no N, no L in this population
    assert np.allclose(prior["belief_ess"][exist], 500, rtol=1e-4)


def test_the_filter_finds_type_and_strength_with_calibrated_spread(histories, posterior):
    some, late = histories, real(histories) & (np.arange(60) >= 30)[:, None]
    kind = np.broadcast_to(some.type[:, None, None], late.shape)
    assert (posterior["belief_type"].argmax(-1) == kind)[late].mean() > 0.9
    tempted = late & (some.arrays["obs"][..., 1] == 1)
    true, guess, sd = (
        some.arrays["w_cookie"][tempted],
        posterior["belief_w"][tempted],
        posterior["belief_w_sd"][tempted],
    )
    assert np.corrcoef(true, guess)[0, 1] > 0.8 and 0.7 < np.std((true - guess) / sd) < 1.8
    ratio = np.log(true / np.broadcast_to(some.w_food[:, None, None], late.shape)[tempted])
    assert np.corrcoef(ratio, posterior["belief_rel"][tempted])[0, 1] > 0.7
    assert 250 < posterior["belief_ess"][late].mean() < 500


def test_the_filter_sees_what_a_model_sees_one_history_at_a_time(histories, posterior):
    blind = {name: histories.arrays[name].copy() for name in ("obs", "final_obs")}
    for obs in blind.values():
        obs[..., 8:] = 0
    stripped = replace(
        histories,
        arrays={
            name: histories.arrays[name] for name in ("action", "reward", "terminated", "truncated")
        }
        | blind,
    )
    again = ad.ParticleFilter(Shards(), particles=500).follow(stripped[50:52])
    assert all(np.array_equal(again[name], posterior[name][50:52]) for name in again)
    kept = replace(histories, arrays=histories.arrays | posterior)
    kept.check()
    assert kept.subsample(7).belief_w.shape == (60, 9 * 16)


CHANGED = dict(source=Shards(types={"S": 1}), particles=20, updates=False, seed=1)


@pytest.mark.parametrize("name", CHANGED)
def test_every_field_of_the_filter_changes_something(histories, name):
    assert {f.name for f in fields(ad.ParticleFilter)} == set(CHANGED), "give a changed value"
    configs = (
        {"source": Shards(), "particles": 30},
        {"source": Shards(), "particles": 30, name: CHANGED[name]},
    )
    a, b = (ad.ParticleFilter(**config).follow(histories[:2].episodes[:8]) for config in configs)
    assert not np.array_equal(a["belief_w"], b["belief_w"])
