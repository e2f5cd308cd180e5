"""What RL2 makes of two minutes on one core: goals it trained on, and goals it never saw."""

from __future__ import annotations

import time

from measure import note

import adkit as ad

STEPS = 16_000_000


def test_rl2_reaches_far_above_random_on_goals_it_never_saw():
    env = ad.envs.DarkRoom()
    train, test = env.tasks().split(0.8, seed=0)
    model = ad.RecurrentPolicy(env.spec)
    began = time.process_time()
    ad.train_rl2(model, env, train, steps=STEPS)
    seconds = time.process_time() - began  # the paper's RL2 has 1,000 M steps
    note(f"RL2, {STEPS / 1e6:g} M steps of training", [seconds], " s of processor time", less=True)
    tenth = lambda tasks, agent: ad.stats.bootstrap(
        ad.collect(env, tasks, agent, episodes=10, lifetimes=8, seed=1).returns[:, :, -1:].mean(2)
    )
    found = {
        "goals it trained on": tenth(train, ad.RL2(model)),
        "goals it never saw": tenth(test, ad.RL2(model)),
        "the same at random": tenth(test, ad.sources.Random()),
    }
    for name, interval in found.items():
        note(
            f"RL2, return in the tenth episode, {name}", interval, less=name.startswith("the same")
        )
    unseen = found["goals it never saw"]
    assert unseen.low > 2 > found["the same at random"].high
