"""DESIGN.md's twelve properties, each by its number and name."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest.mock import DEFAULT, Mock

import numpy as np
import pytest
import torch
from helpers import EVERYONE, same, scattered, scrambled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import adkit as ad
from adkit import store
from adkit.models.tokens import tokenize, window_starts
from adkit.probing import ablate_head
from adkit.store import ArtefactError

quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def tokens_of(model, histories, episodes):
    windows = histories.windows(np.arange(len(histories)), np.zeros(len(histories), int), episodes)
    return tokenize(model.spec, windows).to(model.device)


def alike(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Return whether two networks have the same weights in every bit."""
    return all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


@quick
@given(cut=st.integers(1, 35), field=st.sampled_from(["obs", "previous_action", "previous_reward"]))
def test_property_01_future_tokens_never_change_past_logits(model, histories, cut, field):
    tokens = tokens_of(model, histories[:2], 4)
    values = getattr(tokens, field).clone()
    values[:, cut:] = (values[:, cut:] + 1) % 5
    with torch.inference_mode():
        before, after = model(tokens), model(replace(tokens, **{field: values}))
    assert torch.equal(before[:, :cut], after[:, :cut])
    assert not torch.equal(before[:, cut:], after[:, cut:])


SOURCES = [ad.sources.QLearning(), ad.sources.PosteriorSampling(), ad.sources.SystematicExplorer()]
SOURCES += [ad.sources.ActorCritic(), ad.sources.DQN(width=8), EVERYONE]


@pytest.mark.parametrize("agent", [*SOURCES, "model"])
def test_property_02_a_lifetime_is_identical_in_any_batch_driver_and_executor(env, model, agent):
    agent = ad.InContext(model) if agent == "model" else agent
    env = ad.envs.CookieWorld() if agent is EVERYONE else env
    tasks, usual = scattered(env, 24), {"episodes": 10, "lifetimes": 3, "seed": 3}
    collect = lambda tasks=tasks, **how: ad.collect(env, tasks, agent, **usual | how)
    whole = collect()
    assert not same(whole, collect(seed=4)) and same(whole, collect(driver="batched"))
    for driver in ("auto", "batched"):
        assert same(whole[9:11], collect(tasks[3:4], lifetimes=2, driver=driver))
        kept = collect(every=4, driver=driver)
        assert same(whole.subsample(4), kept) and kept.episode.tolist() == [0, 4, 8]
    with ThreadPoolExecutor(3) as pool:
        assert same(whole, collect(executor=pool))


@quick
@given(
    lifetime=st.lists(st.integers(0, 99), min_size=1, max_size=9),
    start=st.integers(0, 4),
    episodes=st.integers(1, 4),
)
def test_property_03_a_window_never_spans_two_lifetimes(env, histories, lifetime, start, episodes):
    reward = np.zeros_like(histories.arrays["reward"])
    reward[:] = np.arange(len(histories))[:, None, None]  # each reward says whose it is
    branded = replace(histories, arrays=histories.arrays | {"reward": reward})
    windows = branded.windows(np.array(lifetime), np.full(len(lifetime), start), episodes)
    assert (windows["reward"] == np.array(lifetime)[:, None, None]).all()
    with pytest.raises(ValueError, match="they can be 0 to "):
        histories.windows(np.array(lifetime), np.full(len(lifetime), 8), episodes)


