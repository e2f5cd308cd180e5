"""Recipes: settings that work for a world and source, from nothing to in-context learning.

    recipe = ad.recipes.RECIPES["key to door"]
    train, test = recipe.split(0)
    model, log = recipe.distil(recipe.histories(train, seed=0), seed=0)

All were chosen on split 100, whose held-out tasks are validation tasks; figures are reported on
splits 0, 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from adkit.envs import AdversarialBandit, DarkKeyToDoor, DarkRoom, Watermaze
from adkit.histories import Histories
from adkit.models.distill import Schedule, distill
from adkit.models.pretraining import distill_encoder, pretrain_encoder
from adkit.models.transformer import CausalTransformer
from adkit.protocols import Agent, Env, Tasks
from adkit.rollout import collect
from adkit.sources import UCB, GoalSearch, PoseQLearning, PosteriorSampling, QLearning

if TYPE_CHECKING:
    import pandas as pd

EYES = "end to end", "self-supervised", "pose teacher"


@dataclass(frozen=True)
class Recipe:
    """A world, its sources, and how a model is distilled; `dataclasses.replace` makes another."""

    env: Env
    sources: Mapping[Agent, int]
    """Lifetimes per training task of each source; the histories of several are mixed."""
    episodes: int
    """Per lifetime of a source."""
    every: int = 1
    """Keep one episode in this many."""
    share: float = 0.8
    """Share of the tasks that is for training."""
    held_out: tuple[str, ...] = ()
    """Columns whose values are held out, as in `Tasks.split(by=)`; () holds out tasks."""
    train_tasks: int | None = None
    """Train on at most this many tasks; None for all."""
    test_tasks: int = 256
    """Evaluate on at most this many."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `CausalTransformer`."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `distill`."""
    eye: Literal["end to end", "self-supervised", "pose teacher"] = "end to end"
    """How the encoder of pictures is trained: with the rest; before it, by `pretrain_encoder`; or,
    privileged, by `distill_encoder` from a model that sees poses."""

    def __post_init__(self):
        if self.eye not in EYES:
            raise ValueError(f"`eye` must be one of {', '.join(EYES)}, got {self.eye!r}")

    def split(self, seed: int) -> tuple[Tasks, Tasks]:
        """Return training and held-out tasks, drawn anew for each seed."""
        sides = self.env.tasks().split(self.share, seed, by=self.held_out)
        rng, most = np.random.default_rng((seed, 1)), (self.train_tasks, self.test_tasks)
        drawn = (np.sort(rng.permutation(len(s))[:n]) for s, n in zip(sides, most, strict=True))
        return tuple(side[rows] for side, rows in zip(sides, drawn, strict=True))

    def histories(self, tasks: Tasks, seed: int) -> Histories:
        """Return the sources' learning histories on these tasks."""
        parts = []
        for i, (source, n) in enumerate(self.sources.items()):
            how = {"episodes": self.episodes, "lifetimes": n, "every": self.every}
            parts.append(collect(self.env, tasks, source, **how, seed=seed + 1000 * i))
        return parts[0] if len(parts) == 1 else Histories.concatenate(parts)

    def distil(self, histories: Histories, seed: int) -> tuple[CausalTransformer, pd.DataFrame]:
        """Return a model of these histories, its window no longer than they are, and its log."""
        context = min(self.model.get("context", 200), histories.n_episodes * self.env.spec.horizon)
        make = lambda spec: CausalTransformer(spec, **self.model | {"context": context}, seed=seed)
        model = make(self.env.spec)
        if self.eye == "pose teacher":
            poses = histories.seen_as("pose")
            teacher = make(poses.spec)
            log = distill(teacher, poses, seed=seed, **self.training)
            distill_encoder(model, teacher, histories, seed=seed)
            return model, log
        if self.eye == "self-supervised":
            pretrain_encoder(model, histories, seed=seed)
        return model, distill(model, histories, seed=seed, **self.training)


def _training(steps: int, batch: int = 64, **schedule) -> dict[str, Any]:
    return {"steps": steps, "batch": batch, "schedule": Schedule(**schedule)}


FAST = PosteriorSampling(greed=10.0)
SLOW = PosteriorSampling(greed=10.0, forgetting=0.7)  # shows windows of failures, and the way out
REST = PosteriorSampling(greed=10.0, rest=True)
NOISY = PosteriorSampling(greed=10.0, noise=0.1, rest=True)
ROOM_Q = QLearning(epsilon=0.5)  # the paper's figures were made with it
KEYS_Q = QLearning(lr=1.0, gamma=0.95, epsilon=0.1, exploration=0.75, phases=3)
HARD_Q = QLearning(lr=1.0, gamma=0.95, epsilon=0.1, exploration=2 / 3, phases=2)
POSE_Q = PoseQLearning()
HARD, POOL = DarkRoom(size=17, reward="once"), Watermaze(ends="platform", n_tasks=5000)
DEEP = {"context": 400, "layers": 4}

RECIPES: dict[str, Recipe] = {}
"""By world; without a source named, the best there is."""
RECIPES["dark room"] = Recipe(
    DarkRoom(), {PosteriorSampling(): 64}, episodes=20, training={"steps": 250}
)
RECIPES["dark room, q-learning"] = Recipe(
    DarkRoom(), {ROOM_Q: 64}, episodes=500, every=25, training={"steps": 500}
)
RECIPES["permuted dark room"] = Recipe(
    DarkRoom(permuted=True),
    {ROOM_Q: 1},
    episodes=500,
    every=25,
    held_out=("actions",),
    train_tasks=4000,
    model={"layers": 4},
    training=_training(900, 48),
)
RECIPES["key to door"] = Recipe(
    DarkKeyToDoor(),
    {FAST: 2, SLOW: 2},
    episodes=12,
    share=0.3,
    model={"context": 300, "layers": 4, "heads": 2, "width": 64},
    training=_training(800, 16, short_episodes=2),
)
RECIPES["key to door, held-out cells"] = replace(
    RECIPES["key to door"], sources={FAST: 1, SLOW: 1}, share=0.7, held_out=("key", "door")
)
RECIPES["key to door, q-learning"] = Recipe(
    DarkKeyToDoor(),
    {KEYS_Q: 4},
    episodes=200,
    every=10,
    share=0.3,
    model=DEEP,
    training=_training(1200, 12, short_episodes=2),
)
RECIPES["hard"] = Recipe(
    HARD,
    {REST: 12, NOISY: 12},
    episodes=40,
    model=DEEP,
    training=_training(1600, 16, short_episodes=6, short=0.4),
)
RECIPES["hard, q-learning"] = replace(
    RECIPES["hard"],
    sources={HARD_Q: 24},
    episodes=900,
    every=45,
    training=_training(1300, 16, short_episodes=6),
)
RECIPES["bandit"] = Recipe(
    AdversarialBandit(),
    {UCB(bonus=0.3): 4},
    episodes=100,
    share=0.9,
    model={"context": 100},
    training=_training(600, 32, short_episodes=30, from_start=1.0),
)
RECIPES["watermaze"] = Recipe(
    POOL,
    {GoalSearch(): 1},
    episodes=30,
    model={"context": 600, "layers": 4},
    training=_training(1100, 24, short_episodes=4),
    eye="self-supervised",
)
RECIPES["watermaze, pose teacher"] = replace(RECIPES["watermaze"], eye="pose teacher")
RECIPES["watermaze, q-learning"] = replace(
    RECIPES["watermaze"], sources={POSE_Q: 1}, episodes=200, every=5
)
