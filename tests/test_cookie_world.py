"""The CookieWorld by hand, what of it a model may see, labels that ride along, and how it is drawn."""

import json
from dataclasses import fields, replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from helpers import same, scrambled

import adkit as ad
from adkit.cookieworld import world as world
from adkit.cookieworld.world import EAST, EAT, HIDE, OPEN, SOUTH, STAY
from adkit.models.tokens import tokenize
from adkit.testing import check_env

COOKIES, CLOSED, HUNGER, TOLERANCE = world.COOKIES, world.CLOSED, world.HUNGER, world.TOLERANCE


@pytest.fixture(scope="module")
def env():
    return ad.envs.CookieWorld()


@pytest.fixture(scope="module")
def lives(env):
    return ad.collect(
        env, env.tasks()[::5000], ad.sources.Shards(), episodes=12, lifetimes=2, seed=0
    )


def days(env, task, *scripts, gifts=0):
    """What is seen on each day, walked by hand from a full jar; nobody gets hungrier. A list of (observation, reward, over)."""
    script = np.tile(np.array([3, gifts, 0], np.int8), (1, len(scripts), 1))
    task, rng = task.replace(rho=np.zeros(1), script=script), ad.Rng.of(0, "x", np.arange(1))
    state, walked, t = None, [], 0
    for actions in scripts:
        state, obs = (
            env.reset(task, rng.at(t))
            if state is None
            else env.next_episode(state, task, rng.at(t))
        )
        walked.append([(obs[0], 0.0, False)])
        for action in actions:
            state, step = env.step(state, task, np.array([action]), rng.at(t))
            walked[-1].append((step.obs[0], float(step.reward[0]), bool(step.terminated[0])))
            t += 1
    return walked


@pytest.mark.parametrize(
    "build", [dict(), dict(size=7), dict(latch=False, tolerance_visible=True, horizon=9)]
)
def test_the_world_keeps_the_contract(build):
    check_env(ad.envs.CookieWorld(**build))


def test_a_day_as_drawn_by_hand(env):
    """Home (0, 0), jar (0, 2), garden (1, 4): past the jar, a cookie, another, and on to the meal, which ends the day."""
    task = env.task(home=(0, 0), jar=(0, 2), garden=(1, 4))
    (day,) = days(env, task, [SOUTH, SOUTH, EAT, EAT, SOUTH, SOUTH, EAT, EAST, EAT])
    obs, reward, over = (np.array(column) for column in zip(*day, strict=True))
    assert obs[:, 0].tolist() == [0, 1, 2, 2, 2, 3, 4, 4, 9, 9]
    assert obs[:, 1].tolist() == [
        0,
        1,
        1,
        1,
        1,
        1,
        0,
        0,
        0,
        0,
    ]  # a cookie is visible from one cell away
    assert obs[:, 2].tolist() == [0, 3, 3, 3, 3, 3, 0, 0, 0, 0] and obs[:, 3].tolist() == [
        0,
        0,
        0,
        0,
        0,
        10,
        10,
        10,
        10,
        10,
    ]
    assert obs[:, 4].tolist() == [0, 1, 1, 1, 1, 1, 0, 0, 0, 0] and obs[:, COOKIES].tolist() == [
        3,
        3,
        3,
        2,
        1,
        1,
        1,
        1,
        1,
        1,
    ]
    assert (
        obs[0, 5] == 2 and obs[0, 6] in (1, 2) and obs[0, 7] == 0 and not obs[1:, 5:8].any()
    )  # told in the morning only
    assert reward.tolist() == [0, 0, 0, 0.5, 0.5, 0, 0, 0, 0, 1] and over.tolist() == [
        False
    ] * 9 + [True]
    woke = obs[0, HUNGER]
    assert obs[3, HUNGER] == max(woke - 1, 0) and obs[-1, HUNGER] == 0 and obs[-1, TOLERANCE] == 2


