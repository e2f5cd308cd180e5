"""Frozen transformer as an agent: it learns a task from its own experience, in context."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from adkit.histories import Histories
from adkit.models.tokens import RollingWindow, kept, tokenize
from adkit.models.transformer import Cache, CausalTransformer
from adkit.protocols import EnvSpec, Transition
from adkit.seeds import Rng


@dataclass(frozen=True)
class InContext:
    """Act as the model predicts the source would, given this lifetime so far.

    A full window drops whole old episodes and runs the kept ones again, so that the cached path
    computes exactly what was trained (a plain KV cache over a sliding window does not).
    """

    model: CausalTransformer
    memory: Literal["lifetime", "episode"] = "lifetime"
    """"episode" forgets everything at each reset: the control with no memory."""
    temperature: float = 1.0
    """Of the sampled actions; 1 is what was learned. Near 0 the agent stops exploring."""
    keep: int | None = None
    """Episodes that survive when the window is full; a third of it by default."""
    prompt: Histories | None = None
    """Histories to continue from (paper, Fig. 5), one per lifetime in task-major order, of at most
    window - 1 episodes. The rollout holds only what comes after them."""

    def __post_init__(self):
        if self.memory not in ("lifetime", "episode"):
            raise ValueError(f'`memory` must be "lifetime" or "episode", got {self.memory!r}')
        if not self.temperature > 0:
            raise ValueError(
                f"`temperature` must be positive, got {self.temperature}; "
                "for the likeliest action, try 1e-6"
            )
        window = self.model.window
        kept(window, self.keep)  # raises ValueError
        if self.prompt is not None:
            self.model.check_spec(self.prompt.spec)
            if self.memory == "episode":
                raise ValueError('memory="episode" forgets a prompt at once; leave one of them out')
            if not 1 <= self.prompt.n_episodes < window:
                raise ValueError(
                    f"`prompt` must have 1 to {window - 1} episodes for a window of {window}, got "
                    f"{self.prompt.n_episodes}; try prompt.episodes[-{window - 1}:]"
                )

    def start(self, spec: EnvSpec, rng: Rng, episodes: int) -> InContextLearner:
        self.model.check_spec(spec)
        self.model.check_weights()
        if self.prompt is not None and len(self.prompt) != len(rng):
            raise ValueError(
                f"`prompt` must have one history per lifetime, in task-major order: {len(rng)} "
                f"lifetimes, got {len(self.prompt)} histories"
            )
        return InContextLearner(self, rng)

    def part(self, rows: np.ndarray) -> InContext:
        """Return the agent of some of the lifetimes, which `collect` sends to a worker."""
        return self if self.prompt is None else replace(self, prompt=self.prompt[rows])

    @property
    def window(self) -> tuple[int, int]:
        """Return (episodes that fill the window, episodes kept when it is full)."""
        if self.memory == "episode":
            return 1, 0
        return self.model.window, kept(self.model.window, self.keep)

    def __repr__(self) -> str:
        past = self.prompt and f"{len(self.prompt)} lifetimes x {self.prompt.n_episodes} episodes"
        settings = f"memory={self.memory!r}, temperature={self.temperature}, keep={self.keep}"
        return f"InContext({self.model!r}, {settings}, prompt={past})"


class InContextLearner:
    """N frozen lifetimes: a rolling window of tokens each, with cached keys and values."""

    def __init__(self, config: InContext, rng: Rng):
        self.model, self.temperature = config.model, config.temperature
        self.rng, self.t, self.every_row = rng, 0, np.arange(len(rng))
        self.window = RollingWindow(self.model.spec, len(rng), *config.window)
        n, size = self.window.tokens.valid.shape
        layers, heads, width = (self.model.config[name] for name in ("layers", "heads", "width"))
        shape = layers, n, heads, size, width // heads
        self.keys, self.values = torch.zeros(
            2, *shape, dtype=torch.float32, device=self.model.device
        )
        if config.prompt is not None:  # its episodes open the window, as if they had just happened
            episodes = config.prompt.n_episodes
            windows = config.prompt.windows(self.every_row, 0 * self.every_row, episodes)
            self.window.prepend(tokenize(config.prompt.spec, windows))
            self._reread(self.every_row, episodes)

    def act(self, obs: np.ndarray, first: np.ndarray, allowed=None) -> np.ndarray:
        opens = np.flatnonzero(first)
        if len(opens) and len(dropped := self.window.open(opens)):
            self._reread(dropped, self.window.keep)
        logits = self._append(self.every_row, obs)
        if allowed is not None:
            logits = logits.masked_fill(~torch.as_tensor(allowed, device=logits.device), -torch.inf)
        return sample_actions(logits / self.temperature, self.rng.at(self.t))

    def update(self, transition: Transition) -> None:
        self.t += 1
        self.window.step(transition.action, transition.reward)
        done = np.flatnonzero(transition.terminated | transition.truncated)
        if len(done):  # the closing token: what the last action led to
            self._append(done, transition.next_obs[done])

    def _reread(self, rows: np.ndarray, episodes: int) -> None:
        """Compute keys and values of the first `episodes` again, without the dropped ones."""
        if episodes:
            self._run(rows, np.arange(episodes * self.window.per_episode)[None])

    def _append(self, rows: np.ndarray, obs: np.ndarray) -> torch.Tensor:
        """Append one token to the windows of `rows`; return its logits (R, A)."""
        slot = self.window.append(rows, obs)[:, None]
        return self._run(rows, slot[:1] if (slot == slot[0]).all() else slot)[:, 0]

    @torch.inference_mode()
    def _run(self, rows: np.ndarray, slot: np.ndarray) -> torch.Tensor:
        """Run the model over the tokens at `slot` (R or 1, S) of the windows of `rows`."""
        tokens, device = self.window.tokens, self.model.device
        new = replace(tokens.map(lambda x: x[rows[:, None], slot]), valid=None, slot=slot)
        every_row = len(rows) == len(self.every_row)
        index = slice(None) if every_row else torch.as_tensor(rows, device=device)
        valid = torch.as_tensor(tokens.valid[rows], device=device)
        cache = Cache(self.keys, self.values, index, valid)
        return self.model(new.to(device), cache=cache)


def sample_actions(logits: torch.Tensor, rng: Rng) -> np.ndarray:
    """Draw actions (N,) with the probabilities of logits (N, A); ValueError if one is NaN."""
    logits = logits.detach().cpu()  # some GPUs have no float64
    cumulative = logits.double().softmax(-1).cumsum(-1).numpy()
    if np.isnan(cumulative).any():
        row = np.isnan(cumulative).any(1).argmax()
        raise ValueError(f"the model's logits are {logits[row].tolist()}: they must be finite")
    drawn = (cumulative <= rng.uniform()[:, None]).sum(-1)
    return drawn.clip(max=logits.shape[-1] - 1).astype(np.uint8)
