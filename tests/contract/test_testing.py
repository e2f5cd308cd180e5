"""The contract as code refuses environments, agents and histories that break one article of it."""

from dataclasses import replace

import numpy as np
import pytest

import adkit as ad
from adkit import tables
from adkit.testing import check_agent, check_env, check_histories

ROOM = ad.envs.DarkRoom(4, 6)


class Nosy(ad.sources.Random):
    """Acts on draws of its neighbour."""

    def start(self, spec, rng, episodes):
        return super().start(spec, replace(rng, keys=np.roll(rng.keys, 1)), episodes)


class TwoFaced(ad.sources.QLearning):
    """Simulates other lifetimes than it acts."""

    def simulate(self, lifetimes, arrays):
        other = replace(lifetimes.rng, keys=lifetimes.rng.keys + np.uint64(1))
        return super().simulate(replace(lifetimes, rng=other), arrays)


@pytest.mark.parametrize(
    ("agent", "says"),
    [
        (Nosy(), "changed with those beside it; use only its own rows and rng"),
        (TwoFaced(), "the compiled and the batched driver disagree"),
    ],
)
def test_an_agent_that_breaks_the_contract_is_found_out(agent, says):
    check_agent(ad.sources.QLearning(), ROOM)
    with pytest.raises(AssertionError, match=says):
        check_agent(agent, ROOM)


class Leaky(ad.envs.DarkRoom):
    """Shows each lifetime what its neighbour sees."""

    def step(self, state, given, action, rng):
        state, step = super().step(state, given, action, rng)
        return state, step._replace(obs=np.roll(step.obs, 1, axis=0))


class Other(ad.envs.DarkRoom):
    """Has tables of which one is changed, and steps without them."""

    def tables(self, given):
        table = super().tables(given)
        return table._replace(**{name: change(table) for name, change in self.changed.items()})

    def reset(self, given, rng):
        return tables.reset(ROOM, given, rng)

    def step(self, state, given, action, rng):
        return tables.step(ROOM, state, given, action, rng)


def other(**changed):
    return type("Other", (Other,), {"changed": changed})(ROOM.size, ROOM.horizon)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (Leaky(4, 6), "changed with those beside it; use only its own rows and rng"),
        (other(reward=lambda t: 2 * t.reward), "step and tables disagree on reward"),
        (other(next_state=lambda t: np.roll(t.next_state, 1, 2)), "tables disagree on obs"),
        (other(terminated=lambda t: t.reward > 0), "step and tables disagree on terminated"),
        (other(start=lambda t: np.ones_like(t.start)), "disagree on where an episode starts"),
    ],
)
def test_an_environment_that_breaks_the_contract_is_found_out(env, says):
    check_env(other())
    with pytest.raises(AssertionError, match=says):
        check_env(env)


def test_histories_that_break_the_contract_are_found_out():
    found = ad.collect(ROOM, ROOM.tasks()[:2], ad.sources.Random(), episodes=2)
    check_histories(found)
    goes_on = found.arrays["truncated"].copy()
    goes_on[1, 1, 2] = True
    emptied = {name: values.copy() for name, values in found.arrays.items()}
    for name in ("obs", "action", "reward"):
        emptied[name][1, 1, 3:] = 0
    for arrays, says in (
        (found.arrays | {"truncated": goes_on}, "obs is not empty beyond the end of an episode"),
        (emptied | {"truncated": goes_on}, "truncated is not empty beyond the end"),
        (found.arrays | {"terminated": found.arrays["truncated"]}, "must end exactly once"),
    ):
        with pytest.raises(AssertionError, match=says):
            check_histories(replace(found, arrays=arrays))
