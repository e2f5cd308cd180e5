"""CookieWorld: a home, a cookie jar and a vegetable garden; a creature may latch the pantry before it is tempted.

An episode is a day. Every morning looks the same from home, so that who hides the cookies must remember why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from adkit.envs import rooms
from adkit.protocols import EnvSpec, Step, Tasks
from adkit.seeds import Rng, uniform
from adkit.tables import check_action, in_parallel

ACTIONS = ("north", "south", "east", "west", "stay", "eat", "hide", "open")
NORTH, SOUTH, EAST, WEST, STAY, EAT, HIDE, OPEN = range(8)
DX, DY = np.array([0, 0, 1, -1]), np.array([-1, 1, 0, 0])
COORDINATES = (  # of an observation; those after GIFT are felt, not seen
    "position", "visible", "jar", "garden", "lid", "stock", "decoy", "gift", "hunger", "tolerance", "cookies", "closed",
)  # fmt: skip
POSITION, VISIBLE, JAR, GARDEN, LID, STOCK, DECOY, GIFT, HUNGER, TOLERANCE, COOKIES, CLOSED = range(
    12
)
SEEN = GIFT + 1
STOCKED, STARVED, SATED, SET_IN_WAYS = (
    3,
    5,
    3,
    3,
)  # cookies of a full jar; most hunger; what a meal takes off it; most tolerance
COOKIE, MEAL = 0.5, 1.0  # liking
DECOYS, GIFTS, FRICTION = (
    0.5,
    0.1,
    0.3,
)  # chances: of the decoy, of a gift, that the lid gives way to a press
RHO, PSI = (
    (0.15, 0.3),
    (0.3, 0.6),
)  # of the family: chance to get hungrier in a step; what a cookie costs, in meals
PANTRY = 0.6  # chance that a morning finds the jar full
BY_CHANCE = -1  # in a script: left to chance

# the body of a creature, (N, 10): all that outlasts a step
AT, HUNGRY, LEFT, SHUT, TOLERANT, TREATS, TIME, DAY, DECOYED, FED = range(10)
GIVES, GROWS = np.uint64(0), np.uint64(1)  # draws of a step
FILLED, COLOURED, WOKE, GIVEN = (np.uint64(draw) for draw in range(8, 12))  # draws of a morning


class CookieState(NamedTuple):
    """N creatures: where they are, how they feel and what day it is, (N, 10) int16."""

    body: np.ndarray


@dataclass(frozen=True)
class CookieWorld:
    """Days of at most `horizon` steps that end at the meal. Reward is liking: a cookie 0.5, the meal 1.

    A task is `home`, `jar`, `garden` (x, y), the chance `rho` to get hungrier in a step, what a cookie costs in meals, `psi`
    (for planners: no reward shows it), the chance `stock` of a full jar, and `orbit`: layouts of one number are turns or
    mirror images of each other, so that `split(0.8, by=("orbit",))` holds out layouts and not their reflections.

    Shown: cell, whether a cookie is visible, jar and garden if within one cell, whether the lid there is open, and in the morning
    a stock bit, a decoy bit and the number of cookies given. Felt by sources alone: hunger, tolerance, cookies left, the lid.
    """

    size: int = 5
    """Cells along each wall: 5, or 7 for slower learning."""
    horizon: int = 16
    """Most steps in a day."""
    latch: bool = True
    """Whether HIDE closes the lid; a broken latch does nothing."""
    tolerance_visible: bool = False
    """Whether tolerance takes from the reward of a cookie, a quarter a level: the positive control."""

    def __post_init__(self):
        if self.size not in (5, 7):
            raise ValueError(f"size={self.size}; CookieWorld is 5 or 7 cells wide. Try 5.")
        _ = self.spec  # EnvSpec checks the horizon

    @property
    def spec(self) -> EnvSpec:
        cells = self.size**2
        seen = cells, 2, cells + 1, cells + 1, 3, 3, 3, STOCKED + 2
        felt = STARVED + 1, SET_IN_WAYS + 1, STOCKED + 1, 2
        return EnvSpec(
            "CookieWorld", n_actions=8, horizon=self.horizon, cardinality=seen + felt, seen=SEEN
        )

    def tasks(self) -> Tasks:
        """Every layout with each `rho` of 0.15 and 0.3 and each `psi` of 0.3 and 0.6: 41,232 tasks, 380,720 in the wide world."""
        return _family(self.size)

    def task(
        self, home, jar, garden, rho: float = 0.15, psi: float = 0.3, stock: float = PANTRY
    ) -> Tasks:
        """One task, numbered as in `tasks()`; `rho`, `psi` and `stock` that are not in the family keep their layout's number."""
        places = {"home": home, "jar": jar, "garden": garden}
        given = Tasks(
            {name: np.array([place]) for name, place in places.items()}
            | {"rho": [rho], "psi": [psi], "stock": [stock]}
        )
        self._check(given)
        same = rooms.pick(self.tasks(), **places)
        close = np.abs(same["rho"] - rho) + np.abs(same["psi"] - psi)
        return same[[close.argmin()]].replace(
            rho=np.array([rho]), psi=np.array([psi]), stock=np.array([stock])
        )

    def reset(self, tasks: Tasks, rng: Rng) -> tuple[CookieState, np.ndarray]:
        """The first morning of lives."""
        self._check(tasks)
        body = np.zeros((len(tasks), FED + 1), np.int16)
        body[:, DAY], body[:, TREATS] = -1, 1
        return self._wake(body, tasks, rng)

    def next_episode(
        self, state: CookieState, tasks: Tasks, rng: Rng
    ) -> tuple[CookieState, np.ndarray]:
        """The morning after: tolerance and the day's number stay."""
        return self._wake(state.body.copy(), tasks, rng)

    def step(
        self, state: CookieState, tasks: Tasks, action: np.ndarray, rng: Rng
    ) -> tuple[CookieState, Step]:
        action = check_action(action, self.spec, len(state.body)).astype(np.int64)
        body, places = state.body.copy(), self.places(tasks)
        obs, reward, over = (
            self._empty(len(body)),
            np.zeros(len(body), np.float32),
            np.zeros(len(body), bool),
        )
        step = np.broadcast_to(np.asarray(rng.step, np.uint64), len(body))
        rules = self.size, self.latch, self.tolerance_visible
        _step_all(
            body,
            places,
            tasks["rho"].astype(float),
            rules,
            action,
            rng.keys,
            step,
            obs,
            reward,
            over,
        )
        return CookieState(body), Step(obs, reward, over, ~over & (body[:, TIME] == self.horizon))

    def replay(self, histories) -> np.ndarray:
        """(N, E, H + 1) bool: whether each token could follow those before it in its day: what `probing.counterfactual` asks.

        Judged by what models see; what is felt need not be edited along. Any morning may bring a full jar, a decoy, 0 to 4 gifts,
        and any press may open the lid. A full jar holds 3, or the 1 or 2 that its morning felt: a script stocked it. Tolerance,
        all that outlasts a night, is unknown after an episode left out, or an impossible one, until a cookie's reward tells.
        """
        if histories.spec != self.spec:
            raise ValueError(
                f"histories of {histories.spec}; {self} says what is possible in {self.spec}. Ask their own world."
            )
        tasks, could = (
            histories.task_values[histories.task],
            np.ones((*histories.length.shape, self.horizon + 1), np.bool_),
        )
        names = "obs", "final_obs", "action", "reward", "terminated", "truncated"
        told = map(
            np.ascontiguousarray,
            (*(histories.arrays[name] for name in names), self.places(tasks), histories.episode),
        )
        rules = self.size, self.latch, self.tolerance_visible
        in_parallel(
            _replay, len(could), *told, rules, could
        )  # contiguous: whatever was sliced, it is compiled once
        return could

    def places(self, tasks: Tasks) -> np.ndarray:
        """(n, 3) the numbers of the cells of home, jar and garden."""
        return np.stack(
            [rooms.number(tasks[name], self.size) for name in ("home", "jar", "garden")], axis=1
        )

    def _wake(self, body: np.ndarray, tasks: Tasks, rng: Rng) -> tuple[CookieState, np.ndarray]:
        obs, step = (
            self._empty(len(body)),
            np.broadcast_to(np.asarray(rng.step, np.uint64), len(body)),
        )
        _wake_all(
            body,
            self.places(tasks),
            self.size,
            tasks["stock"].astype(float),
            scripts(tasks),
            rng.keys,
            step,
            obs,
        )
        return CookieState(body), obs

    def _empty(self, n: int) -> np.ndarray:
        return np.empty((n, CLOSED + 1), self.spec.obs_dtype)

    def _check(self, tasks: Tasks) -> None:
        rooms.check(tasks, ("home", "jar", "garden"), self.size, permuted=False)
        home, jar, garden = (tasks[name].astype(int) for name in ("home", "jar", "garden"))
        far = lambda a, b, least: np.abs(a - b).sum(1) >= least
        wrong = ~(far(jar, home, 2) & far(jar, garden, 2) & far(garden, home, 1))
        if wrong.any():
            n = wrong.argmax()
            raise ValueError(
                f"home {home[n].tolist()}, jar {jar[n].tolist()}, garden {garden[n].tolist()}: the jar must be at least 2 steps "
                "from home and from the garden, and the garden not at home."
            )
        for name in ("rho", "stock"):
            if not ((tasks[name] >= 0) & (tasks[name] <= 1)).all():
                raise ValueError(
                    f"{name}={tasks[name].tolist()[:3]}; a probability lies in [0, 1]."
                )
        if not (tasks["psi"] >= 0).all():
            raise ValueError(
                f"psi={tasks['psi'].tolist()[:3]}; what a cookie costs is at least 0 meals."
            )