def test_hiding_works_at_home_lasts_the_day_and_gives_way_to_opening(env):
    task = env.task(home=(0, 0), jar=(0, 2), garden=(4, 4))
    hidden, away, fresh = days(
        env, task, [HIDE, SOUTH, SOUTH, EAT, *[OPEN] * 9, EAT], [SOUTH, HIDE], [SOUTH]
    )
    closed = [int(obs[CLOSED]) for obs, _, _ in hidden]
    assert (
        closed[:5] == [0, 1, 1, 1, 1]
        and closed[-1] == 0
        and hidden[4][1] == 0
        and hidden[-1][1] == 0.5
    )
    assert hidden[2][0][4] == 2 and hidden[2][0][1] == 0  # closed, no cookie to see
    assert not any(obs[CLOSED] for obs, _, _ in away) and fresh[0][0][CLOSED] == 0
    (broken,) = days(ad.envs.CookieWorld(latch=False), task, [HIDE])
    assert broken[1][0][CLOSED] == 0


def test_a_press_opens_the_lid_three_times_in_ten(env):
    task, n = env.task(home=(0, 0), jar=(0, 2), garden=(4, 4)), 4000
    rng = ad.Rng.of(0, "x", np.arange(n))
    state, _ = env.reset(task[np.zeros(n, int)], rng)
    state.body["cell"], state.body["closed"] = 2, 1
    _, step = env.step(state, task[np.zeros(n, int)], np.full(n, OPEN), rng)
    assert (step.obs[:, CLOSED] == 0).mean() == pytest.approx(0.3, abs=0.03)


def test_tolerance_outlasts_the_night_and_may_show_in_the_reward(env):
    task, visible = (
        env.task(home=(0, 0), jar=(0, 2), garden=(4, 4)),
        ad.envs.CookieWorld(tolerance_visible=True),
    )
    walk = [[SOUTH, SOUTH, EAT, EAT], [STAY], [STAY], [STAY]]
    for world_, paid in ((env, [0.5, 0.5]), (visible, [0.5, 0.375])):
        walked = days(world_, task, *walk)
        assert [day[0][0][TOLERANCE] for day in walked] == [0, 2, 1, 0] and [
            r for _, r, _ in walked[0][3:]
        ] == paid
    fed = days(env, task, [STAY], [STAY], gifts=1)
    assert [day[0][0][7] for day in fed] == [1, 1] and [day[0][0][TOLERANCE] for day in fed] == [
        1,
        2,
    ]


def test_mornings_are_as_often_what_they_should_be(env):
    tasks = env.tasks()[np.zeros(20000, int)]
    _, obs = env.reset(tasks, ad.Rng.of(0, "x", np.arange(20000)))
    assert (obs[:, 5] == 2).mean() == pytest.approx(0.6, abs=0.02) and (
        obs[:, 6] == 2
    ).mean() == pytest.approx(0.5, abs=0.02)
    assert (obs[:, 7] == 1).mean() == pytest.approx(0.1, abs=0.01) and obs[:, 7].max() == 1
    assert np.bincount(obs[obs[:, 7] == 0, HUNGER]) / (obs[:, 7] == 0).sum() == pytest.approx(
        [1 / 3] * 3, abs=0.02
    )
    assert np.abs(np.corrcoef(obs[:, [5, 6, 7]].T) - np.eye(3)).max() < 0.03


