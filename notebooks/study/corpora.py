"""Training and test corpora of the CookieWorld study, and the tokens that each analysis uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from adkit.cookieworld.observer import ParticleFilter
from adkit.cookieworld.population import TYPES, Shards
from adkit.cookieworld.world import (
    EAT,
    GARDEN,
    GIFT,
    JAR,
    MEAL,
    POSITION,
    STOCK,
    VISIBLE,
    CookieWorld,
    led,
)
from adkit.envs import rooms
from adkit.histories import Histories
from adkit.protocols import Tasks
from adkit.rollout import collect
from adkit.stats import Interval, bootstrap, bootstrap_draws
from study.statistics import above

DAYS = 60
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
PARTS = {"test": 4, "probe train": 2, "probe val": 3}  # seeds; training lifetimes have others
LATE = 8  # first day (from 0) on which an agent's map and habits count as known
SETTLED = 6  # first day of the sites at which drift is read
DAYS_AHEAD = 5


# ---- corpora ----


def world(corpus: str = "main") -> CookieWorld:
    """Return the world of a corpus: 5 x 5 cells, days of 16 steps."""
    return CookieWorld(tolerance_visible=corpus == "tolerance visible")


def population(corpus: str = "main", labelled: bool = False) -> Shards:
    """Return the shard agents of a corpus, one of `CORPORA`."""
    return Shards(**CORPORA[corpus], labelled=labelled)


def split() -> tuple[Tasks, Tasks]:
    """Return (training, held-out) tasks; a fifth of the layout orbits is held out.

    An orbit is a layout with its rotations and reflections.
    """
    return CookieWorld().tasks().split(0.8, seed=0, by=("orbit",))


def training(corpus: str, n: int, seed: int, days: int = DAYS) -> Histories:
    """Collect `n` unlabelled training lifetimes, each on a training layout of its own.

    In the corpus "episode shuffled" the days of each lifetime are in random order.
    """
    train, _ = split()
    repeats = -(-n // len(train))
    rng = np.random.default_rng(seed)
    tasks = train[np.sort(rng.permutation(len(train))[: -(-n // repeats)])]
    how = {"episodes": days, "lifetimes": repeats, "seed": 1000 + seed}
    histories = collect(world(corpus), tasks, population(corpus), **how)
    if corpus != "episode shuffled":
        return histories
    rows = np.arange(len(histories))[:, None]
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(days), (len(rows), 1)), axis=1)
    shuffled = {name: values[rows, order] for name, values in histories.arrays.items()}
    return replace(histories, arrays=shuffled)


def judged(part: str, n: int, corpus: str = "main", days: int = DAYS) -> Histories:
    """Collect `n` labelled lifetimes of a part of `PARTS`; the part "test" has held-out orbits.

    Labels are those of `Shards` and of `ParticleFilter`; `prior_pi`, the action probabilities of a
    filter that knows the map and the population and learns nothing; and `orbit`.
    """
    tasks = split()[part == "test"].drawn(n, PARTS[part])
    source = population(corpus, labelled=True)
    if corpus != "confounded":
        source = replace(source, regimes=TEST_REGIMES)
    histories = collect(world(corpus), tasks, source, episodes=days, seed=PARTS[part])
    observer = population(corpus, labelled=True)
    beliefs = ParticleFilter(observer).follow(histories)
    prior = ParticleFilter(observer, updates=False).follow(histories)["belief_pi"]
    labels = beliefs | {"prior_pi": prior, "orbit": tasks["orbit"][histories.task]}
    return replace(histories, arrays=histories.arrays | labels)


# ---- labels ----


def balance(histories: Histories) -> np.ndarray:
    """Return w_rel (N, E, H): log of the cookie shard's strength over the food shard's.

    Steps after the end of an episode hold anything.
    """
    w_cookie, w_food = histories.arrays["w_cookie"], histories.arrays["w_food"]
    return np.log(np.maximum(w_cookie, 1e-3) / w_food[:, None, None])


def eaten(histories: Histories) -> np.ndarray:
    """Return the number of cookies (N, E, H) eaten or given before each step's action."""
    ate = ate_cookie(histories).astype(int)
    before = ate.reshape(len(ate), -1).cumsum(1).reshape(ate.shape) - ate
    gifts = histories.arrays["obs"][:, :, 0, GIFT].astype(int)  # eaten before the day's first step
    return before + gifts.cumsum(1)[..., None]


def ate_cookie(histories: Histories) -> np.ndarray:
    """Return whether each step (N, E, H) is rewarded for a cookie."""
    reward = histories.arrays["reward"]
    return (reward > 0) & (reward < MEAL)


