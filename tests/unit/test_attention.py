"""Attention over episodes: what is recorded, how it is summed, what ablations and prompts do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import same, scrambled

import adkit as ad
from adkit.models.tokens import tokenize, window_starts
from adkit.probing import ablate_head, after_first_reward, attention_masses, attention_rollout

ROOM = ad.envs.DarkRoom(size=5, horizon=8)
LAKE = ad.envs.from_gymnasium("FrozenLake-v1", horizon=8, is_slippery=False)  # episodes end early
WINDOW, TOKENS = 4, 9  # episodes in a window, slots in an episode
PATTERNS = "blocks.*.attn.pattern"


@pytest.fixture(scope="module", params=[ROOM, LAKE], ids=["room", "lake"])
def world(request):
    """A random model and three lifetimes of nine episodes: the window of four is cut twice."""
    env = request.param
    model = ad.CausalTransformer(env.spec, context=32, layers=2, heads=2, width=16)
    how = {"episodes": 9, "lifetimes": 3, "seed": 1}
    lives = ad.collect(env, env.tasks()[:1], ad.sources.PosteriorSampling(), **how)
    assert (lives.length < 8).any() == (env is LAKE) and (lives.episode_returns > 0).any()
    return env, scrambled(model), lives


@pytest.fixture(scope="module")
def masses(world):
    _, model, lives = world
    return attention_masses(model, lives)


# ---- patterns and masses ----


def test_recorded_patterns_equal_an_explicit_softmax(world):
    """softmax(q k^T / sqrt(d)) over the past, from queries and keys of each window run alone."""
    _, model, lives = world
    patterns = ad.record(model, lives, PATTERNS)
    for start in np.unique(patterns.window_start):
        new = np.flatnonzero(patterns.window_start == start)
        window = lives.episodes[start : new[-1] + 1]
        parts = ad.record(model, window, "blocks.*.attn.[qk]")
        exists = (np.arange(TOKENS) <= window.length[..., None]).reshape(3, -1)
        size, queries = exists.shape[1], slice(-len(new) * TOKENS, None)
        seen = np.tri(size, dtype=bool) & exists[:, None, None]
        for layer in range(2):
            q, k = (parts[f"blocks.{layer}.attn.{name}"].reshape(3, size, 2, 8) for name in "qk")
            scores = np.einsum("nqhd,nshd->nhqs", q, k) / np.sqrt(8)
            weights = np.exp(scores) * seen
            weights = np.moveaxis(weights / weights.sum(-1, keepdims=True), 1, 2)[:, queries]
            recorded = patterns[f"blocks.{layer}.attn.pattern"][:, new].reshape(3, -1, 2, 36)
            tokens = exists[:, queries]
            np.testing.assert_allclose(recorded[..., :size][tokens], weights[tokens], atol=1e-5)
            assert not recorded[..., size:].any()


def test_masses_equal_a_slow_loop(world, masses):
    _, model, lives = world
    patterns = np.stack(list(ad.record(model, lives, PATTERNS).values.values()), 3)
    starts = window_starts(9, WINDOW, 1)
    tokens = tokenize(lives.spec, lives.arrays)
    obs = tokens.obs.reshape(3, 9, TOKENS, -1)
    reward = tokens.previous_reward.reshape(3, 9, TOKENS)
    for n, e in np.ndindex(3, 9):
        for t in range(lives.length[n, e]):
            mass, count, total = dict.fromkeys(masses.mass, 0.0), dict.fromkeys(masses.mass, 0), 0
            for f in range(starts[e], e + 1):
                for s in range(min(lives.length[n, f], t if f == e else 99) + 1):
                    earlier, rewarded = f < e, reward[n, f, s] > 0
                    is_kind = {
                        "rewarded": rewarded,
                        "restart": s == 0,
                        "same cell": earlier and (obs[n, f, s] == obs[n, e, t]).all(),
                        "this episode": not earlier,
                        "earlier episodes": earlier,
                    }
                    total += 1
                    look = patterns[n, e, t, :, :, (f - starts[e]) * TOKENS + s]  # (L, heads)
                    for kind in mass:
                        mass[kind] = mass[kind] + is_kind[kind] * look
                        count[kind] += is_kind[kind]
            for kind in mass:
                np.testing.assert_allclose(masses.mass[kind][n, e, t], mass[kind], atol=1e-5)
                uniform = count[kind] / total
                np.testing.assert_allclose(masses.uniform[kind][n, e, t], uniform, atol=1e-6)
    total = masses.mass["this episode"] + masses.mass["earlier episodes"]
    np.testing.assert_allclose(total[masses.decided], 1, atol=1e-5)
    assert not total[~masses.decided].any() and masses.decided.sum() == lives.length.sum()


def test_forced_uniform_attention_has_ratio_one_for_every_kind(world):
    _, model, lives = world
    uniform = lambda pattern: (pattern > 0) / (pattern > 0).sum(-1, keepdim=True)
    with ad.edit(model, {PATTERNS: uniform}):
        masses = attention_masses(model, lives)
    for kind in masses.mass:
        ratio = masses.ratio(kind)
        assert ratio.shape == (3, 2, 2) and not np.isnan(ratio).all()
        np.testing.assert_allclose(ratio[~np.isnan(ratio)], 1, atol=1e-5)


def test_a_ratio_is_summed_over_the_chosen_decisions(world, masses):
    _, _, lives = world
    after = after_first_reward(lives)
    for n in range(3):
        first = np.flatnonzero(lives.reward[n] > 0)[0]
        exists = np.flatnonzero((np.arange(8) < lives.length[n][:, None]).ravel())
        assert np.flatnonzero(after[n].ravel()).tolist() == exists[exists > first].tolist()
    assert np.isnan(masses.ratio("rewarded", where=~after)).all()  # nothing to look at yet
    mass, uniform = (
        values["restart"][1][after[1]].sum(0) for values in (masses.mass, masses.uniform)
    )
    np.testing.assert_allclose(masses.ratio("restart", where=after)[1], mass / uniform, rtol=1e-5)


def test_attention_rollout_is_a_product_over_layers(world):
    _, model, lives = world
    patterns = list(ad.record(model, lives.episodes[:2], PATTERNS).values.values())
    size = 2 * TOKENS
    expected = np.eye(size)
    for pattern, rolled in zip(patterns, attention_rollout(patterns), strict=True):
        layer = pattern.mean(3).reshape(3, size, -1)[..., :size]
        expected = (0.5 * layer + 0.5 * np.eye(size)) @ expected
        np.testing.assert_allclose(rolled.reshape(3, size, -1)[..., :size], expected, atol=1e-6)


# ---- ablations and prompts, cached and computed whole ----


def test_ablating_a_head_is_zeroing_its_columns(world):
    _, model, lives = world
    logits = lambda model: ad.record(model, lives).array
    before = logits(model)
    with ad.edit(model, {"blocks.1.attn.z": ablate_head(0)}):
        ablated = logits(model)
    twin = ad.CausalTransformer(model.spec, **model.config)
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        twin.blocks[1].attn.out.weight[:, :8] = 0
    np.testing.assert_allclose(ablated, logits(twin), atol=1e-5)
    assert np.abs(ablated - before).max() > 0.01 and np.array_equal(before, logits(model))


def spied(agent, heard):
    """The agent, with the logits of all its tokens put in `heard[lifetime]`."""

    class Spy(type(agent)):
        def start(self, spec, rng, episodes):
            learner = super().start(spec, rng, episodes)
            append = learner._append

            def listen(rows, *token):
                logits = append(rows, *token)
                for row, values in zip(rows, logits.numpy(), strict=True):
                    heard.setdefault(row, []).append(values)
                return logits

            learner._append = listen
            return learner

    return Spy(**{name: getattr(agent, name) for name in agent.__dataclass_fields__})


def recomputed(model, lives, n, after=0):
    """Logits of all tokens of lifetime n from episode `after` on, without a cache."""
    rows = []
    for e, start in enumerate(window_starts(lives.n_episodes, WINDOW, 1)):
        windows = lives.windows(np.array([n]), np.array([start]), e + 1 - start)
        with torch.inference_mode():
            logits = model(tokenize(lives.spec, windows).to(model.device))[0].numpy()
        rows.append(logits[(e - start) * TOKENS :][: lives.length[n, e] + 1])
    return np.concatenate(rows[after:])


def test_an_ablated_model_acts_cached_as_it_computes_whole(world):
    env, model, _ = world
    heard, how = {}, {"episodes": 6, "lifetimes": 2}
    with ad.edit(model, {"blocks.0.attn.z": ablate_head(1)}):
        rollouts = ad.collect(env, env.tasks()[:1], spied(ad.InContext(model), heard), **how)
        for n in range(2):
            logits = recomputed(model, rollouts, n)
            np.testing.assert_allclose(np.array(heard[n])[: len(logits)], logits, atol=2e-5)
    assert np.abs(recomputed(model, rollouts, 1) - logits).max() > 0.01  # unlike the whole model


@pytest.mark.parametrize("episodes", [1, 2, 3])
def test_acting_after_a_prompt_equals_recomputing_prompt_and_all(world, episodes):
    """Up to a prompt that leaves room for nothing but the present."""
    env, model, lives = world
    prompt, heard = lives.episodes[:episodes], {}
    play = lambda agent: ad.collect(env, env.tasks()[:1], agent, episodes=6, lifetimes=3, seed=4)
    rollouts = play(spied(ad.InContext(model, prompt=prompt), heard))
    pairs = {name: (prompt.arrays[name], values) for name, values in rollouts.arrays.items()}
    arrays = {name: np.concatenate(pair, axis=1) for name, pair in pairs.items()}
    both = replace(rollouts, arrays=arrays, episode=np.arange(episodes + 6))
    for n in range(3):
        logits = recomputed(model, both, n, after=episodes)
        np.testing.assert_allclose(np.array(heard[n])[: len(logits)], logits, atol=2e-5)
    assert not same(rollouts, play(ad.InContext(model)))


def test_a_prompted_lifetime_goes_on_where_it_left_off(world):
    """Greedy, without chance: the second half is the same, continued or prompted with the first."""
    env, model, _ = world
    agent, tasks = ad.InContext(model, temperature=1e-6), env.tasks()[:3]
    whole = ad.collect(env, tasks, agent, episodes=9)
    rest = ad.collect(env, tasks, replace(agent, prompt=whole.episodes[:3]), episodes=6)
    assert same(whole.episodes[3:], rest)


def test_prompts_follow_their_lifetimes_into_parts():
    model = scrambled(ad.CausalTransformer(ROOM.spec, context=32, layers=1, width=16))
    prompt = ad.collect(ROOM, ROOM.tasks()[:4], ad.sources.Random(), episodes=3)
    play = lambda tasks, prompt: ad.collect(
        ROOM, tasks, ad.InContext(model, prompt=prompt), episodes=1
    )
    whole, part = play(ROOM.tasks()[:4], prompt), play(ROOM.tasks()[:2], prompt[:2])
    assert same(whole[:2], part)
