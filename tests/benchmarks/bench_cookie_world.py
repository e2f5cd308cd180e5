"""Lifetimes of shard agents per second, the cost of the particle filter, and training on them."""

from __future__ import annotations

import sys
import time

import numpy as np
from measure import compare, note, one_core, rate

import adkit as ad

ENV = ad.envs.CookieWorld()
TASKS = ENV.tasks()[np.random.default_rng(0).permutation(len(ENV.tasks()))]
ASKED = 4000  # histories of 30 days a second, on two cores
TOKENS = 18_000  # a second, of training on one core


def lifetimes(days: int, n: int, **config) -> float:
    """Return the histories per second of a population."""

    def simulate() -> int:
        ad.collect(ENV, TASKS[:n], ad.sources.Shards(**config), episodes=days, seed=1)
        return n

    simulate()
    return max(rate(simulate) for _ in range(3))


def test_populations():
    """Default mix with 40% planners; planners alone; no planners; with and without labels."""
    found = {}
    for days in (30, 60):
        for labelled in (False, True):
            for name, types in (
                ("all", {"P": 0.35, "S": 0.4, "R": 0.25}),
                ("S", {"S": 1}),
                ("P", {"P": 1}),
            ):
                case = days, labelled, name
                found[case] = lifetimes(
                    days, 4000 if name == "P" else 2000, types=types, labelled=labelled
                )
                what = f"agents of {days} days, {name}, {'with labels' if labelled else 'bare'}"
                note(what, [found[case]], "/s", asked=ASKED if case == (30, False, "all") else None)
    assert found[30, False, "all"] >= ASKED, (
        f"{found[30, False, 'all']:,.0f} histories/s, and {ASKED} were asked."
    )


def test_particle_filter():
    """A filter of 1,000 particles over 60 days."""
    histories = ad.collect(ENV, TASKS[:100], ad.sources.Shards(), episodes=60, seed=1)
    filter_ = ad.ParticleFilter(ad.sources.Shards())
    filter_.follow(histories[:2])
    began = time.process_time()
    filter_.follow(histories)
    note(
        "filter, 400 agents of 60 days, 1,000 particles",
        [(time.process_time() - began) * 4],
        " s of a core",
        less=True,
    )


@one_core()
def test_training(monkeypatch):
    """Tokens per second of one core, 3 layers x 128, 60 days; against equal padding."""
    from adkit.models import transformer as transformer
    from adkit.models.tokens import pack

    distilling = sys.modules[ad.distill.__module__]
    histories = ad.collect(ENV, TASKS[:400], ad.sources.Shards(labelled=False), episodes=60, seed=1)
    per_lifetime = (histories.length + 1).sum(1).mean()

    def train(steps: int = 4, batch: int = 16, **schedule) -> float:
        model = ad.CausalTransformer(ENV.spec, context=60 * 16, layers=3, heads=2, width=128)
        schedule = ad.Schedule(**{"from_start": 1.0, "short": 0.0} | schedule)
        return rate(
            lambda: (
                len(ad.distill(model, histories, steps=steps, batch=batch, schedule=schedule))
                * batch
                * per_lifetime
            )
        )

    def padded() -> float:
        with monkeypatch.context() as patched:
            patched.setattr(distilling, "by_length", lambda whole: [pack(whole)])
            patched.setattr(transformer, "CHUNK", 10**6)
            return train()

    compare("agents, tokens of 60 days", train, padded, asked=1.2, repetitions=3)
    whole = max(train(8) for _ in range(3))
    note("agents, training on one core, whole lifetimes", [whole], " tokens/s", asked=TOKENS)
    as_the_study = max(
        train(8, batch=32, short=0.5, short_episodes=20) for _ in range(3)
    )  # half of its steps on 20 days
    note(
        "agents, training on one core, as the study does",
        [as_the_study],
        " tokens/s",
        asked=TOKENS,
    )
    assert as_the_study >= TOKENS, f"{as_the_study:,.0f} tokens/s, and {TOKENS:,} were asked."
