"""The extension surface: what an environment, an agent and a learner are. Read this first.

Everything is batch-first: N lifetimes act in lock step, one row each. A class with these
methods *is* an environment or an agent; `adkit.testing` checks whether it keeps the contract.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from adkit.tasks import Tasks

if TYPE_CHECKING:
    from adkit.seeds import Rng

State = Any  # an environment's own; opaque to everyone else


@dataclass(frozen=True)
class EnvSpec:
    """What an agent may know of an environment before it acts: shapes and sizes, never the task."""

    name: str
    """Gymnasium-style id of the family, such as "DarkRoom"."""
    n_actions: int
    """Actions are the integers 0 .. n_actions - 1."""
    horizon: int
    """Most steps in an episode."""
    cardinality: tuple[int, ...] | None = None
    """Values per discrete observation coordinate, (9, 9) for a 9x9 room; None for real vectors."""
    shape: tuple[int, ...] | None = None
    """Shape of a real-valued observation; leave None when `cardinality` is given."""
    view: tuple[int, int] | Literal["pose", "nothing"] | None = None
    """What a model is shown of poses (x, y, heading): a first-person picture of this (height,
    width), the "pose" itself, or "nothing". Histories hold the poses."""
    seen: int | None = None
    """How many of the discrete coordinates, from the first, a model and a Gymnasium user are shown;
    the others are for sources alone. Histories hold them all. None: all."""
    dtype: Literal["float32", "uint8"] = "float32"
    """Of observations that are no coordinates: "uint8" for pictures, 0 to 255."""

    def __post_init__(self):
        self._as_integers()
        sizes = self.cardinality or self.shape or ()
        view, coordinates = self.view, len(self.cardinality or ())
        requirements = {
            f"`horizon` must be 1 to 2^31 - 1 steps, got {self.horizon}; try horizon=20": (
                1 <= self.horizon < 2**31
            ),
            f"`n_actions` must be 2 to 256 (actions are stored as bytes), got {self.n_actions}": (
                2 <= self.n_actions <= 256
            ),
            "give exactly one of `cardinality`, such as (9, 9) for discrete coordinates, and "
            f"`shape`, such as (4,) for a real vector; got {self.cardinality} and {self.shape}": (
                (self.cardinality is None) != (self.shape is None)
            ),
            f"`cardinality` or `shape` must be 1 to 1,024 sizes of 1 to 2^31, got {sizes}": (
                0 < len(sizes) <= 1024 and 1 <= min(sizes) <= max(sizes) <= 2**31
            ),
            f"`view` needs poses (x, y, heading), shape (3,), got {self.shape}": (
                view is None or self.shape == (3,)
            ),
            f'`view` must be (height, width), "pose" or "nothing", got {view!r}': (
                view in (None, "pose", "nothing") or (not isinstance(view, str) and len(view) == 2)
            ),
            f"`seen` must be 1 to the {coordinates} discrete coordinates, got {self.seen}": (
                self.seen is None or 1 <= self.seen <= coordinates
            ),
            f'`dtype` must be "float32", or "uint8" for pictures, got {self.dtype!r}': (
                self.dtype == "float32" or (self.dtype == "uint8" and self.shape and view is None)
            ),
        }
        for sentence, met in requirements.items():
            if not met:
                raise ValueError(sentence)

    def _as_integers(self) -> None:
        for name in ("n_actions", "horizon", "seen", "cardinality", "shape", "view"):
            given = getattr(self, name)
            if given is None or (isinstance(given, str) and name == "view"):
                continue
            single = name in ("n_actions", "horizon", "seen")
            try:
                whole = operator.index(given) if single else tuple(map(operator.index, given))
            except TypeError:
                raise ValueError(f"`{name}` must be whole numbers, got {given!r}") from None
            object.__setattr__(self, name, whole)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self.shape if self.cardinality is None else (len(self.cardinality),)

    @property
    def shown(self) -> tuple[int, ...]:
        """Sizes of the discrete coordinates that a model is shown: `obs[..., :len(shown)]`."""
        return (self.cardinality or ())[: self.seen]

    @property
    def obs_dtype(self) -> np.dtype:
        """Dtype in which observations are stored: the smallest that holds them."""
        if self.cardinality is None:
            return np.dtype(self.dtype)
        most = max(self.cardinality)
        return np.dtype(np.uint8 if most <= 2**8 else np.int16 if most <= 2**15 else np.int32)

    def layout(self, n: int, episodes: int) -> dict[str, tuple[tuple[int, ...], type]]:
        """Return the shape and dtype of every array of the histories of n lifetimes."""
        episode, step = (n, episodes), (n, episodes, self.horizon)
        per_step = {"action": np.uint8, "reward": np.float32, "terminated": bool, "truncated": bool}
        obs = {"obs": ((*step, *self.obs_shape), self.obs_dtype)}
        final = {"final_obs": ((*episode, *self.obs_shape), self.obs_dtype)}
        return obs | {name: (step, dtype) for name, dtype in per_step.items()} | final

    def empty(
        self, n: int, episodes: int, labels: Mapping[str, tuple] | None = None
    ) -> dict[str, np.ndarray]:
        """Return zeros for the histories of n lifetimes and the `labels` of an `Agent`."""
        axes = {"lifetime": (n,), "episode": (n, episodes), "step": (n, episodes, self.horizon)}
        layout = self.layout(n, episodes)
        for name, (per, dtype, *shape) in (labels or {}).items():
            layout[name] = (*axes[per], *shape), dtype
        return {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}

    @cached_property
    def greatest(self) -> np.ndarray:
        """The greatest value of each discrete coordinate."""
        return np.subtract(self.cardinality, 1)

    @property
    def n_observations(self) -> int:
        """Number of distinct observations."""
        if self.cardinality is None:
            raise ValueError(
                f"{self.name} has real-valued observations; a tabular learner needs discrete ones"
            )
        return math.prod(self.cardinality)

    def index(self, obs: np.ndarray) -> np.ndarray:
        """Return the flat index (N,) of discrete observations (N, coordinates), row-major."""
        return np.ravel_multi_index(tuple(np.moveaxis(np.asarray(obs), -1, 0)), self.cardinality)


class OutOfSpace(ValueError):
    """A value of a world that its space does not hold, in lifetime `row` of those that acted.

    `collect` adds the task, the lifetime and `at`, its episode and step; an episode `begins` at
    step -1.
    """

    def __init__(self, row: int, sentence: str):
        super().__init__(sentence)
        self.row, self.at, self.begins = int(row), (0, -1), False


class Step(NamedTuple):
    """An environment's answer to N actions."""

    obs: np.ndarray
    """(N, *obs_shape): the observation after the action, also at the end of an episode."""
    reward: np.ndarray
    """(N,) float32."""
    terminated: np.ndarray
    """(N,) bool: the task ended the episode."""
    truncated: np.ndarray
    """(N,) bool: the time limit ended it; values still bootstrap."""


