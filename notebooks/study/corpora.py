"""Training and test corpora of the CookieWorld study, and the tokens that each analysis uses."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

import adkit as ad
from adkit.cookieworld.population import TYPES
from adkit.cookieworld.world import EAT, GARDEN, GIFT, JAR, MEAL, POSITION, STOCK, VISIBLE, led
from adkit.envs import rooms

DAYS, SIZE = 60, 5
# of cells: where each action leads (25, 8), and steps from one to another (25, 25)
LED = np.array([[led(cell, action, SIZE) for action in range(8)] for cell in range(SIZE**2)])
DISTANCE = np.abs(rooms.cells(SIZE)[:, None] - rooms.cells(SIZE)).sum(-1)
MAIN = {
    "types": {"P": 0.35, "S": 0.4, "R": 0.25},
    "regimes": {"D0": 0.25, "D1": 0.25, "D2": 0.4, "D5": 0.1},
    "stock": dict.fromkeys(TYPES, 0.75),  # equal, so that an empty jar does not tell the type
}
CORPORA = {  # the populations that models are trained on
    "main": MAIN,
    "drift free": MAIN | {"regimes": {"D0": 1}},
    "primitive only": MAIN | {"types": {"P": 1}},
    "confounded": MAIN | {"regimes": {"D1": 1}},
    "tolerance visible": MAIN,
    "episode shuffled": MAIN,
}
TEST_REGIMES = {"D0": 0.2, "D1": 0.15, "D2": 0.5, "D5": 0.15}  # more of the drifting ones
PARTS = {"probe train": 2, "probe val": 3, "test": 4}  # seeds; training lifetimes have others
Lifetimes = Mapping[str, ad.Histories]  # by part
LATE = 8  # first day (from 0) on which an agent's map and habits count as known
SETTLED = 6  # first day of the sites at which drift is read
DAYS_AHEAD = 5


# ---- corpora ----


def world(corpus: str = "main") -> ad.envs.CookieWorld:
    """Return the world of a corpus: 5 x 5 cells, days of 16 steps."""
    return ad.envs.CookieWorld(tolerance_visible=corpus == "tolerance visible")


def population(corpus: str = "main", labelled: bool = True) -> ad.sources.Shards:
    """Return the shard agents of a corpus, one of `CORPORA`."""
    return ad.sources.Shards(**CORPORA[corpus], labelled=labelled)


def split() -> tuple[ad.Tasks, ad.Tasks]:
    """Return (training, held-out) tasks; a fifth of the layout orbits is held out.

    An orbit is a layout with its rotations and reflections.
    """
    return ad.envs.CookieWorld().tasks().split(0.8, seed=0, by=("orbit",))


def evenly(histories: ad.Histories, n: int) -> ad.Histories:
    """Return at most `n` lifetimes, evenly spaced."""
    return histories[np.linspace(0, len(histories) - 1, min(n, len(histories))).astype(int)]


def training(corpus: str, n: int, seed: int, days: int = DAYS) -> ad.Histories:
    """Collect `n` unlabelled training lifetimes, each on a training layout of its own.

    In the corpus "episode shuffled" the days of each lifetime are in random order.
    """
    train, _ = split()
    repeats = -(-n // len(train))
    rng = np.random.default_rng(seed)
    tasks = train[np.sort(rng.permutation(len(train))[: -(-n // repeats)])]
    how = {"episodes": days, "lifetimes": repeats, "seed": 1000 + seed}
    histories = ad.collect(world(corpus), tasks, population(corpus, labelled=False), **how)
    if corpus != "episode shuffled":
        return histories
    rows = np.arange(len(histories))[:, None]
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(days), (len(rows), 1)), axis=1)
    shuffled = {name: values[rows, order] for name, values in histories.arrays.items()}
    return replace(histories, arrays=shuffled)


def judged(part: str, n: int, corpus: str = "main", days: int = DAYS) -> ad.Histories:
    """Collect `n` labelled lifetimes of a part of `PARTS`; the part "test" has held-out orbits.

    Labels are those of `Shards` and of `ParticleFilter`; `prior_pi`, the action probabilities of a
    filter that knows the map and the population and learns nothing; and `orbit`.
    """
    tasks = split()[part == "test"].drawn(n, PARTS[part])
    observer = source = population(corpus)
    if corpus != "confounded":
        source = replace(source, regimes=TEST_REGIMES)
    histories = ad.collect(world(corpus), tasks, source, episodes=days, seed=PARTS[part])
    beliefs = ad.ParticleFilter(observer).follow(histories)
    prior = ad.ParticleFilter(observer, updates=False).follow(histories)["belief_pi"]
    labels = beliefs | {"prior_pi": prior, "orbit": tasks["orbit"][histories.task]}
    return replace(histories, arrays=histories.arrays | labels)


# ---- labels ----


def balance(histories: ad.Histories) -> np.ndarray:
    """Return w_rel (N, E, H): log of the cookie shard's strength over the food shard's.

    Steps after the end of an episode hold anything.
    """
    w_cookie, w_food = histories.arrays["w_cookie"], histories.arrays["w_food"]
    return np.log(np.maximum(w_cookie, 1e-3) / w_food[:, None, None])


def eaten(histories: ad.Histories) -> np.ndarray:
    """Return the number of cookies (N, E, H) eaten or given before each step's action."""
    ate = ate_cookie(histories).astype(int)
    before = ate.reshape(len(ate), -1).cumsum(1).reshape(ate.shape) - ate
    gifts = histories.arrays["obs"][:, :, 0, GIFT].astype(int)  # eaten before the day's first step
    return before + gifts.cumsum(1)[..., None]


