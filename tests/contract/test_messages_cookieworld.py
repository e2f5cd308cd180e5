"""The sentence a person reads after a wrong call of CookieWorld or its agents."""

import pytest

import adkit as ad

World, Shards, Filter = ad.envs.CookieWorld, ad.sources.Shards, ad.ParticleFilter


def in_a_room(source):
    env = ad.envs.DarkRoom()
    return ad.collect(env, env.tasks()[:1], source, episodes=1)


CALLS = {
    "`size` must be 5 or 7, got 6": lambda: World(size=6),
    "the jar must be at least 2 steps from home": lambda: World().task((0, 0), (1, 0), (4, 4)),
    r"`rho` must be in \[0, 1\], got \[2": lambda: World().task((0, 0), (2, 2), (4, 4), rho=2),
    "`types` must give P, N, S, L, R shares of at least 0": lambda: Shards(types={"Q": 1}),
    r"shares of at least 0, got \{'P': 0\}": lambda: Shards(types={"P": 0}),
    "needs a task per lifetime": lambda: Shards().start(World().spec, ad.Rng.of(0), 10),
    r"CookieWorld only, got DarkRoom; try QLearning\(\)": lambda: in_a_room(Shards()),
    "histories must be of CookieWorld, got DarkRoom": lambda: Filter(Shards()).follow(
        in_a_room(ad.sources.Random())
    ),
}


@pytest.mark.parametrize("says", CALLS)
def test_a_wrong_call_says_what_it_needs(says):
    with pytest.raises(ValueError, match=says):
        CALLS[says]()