@pytest.mark.parametrize("kind", ["histories", "transformer", "pictures", "recurrent"])
def test_property_04_save_then_load_is_bit_identical_and_a_flipped_byte_is_caught(
    tmp_path, histories, model, kind
):
    pool = ad.envs.Watermaze(view=(8, 12))
    made = {
        "histories": histories,
        "transformer": model,
        "pictures": ad.CausalTransformer(pool.spec, context=100, layers=1, width=16),
        "recurrent": ad.RecurrentPolicy(histories.spec, width=8),
    }[kind]
    load, equal = type(made).load, same if kind == "histories" else alike
    loaded = load(made.save(tmp_path / "it"))
    assert equal(made, loaded) and loaded.spec == made.spec
    for file in {*(tmp_path / "it").iterdir()} - {tmp_path / "it" / "manifest.json"}:
        original = file.read_bytes()
        for at in (0, len(original) // 2, len(original) - 1):
            flipped = bytearray(original)
            flipped[at] ^= 1
            file.write_bytes(flipped)
            with pytest.raises(ArtefactError, match=f"{file.name} does not match its sha256"):
                load(tmp_path / "it")
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


def cached_logits(env, agent, **how) -> tuple[ad.Histories, dict[int, list]]:
    """Return rollouts, and the logits of each lifetime as its cached path computed them."""
    seen = {}

    class Spy(ad.InContext):
        def start(self, *given):
            learner = super().start(*given)
            append = learner._append

            def spied(rows, obs):
                logits = append(rows, obs)
                for n, row in enumerate(rows):
                    seen.setdefault(row, []).append(logits[n].numpy())
                return logits

            learner._append = spied
            return learner

    return ad.collect(env, env.tasks()[:5], Spy(**vars(agent)), **how), seen


@pytest.mark.parametrize("memory", ["lifetime", "episode"])
@pytest.mark.parametrize("world", ["room", "lake", "maze"])
@pytest.mark.parametrize("changes", [{}, {"blocks.1.attn.z": ablate_head(0)}], ids=["", "ablated"])
def test_property_06_cached_rollouts_equal_recomputed_ones(env, model, memory, world, changes):
    """Twelve episodes: the window of four fills and is cut three times. Lake episodes end early."""
    if world != "room":
        maze = ad.envs.Watermaze(horizon=16, view=(8, 12), ends="platform")
        env = maze if world == "maze" else ad.envs.from_gymnasium("FrozenLake-v1", horizon=8)
        how = {"context": 4 * env.spec.horizon, "layers": 2, "heads": 2, "width": 16}
        model = scrambled(ad.CausalTransformer(env.spec, **how))
    agent = ad.InContext(model, memory=memory)
    with ad.edit(model, changes):
        rollouts, seen = cached_logits(env, agent, episodes=12, lifetimes=2, seed=5)
    for n in range(len(rollouts)):
        cached, at = seen[n], 0
        for e, start in enumerate(window_starts(12, *agent.window)):
            windows = rollouts.windows(np.array([n]), np.array([start]), e + 1 - start)
            with torch.inference_mode(), ad.edit(model, changes):
                whole = model(tokenize(env.spec, windows).to(model.device))[0]
            steps, here = rollouts.length[n, e] + 1, (e - start) * (env.spec.horizon + 1)
            wanted = whole[here : here + steps].numpy()
            np.testing.assert_allclose(np.array(cached[at : at + steps]), wanted, atol=2e-5)
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
    greedy = lambda model: ad.InContext(model, temperature=1e-6)
    walk = ad.collect(env, plain, greedy(model), episodes=9, lifetimes=2)
    twin_walk = ad.collect(env, relabelled, greedy(twin), episodes=9, lifetimes=2)
    np.testing.assert_array_equal(walk.action, order[twin_walk.action])
    np.testing.assert_array_equal(walk.obs, twin_walk.obs)


@pytest.mark.parametrize("agent", ["q", "model"])
def test_property_08_agents_inputs_do_not_change_when_only_the_task_object_does(env, model, agent):
    """Move the goal in the task object, not in rewards and dynamics: no action may change."""
    agent = {"q": ad.sources.QLearning(), "model": ad.InContext(model)}[agent]
    tasks = env.tasks()[:4]
    moved = tasks.replace(goal=(tasks["goal"] + 2) % 5)

    class Deceived(ad.envs.DarkRoom):
        def step(self, state, given, action, rng):
            return env.step(state, tasks[np.arange(len(given)) % 4], action, rng)

    how = {"agent": agent, "episodes": 5, "driver": "batched"}
    honest = ad.collect(env, tasks, **how)
    assert honest.reward.sum() > 0 and same(honest, ad.collect(Deceived(5, 8), moved, **how))


def test_property_11_with_memory_wiped_each_episode_improvement_is_zero(shipped):
    env, tasks, model = shipped
    improvement = {}
    for memory in ("lifetime", "episode"):
        agent = ad.InContext(model, memory=memory)
        rollouts = ad.collect(env, tasks, agent, episodes=20, lifetimes=4, seed=2)
        improvement[memory] = ad.stats.improvement(rollouts.returns)
    assert improvement["lifetime"].low > 3
    wiped = improvement["episode"]
    assert wiped.low < 0 < wiped.high or abs(wiped.estimate) < 0.5


def in_a_pool():
    """Return walks, and what makes a model whose encoder of pictures is frozen."""
    pool = ad.envs.Watermaze(view=(8, 8), n_tasks=8)
    walks = ad.collect(pool, pool.tasks(), ad.sources.Random(), episodes=3)

    def make():
        model = ad.CausalTransformer(pool.spec, context=100, layers=1, width=16)
        ad.pretrain_encoder(model, walks, steps=2, batch=8)
        return model

    return walks, make


@pytest.mark.parametrize("encoder", ["none", "frozen"])
def test_property_12_resumed_training_equals_uninterrupted_training(
    tmp_path, env, histories, encoder
):
    make = lambda: ad.CausalTransformer(env.spec, context=32, layers=2, heads=2, width=16)
    if encoder == "frozen":
        histories, make = in_a_pool()
    train = lambda model, batch=4, **how: ad.distill(model, histories, steps=80, batch=batch, **how)
    straight, broken, resumed, done = make(), make(), make(), make()
    losses = train(straight).loss.tolist()
    ten = Mock(side_effect=[*[DEFAULT] * 9, InterruptedError], wraps=broken.heads)
    broken.heads = ten
    (tmp_path / "c").mkdir()  # as tempfile.mkdtemp does
    with pytest.raises(InterruptedError):
        train(broken, checkpoint=tmp_path / "c")  # one every 4 steps
    _, before = store.load(tmp_path / "c", "distillation checkpoint")
    seconds = [row["seconds"] for row in before["log"]]
    (tmp_path / "c").rename(tmp_path / ".c.old")  # as a crash while it is exchanged leaves it
    again = train(resumed, checkpoint=tmp_path / "c")
    assert again.loss.tolist() == losses and alike(straight, resumed)
    assert len(seconds) in (4, 8) and again.seconds.tolist()[: len(seconds)] == seconds
    log = train(done, checkpoint=tmp_path / "c")  # nothing is left to do
    assert log.loss.tolist() == losses and alike(straight, done)
    with pytest.raises(ValueError, match="was made with other batch; use another folder"):
        train(done, checkpoint=tmp_path / "c", batch=3)
