"""The whole extension surface: what an environment, an agent and a learner are. Read this first.

Everything is batch-first: N lifetimes act in lock step, one row each. There is nothing to inherit from; a class that
has these methods *is* an environment or an agent, and `adkit.testing` says whether it keeps the contract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from adkit.seeds import Rng
    from adkit.tables import Tables, Trace

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

    def __post_init__(self):
        if self.horizon < 1:
            raise ValueError(f"horizon={self.horizon}: an episode needs at least one step. Try horizon=20.")
        if not 2 <= self.n_actions <= 256:
            raise ValueError(f"n_actions={self.n_actions}: adkit stores actions as uint8, so 2 to 256 are allowed.")
        if (self.cardinality is None) == (self.shape is None):
            raise ValueError(
                f"cardinality={self.cardinality}, shape={self.shape}: give exactly one of them - cardinality=(9, 9) "
                "for discrete coordinates, shape=(4,) for a real vector."
            )
        for name in ("cardinality", "shape"):
            if (sizes := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(int(n) for n in sizes))
                if not sizes or min(sizes) < 1:
                    raise ValueError(f"{name}={sizes}: every entry must be at least 1, and there must be one.")
        if self.view is not None:
            if self.shape != (3,):
                raise ValueError(f"view={self.view!r}, shape={self.shape}: only poses (x, y, heading), shape=(3,), can be viewed.")
            if self.view not in ("pose", "nothing"):
                if isinstance(self.view, str) or np.shape(self.view) != (2,):
                    raise ValueError(f'view={self.view!r}; give (height, width), "pose" or "nothing".')
                object.__setattr__(self, "view", tuple(int(n) for n in self.view))

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self.shape if self.cardinality is None else (len(self.cardinality),)

    @property
    def obs_dtype(self) -> np.dtype:
        """Dtype observations are stored in: the smallest that holds them."""
        if self.cardinality is None:
            return np.dtype(np.float32)
        return np.dtype(np.uint8 if max(self.cardinality) <= 256 else np.int16)

    def empty(self, n: int, episodes: int, labels: Mapping[str, tuple] | None = None) -> dict[str, np.ndarray]:
        """Arrays of histories for n lifetimes to fill, (N, E, H, ...) per step; `labels` as `LabellingAgent` gives them."""
        axes = {"lifetime": (n,), "episode": (n, episodes), "step": (n, episodes, self.horizon)}
        per_step = {"action": np.uint8, "reward": np.float32, "terminated": np.bool_, "truncated": np.bool_}
        arrays = {"obs": np.zeros((*axes["step"], *self.obs_shape), self.obs_dtype)}
        arrays |= {name: np.zeros(axes["step"], dtype) for name, dtype in per_step.items()}
        arrays |= {"final_obs": np.zeros((*axes["episode"], *self.obs_shape), self.obs_dtype)}
        return arrays | {name: np.zeros((*axes[per], *shape), dtype) for name, (per, dtype, *shape) in (labels or {}).items()}

    @property
    def n_observations(self) -> int:
        """Number of distinct observations; an error says so when they are not discrete."""
        if self.cardinality is None:
            raise ValueError(f"{self.name} has real-valued observations; a tabular learner needs discrete ones.")
        return int(np.prod(self.cardinality))

    def index(self, obs: np.ndarray) -> np.ndarray:
        """Flat index (N,) of discrete observations (N, coordinates), row-major."""
        return np.ravel_multi_index(tuple(np.moveaxis(np.asarray(obs), -1, 0)), self.cardinality)


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


@dataclass(frozen=True, eq=False)
class Tasks:
    """Tasks as values: named columns, one row per task. They slice and index like an array."""

    columns: Mapping[str, np.ndarray]
    """Each (n, ...); `goal` is (n, 2) in a room."""
    ids: np.ndarray = field(default=None)
    """(n,) the task's number in its family, kept through slicing and splitting: it addresses the task's randomness."""

    def __post_init__(self):
        columns = {name: np.asarray(values) for name, values in self.columns.items()}
        sizes = {name: len(values) for name, values in columns.items()}
        if not columns or len(set(sizes.values())) != 1:
            raise ValueError(f"columns of sizes {sizes}: tasks need at least one column, all with one row per task.")
        ids = np.arange(len(_first(columns))) if self.ids is None else np.asarray(self.ids, np.int64)
        if len(ids) != len(_first(columns)):
            raise ValueError(f"{len(ids)} ids for {len(_first(columns))} tasks; give one id per task.")
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "ids", ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows) -> np.ndarray | Tasks:
        """A column by name, or tasks by integer, slice, mask or index array."""
        if isinstance(rows, str):
            if rows not in self.columns:
                raise ValueError(f"tasks have no column {rows!r}; the columns are {sorted(self.columns)}.")
            return self.columns[rows]
        rows = np.arange(len(self))[rows]
        rows = np.atleast_1d(rows)
        return Tasks({name: values[rows] for name, values in self.columns.items()}, self.ids[rows])

    def __iter__(self) -> Iterator[Tasks]:
        return (self[i] for i in range(len(self)))

    def unique(self) -> tuple[Tasks, np.ndarray]:
        """The distinct tasks, and which of them each row is: (tasks, row (n,))."""
        text = [repr([values[i].tolist() for values in self.columns.values()]) for i in range(len(self))]
        _, first, row = np.unique(text, return_index=True, return_inverse=True)
        return self[first], row

    def replace(self, **columns) -> Tasks:
        """The same tasks with some columns changed: how a goal moves in mid-lifetime."""
        return Tasks({**self.columns, **columns}, self.ids)

    def split(self, fraction: float, seed: int = 0, by: Sequence[str] = ()) -> tuple[Tasks, Tasks]:
        """A random, disjoint (train, test) pair with `fraction` of the tasks in the first; both keep family order.

        With `by`, values are held out instead: `by=("key", "door")` keeps a `fraction` of all values found in these columns
        for training; train has tasks made of those alone, test has tasks made of the others alone, the mixed are in neither.
        """
        rng = np.random.default_rng(seed)
        if by:
            values = [self[name].reshape(len(self), -1) for name in by]
            unique, of = np.unique(np.concatenate(values), axis=0, return_inverse=True)
            kept = np.zeros(len(unique), bool)
            kept[rng.permutation(len(unique))[: round(fraction * len(unique))]] = True
            inside = kept[of.reshape(len(by), len(self))]
            train, test = self[inside.all(0)], self[~inside.any(0)]
        else:
            order, n = rng.permutation(len(self)), max(0, round(fraction * len(self)))
            train, test = self[np.sort(order[:n])], self[np.sort(order[n:])]
        if not len(train) or not len(test):
            raise ValueError(
                f"split({fraction}) of {len(self)} tasks leaves {len(train)} and {len(test)}; both sides need at least one. "
                f"Try a fraction between {1 / len(self):.2g} and {1 - 1 / len(self):.2g}."
            )
        return train, test

    @property
    def frame(self) -> pd.DataFrame:
        """The tasks as a pandas frame indexed by task id; vector columns hold tuples."""
        import pandas as pd

        as_cell = {
            name: [_tuple(row) for row in values.tolist()] if values.ndim > 1 else values for name, values in self.columns.items()
        }
        return pd.DataFrame(as_cell, index=pd.Index(self.ids, name="task"))

    @staticmethod
    def of(tasks: Tasks | pd.DataFrame) -> Tasks:
        """Tasks from tasks or from the frame that `Histories.tasks` shows."""
        if isinstance(tasks, Tasks):
            return tasks
        if hasattr(tasks, "columns") and hasattr(tasks, "index"):
            return Tasks({name: np.array(tasks[name].tolist()) for name in tasks.columns}, tasks.index.to_numpy())
        raise ValueError(f"tasks is a {type(tasks).__name__}; give env.tasks(), a slice of it, or a task frame.")

    def __repr__(self) -> str:
        return f"Tasks({len(self)} x {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        return self.frame.to_html(max_rows=10)


def _first(columns: Mapping[str, Sequence]) -> Sequence:
    return next(iter(columns.values()))


def _tuple(value):
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


@runtime_checkable
class Env(Protocol):
    """A family of tasks and their dynamics. `step` is pure: the old state is still usable."""

    spec: EnvSpec

    def tasks(self) -> Tasks:
        """Every task of the family, in a fixed order."""

    def reset(self, tasks: Tasks, rng: Rng) -> tuple[State, np.ndarray]:
        """Start an episode in N lifetimes, row n on tasks[n]: state and first observations (N, *obs_shape)."""

    def step(self, state: State, tasks: Tasks, action: np.ndarray, rng: Rng) -> tuple[State, Step]:
        """Take N actions. An environment may also offer `tables(tasks) -> Tables`; see adkit.tables."""


@runtime_checkable
class Learner(Protocol):
    """N lifetimes of an agent, learning. Row n may depend on nothing but row n's own past."""

    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Actions (N,) for observations (N, *obs_shape); `first` (N,) marks rows where an episode opens."""

    def update(self, transition: Transition) -> None:
        """Learn from what the last actions did."""


@runtime_checkable
class Agent(Protocol):
    """A frozen dataclass of hyperparameters: its own config. `start` gives it N fresh lives."""

    def start(self, spec: EnvSpec, rng: Rng) -> Learner:
        """N learners that remember nothing, one per row of `rng`."""


class TabularAgent(Agent, Protocol):
    """An agent that can also live whole lifetimes over tables, compiled; bit for bit what its learner does."""

    def live(self, spec: EnvSpec, tables: Tables, task: np.ndarray, rng: Rng, env_rng: Rng, trace: Trace) -> None:
        """Fill `trace`, lifetime n living on the tables' row task[n]."""


class InformedAgent(Agent, Protocol):
    """An agent that is told more than an agent may know - the optimum, the posterior sampler's family of rooms.

    `collect` calls `informed(env, tasks)` once, with the N lifetimes' tasks, and runs the agent it returns.
    """

    def informed(self, env: Env, tasks: Tasks) -> Agent: ...


class DrivingAgent(Protocol):
    """An agent that runs whole lifetimes itself, because its loop is its own. It needs no `start`."""

    def drives(self, env: Env) -> bool:
        """Whether it does so in this environment."""

    def drive(self, env: Env, tasks: Tasks, rng: Rng, env_rng: Rng, episodes: int, every: int) -> dict[str, np.ndarray]:
        """The arrays of `Histories` for N lifetimes, as `EnvSpec.empty(N, -(-episodes // every))` makes them, filled."""
