"""Causal transformer over learning histories: pre-norm, one token a step, named activations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from adkit.models.encoders import encoder
from adkit.models.network import Linear, Network, norm, offsets
from adkit.models.taps import Tap
from adkit.models.tokens import Tokens
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
        context, layers, heads, width, seed, predictions = self.config.values()
        if min(layers, heads, width) < 1 or width % heads or layers > LAYERS_AT_MOST:
            raise ValueError(
                f"`layers` must be in 1 to {LAYERS_AT_MOST} and `heads` must divide `width`, "
                f"got layers={layers}, heads={heads}, width={width}"
            )
        if context < 2 * spec.horizon:
            raise ValueError(
                f"`context` must hold at least two episodes (horizon={spec.horizon}), got "
                f"{context}; try context={10 * spec.horizon}"
            )
        self.window = context // spec.horizon
        self.embed_tokens = Embedding(spec, self.window, width)
        self.embed = Tap()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.head = Linear(width, spec.n_actions)
        self.logits = Tap()
        self.prediction_head = Linear(width, predictions) if predictions else None
        self.prediction = Tap() if predictions else None
        self.float()  # whatever torch's default is
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            std = INITIAL_STD.get(name.removeprefix("embed_tokens."), parameter.shape[-1] ** -0.5)
            if name.endswith(("out.weight", "head.weight")):
                std = 0.0  # the model starts by ignoring its layers
            nn.init.normal_(parameter, std=std, generator=generator)

    def forward(self, tokens: Tokens, **how) -> torch.Tensor:
        """Return action logits (B, S, A) float32; `how` is that of `heads`."""
        return self.heads(tokens, **how)[0]

    def heads(
        self,
        tokens: Tokens,
        cache: Cache | None = None,
        dtype: torch.dtype | None = None,
        after: tuple[int, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the logits, and the predictions (B, S, predictions) float32 or None.

        With a cache, `tokens` are only the new ones. The blocks compute in `dtype`: bfloat16 is
        2-4x as fast where it is native. `after` is (k, x): resume from the residual stream x
        (B, S, D) after k blocks; its tap sees it again.
        """
        place = torch.arange(tokens.previous_action.shape[1], device=tokens.obs.device)[None]
        slot = place if tokens.slot is None else tokens.slot  # (B or 1, S)
        done, x = after or (0, self.embed_tokens(tokens, slot, dtype or torch.float32))
        x = self.blocks[done - 1].resid(x) if done else self.embed(x)  # (B, S, D)
        if cache is not None:
            mask = causal_mask(slot, x.dtype, cache.valid)
        else:  # packed windows share one mask: their empty slots come after every token
            mask = causal_mask(place, x.dtype, tokens.valid if tokens.slot is None else None)
        for layer in range(done, len(self.blocks)):
            store = None if cache is None else partial(cache.store, layer, slot)
            x = self.blocks[layer](x, mask, store)
        x = norm(x)
        prediction = None
        if self.prediction_head is not None:
            prediction = self.prediction(self.prediction_head(x).float())
        return self.logits(self.head(x).float()), prediction

    def __repr__(self) -> str:
        return f"{super().__repr__()}, window of {self.window} episodes"


def causal_mask(
    query: torch.Tensor, dtype: torch.dtype, valid: torch.Tensor | None
) -> torch.Tensor:
    """Return what to add to scores (B or 1, 1, query, key): 0 at the past, else minus infinity.

    `query` (B or 1, S) are slots. With `valid` (B, S of keys), whose first slot holds a token,
    empty slots are masked as well.
    """
    size = query.shape[1] if valid is None else valid.shape[1]
    allowed = torch.arange(size, device=query.device) <= query[..., None]  # (B or 1, query, key)
    allowed = allowed if valid is None else allowed & valid[:, None]
    zeros = torch.zeros(allowed.shape, dtype=dtype, device=query.device)
    return zeros.masked_fill(~allowed, -math.inf)[:, None]


