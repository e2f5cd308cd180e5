"""CookieWorld by hand, the coordinates that a model may see, and labels of histories."""

from dataclasses import fields, replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from helpers import same, scrambled

import adkit as ad
from adkit.cookieworld import world
from adkit.cookieworld.world import EAST, EAT, HIDE, OPEN, SOUTH, STAY
from adkit.models.recurrent import Inputs
from adkit.models.tokens import tokenize
from adkit.testing import check_env

COOKIES, CLOSED, HUNGER, TOLERANCE = world.COOKIES, world.CLOSED, world.HUNGER, world.TOLERANCE


@pytest.fixture(scope="module")
def env():
    return ad.envs.CookieWorld()


@pytest.fixture(scope="module")
def histories(env):
    return ad.collect(
        env, env.tasks()[::5000], ad.sources.Shards(), episodes=12, lifetimes=2, seed=0
    )


def days(env, task, *scripts, gifts=0):
    """Return each day's list of (observation, reward, over) from a full jar, without hunger."""
    script = np.tile(np.array([3, gifts, 0], np.int8), (1, len(scripts), 1))
    task, rng = task.replace(rho=np.zeros(1), script=script), ad.Rng.of(0, "x", np.arange(1))
    state, walked, t = None, [], 0
    for actions in scripts:
        now = task, rng.at(t)
        state, obs = env.reset(*now) if state is None else env.next_episode(state, *now)
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


def test_a_day_by_hand(env):
    """Home (0, 0), jar (0, 2), garden (1, 4): jar, two cookies, and the meal ends the day."""
    task = env.task(home=(0, 0), jar=(0, 2), garden=(1, 4))
    (day,) = days(env, task, [SOUTH, SOUTH, EAT, EAT, SOUTH, SOUTH, EAT, EAST, EAT])
    obs, reward, over = (np.array(column) for column in zip(*day, strict=True))
    steps = lambda *runs: [value for value, times in runs for _ in range(times)]
    assert obs[:, world.POSITION].tolist() == [0, 1, 2, 2, 2, 3, 4, 4, 9, 9]
    assert obs[:, world.VISIBLE].tolist() == steps((0, 1), (1, 5), (0, 4))  # from one cell away
    assert obs[:, world.JAR].tolist() == steps((0, 1), (3, 5), (0, 4))
    assert obs[:, world.GARDEN].tolist() == steps((0, 5), (10, 5))
    assert obs[:, world.LID].tolist() == steps((0, 1), (1, 5), (0, 4))
    assert obs[:, COOKIES].tolist() == steps((3, 3), (2, 1), (1, 6))
    assert obs[0, world.STOCK] == 2 and obs[0, world.DECOY] in (1, 2) and obs[0, world.GIFT] == 0
    assert not obs[1:, world.STOCK : world.GIFT + 1].any(), "bits are shown in the morning only"
    assert reward.tolist() == [0, 0, 0, 0.5, 0.5, 0, 0, 0, 0, 1]
    assert over.tolist() == [False] * 9 + [True]
    woke = obs[0, HUNGER]
    assert obs[3, HUNGER] == max(woke - 1, 0)
    assert obs[-1, HUNGER] == 0 and obs[-1, TOLERANCE] == 2


def test_hide_works_at_home_until_the_evening_or_open(env):
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
    for world_, rewards in ((env, [0.5, 0.5]), (visible, [0.5, 0.375])):
        walked = days(world_, task, *walk)
        assert [day[0][0][TOLERANCE] for day in walked] == [0, 2, 1, 0] and [
            r for _, r, _ in walked[0][3:]
        ] == rewards
    fed = days(env, task, [STAY], [STAY], gifts=1)
    assert [day[0][0][7] for day in fed] == [1, 1] and [day[0][0][TOLERANCE] for day in fed] == [
        1,
        2,
    ]


def test_mornings_have_the_right_frequencies(env):
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


def test_layouts_are_held_out_with_their_reflections(env):
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


def test_every_field_of_the_world_changes_something(env):
    changed = dict(size=7, horizon=9, latch=False, tolerance_visible=True)
    assert {field.name for field in fields(env)} == set(changed)
    collect = lambda env: ad.collect(
        env, env.tasks()[:6], ad.sources.Shards(regimes={"D1": 1}), episodes=20, lifetimes=2
    )
    for name, value in changed.items():
        other = collect(replace(env, **{name: value}))
        assert other.spec != env.spec or not same(other, collect(env)), name


# ---- what a model sees ----


def test_the_registered_world_shows_what_a_model_sees():
    made = gymnasium.make("adkit/CookieWorld-v0", home=(0, 0), jar=(2, 2), garden=(4, 4), psi=0.6)
    gymnasium_check_env(made.unwrapped, skip_render_check=True)
    assert made.observation_space.nvec.tolist() == [25, 2, 26, 26, 3, 3, 3, 5] and made.reset(
        seed=1
    )[0].shape == (8,)


def altered(histories):
    """Return the same histories to a model: other hunger, tolerance, cookies, lid and labels."""
    arrays = {
        name: values if name not in histories.labels else np.ones_like(values)
        for name, values in histories.arrays.items()
    }
    for name in ("obs", "final_obs"):
        arrays[name] = arrays[name].copy()
        arrays[name][..., 8:] = (arrays[name][..., 8:] + 1) % (6, 4, 4, 2)
    return replace(histories, arrays=arrays)


def test_no_model_reads_hidden_coordinates_or_labels(histories):
    spec, n = histories.spec, len(histories)
    transformer = scrambled(ad.CausalTransformer(spec, context=64, layers=1, heads=2, width=16))
    policy = scrambled(ad.RecurrentPolicy(spec, width=8))

    def outputs(histories):
        windows = histories.windows(np.arange(n), np.zeros(n, int), 4)
        inputs = Inputs.of_lifetimes(spec, histories.obs[:, 0]).tensors(spec)
        with torch.inference_mode():
            logits = transformer(tokenize(spec, windows).to(transformer.device))
            return logits, policy(inputs, torch.zeros(n, 8))[0]

    plain, other = outputs(histories), outputs(altered(histories))
    assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))
    blank = {name: histories.arrays[name] * 0 for name in ("obs", "final_obs")}
    blind = outputs(replace(histories, arrays=histories.arrays | blank))
    assert not any(torch.equal(a, b) for a, b in zip(plain, blind, strict=True))


# ---- labels ----


def test_labels_stay_with_their_histories(histories, tmp_path):
    n, e, h = histories.arrays["action"].shape
    assert histories.pi.shape == (n, e * h, 8)
    assert histories.gain.shape == (n, e) and histories.type.shape == (n,)
    assert np.array_equal(histories[3:5].type, histories.type[3:5])
    every = histories.subsample(3)
    assert np.array_equal(every.gain, histories.gain[:, ::3])
    assert np.array_equal(every.eta, histories.eta) and every.pi.shape[1] == 4 * h
    assert same(ad.Histories.concatenate([histories[:7], histories[7:]]), histories)
    assert same(ad.Histories.load(histories.save(tmp_path / "h")), histories)


def test_windows_hold_labels_only_when_asked(histories):
    rows, start = np.array([3, 0]), np.array([2, 5])
    plain, full = (histories.windows(rows, start, 4, labels=labels) for labels in (False, True))
    assert not set(plain) & set(histories.labels) and set(full) == set(histories.arrays)
    assert np.array_equal(full["gain"][1], histories.gain[0, 5:9])
    assert np.array_equal(full["type"], histories.type[rows])
    assert np.array_equal(full["pi"][0], histories.arrays["pi"][3, 2:6])
