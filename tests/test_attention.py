"""Attention over episodes: what is recorded, how it is summed, and what ablating, erasing and prompting do."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import same, scrambled

import adkit as ad
from adkit.models.tokens import tokenize, window_starts
from adkit.probing import (
    ablate_head,
    after_first_reward,
    attention_masses,
    attention_rollout,
    erase_episode,
)

ROOM = ad.envs.DarkRoom(size=5, horizon=8)
LAKE = ad.envs.from_gymnasium("FrozenLake-v1", horizon=8, is_slippery=False)  # episodes end early
WINDOW, TOKENS = 4, 9  # episodes in a window, slots in an episode
KINDS = ["rewarded", "rewarded earlier", "restart", "same cell", "this episode", "earlier episodes"]


def alike(pattern):
    """Uniform causal attention, in place of any other."""
    return (pattern > 0) / (pattern > 0).sum(-1, keepdim=True)


@pytest.fixture(scope="module", params=[ROOM, LAKE], ids=["room", "lake"])
def world(request):
    """An environment, a random model and three lifetimes of nine episodes: the window of four fills and is cut twice."""
    env = request.param
    model = scrambled(ad.CausalTransformer(env.spec, context=32, layers=2, heads=2, width=16))
    lives = ad.collect(
        env, env.tasks()[:1], ad.sources.PosteriorSampling(), episodes=9, lifetimes=3, seed=1
    )
    assert (lives.length < 8).any() == (env is LAKE) and (lives.episode_returns > 0).any()
    return env, model, lives


@pytest.fixture(scope="module")
def masses(world):
    _, model, lives = world
    return attention_masses(model, lives, batch=2)


def join(past, future):
    """Episodes of the same lifetimes, one after the other."""
    arrays = {
        name: np.concatenate([past.arrays[name], values], axis=1)
        for name, values in future.arrays.items()
    }
    return replace(future, arrays=arrays, episode=np.arange(past.n_episodes + future.n_episodes))


def spied(agent, heard):
    """The agent, with the logits of every token it acts on or closes an episode with put in `heard[lifetime]`."""

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
    """Logits of every token of lifetime n from episode `after` on, each window run whole, without a cache."""
    rows = []
    for e, start in enumerate(window_starts(lives.n_episodes, WINDOW, 1)):
        windows = lives.windows(np.array([n]), np.array([start]), e + 1 - start)
        with torch.inference_mode():
            logits = model(tokenize(lives.spec, windows).to(model.device))[0].numpy()
        rows.append(logits[(e - start) * TOKENS :][: lives.length[n, e] + 1])
    return np.concatenate(rows[after:])


def test_recorded_patterns_equal_an_explicit_softmax(world):
    """softmax(q k^T / sqrt(d)) over the past, in NumPy, from the queries and keys of each window run alone."""
    _, model, lives = world
    patterns = ad.record(model, lives, "blocks.*.attn.pattern")
    for start in np.unique(patterns.window_start):
        here = np.flatnonzero(patterns.window_start == start)
        window = lives.episodes[start : here[-1] + 1]
        parts = ad.record(model, window, "blocks.*.attn.[qk]")
        exists = (np.arange(TOKENS) <= window.length[..., None]).reshape(3, -1)
        size = exists.shape[1]
        for layer in range(2):
            q, k = (parts[f"blocks.{layer}.attn.{name}"].reshape(3, size, 2, 8) for name in "qk")
            scores = np.einsum("nqhd,nshd->nhqs", q, k) / np.sqrt(8)
            seen = np.tri(size, dtype=bool) & exists[:, None, None]
            weights = np.exp(scores - scores.max(-1, keepdims=True)) * seen
            weights = np.moveaxis(weights / weights.sum(-1, keepdims=True), 1, 2)[
                :, -len(here) * TOKENS :
            ]
            recorded = patterns[f"blocks.{layer}.attn.pattern"][:, here].reshape(3, -1, 2, 36)
            tokens = exists[:, -len(here) * TOKENS :]
            np.testing.assert_allclose(recorded[..., :size][tokens], weights[tokens], atol=1e-5)
            assert not recorded[..., size:].any()


def test_masses_equal_a_slow_loop(world, masses):
    _, model, lives = world
    patterns = ad.record(model, lives, "blocks.*.attn.pattern")
    tokens = tokenize(lives.spec, lives.arrays)
    obs, paid = tokens.obs.reshape(3, 9, TOKENS, -1), tokens.previous_reward.reshape(3, 9, TOKENS)
    for n, e in np.ndindex(3, 9):
        for t in range(lives.length[n, e]):
            mass, count, total = np.zeros((len(KINDS), 2, 2)), np.zeros(len(KINDS)), 0
            for f in range(patterns.window_start[e], e + 1):
                for s in range(min(lives.length[n, f], t if f == e else 99) + 1):
                    slot = (f - patterns.window_start[e]) * TOKENS + s
                    look = np.array(
                        [
                            patterns[f"blocks.{layer}.attn.pattern"][n, e, t, :, slot]
                            for layer in range(2)
                        ]
                    )
                    rewarded, earlier = paid[n, f, s] > 0, f < e
                    again = earlier and (obs[n, f, s] == obs[n, e, t]).all()
                    is_kind = np.array(
                        [rewarded, rewarded and earlier, s == 0, again, not earlier, earlier]
                    )
                    mass, count, total = (
                        mass + is_kind[:, None, None] * look,
                        count + is_kind,
                        total + 1,
                    )
            for k, kind in enumerate(KINDS):
                np.testing.assert_allclose(masses.mass[kind][n, e, t], mass[k], atol=1e-5)
                np.testing.assert_allclose(
                    masses.uniform[kind][n, e, t], count[k] / total, atol=1e-6
                )


def test_masses_do_not_depend_on_the_batch_and_sum_to_one(world, masses):
    _, model, lives = world
    whole = attention_masses(model, lives)
    for kind in KINDS:
        np.testing.assert_allclose(whole.mass[kind], masses.mass[kind], atol=1e-6)
    total = masses.mass["this episode"] + masses.mass["earlier episodes"]
    np.testing.assert_allclose(total[masses.decided], 1, atol=1e-5)
    assert not total[~masses.decided].any() and masses.decided.sum() == lives.length.sum()


def test_forced_uniform_attention_has_ratio_one_for_every_kind(world):
    _, model, lives = world
    with ad.edit(model, {"blocks.*.attn.pattern": alike}):
        masses = attention_masses(model, lives)
    for kind in KINDS:
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
    assert np.isnan(masses.ratio("rewarded", where=~after)).all()  # nothing rewarded to look at yet
    by_hand = (
        masses.mass["restart"][1][after[1]].sum(0) / masses.uniform["restart"][1][after[1]].sum()
    )
    np.testing.assert_allclose(masses.ratio("restart", where=after)[1], by_hand, rtol=1e-5)


def test_ablating_a_head_is_zeroing_its_columns(world):
    _, model, lives = world
    logits = lambda model: ad.record(model, lives, "logits").array
    before = logits(model)
    with ad.edit(model, {"blocks.1.attn.z": ablate_head(0)}):
        ablated = logits(model)
    twin = ad.CausalTransformer(model.spec, **model.config)
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        twin.blocks[1].attn.out.weight[:, :8] = 0
    np.testing.assert_allclose(ablated, logits(twin), atol=1e-5)
    assert np.abs(ablated - before).max() > 0.01 and np.array_equal(before, logits(model))


def test_an_ablated_model_acts_cached_as_it_computes_whole(world):
    env, model, _ = world
    heard = {}
    with ad.edit(model, {"blocks.0.attn.z": ablate_head(1)}):
        rollouts = ad.collect(
            env, env.tasks()[:1], spied(ad.InContext(model), heard), episodes=6, lifetimes=2
        )
        for n in range(2):
            logits = recomputed(model, rollouts, n)
            np.testing.assert_allclose(np.array(heard[n])[: len(logits)], logits, atol=2e-5)
    assert (
        np.abs(recomputed(model, rollouts, 1) - logits).max() > 0.01
    )  # and differs from the whole model


@pytest.mark.parametrize("episodes", [1, 2, 3])
def test_acting_after_a_prompt_equals_recomputing_prompt_and_all(world, episodes):
    """Up to a prompt that leaves room for nothing but the present."""
    env, model, lives = world
    prompt, heard = lives.episodes[:episodes], {}
    agent = spied(ad.InContext(model, prompt=prompt), heard)
    rollouts = ad.collect(env, env.tasks()[:1], agent, episodes=6, lifetimes=3, seed=4)
    for n in range(3):
        logits = recomputed(model, join(prompt, rollouts), n, after=episodes)
        np.testing.assert_allclose(np.array(heard[n])[: len(logits)], logits, atol=2e-5)
    assert not same(
        rollouts,
        ad.collect(env, env.tasks()[:1], ad.InContext(model), episodes=6, lifetimes=3, seed=4),
    )


def test_a_prompted_lifetime_goes_on_where_it_left_off(world):
    """Greedy, in a world without chance: the second half of a life is the same, lived on or prompted with the first."""
    env, model, _ = world
    agent, tasks = ad.InContext(model, temperature=1e-6), env.tasks()[:3]
    whole = ad.collect(env, tasks, agent, episodes=9)
    rest = ad.collect(env, tasks, replace(agent, prompt=whole.episodes[:3]), episodes=6)
    assert same(whole.episodes[3:], rest)


def test_attention_rollout_is_a_product_over_layers(world):
    _, model, lives = world
    seen = ad.record(model, lives.episodes[:2], "blocks.*.attn.pattern")
    patterns = list(seen.values.values())
    size = 2 * patterns[0].shape[2]
    mean = [pattern.mean(3).reshape(3, size, -1)[..., :size] for pattern in patterns]
    expected = np.eye(size)
    for layer, rolled in zip(mean, attention_rollout(patterns), strict=True):
        expected = (0.5 * layer + 0.5 * np.eye(size)) @ expected
        np.testing.assert_allclose(rolled.reshape(3, size, -1)[..., :size], expected, atol=1e-6)
        np.testing.assert_allclose(rolled.sum(-1), 1, atol=1e-5)


def test_erasing_an_episode_is_a_life_without_it(world):
    _, _, lives = world
    shorter = erase_episode(lives, np.array([0, 4, 8]))
    ad.testing.check_histories(shorter)
    assert (
        shorter.n_episodes == 8
        and shorter.episode.tolist() == list(range(8))
        and lives.n_episodes == 9
    )
    for n, gone in enumerate([0, 4, 8]):
        for name, values in lives.arrays.items():
            np.testing.assert_array_equal(
                shorter.arrays[name][n], np.delete(values[n], gone, axis=0)
            )


def test_a_prompted_agent_is_described_in_one_line(world):
    _, model, lives = world
    text = repr(ad.InContext(model, prompt=lives.episodes[:3]))
    assert "\n" not in text and "prompt=3 lifetimes x 3 episodes of PosteriorSampling(" in text


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda m, h: attention_masses(m, h, batch=0),
            "batch=0, 2 lifetimes; give at least 1 of each",
        ),
        (lambda m, h: attention_masses(m, h[:0]), "0 lifetimes; give at least 1"),
        (
            lambda m, h: attention_masses(m, h).ratio("goal"),
            "kind='goal'; attention was measured on rewarded, rewarded earlier",
        ),
        (
            lambda m, h: attention_masses(m, h).ratio("restart", where=np.ones(3)),
            r"where is float64 \(3,\); .*bool \(2, 3, 8\)",
        ),
        (
            lambda m, h: erase_episode(h, np.array([0, 3])),
            "episodes 0 to 3 to erase, of 3; at least one must be left of 0 to 2",
        ),
        (lambda m, h: erase_episode(h, np.array([-1, 0])), "episodes -1 to 0 to erase, of 3"),
        (
            lambda m, h: erase_episode(h.episodes[:1], np.array([0, 0])),
            "episodes 0 to 0 to erase, of 1",
        ),
        (
            lambda m, h: erase_episode(h, np.array([0.0, 1.0])),
            "float64 .*one whole number for each of 2 lifetimes",
        ),
        (
            lambda m, h: erase_episode(h, 1),
            r"int64 \(\); give one whole number for each of 2 lifetimes",
        ),
        (
            lambda m, h: ad.InContext(
                m, prompt=ad.collect(ROOM, ROOM.tasks()[:1], ad.sources.Random(), episodes=6)
            ),
            r"must have 1 to 3 episodes for a window of 4, got 6; try prompt.episodes\[-3:\]",
        ),
        (
            lambda m, h: ad.InContext(m, memory="episode", prompt=h),
            "forgets a prompt at once",
        ),
        (
            lambda m, h: ad.collect(
                ROOM, ROOM.tasks()[:1], ad.InContext(m, prompt=h), episodes=1, lifetimes=3
            ),
            "3 lifetimes, got 2 histories",
        ),
        (
            lambda m, h: ad.InContext(
                m, prompt=ad.collect(LAKE, LAKE.tasks(), ad.sources.Random(), episodes=1)
            ),
            "made for DarkRoom with n_actions=5, but FrozenLake-v1",
        ),
    ],
)
def test_a_wrong_call_is_refused_kindly(model, call, says):
    lives = ad.collect(ROOM, ROOM.tasks()[:1], ad.sources.Random(), episodes=3, lifetimes=2)
    with pytest.raises(ValueError, match=says):
        call(model, lives)


def test_a_prompted_lifetime_is_the_same_in_any_executor(model):
    prompt = ad.collect(ROOM, ROOM.tasks()[:6], ad.sources.Random(), episodes=3)
    live = lambda **how: ad.collect(
        ROOM, ROOM.tasks()[:6], ad.InContext(model, prompt=prompt), episodes=1, **how
    )
    with ThreadPoolExecutor(1) as pool:
        assert same(live(), live(executor=pool))


def test_a_prompt_of_other_lifetimes_is_refused(model):
    prompt = ad.collect(ROOM, ROOM.tasks()[:5], ad.sources.Random(), episodes=3)
    with pytest.raises(ValueError, match="6 lifetimes, got 5 histories"):
        ad.collect(ROOM, ROOM.tasks()[:6], ad.InContext(model, prompt=prompt), episodes=1)


@pytest.mark.parametrize(
    ("tap", "head", "says"),
    [
        ("blocks.1.attn.z", 2, r"ablate_head\(2\) of a layer with heads 0 to 1"),
        ("blocks.1.attn.z", -1, r"ablate_head\(-1\) of a layer"),
        ("blocks.1.resid", 0, r'got an activation of \(1, 27, 16\); edit a "blocks.\*.attn.z"'),
    ],
)
def test_a_head_that_is_not_there_is_refused(model, tap, head, says):
    lives = ad.collect(ROOM, ROOM.tasks()[:1], ad.sources.Random(), episodes=3)
    with ad.edit(model, {tap: ablate_head(head)}), pytest.raises(ValueError, match=says):
        ad.record(model, lives, "logits")