def ate_cookie(histories: ad.Histories) -> np.ndarray:
    """Return whether each step (N, E, H) is rewarded for a cookie."""
    reward = histories.arrays["reward"]
    return (reward > 0) & (reward < MEAL)


def exposure(histories: ad.Histories) -> np.ndarray:
    """Return the stratum (N, E, H) of day and cookies eaten within which lifetimes are compared.

    A stratum spans ten days, and more cookies the more were eaten.
    """
    day = np.arange(histories.n_episodes)[:, None] // 10
    return day * 1000 + np.sqrt(eaten(histories)).round().astype(int)


def cookies_ahead(histories: ad.Histories) -> np.ndarray:
    """Return cookies per day (N, E) float32 over the next `DAYS_AHEAD` days, today included."""
    per_day = ate_cookie(histories).sum(2)
    total = np.pad(per_day.cumsum(1), [(0, 0), (1, 0)])
    begin = np.arange(histories.n_episodes)
    end = np.minimum(begin + DAYS_AHEAD, histories.n_episodes)
    return ((total[:, end] - total[:, begin]) / (end - begin)).astype(np.float32)


def directed(histories: ad.Histories, place: str = "jar") -> np.ndarray:
    """Return which actions (N, E, H, 8) bring a place nearer, or eat at it.

    `place` is a task column: "jar", "garden" or "home".
    """
    cells = np.arange(SIZE**2)
    closer = DISTANCE[LED] < DISTANCE[:, None]  # (from, action, place)
    closer[cells, EAT, cells] = True
    there = rooms.number(histories.task_values[place], SIZE)[histories.task]
    return closer[histories.arrays["obs"][..., POSITION], :, there[:, None, None]]


def cross_entropy(pi: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return the nats (...) of the source's policy pi (..., 8) under predictions p (..., 8)."""
    return -(pi * np.log(np.maximum(p, 1e-9))).sum(-1)


def log_odds(p: np.ndarray) -> np.ndarray:
    """Return log p / (1 - p); p is kept 1e-4 away from 0 and 1."""
    p = np.clip(p, 1e-4, 1 - 1e-4)
    return np.log(p / (1 - p))


# ---- sites ----


def sites(histories: ad.Histories) -> dict[str, np.ndarray]:
    """Return by name the decisions (N, E, H) at which hypotheses are judged.

    A morning does not count as a sight of a cookie. A morning from which the jar is in view, in 12%
    of the layouts, does not count as a decision at home.
    """
    obs = histories.arrays["obs"]
    real = np.arange(histories.spec.horizon) < histories.length[..., None]
    seen = lambda column: (obs[..., column] > 0) & real
    morning = np.zeros_like(real)
    morning[:, :, 0] = True
    day = np.arange(histories.n_episodes)[:, None]
    known = (np.cumsum(seen(JAR).any(2), 1) > 0) & (np.cumsum(seen(GARDEN).any(2), 1) > 0)
    known = np.pad(known[:, :-1], [(0, 0), (1, 0)])[..., None]  # by the evening before
    visible, stocked = seen(VISIBLE) & ~morning, obs[:, :, :1, STOCK] == 2
    after_cookie = np.pad(ate_cookie(histories), [(0, 0), (0, 0), (1, 0)])[:, :, :-1]
    away = ~seen(JAR) & ~seen(GARDEN) & (obs[..., POSITION] != obs[:, :, :1, POSITION])
    home_late = morning & ~seen(JAR) & known & (day >= LATE)
    cookie_visible = visible & (day >= LATE)
    return {
        "all": real,
        "decision": home_late | cookie_visible,
        "home late": home_late,
        "cookie visible": cookie_visible,
        "first visible": visible & (visible.cumsum(2) == 1) & (day >= SETTLED),
        "just eaten": after_cookie & real & (day >= SETTLED),
        "empty home": morning & ~stocked & (day >= SETTLED),
        "unrelated": real & away & ~morning,
        "jar in view": seen(JAR) & ~morning & (day >= LATE),
        "garden alone in view": seen(GARDEN) & ~seen(JAR) & ~morning & (day >= LATE),
    }


def table(histories: ad.Histories, **columns: np.ndarray) -> pd.DataFrame:
    """Return one row per lifetime: its number, orbit, type and regime, and the columns (N,)."""
    labels = histories.arrays
    about = {
        "history": np.arange(len(histories)),
        "orbit": labels["orbit"],
        "type": np.array(TYPES)[labels["type"]],
        "regime": [f"D{regime}" for regime in labels["regime"]],
    }
    return pd.DataFrame(about | columns)
