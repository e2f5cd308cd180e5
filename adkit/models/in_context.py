"""A frozen transformer as an agent: it learns a new task from what happens to it, without a gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from adkit import weights
from adkit.histories import Histories
from adkit.models.tokens import Tokens, kept, slots, tokenize
from adkit.models.transformer import Cache, CausalTransformer
from adkit.protocols import EnvSpec, Transition
from adkit.seeds import Rng


@dataclass(frozen=True)
class InContext:
    """Act as the model predicts the source would, given this lifetime so far.

    When the window is full, whole old episodes are dropped and the kept ones run again, so that the cached path
    computes exactly the function that was trained (a plain KV cache over a sliding window does not).
    """

    model: CausalTransformer
    memory: Literal["lifetime", "episode"] = "lifetime"
    """"episode" forgets everything at each reset: the amnesiac control."""
    temperature: float = 1.0
    """Of the sampled actions; 1 is what was learned."""
    greedy: bool = False
    """Take the likeliest action. Collapses in every world measured: it stops exploring."""
    keep: int | None = None
    """Episodes that survive when the window is full; a third of it by default."""
    prompt: Histories | None = None
    """Somebody's histories to begin with (paper, Fig. 5): lifetime i, in `collect`'s task-major order, goes on from lifetime
    i of the prompt, of at most window - 1 episodes. The rollout holds only what is lived after it."""

    def __post_init__(self):
        if self.memory not in ("lifetime", "episode"):
            raise ValueError(
                f'memory={self.memory!r}; choose "lifetime", or "episode" for the amnesiac control.'
            )
        if not self.temperature > 0:
            raise ValueError(
                f"temperature={self.temperature}; it must be positive. For the likeliest action, greedy=True."
            )
        kept(self.model.window, self.keep)  # says so if it cannot be
        if self.prompt is not None:
            self.model.check_spec(self.prompt.spec)
            if not self.prompt.n_episodes:
                raise ValueError("the prompt has no episodes; leave it out.")
            window = self.model.window
            if self.prompt.n_episodes >= window:
                raise ValueError(
                    f"the prompt has {self.prompt.n_episodes} episodes and the model's window {window}, one of them the present; "
                    f"give what can be remembered, such as prompt.episodes[-{window - 1}:]."
                )
            if self.memory == "episode":
                raise ValueError(
                    'memory="episode" forgets a prompt at the first reset; leave one of them out.'
                )

    def start(self, spec: EnvSpec, rng: Rng) -> InContextLearner:
        self.model.check_spec(spec)
        if self.prompt is not None and len(self.prompt) != len(rng):
            raise ValueError(
                f"the prompt holds {len(self.prompt)} lifetimes and {len(rng)} are to be lived; give one per lifetime, "
                "in task-major order."
            )
        return InContextLearner(self, rng)

    def part(self, rows: np.ndarray) -> InContext:
        """The agent of some of the lifetimes: what `collect` sends to each worker of an executor."""
        return self if self.prompt is None else replace(self, prompt=self.prompt[rows])

    def fingerprint(self) -> str:
        """A hash of the weights, and of the prompt: what its description leaves out."""
        return weights.fingerprint(
            self.model, *(self.prompt.arrays.values() if self.prompt else ())
        )

    @property
    def window(self) -> tuple[int, int]:
        """(episodes that fill the window, episodes kept when it is full)."""
        if self.memory == "episode":
            return 1, 0
        return self.model.window, kept(self.model.window, self.keep)

    def __repr__(self) -> str:
        settings = f"memory={self.memory!r}, temperature={self.temperature}, greedy={self.greedy}, keep={self.keep}"
        if self.prompt is not None:
            past = f"{len(self.prompt)} lifetimes x {self.prompt.n_episodes} episodes"
            settings += f", prompt={past} of {self.prompt.about.get('agent', '?')}"
        return f"InContext({self.model!r}, {settings})"


class InContextLearner:
    """N frozen lifetimes, each with its window of tokens and their cached keys and values."""

    def __init__(self, config: InContext, rng: Rng):
        self.config, self.model, self.rng, self.t = config, config.model, rng, 0
        spec, n, device = self.model.spec, len(rng), self.model.device
        self.per = slots(spec)
        window, _ = config.window
        self.cache, size = Cache(self.model, n, window), window * self.per
        obs_dtype = torch.long if spec.cardinality else torch.float32
        self.tokens = Tokens(
            torch.zeros(n, size, *spec.obs_shape, dtype=obs_dtype, device=device),
            torch.zeros(n, size, dtype=torch.long, device=device),
            torch.zeros(n, size, device=device),
        )
        self.episode, self.time = (
            np.full(n, -1),
            np.zeros(n, int),
        )  # episode in window, step in episode
        self.last = (
            np.full(n, spec.n_actions),
            np.zeros(n, np.float32),
        )  # previous action and reward
        if config.prompt is not None:
            self._remember(config.prompt)

    @torch.inference_mode()
    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        self._open(np.flatnonzero(first))
        logits = self._append(np.arange(len(obs)), obs, *self.last)
        if self.config.greedy:
            return logits.argmax(-1).cpu().numpy().astype(np.uint8)
        cumulative = (
            (logits / self.config.temperature).double().softmax(-1).cumsum(-1).cpu().numpy()
        )
        drawn = (cumulative <= self.rng.at(self.t).uniform()[:, None]).sum(-1)
        return drawn.clip(max=self.model.spec.n_actions - 1).astype(np.uint8)

    @torch.inference_mode()
    def update(self, transition: Transition) -> None:
        self.t += 1
        self.time += 1
        self.last = transition.action, transition.reward
        done = np.flatnonzero(transition.terminated | transition.truncated)
        if len(done):  # the closing token: what the last action led to
            self._append(
                done, transition.next_obs[done], transition.action[done], transition.reward[done]
            )

    def _open(self, rows: np.ndarray) -> None:
        """A new episode in `rows`: make room if the window is full, and put "restart" where action and reward go."""
        if not len(rows):
            return
        self.episode[rows] += 1
        self.time[rows] = 0
        action, reward = np.array(self.last[0], int), np.array(self.last[1])
        action[rows], reward[rows] = self.model.spec.n_actions, 0
        self.last = action, reward
        window, keep = self.config.window
        full = rows[self.episode[rows] == window]
        if len(full):
            self._drop(full, window, keep)

    @torch.inference_mode()
    def _remember(self, prompt: Histories) -> None:
        """Put the prompt's episodes at the front of the window, as if they had been lived."""
        n, episodes = len(prompt), prompt.n_episodes
        tokens, _ = tokenize(prompt.spec, prompt.windows(np.arange(n), np.zeros(n, int), episodes))
        tokens, lived = self.model.on_device(tokens), slice(0, episodes * self.per)
        for name in ("obs", "action", "reward"):
            getattr(self.tokens, name)[:, lived] = getattr(tokens, name).to(
                getattr(self.tokens, name).dtype
            )
        self.cache.valid[:, lived] = True if tokens.valid is None else tokens.valid
        self.episode += episodes
        self._reread(torch.arange(n, device=self.model.device), episodes)

    def _drop(self, rows: np.ndarray, window: int, keep: int) -> None:
        """Move the newest `keep` episodes to the front of the window and read them again."""
        self.episode[rows] = keep
        kept, old, end = (
            slice(0, keep * self.per),
            slice((window - keep) * self.per, window * self.per),
            keep * self.per,
        )
        index = torch.as_tensor(rows, device=self.model.device)
        for values in (self.tokens.obs, self.tokens.action, self.tokens.reward, self.cache.valid):
            values[index, kept] = values[index, old]
        self.cache.valid[index, end:] = False
        if keep:
            self._reread(index, keep)

    def _reread(self, index: torch.Tensor, episodes: int) -> None:
        """Compute the keys and values of the first `episodes` of the window anew: they may have seen what is gone."""
        past = slice(0, episodes * self.per)
        tokens = Tokens(
            *(v[index, past] for v in (self.tokens.obs, self.tokens.action, self.tokens.reward))
        )
        everyone = len(index) == len(self.episode)
        self.model(tokens, self.cache.rows(None if everyone else index, torch.zeros_like(index)))

    def _append(
        self, rows: np.ndarray, obs: np.ndarray, action: np.ndarray, reward: np.ndarray
    ) -> torch.Tensor:
        """Put one token at each row's own slot and run it: logits (R, A)."""
        device, slot = self.model.device, self.episode[rows] * self.per + self.time[rows]
        index, slot = torch.as_tensor(rows, device=device), torch.as_tensor(slot, device=device)
        token = (torch.as_tensor(np.ascontiguousarray(v)).to(device) for v in (obs, action, reward))
        for values, value in zip(
            (self.tokens.obs, self.tokens.action, self.tokens.reward), token, strict=True
        ):
            values[index, slot] = value.to(values.dtype)
        self.cache.valid[index, slot] = True
        tokens = Tokens(
            *(
                v[index, slot][:, None]
                for v in (self.tokens.obs, self.tokens.action, self.tokens.reward)
            )
        )
        everyone = len(rows) == len(self.episode)
        return self.model(tokens, self.cache.rows(None if everyone else index, slot))[:, 0]
