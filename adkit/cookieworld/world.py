"""CookieWorld: a home, a cookie jar, a garden, and a latch at home that closes the jar.

HIDE closes the jar for the day, before the agent is tempted. An episode is a day. Every
morning looks the same from home, so only memory can tell when to hide.
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
from adkit.tables import check_action

ACTIONS = ("north", "south", "east", "west", "stay", "eat", "hide", "open")
NORTH, SOUTH, EAST, WEST, STAY, EAT, HIDE, OPEN = range(8)
DX, DY = np.array([0, 0, 1, -1]), np.array([-1, 1, 0, 0])
# coordinates of an observation; only the source sees those after "gift"
SHOWN = ("position", "visible", "jar", "garden", "lid", "stock", "decoy", "gift")
COORDINATES = (*SHOWN, "hunger", "tolerance", "cookies", "closed")
POSITION, VISIBLE, JAR, GARDEN, LID, STOCK = range(6)
DECOY, GIFT, HUNGER, TOLERANCE, COOKIES, CLOSED = range(6, 12)
SEEN = len(SHOWN)

STOCKED = 3  # cookies of a full jar
STARVED = 5  # upper limit of hunger
SATED = 3  # hunger that a meal takes away
MOST_TOLERANT = 3  # upper limit of tolerance
COOKIE, MEAL = 0.5, 1.0  # rewards
DECOYS, GIFTS = 0.5, 0.1  # chances of a morning
FRICTION = 0.3  # chance that OPEN opens the lid
RHO = 0.15, 0.3  # of the family: chance to get hungrier in a step
PSI = 0.3, 0.6  # of the family: cost of a cookie, in meals
PANTRY = 0.6  # chance of a full jar in the morning
BY_CHANCE = -1  # in a script: left to chance

GIVES, GROWS = np.uint64(0), np.uint64(1)  # draws of a step
FILLED, COLOURED, WOKE, GIVEN = (np.uint64(draw) for draw in range(8, 12))  # draws of a morning

# All that outlasts a step: the agent's cell and hunger; the jar's cookies and lid; tolerance;
# cookies eaten since the morning; step of the day; what the morning brought.
PARTS = "cell hunger cookies closed tolerance eaten time day decoy gift"
BODY = np.dtype([(name, np.int16) for name in PARTS.split()])


class CookieState(NamedTuple):
    """The bodies of N lifetimes, (N,) records of dtype `BODY`."""

    body: np.ndarray


@dataclass(frozen=True)
class CookieWorld:
    """Days of at most `horizon` steps that end at the meal. A cookie's reward is 0.5, the meal's 1.

    A task is `home`, `jar`, `garden` (x, y), the chance `rho` to get hungrier in a step, the cost
    `psi` of a cookie in meals (for planners: no reward shows it), the chance `stock` of a full
    jar, and `orbit`: layouts with the same number are turns or mirror images of each other, so
    that `split(0.8, by=("orbit",))` never holds out a reflection of a training layout.

    Shown to models: the cell, whether a cookie is visible, jar and garden if within one cell,
    whether the lid there is open, and in the morning a stock bit, a decoy bit and the number of
    cookies given. Shown to sources alone: hunger, tolerance, cookies left, and the lid.
    """

    size: int = 5
    """Cells along each wall: 5, or 7 for slower learning."""
    horizon: int = 16
    """Most steps in a day."""
    tolerance_visible: bool = False
    """Whether each level of tolerance takes a quarter of a cookie's reward."""

    def __post_init__(self):
        if self.size not in (5, 7):
            raise ValueError(f"`size` must be 5 or 7, got {self.size}")
        _ = self.spec  # EnvSpec checks the horizon

    @property
    def spec(self) -> EnvSpec:
        """What an agent may know before it acts."""
        cells = self.size**2
        shown = cells, 2, cells + 1, cells + 1, 3, 3, 3, STOCKED + 2
        hidden = STARVED + 1, MOST_TOLERANT + 1, STOCKED + 1, 2
        return EnvSpec("CookieWorld", 8, self.horizon, cardinality=shown + hidden, seen=SEEN)

    def tasks(self) -> Tasks:
        """Return every layout with each `rho` and `psi`: 41,232 tasks, 380,720 at size 7."""
        return _family(self.size)

    def task(
        self, home, jar, garden, rho: float = 0.15, psi: float = 0.3, stock: float = PANTRY
    ) -> Tasks:
        """Return one task, with its layout's id whatever `rho`, `psi` and `stock` are."""
        places = {"home": home, "jar": jar, "garden": garden}
        body = {"rho": rho, "psi": psi, "stock": stock}
        given = {name: np.array([value]) for name, value in (places | body).items()}
        self._check(Tasks(given))
        same = rooms.pick(self.tasks(), **places)
        close = np.abs(same["rho"] - rho) + np.abs(same["psi"] - psi)
        return same[[close.argmin()]].replace(**{name: given[name] for name in body})

    def reset(self, tasks: Tasks, rng: Rng) -> tuple[CookieState, np.ndarray]:
        """Start the first day."""
        self._check(tasks)
        return self._wake(unborn(len(tasks)), tasks, rng)

    def next_episode(
        self, state: CookieState, tasks: Tasks, rng: Rng
    ) -> tuple[CookieState, np.ndarray]:
        """Start the next day; tolerance and the day's number stay."""
        return self._wake(state.body.copy(), tasks, rng)

    def step(
        self, state: CookieState, tasks: Tasks, action: np.ndarray, rng: Rng
    ) -> tuple[CookieState, Step]:
        """Take N actions."""
        body, n = state.body.copy(), len(state.body)
        action = check_action(action, self.spec, n).astype(np.int64)
        obs = np.empty((n, CLOSED + 1), self.spec.obs_dtype)
        reward, over = np.zeros(n, np.float32), np.zeros(n, bool)
        worlds = body, self.places(tasks), tasks["rho"].astype(float), self.size
        draws = rng.keys, np.broadcast_to(np.uint64(rng.step), len(rng))
        _step_all(*worlds, self.tolerance_visible, action, *draws, obs, reward, over)
        return CookieState(body), Step(obs, reward, over, ~over & (body["time"] == self.horizon))

    def places(self, tasks: Tasks) -> np.ndarray:
        """Return the cell numbers (n, 3) of home, jar and garden."""
        cells = [rooms.number(tasks[name], self.size) for name in ("home", "jar", "garden")]
        return np.stack(cells, axis=1)

    def _wake(self, body: np.ndarray, tasks: Tasks, rng: Rng) -> tuple[CookieState, np.ndarray]:
        obs = np.empty((len(body), CLOSED + 1), self.spec.obs_dtype)
        worlds = self.places(tasks), self.size, tasks["stock"].astype(float), scripts(tasks)
        draws = rng.keys, np.broadcast_to(np.uint64(rng.step), len(rng))
        _wake_all(body, *worlds, *draws, obs)
        return CookieState(body), obs

    def _check(self, tasks: Tasks) -> None:
        rooms.check(tasks, ("home", "jar", "garden"), self.size, permuted=False)
        home, jar, garden = (tasks[name].astype(int) for name in ("home", "jar", "garden"))
        apart = lambda a, b, least: np.abs(a - b).sum(1) >= least
        if not (apart(jar, home, 2) & apart(jar, garden, 2) & apart(garden, home, 1)).all():
            raise ValueError(
                "the jar must be at least 2 steps from home and garden, and the garden not at home"
            )
        for name in ("rho", "stock"):
            if not ((tasks[name] >= 0) & (tasks[name] <= 1)).all():
                raise ValueError(f"`{name}` must be in [0, 1], got {tasks[name].tolist()[:3]}")


