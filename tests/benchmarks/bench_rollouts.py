"""Rollouts per second: a cached step against running the model on the whole window again at every
step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from measure import compare

import adkit as ad
from adkit.models.tokens import Tokens, kept, window_starts
from adkit.rollout import collect
from adkit.seeds import Rng

ENV = ad.envs.DarkRoom()
SPEC, PER = ENV.spec, ENV.spec.horizon + 1


def opinionated(context: int = 200, seed: int = 0) -> ad.CausalTransformer:
    """A model whose layers all matter: a fresh one starts with zero output weights, and any cache
    would agree with it.
    """
    model, generator = (
        ad.CausalTransformer(SPEC, context=context, seed=seed),
        torch.Generator().manual_seed(seed),
    )
    for name, parameter in model.named_parameters():
        if name.endswith(("out.weight", "head.weight")):
            torch.nn.init.normal_(
                parameter, std=2 * parameter.shape[-1] ** -0.5, generator=generator
            )
    return model.eval()


@dataclass(frozen=True)
class Recomputed:
    """InContext without a cache: at every step the model runs on all tokens of its window. For
    episodes that all end together.
    """

    model: ad.CausalTransformer
    episodes: int
    """Most episodes it will live."""

    def start(self, spec, rng: Rng, episodes: int) -> RecomputedLearner:
        return RecomputedLearner(self, rng)


class RecomputedLearner:
    def __init__(self, config: Recomputed, rng: Rng):
        model, n = config.model, len(rng)
        self.model, self.rng, self.t, self.slot, self.episode = model, rng, 0, 0, -1
        self.starts = window_starts(config.episodes + 1, model.window, kept(model.window))
        size = (
            config.episodes + 1
        ) * PER  # every token of the lifetime; the window is a slice of it
        self.obs = torch.zeros(n, size, *SPEC.obs_shape, dtype=torch.long, device=model.device)
        self.action = torch.zeros(n, size, dtype=torch.long, device=model.device)
        self.reward = torch.zeros(n, size, device=model.device)
        self.last = np.full(n, SPEC.n_actions), np.zeros(n, np.float32)

    @torch.inference_mode()
    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        if first.all():
            self.episode += 1
            self.last = np.full(len(obs), SPEC.n_actions), np.zeros(len(obs), np.float32)
        self._append(obs, *self.last)
        window = slice(int(self.starts[self.episode]) * PER, self.slot)
        logits = self.model(
            Tokens(self.obs[:, window], self.action[:, window], self.reward[:, window])
        )[:, -1]
        cumulative = logits.double().softmax(-1).cumsum(-1).cpu().numpy()
        drawn = (cumulative <= self.rng.at(self.t).uniform()[:, None]).sum(-1)
        return drawn.clip(max=SPEC.n_actions - 1).astype(np.uint8)

    def update(self, transition) -> None:
        self.t += 1
        self.last = transition.action, transition.reward
        if (transition.terminated | transition.truncated).all():
            self._append(transition.next_obs, transition.action, transition.reward)

    def _append(self, obs: np.ndarray, action: np.ndarray, reward: np.ndarray) -> None:
        for values, value in ((self.obs, obs), (self.action, action), (self.reward, reward)):
            values[:, self.slot] = torch.as_tensor(np.ascontiguousarray(value)).to(values)
        self.slot += 1


class Life:
    """Lifetimes of one agent, an episode at a time: `collect`, without keeping anything."""

    def __init__(self, agent, lifetimes: int, seed: int = 0):
        self.tasks = ENV.tasks()[np.arange(lifetimes) % 81]
        self.rng, self.t = Rng.of(seed, "env", np.arange(lifetimes)), 0
        self.learner = agent.start(SPEC, Rng.of(seed, "agent", np.arange(lifetimes)), episodes=10)

    def episode(self, steps: int = SPEC.horizon) -> int:
        """Run the next episode, or its first `steps`; return the steps of all lifetimes."""
        n = len(self.tasks)
        state, obs = ENV.reset(self.tasks, self.rng.at(self.t))
        first = np.ones(n, bool)
        for _ in range(steps):
            action = self.learner.act(obs, first)
            state, (next_obs, *outcome) = ENV.step(state, self.tasks, action, self.rng.at(self.t))
            self.learner.update(ad.Transition(obs, action, *outcome, next_obs))
            obs, first, self.t = next_obs, np.zeros(n, bool), self.t + 1
        return n * steps


def test_both_choose_the_same_actions():
    model, tasks = (
        opinionated(context=100),
        ENV.tasks()[::21],
    )  # a window of 5 episodes: it is refilled 3 times in 12
    cached = collect(ENV, tasks, ad.InContext(model), episodes=12, lifetimes=2, seed=0)
    again = collect(ENV, tasks, Recomputed(model, 12), episodes=12, lifetimes=2, seed=0)
    shares = np.bincount(cached.action.ravel(), minlength=SPEC.n_actions) / cached.action.size
    assert shares.min() > 0.01, (
        f"a model that ignores what it sees proves nothing; it acts {shares}."
    )
    np.testing.assert_array_equal(cached.action, again.action)


def test_cached_against_recomputed():
    """Steps per second of 128 lifetimes at a context of 200, three ways to be fair:

    - in the episode that fills the window, step for step: both see 190 to 210 tokens, none refills;
    - a cached agent over whole turns of its window, refilling included, against recomputing a full
      window each step;
    - the same turns by both, where the recomputed window is on average three quarters full.
    """
    model = opinionated()
    lifetimes, window, keep = 128, model.window, kept(model.window)
    turn = window - keep  # episodes from one refill to the next

    def cached_fills() -> float:
        life = Life(ad.InContext(model), lifetimes)
        for _ in range(window - 1):
            life.episode()
        return timed(life)

    def recomputed_fills(steps: int = 6) -> float:
        """Its early episodes are skipped by writing tokens without running the model; the last
        steps are timed.
        """
        life = Life(Recomputed(model, window), lifetimes)
        past(life.learner, window - 1)
        return timed(life, steps)

    def cached_turns() -> float:
        life = Life(ad.InContext(model), lifetimes)
        for _ in range(window):
            life.episode()
        began = time.perf_counter()
        done = sum(life.episode() for _ in range(2 * turn))  # two refills
        return done / (time.perf_counter() - began)

    def recomputed_turns(steps: int = 2) -> float:
        """Seconds per episode of each fill level, from its first steps, added up."""
        seconds = 0.0
        for episodes in range(keep, window):
            life = Life(Recomputed(model, window), lifetimes)
            past(life.learner, episodes)
            seconds += SPEC.horizon * lifetimes / timed(life, steps)
        return turn * SPEC.horizon * lifetimes / seconds

    compare(
        "rollout steps in the episode that fills the window",
        cached_fills,
        recomputed_fills,
        asked=25,
        repetitions=3,
    )
    compare(
        "rollout steps, refills included, full window recomputed",
        cached_turns,
        recomputed_fills,
        asked=25,
        repetitions=3,
    )
    compare(
        "rollout steps, both over whole turns of the window",
        cached_turns,
        recomputed_turns,
        asked=None,
        repetitions=3,
    )


def timed(life: Life, steps: int = SPEC.horizon) -> float:
    began = time.perf_counter()
    return life.episode(steps) / (time.perf_counter() - began)


def past(learner: RecomputedLearner, episodes: int) -> None:
    """Give a recomputing learner some episodes of tokens that it never acted in; only their number
    costs time.
    """
    learner.slot, learner.episode = episodes * PER, episodes - 1
