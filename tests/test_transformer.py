"""Tokens, model, taps, training and the in-context agent, against slow and obvious versions of themselves."""

import numpy as np
import pytest
import torch
from helpers import same, scrambled
from probe_worlds import OneFault

import adkit as ad
from adkit.models import tokens as token_layout
from adkit.models.distill import distill
from adkit.models.tokens import NO_TARGET, tokenize, window_starts
from adkit.models.transformer import CHUNK


def test_tokens_of_two_short_episodes_as_written_by_hand():
    """Horizon 3; the first episode ends after two steps. Slots: o0 o1 o2* empty | o0 o1 o2 o3*, * closes an episode."""
    spec = ad.EnvSpec("x", n_actions=2, horizon=3, cardinality=(9,))
    windows = {
        "obs": np.array([[[1, 2, 0], [4, 5, 6]]])[..., None],
        "action": np.array([[[1, 0, 0], [0, 1, 1]]]),
        "reward": np.array([[[0, 7, 0], [1, 2, 3]]], np.float32),
        "terminated": np.array([[[0, 1, 0], [0, 0, 0]]], bool),
        "truncated": np.array([[[0, 0, 0], [0, 0, 1]]], bool),
        "final_obs": np.array([[[3], [7]]]),
    }
    tokens = tokenize(spec, windows)
    assert tokens.obs[0, :, 0].tolist() == [1, 2, 3, 0, 4, 5, 6, 7]
    assert tokens.previous_action[0].tolist()[:3] == [2, 1, 0] and tokens.previous_action[
        0
    ].tolist()[4:] == [
        2,
        0,
        1,
        1,
    ]  # 2 is "restart"
    assert tokens.previous_reward[0].tolist()[:3] == [0, 0, 7] and tokens.previous_reward[
        0
    ].tolist()[4:] == [
        0,
        1,
        2,
        3,
    ]
    assert tokens.valid[0].tolist() == [True] * 3 + [False] + [True] * 4
    assert tokens.target[0].tolist() == [1, 0, NO_TARGET, NO_TARGET, 0, 1, 1, NO_TARGET]


