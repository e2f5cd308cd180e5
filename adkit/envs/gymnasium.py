"""The door to Gymnasium, both ways: adkit's environments by `gymnasium.make`, any discrete-action environment in adkit.

The only file that imports gymnasium. `import adkit` registers every environment, so that
`gymnasium.make("adkit/DarkRoom-v0", goal=(3, 4))` works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from adkit.protocols import Env, EnvSpec, Step, Tasks

REGISTERED = {
    "AdversarialBandit": "adkit.envs.bandit",
    "CookieWorld": "adkit.cookieworld.world",
    "DarkKeyToDoor": "adkit.envs.key_to_door",
    "DarkRoom": "adkit.envs.dark_room",
    "Watermaze": "adkit.envs.watermaze",
}


def register() -> None:
    """Put every adkit environment in Gymnasium's registry, once."""
    for name in REGISTERED:
        if f"adkit/{name}-v0" not in gymnasium.registry:
            gymnasium.register(
                f"adkit/{name}-v0", entry_point="adkit.envs.gymnasium:make", kwargs={"name": name}
            )


# ---- adkit -> Gymnasium ----


def make(name: str, **settings: Any) -> GymnasiumEnv:
    """What `gymnasium.make("adkit/NAME-v0", **settings)` calls: environment fields and the task's columns, mixed."""
    family = getattr(import_module(REGISTERED[name]), name)
    config = {
        field.name: settings.pop(field.name) for field in fields(family) if field.name in settings
    }
    env = family(**config)
    known = {
        name: given
        for name, given in signature(env.task).parameters.items()
        if name in env.tasks().columns
    }
    needed = {name for name, given in known.items() if given.default in (Parameter.empty, None)}
    if needed - set(settings) or set(settings) - set(known):
        raise ValueError(
            f"adkit/{name}-v0 takes the task as {sorted(known)} and the fields "
            f"{[field.name for field in fields(family)]}; given as task: {settings}."
        )
    return GymnasiumEnv(env, env.task(**settings))


