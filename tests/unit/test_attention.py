"""Attention over episodes: what is recorded, how it is summed, what ablations and prompts do."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers import same, sliding

import adkit as ad
from adkit.models.tokens import tokenize, window_starts
from adkit.probing import ablate_head, after_first_reward, attention_masses, attention_rollout

ROOM = ad.envs.DarkRoom(size=5, horizon=8)
LAKE = ad.envs.from_gymnasium("FrozenLake-v1", horizon=8, is_slippery=False)  # episodes end early
WINDOW, TOKENS = 4, 9  # episodes in a window, slots in an episode
PATTERNS = "blocks.*.attn.pattern"


@pytest.fixture(scope="module", params=[ROOM, LAKE], ids=["room", "lake"])
def world(request):
    model, histories = sliding(request.param, lifetimes=3)
    assert (histories.length < 8).any() == (request.param is LAKE)
    assert (histories.episode_returns > 0).any()
    return model, histories


@pytest.fixture(scope="module")
def masses(world):
    model, histories = world
    return attention_masses(model, histories)


def test_masses_equal_a_slow_loop(world, masses):
    model, histories = world
    patterns = np.stack(list(ad.record(model, histories, PATTERNS).values.values()), 3)
    starts, length = window_starts(9, WINDOW, 1), histories.length
    tokens = tokenize(histories.spec, histories.arrays)
    obs = tokens.obs.reshape(3, 9, TOKENS, -1)
    reward = tokens.previous_reward.reshape(3, 9, TOKENS)
    for n, e in np.ndindex(3, 9):
        for t in range(length[n, e]):
            mass, count, total = dict.fromkeys(masses.mass, 0.0), dict.fromkeys(masses.mass, 0), 0
            for f in range(starts[e], e + 1):
                for s in range(min(length[n, f], t if f == e else 99) + 1):
                    is_kind = {
                        "rewarded": reward[n, f, s] > 0,
                        "restart": s == 0,
                        "same cell": f < e and (obs[n, f, s] == obs[n, e, t]).all(),
                        "this episode": f == e,
                        "earlier episodes": f < e,
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
    assert not total[~masses.decided].any() and masses.decided.sum() == length.sum()


def test_a_ratio_is_summed_over_the_chosen_decisions(world, masses):
    _, histories = world
    after = after_first_reward(histories)
    for n in range(3):
        first = np.flatnonzero(histories.reward[n] > 0)[0]
        exists = np.flatnonzero((np.arange(8) < histories.length[n][:, None]).ravel())
        assert np.flatnonzero(after[n].ravel()).tolist() == exists[exists > first].tolist()
    assert np.isnan(masses.ratio("rewarded", where=~after)).all()  # nothing to look at yet
    mass, uniform = (x["restart"][1][after[1]].sum(0) for x in (masses.mass, masses.uniform))
    np.testing.assert_allclose(masses.ratio("restart", where=after)[1], mass / uniform, rtol=1e-5)


def test_attention_rollout_is_a_product_over_layers(world):
    model, histories = world
    patterns = list(ad.record(model, histories.episodes[:2], PATTERNS).values.values())
    size = 2 * TOKENS
    expected = np.eye(size)
    for pattern, rolled in zip(patterns, attention_rollout(patterns), strict=True):
        layer = pattern.mean(3).reshape(3, size, -1)[..., :size]
        expected = (0.5 * layer + 0.5 * np.eye(size)) @ expected
        np.testing.assert_allclose(rolled.reshape(3, size, -1)[..., :size], expected, atol=1e-6)


def test_ablating_a_head_is_zeroing_its_columns(world):
    model, histories = world
    with ad.edit(model, {"blocks.1.attn.z": ablate_head(0)}):
        ablated = ad.record(model, histories).array
    twin = ad.CausalTransformer(model.spec, **model.config)
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        twin.blocks[1].attn.out.weight[:, :8] = 0
    np.testing.assert_allclose(ablated, ad.record(twin, histories).array, atol=1e-5)
    assert np.abs(ablated - ad.record(model, histories).array).max() > 0.01


def greedy(model, **settings):
    return ad.InContext(model, temperature=1e-6, **settings)


@pytest.mark.parametrize("episodes", [1, 9])
def test_a_prompted_lifetime_goes_on_where_it_left_off(shipped, episodes):
    """Greedy, without chance: the second half is the same, continued or prompted with the first.

    Up to a prompt that leaves room for nothing but the present, in a window of ten.
    """
    env, tasks, model = shipped
    whole = ad.collect(env, tasks[:3], greedy(model), episodes=12)
    assert len(np.unique(whole.arrays["action"])) == 5
    prompted = greedy(model, prompt=whole.episodes[:episodes])
    go_on = lambda agent, **how: ad.collect(env, tasks[:3], agent, episodes=12 - episodes, **how)
    rest = go_on(prompted)
    assert same(whole.episodes[episodes:], rest) and not same(rest, go_on(greedy(model)))
    with ThreadPoolExecutor(2) as pool:  # a part of the lifetimes brings its part of the prompt
        assert same(rest, go_on(prompted, executor=pool))
