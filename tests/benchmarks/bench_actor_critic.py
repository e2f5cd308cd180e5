"""Actor-critic steps per second on one core, and what they teach, against Stable-Baselines3's A2C
in the same room.

Needs Stable-Baselines3, which adkit itself does not: pip install -e '.[rl]'.
"""

from __future__ import annotations

import time

import gymnasium
import numpy as np
import pytest
import torch
from measure import compare, note, one_core, say

import adkit as ad

sb3 = pytest.importorskip(
    "stable_baselines3", reason="no Stable-Baselines3 to compare with: pip install -e '.[rl]'"
)

ENV = ad.envs.DarkRoom()
SIZE, HORIZON, EPISODES = ENV.size, ENV.spec.horizon, 500
TASKS = ENV.tasks()[[10, 24, 43]]  # at 6, 4 and 4 steps from the centre
LEARNERS = 256
SOURCE = ad.sources.ActorCritic()


class Room(gymnasium.Env):
    """The Dark Room in a few lines of plain Python, so that nothing but Stable-Baselines3 itself is
    timed against it.
    """

    observation_space, action_space = (
        gymnasium.spaces.MultiDiscrete([SIZE, SIZE]),
        gymnasium.spaces.Discrete(5),
    )
    moves = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))

    def __init__(self, goal: tuple[int, int]):
        self.goal, self.returns = tuple(goal), []

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        self.x = self.y = SIZE // 2
        self.time, self.total = 0, 0.0
        return np.array((self.x, self.y)), {}

    def step(self, action: int):
        dx, dy = self.moves[action]
        self.x, self.y = min(max(self.x + dx, 0), SIZE - 1), min(max(self.y + dy, 0), SIZE - 1)
        reward = float((self.x, self.y) == self.goal)
        self.total += reward
        self.time += 1
        if self.time == HORIZON:
            self.returns.append(self.total)
        return np.array((self.x, self.y)), reward, False, self.time == HORIZON, {}


def alike(seed: int, goal: tuple[int, int]) -> tuple[sb3.A2C, Room]:
    """Stable-Baselines3 with our hyperparameters and our network, as far as it has them (its critic
    is a network of its own).
    """
    room, c = Room(goal), SOURCE
    net = {
        "net_arch": [c.width] * c.layers,
        "activation_fn": torch.nn.ReLU,
        "optimizer_class": torch.optim.Adam,
    }
    learner = sb3.A2C(
        "MlpPolicy", room, learning_rate=c.lr, n_steps=c.unroll, gamma=c.gamma,
        gae_lambda=c.lam, ent_coef=c.entropy,
        vf_coef=c.value_weight, use_rms_prop=False, seed=seed, device="cpu",
        policy_kwargs=net | {"optimizer_kwargs": {"eps": 1e-6}},
    )  # fmt: skip
    return learner, room


def itself(seed: int, goal: tuple[int, int]) -> tuple[sb3.A2C, Room]:
    """Stable-Baselines3 as it comes."""
    room = Room(goal)
    return sb3.A2C("MlpPolicy", room, seed=seed, device="cpu"), room


def per_cpu_second(work) -> float:
    """Steps per second of processor time: what `work` says it did."""
    began = time.process_time()
    done = work()
    return done / (time.process_time() - began)


def ours() -> int:
    ad.collect(ENV, ENV.tasks()[:64], SOURCE, episodes=100, lifetimes=LEARNERS // 64)
    return LEARNERS * 100 * HORIZON


def in_lock_step() -> int:
    ad.collect(
        ENV, ENV.tasks()[:64], SOURCE, episodes=10, lifetimes=LEARNERS // 64, driver="batched"
    )
    return LEARNERS * 10 * HORIZON


def theirs() -> int:
    alike(0, (2, 2))[0].learn(2000)
    return 2000


def test_speed_against_stable_baselines():
    with one_core():
        compare(
            "A2C, 256 learners, one core",
            lambda: per_cpu_second(ours),
            lambda: per_cpu_second(theirs),
            asked=100,
        )
        compare(
            "the same in lock step",
            lambda: per_cpu_second(in_lock_step),
            lambda: per_cpu_second(theirs),
            None,
            repetitions=3,
        )


def test_it_learns_as_well_as_stable_baselines_at_equal_steps():
    """10,000 steps on each of three goals: the last 50 episodes, and all of them, with intervals
    over goals and learners.
    """
    with one_core():
        mine = ad.collect(ENV, TASKS, SOURCE, episodes=EPISODES, lifetimes=64).returns
        curves = {"Stable-Baselines3, our hyperparameters": [], "Stable-Baselines3, its own": []}
        for curve, make in zip(curves.values(), (alike, itself), strict=True):
            for seed, goal in enumerate(TASKS["goal"]):
                learner, room = make(seed, goal)
                learner.learn(EPISODES * HORIZON)
                curve.append([room.returns[:EPISODES]])
    for what, part in (("last 50 episodes", slice(-50, None)), ("all episodes", slice(None))):
        summary = lambda returns, part=part: np.asarray(returns)[:, :, part].mean(2)
        us = ad.stats.bootstrap(summary(mine))
        note(f"A2C after {EPISODES} episodes, return, {what}", us)
        for name, curve in curves.items():
            them = summary(curve)
            gap = ad.stats.bootstrap(summary(mine).mean(1, keepdims=True) - them)  # task by task
            say(
                f"{what}: {name} {them.mean():.2f}, "
                f"adkit is ahead by {gap.estimate:.2f} [{gap.low:.2f}, {gap.high:.2f}]"
            )
            assert gap.high >= 0, f"{name} learns better: by {-gap.estimate:.2f} over its {what}."