class GymnasiumEnv(gymnasium.Env):
    """One task of an adkit environment as a Gymnasium environment; a user is shown what a model is."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, env: Env, task: Tasks):
        from adkit.seeds import Rng

        spec = env.spec
        self.env, self.task, self._rng = env, task, Rng
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
        self.rng, self.t = self._rng(np.array([self.np_random.integers(2**63)], np.uint64)), 0
        self.state, obs = self.env.reset(self.task, self.rng.at(0))
        return self._shown(obs[0]), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.state, step = self.env.step(
            self.state, self.task, np.array([action]), self.rng.at(self.t)
        )
        self.t += 1
        return (
            self._shown(step.obs[0]),
            float(step.reward[0]),
            bool(step.terminated[0]),
            bool(step.truncated[0]),
            {},
        )

    def _shown(self, obs: np.ndarray) -> np.ndarray:
        view = self.env.spec.view
        if isinstance(view, tuple):
            from adkit.envs.pixels import render

            return render(obs, view)
        return np.zeros_like(obs) if view == "nothing" else obs[: self.env.spec.seen]


def spaces_of(spec: EnvSpec) -> tuple[spaces.Space, spaces.Discrete]:
    """The spaces of what histories hold: observations, whatever of them a model is shown, and actions."""
    if spec.cardinality:
        return spaces.MultiDiscrete(spec.cardinality), spaces.Discrete(spec.n_actions)
    return spaces.Box(-np.inf, np.inf, spec.shape, np.float32), spaces.Discrete(spec.n_actions)


# ---- Gymnasium -> adkit ----


def from_gymnasium(
    id: str, tasks: Sequence[dict] | None = None, horizon: int | None = None, **settings: Any
) -> Env:
    """Any discrete-action Gymnasium environment as an adkit one: `from_gymnasium("FrozenLake-v1", is_slippery=False)`.

    `tasks` are keyword arguments to `gymnasium.make`, one dict per task, all with the same keys; `horizon` replaces the
    environment's own time limit. Environments that publish transition tables (`.unwrapped.P`, as FrozenLake and Taxi do)
    are run, compiled and solved from them; others are stepped, and only their newest state can be stepped.
    """
    if tasks is not None and (not tasks or any(set(task) != set(tasks[0]) for task in tasks)):
        raise ValueError(
            f"tasks={tasks}: give a list of dicts with the same keys, one per task, or None."
        )
    columns = (
        {name: np.array([task[name] for task in tasks]) for name in tasks[0]}
        if tasks
        else {"variant": np.zeros(1, int)}
    )
    family = _Family(id, settings, Tasks(columns), horizon)
    return (
        TabularGymnasium(family)
        if hasattr(family.example.unwrapped, "P")
        else SteppedGymnasium(family)
    )


class _Family:
    """A Gymnasium id with settings, its tasks, and what its spaces mean to adkit."""

    def __init__(self, id: str, settings: dict, tasks: Tasks, horizon: int | None):
        self.id, self.settings, self.tasks = id, settings, tasks
        if horizon is not None and horizon < 1:
            raise ValueError(
                f"horizon={horizon}: an episode needs at least one step. Leave it out for the environment's own limit."
            )
        try:
            self.example = self.make(tasks[0])
        except (gymnasium.error.Error, TypeError) as error:
            raise ValueError(
                f"Gymnasium cannot make {id!r}: {error} gymnasium.pprint_registry() lists what there is."
            ) from error
        observed, limit = (
            self.example.observation_space,
            horizon or self.example.spec.max_episode_steps,
        )
        if limit is None:
            raise ValueError(
                f"{id} has no time limit of its own; pass horizon=, the most steps an episode may take."
            )
        if not isinstance(self.example.action_space, spaces.Discrete):
            raise ValueError(
                f"{id} has actions {self.example.action_space}; adkit needs Discrete ones."
            )
        self.offset = np.zeros(
            1, int
        )  # subtracted from discrete observations, which then start at 0
        if isinstance(observed, spaces.Discrete):
            sizes, self.offset = {"cardinality": (int(observed.n),)}, np.array([observed.start])
        elif isinstance(observed, spaces.MultiDiscrete) and observed.nvec.ndim == 1:
            sizes, self.offset = (
                {"cardinality": tuple(observed.nvec.tolist())},
                np.asarray(observed.start),
            )
        elif isinstance(observed, spaces.Box):
            sizes = {"shape": observed.shape or (1,)}
        else:
            raise ValueError(
                f"{id} has observations {observed}; adkit reads Discrete, MultiDiscrete and Box. Wrap the environment, "
                "for instance with gymnasium.wrappers.FlattenObservation, and register the wrapped one."
            )
        self.spec = EnvSpec(id, int(self.example.action_space.n), int(limit), **sizes)

    def make(self, task: Tasks) -> gymnasium.Env:
        given = {
            name: values[0].tolist() for name, values in task.columns.items() if name != "variant"
        }
        return gymnasium.make(self.id, disable_env_checker=True, **self.settings, **given)

    def observe(self, raw: Any) -> np.ndarray:
        """A raw observation in the shape and dtype that the spec says."""
        raw = np.asarray(raw) if self.spec.cardinality is None else np.asarray(raw) - self.offset
        return raw.reshape(self.spec.obs_shape).astype(self.spec.obs_dtype)

    def __repr__(self) -> str:
        return f"from_gymnasium({self.id!r}, {len(self.tasks)} tasks, horizon={self.spec.horizon}, {self.settings})"


class TabularGymnasium:
    """A Gymnasium environment run from its own transition table `P[s][a] = [(p, s', r, terminated), ...]`."""

    def __init__(self, family: _Family):
        self.family, self.spec = family, family.spec

    def tasks(self) -> Tasks:
        return self.family.tasks

    def tables(self, tasks: Tasks):
        from adkit.tables import tables

        envs = [self.family.make(task).unwrapped for task in tasks]
        states, actions = self.spec.n_observations, self.spec.n_actions
        outcomes = max(
            len(env.P[s][a]) for env in envs for s in range(states) for a in range(actions)
        )
        table = np.zeros(
            (4, len(envs), states, actions, outcomes)
        )  # probability, next state, reward, terminated
        for i, env in enumerate(envs):
            for s in range(states):
                for a in range(actions):
                    for k, outcome in enumerate(env.P[s][a]):
                        table[:, i, s, a, k] = outcome
        start = np.array([env.initial_state_distrib for env in envs])
        seen = np.arange(states)[:, None]
        return tables(
            self.spec,
            table[1],
            table[2],
            seen,
            start,
            terminated=table[3] > 0,
            probability=table[0],
        )

    def reset(self, tasks: Tasks, rng):
        from adkit.tables import reset

        return reset(self, tasks, rng)

    def step(self, state, tasks: Tasks, action: np.ndarray, rng):
        from adkit.tables import step

        return step(self, state, tasks, action, rng)

    def __repr__(self) -> str:
        return repr(self.family)


class SteppedState(NamedTuple):
    """N Gymnasium environments (N,) and how many steps each had taken when this state was current (N,)."""

    env: np.ndarray
    time: np.ndarray


class SteppedGymnasium:
    """A Gymnasium environment that must be stepped: one instance per lifetime and episode."""

    def __init__(self, family: _Family):
        self.family, self.spec = family, family.spec

    def tasks(self) -> Tasks:
        return self.family.tasks

    def reset(self, tasks: Tasks, rng) -> tuple[SteppedState, np.ndarray]:
        envs, obs = (
            np.empty(len(tasks), object),
            np.empty((len(tasks), *self.spec.obs_shape), self.spec.obs_dtype),
        )
        for n, (task, seed) in enumerate(zip(tasks, rng.integers(2**31, 8), strict=True)):
            envs[n] = self.family.make(task)
            envs[n].adkit_time = 0
            obs[n] = self.family.observe(envs[n].reset(seed=int(seed))[0])
        return SteppedState(envs, np.zeros(len(tasks), int)), obs

    def step(
        self, state: SteppedState, tasks: Tasks, action: np.ndarray, rng
    ) -> tuple[SteppedState, Step]:
        n = len(tasks)
        step = Step(
            np.empty((n, *self.spec.obs_shape), self.spec.obs_dtype),
            np.empty(n, np.float32),
            *np.empty((2, n), bool),
        )
        for i, env in enumerate(state.env):
            if env.adkit_time != state.time[i]:
                raise ValueError(
                    f"{self.spec.name} is stepped in place: only its newest state can be stepped, not an old one."
                )
            env.adkit_time += 1
            raw, reward, terminated, truncated, _ = env.step(int(action[i]))
            step.obs[i], step.reward[i], step.terminated[i] = (
                self.family.observe(raw),
                reward,
                terminated,
            )
            step.truncated[i] = not terminated and (
                truncated or env.adkit_time == self.spec.horizon
            )
        return SteppedState(state.env, state.time + 1), step

    def __repr__(self) -> str:
        return repr(self.family)
