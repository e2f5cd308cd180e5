"""The whole extension surface: what an environment, an agent and a learner are. Read this first.

Everything is batch-first: N lifetimes act in lock step, one row each. There is nothing to inherit from; a class that
has these methods *is* an environment or an agent, and `adkit.testing` says whether it keeps the contract.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from adkit.tasks import Tasks

if TYPE_CHECKING:
    from adkit.seeds import Rng

State = Any  # whatever an environment needs to go on; opaque to everyone else


@dataclass(frozen=True)
class EnvSpec:
    """What an agent may know about an environment before it acts: shapes and cardinalities, never the task."""

    name: str
    """Gymnasium-style id of the family, such as "DarkRoom"."""
    n_actions: int
    """Actions are the integers 0 .. n_actions - 1."""
    horizon: int
    """Most steps in an episode."""
    cardinality: tuple[int, ...] | None = None
    """Values per observation coordinate, (9, 9) for a 9x9 room; None if observations are real vectors."""
    shape: tuple[int, ...] | None = None
    """Shape of a real-valued observation; leave None when `cardinality` is given."""
    view: tuple[int, int] | Literal["pose", "nothing"] | None = None
    """What a model is shown where observations are poses (x, y, heading): the (height, width) of a first-person picture, the
    "pose" itself, or "nothing". Histories hold the poses whichever it is. None where observations are no poses."""
    seen: int | None = None
    """How many of the discrete coordinates, from the first, a model (and a Gymnasium user) is shown; the others only a source
    feels. None: all. Histories hold them whichever it is."""

    def __post_init__(self):
        for name in ("horizon", "n_actions"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        if not isinstance(self.name, str):
            raise ValueError(f"name={self.name!r}: a family of environments is named by text.")
        if not 1 <= self.horizon < 2**31:
            raise ValueError(
                f"horizon={self.horizon}: an episode needs at least one step, and ends. Try horizon=20."
            )
        if not 2 <= self.n_actions <= 256:
            raise ValueError(
                f"n_actions={self.n_actions}: adkit stores actions as uint8, so 2 to 256 are allowed."
            )
        if (self.cardinality is None) == (self.shape is None):
            raise ValueError(
                f"cardinality={self.cardinality}, shape={self.shape}: give exactly one of them - cardinality=(9, 9) "
                "for discrete coordinates, shape=(4,) for a real vector."
            )
        for name in ("cardinality", "shape"):
            if (sizes := getattr(self, name)) is not None:
                sizes = tuple(_whole(name, n) for n in sizes)
                object.__setattr__(self, name, sizes)
                if not sizes or min(sizes) < 1:
                    raise ValueError(
                        f"{name}={sizes}: every entry must be at least 1, and there must be one."
                    )
                if len(sizes) > 1024 or max(sizes) > 2**31:
                    raise ValueError(
                        f"{name} has {len(sizes)} entries up to {max(sizes)}: 1,024 entries up to 2^31 are allowed."
                    )
        if self.view is not None:
            if self.shape != (3,):
                raise ValueError(
                    f"view={self.view!r}, shape={self.shape}: only poses (x, y, heading), shape=(3,), can be viewed."
                )
            if self.view not in ("pose", "nothing"):
                if isinstance(self.view, str) or np.shape(self.view) != (2,):
                    raise ValueError(
                        f'view={self.view!r}; give (height, width), "pose" or "nothing".'
                    )
                object.__setattr__(self, "view", tuple(_whole("view", n) for n in self.view))
        if self.seen is not None:
            object.__setattr__(self, "seen", _whole("seen", self.seen))
        if self.seen is not None and not (
            self.cardinality and 1 <= self.seen <= len(self.cardinality)
        ):
            raise ValueError(
                f"seen={self.seen}, cardinality={self.cardinality}: of discrete coordinates the first 1 to all can be seen."
            )

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self.shape if self.cardinality is None else (len(self.cardinality),)

    @property
    def shown(self) -> tuple[int, ...]:
        """Values of each discrete coordinate that a model is shown: its observations are `obs[..., :len(shown)]`."""
        return (self.cardinality or ())[: self.seen]

    @property
    def obs_dtype(self) -> np.dtype:
        """Dtype observations are stored in: the smallest that holds them."""
        if self.cardinality is None:
            return np.dtype(np.float32)
        return np.dtype(np.uint8 if max(self.cardinality) <= 256 else np.int16)

    def empty(
        self, n: int, episodes: int, labels: Mapping[str, tuple] | None = None
    ) -> dict[str, np.ndarray]:
        """Arrays of histories for n lifetimes to fill, (N, E, H, ...) per step; `labels` as `Labels` gives them."""
        axes = {"lifetime": (n,), "episode": (n, episodes), "step": (n, episodes, self.horizon)}
        per_step = {
            "action": np.uint8,
            "reward": np.float32,
            "terminated": np.bool_,
            "truncated": np.bool_,
        }
        arrays = {"obs": np.zeros((*axes["step"], *self.obs_shape), self.obs_dtype)}
        arrays |= {name: np.zeros(axes["step"], dtype) for name, dtype in per_step.items()}
        arrays |= {"final_obs": np.zeros((*axes["episode"], *self.obs_shape), self.obs_dtype)}
        for name, (per, dtype, *shape) in (labels or {}).items():
            if per not in axes or (shape and per != "step"):
                raise ValueError(
                    f'label {name!r} is per {per!r} and of shape {tuple(shape)}; only one per "step" has a shape, and others are '
                    'numbers per "lifetime" or "episode".'
                )
            arrays[name] = np.zeros((*axes[per], *shape), dtype)
        return arrays

    @property
    def n_observations(self) -> int:
        """Number of distinct observations; an error says so when they are not discrete."""
        if self.cardinality is None:
            raise ValueError(
                f"{self.name} has real-valued observations; a tabular learner needs discrete ones."
            )
        return int(np.prod(self.cardinality))

    def index(self, obs: np.ndarray) -> np.ndarray:
        """Flat index (N,) of discrete observations (N, coordinates), row-major."""
        return np.ravel_multi_index(tuple(np.moveaxis(np.asarray(obs), -1, 0)), self.cardinality)


def _whole(name: str, value) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name}={value!r}: give whole numbers.") from None


class Step(NamedTuple):
    """What an environment answers to N actions."""

    obs: np.ndarray
    """(N, *obs_shape): the observation after the action, also when the episode just ended."""
    reward: np.ndarray
    """(N,) float32."""
    terminated: np.ndarray
    """(N,) bool: the task itself ended the episode."""
    truncated: np.ndarray
    """(N,) bool: the clock ended it; values still bootstrap."""


class Transition(NamedTuple):
    """One step of N lifetimes, as a learner sees it."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_obs: np.ndarray


