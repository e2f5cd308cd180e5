"""The algorithms of Stable-Baselines3 (Raffin et al. 2021) as sources, in any environment. Needs the extra `rl`.

Stable-Baselines3 owns its loop, so it lives its lifetimes itself, one after the other, while the environment takes notes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from adkit._lazy import extra
from adkit.envs.gymnasium import GymnasiumEnv
from adkit.protocols import Env, Lifetimes, Tasks, stored_at
from adkit.seeds import Rng

DISCRETE, CONTINUOUS = ("A2C", "DQN", "PPO"), ("DDPG", "SAC", "TD3")
OURS = {
    "env": "collect(env, ...)",
    "seed": "collect(..., seed=)",
}  # settings that are not the algorithm's to choose
ONE_AT_A_TIME = Lock()  # Stable-Baselines3 draws from generators that belong to the whole process


@dataclass(frozen=True, init=False)
class StableBaselines3:
    """An algorithm of Stable-Baselines3 with its own settings: `StableBaselines3("PPO", n_steps=128, batch_size=64)`.

    Every lifetime is a model of its own, learning from nothing on the CPU. Where its settings follow a schedule, as DQN's
    exploration does, this runs over `episodes * horizon` steps: the most that can come. Raises ValueError for algorithms of
    continuous actions and for settings that there are not, ImportError where Stable-Baselines3 is not installed.
    """

    algorithm: str
    """"A2C", "DQN" or "PPO": those that act in discrete spaces."""
    policy: str
    """"MlpPolicy", or "CnnPolicy" for pictures."""
    settings: dict[str, Any]
    """What else the algorithm is made with."""

    def __init__(self, algorithm: str, policy: str = "MlpPolicy", **settings: Any):
        if algorithm not in DISCRETE:
            why = (
                "acts in continuous spaces, and adkit's environments have discrete actions"
                if algorithm in CONTINUOUS
                else "is none"
            )
            raise ValueError(f"algorithm={algorithm!r} {why}; choose one of {', '.join(DISCRETE)}.")
        for name in OURS.keys() & settings:
            raise ValueError(
                f"{name}={settings[name]!r}: this is given as {OURS[name]}, not to the source."
            )
        for name, value in (("algorithm", algorithm), ("policy", policy), ("settings", settings)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        policy = () if self.policy == "MlpPolicy" else (repr(self.policy),)
        return f"StableBaselines3({', '.join([repr(self.algorithm), *policy, *(f'{k}={v!r}' for k, v in self.settings.items())])})"

    def simulate(self, lifetimes: Lifetimes, arrays: dict[str, np.ndarray]) -> bool:
        """Run whole lifetimes, one after the other."""
        env, tasks, episodes = lifetimes.env, lifetimes.tasks, lifetimes.episodes
        for n in tqdm(range(len(tasks)), desc="lifetimes", disable=None, delay=2, mininterval=0.5):
            record = {name: values[n] for name, values in arrays.items()}
            life = Life(env, tasks[[n]], lifetimes.env_rng[[n]], record, lifetimes.every)
            with ONE_AT_A_TIME, _own_randomness():
                learner = self._learner(life, int(lifetimes.rng[[n]].integers(2**31)[0]))
                learner.learn(
                    episodes * env.spec.horizon,
                    callback=lambda *_, life=life: life.episode < episodes,
                )
        return True

    def _learner(self, life: Life, seed: int) -> Any:
        """A model that has learned nothing, and writes no log."""
        sb3 = extra("stable_baselines3", "rl", f'StableBaselines3("{self.algorithm}")')
        try:
            learner = getattr(sb3, self.algorithm)(
                self.policy, life, seed=seed, **{"device": "cpu", **self.settings}
            )
        except TypeError as error:
            raise ValueError(
                f"{self!r}: {error}; see help(stable_baselines3.{self.algorithm}) for its settings."
            ) from error
        learner.set_logger(
            sb3.common.logger.Logger(None, [])
        )  # else it makes a folder for every lifetime
        return learner


class Life(GymnasiumEnv):
    """One lifetime's world, drawn from its address, that keeps every k-th episode in `record`, arrays (E, H, ...)."""

    def __init__(self, env: Env, task: Tasks, rng: Rng, record: dict[str, np.ndarray], every: int):
        super().__init__(env, task)
        self.rng, self.record, self.every, self.t, self.episode = rng, record, every, 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        draws = self.rng.at(self.t)
        if self.episode and hasattr(self.env, "next_episode"):
            self.state, self.obs = self.env.next_episode(self.state, self.task, draws)
        else:
            self.state, self.obs = self.env.reset(self.task, draws)
        self.time = 0
        return self._shown(self.obs[0]), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        action = np.array([action], np.uint8)
        self.state, (after, reward, terminated, truncated) = self.env.step(
            self.state, self.task, action, self.rng.at(self.t)
        )
        episode = stored_at(self.episode, self.every)
        if 0 <= episode < len(self.record["obs"]):
            now = {
                "obs": self.obs,
                "action": action,
                "reward": reward,
                "terminated": terminated,
                "truncated": truncated,
            }
            for name, values in now.items():
                self.record[name][episode, self.time] = values[0]
            self.record["final_obs"][episode] = after[0]
        self.obs, self.time, self.t = after, self.time + 1, self.t + 1
        self.episode += int(terminated[0] | truncated[0])
        return self._shown(after[0]), float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Give the process its random numbers back afterwards; on one thread, so that sums are rounded alike on every machine."""
    import torch

    before, threads = (random.getstate(), np.random.get_state()), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(before[0])
        np.random.set_state(before[1])
