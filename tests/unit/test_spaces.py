"""What is read of the spaces of other people's worlds, and what is refused."""

import re

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium_worlds import OPEN, PPO, RANDOM, World, changing, collected, paid, world

import adkit as ad
from adkit.envs import from_gymnasium

Box, Discrete = spaces.Box, spaces.Discrete
PICTURE = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
SEEN = [  # a space, what the world shows, the spec's fields, what adkit has
    (Discrete(3, start=-1), 1, {"cardinality": (3,)}, [2]),
    (Discrete(100_000), 70_000, {"cardinality": (100_000,)}, np.array([70_000], np.int32)),
    (
        spaces.MultiDiscrete([[3], [4]], start=[[1], [0]]),
        [[3], [1]],
        {"cardinality": (3, 4)},
        [2, 1],
    ),
    (spaces.MultiBinary(3), [0, 1, 1], {"cardinality": (2, 2, 2)}, [0, 1, 1]),
    (Box(-1, 3, (2,), int), [-1, 3], {"cardinality": (5, 5)}, [0, 4]),
    (Box(-1, 1, (2,), np.float64), [0.1, -1], {"shape": (2,)}, np.float32([0.1, -1])),
    (Box(-1, 1, ()), 0.5, {"shape": (1,)}, np.float32([0.5])),
    (Box(0, 255, (8, 8, 3), np.uint8), PICTURE, {"shape": (8, 8, 3), "dtype": "uint8"}, PICTURE),
    (
        spaces.Dict(a=Discrete(3), b=spaces.Tuple([spaces.MultiBinary(2), Discrete(2)])),
        {"b": ([0, 1], 1), "a": 2},
        {"cardinality": (3, 2, 2, 2)},
        [2, 0, 1, 1],
    ),
    (
        spaces.Dict(a=Discrete(3, start=1), b=Box(0, 9, (1, 2)), c=Box(0, 255, (1,), np.uint8)),
        {"a": 2, "b": [[7, 8]], "c": np.uint8([51])},
        {"shape": (6,)},
        np.float32([0, 1, 0, 7, 8, 0.2]),
    ),
]


@pytest.mark.parametrize(("space", "shown", "fields", "wanted"), SEEN)
def test_observations_are_read(space, shown, fields, wanted):
    shown = np.array(shown, space.dtype) if isinstance(shown, list) else shown
    made = world(observation_space=space, sees=shown)
    found = collected(made, agent=ad.sources.StableBaselines3("A2C"))
    assert found.spec == ad.EnvSpec("Some", 2, 5, **fields)
    wanted = np.asarray(wanted, getattr(wanted, "dtype", np.uint8))
    assert found.obs.dtype == wanted.dtype == found.spec.obs_dtype
    assert (found.obs[0] == wanted).all() and (found.final_obs[0] == wanted).all()


TAKEN = [  # a space, the value that is paid for an action, all that can be paid
    (Discrete(3, start=1), float, [1, 2, 3]),
    (spaces.MultiDiscrete([2, 2], start=[1, 5]), lambda a: a[0] * a[1], [5, 6, 10, 12]),
    (spaces.MultiBinary(2), lambda a: np.array([a[0] + 2 * a[1]]), [0, 1, 2, 3]),
]


@pytest.mark.parametrize(("space", "pays", "wanted"), TAKEN)
def test_actions_are_taken(space, pays, wanted):
    made = world(action_space=space, paid=lambda self, action: pays(action))
    assert paid(made, episodes=30) == wanted


def test_real_valued_actions_are_cut_into_bins_with_a_warning():
    made = world(action_space=Box(-1, 1, (1,)), paid=lambda self, action: action[0])
    with pytest.warns(UserWarning, match="only 3 values of each number .* is lost"):
        assert paid(made, bins=3, episodes=9) == [-1, 0, 1]


def sized(self, n=3, render_mode=None):
    World.__init__(self)
    self.n, self.sees, self.observation_space = n, n - 1, Discrete(n)


def test_the_widest_of_the_tasks_spaces_serves():
    found = collected(world(__init__=sized), tasks=[{"n": 3}, {"n": 300}])
    assert found.obs.max() == 299 and found.obs.dtype == np.int16