@runtime_checkable
class Env(Protocol):
    """A family of tasks and their dynamics. `step` is pure: the old state is still usable.

    Three methods are optional, and `hasattr` finds them. `tables(tasks)` returns `adkit.tables.Tables`.
    `optimal_returns(tasks)` returns the optimum (N,) of an environment without tables. An
    environment in which something outlasts an episode has `next_episode(state, tasks, rng)`: it is
    called in place of `reset` from a lifetime's second episode on.
    """

    spec: EnvSpec

    def tasks(self) -> Tasks:
        """Return every task of the family, in a fixed order."""

    def reset(self, tasks: Tasks, rng: Rng) -> tuple[State, np.ndarray]:
        """Start an episode in N lifetimes, row n on tasks[n].

        Return the state, a tuple of arrays with a row per lifetime, and observations (N, *obs_shape).
        """

    def step(self, state: State, tasks: Tasks, action: np.ndarray, rng: Rng) -> tuple[State, Step]:
        """Take N actions."""


@runtime_checkable
class Learner(Protocol):
    """N lifetimes of an agent, learning. Row n may depend on nothing but row n's own past."""

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Return actions (N,) for observations (N, *obs_shape).

        `first` (N,) marks the rows in which an episode begins.
        """

    def update(self, transition: Transition) -> None:
        """Learn from the result of the last actions."""


@runtime_checkable
class Agent(Protocol):
    """A frozen dataclass of hyperparameters: its own config."""

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


# An agent may also have one or more of these methods. `collect` finds each with `isinstance`.


@runtime_checkable
class Prepares(Protocol):
    """An agent that needs to know the lifetimes before they begin, or sets up their worlds.

    `Optimal` learns the tasks, `PosteriorSampling` the family of tasks; `Shards` stocks the jars.
    """

    def prepare(self, lifetimes: Lifetimes) -> tuple[Agent, Tasks]:
        """Return the agent for these lifetimes, and their tasks, in which columns may have changed."""


@runtime_checkable
class Simulates(Protocol):
    """An agent that simulates whole lifetimes itself: compiled, or because its loop is its own."""

    def simulate(self, lifetimes: Lifetimes, arrays: dict[str, np.ndarray]) -> bool:
        """Fill `arrays`, zeros as `EnvSpec.empty` makes them; return False if this is impossible here.

        An agent with `start` must give the same bytes as its learners.
        """


@runtime_checkable
class Labels(Protocol):
    """An agent whose learners label their histories: arrays in `Histories` that no model reads."""

    def labels(self, spec: EnvSpec) -> Mapping[str, tuple]:
        """Return each label's ("lifetime", dtype), ("episode", dtype) or ("step", dtype, *shape).

        Its learners have a method `labels()`, called after every `act`: by name, (N,) or (N, *shape).
        """


@runtime_checkable
class Parts(Protocol):
    """An agent that holds something for each lifetime, such as the prompts of `InContext`."""

    def part(self, rows: np.ndarray) -> Agent:
        """Return the agent of some lifetimes, to send to a worker."""


def stored_at(episode, every):
    """Return where an episode is stored when one in `every` is kept; -1 if it is not kept.

    Plain arithmetic, so that it serves numbers, arrays and compiled code.
    """
    return (episode // every + 1) * (episode % every == 0) - 1