@lru_cache(maxsize=2)
def _family(size: int) -> Tasks:
    cells = np.arange(size**2)
    places = np.stack(np.meshgrid(cells, cells, cells, indexing="ij"), -1).reshape(
        -1, 3
    )  # (n, 3) home, jar, garden
    apart = lambda a, b: np.abs(
        rooms.cells(size)[places[:, a]] - rooms.cells(size)[places[:, b]]
    ).sum(1)
    places = places[(apart(0, 1) >= 2) & (apart(1, 2) >= 2) & (apart(0, 2) >= 1)]
    x, y = places // size, places % size
    turned = [(a, b) for a in (x, size - 1 - x) for b in (y, size - 1 - y)]
    turned = [a * size + b for pair in turned for a, b in (pair, pair[::-1])]  # 8 x (n, 3)
    _, orbit = np.unique(
        np.min([code @ (size**4, size**2, 1) for code in turned], axis=0), return_inverse=True
    )
    rho, psi = np.tile(np.array([(rho, psi) for rho in RHO for psi in PSI]), (len(places), 1)).T
    xy, each = rooms.cells(size)[places], len(RHO) * len(PSI)
    columns = {name: xy[:, i].repeat(each, 0) for i, name in enumerate(("home", "jar", "garden"))}
    return Tasks(
        columns
        | {"rho": rho, "psi": psi, "stock": np.full(len(rho), PANTRY), "orbit": orbit.repeat(each)}
    )


