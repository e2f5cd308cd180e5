"""Recipes: per world and source, the settings that we found to work, from nothing to a model that learns in context.

    recipe = ad.recipes.RECIPES["key to door"]
    train, test = recipe.split(0)
    model, log = recipe.distil(recipe.histories(train, seed=0), seed=0)

All were chosen on split 100, whose held-out tasks are validation tasks; figures are reported on splits 0, 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from adkit.checks import Named
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


EYES = ("end to end", "self-supervised", "pose teacher")


@dataclass(frozen=True)
class Recipe:
    """A world, its source, and how a model is distilled from it. `dataclasses.replace` makes another."""

    env: Env
    sources: Mapping[Agent, int]
    """Lifetimes per training task of each source; several sources are mixed."""
    episodes: int
    """Episodes a source lives."""
    every: int = 1
    """One in this many episodes is kept."""
    share: float = 0.8
    """Of the tasks, for training."""
    held_out: tuple[str, ...] = ()
    """Columns whose values are held out, as in `Tasks.split(by=)`; () holds out tasks."""
    train_tasks: int | None = None
    """Train on no more than this many tasks; None for all."""
    test_tasks: int = 256
    """Evaluate on no more than this many."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Of `CausalTransformer`."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Of `distill`."""
    eye: Literal["end to end", "self-supervised", "pose teacher"] = "end to end"
    """How pictures are learned: with all else; before, from pictures and actions alone (`pretrain_encoder`); or, privileged, from
    a model that is shown the pose (`distill_encoder`)."""

    def __post_init__(self):
        if not self.sources or min(self.sources.values()) < 1:
            raise ValueError(
                f"sources={self.sources}; give at least one source, and lifetimes per task of each: {{QLearning(): 1}}."
            )
        if self.eye not in EYES:
            raise ValueError(f"eye={self.eye!r}; choose one of {', '.join(EYES)}.")
        for name in ("episodes", "every", "train_tasks", "test_tasks"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}={value}; give at least 1.")

    def split(self, seed: int) -> tuple[Tasks, Tasks]:
        """Training and held-out tasks, drawn anew for each seed and thinned to `train_tasks` and `test_tasks`."""
        sides = self.env.tasks().split(self.share, seed, by=self.held_out)
        rng = np.random.default_rng((seed, 1))
        most = self.train_tasks, self.test_tasks
        return tuple(
            side[np.sort(rng.permutation(len(side))[:n])]
            for side, n in zip(sides, most, strict=True)
        )

    def histories(self, tasks: Tasks, seed: int) -> Histories:
        """The sources' learning histories on these tasks."""
        parts = [
            collect(
                self.env,
                tasks,
                source,
                episodes=self.episodes,
                lifetimes=n,
                every=self.every,
                seed=seed + 1000 * i,
            )
            for i, (source, n) in enumerate(self.sources.items())
        ]
        return parts[0] if len(parts) == 1 else Histories.concatenate(parts)

    def distil(self, histories: Histories, seed: int) -> tuple[CausalTransformer, pd.DataFrame]:
        """A model of these histories, and its training log. Its window is no longer than the histories."""
        context = min(self.model.get("context", 200), histories.n_episodes * self.env.spec.horizon)
        make = lambda spec: CausalTransformer(spec, **{**self.model, "context": context}, seed=seed)
        model = make(self.env.spec)
        if self.eye != "pose teacher":
            if self.eye == "self-supervised":
                pretrain_encoder(model, histories, seed=seed)
            return model, distill(model, histories, seed=seed, **self.training)
        poses = histories.seen_as("pose")
        teacher = make(poses.spec)
        log = distill(teacher, poses, seed=seed, **self.training)
        distill_encoder(model, teacher, histories, seed=seed)
        return model, log


PS, FAST = PosteriorSampling(), PosteriorSampling(greed=10.0)
SLOW = PosteriorSampling(
    greed=10.0, forgetting=0.7
)  # so that windows full of failures are seen, and how to go on from them

RECIPES = Named("recipe", {
    "dark room": Recipe(DarkRoom(), {PS: 64}, episodes=20, training={"steps": 250}),
    "dark room, q-learning": Recipe(DarkRoom(), {QLearning(): 64}, episodes=500, every=25, training={"steps": 500}),
    "key to door": Recipe(
        DarkKeyToDoor(), {FAST: 2, SLOW: 2}, episodes=12, share=0.3,
        model={"context": 300, "layers": 4, "heads": 2, "width": 64}, training={"steps": 800, "batch": 16, "schedule": Schedule(short_episodes=2)},
    ),
    "key to door, q-learning": Recipe(
        DarkKeyToDoor(), {QLearning(lr=1.0, gamma=0.95, epsilon=0.1, exploration_episodes=150, phases=3): 4},
        episodes=200, every=10, share=0.3,
        model={"context": 400, "layers": 4}, training={"steps": 1200, "batch": 12, "schedule": Schedule(short_episodes=2)},
    ),
    "hard": Recipe(
        DarkRoom(size=17, reward="once"),
        {PosteriorSampling(greed=10.0, rest=True): 12, PosteriorSampling(greed=10.0, noise=0.1, rest=True): 12}, episodes=40,
        model={"context": 400, "layers": 4}, training={"steps": 1600, "batch": 16, "schedule": Schedule(short_episodes=6, short=0.4)},
    ),
    "hard, q-learning": Recipe(
        DarkRoom(size=17, reward="once"),
        {QLearning(lr=1.0, gamma=0.95, epsilon=0.1, exploration_episodes=600, phases=2): 24}, episodes=900, every=45,
        model={"context": 400, "layers": 4}, training={"steps": 1300, "batch": 16, "schedule": Schedule(short_episodes=6)},
    ),
    "bandit": Recipe(
        AdversarialBandit(), {UCB(bonus=0.3): 4}, episodes=100, share=0.9,
        model={"context": 100}, training={"steps": 600, "batch": 32, "schedule": Schedule(short_episodes=30, from_start=1.0)},
    ),
    "permuted dark room": Recipe(
        DarkRoom(permuted=True), {QLearning(): 1}, episodes=500, every=25, held_out=("actions",), train_tasks=4000,
        model={"layers": 4}, training={"steps": 900, "batch": 48},
    ),
    "watermaze": Recipe(
        Watermaze(ends="platform", n_tasks=5000), {GoalSearch(): 1}, episodes=30,
        model={"context": 600, "layers": 4}, training={"steps": 1100, "batch": 24, "schedule": Schedule(short_episodes=4)}, eye="self-supervised",
    ),
})  # fmt: skip
"""By world; without a source named, the best there is."""
RECIPES["key to door, held-out cells"] = replace(
    RECIPES["key to door"], sources={FAST: 1, SLOW: 1}, share=0.7, held_out=("key", "door")
)
RECIPES["watermaze, pose teacher"] = replace(RECIPES["watermaze"], eye="pose teacher")
RECIPES["watermaze, q-learning"] = replace(
    RECIPES["watermaze"],
    sources={PoseQLearning(exploration_episodes=100): 1},
    episodes=200,
    every=5,
)
