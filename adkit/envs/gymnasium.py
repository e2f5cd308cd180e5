"""Gymnasium's environments in adkit: `from_gymnasium`."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from adkit import tables
from adkit.envs.instances import Maker, Registered, TaskAs, look
from adkit.envs.spaces import Observations, actions
from adkit.protocols import Env, EnvSpec, OutOfSpace, Step, Tasks
from adkit.seeds import Rng

SAMPLES = 3000  # of all tasks' worlds, to compare them with their tables; enough for Taxi


def from_gymnasium(
    world: str | Registered | Callable[..., gymnasium.Env],
    tasks: Sequence[dict] | None = None,
    horizon: int | None = None,
    *,
    task_as: TaskAs = "argument",
    wrappers: Sequence[Callable[[gymnasium.Env], gymnasium.Env]] = (),
    bins: int | None = None,
    masks: bool | None = None,
    **settings: Any,
) -> Env:
    """Return other people's worlds as one adkit environment.

    `world` is a Gymnasium id or EnvSpec, or whatever makes an Env: a class, a function, a partial.
    `tasks` are dicts with the same keys, one per task. They reach the world as constructor
    arguments, as `reset(options=...)`, or, with one key, as the seed of every reset (`task_as`).
    `settings` are constructor arguments of all tasks, `wrappers` go around each world in their
    order. `horizon` replaces the world's own time limit. `bins` cuts real-valued actions.

    A lifetime has one instance, seeded once and closed at the end. Observations are described at
    `adkit.envs.spaces.Observations`, actions at `actions`; the widest of the tasks' spaces serves.
    A world with transition tables (`P`, as FrozenLake and Taxi have) is run, compiled and solved
    from them if stepping it agrees. Of any other only the newest state can be stepped. There,
    `info["action_mask"]` says which actions are allowed; `masks=False` leaves it out, `masks=True`
    steps a world for it that has tables. Raises ValueError for what cannot be read, before the
    first step.
    """
    given = list(tasks) if tasks is not None else [{}]
    _check(given, task_as, wrappers, bins)
    columns = {name: _Column.of([task[name] for task in given]) for name in given[0]}
    if task_as == "seed" and [column.cells.dtype for column in columns.values()] != [int]:
        raise ValueError(f'task_as="seed" needs tasks like {{"seed": 3}}, got {given[0]}')
    make = Maker(world, settings, tuple(wrappers), horizon, task_as)
    looked_at = given if task_as == "argument" else given[:1]  # each may have spaces of its own
    samples = max(50, SAMPLES // len(looked_at))
    seen = [look(make, looked_at[0], samples, masks)]
    seen += [look(make, task, samples, masks=False) for task in looked_at[1:]]
    name, space = seen[0].name, seen[0].action_space
    if masks and not seen[0].masked:
        raise ValueError(f'masks=True, but {name} gives no info["action_mask"] after a reset')
    if odd := [each.action_space for each in seen if each.action_space != space]:
        raise ValueError(f"the tasks of {name} have different action spaces, {space} and {odd[0]}")
    observations = Observations.of(name, [each.observation_space for each in seen])
    choices = actions(name, space, bins)
    horizon = max(each.limit for each in seen) if horizon is None else horizon
    spec = EnvSpec(name, len(choices), horizon, **observations.fields)
    cells = {name: column.cells for name, column in columns.items()}
    family = Tasks(cells or {"variant": np.zeros(len(given), int)})
    tabular = task_as == "argument" and all(each.tabular for each in seen)
    stepped = MaskedGymnasium if seen[0].masked else SteppedGymnasium
    kind = TabularGymnasium if tabular else stepped
    return kind(make, columns, family, spec, observations, choices, masks is None)


def _check(tasks: list, task_as: TaskAs, wrappers: Sequence, bins: int | None) -> None:
    """Raise ValueError for arguments of `from_gymnasium` that no world could mend."""
    if task_as not in ("argument", "options", "seed"):
        raise ValueError(f'`task_as` must be "argument", "options" or "seed", got {task_as!r}')
    if callable(wrappers) or not all(map(callable, wrappers)):
        raise ValueError(f"`wrappers` must be a list of classes or functions, got {wrappers!r}")
    if bins is not None and (not isinstance(bins, int) or bins < 2):
        raise ValueError(f"`bins` must be a whole number of at least 2, got {bins!r}")
    if not tasks or not all(isinstance(task, dict) for task in tasks):
        raise ValueError(f"`tasks` must be dicts, one per task, got {tasks!r:.200}")
    if odd := [i for i, task in enumerate(tasks) if set(task) != set(tasks[0])]:
        keys = f"the first has {sorted(tasks[0])}, number {odd[0]} has {sorted(tasks[odd[0]])}"
        raise ValueError(f"`tasks` must be dicts with the same keys; {keys}")


# ---- values of tasks ----


@dataclass(frozen=True, eq=False)
class _Column:
    """One parameter of the tasks: the cells of a `Tasks` column, and the values they stand for."""

    cells: np.ndarray
    """(n, ...) the values as an array, or their text where no array holds them: None, dicts."""
    values: dict[str, Any]
    """The value as it was given, by its cell's text."""

    @staticmethod
    def of(given: list) -> _Column:
        written = np.array([repr(value) for value in given])
        try:
            cells = np.array(given)
        except ValueError:  # lists of different lengths
            cells = written
        for kept in (cells, written) if cells.dtype.kind in "biufU" else (written,):
            values = dict(zip(map(_text, kept), given, strict=True))
            if all(repr(values[_text(c)]) == w for c, w in zip(kept, written, strict=True)):
                break  # else they look alike, as 1 and True, or (0, 1) and [0, 1]
        return _Column(kept, values)

    def value(self, cell: np.ndarray) -> Any:
        """Return the value as it was given; a new one comes as the others are."""
        if (text := _text(cell)) in self.values:
            return self.values[text]
        like = type(next(iter(self.values.values())))
        if self.cells.dtype.kind == "U" and like is not str:
            raise ValueError(f"no task was made with {cell}; there are {list(self.values)}")
        return tuple(cell.tolist()) if like is tuple else cell.tolist()