def scripts(tasks: Tasks) -> np.ndarray:
    """(n, days, 3) int8: cookies in the jar and cookies given on each morning, -1 where chance decides, and whether what was left
    the evening before is given too. The column `script`, if there is one: how an experimenter stocks the pantries of some lives."""
    return tasks["script"] if "script" in tasks.columns else np.zeros((len(tasks), 0, 3), np.int8)


# ---- one creature, in plain scalars, for compiled code ----


@njit(cache=True)
def wake(body, home, stock, script, key, t):
    """A morning: at home, rested, the lid open again."""
    day = body[DAY] + 1
    filled, given, also_left = BY_CHANCE, BY_CHANCE, 0
    if day < len(script):
        filled, given, also_left = script[day, 0], script[day, 1], script[day, 2]
    if filled == BY_CHANCE:
        filled = STOCKED if uniform(key, t, FILLED) < stock else 0
    if given == BY_CHANCE:
        given = 1 if uniform(key, t, GIVEN) < GIFTS else 0
    if also_left:
        given += body[LEFT]
    if body[TREATS] == 0:
        body[TOLERANT] = max(body[TOLERANT] - 1, 0)
    body[AT], body[SHUT], body[LEFT], body[TREATS], body[TIME], body[DAY] = (
        home,
        0,
        filled,
        0,
        0,
        day,
    )
    body[HUNGRY] = int(3 * uniform(key, t, WOKE))
    body[DECOYED] = uniform(key, t, COLOURED) < DECOYS
    body[FED] = given
    for _ in range(given):
        _eat_cookie(body)


@njit(cache=True)
def _eat_cookie(body):
    body[HUNGRY] = max(body[HUNGRY] - 1, 0)
    body[TOLERANT] = min(body[TOLERANT] + 1, SET_IN_WAYS)
    body[TREATS] += 1


@njit(cache=True)
def led(cell, action, size):
    """The cell that an action leads to; walls stop."""
    if action > WEST:
        return cell
    x, y = cell // size + DX[action], cell % size + DY[action]
    return cell if x < 0 or y < 0 or x == size or y == size else x * size + y


@njit(cache=True)
def advance(body, place, rho, rules, action, key, t):
    """One step: (reward, whether the day ended with the meal)."""
    size, latch, tolerance_visible = rules
    home, jar, garden = place[0], place[1], place[2]
    at, reward, over = body[AT], 0.0, False
    body[AT] = led(at, action, size)
    if action == EAT and at == jar and not body[SHUT] and body[LEFT]:
        reward = COOKIE * (1 - 0.25 * body[TOLERANT] * tolerance_visible)
        body[LEFT] -= 1
        _eat_cookie(body)
    elif action == EAT and at == garden:
        reward, over = MEAL, True
        body[HUNGRY] = max(body[HUNGRY] - SATED, 0)
    elif action == HIDE and at == home and latch:
        body[SHUT] = 1
    elif action == OPEN and at == jar and uniform(key, t, GIVES) < FRICTION:
        body[SHUT] = 0
    if uniform(key, t, GROWS) < rho:
        body[HUNGRY] = min(body[HUNGRY] + 1, STARVED)
    body[TIME] += 1
    return np.float32(reward), over


