"""A causal transformer over learning histories: pre-norm, one token per step, every activation named."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from adkit import artefacts, weights
from adkit.models.encoders import Linear, encoder
from adkit.models.taps import Tap
from adkit.models.tokens import Tokens, slots, window_episodes
from adkit.protocols import EnvSpec

CHUNK = 256  # queries at a time: half of the keys of a long window are then never looked at
INITIAL_STD = {"table": 0.3, "reward": 0.3, "episode": 0.1, "step": 0.1}  # else 1 / sqrt(inputs)
LAYERS_AT_MOST = 256


class CausalTransformer(nn.Module):
    """Predicts the next action from everything before it, across episodes (Laskin et al. 2022, Eq. 6).

    `context` counts transitions; the window is the whole episodes that fit. The defaults are the Dark Room recipe.
    With `predictions` a second head predicts that many numbers at the first token of each episode, at the tap
    "prediction"; see `predict` of `distill`.
    """

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
        super().__init__()
        if min(layers, heads, width) < 1 or width % heads or layers > LAYERS_AT_MOST:
            raise ValueError(
                f"`layers` must be in 1 to {LAYERS_AT_MOST} and `heads` must divide `width`, "
                f"got layers={layers}, heads={heads}, width={width}"
            )
        self.spec, self.window = spec, window_episodes(spec, context)
        self.config = {
            "context": context,
            "layers": layers,
            "heads": heads,
            "width": width,
            "seed": seed,
            "predictions": predictions,
        }
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
        """Return action logits (B, S, A) float32, one per token; with a cache, `tokens` are only the new ones.

        The blocks compute in `dtype`: bfloat16 is 2-4x as fast where the processor has the units for it. `after` is
        (k, x): resume from the residual stream x (B, S, D) after k blocks; its tap sees it again.
        """
        return self.heads(tokens, cache, dtype, after)[0]

    def heads(self, tokens: Tokens, cache=None, dtype=None, after=None) -> tuple:
        """Return the logits, and the predictions (B, S, predictions) float32 or None."""
        position = tokens.slot
        if position is None:
            size = tokens.previous_action.shape[1]
            position = torch.arange(size, device=tokens.previous_action.device)[None]
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
        """Additive attention mask, broadcast over (B, heads, query, key): the past, and only slots that hold a token.

        Packed windows share one (query, key) mask: their empty slots are later than every token.
        """
        size = tokens.previous_action.shape[1]
        allowed = torch.ones(size, size, dtype=torch.bool, device=tokens.obs.device).tril()
        if tokens.valid is not None and tokens.slot is None:
            allowed = (allowed & tokens.valid[:, None, :]) | torch.eye(
                size, dtype=torch.bool, device=allowed.device
            )
            allowed = allowed[:, None]
        return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(
            ~allowed, -math.inf
        )

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def check_spec(self, spec: EnvSpec) -> None:
        """Raise ValueError unless this model reads and acts as `spec` wants."""
        for name in ("n_actions", "horizon", "cardinality", "shape", "view", "seen"):
            mine, theirs = getattr(self.spec, name), getattr(spec, name)
            if mine != theirs:
                raise ValueError(
                    f"this model was made for {self.spec.name} with {name}={mine}, and this is {spec.name} with "
                    f"{name}={theirs}; distil a model on histories of that environment."
                )

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write weights (safetensors) and a hashed manifest, whole or not at all."""
        about = {"spec": asdict(self.spec), "config": self.config}
        files = {"weights.safetensors": weights.pack(self.state_dict())}
        return artefacts.save(path, "causal transformer", files, about, overwrite)

    @staticmethod
    def load(path: str | Path) -> CausalTransformer:
        """Read and verify a saved model."""
        files, about = artefacts.load(path, "causal transformer")
        build = lambda: CausalTransformer(
            EnvSpec(**about["spec"]), **renamed_config(about["config"])
        )
        return weights.restore(path, build, files)

    def __repr__(self) -> str:
        size = sum(parameter.numel() for parameter in self.parameters())
        settings = ", ".join(f"{name}={value}" for name, value in self.config.items())
        return f"CausalTransformer({self.spec.name}, {settings}): {size:,} parameters, window of {self.window} episodes"


def renamed_config(config: dict) -> dict:
    """Return a model's settings under today's names; version 0.1 said "outcomes" for "predictions"."""
    return {{"outcomes": "predictions"}.get(name, name): value for name, value in config.items()}


def norm(x: torch.Tensor) -> torch.Tensor:
    """Layer norm without parameters; the linear map after it learns the scale."""
    return F.layer_norm(x, x.shape[-1:])


