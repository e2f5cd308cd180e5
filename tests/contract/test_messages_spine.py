"""What a person reads after a mistake with environments, tasks, sources and `collect`."""

from types import MappingProxyType

import numpy as np
import pytest
from helpers import started

import adkit as ad
from adkit import sources

ROOM = ad.envs.DarkRoom(5, 8)
BANDIT = ad.envs.AdversarialBandit(n_tasks=3)
COOKIES = ad.envs.CookieWorld()
PIXELS = ad.EnvSpec("Maze", n_actions=3, horizon=9, shape=(72, 96, 3))
SPEC = MappingProxyType({"name": "x", "n_actions": 2, "horizon": 5, "cardinality": (3,)})
GYM = ad.envs.from_gymnasium
SB3, SHARDS = sources.StableBaselines3, sources.Shards


def collect(env=ROOM, agent=ad.sources.Random(), **how):  # noqa: B008
    return ad.collect(**{"env": env, "tasks": env.tasks(), "agent": agent, "episodes": 1} | how)


def spec(**how):
    return ad.EnvSpec(**SPEC | how)


def steps(action):
    tasks, rng = ROOM.tasks()[:2], ad.Rng.of(0, "x", np.arange(2))
    state, _ = ROOM.reset(tasks, rng)
    ROOM.step(state, tasks, np.array(action), rng)


def reward(value: float):
    learner = started(sources.ThompsonSampling(), BANDIT.spec, 1)
    obs, no = np.zeros((1, 1), np.uint8), np.zeros(1, bool)
    step = np.array([1]), np.array([value], np.float32), no, ~no
    learner.update(ad.Transition(obs, *step, obs))


def step_an_old_state():
    env, rng = GYM("CartPole-v1"), ad.Rng.of(0, "x", np.arange(1))
    state, _ = env.reset(env.tasks(), rng)
    for _ in range(2):
        env.step(state, env.tasks(), np.array([1]), rng)


class Broken(ad.envs.DarkRoom):
    """A room with a wrong reward at one step of one task."""

    def step(self, state, tasks, action, rng):
        state, step = super().step(state, tasks, action, rng)
        late = (state.time == 3) & (tasks.ids == 17)
        reward = np.where(late, np.nan, step.reward).astype(np.float32)
        return state, step._replace(reward=reward)


class Endless(ad.envs.DarkRoom):
    """A room whose episodes do not end."""

    def step(self, state, tasks, action, rng):
        state, step = super().step(state, tasks, action, rng)
        return state, step._replace(truncated=np.zeros(len(tasks), bool))


class Listed(ad.envs.DarkRoom):
    """A room whose tasks are no table."""

    def tasks(self):
        return [{"goal": (0, 1)}]