@njit(cache=True)
def steps(a, b, size):
    """How many moves lie between two cells."""
    return abs(a // size - b // size) + abs(a % size - b % size)


@njit(cache=True)
def near(a, b, size):
    """Whether one cell is seen from the other: at most one step apart, diagonals too."""
    return abs(a // size - b // size) <= 1 and abs(a % size - b % size) <= 1


@njit(cache=True)
def observe(body, place, size, obs):
    """Fill obs (12,): the first eight are seen, the others felt."""
    at, jar, garden, morning = body[AT], place[1], place[2], body[TIME] == 0
    by_jar = near(at, jar, size)
    obs[POSITION] = at
    obs[VISIBLE] = by_jar and not body[SHUT] and body[LEFT] > 0
    obs[JAR] = jar + 1 if by_jar else 0
    obs[GARDEN] = garden + 1 if near(at, garden, size) else 0
    obs[LID] = 1 + body[SHUT] if by_jar else 0
    obs[STOCK] = 1 + (body[LEFT] > 0) if morning else 0
    obs[DECOY] = 1 + body[DECOYED] if morning else 0
    obs[GIFT] = body[FED] if morning else 0
    obs[HUNGER], obs[TOLERANCE], obs[COOKIES], obs[CLOSED] = (
        body[HUNGRY],
        body[TOLERANT],
        body[LEFT],
        body[SHUT],
    )


@njit(cache=True)
def _wake_all(body, place, size, stock, script, keys, step, obs):
    for n in range(len(body)):
        wake(body[n], place[n, 0], stock[n], script[n], keys[n], step[n])
        observe(body[n], place[n], size, obs[n])


@njit(cache=True)
def _step_all(body, place, rho, rules, action, keys, step, obs, reward, over):
    for n in range(len(body)):
        reward[n], over[n] = advance(body[n], place[n], rho[n], rules, action[n], keys[n], step[n])
        observe(body[n], place[n], rules[0], obs[n])


@njit(cache=True, nogil=True)
def _replay(
    begin, end, obs, final_obs, action, reward, terminated, truncated, places, number, rules, could
):
    """Live what is told, chance being as told, and compare what is shown and paid."""
    horizon, key, t0 = action.shape[2], np.uint64(0), np.uint64(0)
    body, shown, card = (
        np.zeros(FED + 1, np.int16),
        np.zeros(CLOSED + 1, np.int16),
        np.zeros((1, 3), np.int16),
    )
    for n in range(begin, end):
        place, known = (
            places[n],
            True,
        )  # whether tolerance is; else body[TOLERANT] is the least it can be
        for e in range(len(number)):
            token, known = obs[n, e, 0], known and number[e] == (number[e - 1] + 1 if e else 0)
            if e == 0 or not known:
                body[TOLERANT], body[TREATS] = 0, 1
            full = token[COOKIES] if 0 < token[COOKIES] < STOCKED else STOCKED
            card[0, 0], card[0, 1], body[DAY] = (
                full if token[STOCK] == 2 else 0,
                min(token[GIFT], STOCKED + 1),
                -1,
            )
            wake(body, place[0], 0.0, card, key, t0)
            body[DECOYED] = token[DECOY] == 2
            observe(body, place, rules[0], shown)
            could[n, e, 0] = fits = (token[:SEEN] == shown[:SEEN]).all()
            for t in range(horizon):
                a, paid, at_jar = action[n, e, t], reward[n, e, t], body[AT] == place[1]
                pressed, ends = (
                    a == OPEN and at_jar and body[SHUT],
                    terminated[n, e, t] or truncated[n, e, t],
                )
                if a == EAT and at_jar and paid > 0 and not known:
                    body[TOLERANT], known = (
                        max(body[TOLERANT], min(int(4 - 8 * paid), SET_IN_WAYS)),
                        True,
                    )
                due, over = advance(body, place, 0.0, rules, a, key, t0)
                token = final_obs[n, e] if ends or t == horizon - 1 else obs[n, e, t + 1]
                body[SHUT] = token[LID] == 2 if pressed else body[SHUT]
                observe(body, place, rules[0], shown)
                fits &= a <= OPEN and paid == due and (token[:SEEN] == shown[:SEEN]).all()
                fits &= terminated[n, e, t] == over and truncated[n, e, t] == (
                    not over and t == horizon - 1
                )
                could[n, e, t + 1] = fits
                if ends:
                    break
            known &= fits
