"""Causal transformer over learning histories: pre-norm, one token a step, named activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from adkit.models.encoders import encoder
from adkit.models.network import Linear, Network, norm
from adkit.models.taps import Tap
from adkit.models.tokens import Tokens, slots, window_episodes
from adkit.protocols import EnvSpec

CHUNK = 256  # queries at a time: half of the keys of a long window are then never looked at
INITIAL_STD = {"table": 0.3, "reward": 0.3, "episode": 0.1, "step": 0.1}  # else 1 / sqrt(inputs)
LAYERS_AT_MOST = 256


class CausalTransformer(Network):
    """Predicts the next action from everything before it (Laskin et al. 2022, Eq. 6).

    `context` counts transitions; the window is the whole episodes that fit. The defaults are the
    Dark Room recipe. With `predictions` a second head predicts that many numbers at the first
    token of each episode, at the tap "prediction"; see `predict` of `distill`.
    """

    kind = "causal transformer"
    reads = "n_actions", "horizon", "cardinality", "shape", "view", "seen"
    renamed: ClassVar[dict[str, str]] = {
        "outcomes": "predictions",
        "outlook.weight": "prediction_head.weight",
    }

    def __init__(
        self,
        spec: EnvSpec,
        context: int = 200,
        layers: int = 3,
        heads: int = 2,
        width: int = 64,
        seed: int = 0,
        predictions: int = 0,
    ):
        config = dict(context=context, layers=layers, heads=heads, width=width, seed=seed)
        super().__init__(spec, config | {"predictions": predictions})
        if min(layers, heads, width) < 1 or width % heads or layers > LAYERS_AT_MOST:
            raise ValueError(
                f"`layers` must be in 1 to {LAYERS_AT_MOST} and `heads` must divide `width`, "
                f"got layers={layers}, heads={heads}, width={width}"
            )
        self.window = window_episodes(spec, context)
        self.embed_tokens = Embedding(spec, self.window, width)
        self.embed = Tap()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.head = Linear(width, spec.n_actions)
        self.logits = Tap()
        self.prediction_head = Linear(width, predictions) if predictions else None
        self.prediction = Tap() if predictions else None
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            std = INITIAL_STD.get(name.removeprefix("embed_tokens."), parameter.shape[-1] ** -0.5)
            if name.endswith(("out.weight", "head.weight")):
                std = 0.0  # the model starts by ignoring its layers
            nn.init.normal_(parameter, std=std, generator=generator)

    def forward(
        self,
        tokens: Tokens,
        cache: CacheRows | None = None,
        dtype: torch.dtype | None = None,
        after: tuple[int, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return action logits (B, S, A) float32; with a cache, `tokens` are only the new ones.

        The blocks compute in `dtype`: bfloat16 is 2-4x as fast where the processor has the units
        for it. `after` is (k, x): resume from the residual stream x (B, S, D) after k blocks; its
        tap sees it again.
        """
        return self.heads(tokens, cache, dtype, after)[0]

    def heads(self, tokens: Tokens, cache=None, dtype=None, after=None) -> tuple:
        """Return the logits, and the predictions (B, S, predictions) float32 or None."""
        position = tokens.slot
        if position is None:
            size = tokens.previous_action.shape[1]
            position = torch.arange(size, device=tokens.obs.device)[None]
        if cache is not None:
            position = cache.begin[:, None] + position
        if after is None:
            done, x = 0, self.embed(self.embed_tokens(tokens, position, dtype or torch.float32))
        else:
            done, x = after
            x = self.blocks[done - 1].resid(x) if done else self.embed(x)  # (B, S, D)
        mask = self._mask(tokens, x.dtype) if cache is None else cache.mask(position)
        for layer in range(done, len(self.blocks)):
            x = self.blocks[layer](x, mask, None if cache is None else cache.layer(layer, position))
        x = norm(x)
        prediction = None
        if self.prediction_head is not None:
            prediction = self.prediction(self.prediction_head(x).float())
        return self.logits(self.head(x).float()), prediction

    def _mask(self, tokens: Tokens, dtype: torch.dtype) -> torch.Tensor:
        """Return the additive mask, over (B, heads, query, key): the past, and slots with a token.

        Packed windows share one (query, key) mask: their empty slots come after every token.
        """
        size, device = tokens.previous_action.shape[1], tokens.obs.device
        allowed = torch.ones(size, size, dtype=torch.bool, device=device).tril()
        if tokens.valid is not None and tokens.slot is None:
            itself = torch.eye(size, dtype=torch.bool, device=device)
            allowed = ((allowed & tokens.valid[:, None, :]) | itself)[:, None]
        return additive(allowed, dtype)

    def __repr__(self) -> str:
        return f"{super().__repr__()}, window of {self.window} episodes"