class Embedding(nn.Module):
    """Observation + previous action + previous reward + (episode in window, step in episode), summed.

    Discrete observations are FACTORED: one table per coordinate. With one row per cell a held-out goal's cell has no
    trained "rewarded here" meaning, and the same model reached 18% of the optimum instead of 74%.
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
        """(B, S, D) in `dtype` for tokens at slots `position` (B or 1, S) of their windows."""
        rows = tokens.previous_action[..., None]
        if self.shown:
            rows = torch.cat([tokens.obs[..., : self.shown].long(), rows], dim=-1)
        x = F.embedding_bag((rows + self.offsets).flatten(0, 1), self.table, mode="sum").unflatten(
            0, rows.shape[:2]
        )
        x = x + symlog(tokens.previous_reward)[..., None] * self.reward
        episode = (position // self.slots).clamp(
            max=len(self.episode) - 1
        )  # beyond it is only padding
        x = (x + (self.episode[episode] + self.step[position % self.slots])).to(dtype)
        return x if self.encoder is None else x + self._seen(tokens, dtype)

    def _seen(self, tokens: Tokens, dtype: torch.dtype) -> torch.Tensor:
        """What the encoder makes of the observations (B, S, D); it looks only at slots that hold a token."""
        if tokens.valid is None:
            return self.encoder(tokens.obs.flatten(0, 1), dtype).unflatten(0, tokens.obs.shape[:2])
        seen = torch.zeros(
            *tokens.valid.shape, self.table.shape[1], dtype=dtype, device=tokens.obs.device
        )
        return seen.masked_scatter(
            tokens.valid[..., None], self.encoder(tokens.obs[tokens.valid], dtype).to(dtype)
        )


def symlog(x: torch.Tensor) -> torch.Tensor:
    """Squash a reward of any scale, sign kept (Hafner et al. 2023)."""
    return x.sign() * x.abs().log1p()


class Block(nn.Module):
    """Attention, then a perceptron, each added to the residual stream."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn, self.mlp, self.resid = Attention(width, heads), MLP(width), Tap()

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, cache=None) -> torch.Tensor:
        x = x + self.attn(norm(x), mask, cache)
        return self.resid(x + self.mlp(norm(x)))


class Attention(nn.Module):
    """Explicit softmax attention: at these sizes it is faster than the fused kernel on a CPU, and every step has a tap."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.q, self.k, self.v, self.pattern, self.z, self.result = (Tap() for _ in range(6))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, cache=None) -> torch.Tensor:
        q, k, v = (
            self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # (B, H, S, d) each
        q, k, v = self.q(q), self.k(k), self.v(v)
        if cache is not None:
            k, v = cache(k, v)
        q, size = q * k.shape[-1] ** -0.5, q.shape[2]
        if mask is None or mask.ndim > 2 or size <= CHUNK or self.pattern.observers:
            z = self._attend(q, k, v, mask)
        else:  # the mask is causal and nobody records or edits whole patterns
            ends = [*range(CHUNK, size, CHUNK), size]
            rows = zip([0, *ends], ends, strict=False)
            z = torch.cat(
                [
                    self._attend(q[:, :, a:b], k[:, :, :b], v[:, :, :b], mask[a:b, :b])
                    for a, b in rows
                ],
                dim=2,
            )
        z = self.z(z)
        return self.result(self.out(z.transpose(1, 2).flatten(2)))

    def _attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Means of values (B, H, query, d) by scaled queries' attention to keys."""
        scores = q @ k.mT  # (B, H, query, key)
        return self.pattern((scores if mask is None else scores + mask).softmax(-1)) @ v


class MLP(nn.Module):
    """Two linear maps with a ReLU between them, four times as wide."""

    def __init__(self, width: int):
        super().__init__()
        self.inner, self.out = Linear(width, 4 * width), Linear(4 * width, width)
        self.hidden, self.result = Tap(), Tap()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.result(self.out(self.hidden(F.relu(self.inner(x)))))


class Cache:
    """Keys and values (L, N, H, S, d) of N windows, so that a step costs one token and not a window.

    `valid` (N, S) says which slots hold a token; whoever writes tokens keeps it up to date.
    """

    def __init__(self, model: CausalTransformer, valid: torch.Tensor):
        layers, heads, width = (model.config[name] for name in ("layers", "heads", "width"))
        n, size = valid.shape
        shape = layers, n, heads, size, width // heads
        self.keys, self.values = torch.zeros(2, *shape, device=model.device)
        self.valid = valid

    def rows(self, rows: torch.Tensor | None, begin: torch.Tensor) -> CacheRows:
        """The rows (R,) - None for all - of which slots from `begin` (R,) on are to be computed."""
        return CacheRows(self, rows, begin)


class CacheRows:
    """Some rows of a cache during one forward pass.

    Attention runs over the whole window, empty slots masked: a product over a slice of it takes 1.5 times as long.
    """

    def __init__(self, cache: Cache, rows: torch.Tensor | None, begin: torch.Tensor):
        self.cache, self.begin = cache, begin
        self.index = slice(None) if rows is None else rows
        self.aligned = rows is None and bool(
            (begin == begin[0]).all()
        )  # every row at the same slot: slices will do

    def mask(self, position: torch.Tensor) -> torch.Tensor:
        """Additive attention mask (R, 1, query, key): the past, and only slots that hold a token."""
        valid = self.cache.valid[self.index, None]
        slot = torch.arange(valid.shape[-1], device=position.device)
        allowed = (slot <= position[..., None]) & (valid | (slot == position[..., None]))
        return torch.zeros(allowed.shape, device=position.device).masked_fill(~allowed, -math.inf)[
            :, None
        ]

    def layer(self, layer: int, position: torch.Tensor):
        """A function that stores new keys and values (R, H, q, d) and returns the whole window's (R, H, S, d)."""
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
