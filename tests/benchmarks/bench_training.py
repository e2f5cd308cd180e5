"""Transitions trained on per second: `distill` against the transformer that most re-implementations
start from.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from measure import compare, rate, say, trains_on
from torch import nn
from torch.nn import functional as F

import adkit as ad
from adkit.models.training import auto_dtype

CONTEXT, LAYERS, WIDTH, HEADS, BATCH = 200, 3, 64, 2, 64
ENV = ad.envs.DarkRoom()
WINDOW = CONTEXT // ENV.spec.horizon  # episodes
HISTORIES = ad.collect(
    ENV, ENV.tasks(), ad.sources.QLearning(), episodes=500, lifetimes=8, every=25
)


def distilled(steps: int, **settings) -> float:
    """Transitions per second of `ad.distill` from its own clock: drawing windows, forward,
    backward, both optimizers, log.
    """
    model = ad.CausalTransformer(ENV.spec, context=CONTEXT, layers=LAYERS, heads=HEADS, width=WIDTH)
    log = ad.distill(model, HISTORIES, steps=steps, batch=BATCH, **settings)
    return steps * BATCH * CONTEXT / log["seconds"].iloc[-1]


class Peer(nn.Module):
    """`nn.TransformerEncoder` as it comes: post-norm, dropout, float causal mask.

    One or three tokens per transition.
    """

    def __init__(self, tokens: int):
        super().__init__()
        spec = ENV.spec
        self.tokens, self.size = tokens, CONTEXT * tokens
        self.obs, self.reward = nn.Embedding(spec.n_observations, WIDTH), nn.Linear(1, WIDTH)
        self.action, self.position = (
            nn.Embedding(spec.n_actions + 1, WIDTH),
            nn.Embedding(self.size, WIDTH),
        )
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, dim_feedforward=4 * WIDTH, dropout=0.1, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, spec.n_actions)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(self.size))

    def forward(
        self, obs: torch.Tensor, action: torch.Tensor, reward: torch.Tensor
    ) -> torch.Tensor:
        """Logits (B, T, A) of every action from observations, actions and rewards (B, T)."""
        if self.tokens == 3:
            x = torch.stack(
                [self.obs(obs), self.action(action), self.reward(reward[..., None])], dim=2
            ).flatten(1, 2)
        else:  # one token holds the observation and what came before it
            before = (
                F.pad(action[:, :-1], (1, 0), value=ENV.spec.n_actions),
                F.pad(reward[:, :-1], (1, 0)),
            )
            x = self.obs(obs) + self.action(before[0]) + self.reward(before[1][..., None])
        x = x + self.position(torch.arange(self.size, device=x.device))
        return self.head(
            self.encoder(x, mask=self.mask)[:, :: self.tokens]
        )  # where the action is not yet seen


class PeerTraining:
    """A peer's training loop: AdamW, cross-entropy on every action, the same windows of the same
    histories.
    """

    def __init__(self, tokens: int, batch: int):
        torch.manual_seed(0)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"  # as distill chooses
        self.model, self.batch, self.rng = (
            Peer(tokens).to(self.device).train(),
            batch,
            np.random.default_rng(0),
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.losses: list[float] = []

    def __call__(self, steps: int) -> int:
        for _ in range(steps):
            lifetime = self.rng.integers(len(HISTORIES), size=self.batch)
            start = self.rng.integers(HISTORIES.n_episodes - WINDOW + 1, size=self.batch)
            windows = HISTORIES.windows(lifetime, start, WINDOW)
            obs = torch.as_tensor(ENV.spec.index(windows["obs"]).reshape(self.batch, -1)).to(
                self.device
            )
            action = (
                torch.as_tensor(windows["action"].reshape(self.batch, -1)).to(self.device).long()
            )
            reward = torch.as_tensor(windows["reward"].reshape(self.batch, -1)).to(self.device)
            loss = F.cross_entropy(self.model(obs, action, reward).flatten(0, 1), action.flatten())
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.item())
        return steps * self.batch * CONTEXT


def flops(recipe: str) -> dict[str, float]:
    """What a transition takes: six per weight of the blocks, and causal attention over the window,
    which the default recipe's short windows have less of.
    """
    model = ad.CausalTransformer(ENV.spec, context=CONTEXT, layers=LAYERS, heads=HEADS, width=WIDTH)
    weights = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name.startswith("blocks")
    )
    attended = (
        CONTEXT / 2 if recipe == "full windows" else (CONTEXT / 2 + 3 * ENV.spec.horizon / 2) / 2
    )
    return {
        str(auto_dtype("auto", model.device)).removeprefix("torch."): 6 * weights
        + 12 * LAYERS * WIDTH * attended
    }


def test_training():
    """Full windows are compared like for like; then the default recipe, half of whose steps use
    short windows.

    The three-token peer trains on 16 windows a step, 9,600 tokens: at 64 its attention alone would
    hold gigabytes. Only transitions per second are compared.
    """
    say(f"training on {trains_on()}")
    three, one = PeerTraining(tokens=3, batch=16), PeerTraining(tokens=1, batch=BATCH)
    peers = {
        "three": (lambda: rate(partial(three, 2)), 10),
        "one": (lambda: rate(partial(one, 3)), 2.5),
    }
    ours = {
        "full windows": partial(distilled, 8, schedule=ad.Schedule(short=0.0)),
        "default recipe": partial(distilled, 12),
    }
    missed = []
    for recipe, mine in ours.items():
        for tokens, (theirs, asked) in peers.items():
            try:
                compare(
                    f"training, {recipe}, {tokens}-token peer",
                    mine,
                    theirs,
                    asked=asked,
                    **flops(recipe),
                )
            except AssertionError as error:
                missed.append(str(error))
    for peer in (three, one):
        assert np.mean(peer.losses[-5:]) < np.log(ENV.spec.n_actions), (
            "the peer does not learn; it is no baseline."
        )
    assert not missed, " ".join(missed)
