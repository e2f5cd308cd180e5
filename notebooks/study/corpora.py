"""The study of creatures in the CookieWorld: who is trained on, who is judged, and at which tokens.

Everything here is about histories; what edits of them change is in `adkit.edits`, what a model makes of them in `adkit.endpoints`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from adkit import checks
from adkit.cookieworld import world as cookie_world
from adkit.cookieworld.observer import ParticleFilter
from adkit.cookieworld.population import TYPES, Shards
from adkit.cookieworld.world import EAT, GARDEN, GIFT, JAR, MEAL, POSITION, STOCK, VISIBLE
from adkit.envs import rooms
from adkit.histories import Histories
from adkit.protocols import Tasks
from adkit.rollout import collect
from adkit.stats import Interval, above, drawn, hierarchical

if TYPE_CHECKING:
    import pandas as pd

DAYS = 60
MAIN = {
    "types": {"P": 0.35, "S": 0.4, "R": 0.25},
    "regimes": {"D0": 0.25, "D1": 0.25, "D2": 0.4, "D5": 0.1},
    "stock": dict.fromkeys(
        TYPES, 0.75
    ),  # the same for all, so that an empty jar does not tell the type
}
CORPORA = {
    "main": MAIN,
    "drift free": MAIN | {"regimes": {"D0": 1}},
    "primitive only": MAIN | {"types": {"P": 1}},
    "confounded": MAIN | {"regimes": {"D1": 1}},
    "tolerance visible": MAIN,
    "episode shuffled": MAIN,
}
JUDGED = {
    "D0": 0.2,
    "D1": 0.15,
    "D2": 0.5,
    "D5": 0.15,
}  # regimes of those who are judged: more of those who drift by themselves
LATE, SETTLED = (
    8,
    6,
)  # days, from 0, after which a creature's map and its habits are taken to be known
PARTS = {
    "test": 4,
    "probe train": 2,
    "probe val": 3,
}  # seeds; training lives have others. Those of 1 were seen while training was mended


# ---- who ----


def world(corpus: str = "main") -> cookie_world.CookieWorld:
    """The world of a corpus: 5 x 5 cells, days of 16 steps."""
    _known(corpus)
    return cookie_world.CookieWorld(tolerance_visible=corpus == "tolerance visible")


def population(corpus: str = "main", labelled: bool = False) -> Shards:
    """The creatures of a corpus: "main", or one of its twins (`CORPORA`)."""
    return Shards(**CORPORA[_known(corpus)], labelled=labelled)


def _known(corpus: str) -> str:
    if corpus not in CORPORA:
        raise ValueError(f"no corpus {corpus!r}; there are {', '.join(CORPORA)}.")
    return corpus


def split() -> tuple[Tasks, Tasks]:
    """(training, held-out) tasks; a fifth of the layout orbits is held out, turns and mirror images included."""
    return cookie_world.CookieWorld().tasks().split(0.8, seed=0, by=("orbit",))


def lives(corpus: str, n: int, seed: int, days: int = DAYS) -> Histories:
    """`n` lives to train on, each on a training layout of its own and never met again, without labels.

    Of "episode shuffled" the days of each life are in random order: all is there that happened, but when.
    """
    train, _ = split()
    if n < 1 or seed < 0:
        raise ValueError(f"n={n}, seed={seed}; give at least 1 life, and a seed of at least 0.")
    repeats = -(-n // len(train))
    tasks = train[np.sort(np.random.default_rng(seed).permutation(len(train))[: -(-n // repeats)])]
    found = collect(
        world(corpus), tasks, population(corpus), episodes=days, lifetimes=repeats, seed=1000 + seed
    )
    if corpus != "episode shuffled":
        return found
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(days), (len(found), 1)), axis=1)
    return replace(
        found,
        arrays={
            name: values[np.arange(len(found))[:, None], order]
            for name, values in found.arrays.items()
        },
    )


def judged(part: str, n: int, corpus: str = "main", days: int = DAYS) -> Histories:
    """`n` labelled lives of "test" (held-out orbits), "probe train" or "probe val" (training orbits), beliefs among the labels.

    Beside those of the source and of `ParticleFilter`, labels are `prior_pi`, the actions foretold by a filter that knows the
    map and the population and learns nothing, and `orbit`.
    """
    if part not in PARTS:
        raise ValueError(f"no part {part!r}; there are {', '.join(PARTS)}.")
    tasks = split()[part == "test"].drawn(n, PARTS[part])
    source = population(corpus, labelled=True)
    regimes = source.regimes if corpus == "confounded" else JUDGED
    histories = collect(
        world(corpus), tasks, replace(source, regimes=regimes), episodes=days, seed=PARTS[part]
    )
    beliefs = ParticleFilter(source).follow(histories)
    prior = {"prior_pi": ParticleFilter(source, updates=False).follow(histories)["belief_pi"]}
    return replace(
        histories,
        arrays=histories.arrays | beliefs | prior | {"orbit": tasks["orbit"][histories.task]},
    )


def balance(histories: Histories) -> np.ndarray:
    """(N, E, H) w_rel, the log of the cookie shard's strength over the food shard's: what drifts. Padding holds anything."""
    a = checks.creatures(histories, "w_cookie", "w_food").arrays
    return np.log(np.maximum(a["w_cookie"], 1e-3) / a["w_food"][:, None, None])


# ---- where ----


def sites(histories: Histories) -> dict[str, np.ndarray]:
    """By name, (N, E, H) bool: the decisions at which hypotheses are judged.

    No morning counts as a sight of a cookie, nor one from which the jar is in view, in 12% of layouts, as a decision at home.
    """
    obs = checks.creatures(histories).arrays["obs"]
    real = np.arange(histories.spec.horizon) < histories.length[..., None]
    seen = lambda column: (obs[..., column] > 0) & real
    morning = np.zeros_like(real)
    morning[:, :, 0] = True
    day = np.arange(histories.n_episodes)[:, None]
    known = (np.cumsum(seen(JAR).any(2), 1) > 0) & (np.cumsum(seen(GARDEN).any(2), 1) > 0)
    known = np.pad(known[:, :-1], [(0, 0), (1, 0)])[..., None]  # by the evening before
    visible, stocked = seen(VISIBLE) & ~morning, (obs[:, :, :1, STOCK] == 2)
    first = visible & (visible.cumsum(2) == 1)
    found = {
        "home late": morning & ~seen(JAR) & known & (day >= LATE),
        "cookie visible": visible & (day >= LATE),
        "first visible": first & (day >= SETTLED),
        "just eaten": _just_eaten(histories) & real & (day >= SETTLED),
        "empty home": morning & ~stocked & (day >= SETTLED),
        "unrelated": real
        & ~seen(JAR)
        & ~seen(GARDEN)
        & ~morning
        & (obs[..., POSITION] != obs[:, :, :1, POSITION]),
    }
    return checks.Named(
        "site", {"all": real, "decision": found["home late"] | found["cookie visible"]} | found
    )


def _just_eaten(histories: Histories) -> np.ndarray:
    """(N, E, H) whether the step before paid for a cookie: where tolerance can be seen, if reward shows it."""
    return np.pad(_eats(histories), [(0, 0), (0, 0), (1, 0)])[:, :, :-1]


def _eats(histories: Histories) -> np.ndarray:
    """(N, E, H) whether a step pays for a cookie."""
    reward = histories.arrays["reward"]
    return (reward > 0) & (reward < MEAL)


def directed(histories: Histories, place: str = "jar") -> np.ndarray:
    """(N, E, H, 8) bool: actions that bring the jar, or another `place`, nearer, or eat at it."""
    if place not in ("home", "jar", "garden"):
        raise ValueError(f"place={place!r}; choose home, jar or garden.")
    obs, size = (
        checks.creatures(histories).arrays["obs"],
        round(histories.spec.cardinality[POSITION] ** 0.5),
    )
    cells = np.arange(size**2)
    to = np.array(
        [[cookie_world.led(cell, action, size) for action in range(8)] for cell in cells]
    )  # (cells, 8)
    xy = rooms.cells(size)
    far = np.abs(xy[:, None] - xy).sum(-1)  # (cells, cells)
    closer = far[to] < far[:, None]  # (from, action, jar)
    closer[cells, EAT, cells] = True
    there = rooms.number(histories.task_values[place], size)[histories.task]
    return closer[obs[..., POSITION], :, there[:, None, None]]


def log_odds(p: np.ndarray) -> np.ndarray:
    """log p / (1 - p), p being kept 1e-4 from 0 and 1."""
    if np.size(p) and not -1e-3 <= np.min(p) <= np.max(p) <= 1 + 1e-3:
        raise ValueError(
            f"p is {np.min(p):g} to {np.max(p):g}; give probabilities, which lie in [0, 1]."
        )
    p = np.clip(p, 1e-4, 1 - 1e-4)
    return np.log(p / (1 - p))


def eaten(histories: Histories) -> np.ndarray:
    """(N, E, H) cookies eaten or given in all the life before each step's action."""
    a = checks.creatures(histories).arrays
    ate = _eats(histories).astype(int)
    before = ate.reshape(len(ate), -1).cumsum(1).reshape(ate.shape) - ate
    return (
        before + a["obs"][:, :, 0, GIFT].astype(int).cumsum(1)[..., None]
    )  # a gift is eaten before anything is done