def additive(allowed: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a mask to add to scores: 0 where attention is allowed, minus infinity elsewhere."""
    zeros = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return zeros.masked_fill(~allowed, -math.inf)


class Embedding(nn.Module):
    """The sum of observation, previous action, previous reward, and (episode, step) in the window.

    Discrete observations are FACTORED: one table per coordinate. With one row per cell a held-out
    goal's cell has no trained "rewarded here" meaning, and the same model reached 18% of the
    optimum instead of 74%.
    """

    def __init__(self, spec: EnvSpec, window: int, width: int):
        super().__init__()
        cardinality = spec.shown
        self.n_actions, self.slots = spec.n_actions, slots(spec)
        self.table = nn.Parameter(torch.empty(sum(cardinality) + spec.n_actions + 1, width))
        self.shown, self.encoder = len(cardinality), encoder(spec, width)
        self.reward = nn.Parameter(torch.empty(width))
        self.episode = nn.Parameter(torch.empty(window, width))
        self.step = nn.Parameter(torch.empty(self.slots, width))
        offsets = torch.tensor([sum(cardinality[:i]) for i in range(len(cardinality) + 1)])
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, tokens: Tokens, position: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return (B, S, D) in `dtype` for tokens at slots `position` (B or 1, S)."""
        rows = tokens.previous_action[..., None]
        if self.shown:
            rows = torch.cat([tokens.obs[..., : self.shown].long(), rows], dim=-1)
        rows = (rows + self.offsets).flatten(0, 1)
        x = F.embedding_bag(rows, self.table, mode="sum").unflatten(0, tokens.obs.shape[:2])
        x = x + symlog(tokens.previous_reward)[..., None] * self.reward
        episode = (position // self.slots).clamp(max=len(self.episode) - 1)  # beyond: padding
        x = (x + (self.episode[episode] + self.step[position % self.slots])).to(dtype)
        return x if self.encoder is None else x + self._encode(tokens, dtype)

    def _encode(self, tokens: Tokens, dtype: torch.dtype) -> torch.Tensor:
        """Return the encoded observations (B, S, D), 0 at slots that hold no token."""
        if tokens.valid is None:
            return self.encoder(tokens.obs.flatten(0, 1), dtype).unflatten(0, tokens.obs.shape[:2])
        shape = *tokens.valid.shape, self.table.shape[1]
        encoded = torch.zeros(shape, dtype=dtype, device=tokens.obs.device)
        values = self.encoder(tokens.obs[tokens.valid], dtype).to(dtype)
        return encoded.masked_scatter(tokens.valid[..., None], values)


def symlog(x: torch.Tensor) -> torch.Tensor:
    """Squash a reward of any scale, sign kept (Hafner et al. 2023)."""
    return x.sign() * x.abs().log1p()


class Block(nn.Module):
    """Attention, then a perceptron, each added to the residual stream."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn, self.mlp, self.resid = Attention(width, heads), MLP(width), Tap()

    def forward(self, x: torch.Tensor, mask: torch.Tensor, cache=None) -> torch.Tensor:
        x = x + self.attn(norm(x), mask, cache)
        return self.resid(x + self.mlp(norm(x)))


class Attention(nn.Module):
    """Explicit softmax attention: on CPUs faster than the fused kernel, and with taps."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.q, self.k, self.v, self.pattern, self.z, self.result = (Tap() for _ in range(6))

    def forward(self, x: torch.Tensor, mask: torch.Tensor, cache=None) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = self.q(q), self.k(k), self.v(v)  # (B, H, S, d)
        if cache is not None:
            k, v = cache(k, v)
        q, size = q * k.shape[-1] ** -0.5, q.shape[2]
        if mask.ndim > 2 or size <= CHUNK or self.pattern.observers:
            z = self._attend(q, k, v, mask)
        else:  # the mask is causal and nobody records or edits whole patterns
            parts = []
            for a in range(0, size, CHUNK):
                b = min(a + CHUNK, size)
                causal = k[:, :, :b], v[:, :, :b], mask[a:b, :b]
                parts.append(self._attend(q[:, :, a:b], *causal))
            z = torch.cat(parts, dim=2)
        return self.result(self.out(self.z(z).transpose(1, 2).flatten(2)))

    def _attend(self, q, k, v, mask) -> torch.Tensor:
        """Return the means of values (B, H, query, d) by scaled queries' attention to keys."""
        scores = q @ k.mT + mask  # (B, H, query, key)
        return self.pattern(scores.softmax(-1)) @ v


class MLP(nn.Module):
    """Two linear maps with a ReLU between them, four times as wide."""

    def __init__(self, width: int):
        super().__init__()
        self.inner, self.out = Linear(width, 4 * width), Linear(4 * width, width)
        self.hidden, self.result = Tap(), Tap()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.result(self.out(self.hidden(F.relu(self.inner(x)))))


class Cache:
    """Keys and values (L, N, H, S, d) of N windows: a step costs one token, not a window.

    `valid` (N, S) marks the slots that hold a token; whoever writes tokens keeps it up to date.
    """

    def __init__(self, model: CausalTransformer, valid: torch.Tensor):
        layers, heads, width = (model.config[name] for name in ("layers", "heads", "width"))
        n, size = valid.shape
        shape = layers, n, heads, size, width // heads
        self.keys, self.values = torch.zeros(2, *shape, device=model.device)
        self.valid = valid

    def rows(self, rows: torch.Tensor | None, begin: torch.Tensor) -> CacheRows:
        """Return the rows (R,), None for all, whose slots from `begin` (R,) on will be computed."""
        return CacheRows(self, rows, begin)


class CacheRows:
    """Some rows of a cache during one forward pass.

    Attention runs over the whole window, empty slots masked: a product over a slice of it takes
    1.5 times as long.
    """

    def __init__(self, cache: Cache, rows: torch.Tensor | None, begin: torch.Tensor):
        self.cache, self.begin = cache, begin
        self.index = slice(None) if rows is None else rows
        self.aligned = rows is None and bool((begin == begin[0]).all())  # slices will do

    def mask(self, position: torch.Tensor) -> torch.Tensor:
        """Return the additive mask (R, 1, query, key): the past, and slots that hold a token."""
        valid = self.cache.valid[self.index, None]
        slot = torch.arange(valid.shape[-1], device=position.device)
        position = position[..., None]
        return additive((slot <= position) & (valid | (slot == position)))[:, None]

    def layer(self, layer: int, position: torch.Tensor) -> Callable:
        """Return a function that stores keys and values (R, H, q, d) and returns the window's."""
        keys, values = self.cache.keys[layer], self.cache.values[layer]

        def store(k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if self.aligned:
                new = slice(int(position[0, 0]), int(position[0, -1]) + 1)
                keys[:, :, new], values[:, :, new] = k, v
                return keys, values
            row = torch.arange(len(keys), device=k.device)[self.index][:, None]
            keys[row, :, position], values[row, :, position] = k.transpose(1, 2), v.transpose(1, 2)
            return keys[self.index], values[self.index]

        return store