def _text(cell: np.ndarray) -> str:
    return repr(cell.tolist())


# ---- environments ----


@dataclass(frozen=True, eq=False, repr=False)
class _Gymnasium:
    """A family of Gymnasium environments: how they are made, and their tasks."""

    make: Maker
    columns: dict[str, _Column]
    family: Tasks
    spec: EnvSpec
    observations: Observations
    actions: tuple
    watched: bool
    """Whether a mask that nobody will read is an error."""

    def tasks(self) -> Tasks:
        return self.family

    def task_of(self, tasks: Tasks, row: int) -> dict:
        """Return what the world of one of the tasks is given."""
        return {name: column.value(tasks[name][row]) for name, column in self.columns.items()}

    def __repr__(self) -> str:
        tasks, horizon, settings = len(self.family), self.spec.horizon, self.make.settings
        return f"from_gymnasium({self.spec.name!r}, {tasks} tasks, horizon={horizon}, {settings})"


class TabularGymnasium(_Gymnasium, tables.Tabular):
    """A Gymnasium environment run from its table `P[s][a] = [(p, s', r, terminated), ...]`."""

    def tables(self, tasks: Tasks) -> tables.Tables:
        found = [self._table(self.task_of(tasks, row)) for row in range(len(tasks))]
        most = max(table.shape[-1] for table, _ in found)
        full = [np.pad(t, [(0, 0)] * 3 + [(0, most - t.shape[-1])]) for t, _ in found]
        probability, next_state, reward, terminated = np.stack(full, axis=1)
        start, seen = np.stack([first for _, first in found]), np.arange(self.spec.n_observations)
        return tables.tables(
            self.spec, next_state, reward, seen[:, None], start, terminated > 0, probability
        )

    def _table(self, task: dict) -> tuple[np.ndarray, np.ndarray]:
        """Return the outcomes (4, S, A, K) of a task's world, and its first states (S,)."""
        env, states = self.make(task), self.spec.n_observations
        try:
            world, actions = env.unwrapped, range(self.spec.n_actions)
            outcomes = [[world.P[s][a] for a in actions] for s in range(len(world.P))]
            table = np.zeros(
                (4, states, len(actions), max(len(k) for row in outcomes for k in row))
            )
            table[0, len(outcomes) :, :, 0] = 1  # states of the other tasks' larger worlds
            for s, row in enumerate(outcomes):
                for a, each in enumerate(row):
                    table[:, s, a, : len(each)] = np.transpose(each)
            first = np.asarray(world.initial_state_distrib, float)
            return table, np.pad(first, (0, states - len(first)))
        finally:
            env.close()


class _World:
    """An instance in use; it is closed when asked, or when nothing refers to it any more."""

    def __init__(self, env: gymnasium.Env, task: dict):
        self.env, self.task, self.time = env, task, 0
        self.close = weakref.finalize(self, env.close)


class SteppedState(NamedTuple):
    """N Gymnasium environments (N,), and the steps that each had taken at this state (N,)."""

    env: np.ndarray
    time: np.ndarray
    mask: np.ndarray
    """(N, A) bool: the actions that are allowed; (N, 0) where all always are."""