def unborn(n: int) -> np.ndarray:
    """Return n bodies before their first morning."""
    body = np.zeros(n, BODY)
    body["day"], body["eaten"] = -1, 1
    return body


@lru_cache(maxsize=2)
def _family(size: int) -> Tasks:
    cells = np.arange(size**2)
    places = np.stack(np.meshgrid(cells, cells, cells, indexing="ij"), -1)
    places = places.reshape(-1, 3)  # (n, 3) home, jar, garden
    xy = rooms.cells(size)
    apart = lambda a, b: np.abs(xy[places[:, a]] - xy[places[:, b]]).sum(1)
    places = places[(apart(0, 1) >= 2) & (apart(1, 2) >= 2) & (apart(0, 2) >= 1)]
    x, y = places // size, places % size
    turned = [(a, b) for a in (x, size - 1 - x) for b in (y, size - 1 - y)]
    turned = [a * size + b for pair in turned for a, b in (pair, pair[::-1])]  # 8 x (n, 3)
    code = np.min([layout @ (size**4, size**2, 1) for layout in turned], axis=0)
    _, orbit = np.unique(code, return_inverse=True)
    rho, psi = np.tile(np.array([(rho, psi) for rho in RHO for psi in PSI]), (len(places), 1)).T
    each = len(RHO) * len(PSI)
    home, jar, garden = xy[places].repeat(each, 0).swapaxes(0, 1)
    columns = {"home": home, "jar": jar, "garden": garden, "rho": rho, "psi": psi}
    return Tasks(columns | {"stock": np.full(len(rho), PANTRY), "orbit": orbit.repeat(each)})


