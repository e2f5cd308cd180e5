"""Other people's worlds: made, run, closed, given their tasks and masks; and ours in Gymnasium."""

import pickle
import warnings
from dataclasses import dataclass
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv
from gymnasium.spaces import Discrete
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.wrappers import TimeLimit, TransformReward
from gymnasium_worlds import OPEN, PPO, RANDOM, World, changing, collected, paid, world
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env

import adkit as ad
from adkit.envs import from_gymnasium

# ---- how a world is made ----


def test_a_world_is_an_id_a_spec_a_class_or_what_makes_one():
    same = world()
    gymnasium.register("Some-v0", same, max_episode_steps=5)
    limited = lambda: TimeLimit(same(), 5)
    made = "Some-v0", gymnasium.spec("Some-v0"), same, partial(same, x=1), limited
    for one in made:
        assert collected(one).length.tolist() == [[5] * 4]
        assert collected(one, horizon=12).length.max() == 12, "no older limit cuts it"
    del gymnasium.registry["Some-v0"]
    assert collected(limited, horizon=None).spec.horizon == 5
    half = partial(TransformReward, func=lambda reward: reward / 2)
    assert paid(same, wrappers=[half, half]) == [0.25]


def test_an_instance_lives_as_long_as_its_lifetime_and_is_seeded_once():
    env, rng = from_gymnasium(world(), horizon=2), ad.Rng.of(0, "x", np.arange(2))
    tasks = env.tasks()[[0, 0]]
    state, _ = env.reset(tasks, rng)
    for step in (1, 2):
        state, _ = env.next_episode(state, tasks, rng.at(step))
    seeds, *later = zip(*(one.env.resets for one in state.env), strict=True)
    assert len({seed for seed, _ in seeds}) == 2 and later == [((None, None),) * 2] * 2
    env.end_lifetimes(state)
    assert not OPEN
    state, _ = env.reset(tasks, rng)
    assert len(OPEN) == 2
    del state
    assert not OPEN, "also what nobody closed"


@pytest.mark.parametrize("agent", [RANDOM, PPO], ids=repr)
@pytest.mark.parametrize("broken", ["step", "reset", "__init__"])
def test_worlds_are_closed_after_an_error(broken, agent):
    calls = []

    def fails(self, *_, **__):
        calls.append(self)
        if broken != "__init__" or len(calls) == 3:  # the first is looked at, and closed
            raise RuntimeError("the wheel came off")
        World.__init__(self)

    with pytest.raises(RuntimeError, match="wheel"):
        collected(world(**{broken: fails}), lifetimes=2, agent=agent)
    assert not OPEN


def test_worlds_are_closed_after_training_in_them():
    env = from_gymnasium(world(), horizon=3)
    how = {"steps": 200, "lifetimes": 2, "episodes_per_lifetime": 2, "unroll": 5}
    ad.train_rl2(ad.RecurrentPolicy(env.spec, width=8), env, env.tasks(), **how)
    with pytest.raises(ValueError, match="observation must be 0 to 2"):
        late = from_gymnasium(changing(4, sees=9), horizon=3)
        ad.train_rl2(ad.RecurrentPolicy(env.spec, width=8), late, late.tasks(), **how)
    assert not OPEN


# ---- tables ----

LAKES = [
    (dict(is_slippery=False), True),
    (dict(tasks=[{"map_name": "4x4"}, {"map_name": "8x8"}]), True),
    (dict(wrappers=[partial(TransformReward, func=lambda reward: reward)]), False),
    (dict(tasks=[{"x": 1}], task_as="options"), False),
]


@pytest.mark.parametrize(("how", "tabular"), LAKES)
def test_a_lake_is_run_from_its_tables_unless_it_is_wrapped(how, tabular):
    assert hasattr(from_gymnasium("FrozenLake-v1", **how), "tables") == tabular


class Straight(FrozenLakeEnv):
    """Says that it is slippery, and is not: outcomes are among the three, but never the others."""

    def step(self, a):
        _, self.s, reward, over = self.P[self.s][a][1]
        return self.s, reward, over, False, {}


class Paid(TaxiEnv):
    """Pays for one state of 500."""

    def step(self, a):
        seen, reward, *rest = super().step(a)
        return seen, reward + (self.s == 77), *rest


class Named(World):
    """Has an attribute of the right name."""

    P, initial_state_distrib = ({0: 1}, [1.0])


def test_tables_that_stepping_contradicts_are_not_used():
    assert hasattr(from_gymnasium(TaxiEnv, horizon=9), "tables")
    for contradicts in (Straight, Paid, partial(TaxiEnv, fickle_passenger=True), Named):
        assert not hasattr(from_gymnasium(contradicts, horizon=9), "tables")


# ---- tasks ----