def test_the_window_drops_whole_old_episodes():
    assert window_starts(12, 4, 2).tolist() == [0, 0, 0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    assert window_starts(5, 4, 3).tolist() == [0, 0, 0, 0, 1]
    assert window_starts(4, 1, 0).tolist() == [0, 1, 2, 3]


def test_the_model_equals_a_naive_one(env, model, histories):
    """The forward pass again, token by token and head by head, in float64 NumPy."""
    windows = histories[:2].windows(np.arange(2), np.zeros(2, int), 4)
    tokens = tokenize(env.spec, windows)
    with torch.inference_mode():
        logits = model(tokens.to(model.device)).numpy()
    w = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    norm = lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    slot = np.arange(36)
    for b in range(2):
        table = w["embed_tokens.table"]
        x = (
            table[tokens.obs[b, :, 0]]
            + table[5 + tokens.obs[b, :, 1]]
            + table[10 + tokens.previous_action[b]]
        )
        x = x + np.log1p(tokens.previous_reward[b])[:, None] * w["embed_tokens.reward"]
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


def test_empty_slots_change_nothing():
    """An episode that ended early leaves slots that no token may see: what is written there has no effect."""
    env = ad.envs.from_gymnasium("FrozenLake-v1", horizon=8)
    life = ad.collect(env, env.tasks(), ad.sources.Random(), episodes=4, lifetimes=3)
    model = scrambled(ad.CausalTransformer(env.spec, context=32, layers=2, width=16))
    tokens = tokenize(env.spec, life.windows(np.arange(3), np.zeros(3, int), 4)).to(model.device)
    assert not tokens.valid.all()
    with torch.inference_mode():
        before = model(tokens)[tokens.valid]
        tokens.obs[~tokens.valid], tokens.previous_reward[~tokens.valid] = 3, 99.0
        assert torch.equal(model(tokens)[tokens.valid], before)


def test_record_takes_wildcards_and_gives_every_token_its_own_window(env, model):
    rollouts = ad.collect(env, env.tasks()[:3], ad.InContext(model), episodes=7, lifetimes=2)
    recording = ad.record(model, rollouts, "blocks.*.resid", "blocks.1.attn.pattern")
    assert sorted(recording.values) == ["blocks.0.resid", "blocks.1.attn.pattern", "blocks.1.resid"]
    assert recording["blocks.0.resid"].shape == (6, 7, 9, 16)
    pattern = recording["blocks.1.attn.pattern"]
    assert pattern.shape == (6, 7, 9, 2, 36) and recording.window_start.tolist() == [
        0,
        0,
        0,
        0,
        3,
        3,
        3,
    ]
    assert (pattern[:, 5, 0, :, 19:] == 0).all() and (
        pattern[:, 5, 0, :, :19] > 0
    ).all()  # two episodes and itself
    with pytest.raises(ValueError, match="needs a recording of one tap, got blocks"):
        _ = recording.array


def test_an_edit_has_an_effect_inside_its_block_and_none_after_it(env, model):
    live = lambda: ad.collect(env, env.tasks()[:3], ad.InContext(model), episodes=6, seed=2)
    before = live()
    with ad.edit(model, {"blocks.1.resid": torch.zeros_like}):
        during = live()
    assert not same(before, during) and same(before, live())
    with ad.edit(model, {"blocks.0.mlp.hidden": lambda x: x}):
        assert same(before, live())


@pytest.mark.parametrize(
    "call",
    [
        lambda m, h: ad.record(m, h, "blocks.7.resid"),
        lambda m, h: ad.edit(m, {"nose": abs}).__enter__(),
    ],
)
def test_an_unknown_tap_lists_the_taps_there_are(model, histories, call):
    with pytest.raises(
        ValueError,
        match=r"no tap matches '(blocks.7.resid|nose)'; the model has embed, .*blocks.0.attn.pattern",
    ):
        call(model, histories)


def test_an_edit_that_changes_the_shape_is_refused(env, model):
    with (
        ad.edit(model, {"blocks.0.resid": lambda x: x[:1]}),
        pytest.raises(ValueError, match="an edit must return the activation's shape"),
    ):
        ad.collect(env, env.tasks()[:3], ad.InContext(model), episodes=1)


def test_training_lowers_the_loss_and_logs_validation(env):
    train, held_out = env.tasks().split(0.8, seed=0)
    source = ad.sources.PosteriorSampling()
    histories, unseen = (
        ad.collect(env, tasks, source, episodes=8, lifetimes=8) for tasks in (train, held_out)
    )
    model = ad.CausalTransformer(env.spec, context=32, width=32)
    log = distill(
        model, histories, steps=60, batch=16, validation=ad.Validation(env, unseen, every=30)
    )
    assert log.loss.iloc[-10:].mean() < 0.75 * np.log(5) and log.index.tolist() == list(
        range(1, 61)
    )
    assert log.dropna().index.tolist() == [30, 60] and (log.dropna().val_loss < np.log(5)).all()


def test_bfloat16_and_float32_agree(env, model, histories):
    windows = histories[:8].windows(np.arange(8), np.zeros(8, int), 4)
    tokens = tokenize(env.spec, windows).to(model.device)
    with torch.inference_mode():
        exact, brief = model(tokens), model(tokens, dtype=torch.bfloat16)
    assert (exact.softmax(-1) - brief.softmax(-1)).abs().mean() < 0.02


def test_only_memory_across_episodes_solves_the_world_that_needs_it():
    """One of two actions pays, and which one is the task. Its optimum needs nothing but the last episode's reward."""
    env = OneFault("across episodes")
    source = ad.sources.QLearning(lr=0.5, exploration_episodes=4)
    histories = ad.collect(env, env.tasks(), source, episodes=8, lifetimes=128)
    model = ad.CausalTransformer(env.spec, context=32, layers=2, width=32)
    distill(model, histories, steps=80, batch=32)
    live = lambda memory: (
        ad.collect(
            env, env.tasks(), ad.InContext(model, memory=memory), episodes=8, lifetimes=64, seed=1
        ).returns
    )
    assert live("lifetime")[:, :, -2:].mean() > 0.9 * 4
    assert ad.stats.improvement(live("lifetime")).low > 0.5
    assert abs(ad.stats.improvement(live("episode")).estimate) < 0.3


def test_temperature_one_samples_what_the_model_says(env, model):
    """First actions of 4,000 lifetimes follow the softmax of the model's logits."""
    task = env.task(goal=(0, 0))
    rollouts = ad.collect(env, task, ad.InContext(model), episodes=1, lifetimes=4000)
    drawn = np.bincount(rollouts.action[:, 0], minlength=5) / 4000
    said = (
        torch.as_tensor(ad.record(model, rollouts[:1], "logits").array[0, 0, 0]).softmax(-1).numpy()
    )
    np.testing.assert_allclose(drawn, said, atol=0.03)


def test_packed_windows_give_every_token_the_logits_it_had_in_its_slot():
    env = ad.envs.from_gymnasium("FrozenLake-v1", horizon=12)
    lives = ad.collect(env, env.tasks(), ad.sources.Random(), episodes=6, lifetimes=5)
    model = ad.CausalTransformer(env.spec, context=72, layers=2, width=16)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    tokens = token_layout.tokenize(env.spec, lives.windows(np.arange(5), np.zeros(5, int), 6))
    packed = token_layout.pad(token_layout.pack(tokens), multiple=32)
    assert packed.target.shape[1] < tokens.target.shape[1]
    with torch.no_grad():
        loose, tight = model(tokens.to(model.device)), model(packed.to(model.device))
    for row in np.flatnonzero(tokens.valid.sum(1) <= packed.target.shape[1]):
        assert (
            tokens.target[row][tokens.valid[row]] == packed.target[row][packed.valid[row]]
        ).all()
        np.testing.assert_allclose(
            tight[row][packed.valid[row]], loose[row][tokens.valid[row]], atol=1e-5
        )


@pytest.fixture(scope="module")
def days():
    """Creatures' lives, whose days end early."""
    env = ad.envs.CookieWorld()
    return ad.collect(
        env,
        env.tasks()[::2000],
        ad.sources.Shards(labelled=False),
        episodes=20,
        lifetimes=2,
        seed=3,
    )


def test_windows_of_like_length_have_the_loss_of_all_at_once(days):
    from adkit.models.distill import Loss

    model = scrambled(
        ad.CausalTransformer(days.spec, context=20 * 16, layers=2, heads=2, width=32, seed=1)
    )
    windows = days.windows(np.arange(12), np.zeros(12, int), 20)
    parts = [part.item() for part in Loss().parts(model, windows)]
    tokens = tokenize(days.spec, windows)
    target, logits = tokens.target, model(tokens.to(model.device))
    whole = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.as_tensor(target).flatten()
    )
    assert len(parts) == 4 and sum(parts) == pytest.approx(whole.item(), abs=1e-5)
    each = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.as_tensor(target).flatten(), reduction="none"
    )
    weight = torch.where(
        torch.as_tensor(tokens.previous_action == days.spec.n_actions).flatten(), 4.0, 1.0
    )
    weighted = (each * weight).sum() / weight[torch.as_tensor(target).flatten() >= 0].sum()
    opening = [part.item() for part in Loss(first_action_weight=4.0).parts(model, windows)]
    assert (
        sum(opening) == pytest.approx(weighted.item(), abs=1e-5)
        and abs(sum(opening) - sum(parts)) > 1e-3
    )


