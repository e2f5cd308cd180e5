"""Other people's worlds: how one is made, and what is seen of it before it is used."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
from gymnasium import wrappers as official
from gymnasium.envs.registration import EnvSpec as Registered

HARMLESS = official.TimeLimit, official.OrderEnforcing, official.PassiveEnvChecker
TaskAs = Literal["argument", "options", "seed"]


@dataclass(frozen=True, eq=False)
class Maker:
    """How the world of a task is made, and started."""

    world: str | Registered | Callable
    settings: dict
    wrappers: tuple
    horizon: int | None
    task_as: TaskAs

    def __call__(self, task: dict) -> gymnasium.Env:
        given = self.settings | (copy.deepcopy(task) if self.task_as == "argument" else {})
        try:
            if isinstance(self.world, str | Registered):
                env = gymnasium.make(self.world, disable_env_checker=True, **given)
            elif callable(self.world):
                env = self.world(**given)
            else:
                raise TypeError("give an id, an EnvSpec, a class, or a function that makes it")
        except (gymnasium.error.Error, TypeError) as error:
            known = "; gymnasium.pprint_registry() lists all ids"
            hint = (
                known if isinstance(self.world, str) else "; tasks and keywords are its arguments"
            )
            said = str(error).rstrip(".")
            raise ValueError(f"Gymnasium cannot make {self.name!r}: {said}{hint}") from error
        if not isinstance(env, gymnasium.Env):
            raise ValueError(f"{self.name} must make a gymnasium.Env, got {type(env).__name__}")
        try:
            for wrap in self.wrappers:
                inner, env = env, wrap(env)
                if not isinstance(env, gymnasium.Env):
                    env, given = inner, type(env).__name__
                    raise ValueError(f"`wrappers` must each return a gymnasium.Env, got {given}")
            for each in _layers(env):
                if isinstance(each, official.TimeLimit) and self.horizon is not None:
                    each._max_episode_steps = self.horizon
        except BaseException:
            env.close()
            raise
        return env

    def begin(self, env: gymnasium.Env, task: dict, seed: int | None) -> tuple[Any, dict]:
        """Begin an episode; the world gets a seed in a lifetime's first one only."""
        if self.task_as == "seed":
            (seed,) = task.values()
        options = {"options": copy.deepcopy(task)} if self.task_as == "options" else {}
        answer = env.reset(**({} if seed is None else {"seed": int(seed)}), **options)
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict)):
            need = f"`reset` of {self.name} must return (observation, info)"
            raise ValueError(f"{need}, got {answer!r:.60}")
        return answer

    @property
    def name(self) -> str:
        world = getattr(self.world, "func", self.world)  # of a partial
        return getattr(world, "id", getattr(world, "__name__", str(world)))


def _layers(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
    """Yield a world's wrappers, the outermost first, and then the world itself."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


class Look(NamedTuple):
    """What one instance shows before it is used."""

    name: str
    observation_space: gymnasium.Space
    action_space: gymnasium.Space
    limit: int
    tabular: bool
    masked: bool


def look(make: Maker, task: dict, samples: int, masks: bool | None) -> Look:
    """Make the world of a task, and say what it is; `masks` are described at `from_gymnasium`."""
    env = make(task)
    try:
        registered = isinstance(make.world, str | Registered) and env.spec is not None
        name = env.spec.id if registered else make.name
        limits = [e._max_episode_steps for e in _layers(env) if isinstance(e, official.TimeLimit)]
        if make.horizon is None and not limits:
            raise ValueError(
                f"{name} has no time limit; give `horizon`, the most steps of an episode"
            )
        masked = masks is not False and "action_mask" in make.begin(env, task, 0)[1]
        argument = make.task_as == "argument" and not (masked and masks)
        tabular = argument and _is_its_table(env, samples)
        spaces = env.observation_space, env.action_space
        return Look(name, *spaces, min(limits, default=0), tabular, masked)
    finally:
        env.close()


def _is_its_table(env: gymnasium.Env, samples: int) -> bool:
    """Return whether stepping gives what `P[s][a] = [(p, s', r, terminated), ...]` says.

    A sample is some action in some state; every 50th is a walk from the start. Chances are
    compared by the outcomes' ranks, which are uniform if they are right (Kolmogorov and Smirnov).
    """
    *around, world = _layers(env)
    spaces = env.observation_space, env.action_space
    plain = all(type(s) is gymnasium.spaces.Discrete and s.start == 0 for s in spaces)
    if not plain or any(type(each) not in HARMLESS for each in around):
        return False
    (states, actions), rng, ranks = (int(s.n) for s in spaces), np.random.default_rng(0), []
    try:
        first = np.asarray(world.initial_state_distrib, float)
        pairs = rng.permutation(states * actions)[:samples]
        for i, pair in enumerate(np.resize(pairs, max(len(pairs), min(samples, 1000)))):
            (s, a), walks = divmod(int(pair), actions), i % 50 == 0
            began, _ = world.reset(seed=None if i else 0)
            if walks:
                s = began
                ranks.append(_rank(first, np.arange(states) == began, rng))
            else:
                world.s = s
            for _ in range(50 if walks else 1):
                chance, *outcomes = zip(*world.P[s][a], strict=True)
                s, reward, over, cut, _ = world.step(a)
                told = [each == (s, reward, over) for each in zip(*outcomes, strict=True)]
                if cut or not np.dot(chance, told) > 0:
                    return False
                if len(chance) > 1:
                    ranks.append(_rank(np.array(chance), np.array(told), rng))
                if over:
                    break
                a = int(rng.integers(actions))
    except Exception:  # whatever an attribute raises that only has the right name
        return False
    even = (np.arange(len(ranks)) + 0.5) / len(ranks)
    return np.abs(np.sort(ranks) - even).max() < 2.5 / np.sqrt(len(ranks))


def _rank(chance: np.ndarray, told: np.ndarray, rng: np.random.Generator) -> float:
    """Return where the outcome lies among all, in (0, 1): uniform if chances are right."""
    above = np.cumsum(chance * told)
    k = np.searchsorted(above, rng.random() * above[-1], side="right")
    return chance[:k].sum() + chance[k] * rng.random()
