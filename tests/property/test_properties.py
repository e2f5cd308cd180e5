"""DESIGN.md's twelve properties, each by its number and name."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from inspect import signature

import numpy as np
import pytest
import torch
from helpers import same, scrambled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import adkit as ad
from adkit import store
from adkit.models.distill import distill
from adkit.models.tokens import Tokens, tokenize, window_starts

quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def tokens_of(model, histories, episodes):
    windows = histories.windows(np.arange(len(histories)), np.zeros(len(histories), int), episodes)
    return tokenize(model.spec, windows).to(model.device)


@quick
@given(cut=st.integers(1, 35), field=st.sampled_from(["obs", "previous_action", "previous_reward"]))
def test_property_01_future_tokens_never_change_past_logits(model, histories, cut, field):
    tokens = tokens_of(model, histories[:2], 4)
    changed = {
        name: getattr(tokens, name).clone()
        for name in ("obs", "previous_action", "previous_reward")
    }
    changed[field][:, cut:] = (changed[field][:, cut:] + 1) % 5
    with torch.inference_mode():
        before, after = model(tokens), model(Tokens(**changed))
    assert torch.equal(before[:, :cut], after[:, :cut])
    assert not torch.equal(before[:, cut:], after[:, cut:])


@pytest.mark.parametrize(
    "agent",
    [
        ad.sources.QLearning(), ad.sources.PosteriorSampling(), ad.sources.SystematicExplorer(),
        ad.sources.ActorCritic(), ad.sources.DQN(width=8),
    ],
)  # fmt: skip
def test_property_02_a_lifetime_is_identical_in_any_batch_driver_and_executor(env, agent):
    live = lambda tasks, lifetimes, **how: ad.collect(
        env, tasks, agent, episodes=10, lifetimes=lifetimes, seed=3, **how
    )
    tasks = env.tasks()[4:12]
    whole = live(tasks, 3)
    assert same(whole, live(tasks, 3, driver="batched"))
    assert same(whole[9:11], live(tasks[3:4], 2)) and same(
        whole[9:11], live(tasks[3:4], 2, driver="batched")
    )
    with ThreadPoolExecutor(3) as pool:
        assert same(whole, live(tasks, 3, executor=pool))
    assert not same(whole, ad.collect(env, tasks, agent, episodes=10, lifetimes=3, seed=4))


def test_property_02_a_distilled_lifetime_is_identical_in_any_batch(env, model):
    live = lambda tasks, lifetimes: ad.collect(
        env, tasks, ad.InContext(model), episodes=9, lifetimes=lifetimes, seed=3
    )
    whole = live(env.tasks()[:6], 3)
    assert same(whole[6:9], live(env.tasks()[2:3], 3)) and same(
        whole[6:7], live(env.tasks()[2:3], 1)
    )


@quick
@given(
    lifetime=st.lists(st.integers(0, 99), min_size=1, max_size=9),
    start=st.integers(0, 4),
    episodes=st.integers(1, 4),
)
def test_property_03_a_window_never_spans_two_lifetimes(env, histories, lifetime, start, episodes):
    branded = replace(
        histories, arrays=histories.arrays | {"reward": np.zeros_like(histories.arrays["reward"])}
    )
    branded.arrays["reward"][:] = np.arange(len(histories))[
        :, None, None
    ]  # each reward says whose it is
    windows = branded.windows(np.array(lifetime), np.full(len(lifetime), start), episodes)
    assert (windows["reward"] == np.array(lifetime)[:, None, None]).all()
    with pytest.raises(ValueError, match="they can be 0 to "):
        histories.windows(np.array(lifetime), np.full(len(lifetime), 8), episodes)


def test_property_04_save_then_load_is_bit_identical_and_a_flipped_byte_is_caught(
    tmp_path, histories, model
):
    histories.save(tmp_path / "h")
    model.save(tmp_path / "m")
    assert same(histories, ad.Histories.load(tmp_path / "h"))
    loaded = ad.CausalTransformer.load(tmp_path / "m")
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )
    for folder, load in (("h", ad.Histories.load), ("m", ad.CausalTransformer.load)):
        for file in (tmp_path / folder).glob("*.*"):
            original = file.read_bytes()
            if file.name == "manifest.json":
                continue
            for at in (0, len(original) // 2, len(original) - 1):
                flipped = bytearray(original)
                flipped[at] ^= 1
                file.write_bytes(flipped)
                with pytest.raises(
                    store.ArtefactError, match=f"{file.name} does not match its sha256"
                ):
                    load(tmp_path / folder)
            file.write_bytes(original)


def test_property_05_the_recorded_path_equals_the_fast_path(env, model, histories):
    tokens = tokens_of(model, histories[:5], 4)
    with torch.inference_mode():
        fast = model(tokens).numpy().reshape(5, 4, 9, 5)
    recorded = ad.record(model, histories[:5].episodes[:4], "*")
    np.testing.assert_array_equal(recorded["logits"], fast)
    pattern = recorded["blocks.0.attn.pattern"]
    np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-5)
    with ad.edit(model, {"*": lambda activation: activation}), torch.inference_mode():
        np.testing.assert_array_equal(model(tokens).numpy().reshape(5, 4, 9, 5), fast)


@pytest.mark.parametrize("memory", ["lifetime", "episode"])
@pytest.mark.parametrize("world", ["room", "lake", "maze"])
def test_property_06_cached_rollouts_equal_recomputed_ones(env, model, memory, world):
    """Twelve episodes: the window of four fills and is cut three times. Lake episodes end early."""
    if world == "maze":
        env = ad.envs.Watermaze(horizon=16, view=(8, 12), ends="platform")
        model = scrambled(ad.CausalTransformer(env.spec, context=64, layers=2, heads=2, width=16))
    if world == "lake":
        env = ad.envs.from_gymnasium("FrozenLake-v1", horizon=8)
        model = scrambled(ad.CausalTransformer(env.spec, context=32, layers=2, heads=2, width=16))
    seen = {}

    class Spy(ad.InContext):
        def start(self, spec, rng, episodes):
            learner = super().start(spec, rng, episodes)
            append = learner._append

            def spied(rows, obs):
                logits = append(rows, obs)
                for n, row in enumerate(rows):
                    seen.setdefault(row, []).append(logits[n].numpy())
                return logits

            learner._append = spied
            return learner

    rollouts = ad.collect(
        env, env.tasks()[:5], Spy(model, memory=memory), episodes=12, lifetimes=2, seed=5
    )
    window, keep = ad.InContext(model, memory=memory).window
    for n in range(len(rollouts)):
        cached, at = seen[n], 0
        for e, start in enumerate(window_starts(12, window, keep)):
            windows = rollouts.windows(np.array([n]), np.array([start]), e + 1 - start)
            with torch.inference_mode():
                whole = model(tokenize(env.spec, windows).to(model.device))[0]
            steps = rollouts.length[n, e] + 1
            here = (e - start) * (env.spec.horizon + 1)
            np.testing.assert_allclose(
                np.array(cached[at : at + steps]), whole[here : here + steps].numpy(), atol=2e-5
            )
            at += steps


def test_property_07_relabelling_actions_in_env_and_history_relabels_the_agents_choices(model):
    """Permute a room, and the model's action rows alike: the same walk under new names."""
    env = ad.envs.DarkRoom(size=5, horizon=8, permuted=True)
    order = np.array([2, 0, 3, 4, 1])  # new action a does what old action order[a] did
    plain, relabelled = (env.task(goal=(1, 3), actions=tuple(o)) for o in (np.arange(5), order))
    relabelled = ad.Tasks(relabelled.columns, plain.ids)  # the same address: the same draws
    twin = ad.CausalTransformer(env.spec, **model.config)
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        actions = slice(10, 15)  # rows of the embedding after 5 + 5 coordinates
        twin.embed_tokens.table[actions] = model.embed_tokens.table[actions][order]
        twin.head.weight[:] = model.head.weight[order]
    walk = ad.collect(env, plain, ad.InContext(model, temperature=1e-6), episodes=9, lifetimes=2)
    twin_walk = ad.collect(
        env, relabelled, ad.InContext(twin, temperature=1e-6), episodes=9, lifetimes=2
    )
    np.testing.assert_array_equal(walk.action, order[twin_walk.action])
    np.testing.assert_array_equal(walk.obs, twin_walk.obs)