def test_recording_packed_windows_changes_no_activation(days, monkeypatch):
    """With the pattern among the taps a window is run slot by slot; without, packed, and long ones so many queries at a time."""
    monkeypatch.setattr("adkit.models.transformer.CHUNK", 64)
    assert (days.length + 1).sum(1).min() > 64
    model = scrambled(
        ad.CausalTransformer(days.spec, context=20 * 16, layers=2, heads=2, width=32, seed=1)
    )
    packed, whole = (
        ad.record(model, days, "logits", "blocks.0.resid"),
        ad.record(model, days, "logits", "blocks.*.attn.pattern"),
    )
    real = np.arange(17) <= days.length[..., None]
    np.testing.assert_allclose(packed["logits"][real], whole["logits"][real], atol=1e-5)
    assert not packed["logits"][~real].any()
    put_back = {"blocks.0.resid": lambda x, cut: cut(packed["blocks.0.resid"]).to(x)}
    again = ad.record(model, days, "logits", changes=put_back).array
    np.testing.assert_array_equal(again[real], packed["logits"][real])


def test_of_a_window_longer_than_a_chunk_no_token_sees_a_later_one():
    env = ad.envs.DarkRoom(size=5, horizon=30)
    lives = ad.collect(env, env.tasks()[:2], ad.sources.Random(), episodes=10)
    model = scrambled(ad.CausalTransformer(env.spec, context=300, layers=2, heads=2, width=16))
    windows = lives.windows(np.arange(2), np.zeros(2, int), 10)
    tokens = tokenize(env.spec, windows).to(model.device)
    assert tokens.valid is None and tokens.target.shape[1] > CHUNK
    with torch.inference_mode():
        before = model(tokens)
        with ad.edit(
            model, {"*.pattern": lambda pattern: pattern}
        ):  # whoever looks at patterns gets them whole
            np.testing.assert_allclose(before, model(tokens), atol=1e-4)
        for cut in (300, CHUNK, 40):
            tokens.previous_action[:, cut:] = (tokens.previous_action[:, cut:] + 1) % 5
            after = model(tokens)
            assert torch.equal(before[:, :cut], after[:, :cut]) and not torch.equal(
                before[:, cut:], after[:, cut:]
            ), cut