def test_layouts_are_held_out_with_all_their_reflections(env):
    tasks = env.tasks()
    assert len(tasks) == 41_232 and len(set(tasks["orbit"])) == 1308  # as in the pilot
    train, test = tasks.split(0.8, seed=0, by=("orbit",))
    places = lambda tasks: {
        tuple(np.concatenate(row))
        for row in zip(tasks["home"], tasks["jar"], tasks["garden"], strict=True)
    }
    mirrored = {(4 - a, b, 4 - c, d, 4 - e, f) for a, b, c, d, e, f in places(test)}
    assert not places(train) & (places(test) | mirrored) and len(set(test["orbit"])) == 262
    one = env.task(home=(0, 0), jar=(2, 2), garden=(4, 4), rho=0.3, psi=0.6)
    assert one.frame.to_dict() == tasks[[one.ids[0]]].frame.to_dict()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ad.envs.CookieWorld(size=6), "size=6; CookieWorld is 5 or 7 cells wide"),
        (lambda: ad.envs.CookieWorld(horizon=0), "an episode needs at least one step"),
        (
            lambda: ad.envs.CookieWorld().task((0, 0), (1, 0), (4, 4)),
            "the jar must be at least 2 steps from home",
        ),
        (lambda: ad.envs.CookieWorld().task((0, 0), (2, 2), (0, 0)), "and the garden not at home"),
        (lambda: ad.envs.CookieWorld().task((0, 9), (2, 2), (4, 4)), "is outside the room"),
        (
            lambda: ad.envs.CookieWorld().task((0, 0), (2, 2), (4, 4), rho=2),
            r"rho=\[2\]; a probability lies in",
        ),
        (
            lambda: ad.envs.CookieWorld().task((0, 0), (2, 2), (4, 4), psi=-1),
            r"psi=\[-1\]; what a cookie costs",
        ),
        (lambda: ad.EnvSpec("x", 2, 5, cardinality=(3, 2), seen=3), "seen=3, cardinality="),
        (
            lambda: ad.EnvSpec("x", 2, 5, shape=(3,), seen=1),
            "of discrete coordinates the first 1 to all can be seen",
        ),
        (
            lambda: gymnasium.make("adkit/CookieWorld-v0", home=(0, 0), jar=(2, 2)),
            r"takes the task as \['garden', 'home', 'jar'",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_way_out(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_every_field_of_the_world_changes_something(env):
    changed = dict(size=7, horizon=9, latch=False, tolerance_visible=True)
    assert {field.name for field in fields(env)} == set(changed)
    live = lambda env: ad.collect(
        env, env.tasks()[:6], ad.sources.Shards(regimes={"D1": 1}), episodes=20, lifetimes=2
    )
    for name, value in changed.items():
        other = live(replace(env, **{name: value}))
        assert other.spec != env.spec or not same(other, live(env)), name


# ---- what is seen ----


def test_the_registered_world_shows_what_a_model_sees_and_passes_gymnasiums_checker():
    made = gymnasium.make("adkit/CookieWorld-v0", home=(0, 0), jar=(2, 2), garden=(4, 4), psi=0.6)
    gymnasium_check_env(made.unwrapped, skip_render_check=True)
    assert made.observation_space.nvec.tolist() == [25, 2, 26, 26, 3, 3, 3, 5] and made.reset(
        seed=1
    )[0].shape == (8,)


def altered(lives):
    """The same lives to all who may only see: other hunger, tolerance, cookies and lid, and other labels."""
    arrays = {
        name: values if name not in lives.labels else np.ones_like(values)
        for name, values in lives.arrays.items()
    }
    for name in ("obs", "final_obs"):
        arrays[name] = arrays[name].copy()
        arrays[name][..., 8:] = (arrays[name][..., 8:] + 1) % (6, 4, 4, 2)
    return replace(lives, arrays=arrays)


def test_no_model_reads_what_only_the_creature_feels_nor_any_label(lives):
    transformer = scrambled(
        ad.CausalTransformer(lives.spec, context=64, layers=1, heads=2, width=16)
    )
    policy = scrambled(ad.RecurrentPolicy(lives.spec, width=8))

    def told(lives):
        windows = lives.windows(np.arange(len(lives)), np.zeros(len(lives), int), 4)
        with torch.inference_mode():
            logits = transformer(tokenize(lives.spec, windows).to(transformer.device))
            now = torch.as_tensor(lives.obs[:, 0]).long(), torch.zeros(len(lives)).long()
            return logits, policy(
                *now, torch.zeros(len(lives)), now[1], torch.zeros(len(lives), 8)
            )[0]

    plain, other = told(lives), told(altered(lives))
    assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))
    shown = replace(
        lives,
        arrays=lives.arrays
        | {"obs": lives.arrays["obs"] * 0, "final_obs": lives.arrays["final_obs"] * 0},
    )
    assert not any(torch.equal(a, b) for a, b in zip(plain, told(shown), strict=True))
    with pytest.raises(ValueError, match="seen"):
        transformer.check_spec(replace(lives.spec, seen=None))