def scripts(tasks: Tasks) -> np.ndarray:
    """Return the column `script` (n, days, 3) int8, or one without days: a schedule of stock.

    Per morning: cookies in the jar and cookies given, -1 where chance decides, and whether the
    cookies left from the evening before are given too.
    """
    return tasks["script"] if "script" in tasks.columns else np.zeros((len(tasks), 0, 3), np.int8)


# ---- one lifetime, for compiled code: `body` is a record of dtype BODY ----


@njit(cache=True)
def wake(body, home, stock, script, key, t):
    """Start a day: at home, rested, the lid open again."""
    body.day += 1
    filled, given, also_left = BY_CHANCE, BY_CHANCE, 0
    if body.day < len(script):
        filled, given, also_left = script[body.day, 0], script[body.day, 1], script[body.day, 2]
    if filled == BY_CHANCE:
        filled = STOCKED if uniform(key, t, FILLED) < stock else 0
    if given == BY_CHANCE:
        given = 1 if uniform(key, t, GIVEN) < GIFTS else 0
    if also_left:
        given += body.cookies
    if body.eaten == 0:
        body.tolerance = max(body.tolerance - 1, 0)
    body.cell, body.closed, body.cookies, body.eaten, body.time = home, 0, filled, 0, 0
    body.hunger = int(3 * uniform(key, t, WOKE))
    body.decoy = uniform(key, t, COLOURED) < DECOYS
    body.gift = given
    for _ in range(given):
        _eat_cookie(body)


@njit(cache=True)
def _eat_cookie(body):
    body.hunger = max(body.hunger - 1, 0)
    body.tolerance = min(body.tolerance + 1, MOST_TOLERANT)
    body.eaten += 1


@njit(cache=True)
def led(cell, action, size):
    """Return the cell that an action leads to; walls stop."""
    if action > WEST:
        return cell
    x, y = cell // size + DX[action], cell % size + DY[action]
    return cell if x < 0 or y < 0 or x == size or y == size else x * size + y


@njit(cache=True)
def advance(body, place, rho, size, tolerance_visible, action, key, t):
    """Take one step; return (reward, whether the meal ended the day)."""
    home, jar, garden = place[0], place[1], place[2]
    at, reward, over = body.cell, 0.0, False
    body.cell = led(at, action, size)
    if action == EAT and at == jar and not body.closed and body.cookies:
        reward = COOKIE * (1 - 0.25 * body.tolerance * tolerance_visible)
        body.cookies -= 1
        _eat_cookie(body)
    elif action == EAT and at == garden:
        reward, over = MEAL, True
        body.hunger = max(body.hunger - SATED, 0)
    elif action == HIDE and at == home:
        body.closed = 1
    elif action == OPEN and at == jar and uniform(key, t, GIVES) < FRICTION:
        body.closed = 0
    if uniform(key, t, GROWS) < rho:
        body.hunger = min(body.hunger + 1, STARVED)
    body.time += 1
    return np.float32(reward), over


@njit(cache=True)
def steps(a, b, size):
    """Return the number of moves between two cells."""
    return abs(a // size - b // size) + abs(a % size - b % size)


@njit(cache=True)
def near(a, b, size):
    """Return whether one cell is seen from the other: at most one step apart, diagonals too."""
    return abs(a // size - b // size) <= 1 and abs(a % size - b % size) <= 1


@njit(cache=True)
def observe(body, place, size, obs):
    """Fill obs (12,)."""
    at, jar, garden, morning = body.cell, place[1], place[2], body.time == 0
    by_jar = near(at, jar, size)
    obs[POSITION] = at
    obs[VISIBLE] = by_jar and not body.closed and body.cookies > 0
    obs[JAR] = jar + 1 if by_jar else 0
    obs[GARDEN] = garden + 1 if near(at, garden, size) else 0
    obs[LID] = 1 + body.closed if by_jar else 0
    obs[STOCK] = 1 + (body.cookies > 0) if morning else 0
    obs[DECOY] = 1 + body.decoy if morning else 0
    obs[GIFT] = body.gift if morning else 0
    obs[HUNGER], obs[TOLERANCE] = body.hunger, body.tolerance
    obs[COOKIES], obs[CLOSED] = body.cookies, body.closed


@njit(cache=True)
def _wake_all(body, place, size, stock, script, keys, step, obs):
    for n in range(len(body)):
        wake(body[n], place[n, 0], stock[n], script[n], keys[n], step[n])
        observe(body[n], place[n], size, obs[n])


@njit(cache=True)
def _step_all(body, place, rho, size, tolerance_visible, action, keys, step, obs, reward, over):
    for n in range(len(body)):
        one, how = (body[n], place[n]), (size, tolerance_visible)
        reward[n], over[n] = advance(*one, rho[n], *how, action[n], keys[n], step[n])
        observe(*one, size, obs[n])
