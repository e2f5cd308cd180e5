"""A frozen transformer as an agent: it learns a new task from what happens to it, without a gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from adkit import weights
from adkit.histories import Histories
from adkit.models.tokens import RollingWindow, Tokens, kept, tokenize
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
    """N frozen lifetimes: a rolling window of tokens each, with cached keys and values."""

    def __init__(self, config: InContext, rng: Rng):
        self.config, self.model, self.rng, self.t = config, config.model, rng, 0
        (episodes, keep), n = config.window, len(rng)
        self.window = RollingWindow(self.model.spec, n, episodes, keep, self.model.device)
        self.cache = Cache(self.model, self.window.tokens.valid)
        if config.prompt is not None:
            self._read_prompt(config.prompt)

    @torch.inference_mode()
    def act(self, obs: np.ndarray, first: np.ndarray) -> np.ndarray:
        opens = np.flatnonzero(first)
        if len(opens):
            dropped, keep = self.window.open(opens), self.window.keep
            if len(dropped) and keep:
                self._reread(dropped, keep)
        logits = self._append(np.arange(len(obs)), obs)
        if self.config.greedy:
            return logits.argmax(-1).cpu().numpy().astype(np.uint8)
        return sample_actions(logits / self.config.temperature, self.rng.at(self.t))

    @torch.inference_mode()
    def update(self, transition: Transition) -> None:
        self.t += 1
        self.window.step(transition.action, transition.reward)
        done = np.flatnonzero(transition.terminated | transition.truncated)
        if len(done):  # the closing token: what the last action led to
            self._append(done, transition.next_obs[done])

    @torch.inference_mode()
    def _read_prompt(self, prompt: Histories) -> None:
        """Put the prompt's episodes at the front of the window, as if they had just been acted."""
        n, episodes = len(prompt), prompt.n_episodes
        tokens = tokenize(prompt.spec, prompt.windows(np.arange(n), np.zeros(n, int), episodes))
        self.window.prepend(tokens.to(self.model.device))
        self._reread(np.arange(n), episodes)

    def _reread(self, rows: np.ndarray, episodes: int) -> None:
        """Compute keys and values of the first `episodes` again: the old ones may depend on dropped episodes."""
        index = torch.as_tensor(rows, device=self.model.device)
        past = slice(0, episodes * self.window.per_episode)
        tokens = replace(self.window.tokens, valid=None).map(lambda x: x[index, past])
        self._run(tokens, rows, index, torch.zeros_like(index))

    def _append(self, rows: np.ndarray, obs: np.ndarray) -> torch.Tensor:
        """Append one token to the windows of `rows` and return its logits (R, A)."""
        index, slot = self.window.append(rows, obs)
        tokens = replace(self.window.tokens, valid=None).map(lambda x: x[index, slot][:, None])
        return self._run(tokens, rows, index, slot)[:, 0]

    def _run(
        self, tokens: Tokens, rows: np.ndarray, index: torch.Tensor, slot: torch.Tensor
    ) -> torch.Tensor:
        """Run the model over new tokens that begin at `slot` (R,) of the windows of `rows`."""
        all_rows = len(rows) == len(self.window.t)
        return self.model(tokens, self.cache.rows(None if all_rows else index, slot))


def sample_actions(logits: torch.Tensor, rng: Rng) -> np.ndarray:
    """Draw actions (N,) with the probabilities of logits (N, A)."""
    cumulative = logits.detach().double().softmax(-1).cumsum(-1).cpu().numpy()
    drawn = (cumulative <= rng.uniform()[:, None]).sum(-1)
    return drawn.clip(max=logits.shape[-1] - 1).astype(np.uint8)
