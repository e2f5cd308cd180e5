"""adkit's environments in Gymnasium: `gymnasium.make("adkit/DarkRoom-v0")`."""

from __future__ import annotations

import math
from dataclasses import fields
from inspect import Parameter, signature
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from adkit import envs
from adkit.envs import pixels
from adkit.protocols import Env, Tasks
from adkit.seeds import Rng

CELL = 24  # pixels of a cell in a picture
FLOOR, AGENT = (235, 235, 235), (230, 120, 30)
THINGS = (60, 160, 90), (70, 110, 200), (150, 90, 180)  # colours of a task's places, in order


def make(name: str, render_mode: str | None = None, **settings: Any) -> GymnasiumEnv:
    """Return what `gymnasium.make("adkit/NAME-v0", **settings)` asks for.

    `settings` are fields of the environment and columns of the task. Without the latter, `reset`
    draws a task by its seed. Episodes end after `horizon` steps; `max_episode_steps` can only
    shorten them.
    """
    family = getattr(envs, name)
    own = [each.name for each in fields(family)]
    env = family(**{name: settings.pop(name) for name in own if name in settings})
    if not hasattr(env, "task"):
        raise ValueError(f"adkit/{name}-v0 needs a method task(...) that returns one task")
    columns, arguments = Tasks.of(env.tasks()).columns, signature(env.task).parameters
    task = {name: given for name, given in arguments.items() if name in columns}
    needed = {name for name, given in task.items() if given.default in (Parameter.empty, None)}
    if settings and not needed <= set(settings) <= set(task):
        raise ValueError(
            f"adkit/{name}-v0 takes its task as {sorted(task)} and the fields {own}; got "
            f"{settings} for the task"
        )
    return GymnasiumEnv(env, env.task(**settings) if settings else None, render_mode)


class GymnasiumEnv(gymnasium.Env):
    """One task of an adkit environment as a Gymnasium environment; shows what a model is shown.

    Without a task, a `reset` with a seed draws one, and so does the first.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, env: Env, task: Tasks | None, render_mode: str | None = None):
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"`render_mode` must be None or 'rgb_array', got {render_mode!r}")
        spec = env.spec
        self.env, self.task, self.render_mode = env, task, render_mode
        self.family = None if task is not None else Tasks.of(env.tasks())
        self.state, self.action = None, None
        self.action_space = spaces.Discrete(spec.n_actions)
        if spec.cardinality:
            self.observation_space = spaces.MultiDiscrete(spec.shown, dtype=spec.obs_dtype)
        elif isinstance(spec.view, tuple) or spec.obs_dtype == np.uint8:
            shape = spec.shape if spec.view is None else (*spec.view, 3)
            self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        else:
            low, high = getattr(env, "bounds", (-np.inf, np.inf))
            self.observation_space = spaces.Box(low, high, spec.shape, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.rng, self.t = Rng(np.array([self.np_random.integers(2**63)], np.uint64)), 0
        if self.family is not None and (seed is not None or self.task is None):
            self.task = self.family[int(self.np_random.integers(len(self.family)))]
        self.close()
        self.state, self.obs = self.env.reset(self.task, self.rng.at(0))
        self.action = None
        return self._shown(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        draws, self.action = self.rng.at(self.t), int(action)
        self.state, step = self.env.step(self.state, self.task, np.array([action]), draws)
        self.obs, reward, terminated, truncated = step
        self.t += 1
        return self._shown(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> np.ndarray | None:
        """Return a picture (H, W, 3): cells, the agent and the task's places; or the arm pulled."""
        if self.render_mode is None:
            return None
        spec, obs = self.env.spec, self.obs[0]
        if spec.view is not None:
            return pixels.render(obs, pixels.LARGEST)
        if spec.cardinality is None:
            return obs if spec.obs_dtype == np.uint8 else np.zeros((CELL, CELL, 3), np.uint8)
        size, at = (spec.n_actions, 1), (-1 if self.action is None else self.action, 0)
        if "home" in self.task.columns:  # the first coordinate counts the cells of a square
            size = (math.isqrt(spec.cardinality[0]),) * 2
            at = divmod(int(obs[0]), size[0])
        elif len(spec.cardinality) == 2:
            size, at = spec.cardinality, obs.tolist()
        cells = np.full((*size[::-1], 3), FLOOR, np.uint8)
        places = [v[0] for v in self.task.columns.values() if v.shape[1:] == (2,) and size[1] > 1]
        for (x, y), colour in zip(places, THINGS):  # noqa: B905
            cells[int(y), int(x)] = colour
        picture = cells.repeat(CELL, 0).repeat(CELL, 1)
        if at[0] >= 0:
            x, y = (CELL * np.array(at) + CELL // 4).tolist()
            picture[y : y + CELL // 2, x : x + CELL // 2] = AGENT
        return picture

    def close(self) -> None:
        """Close what the environment keeps open, if it is one of Gymnasium's."""
        if self.state is not None and hasattr(self.env, "end_lifetimes"):
            self.env.end_lifetimes(self.state)
        self.state = None

    def _shown(self) -> np.ndarray:
        """Return what a model is shown of `obs` (1, *obs_shape), all that the world shows."""
        obs, view = self.obs[0], self.env.spec.view
        if isinstance(view, tuple):
            return pixels.render(obs, view)
        return np.zeros_like(obs) if view == "nothing" else obs[: self.env.spec.seen]