def test_property_07_relabelling_a_source_relabels_its_tables(env):
    """Q-learning on a relabelled lifetime gives relabelled Q-values."""
    spec, rng = env.spec, ad.Rng.of(0, "x", np.arange(3))
    order = np.array([2, 0, 3, 4, 1])
    life = ad.collect(env, env.tasks()[:3], ad.sources.Random(), episodes=3)
    learners = [ad.sources.QLearning().start(spec, rng, episodes=10) for _ in range(2)]
    for t in range(life.action.shape[1] - 1):
        for learner, action in zip(
            learners, (life.action[:, t], order[life.action[:, t]]), strict=True
        ):
            no = np.zeros(3, bool)
            learner.update(
                ad.Transition(life.obs[:, t], action, life.reward[:, t], no, no, life.obs[:, t + 1])
            )
    np.testing.assert_array_equal(learners[0].q, learners[1].q[..., order])


@pytest.mark.parametrize("agent", ["q", "model"])
def test_property_08_agents_inputs_do_not_change_when_only_the_task_object_does(env, model, agent):
    """Move the goal in the task object, not in rewards and dynamics: no action may change."""
    agent = {"q": ad.sources.QLearning(), "model": ad.InContext(model)}[agent]
    tasks = env.tasks()[:4]
    moved = tasks.replace(goal=(tasks["goal"] + 2) % 5)

    class Deceived(ad.envs.DarkRoom):
        def step(self, state, given, action, rng):
            return env.step(state, tasks[np.arange(len(given)) % 4], action, rng)

    honest = ad.collect(env, tasks, agent, episodes=5, driver="batched")
    deceived = ad.collect(Deceived(5, 8), moved, agent, episodes=5, driver="batched")
    assert honest.reward.sum() > 0 and all(
        np.array_equal(honest.arrays[k], deceived.arrays[k]) for k in honest.arrays
    )