def exposure(histories: Histories) -> np.ndarray:
    """(N, E, H) the cell of day and cookies eaten so far within which lives are compared: ten days, and ever more cookies."""
    day = np.arange(checks.creatures(histories).n_episodes)[:, None] // 10
    return day * 1000 + np.sqrt(eaten(histories)).round().astype(int)


def cookies_ahead(histories: Histories, days: int = 5) -> np.ndarray:
    """(N, E) float32: cookies eaten from each day on within so many days, fewer where the life ends, per day."""
    checks.whole("days", days)
    eaten = _eats(checks.creatures(histories)).sum(2)
    total = np.pad(eaten.cumsum(1), [(0, 0), (1, 0)])
    begin = np.arange(histories.n_episodes)
    end = np.minimum(begin + days, histories.n_episodes)
    return ((total[:, end] - total[:, begin]) / (end - begin)).astype(np.float32)


def table(histories: Histories, **columns: np.ndarray) -> pd.DataFrame:
    """One row per life: its number, orbit, type and regime, and the columns (N,)."""
    import pandas as pd

    a = checks.creatures(histories, "orbit", "type", "regime").arrays
    if wrong := {
        name: np.shape(values)
        for name, values in columns.items()
        if np.shape(values)[:1] not in ((), (len(histories),))
    }:
        raise ValueError(
            f"columns of shapes {wrong}; give a number for each of {len(histories)} lives."
        )
    who = {
        "history": np.arange(len(histories)),
        "orbit": a["orbit"],
        "type": np.array(TYPES)[a["type"]],
    }
    return pd.DataFrame(who | {"regime": [f"D{regime}" for regime in a["regime"]]} | columns)


