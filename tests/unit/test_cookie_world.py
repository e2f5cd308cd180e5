"""CookieWorld by hand, the coordinates that a model may see, and labels of histories."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import scrambled

import adkit as ad
from adkit.cookieworld import world
from adkit.cookieworld.world import EAST, EAT, HIDE, OPEN, SOUTH, STAY
from adkit.models.tokens import tokenize

ENV = ad.envs.CookieWorld()
TASK = ENV.task(home=(0, 0), jar=(0, 2), garden=(4, 4))


@pytest.fixture(scope="module")
def histories():
    how = {"episodes": 12, "lifetimes": 2}
    return ad.collect(ENV, ENV.tasks()[::5000], ad.sources.Shards(), **how)


def days(env, task, *scripts, gifts=0):
    """Return each day's observations (steps + 1, 12) and [(reward, over)], full jar, no hunger."""
    script = np.tile(np.array([3, gifts, 0], np.int8), (1, len(scripts), 1))
    task, rng = task.replace(rho=np.zeros(1), script=script), ad.Rng.of(0, "x", np.arange(1))
    state, walked, t = None, [], 0
    for actions in scripts:
        now = task, rng.at(t)
        state, obs = env.reset(*now) if state is None else env.next_episode(state, *now)
        seen, outcomes = [obs[0]], []
        for action in actions:
            state, step = env.step(state, task, np.array([action]), rng.at(t))
            seen.append(step.obs[0])
            outcomes.append((float(step.reward[0]), bool(step.terminated[0])))
            t += 1
        walked.append((np.array(seen), outcomes))
    return walked


def test_a_day_by_hand():
    """Home (0, 0), jar (0, 2), garden (1, 4): jar, two cookies, and the meal ends the day."""
    task = ENV.task(home=(0, 0), jar=(0, 2), garden=(1, 4))
    actions = [SOUTH, SOUTH, EAT, EAT, SOUTH, SOUTH, EAT, EAST, EAT]
    ((obs, outcomes),) = days(ENV, task, actions)
    expected = {
        world.POSITION: [0, 1, 2, 2, 2, 3, 4, 4, 9, 9],
        world.VISIBLE: [0, 1, 1, 1, 1, 1, 0, 0, 0, 0],  # from one cell away
        world.JAR: [0, 3, 3, 3, 3, 3, 0, 0, 0, 0],
        world.GARDEN: [0, 0, 0, 0, 0, 10, 10, 10, 10, 10],
        world.LID: [0, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        world.COOKIES: [3, 3, 3, 2, 1, 1, 1, 1, 1, 1],
    }
    assert {column: obs[:, column].tolist() for column in expected} == expected
    assert obs[0, world.STOCK] == 2 and obs[0, world.DECOY] in (1, 2) and obs[0, world.GIFT] == 0
    assert not obs[1:, world.STOCK : world.GIFT + 1].any(), "bits are shown in the morning only"
    assert outcomes == [(0, False)] * 2 + [(0.5, False)] * 2 + [(0, False)] * 4 + [(1, True)]
    assert obs[3, world.HUNGER] == max(obs[0, world.HUNGER] - 1, 0)
    assert obs[-1, world.HUNGER] == 0 and obs[-1, world.TOLERANCE] == 2


def test_hide_works_at_home_until_the_evening_or_open():
    walks = [HIDE, SOUTH, SOUTH, EAT, *[OPEN] * 9, EAT], [SOUTH, HIDE], [SOUTH]
    (hidden, outcomes), (away, _), (fresh, _) = days(ENV, TASK, *walks)
    assert hidden[:5, world.CLOSED].tolist() == [0, 1, 1, 1, 1] and hidden[-1, world.CLOSED] == 0
    assert outcomes[3][0] == 0 and outcomes[-1][0] == 0.5
    assert hidden[2, world.LID] == 2 and hidden[2, world.VISIBLE] == 0  # closed, no cookie to see
    assert not away[:, world.CLOSED].any() and fresh[0, world.CLOSED] == 0


def test_tolerance_outlasts_the_night_and_may_show_in_the_reward():
    visible = ad.envs.CookieWorld(tolerance_visible=True)
    for env, second in ((ENV, 0.5), (visible, 0.375)):
        walked = days(env, TASK, [SOUTH, SOUTH, EAT, EAT], [STAY], [STAY], [STAY])
        assert [obs[0, world.TOLERANCE] for obs, _ in walked] == [0, 2, 1, 0]
        assert [reward for reward, _ in walked[0][1][2:]] == [0.5, second]
    fed = days(ENV, TASK, [STAY], [STAY], gifts=1)
    assert [obs[0, [world.GIFT, world.TOLERANCE]].tolist() for obs, _ in fed] == [[1, 1], [1, 2]]


def test_layouts_are_held_out_with_their_reflections():
    tasks = ENV.tasks()
    assert len(tasks) == 41_232 and len(set(tasks["orbit"])) == 1308  # as in the pilot
    train, test = tasks.split(0.8, seed=0, by=("orbit",))
    columns = lambda tasks: np.hstack([tasks[name] for name in ("home", "jar", "garden")])
    trained, held_out = (set(map(tuple, columns(part).tolist())) for part in (train, test))
    mirrored = {(4 - a, b, 4 - c, d, 4 - e, f) for a, b, c, d, e, f in held_out}
    assert not trained & (held_out | mirrored) and len(set(test["orbit"])) == 262
    one = ENV.task(home=(0, 0), jar=(2, 2), garden=(4, 4), rho=0.3, psi=0.6)
    assert one.frame.to_dict() == tasks[[one.ids[0]]].frame.to_dict()


def altered(histories):
    """Return the same histories to a model: other hunger, tolerance, cookies, lid and labels."""
    arrays = histories.arrays | {name: 1 + histories.arrays[name] for name in histories.labels}
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
        first = histories.obs[:, 0], *np.zeros((2, n), np.float32), np.ones(n)
        with torch.inference_mode():
            logits = transformer(tokenize(spec, windows).to(transformer.device))
            return logits, policy(*first, torch.zeros(n, 8))[0]

    plain, other = outputs(histories), outputs(altered(histories))
    assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))
    blank = {name: histories.arrays[name] * 0 for name in ("obs", "final_obs")}
    blind = outputs(replace(histories, arrays=histories.arrays | blank))
    assert not any(torch.equal(a, b) for a, b in zip(plain, blind, strict=True))