def exposure(histories: Histories) -> np.ndarray:
    """Return the stratum (N, E, H) of day and cookies eaten within which lifetimes are compared.

    A stratum spans ten days, and more cookies the more were eaten.
    """
    day = np.arange(histories.n_episodes)[:, None] // 10
    return day * 1000 + np.sqrt(eaten(histories)).round().astype(int)


def cookies_ahead(histories: Histories) -> np.ndarray:
    """Return cookies per day (N, E) float32 over the next `DAYS_AHEAD` days, today included."""
    per_day = ate_cookie(histories).sum(2)
    total = np.pad(per_day.cumsum(1), [(0, 0), (1, 0)])
    begin = np.arange(histories.n_episodes)
    end = np.minimum(begin + DAYS_AHEAD, histories.n_episodes)
    return ((total[:, end] - total[:, begin]) / (end - begin)).astype(np.float32)


def directed(histories: Histories, place: str = "jar") -> np.ndarray:
    """Return which actions (N, E, H, 8) bring a place nearer, or eat at it.

    `place` is a task column: "jar", "garden" or "home".
    """
    obs = histories.arrays["obs"]
    size = round(histories.spec.cardinality[POSITION] ** 0.5)
    cells = np.arange(size**2)
    to = np.array([[led(cell, action, size) for action in range(8)] for cell in cells])
    xy = rooms.cells(size)
    distance = np.abs(xy[:, None] - xy).sum(-1)  # (cells, cells)
    closer = distance[to] < distance[:, None]  # (from, action, place)
    closer[cells, EAT, cells] = True
    there = rooms.number(histories.task_values[place], size)[histories.task]
    return closer[obs[..., POSITION], :, there[:, None, None]]


def log_odds(p: np.ndarray) -> np.ndarray:
    """Return log p / (1 - p); p is kept 1e-4 away from 0 and 1."""
    p = np.clip(p, 1e-4, 1 - 1e-4)
    return np.log(p / (1 - p))


# ---- sites ----


def sites(histories: Histories) -> dict[str, np.ndarray]:
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
    }


# ---- tables of per-lifetime results ----


def table(histories: Histories, **columns: np.ndarray) -> pd.DataFrame:
    """Return one row per lifetime: its number, orbit, type and regime, and the columns (N,)."""
    labels = histories.arrays
    about = {
        "history": np.arange(len(histories)),
        "orbit": labels["orbit"],
        "type": np.array(TYPES)[labels["type"]],
        "regime": [f"D{regime}" for regime in labels["regime"]],
    }
    return pd.DataFrame(about | columns)


def first(mean: np.ndarray) -> np.ndarray:
    return mean[..., 0]


def ratio(mean: np.ndarray) -> np.ndarray:
    return mean[..., 0] / mean[..., 1]


def difference(mean: np.ndarray) -> np.ndarray:
    return mean[..., 0] - mean[..., 1]


def interval(frame: pd.DataFrame, columns: list[str], statistic: Callable = first) -> Interval:
    """Bootstrap a function of the columns' means over seeds, orbits and lifetimes.

    Models of all seeds are judged on the same lifetimes. Orbits and lifetimes are therefore drawn
    once for all seeds, and seeds are drawn beside them.
    """
    values, nests = _of(frame, columns)
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold nothing to divide by
        return bootstrap(values, nests, statistic, crossed=frame["seed"])


def against(
    frame: pd.DataFrame, columns: list[str], statistic: Callable, null: float = 0.0
) -> dict[str, float | np.ndarray]:
    """Return `p`, that the measure is at most `null`, and draws of the null, same bootstrap."""
    values, nests = _of(frame, columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        samples = bootstrap_draws(values, nests, statistic, crossed=frame["seed"])
    shift = null - statistic(values.mean(0))
    return {"p": above(samples, null), "null": samples + shift}


def _of(frame: pd.DataFrame, columns: list[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    nests = [frame["orbit"].to_numpy(), frame["history"].to_numpy()]
    return frame[columns].to_numpy(float), nests


def pick(frame: pd.DataFrame, **wanted) -> pd.DataFrame:
    """Return the rows whose columns hold the wanted value, or one of the wanted values.

    Raises ValueError if there are none, so that no measure is taken of nothing.
    """
    for name, values in wanted.items():
        there = frame[name]
        frame = frame[there.isin(values if isinstance(values, tuple) else (values,))]
        if frame.empty:
            raise ValueError(f"no row has {name} = {values}; there are {list(there.unique())}")
    return frame