PLAIN = [None, {"g": 9.8}, [1, [2, 3]], (0, (1, None)), 2**70, "a", True, 1, [], ()]
COLUMNS = PLAIN, [(0, 1), (2, 3)], [[0, 1], (0, 1)], [3, 4], [1, 2.5], [True, False], ["a", "1"]


@pytest.mark.parametrize("values", COLUMNS, ids=repr)
@pytest.mark.parametrize("name", ["goal", "variant", "length", "task"])
def test_task_values_arrive_as_they_were_given(name, values):
    for task_as, where in (("argument", "given"), ("options", "resets")):
        env = from_gymnasium(World, [{name: v} for v in values], 3, task_as=task_as)
        env = pickle.loads(pickle.dumps(env)) if task_as == "options" else env
        state, _ = env.reset(env.tasks()[::-1], ad.Rng.of(0, "x", np.arange(len(values))))
        for one, value in zip(state.env, values[::-1], strict=True):
            got = getattr(one.env, where)
            (got,) = (got if task_as == "argument" else got[0][1]).values()
            assert type(got) is type(value) and got == value
        env.end_lifetimes(state)
    columns = collected(world(), tasks=[{name: v, "task_length": 0} for v in values]).to_frame()
    assert columns.columns.is_unique and len(columns.columns) == 7


def test_a_task_can_be_the_seed_of_every_reset():
    env = from_gymnasium(world(), [{"seed": 5}, {"seed": 9}], 3, task_as="seed")
    found = ad.collect(env, env.tasks(), RANDOM, episodes=2)
    state, _ = env.reset(env.tasks(), ad.Rng.of(0, "x", np.arange(2)))
    state, _ = env.next_episode(state, env.tasks(), ad.Rng.of(1, "x", np.arange(2)))
    assert [one.env.resets for one in state.env] == [[(5, None)] * 2, [(9, None)] * 2]
    assert found.tasks["seed"].tolist() == [5, 9]
    env.end_lifetimes(state)


def test_equal_tasks_are_on_one_side_of_a_split():
    tasks = ad.Tasks({"x": np.arange(12) % 3, "name": np.array(["b", "a", "c"] * 4)})
    left, right = tasks.split(0.5)
    assert len(left) + len(right) == 12 and not set(left["x"]) & set(right["x"])


# ---- our own worlds ----


class Bad(ad.envs.DarkRoom):
    """A room whose observations are wrong in one way."""

    def step(self, state, tasks, action, rng):
        state, step = super().step(state, tasks, action, rng)
        return state, step._replace(obs=self.wrong(step.obs))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda obs: obs + np.uint8(200), r"observations must be 0 to \[4, 4\], got \[20\d 20\d\]"),
        (lambda obs: obs[:, :1], r"must be uint8 of \(4, 2\), got uint8 of \(4, 1\)"),
        (lambda obs: obs.astype(float), r"got float64 of \(4, 2\)"),
    ],
)
def test_the_same_holds_for_worlds_of_ours(wrong, sentence):
    env = type("Bad", (Bad,), {"wrong": staticmethod(wrong)})(5, 8)
    with pytest.raises(ValueError, match=sentence + ".* in task 0, lifetime 0, episode 0, step 0"):
        ad.collect(env, env.tasks()[:4], RANDOM, episodes=2)


NAMES = [name for name in ad.envs.__all__ if name != "from_gymnasium"]


@pytest.mark.parametrize("name", NAMES)
def test_every_world_of_ours_is_one_of_gymnasiums(name):
    id = f"adkit/{name}-v0"
    longer = {"horizon": 4} if name == "AdversarialBandit" else {}  # its episode is one pull
    env = gymnasium.make(id, render_mode="rgb_array", **longer)
    gymnasium_check_env(env.unwrapped)
    tasks = []
    for seed in (0, 1, None):
        env.reset(seed=seed)
        env.step(1)
        tasks.append(env.unwrapped.task.ids[0])
        picture = env.render()
        assert picture.dtype == np.uint8 and picture.ndim == 3 and len(np.unique(picture)) > 1
    assert tasks[0] != tasks[1] == tasks[2], "the seed draws a task, which then stays"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pictures are small, in its opinion
        sb3_check_env(gymnasium.make(id, render_mode=None).unwrapped)
    assert make_vec_env(id, n_envs=2).reset().shape[0] == 2
    both = gymnasium.make_vec(id, num_envs=2)
    assert both.reset(seed=0)[0].shape[0] == 2
    short = gymnasium.make(id, max_episode_steps=1)
    short.reset(seed=0)
    assert any(short.step(1)[2:4])


@dataclass(frozen=True)
class Untold(ad.envs.DarkRoom):
    """A world without `task`."""

    task = property()