def interval(
    frame: pd.DataFrame, columns: list[str], statistic: Callable = lambda mean: mean[..., 0]
) -> Interval:
    """Bootstrap over seeds, orbits and lives, named in the frame, of a function of the columns' means; of the first one's mean.

    Models of all seeds are judged on the same lives: orbits and lives in them are drawn once for all seeds, and seeds beside them.
    """
    with np.errstate(
        invalid="ignore", divide="ignore"
    ):  # a draw may leave out all that a ratio is of
        return hierarchical(
            _values(frame, columns), _nests(frame), statistic, crossed=frame["seed"]
        )


def against(
    frame: pd.DataFrame, columns: list[str], statistic: Callable, null: float = 0.0
) -> dict[str, float | np.ndarray]:
    """Of the same bootstrap: `p`, that the measure is not above `null`, and the `null` distribution, its draws moved there."""
    with np.errstate(invalid="ignore", divide="ignore"):
        values = _values(frame, columns)
        samples = drawn(values, _nests(frame), statistic, crossed=frame["seed"])
        return {"p": above(samples, null), "null": samples - statistic(values.mean(0)) + null}


def _values(frame: pd.DataFrame, columns: list[str]) -> np.ndarray:
    made_by = "per_life in adkit.endpoints, with a column seed"
    return checks.columns(frame, "seed", "orbit", "history", *columns, made_by=made_by)[
        columns
    ].to_numpy(float)


def _nests(frame: pd.DataFrame) -> list[np.ndarray]:
    return [frame["orbit"].to_numpy(), frame["history"].to_numpy()]