class Transition(NamedTuple):
    """One step of N lifetimes, as a learner sees it."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_obs: np.ndarray
    next_allowed: np.ndarray | None = None
    """(N, A) bool: actions allowed after the step, where the world forbids some."""


class Env(Protocol):
    """A family of tasks and their dynamics. `step` is pure: the old state is still usable.

    Six methods are optional, and `hasattr` finds them (and `steps_in_place = True` says that only
    the newest state can be stepped). `tables(tasks)` returns the `Tables` of a gridworld.
    `optimal_returns(tasks)` returns the optimum (N,) where there are no tables. Where something
    outlasts an episode, `next_episode(state, tasks, rng)` is called in place of `reset` from a
    lifetime's second episode on. `task(...)` returns one task, for `gymnasium.make`. Where a state
    holds something open, `end_lifetimes(state)` closes it. Where some actions are forbidden,
    `allowed_actions(state)` returns which are not, (N, A) bool, at least one in every row.
    """

    spec: EnvSpec

    def tasks(self) -> Tasks:
        """Return every task of the family, in a fixed order."""

    def reset(self, tasks: Tasks, rng: Rng) -> tuple[State, np.ndarray]:
        """Start an episode in N lifetimes, row n on tasks[n]: state, observations (N, *obs_shape).

        A state is a named tuple of arrays, one row per lifetime.
        """

    def step(self, state: State, tasks: Tasks, action: np.ndarray, rng: Rng) -> tuple[State, Step]:
        """Take N actions."""


class Learner(Protocol):
    """N lifetimes of an agent, learning. Row n may depend on nothing but row n's own past."""

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Return actions (N,) for observations (N, *obs_shape).

        `first` (N,) marks the rows in which an episode begins. A learner for worlds that forbid
        actions has a third argument, `allowed=None`: (N, A) bool.
        """

    def update(self, transition: Transition) -> None:
        """Learn from the result of the last actions."""


class Agent(Protocol):
    """A frozen dataclass of hyperparameters: its own config.

    Four methods are optional, and `hasattr` finds them. `prepare(lifetimes)` returns the agent for
    these lifetimes and their tasks, whose columns may have changed: `Optimal` learns the tasks,
    `Shards` stocks the jars. `simulate(lifetimes, arrays)` fills `arrays`, zeros as
    `EnvSpec.empty` makes them, with whole lifetimes, or returns False if it cannot here; an agent
    with `start` must give the same bytes as its learners. `labels(spec)` returns each label's
    ("lifetime", dtype), ("episode", dtype) or ("step", dtype, *shape); its learners then have a
    method `labels()`, read after every `act`: {name: (N,) or (N, *shape)}. `part(rows)` returns the
    agent of some lifetimes, to send to a worker, where it holds something for each.
    """

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> Learner:
        """Return N learners without experience, one per row of `rng`.

        Each learns for `episodes` episodes: schedules are fractions of them.
        """


@dataclass(frozen=True)
class Lifetimes:
    """N lifetimes that `collect` asks an agent for."""

    env: Env
    tasks: Tasks
    """N tasks, one per lifetime."""
    rng: Rng
    """The N agents' randomness."""
    env_rng: Rng
    """The environment's randomness in the N lifetimes."""
    episodes: int
    """Episodes of each lifetime."""
    every: int
    """One in this many episodes is kept; see `stored_at`."""


def stored_at(episode, every):
    """Return where an episode is stored when one in `every` is kept; -1 if it is not kept.

    Plain arithmetic, so that it serves numbers, arrays and compiled code.
    """
    return (episode // every + 1) * (episode % every == 0) - 1