MISTAKES = [
    (lambda: spec(horizon=0), "`horizon` must be 1 to 2^31 - 1 steps, got 0; try horizon=20"),
    (lambda: spec(horizon=0.5), "`horizon` must be whole numbers, got 0.5"),
    (lambda: spec(n_actions=1), "`n_actions` must be 2 to 256"),
    (lambda: spec(shape=(2,)), "give exactly one of `cardinality`, such as (9, 9)"),
    (lambda: spec(seen=2), "`seen` must be 1 to the 1 discrete coordinates, got 2"),
    (lambda: spec(view=(8, 8)), "`view` needs poses (x, y, heading), shape (3,), got None"),
    (
        lambda: ad.tables.tables(spec(), np.zeros((1, 2, 2, 2), int), 0.0, [[0], [1]], [1, 0]),
        "outcome probabilities must be at least 0 and sum to 1, got [2",
    ),
    (
        lambda: ad.tables.tables(spec(), np.zeros((1, 2, 2, 1), int), 0.0, [0, 1], [1, 0]),
        "`observation` must be (states, coordinates), here (2, 1), got (2,)",
    ),
    (lambda: ad.envs.DarkRoom(size=1), "`size` must be 2 to 128"),
    (lambda: ad.envs.DarkRoom(reward="sparse"), "`reward` must be 'dense' or 'once'"),
    (lambda: ROOM.task(goal=(9, 0)), "`goal` must be (x, y) with 0 <= x, y < 5, got [9, 0]"),
    (lambda: ROOM.task(goal=(1.5, 2.0)), "`goal` must be a cell, whole numbers, got [1.5, 2.0]"),
    (lambda: ad.envs.Watermaze(view=(0, 32)), "a picture must be (height, width) from (8, 8)"),
    (lambda: ad.envs.Watermaze(horizon=5), "`horizon` must be at least 16 steps"),
    (lambda: ad.envs.Watermaze().task(goal=(0.9, 0.9)), "`goal` must be (x, y) within 0.95"),
    (lambda: ROOM.tasks().split(1.0), "split(1.0) of 25 tasks leaves 25 and 0"),
    (lambda: ROOM.tasks()["wind"], "no column 'wind'; the columns are ['goal']"),
    (lambda: ad.Tasks.of([1, 2]), "`tasks` must be env.tasks(), a part of it or a task frame"),
    (
        lambda: ad.Tasks([(0, 1)]),
        "tasks are named columns, one row per task, such as Tasks({'goal':",
    ),
    (
        lambda: ad.Tasks({"goal": 3, "x": [1, 2]}),
        "each with one row per task, got sizes {'goal': 1",
    ),
    (lambda: collect(Listed(5, 8)), "got list; a world's own tasks() must return ad.Tasks({...})"),
    (lambda: ad.Rng.of(-1), "whole number from 0"),
    (lambda: collect(episodes=0), "`episodes` must be at least 1, got 0"),
    (lambda: collect(tasks=ROOM.tasks()[:0]), "`tasks` must be at least 1, got 0"),
    (lambda: collect(driver="compiled"), "Random on DarkRoom has no compiled driver"),
    (lambda: collect(agent=ad.sources.Random), "or ad.InContext(model) for a model, got <class"),
    (lambda: collect(Broken(5, 8), lifetimes=2), "got nan from DarkRoom in task 17, lifetime 0"),
    (lambda: collect(Endless(5, 8)), "let an episode run past its horizon of 8"),
    (lambda: steps([5, 0]), "actions must be (2,) integers 0 to 4 in DarkRoom"),
    (lambda: steps([0.5, 1]), "got float64 of shape (2,)"),
    (step_an_old_state, "only the newest state of CartPole-v1 can be stepped"),
    (lambda: GYM("FrozenLake-v1", tasks=[]), "`tasks` must be dicts, one per task, got []"),
    (lambda: GYM("Pendulum-v1"), "adkit needs Discrete ones"),
    (lambda: GYM("Moonbase-v0"), "Gymnasium cannot make 'Moonbase-v0'"),
    (lambda: reward(2.5), "needs rewards of 0 or 1, got up to 2.5; try UCB()"),
    (
        lambda: collect(ROOM, sources.GoalSearch()),
        "GoalSearch cannot learn in DarkRoom: it knows the Watermaze only; try QLearning(), Actor",
    ),
    (lambda: sources.GoalSearch(cells=8), "`cells` must be 24 to 256, got 8; try 48"),
    (lambda: sources.DQN(layers=0), "`layers` must be a whole number of at least 1, got 0"),
    (lambda: sources.QLearning(lr=-1), "`lr` must be in [0, 1], got -1; try lr=0.5"),
    (lambda: sources.DQN(gamma=1.0), "`gamma`, the discount, must be in [0, 1), got 1.0"),
    (lambda: sources.ActorCritic(lam=2), "`lam` must be in [0, 1], got 2"),
    (lambda: sources.QLearning(exploration=250), "`exploration` must be in [0, 1], got 250"),
    (lambda: sources.DQN(overlap=10), "`overlap` < `rollout` <= `capacity` must hold, got 10, 10"),
    (lambda: started(sources.DQN(), PIXELS, 1), "Maze: its observations are 20736 numbers, more"),
    (lambda: SB3("SAC"), "must be one of A2C, DQN, PPO, which act in discrete spaces, got 'SAC'"),
    (lambda: SB3("PPO", seed=3), "give `seed` to ad.collect, not to StableBaselines3"),
    (lambda: collect(ROOM, SB3("PPO"), driver="batched"), "runs its own loop and has no learners"),
    (lambda: ad.envs.CookieWorld(size=6), "`size` must be 5 or 7, got 6"),
    (lambda: COOKIES.task((0, 0), (1, 0), (4, 4)), "the jar must be at least 2 steps from home"),
    (lambda: COOKIES.task((0, 0), (2, 2), (4, 4), rho=2), "`rho` must be in [0, 1], got [2"),
    (lambda: SHARDS(types={"Q": 1}), "`types` must give P, N, S, L, R shares of at least 0"),
    (lambda: SHARDS(types={"P": 0}), "shares of at least 0, got {'P': 0}"),
    (lambda: started(SHARDS(), COOKIES.spec, 1), "needs a task per lifetime"),
    (
        lambda: ad.ParticleFilter(SHARDS()).follow(collect()),
        "histories must be of CookieWorld, got DarkRoom",
    ),
]


@pytest.mark.parametrize(("call", "sentence"), MISTAKES)
def test_a_mistake_is_answered_with_a_sentence(call, sentence):
    with pytest.raises(ValueError) as raised:
        call()
    assert sentence in str(raised.value)
