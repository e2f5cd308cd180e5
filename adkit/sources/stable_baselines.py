"""The algorithms of Stable-Baselines3 (Raffin et al. 2021) as sources. Needs the extra `rl`.

Stable-Baselines3 has a training loop of its own. It therefore runs the lifetimes itself, one after
the other, and the environment it is given records them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch

from adkit._lazy import extra
from adkit.envs.registered import GymnasiumEnv
from adkit.histories import PER_STEP
from adkit.protocols import Env, Lifetimes, OutOfSpace, Tasks, stored_at
from adkit.rollout import check_values
from adkit.seeds import Rng
from adkit.sharding import progress

DISCRETE = ("A2C", "DQN", "PPO")
ONE_AT_A_TIME = Lock()  # Stable-Baselines3 draws from generators that belong to the whole process


@dataclass(frozen=True, init=False)
class StableBaselines3:
    """An algorithm of Stable-Baselines3 with its own settings, such as
    `StableBaselines3("PPO", n_steps=128, batch_size=64)`.

    Every lifetime is a model of its own that learns from scratch on the CPU. Schedules of its
    settings, such as DQN's exploration, run over `episodes * horizon` steps.
    """

    algorithm: str
    """"A2C", "DQN" or "PPO", which act in discrete spaces."""
    policy: str
    """"MlpPolicy", or "CnnPolicy" for pictures."""
    settings: dict[str, Any]
    """The algorithm's other settings."""

    def __init__(self, algorithm: str, policy: str = "MlpPolicy", **settings: Any):
        if algorithm not in DISCRETE:
            raise ValueError(
                f"`algorithm` must be one of {', '.join(DISCRETE)}, which act in discrete spaces, "
                f"got {algorithm!r}"
            )
        for name in {"env", "seed"} & settings.keys():
            raise ValueError(f"give `{name}` to ad.collect, not to StableBaselines3")
        for name, value in (("algorithm", algorithm), ("policy", policy), ("settings", settings)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value!r}" for name, value in self.settings.items())
        return f"StableBaselines3({self.algorithm!r}, {self.policy!r}{settings})"

    def simulate(self, lifetimes: Lifetimes, arrays: dict[str, np.ndarray]) -> bool:
        """Run whole lifetimes, one after the other."""
        env, episodes = lifetimes.env, lifetimes.episodes
        steps = episodes * env.spec.horizon  # the most that a lifetime can have
        count = range(len(lifetimes.tasks))
        sb3 = extra("stable_baselines3", "rl", f'StableBaselines3("{self.algorithm}")')
        make = getattr(sb3, self.algorithm)
        for n in progress(count, desc=self.algorithm, unit="lifetime", delay=2):
            record = {name: values[n] for name, values in arrays.items()}
            draws = lifetimes.env_rng[[n]]
            world = RecordedEnv(env, lifetimes.tasks[[n]], draws, record, lifetimes.every)
            settings = {"device": "cpu", "seed": int(lifetimes.rng[[n]].integers(2**31)[0])}
            with ONE_AT_A_TIME, _own_randomness(), _watched(world, n):
                learner = make(self.policy, world, **settings | self.settings)
                learner.set_logger(sb3.common.logger.Logger(None, []))  # else it makes a folder
                learner.learn(steps, callback=lambda *_, world=world: world.episode < episodes)
        return True


class RecordedEnv(GymnasiumEnv):
    """One lifetime's environment, which keeps one episode in `every` in arrays (E, H, ...)."""

    def __init__(self, env: Env, task: Tasks, rng: Rng, record: dict[str, np.ndarray], every: int):
        super().__init__(env, task)
        self.rng, self.record, self.every, self.t, self.episode = rng, record, every, 0, 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
        draws, self.time = self.rng.at(self.t), -1
        if self.episode and hasattr(self.env, "next_episode"):
            self.state, self.obs = self.env.next_episode(self.state, self.task, draws)
        else:
            self.state, self.obs = self.env.reset(self.task, draws)
        self.time = 0
        check_values(self.env.spec, self.obs, np.zeros(1))
        return self._shown(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        before = self.obs[0]
        shown, *outcome, about = super().step(action)
        check_values(self.env.spec, self.obs, np.array(outcome[:1]))
        episode = stored_at(self.episode, self.every)
        if 0 <= episode < len(self.record["obs"]):
            for name, value in zip(PER_STEP, (before, action, *outcome), strict=True):
                self.record[name][episode, self.time] = value
            self.record["final_obs"][episode] = self.obs[0]
        self.time += 1
        self.episode += outcome[1] or outcome[2]
        return shown, *outcome, about


@contextmanager
def _watched(world: RecordedEnv, row: int) -> Iterator[None]:
    """Say in errors when they came, and close the world in the end."""
    try:
        yield
    except OutOfSpace as error:
        error.row, error.at = row, (world.episode, world.time)
        raise
    finally:
        world.close()


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Give the process its random numbers back afterwards.

    One thread, so that sums are rounded alike on every machine.
    """
    before, threads = (random.getstate(), np.random.get_state()), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(before[0])
        np.random.set_state(before[1])