def test_a_world_without_task_says_so(monkeypatch):
    monkeypatch.setattr(ad.envs, "DarkRoom", Untold)
    with pytest.raises(ValueError, match=r"adkit/DarkRoom-v0 needs a method task\(...\)"):
        gymnasium.make("adkit/DarkRoom-v0")


# ---- masks ----


class Masked(World):
    """Where 0 and 3 are forbidden in turn; one of the others is paid."""

    action_space, observation_space = Discrete(4), Discrete(2)

    def reset(self, **how):
        self.sees = 0
        return super().reset(**how)[0], self.told()

    def told(self):
        return {"action_mask": np.array([self.sees, 1, 1, 1 - self.sees], np.int8)}

    def step(self, action):
        assert self.told()["action_mask"][action], "a forbidden action"
        self.sees = 1 - self.sees
        return self.sees, float(action == 1 + self.sees), False, False, self.told()


def test_masks_are_honoured_by_sources_and_models():
    learners = RANDOM, ad.sources.QLearning(lr=0.3), ad.sources.ActorCritic(), ad.sources.DQN()
    for source in learners:
        found = collected(Masked, agent=source, episodes=90, lifetimes=6)
        chosen = [set(found.action[found.obs[..., 0] == seen]) for seen in (0, 1)]
        assert chosen == [{1, 2, 3}, {0, 1, 2}], "all that are allowed, and they alone"
        late = found.episode_returns[:, -15:].mean()
        assert late == pytest.approx(5 / 3, abs=0.4) if source is RANDOM else late > 4
    ad.testing.check_env(from_gymnasium(Masked, horizon=5))
    model = ad.CausalTransformer(found.spec, context=40, layers=1, heads=2, width=16)
    acted = collected(Masked, agent=ad.InContext(model), episodes=20, lifetimes=4)
    assert not (acted.action == np.where(acted.obs[..., 0] == 0, 0, 3)).any()
    for agent in (PPO, ad.RL2(ad.RecurrentPolicy(found.spec, width=8))):
        with pytest.raises(ValueError, match="reads no action masks"):
            collected(Masked, agent=agent)


@pytest.mark.parametrize("agent", [ad.sources.UCB(), ad.sources.ThompsonSampling()])
def test_bandits_pull_allowed_arms_alone(agent):
    paid = lambda self, action: float(action == 2)
    body = dict(observation_space=Discrete(1), told=lambda self: {"action_mask": [1, 0, 1, 0]})
    step = lambda self, action: (0, paid(self, action), False, False, self.told())
    found = collected(type("Arms", (Masked,), body | {"step": step}), episodes=20, agent=agent)
    assert set(found.action.ravel()) == {0, 2} and found.episode_returns[0, -5:].mean() > 3.5


def test_masks_can_be_left_out_and_a_tabular_world_is_stepped_for_them():
    with pytest.raises(AssertionError, match="a forbidden action"):
        collected(Masked, masks=False)
    assert not OPEN
    kinds = [hasattr(from_gymnasium("Taxi-v4", masks=masks), "tables") for masks in (None, True)]
    assert kinds == [True, False]


LATE = {  # says which actions are allowed after steps alone
    "reset": lambda self, **how: (0, {}),
    "step": lambda self, action: (0, 1.0, False, False, self.told()),
}
FLAGS = r'info\["action_mask"\] must have 4 flags, one an action, and allow one at least, got '


@pytest.mark.parametrize(
    ("body", "how", "words"),
    [
        ({"told": lambda self: {"action_mask": [1, 1]}}, {}, FLAGS + ".*before the first step"),
        ({"told": lambda self: {"action_mask": [self.sees] * 4}}, {}, FLAGS + r"\[0 0 0 0\]"),
        ({"told": lambda self: {"action_mask": [1] * 4} if not self.sees else {}}, {}, FLAGS),
        (LATE, {}, r"comes after some steps and not after the first reset.*masks=False.*step 0"),
        (LATE, {"masks": True}, r'masks=True, but Odd gives no info\["action_mask"\]'),
    ],
)
def test_masks_that_say_too_little_are_refused(body, how, words):
    with pytest.raises(ValueError, match=words):
        collected(type("Odd", (Masked,), body), **how)
    assert not OPEN


def test_answers_of_other_shapes_and_errors_of_a_world_say_where_they_come_from():
    old = {"step": lambda self, action: (0, 1.0, False, {})}
    with pytest.raises(ValueError, match=r"`step` must return \(observation, reward, .* step 0"):
        collected(world(**old))
    with pytest.raises(
        ValueError, match=r"`reset` of Some must return \(observation, info\), got 0"
    ):
        collected(world(reset=lambda self, **how: 0))

    def fail(self, action):
        raise KeyError("door")

    with pytest.raises(KeyError) as caught:
        collected(world(step=fail), tasks=[{"goal": (1, 2)}])
    assert caught.value.__notes__ == ["in Some, task {'goal': (1, 2)}, step 1"]
