"""Small things of the right kind, to be given where they do not belong: for the tables of wrong calls."""

import atexit
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

import adkit as ad
from adkit import cookies

ROOM, HOLE, MAZE, ARMS = (
    ad.envs.DarkRoom(size=4, horizon=6),
    ad.envs.CookieWorld(),
    ad.envs.Watermaze(),
    ad.envs.AdversarialBandit(),
)
SPEC = {"name": "x", "n_actions": 2, "horizon": 5, "cardinality": (3,)}
NOTEBOOKS = Path(ad.__file__).parents[1] / "notebooks"
PLACE = tempfile.TemporaryDirectory()
EMPTY, ODD = pd.DataFrame(), pd.DataFrame({"odd": [1.0]})
atexit.register(PLACE.cleanup)


@cache
def lives(episodes: int = 6) -> ad.Histories:
    """Of nobody in particular, in a room."""
    return ad.collect(ROOM, ROOM.tasks()[:4], ad.sources.Random(), episodes=episodes, lifetimes=2)


@cache
def creatures() -> ad.Histories:
    """Lives in the CookieWorld without labels."""
    return ad.collect(HOLE, HOLE.tasks()[:4], ad.sources.Shards(), episodes=3)


@cache
def strangers() -> ad.Histories:
    """Lives in the CookieWorld of no creature of shards."""
    return ad.collect(HOLE, HOLE.tasks()[:4], ad.sources.Random(), episodes=3)


@cache
def judged() -> ad.Histories:
    """Lives in the CookieWorld with labels."""
    return cookies.judged("test", 4, days=10)


@cache
def model() -> ad.CausalTransformer:
    return ad.CausalTransformer(ROOM.spec, context=36, layers=2, heads=2, width=8)


@cache
def foreteller(layers: int = 2) -> ad.CausalTransformer:
    """A model of creatures."""
    return ad.CausalTransformer(HOLE.spec, context=160, layers=layers, heads=2, width=8)


@cache
def resid() -> ad.taps.Recording:
    return ad.record(model(), lives(), "blocks.0.resid")


@cache
def probe() -> ad.probing.Probe:
    return ad.probing.fit(resid(), np.arange(8.0) % 4, groups=np.arange(8), permutations=2)


@cache
def hypotheses() -> dict:
    return ad.probing.load_hypotheses(NOTEBOOKS / "hypotheses.yaml")


def nowhere() -> Path:
    """A new, empty folder."""
    return Path(tempfile.mkdtemp(dir=PLACE.name))


def broken() -> Path:
    """Histories on disk of which one file is nonsense."""
    folder = lives().save(nowhere() / "lives")
    (folder / "obs.npy").write_bytes(b"nonsense")
    return folder


def taken() -> Path:
    """A file that is there already."""
    (path := nowhere() / "taken.parquet").write_text("something else")
    return path


def parts(histories: ad.Histories) -> dict:
    """The same lives for every part of a study."""
    return dict.fromkeys(("probe train", "probe val", "test"), histories)


def edited() -> pd.DataFrame:
    """A table of edits that lacks what they did."""
    return pd.DataFrame({"seed": [0], "orbit": [0], "history": [0], "kind": ["stock"], "type": ["S"], "regime": ["D2"]})


def readings() -> pd.DataFrame:
    return pd.DataFrame({"history": [1], "day": [0], "label": [0.0], "read": [0.0], "believed": [0.0]})


def collect(**how):
    return ad.collect(**{"env": ROOM, "tasks": ROOM.tasks(), "agent": ad.sources.Random(), "episodes": 1} | how)


def transformer(**how):
    return ad.CausalTransformer(**{"spec": ROOM.spec, "context": 24, "layers": 1, "width": 8} | how)
