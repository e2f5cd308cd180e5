"""RL2 and recurrent distillation learn tasks that only memory across episodes solves."""

import pytest
import torch
from probe_worlds import Line, OneFault

import adkit as ad

QUICK = dict(steps=60_000, lifetimes=64, episodes_per_lifetime=4, unroll=8, lr=1e-2, gamma=0.9)


@pytest.mark.parametrize("env", [Line(), ad.envs.from_gymnasium("FrozenLake-v1", horizon=9)])
def test_rl2_trains_in_worlds_of_vectors_and_of_early_ends(env):
    model = ad.RecurrentPolicy(env.spec, width=12)
    log = ad.train_rl2(model, env, env.tasks(), steps=200, lifetimes=4, unroll=5)
    assert log.index.tolist() == list(range(20, 201, 20))
    assert all(parameter.isfinite().all() for parameter in model.parameters())


CHANGED = {"steps": 800, "episodes_per_lifetime": 3, "lifetimes": 9, "unroll": 7, "seed": 1}
CHANGED |= {"lr": 1e-3, "gamma": 0.5, "entropy": 0.5}


def test_training_is_reproducible_and_every_argument_changes_something():
    env = ad.envs.DarkRoom(2, 4)

    def trained(**changed):
        model = ad.RecurrentPolicy(env.spec, width=8)
        how = {"steps": 600, "lifetimes": 8, "unroll": 5, "episodes_per_lifetime": 2}
        ad.train_rl2(model, env, env.tasks(), **how | changed)
        return torch.nn.utils.parameters_to_vector(model.parameters())

    plain = trained()
    assert torch.equal(plain, trained())
    for name, value in CHANGED.items():
        assert not torch.equal(plain, trained(**{name: value})), name


def test_rl2_learns_what_only_memory_across_episodes_can_know():
    """One of two actions is rewarded, and which one is the task."""
    env = OneFault("across episodes")

    def late(**training):
        model = ad.RecurrentPolicy(env.spec, width=16)
        log = ad.train_rl2(model, env, env.tasks(), **QUICK | training)
        made = ad.collect(env, env.tasks(), ad.RL2(model), episodes=6, lifetimes=32, seed=1)
        return ad.stats.bootstrap(made.returns[:, :, 1:].mean(2), draws=500), log

    returns, log = late()
    assert returns.low > 3.9, "without memory 3.5 is the most"
    assert log["last"].iloc[-1] > 3.9 > log["first"].iloc[-1] + 0.2
    assert late(lr=0.0)[0].high < 2.5