class Embedding(nn.Module):
    """The sum of observation, previous action, previous reward, and (episode, step) in the window.

    Discrete observations are FACTORED: one table per coordinate. With one row per cell a held-out
    goal's cell has no trained "rewarded here" meaning, and the same model reached 18% of the
    optimum instead of 74%.
    """

    def __init__(self, spec: EnvSpec, window: int, width: int):
        super().__init__()
        cardinality = spec.shown
        self.n_actions, self.slots = spec.n_actions, spec.horizon + 1
        self.table = nn.Parameter(torch.empty(sum(cardinality) + spec.n_actions + 1, width))
        self.shown, self.encoder = len(cardinality), encoder(spec, width)
        self.reward = nn.Parameter(torch.empty(width))
        self.episode = nn.Parameter(torch.empty(window, width))
        self.step = nn.Parameter(torch.empty(self.slots, width))
        self.register_buffer("offsets", offsets((*cardinality, 1)), persistent=False)

    def forward(self, tokens: Tokens, position: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return (B, S, D) in `dtype` for tokens at slots `position` (B or 1, S)."""
        rows = tokens.previous_action[..., None]
        if self.shown:
            rows = torch.cat([tokens.obs[..., : self.shown].long(), rows], dim=-1)
        rows = (rows + self.offsets).flatten(0, 1)
        x = F.embedding_bag(rows, self.table, mode="sum").unflatten(0, tokens.obs.shape[:2])
        reward = tokens.previous_reward  # squashed, whatever its scale (Hafner et al. 2023)
        x = x + (reward.sign() * reward.abs().log1p())[..., None] * self.reward
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


class Block(nn.Module):
    """Attention, then a perceptron, each added to the residual stream."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn, self.mlp, self.resid = Attention(width, heads), MLP(width), Tap()

    def forward(self, x: torch.Tensor, mask: torch.Tensor, store=None) -> torch.Tensor:
        x = x + self.attn(norm(x), mask, store)
        return self.resid(x + self.mlp(norm(x)))


class Attention(nn.Module):
    """Explicit softmax attention: on CPUs faster than the fused kernel, and with taps."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.q, self.k, self.v, self.pattern, self.z, self.result = (Tap() for _ in range(6))

    def forward(self, x: torch.Tensor, mask: torch.Tensor, store=None) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = self.q(q), self.k(k), self.v(v)  # (B, H, S, d)
        if store is not None:
            k, v = store(k, v)
        q, size = q * k.shape[-1] ** -0.5, q.shape[2]
        if store is not None or size <= CHUNK or self.pattern.edits:
            z = self._attend(q, k, v, mask)
        else:  # queries and keys are the same slots, and nobody records or edits whole patterns
            parts = []
            for a in range(0, size, CHUNK):
                b = a + CHUNK
                keys, values, part = k[:, :, :b], v[:, :, :b], mask[..., a:b, :b]
                parts.append(self._attend(q[:, :, a:b], keys, values, part))
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


@dataclass(frozen=True)
class Cache:
    """Keys and values of N windows, with which a rollout's step costs one token, not a window.

    Attention runs over the whole window, empty slots masked: a product over a slice of it takes
    1.5 times as long.
    """

    keys: torch.Tensor
    """(L, N, H, S, d)."""
    values: torch.Tensor
    """(L, N, H, S, d)."""
    rows: torch.Tensor | slice
    """The windows (R,) whose tokens are new."""
    valid: torch.Tensor
    """(R, S) bool: their slots that hold a token, the new ones included."""

    def store(self, layer: int, slot: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple:
        """Store keys and values (R, H, q, d) at `slot` (R or 1, q); return the windows'."""
        pair = self.keys[layer], self.values[layer]
        for stored, new in zip(pair, (k, v), strict=True):
            if isinstance(self.rows, slice) and len(slot) == 1:  # 10% of a rollout faster
                stored.index_copy_(2, slot[0], new)
            else:
                row = torch.arange(len(stored), device=new.device)[self.rows, None]
                stored[row, :, slot] = new.transpose(1, 2)
        return pair[0][self.rows], pair[1][self.rows]
