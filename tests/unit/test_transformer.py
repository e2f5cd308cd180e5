"""Tokens by hand, and the transformer against a naive one: chunked, sampled, in bfloat16."""

from dataclasses import asdict

import numpy as np
import torch
from helpers import scrambled

import adkit as ad
from adkit import store
from adkit.models.network import pack_tensors
from adkit.models.tokens import NO_TARGET, tokenize, window_starts
from adkit.models.transformer import CHUNK


def tokens_of(histories, episodes):
    n = len(histories)
    windows = histories.windows(np.arange(n), np.zeros(n, int), episodes)
    return tokenize(histories.spec, windows)


def test_two_short_episodes_as_written_by_hand():
    """Horizon 3; the first episode ends after two steps: o0 o1 o2* empty | o0 o1 o2 o3*."""
    spec = ad.EnvSpec("x", n_actions=2, horizon=3, cardinality=(9,))
    windows = {
        "obs": np.array([[[1, 2, 0], [4, 5, 6]]])[..., None],
        "action": np.array([[[1, 0, 0], [0, 1, 1]]]),
        "reward": np.array([[[0, 7, 0], [1, 2, 3]]], np.float32),
        "terminated": np.array([[[0, 1, 0], [0, 0, 0]]], bool),
        "truncated": np.array([[[0, 0, 0], [0, 0, 1]]], bool),
        "final_obs": np.array([[[3], [7]]]),
    }
    tokens = tokenize(spec, windows, label=np.array([[0.5, 0.7]]))
    real = tokens.valid[0]
    assert real.tolist() == [True] * 3 + [False] + [True] * 4
    assert tokens.obs[0, :, 0].tolist() == [1, 2, 3, 0, 4, 5, 6, 7]
    assert tokens.previous_action[0, real].tolist() == [2, 1, 0, 2, 0, 1, 1]  # 2 is "restart"
    assert tokens.previous_reward[0, real].tolist() == [0, 0, 7, 0, 1, 2, 3]
    assert tokens.target[0].tolist() == [1, 0, NO_TARGET, NO_TARGET, 0, 1, 1, NO_TARGET]
    assert np.flatnonzero(~np.isnan(tokens.label[0])).tolist() == [0, 4]


def test_the_window_drops_whole_old_episodes():
    assert window_starts(12, 4, 2).tolist() == [0, 0, 0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    assert window_starts(5, 4, 3).tolist() == [0, 0, 0, 0, 1]
    assert window_starts(4, 1, 0).tolist() == [0, 1, 2, 3]


@torch.inference_mode()
def test_the_model_equals_a_naive_one(env, model, histories):
    """The forward pass again, token by token and head by head, in float64 NumPy."""
    tokens = tokens_of(histories[:2], 4)
    tokens.previous_reward[:, ::3] -= 2  # some are negative
    logits = model(tokens.to(model.device)).numpy()
    w = {name: value.double().numpy() for name, value in model.named_parameters()}
    norm = lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    slot, table = np.arange(36), w["embed_tokens.table"]
    for b in range(2):
        i, j = tokens.obs[b].T
        x = table[i] + table[5 + j] + table[10 + tokens.previous_action[b]]
        reward = tokens.previous_reward[b][:, None]
        x = x + np.sign(reward) * np.log1p(np.abs(reward)) * w["embed_tokens.reward"]
        x = x + w["embed_tokens.episode"][slot // 9] + w["embed_tokens.step"][slot % 9]
        for layer in range(2):
            p = f"blocks.{layer}."
            q, k, v = np.split(norm(x) @ w[p + "attn.qkv.weight"].T, 3, axis=1)
            heads = []
            for h in (slice(0, 8), slice(8, 16)):
                rows = []
                for t in range(36):
                    score = np.array([q[t, h] @ k[s, h] / np.sqrt(8) for s in range(t + 1)])
                    pattern = np.exp(score - score.max())
                    rows.append((pattern / pattern.sum()) @ v[: t + 1, h])
                heads.append(rows)
            x = x + np.concatenate(heads, axis=1) @ w[p + "attn.out.weight"].T
            x = x + np.maximum(norm(x) @ w[p + "mlp.inner.weight"].T, 0) @ w[p + "mlp.out.weight"].T
        np.testing.assert_allclose(logits[b], norm(x) @ w["head.weight"].T, atol=1e-4)


@torch.inference_mode()
def test_bfloat16_and_float32_agree(model, histories):
    tokens = tokens_of(histories[:8], 4).to(model.device)
    exact, brief = model(tokens), model(tokens, dtype=torch.bfloat16)
    assert (exact.softmax(-1) - brief.softmax(-1)).abs().mean() < 0.02
    assert not torch.equal(exact, brief)


@torch.inference_mode()
def test_of_a_window_longer_than_a_chunk_no_token_sees_a_later_one():
    env = ad.envs.DarkRoom(size=5, horizon=30)
    made = ad.collect(env, env.tasks()[:2], ad.sources.Random(), episodes=10)
    model = scrambled(ad.CausalTransformer(env.spec, context=300, layers=2, heads=2, width=16))
    tokens = tokens_of(made, 10).to(model.device)
    assert tokens.valid is None and tokens.target.shape[1] > CHUNK
    before = model(tokens)
    with ad.edit(model, {"*.pattern": lambda pattern: pattern}):  # patterns are then whole
        np.testing.assert_allclose(before, model(tokens), atol=1e-4)
    for cut in (300, CHUNK, 40):
        tokens.previous_action[:, cut:] = (tokens.previous_action[:, cut:] + 1) % 5
        after = model(tokens)
        assert torch.equal(before[:, :cut], after[:, :cut]), cut
        assert not torch.equal(before[:, cut:], after[:, cut:]), cut


def test_sampled_actions_follow_the_models_probabilities(env, model):
    """First actions of 4,000 lifetimes, at two temperatures."""
    task = env.task(goal=(0, 0))
    for temperature in (1.0, 0.5):
        agent = ad.InContext(model, temperature=temperature)
        rollouts = ad.collect(env, task, agent, episodes=1, lifetimes=4000)
        drawn = np.bincount(rollouts.action[:, 0], minlength=5) / 4000
        logits = torch.as_tensor(ad.record(model, rollouts[:1], "logits").array[0, 0, 0])
        np.testing.assert_allclose(drawn, (logits / temperature).softmax(-1), atol=0.03)


def test_a_model_of_version_0_1_is_read(env, tmp_path):
    model = ad.CausalTransformer(env.spec, context=32, layers=1, width=8, predictions=1)
    names = {new: old for old, new in model.renamed.items()}
    old = lambda saved: {names.get(name, name): value for name, value in saved.items()}
    files = {"weights.safetensors": pack_tensors(old(scrambled(model).state_dict()))}
    about = {"spec": asdict(env.spec), "config": old(model.config)}
    loaded = ad.CausalTransformer.load(store.save(tmp_path / "m", model.kind, files, about))
    assert torch.equal(loaded.prediction_head.weight, model.prediction_head.weight)