CHANGED = {
    ad.envs.DarkRoom: dict(size=6, horizon=9, reward="once", start="random", permuted=True),
    ad.sources.QLearning: dict(
        lr=0.1, gamma=0.5, initial_q=0.0, epsilon=0.1, exploration=0.2, phases=2
    ),
    ad.sources.PosteriorSampling: dict(noise=0.5, gamma=0.2, greed=20.0, forgetting=0.9, rest=True),
}


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, values in CHANGED.items() for field in values]
)
def test_property_09_every_config_field_changes_something(kind, field):
    assert {f.name for f in fields(kind)} - {"family"} == set(CHANGED[kind]), (
        "a new field needs a changed value here"
    )
    value = {field: CHANGED[kind][field]}
    if kind is ad.envs.DarkRoom:
        a, b = (
            ad.collect(e, e.tasks()[:40], ad.sources.QLearning(), episodes=6)
            for e in (kind(5, 8), replace(kind(5, 8), **value))
        )
    elif field == "rest":
        env = ad.envs.DarkRoom(
            5, 8, reward="once"
        )  # in a room that goes on paying there is always something to gain
        a, b = (ad.collect(env, env.tasks(), replace(kind(), **v), episodes=9) for v in ({}, value))
    elif field == "gamma" and kind is ad.sources.PosteriorSampling:
        env = ad.envs.from_gymnasium(
            "FrozenLake-v1"
        )  # in a room every discount walks the same shortest paths
        a, b = (
            ad.collect(env, env.tasks(), replace(kind(noise=0.0), **v), episodes=9, lifetimes=9)
            for v in ({}, value)
        )
    else:
        env = ad.envs.DarkRoom(5, 8)
        a, b = (
            ad.collect(env, env.tasks(), replace(kind(), **v), episodes=40) for v in ({}, value)
        )
    assert (
        a.action.shape != b.action.shape
        or not np.array_equal(a.action, b.action)
        or not np.array_equal(a.reward, b.reward)
    )


@pytest.mark.parametrize(
    "change",
    [
        dict(memory="episode"), dict(temperature=3.0), dict(keep=3),
    ],
)  # fmt: skip
def test_property_09_every_field_of_the_in_context_agent_changes_something(env, model, change):
    live = lambda agent: ad.collect(env, env.tasks()[:5], agent, episodes=9).action
    assert not np.array_equal(live(ad.InContext(model)), live(ad.InContext(model, **change)))


MODEL = dict(context=48, layers=1, heads=1, width=24, seed=1)
TRAINING = dict(
    steps=7,
    batch=5,
    seed=1,
    label_smoothing=0.3,
    first_action_weight=4.0,
    precision="bfloat16",
)
SCHEDULE = dict(
    lr=1e-3,
    matrix_lr=0.1,
    weight_decay=50.0,
    warm_up=3,
    decay=1.0,
    from_start=0.0,
    short=0.0,
    short_episodes=2,
)
ELSEWHERE = {"predictions", "predict", "validation", "checkpoint", "schedule"}  # tested, or no part