class SteppedGymnasium(_Gymnasium):
    """A Gymnasium environment that must be stepped: one instance per lifetime."""

    steps_in_place = True

    def reset(self, tasks: Tasks, rng: Rng) -> tuple[SteppedState, np.ndarray]:
        return self._begin(np.full(len(tasks), None), tasks, rng)

    def next_episode(
        self, state: SteppedState, tasks: Tasks, rng: Rng
    ) -> tuple[SteppedState, np.ndarray]:
        """Reset the instances, without a seed; a task that has changed gets a new one."""
        return self._begin(state.env, tasks, rng)

    def _begin(self, old: np.ndarray, tasks: Tasks, rng: Rng) -> tuple[SteppedState, np.ndarray]:
        worlds, answers, made = np.empty(len(tasks), object), [], []
        try:
            for row, seed in enumerate(rng.integers(2**31, 8)):
                task, world = self.task_of(tasks, row), old[row]
                if world is None or repr(world.task) != repr(task):
                    world = _World(self.make(task), task)
                    made.append(world)
                else:
                    seed = None
                world.time, worlds[row] = 0, world
                answers.append(self.make.begin(world.env, task, seed))
            obs = self._read([raw for raw, _ in answers])
            mask = self._masks(answers, np.zeros(len(tasks), bool))
        except BaseException:
            for world in made:
                world.close()
            raise
        return SteppedState(worlds, np.zeros(len(tasks), int), mask), obs

    def step(
        self, state: SteppedState, tasks: Tasks, action: np.ndarray, rng: Rng
    ) -> tuple[SteppedState, Step]:
        n, answers = len(tasks), []
        action = tables.check_action(action, self.spec, n)
        reward, (terminated, truncated) = np.empty(n, np.float32), np.empty((2, n), bool)
        for i, world in enumerate(state.env):
            if world.time != state.time[i]:
                raise ValueError(f"only the newest state of {self.spec.name} can be stepped")
            world.time += 1
            chosen = copy.copy(self.actions[action[i]])
            try:
                answer = world.env.step(chosen)
            except Exception as error:
                error.add_note(f"in {self.spec.name}, task {world.task}, step {world.time}")
                raise
            if not (isinstance(answer, tuple) and len(answer) == 5):
                need = "(observation, reward, terminated, truncated, info)"
                raise OutOfSpace(i, f"`step` must return {need}, got {answer!r:.60}")
            raw, paid, over, cut, info = answer
            answers.append((raw, info))
            try:
                reward[i] = paid if isinstance(paid, float | int) else np.asarray(paid).item()
            except (TypeError, ValueError):
                raise OutOfSpace(i, f"rewards must be one number, got {paid!r:.60}") from None
            terminated[i], truncated[i] = bool(over), bool(cut) or world.time == self.spec.horizon
        obs = self._read([raw for raw, _ in answers])
        step = Step(obs, reward, terminated, truncated & ~terminated)
        mask = self._masks(answers, terminated | truncated)
        return SteppedState(state.env, state.time + 1, mask), step

    def end_lifetimes(self, state: SteppedState) -> None:
        """Close the instances of N lifetimes."""
        for world in state.env:
            world.close()

    def _read(self, raw: list) -> np.ndarray:
        return self.observations.read(raw).astype(self.spec.obs_dtype, copy=False)

    def _masks(self, answers: list[tuple[Any, dict]], done: np.ndarray) -> np.ndarray:
        """Return (N, A) bool, the actions that are allowed next; (N, 0) where all always are."""
        for row, (_, info) in enumerate(answers):
            if self.watched and "action_mask" in info:
                why = 'info["action_mask"] comes after some steps and not after the first reset'
                raise OutOfSpace(row, f"{why}: give it there too, or leave it out, masks=False")
        return np.ones((len(answers), 0), bool)


class MaskedGymnasium(SteppedGymnasium):
    """A Gymnasium environment whose `info["action_mask"]` says which actions are allowed."""

    def allowed_actions(self, state: SteppedState) -> np.ndarray:
        """Return (N, A) bool."""
        return state.mask

    def _masks(self, answers: list[tuple[Any, dict]], done: np.ndarray) -> np.ndarray:
        masks = np.ones((len(answers), self.spec.n_actions), bool)
        for row in np.flatnonzero(~done):  # after the last step nothing is chosen
            mask = np.asarray(answers[row][1].get("action_mask", ()))
            if mask.shape != masks[row].shape or not mask.any():
                need = f"must have {masks.shape[1]} flags, one an action, and allow one at least"
                raise OutOfSpace(row, f'info["action_mask"] {need}, got {str(mask)[:60]}')
            masks[row] = mask
        return masks