LATE = "from Some in task 0, lifetime 0, episode 1, step 1"
NAN = np.full(2, np.nan)
WRONG = [
    (
        changing(7, sees=4),
        f"observation must be 0 to 2, as its space says (to widen it: {{}}), got 4 {LATE}",
    ),
    (changing(7, sees=-1), f"got -1 {LATE}"),
    (changing(7, sees=256), f"got 256 {LATE}"),
    (
        changing(7, sees=0.5),
        f"whole numbers of shape (), as its space says, got float64 of {{}}5 {LATE}",
    ),
    (changing(7, sees=[1, 1]), f"of shape (2,): [1 1] {LATE}"),
    (changing(7, sees=None), f"got object of shape (): None {LATE}"),
    (changing(7, pays=np.inf), f"rewards must be finite, got inf {LATE}"),
    (changing(7, pays=None), f"rewards must be finite, got nan {LATE}"),
    (changing(7, pays=[1, 2]), f"rewards must be one number, got [1, 2] {LATE}"),
    (world(sees=3), "got 3 from Some in task 0, lifetime 0, episode 0, before the first step"),
    (
        world(observation_space=Box(-1, 1, (2,)), sees=NAN),
        "must be finite and -1.0 to 1.0, {}, got nan from",
    ),
    (world(observation_space=Box(0, 1, (2,)), sees=NAN[:1]), "numbers of shape (2,), {} (1,)"),
    (world(observation_space=spaces.Dict(a=Discrete(2)), sees={}), "observation['a'] is missing"),
    (
        world(observation_space=Box(0, 255, (1,), np.uint8), sees=np.array([300])),
        "must be uint8 of",
    ),
]


@pytest.mark.parametrize("agent", [RANDOM, PPO], ids=repr)
@pytest.mark.parametrize(("made", "sentence"), WRONG)
def test_values_outside_their_space_are_refused_with_their_place(made, sentence, agent):
    with pytest.raises(ValueError) as raised:
        collected(made, agent=agent)
    assert re.search(".*".join(map(re.escape, sentence.split("{}"))), str(raised.value))
    assert not OPEN


REFUSED = [
    (dict(observation_space=spaces.Text(4)), {}, "Some has observations of Text(1, 4"),
    (dict(observation_space=spaces.Dict(t=spaces.Text(4))), {}, "observations['t'] of Text"),
    (dict(observation_space=spaces.Sequence(Discrete(2))), {}, "Wrap the world: wrappers=[...]"),
    (dict(observation_space=spaces.MultiBinary(2000)), {}, "more than 1024 whole numbers"),
    (dict(observation_space=spaces.Dict()), {}, "which hold nothing"),
    (dict(action_space=Box(-1, 1, (2,))), {}, "adkit needs Discrete ones: give bins=5"),
    (dict(action_space=Box(-1, np.inf, (2,))), {"bins": 3}, "this Box has no bounds: wrap"),
    (dict(action_space=Discrete(300)), {}, "300 in all; adkit keeps 2 to 256"),
    (dict(action_space=Discrete(1)), {}, "1 in all; adkit keeps 2 to 256"),
    (dict(action_space=spaces.Tuple([Discrete(2)])), {}, "gymnasium.wrappers.TransformAction"),
    (dict(), {"horizon": None}, "Some has no time limit; give `horizon`"),
    (dict(), {"horizon": "a"}, "`horizon` must be whole numbers, got 'a'"),
    (dict(), {"bins": 1}, "`bins` must be a whole number of at least 2, got 1"),
    (dict(), {"wrappers": print}, "`wrappers` must be a list of classes or functions, got <b"),
    (dict(), {"wrappers": [print]}, "`wrappers` must each return a gymnasium.Env, got NoneType"),
    (dict(), {"task_as": "name"}, '`task_as` must be "argument", "options" or "seed"'),
    (dict(), {"tasks": [{"x": "a"}], "task_as": "seed"}, 'needs tasks like {"seed": 3}'),
    (dict(), {"tasks": [{"x": 1}, {"y": 1}]}, "the first has ['x'], number 1 has ['y']"),
    (dict(reset=None, __init__=lambda self: None), {"x": 1}, "Gymnasium cannot make 'Some'"),
]


@pytest.mark.parametrize(("body", "how", "sentence"), REFUSED)
def test_what_cannot_be_taken_is_refused_before_the_first_step(body, how, sentence):
    with pytest.raises(ValueError) as raised:
        from_gymnasium(world(**body), **{"horizon": 5} | how)
    assert sentence in str(raised.value) and not OPEN


@pytest.mark.parametrize("name", ["action", "observation"])
def test_tasks_with_other_actions_or_kinds_of_observations_are_refused(name):
    def init(self, other):
        World.__init__(self)
        if other:
            setattr(self, f"{name}_space", spaces.MultiDiscrete([2, 2, 2]))

    with pytest.raises(ValueError, match=f"have different {name} spaces, Discrete.* and Multi"):
        from_gymnasium(world(__init__=init), [{"other": False}, {"other": True}], 5)
    assert not OPEN