@pytest.mark.parametrize(
    ("of", "name"),
    [
        (of, name)
        for of, changed in (("model", MODEL), ("training", TRAINING), ("schedule", SCHEDULE))
        for name in changed
    ],
)
def test_property_09_every_argument_of_model_and_training_changes_something(
    env, histories, of, name
):
    for make, changed, rest in (
        (ad.CausalTransformer, MODEL, {"spec"}),
        (distill, TRAINING, {"model", "histories"}),
        (ad.Schedule, SCHEDULE, set()),
    ):
        assert set(signature(make).parameters) - ELSEWHERE == set(changed) | rest, (
            "a new argument needs a changed value here"
        )

    def loss(shape, how):
        model = ad.CausalTransformer(
            env.spec, **{"context": 32, "layers": 2, "heads": 2, "width": 16} | shape
        )
        steps = 60 if name == "decay" else 6  # the rate falls after it has warmed up
        return distill(
            model, histories, **{"steps": steps, "batch": 4, "precision": "float32"} | how
        )["loss"].tolist()

    shape = {name: MODEL[name]} if of == "model" else {}
    how = {name: TRAINING[name]} if of == "training" else {}
    if of == "schedule":
        how = {"schedule": ad.Schedule(**{name: SCHEDULE[name]})}
    assert loss(shape, how) != loss({}, {})


def test_property_10_a_probe_on_shuffled_labels_is_at_chance():
    """A label in noisy activations is read on unseen tasks; a shuffled label is not."""
    rng = np.random.default_rng(0)
    label, direction = rng.normal(size=(60, 2)), rng.normal(size=(2, 16))
    task = np.repeat(np.arange(60), 3)
    stream = (label[task] @ direction)[:, None] + rng.normal(size=(180, 10, 16))
    probe = ad.probing.fit(stream, label, groups=task, seed=0)
    assert probe.score > 0.8 and probe.interval.low > 0.7
    assert probe.controls["shuffled"] < 0.1
    shuffled = ad.probing.fit(stream, rng.permutation(label), groups=task, seed=0)
    assert shuffled.score < 0.1 and shuffled.interval.low < 0.05
    gone = ad.probing.erase(stream, label, groups=task)(stream)
    erased = ad.probing.fit(gone, label, groups=task, seed=0)
    assert erased.score < 0.1, "what the probe read is still there after erasing it"


def test_property_11_with_memory_wiped_each_episode_improvement_is_zero(shipped):
    env, tasks, model = shipped
    rollouts, amnesiac = (
        ad.collect(
            env, tasks, ad.InContext(model, memory=memory), episodes=20, lifetimes=4, seed=2
        ).returns
        for memory in ("lifetime", "episode")
    )
    assert ad.stats.improvement(rollouts).low > 3
    wiped = ad.stats.improvement(amnesiac)
    assert wiped.low < 0 < wiped.high or abs(wiped.estimate) < 0.5


def test_property_12_resumed_training_equals_uninterrupted_training(tmp_path, env, histories):
    make = lambda: ad.CausalTransformer(env.spec, context=32, layers=2, heads=2, width=16)
    train = lambda model, **how: distill(model, histories, steps=80, batch=4, **how)
    straight, broken, resumed = make(), make(), make()  # a checkpoint every 4 steps
    log = train(straight)

    class Interrupted(Exception):
        pass

    forward, calls = broken.heads, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 10:
            raise Interrupted
        return forward(*args, **kwargs)

    broken.heads = failing
    with pytest.raises(Interrupted):
        train(broken, checkpoint=tmp_path / "c")
    _, before = store.load(tmp_path / "c", "distillation checkpoint")
    (tmp_path / "c").rename(
        tmp_path / ".c.old"
    )  # as a crash while the checkpoint was exchanged leaves it
    again = train(resumed, checkpoint=tmp_path / "c")
    assert again["loss"].tolist() == log["loss"].tolist()
    seconds = [row["seconds"] for row in before["log"]]
    assert len(seconds) in (4, 8) and again["seconds"].tolist()[: len(seconds)] == seconds, (
        "it began anew"
    )
    assert all(
        torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True)
    )
    done = make()
    assert (
        train(done, checkpoint=tmp_path / "c")["loss"].tolist() == log["loss"].tolist()
    )  # nothing left to do
    assert all(
        torch.equal(a, b) for a, b in zip(straight.parameters(), done.parameters(), strict=True)
    )
