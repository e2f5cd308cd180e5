import os

# Each parallel worker has a core of its own, so torch's and BLAS's threads would only wait for each
# other. Set before NumPy and torch are imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from helpers import scrambled

import adkit as ad


@pytest.fixture(scope="session")
def env():
    """A room small enough to check by hand: 5 x 5, eight steps."""
    return ad.envs.DarkRoom(size=5, horizon=8)


@pytest.fixture(scope="session")
def histories(env):
    how = {"episodes": 8, "lifetimes": 4, "seed": 0}
    return ad.collect(env, env.tasks(), ad.sources.PosteriorSampling(), **how)


@pytest.fixture(scope="session")
def model(env):
    """Random weights everywhere, so that no logit is trivially equal to another."""
    how = {"context": 32, "layers": 2, "heads": 2, "width": 16}
    return scrambled(ad.CausalTransformer(env.spec, **how))


@pytest.fixture(scope="session")
def lake():
    """Histories of FrozenLake, whose episodes end early."""
    env = ad.envs.from_gymnasium("FrozenLake-v1", horizon=12)
    return ad.collect(env, env.tasks(), ad.sources.Random(), episodes=6, lifetimes=5)


@pytest.fixture(scope="session")
def days():
    """Histories of the CookieWorld, whose days end early."""
    env = ad.envs.CookieWorld()
    source = ad.sources.Shards(labelled=False)
    return ad.collect(env, env.tasks()[::2000], source, episodes=20, lifetimes=2, seed=3)


@pytest.fixture(scope="session")
def shipped():
    """The shipped model in the shipped room, on goals it never saw."""
    env = ad.envs.DarkRoom()
    _, test = env.tasks().split(0.8, seed=0)
    return env, test, ad.CausalTransformer.load(ad.find("dark_room/ad"))


# ---- which tests run where ----

LONGEST_FIRST = ["notebooks", "browser", "learning", "study", "system"]


def pytest_collection_modifyitems(items):
    """Start the longest tests first; keep a file's tests, which share fixtures, in one worker."""
    folder = lambda item: item.path.relative_to(item.config.rootpath / "tests").parts[0]
    rank = {name: i for i, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(folder(item), len(rank)))
    for item in items:
        if folder(item) == "browser":
            item.add_marker(pytest.mark.xdist_group("browser"))
        elif folder(item) != "notebooks":
            item.add_marker(pytest.mark.xdist_group(item.path.name))