def test_training_and_rollouts_are_the_same_whatever_is_felt(env, lives):
    logs = []
    for histories in (lives, altered(lives)):
        model = ad.CausalTransformer(lives.spec, context=64, layers=1, heads=2, width=16)
        logs.append(ad.distill(model, histories, steps=3, batch=4)["loss"].tolist())
    assert logs[0] == logs[1]
    rollouts = ad.collect(env, env.tasks()[:3], ad.InContext(model), episodes=5)
    assert not rollouts.labels and rollouts.arrays["obs"].shape[-1] == 12


# ---- labels ride along ----


def test_labels_come_along_wherever_histories_go(lives, tmp_path):
    n, e, h = lives.arrays["action"].shape
    assert (
        lives.pi.shape == (n, e * h, 8) and lives.gain.shape == (n, e) and lives.type.shape == (n,)
    )
    assert np.array_equal(lives[3:5].type, lives.type[3:5])
    every = lives.subsample(3)
    assert (
        np.array_equal(every.gain, lives.gain[:, ::3])
        and np.array_equal(every.eta, lives.eta)
        and every.pi.shape[1] == 4 * h
    )
    joined = ad.Histories.concatenate([lives[:7], lives[7:]])
    assert same(joined, lives) and same(ad.Histories.load(lives.save(tmp_path / "h")), lives)
    with pytest.raises(ValueError, match="must have the same labels; some have no avoided"):
        ad.Histories.concatenate(
            [lives, replace(lives, arrays={name: lives.arrays[name] for name in ("obs", "action")})]
        )
    with pytest.raises(ValueError, match=r"label 'w' is \(3,\); give"):
        replace(lives, arrays=lives.arrays | {"w": np.zeros(3)}).check()


def test_windows_hold_labels_only_when_asked(lives):
    rows, start = np.array([3, 0]), np.array([2, 5])
    plain, full = (lives.windows(rows, start, 4, labels=labels) for labels in (False, True))
    assert set(plain) == {
        "obs",
        "action",
        "reward",
        "terminated",
        "truncated",
        "final_obs",
    } and set(full) == set(lives.arrays)
    assert np.array_equal(full["gain"][1], lives.gain[0, 5:9]) and np.array_equal(
        full["type"], lives.type[rows]
    )
    assert np.array_equal(full["pi"][0], lives.arrays["pi"][3, 2:6])


def test_manifests_from_before_some_coordinates_were_hidden_still_load(tmp_path):
    env = ad.envs.DarkRoom(5, 8)
    kept = {
        "h": ad.collect(env, env.tasks()[:3], ad.sources.Random(), episodes=2),
        "m": ad.CausalTransformer(env.spec, context=32, layers=1, width=8),
        "p": ad.RecurrentPolicy(env.spec, width=4),
    }
    for name, thing in kept.items():
        manifest = thing.save(tmp_path / name) / "manifest.json"
        written = json.loads(manifest.read_text())
        del written["about"]["spec"]["seen"], written["sha256"]  # nor had they a seal
        manifest.write_text(json.dumps(written))
        assert type(thing).load(tmp_path / name).spec == env.spec
    assert ad.CausalTransformer.load(ad.find("dark_room/ad")).spec.seen is None
