"""The contract as code refuses those who break it, each of one article."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers import same

import adkit as ad
from adkit import tables
from adkit.testing import _equal, check_agent, check_env, check_histories

ROOM = ad.envs.DarkRoom(4, 6)


@dataclass(frozen=True)
class Nosy:
    """Acts on what chance meant for its neighbour."""

    def start(self, spec, rng, episodes):
        return NosyLearner(spec, rng)


class NosyLearner:
    def __init__(self, spec, rng):
        self.spec, self.rng, self.t = spec, rng, 0

    def act(self, obs, first):
        return np.roll(self.rng.at(self.t).integers(self.spec.n_actions, 0), 1)

    def update(self, transition):
        self.t += 1


class TwoFaced(ad.sources.QLearning):
    """Lives otherwise than it acts."""

    def simulate(self, lifetimes, arrays):
        other = replace(lifetimes.rng, keys=lifetimes.rng.keys + np.uint64(1))
        return super().simulate(replace(lifetimes, rng=other), arrays)


@pytest.mark.parametrize(
    ("agent", "says"),
    [
        (Nosy(), "a lifetime changed with those beside it; use only its own rows and rng"),
        (TwoFaced(), "the compiled and the batched driver disagree"),
    ],
)
def test_an_agent_that_breaks_the_contract_is_found_out(agent, says):
    check_agent(ad.sources.QLearning(), ROOM)
    with pytest.raises(AssertionError, match=says):
        check_agent(agent, ROOM)


class Leaky(ad.envs.DarkRoom):
    """Shows each what its neighbour sees."""

    def step(self, state, given, action, rng):
        state, step = super().step(state, given, action, rng)
        return state, step._replace(obs=np.roll(step.obs, 1, axis=0))


class Other(ad.envs.DarkRoom):
    """Has tables, and steps without them."""

    changed = ""

    def tables(self, given):
        table = super().tables(given)
        change = {
            "reward": lambda t: 2 * t,
            "start": lambda t: np.ones_like(t),
            "terminated": lambda t: table.reward > 0,
        }
        change["next_state"] = lambda t: np.roll(t, 1, axis=2)
        return (
            table._replace(**{self.changed: change[self.changed](getattr(table, self.changed))})
            if self.changed
            else table
        )

    def reset(self, given, rng):
        return tables.reset(ROOM, given, rng)

    def step(self, state, given, action, rng):
        return tables.step(ROOM, state, given, action, rng)


def other(name):
    return type("Other", (Other,), {"changed": name})(ROOM.size, ROOM.horizon)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (Leaky(4, 6), "a lifetime changed with those beside it; use only its own rows and rng"),
        (other("reward"), "step and tables disagree on reward"),
        (other("next_state"), "step and tables disagree on obs"),
        (other("terminated"), "step and tables disagree on terminated"),
        (other("start"), "reset and tables disagree on where an episode starts"),
    ],
)
def test_an_environment_that_breaks_the_contract_is_found_out(env, says):
    check_env(other(""))
    with pytest.raises(AssertionError, match=says):
        check_env(env)


def test_histories_that_break_the_contract_are_found_out():
    life = ad.collect(ROOM, ROOM.tasks()[:2], ad.sources.Random(), episodes=2)
    check_histories(life)
    goes_on = life.arrays["truncated"].copy()
    goes_on[1, 1, 2] = True
    with pytest.raises(AssertionError, match="obs is not empty beyond the end of an episode"):
        check_histories(replace(life, arrays=life.arrays | {"truncated": goes_on}))
    emptied = {name: values.copy() for name, values in life.arrays.items()} | {"truncated": goes_on}
    for name in ("obs", "action", "reward"):
        emptied[name][1, 1, 3:] = 0
    with pytest.raises(AssertionError, match="truncated is not empty beyond the end of an episode"):
        check_histories(replace(life, arrays=emptied))
    with pytest.raises(AssertionError, match="must end exactly once, terminated or truncated"):
        check_histories(
            replace(life, arrays=life.arrays | {"terminated": life.arrays["truncated"]})
        )


def test_histories_that_hold_more_or_of_another_kind_are_not_the_same():
    life = ad.collect(ROOM, ROOM.tasks()[:2], ad.sources.Random(), episodes=2)
    for change in (
        {"mood": np.zeros(2)},
        {"reward": life.arrays["reward"].astype(float)},
        {"reward": 1 + life.arrays["reward"]},
    ):
        changed = replace(life, arrays=life.arrays | change)
        for alike in (same, _equal):
            assert alike(life, life) and not alike(life, changed) and not alike(changed, life)