def test_a_model_foretells_what_it_is_told_to_and_acts_as_before(days, tmp_path):
    eaten = (days.arrays["reward"] == 0.5).sum(2).astype(np.float32)
    told = ad.Histories(
        **{**vars(days), "arrays": days.arrays | {"eaten before": eaten.cumsum(1) - eaten}}
    )
    make = lambda: ad.CausalTransformer(
        days.spec, context=20 * 16, layers=2, heads=2, width=32, predictions=1, seed=1
    )
    schedule = ad.Schedule(from_start=1.0, short=0.0)
    how = {"steps": 60, "batch": 12, "schedule": schedule, "predict": "eaten before"}
    model = make()
    log = ad.distill(model, told, **how)
    foretold = ad.record(model, told, "prediction").array[:, :, 0, 0]
    assert np.corrcoef(foretold.ravel(), told.arrays["eaten before"].ravel())[0, 1] > 0.7
    assert log.loss.iloc[-10:].mean() < log.loss.iloc[:10].mean() - 0.3
    loaded = ad.CausalTransformer.load(model.save(tmp_path / "model"))
    same = [ad.record(m, days, "logits").array for m in (model, loaded)]
    np.testing.assert_array_equal(*same)

    brief = how | {"steps": 1, "checkpoint": tmp_path / "c"}
    ad.distill(make(), told, **brief)
    with pytest.raises(ValueError, match="other first_action_weight"):
        ad.distill(make(), told, **brief | {"first_action_weight": 2.0})
    with pytest.raises(
        ValueError,
        match=r"`predict` must be an episode label, one of .*'eaten before'.*got 'eaten'",
    ):
        ad.distill(make(), told, **how | {"predict": "eaten"})
    with pytest.raises(ValueError, match="got 'eaten before' and predictions=0"):
        ad.distill(ad.CausalTransformer(days.spec, context=20 * 16), told, **how)
    with pytest.raises(ValueError, match="got None and predictions=1"):
        ad.distill(make(), told, steps=2)
