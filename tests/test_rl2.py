"""RL2: the cell and the advantages by hand, the contract, saving, and learning a task that only memory across episodes solves."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from probe_worlds import Line, LineState, OneFault

import adkit as ad
from adkit import artefacts
from adkit.models import recurrent, rl2
from adkit.models.recurrent import Inputs
from adkit.testing import check_agent

POOL = ad.envs.Watermaze(view="pose", n_tasks=3)
QUICK = dict(steps=60_000, lifetimes=64, episodes_per_lifetime=4, unroll=8, lr=1e-2, gamma=0.9)


def a_policy(spec, width=12):
    model = ad.RecurrentPolicy(spec, width=width)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def test_the_cell_is_torchs_on_what_was_seen_written_out():
    spec, n = ad.EnvSpec("x", n_actions=3, horizon=5, cardinality=(4, 2)), 6
    model, rng = a_policy(spec), np.random.default_rng(0)
    obs = np.stack([rng.integers(0, 4, n), rng.integers(0, 2, n)], 1)
    action, reward, first = (
        rng.integers(0, 4, n),
        rng.normal(size=n).astype(np.float32),
        rng.integers(0, 2, n).astype(bool),
    )
    state = torch.randn(n, 12)
    one_hot = torch.zeros(n, 4 + 2 + 4 + 2 + 1)
    for i in range(n):
        one_hot[i, [obs[i, 0], 4 + obs[i, 1], 6 + action[i], 10 + int(first[i])]] = 1
        one_hot[i, 12] = float(reward[i])
    cell = torch.nn.GRUCell(13, 12)
    with torch.no_grad():
        cell.weight_ih[:] = torch.cat([model.table, model.reward[None]]).T
        cell.bias_ih[:] = 0
        cell.weight_hh[:], cell.bias_hh[:] = model.recurrent.weight, model.recurrent.bias
        _, _, ours = model(*Seen(obs, action, reward, first).tensors(spec), state)
        torch.testing.assert_close(ours, cell(one_hot, state))


def test_advantages_by_hand():
    """Two steps and no end, beside a lifetime that ends after the first of them."""
    reward, value = (
        torch.tensor([[1.0, 1.0], [2.0, 2.0]]),
        torch.tensor([[10.0, 10.0], [20.0, 20.0]]),
    )
    over, after = torch.tensor([[False, True], [False, False]]), torch.tensor([40.0, 40.0])
    second = 2 + 0.5 * 40 - 20
    ours = rl2.advantages(reward, over, value, after, gamma=0.5, lam=0.5)
    assert ours.tolist() == [[1 + 0.5 * 20 - 10 + 0.25 * second, 1 - 10], [second, second]]


@pytest.mark.parametrize(
    "env",
    [
        ad.envs.DarkRoom(4, 6, start="random"),
        Line(),
        ad.envs.from_gymnasium("FrozenLake-v1", horizon=9),
    ],
)
@pytest.mark.parametrize("how", [{}, {"memory": "episode"}, {"greedy": True}], ids=str)
def test_it_keeps_the_contract_and_trains_in_every_world(env, how):
    model = a_policy(env.spec)
    check_agent(ad.RL2(model, **how), env, episodes=5)
    log = ad.train_rl2(model, env, env.tasks(), steps=200, lifetimes=4, unroll=5)
    assert log.index.tolist() == list(range(20, 201, 20)) and np.isfinite(log["value_loss"]).all()


def test_memory_and_greed_change_what_it_does():
    env = ad.envs.DarkRoom(5, 8)
    model = a_policy(env.spec)
    live = lambda **how: ad.collect(env, env.tasks()[:4], ad.RL2(model, **how), episodes=6).action
    assert all(
        not np.array_equal(live(), live(**how)) for how in ({"memory": "episode"}, {"greedy": True})
    )


CHANGED = dict(
    steps=800, episodes_per_lifetime=3, lifetimes=9, unroll=7, lr=1e-3, gamma=0.5, lam=0.1, entropy=0.5, value_weight=2.0,
    reward_scale=1.0, seed=1,
)  # fmt: skip


@dataclass(frozen=True)
class Onward(Line):
    """What outlasts an episode: from the second on, one begins far out."""

    def next_episode(self, state, given, rng):
        x = np.full(len(given), 0.9)
        return LineState(x, np.zeros(len(x), int)), self._see(x)


def test_what_outlasts_an_episode_ends_with_the_lifetime():
    env = Onward()
    model, lives = a_policy(env.spec), rl2._Lives(env, env.tasks(), 12, 3, 7, 0)
    for _ in range(45):
        *_, over = lives.step(model)
        opens, x = lives.seen.first, lives.world.x
        assert (np.abs(x[over]) <= 0.2).all() and (x[opens & ~over.numpy()] == 0.9).all()
        np.testing.assert_array_equal(lives.seen.obs, env._see(x))
    assert lives.episode.tolist() == [(n + 4) % 3 for n in range(7)]


def test_training_is_reproducible_and_every_argument_changes_something():
    env = ad.envs.DarkRoom(2, 4)

    def trained(**changed):
        model = ad.RecurrentPolicy(env.spec, width=8)
        ad.train_rl2(
            model,
            env,
            env.tasks(),
            **{"steps": 600, "lifetimes": 8, "unroll": 5, "episodes_per_lifetime": 2} | changed,
        )
        return torch.nn.utils.parameters_to_vector(model.parameters())

    plain = trained()
    assert torch.equal(plain, trained())
    for name, value in CHANGED.items():
        assert not torch.equal(plain, trained(**{name: value})), name


def test_a_policy_is_saved_and_comes_back_and_damage_is_caught(tmp_path):
    model = a_policy(ad.envs.DarkRoom(5, 8).spec)
    model.save(tmp_path / "m")
    loaded = ad.RecurrentPolicy.load(tmp_path / "m")
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )
    file = tmp_path / "m" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(artefacts.ArtefactError, match="does not match its sha256"):
        ad.RecurrentPolicy.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda room, model: ad.RL2(model, memory="week"), "memory='week'; choose"),
        (
            lambda room, model: ad.RecurrentPolicy(room.spec, width=0),
            "width=0; give a whole number",
        ),
        (
            lambda room, model: ad.RecurrentPolicy(ad.envs.Watermaze().spec),
            r'view=\(24, 32\): .* give a world of view="pose"',
        ),
        (
            lambda room, model: ad.RecurrentPolicy(ad.envs.Watermaze(view="nothing").spec),
            "view='nothing': this policy has no eye",
        ),
        (
            lambda room, model: ad.RecurrentPolicy(POOL.spec).check_spec(
                ad.envs.Watermaze(view="nothing").spec
            ),
            "Watermaze with view=pose, and this is Watermaze with view=nothing",
        ),
        (lambda room, model: ad.train_rl2(model, room, room.tasks(), steps=0), "steps: 0 given"),
        (lambda room, model: ad.train_rl2(model, room, room.tasks()[:0]), "tasks: 0 given"),
        (lambda room, model: ad.train_rl2(model, room, room.tasks(), lr=-1), "lr=-1; a step size"),
        (
            lambda room, model: ad.train_rl2(model, room, room.tasks(), gamma=1),
            "the discount lies in",
        ),
        (
            lambda room, model: ad.collect(
                ad.envs.DarkRoom(), ad.envs.DarkRoom().tasks(), ad.RL2(model), episodes=1
            ),
            r"cardinality=\(5, 5\), and this is DarkRoom with cardinality=\(9, 9\); train one there with train_rl2",
        ),
    ],
)
def test_a_wrong_call_is_refused_kindly(call, says):
    room = ad.envs.DarkRoom(5, 8)
    with pytest.raises(ValueError, match=says):
        call(room, a_policy(room.spec))


def test_it_learns_what_only_memory_across_episodes_can_know():
    """One of two actions pays and which is the task: after a first try there is nothing left to learn, if one remembers."""
    env = OneFault("across episodes")

    def late(steps, **how):
        model = ad.RecurrentPolicy(env.spec, width=16)
        ad.train_rl2(model, env, env.tasks(), **QUICK | steps)
        returns = ad.collect(
            env, env.tasks(), ad.RL2(model, **how), episodes=6, lifetimes=32, seed=1
        ).returns
        return ad.stats.bootstrap(returns[:, :, 1:].mean(2), draws=500)

    assert late({}).low > 3.9
    assert late({}, memory="episode").estimate < 3.65, (
        "with the first step of every episode a guess, 3.5 is the most"
    )
    assert late({"lr": 0.0}).high < 2.5


def test_it_improves_over_a_lifetime_and_without_memory_does_not():
    """On goals it trained on; what it makes of others is for bench_rl2.py, which trains for long enough."""
    env = ad.envs.DarkRoom(size=4, horizon=8)
    model = ad.RecurrentPolicy(env.spec, width=32)
    log = ad.train_rl2(
        model,
        env,
        env.tasks(),
        steps=250_000,
        lifetimes=64,
        episodes_per_lifetime=5,
        unroll=16,
        lr=1e-2,
    )
    live = lambda **how: (
        ad.collect(env, env.tasks(), ad.RL2(model, **how), episodes=5, lifetimes=20, seed=1).returns
    )
    remembering, amnesiac = (
        ad.stats.improvement(live(memory=m), share=0.2) for m in ("lifetime", "episode")
    )
    assert log["last"].iloc[-1] > 1.5 * log["last"].iloc[0]
    assert (
        remembering.low > 0.7
        and remembering.low > amnesiac.high
        and amnesiac.low < 0 < amnesiac.high
    )


def test_distillation_reads_what_a_policy_would_have_seen_step_by_step():
    """The loss over packed windows, episodes ending early, is that of stepping through the lives one action at a time."""
    env = ad.envs.from_gymnasium("FrozenLake-v1", horizon=12)
    lives, model = (
        ad.collect(env, env.tasks(), ad.sources.Random(), episodes=4, lifetimes=3),
        a_policy(env.spec),
    )
    seen, action, real = recurrent._in_a_row(
        env.spec, lives.windows(np.arange(3), np.zeros(3, int), 4)
    )
    assert (
        real.sum() == lives.length.sum() < 3 * 4 * 12 and real.shape[1] == lives.length.sum(1).max()
    )
    losses = []
    for n in range(3):
        state, last = torch.zeros(1, 12), (np.array([env.spec.n_actions]), np.zeros(1, np.float32))
        for e in range(4):
            for t in range(lives.length[n, e]):
                obs, chosen, reward = (
                    lives.arrays[name][n, e, t][None] for name in ("obs", "action", "reward")
                )
                logits, _, state = model(
                    *Seen(obs, *last, np.array([t == 0])).tensors(env.spec), state
                )
                losses.append(
                    torch.nn.functional.cross_entropy(logits, torch.as_tensor(chosen).long())
                )
                last = chosen, reward
    torch.testing.assert_close(
        recurrent._imitation_loss(model, seen, action, real), torch.stack(losses).mean()
    )


def test_a_distilled_policy_remembers_what_only_memory_across_episodes_tells():
    env = OneFault("across episodes")
    lives = ad.collect(
        env,
        env.tasks(),
        ad.sources.QLearning(lr=1.0, exploration_episodes=6),
        episodes=12,
        lifetimes=64,
    )
    model = ad.RecurrentPolicy(env.spec, width=16)
    log = ad.distill_recurrent(model, lives, episodes=12, steps=150, batch=32, lr=1e-2)
    late = lambda **how: (
        ad.collect(env, env.tasks(), ad.RL2(model, **how), episodes=12, lifetimes=64)
        .returns[:, :, -4:]
        .mean()
    )
    assert log.loss.iloc[-1] < 0.8 * log.loss.iloc[0]
    assert late() > 0.85 * env.optimum and late(memory="episode") < 0.7 * env.optimum


@pytest.mark.parametrize(
    ("wrong", "says"),
    [(dict(episodes=9), "episodes=9; these histories have 2"), (dict(steps=0), "steps: 0 given")],
)
def test_what_cannot_be_distilled_is_refused(wrong, says):
    env = ad.envs.DarkRoom(4, 6)
    lives = ad.collect(env, env.tasks(), ad.sources.Random(), episodes=2)
    with pytest.raises(ValueError, match=says):
        ad.distill_recurrent(ad.RecurrentPolicy(env.spec), lives, **({"episodes": 2} | wrong))
