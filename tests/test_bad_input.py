"""Wrong calls get a sentence that says what was given, what is allowed and what to try."""

import numpy as np
import pytest

import adkit as ad

ROOM = ad.envs.DarkRoom(5, 8)
SPEC = dict(name="x", n_actions=2, horizon=5, cardinality=(3,))
DR = ad.envs.DarkRoom
MODEL = dict(context=32, layers=1, width=8)
Q = ad.sources.QLearning
collect = lambda **how: ad.collect(
    **{"env": ROOM, "tasks": ROOM.tasks(), "agent": ad.sources.Random(), "episodes": 1} | how
)
small = lambda **how: ad.CausalTransformer(ROOM.spec, **MODEL | how)
lives = lambda **how: collect(episodes=8, **how)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: DR(horizon=0), "horizon=0: an episode needs at least one step"),
        (lambda: DR(size=1), "size=1; a room has 2 to 128"),
        (lambda: DR(reward="sparse"), "reward='sparse'; DarkRoom allows reward in"),
        (lambda: DR(start="left"), "start='left'"),
        (lambda: DR().task(goal=(9, 0)), r"goal \[\[9, 0\]\] is outside the room"),
        (
            lambda: DR(permuted=True).task(goal=(0, 0), actions=(0, 0, 1, 2, 3)),
            "must be an order of",
        ),
        (lambda: ROOM.tasks().split(1.0), r"split\(1.0\) of 25 tasks leaves 25 and 0"),
        (lambda: ROOM.tasks().split(0.01), "both sides need at least one"),
        (lambda: ROOM.tasks()["wind"], r"no column 'wind'; the columns are \['goal'\]"),
        (lambda: ad.Tasks({"a": np.zeros(2), "b": np.zeros(3)}), "one row per task"),
        (lambda: ad.Tasks.of([1, 2]), "tasks is a list"),
        (lambda: ad.EnvSpec(**SPEC | {"n_actions": 1}), "2 to 256 are allowed"),
        (lambda: ad.EnvSpec(**SPEC | {"shape": (2,)}), "give exactly one of them"),
        (lambda: ad.Rng.of(-1), "non-negative whole number"),
        (lambda: Q(lr=0), r"lr=0; a tabular step size lies in \(0, 1\]"),
        (lambda: Q(gamma=1.0), "the discount lies in"),
        (lambda: Q(epsilon=2), "a probability lies in"),
        (lambda: Q(initial_q=float("nan")), "give a finite number"),
        (lambda: ad.sources.PosteriorSampling(noise=-1), "noise=-1"),
        (lambda: ad.sources.PosteriorSampling(greed=-1), "greed=-1; give a number of at least 0"),
        (lambda: collect(episodes=0), "`episodes` must be at least 1, got 0"),
        (lambda: collect(lifetimes=0), "`lifetimes` must be at least 1, got 0"),
        (lambda: collect(tasks=ROOM.tasks()[:0]), "`tasks` must be at least 1, got 0"),
        (lambda: collect(driver="fast"), 'must be "auto", "compiled" or "batched"'),
        (
            lambda: collect(driver="compiled"),
            "Random on DarkRoom has no compiled driver",
        ),
        (
            lambda: collect(agent=ad.sources.Random),
            "such as ad.sources.QLearning\\(\\), got <class",
        ),
        (lambda: collect(agent="ppo"), "got 'ppo'"),
        (lambda: lives().subsample(9), r"subsample\(9\) of 8 episodes"),
        (lambda: lives().episodes[9:], "keeps none"),
        (lambda: lives().windows(np.array([0]), np.array([7]), 2), "leave the 8 there are"),
        (lambda: ad.envs.from_gymnasium("FrozenLake-v1", tasks=[]), "one per task"),
        (lambda: ad.envs.from_gymnasium("Pendulum-v1"), "adkit needs Discrete ones"),
        (
            lambda: ad.envs.from_gymnasium("Blackjack-v1", horizon=9),
            "adkit reads Discrete, MultiDiscrete and Box",
        ),
        (
            lambda: ad.probing.fit(np.zeros((4, 2, 3)), [0, 1], groups=np.array([0, 0, 1, 1])),
            "both sides need at least 2",
        ),
        (
            lambda: ad.probing.fit(
                np.zeros((4, 2, 3)), [0, 1], groups=np.zeros(4, int), holdout="day"
            ),
            'choose "task" or "lifetime"',
        ),
    ],
)
def test_a_wrong_call_is_refused_kindly(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize(
    ("action", "says"),
    [([5, 0], "integers in 0..4"), ([0], r"takes \(2,\) integers"), ([0.5, 1], "dtype float64")],
)
def test_wrong_actions_are_refused(action, says):
    tasks, rng = ROOM.tasks()[:2], ad.Rng.of(0, "x", np.arange(2))
    state, _ = ROOM.reset(tasks, rng)
    with pytest.raises(ValueError, match=says):
        ROOM.step(state, tasks, np.array(action), rng)


@pytest.mark.parametrize("sharded", [False, True])
def test_nan_rewards_are_refused_with_their_place(tmp_path, sharded):
    class Broken(DR):
        def step(self, state, tasks, action, rng):
            state, step = super().step(state, tasks, action, rng)
            late = (state.time == 3) & (tasks.ids == 17)
            return state, step._replace(
                reward=np.where(late, np.nan, step.reward).astype(np.float32)
            )

    with pytest.raises(ValueError, match="got nan from DarkRoom in lifetime 34, episode 0, step 2"):
        collect(env=Broken(5, 8), lifetimes=2, out=tmp_path / "lives" if sharded else None)


def test_an_endless_episode_is_refused():
    class Endless(DR):
        def step(self, state, tasks, action, rng):
            state, step = super().step(state, tasks, action, rng)
            return state, step._replace(truncated=np.zeros(len(tasks), bool))

    with pytest.raises(ValueError, match="run past its horizon of 8"):
        collect(env=Endless(5, 8))


def test_a_broken_environment_fails_its_check_with_a_sentence():
    class Impure(DR):
        def step(self, state, tasks, action, rng):
            answer = super().step(state, tasks, action, rng)
            state.time[:] += 1
            return answer

    with pytest.raises(
        AssertionError, match="step from the same state differed|step changed the state"
    ):
        ad.testing.check_env(Impure(5, 8))
