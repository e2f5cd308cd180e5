"""Gymnasium, both ways: adkit's environments by `gymnasium.make`, and Gymnasium's in adkit.

`import adkit` registers every environment, so that
`gymnasium.make("adkit/DarkRoom-v0", goal=(3, 4))` works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from inspect import Parameter, signature
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from adkit import envs, tables
from adkit.envs import pixels
from adkit.protocols import Env, EnvSpec, Step, Tasks
from adkit.seeds import Rng

# ---- adkit -> Gymnasium ----


def make(name: str, **settings: Any) -> GymnasiumEnv:
    """Return what `gymnasium.make("adkit/NAME-v0", **settings)` asks for.

    `settings` are fields of the environment and columns of the task.
    """
    family = getattr(envs, name)
    own = [each.name for each in fields(family)]
    env = family(**{name: settings.pop(name) for name in own if name in settings})
    columns, arguments = env.tasks().columns, signature(env.task).parameters
    task = {name: given for name, given in arguments.items() if name in columns}
    needed = {name for name, given in task.items() if given.default in (Parameter.empty, None)}
    if not needed <= set(settings) <= set(task):
        raise ValueError(
            f"adkit/{name}-v0 takes its task as {sorted(task)} and the fields {own}; got "
            f"{settings} for the task"
        )
    return GymnasiumEnv(env, env.task(**settings))


class GymnasiumEnv(gymnasium.Env):
    """One task of an adkit environment as a Gymnasium environment; shows what a model is shown."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, env: Env, task: Tasks):
        spec = env.spec
        self.env, self.task = env, task
        self.action_space = spaces.Discrete(spec.n_actions)
        if spec.cardinality:
            self.observation_space = spaces.MultiDiscrete(spec.shown, dtype=spec.obs_dtype)
        elif isinstance(spec.view, tuple):
            self.observation_space = spaces.Box(0, 255, (*spec.view, 3), np.uint8)
        else:
            low, high = getattr(env, "bounds", (-np.inf, np.inf))
            self.observation_space = spaces.Box(low, high, spec.shape, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.rng, self.t = Rng(np.array([self.np_random.integers(2**63)], np.uint64)), 0
        self.state, self.obs = self.env.reset(self.task, self.rng.at(0))
        return self._shown(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        draws = self.rng.at(self.t)
        self.state, step = self.env.step(self.state, self.task, np.array([action]), draws)
        self.obs, reward, terminated, truncated = step
        self.t += 1
        return self._shown(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def _shown(self) -> np.ndarray:
        """Return what a model is shown of `obs` (1, *obs_shape), all that the world shows."""
        obs, view = self.obs[0], self.env.spec.view
        if isinstance(view, tuple):
            return pixels.render(obs, view)
        return np.zeros_like(obs) if view == "nothing" else obs[: self.env.spec.seen]


# ---- Gymnasium -> adkit ----


def from_gymnasium(
    id: str, tasks: Sequence[dict] | None = None, horizon: int | None = None, **settings: Any
) -> Env:
    """Return any Gymnasium environment with discrete actions as an adkit environment.

    `tasks` are keyword arguments of `gymnasium.make`, one dict per task, all with the same keys;
    `settings` are those of all tasks; `horizon` replaces the environment's own time limit.
    Environments that publish transition tables (`.unwrapped.P`, as FrozenLake and Taxi do) are run,
    compiled and solved from them. Of others only the newest state can be stepped.
    """
    tasks = [{"variant": 0}] if tasks is None else tasks
    if not tasks or any(set(task) != set(tasks[0]) for task in tasks):
        raise ValueError(f"`tasks` must be dicts with the same keys, one per task, got {tasks}")
    columns = Tasks({name: np.array([task[name] for task in tasks]) for name in tasks[0]})
    example = _make(id, settings, columns[0])
    family = TabularGymnasium if hasattr(example.unwrapped, "P") else SteppedGymnasium
    return family(id, settings, columns, *_spec(example, horizon))


def _make(id: str, settings: dict, task: Tasks) -> gymnasium.Env:
    given = {name: values[0].tolist() for name, values in task.columns.items() if name != "variant"}
    try:
        return gymnasium.make(id, disable_env_checker=True, **settings, **given)
    except (gymnasium.error.Error, TypeError) as error:
        raise ValueError(
            f"Gymnasium cannot make {id!r}: {error} gymnasium.pprint_registry() lists all"
        ) from error


def _spec(env: gymnasium.Env, horizon: int | None) -> tuple[EnvSpec, np.ndarray]:
    """Return the spec, and the least values of discrete observations, which adkit counts from 0."""
    id, observed, start = env.spec.id, env.observation_space, np.zeros(1, int)
    limit = env.spec.max_episode_steps if horizon is None else horizon
    if limit is None:
        raise ValueError(f"{id} has no time limit; give `horizon`, the most steps of an episode")
    if not isinstance(env.action_space, spaces.Discrete):
        raise ValueError(f"{id} has actions {env.action_space}; adkit needs Discrete ones")
    if isinstance(observed, spaces.Discrete):
        sizes, start = {"cardinality": (int(observed.n),)}, np.array([observed.start])
    elif isinstance(observed, spaces.MultiDiscrete) and observed.nvec.ndim == 1:
        sizes, start = {"cardinality": observed.nvec.tolist()}, np.asarray(observed.start)
    elif isinstance(observed, spaces.Box):
        sizes = {"shape": observed.shape or (1,)}
    else:
        raise ValueError(
            f"{id} has observations {observed}; adkit reads Discrete, MultiDiscrete and Box. Wrap "
            "the environment, for instance with gymnasium.wrappers.FlattenObservation, and "
            "register the wrapped one"
        )
    return EnvSpec(id, env.action_space.n, limit, **sizes), start


@dataclass(frozen=True, eq=False, repr=False)
class _Gymnasium:
    """A family of Gymnasium environments: an id with settings, and its tasks."""

    id: str
    settings: dict
    columns: Tasks
    spec: EnvSpec
    start: np.ndarray

    def tasks(self) -> Tasks:
        return self.columns

    def __repr__(self) -> str:
        tasks, horizon = len(self.columns), self.spec.horizon
        return f"from_gymnasium({self.id!r}, {tasks} tasks, horizon={horizon}, {self.settings})"


class TabularGymnasium(_Gymnasium, tables.Tabular):
    """A Gymnasium environment run from its table `P[s][a] = [(p, s', r, terminated), ...]`."""

    def tables(self, tasks: Tasks) -> tables.Tables:
        envs = [_make(self.id, self.settings, task).unwrapped for task in tasks]
        states, actions = self.spec.n_observations, self.spec.n_actions
        pairs = [(s, a) for s in range(states) for a in range(actions)]
        outcomes = max(len(env.P[s][a]) for env in envs for s, a in pairs)
        table = np.zeros((4, len(envs), states, actions, outcomes))
        for i, env in enumerate(envs):
            for s, a in pairs:
                for k, outcome in enumerate(env.P[s][a]):
                    table[:, i, s, a, k] = outcome
        probability, next_state, reward, terminated = table
        start, seen = np.array([env.initial_state_distrib for env in envs]), np.arange(states)
        return tables.tables(
            self.spec, next_state, reward, seen[:, None], start, terminated > 0, probability
        )


class SteppedState(NamedTuple):
    """N Gymnasium environments (N,), and the steps that each had taken at this state (N,)."""

    env: np.ndarray
    time: np.ndarray


class SteppedGymnasium(_Gymnasium):
    """A Gymnasium environment that must be stepped: one instance per lifetime and episode."""

    steps_in_place = True

    def reset(self, tasks: Tasks, rng: Rng) -> tuple[SteppedState, np.ndarray]:
        envs = np.empty(len(tasks), object)
        obs = np.empty((len(tasks), *self.spec.obs_shape), self.spec.obs_dtype)
        for n, (task, seed) in enumerate(zip(tasks, rng.integers(2**31, 8), strict=True)):
            envs[n] = _make(self.id, self.settings, task)
            envs[n].adkit_time = 0
            obs[n] = self._observe(envs[n].reset(seed=int(seed))[0])
        return SteppedState(envs, np.zeros(len(tasks), int)), obs

    def step(
        self, state: SteppedState, tasks: Tasks, action: np.ndarray, rng: Rng
    ) -> tuple[SteppedState, Step]:
        n = len(tasks)
        obs = np.empty((n, *self.spec.obs_shape), self.spec.obs_dtype)
        reward, (terminated, truncated) = np.empty(n, np.float32), np.empty((2, n), bool)
        for i, env in enumerate(state.env):
            if env.adkit_time != state.time[i]:
                raise ValueError(f"only the newest state of {self.spec.name} can be stepped")
            env.adkit_time += 1
            raw, reward[i], terminated[i], truncated[i], _ = env.step(int(action[i]))
            obs[i] = self._observe(raw)
            truncated[i] |= env.adkit_time == self.spec.horizon
        step = Step(obs, reward, terminated, truncated & ~terminated)
        return SteppedState(state.env, state.time + 1), step

    def _observe(self, raw: Any) -> np.ndarray:
        """Return a raw observation in the shape and dtype of the spec."""
        raw = np.asarray(raw) if self.spec.cardinality is None else np.asarray(raw) - self.start
        return raw.reshape(self.spec.obs_shape).astype(self.spec.obs_dtype)
