"""The Watermaze: its motion by hand, its pictures, its sources, and what a model may see of it."""

from dataclasses import fields

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from helpers import same

import adkit as ad
from adkit.envs import pixels, watermaze
from adkit.testing import check_agent, check_env

TURN = 2 * np.pi / 16


@pytest.fixture(scope="module")
def maze():
    return ad.envs.Watermaze(ends="platform", n_tasks=400)


@pytest.fixture(scope="module")
def searches(maze):
    return ad.collect(maze, maze.tasks()[:30], ad.sources.GoalSearch(), episodes=6, seed=0)


@pytest.fixture(scope="module")
def poses():
    """Poses from everywhere in the room."""
    radius, angle, heading = np.random.default_rng(0).uniform(size=(3, 500)) * [
        [0.95],
        [2 * np.pi],
        [2 * np.pi],
    ]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), heading], axis=1).astype(
        np.float32
    )


def walk(env, task, pose, *actions):
    """What happens on the way from a pose."""
    state, _ = env.reset(task, ad.Rng.of(0, "x", np.arange(1)))
    state = state._replace(pose=np.array([pose], np.float32))
    steps = []
    for action in actions:
        state, step = env.step(state, task, np.array([action]), ad.Rng.of(0, "x", np.arange(1)))
        steps.append(step)
    return steps


# ---- the world ----


@pytest.mark.parametrize("ends", ["clock", "platform"])
def test_the_pool_keeps_the_contract(ends):
    env = ad.envs.Watermaze(ends=ends, n_tasks=50)
    check_env(env)
    for agent in (
        ad.sources.Optimal(),
        ad.sources.GoalSearch(),
        ad.sources.GoalSearch(noise=0.1),
        ad.sources.PoseQLearning(),
    ):
        check_agent(agent, env)


@pytest.mark.parametrize(
    ("action", "to"),
    [
        (0, (0.1, 0, 0)), (1, (-0.1, 0, 0)), (2, (0, 0.1, 0)), (3, (0, -0.1, 0)), (4, (0, 0, TURN)), (5, (0, 0, 15 * TURN)),
        (6, (0.1 * np.cos(TURN), 0.1 * np.sin(TURN), TURN)), (7, (0.1 * np.cos(TURN), -0.1 * np.sin(TURN), 15 * TURN)),
    ],
)  # fmt: skip
def test_each_of_the_eight_actions_moves_as_drawn_by_hand(maze, action, to):
    (step,) = walk(maze, maze.task((0.5, 0.5)), (0, 0, 0), action)
    np.testing.assert_allclose(step.obs, [to], atol=1e-6)


def test_the_wall_stops_and_the_platform_pays_once(maze):
    assert np.allclose(walk(maze, maze.task((0, 0.5)), (0.9, 0, 0), 0)[0].obs, [[0.95, 0, 0]])
    there = (0.3, 0, 0), 0, 0, 1, 0, 1, 0  # onto a platform at (0.5, 0), off it, and onto it again
    clock = ad.envs.Watermaze()
    steps = walk(clock, clock.task((0.5, 0)), *there)
    assert [float(step.reward[0]) for step in steps] == [1, 0, 0, 0, 0, 0] and not any(
        step.terminated[0] for step in steps
    )
    (first, *_) = walk(maze, maze.task((0.5, 0)), *there)
    assert first.reward[0] == 1 and first.terminated[0] and not first.truncated[0]


def test_episodes_start_in_the_middle_looking_anywhere(searches):
    start = searches.arrays["obs"][:, :, 0].reshape(-1, 3)
    assert (start[:, :2] == 0).all()
    assert np.histogram(start[:, 2], bins=4, range=(0, 2 * np.pi))[0].min() > 25


def test_platforms_fill_the_ring_evenly():
    goal = ad.envs.Watermaze(n_tasks=4000).tasks()["goal"]
    radius = np.hypot(*goal.T)
    assert (
        radius.min() >= 0.25
        and radius.max() <= 0.85
        and abs(np.median(radius) - np.sqrt((0.25**2 + 0.85**2) / 2)) < 0.01
    )
    assert np.abs(goal.mean(0)).max() < 0.03


def test_every_platform_is_within_reach_so_the_optimum_is_one():
    """From all headings; and no walk is shorter than the straight line."""
    env = ad.envs.Watermaze(ends="platform", horizon=watermaze.FARTHEST)
    tasks = env.tasks()
    lives = ad.collect(env, tasks, ad.sources.Optimal(), episodes=10)
    assert (lives.returns == 1).all() and (ad.optimal_returns(env, tasks) == 1).all()
    straight = np.ceil((np.hypot(*tasks["goal"].T) - watermaze.PLATFORM) / watermaze.STEP)
    more = lives.length - straight[:, None]
    assert more.min() == 0 and more.mean() < 1.2


def test_learning_curves_know_the_optimum(maze, searches):
    figure = ad.views.learning_curves({"search": searches}, env=maze)
    assert next(trace.y[0] for trace in figure.data if trace.name == "optimum") == 1


@pytest.mark.parametrize("view", [(24, 32), (8, 96), "pose", "nothing"])
def test_the_registered_pool_shows_its_view_and_passes_gymnasiums_checker(view):
    env = gymnasium.make("adkit/Watermaze-v0", goal=(0.3, 0.4), view=view)
    gymnasium_check_env(env.unwrapped, skip_render_check=True)
    obs, _ = env.reset(seed=1)
    assert obs.shape == ((*view, 3) if isinstance(view, tuple) else (3,))
    assert view != "nothing" or not obs.any()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: ad.envs.Watermaze(view=(0, 32)),
            r"picture size \(0, 32\); give \(height, width\) from \(8, 8\) to \(72, 96\)",
        ),
        (
            lambda: ad.envs.Watermaze(view=(10_000, 10_000)),
            r"from \(8, 8\) to \(72, 96\). Try \(24, 32\)",
        ),
        (lambda: ad.envs.Watermaze(view=(24.5, 32)), "picture size"),
        (lambda: ad.envs.Watermaze(view=24), "picture size 24"),
        (
            lambda: ad.envs.Watermaze(view="picture"),
            """give \\(height, width\\), "pose" or "nothing".""",
        ),
        (lambda: ad.envs.Watermaze(ends="never"), "ends='never'; Watermaze allows"),
        (lambda: ad.envs.Watermaze(horizon=5), "horizon=5; some platforms are 16 steps away"),
        (lambda: ad.envs.Watermaze(n_tasks=0), "n_tasks=0; a family has at least 1"),
        (
            lambda: ad.envs.Watermaze().task(goal=(0.9, 0.9)),
            r"goal \[0.9, 0.9\] is outside the room; it must be within 0.95",
        ),
        (lambda: ad.envs.Watermaze().task(goal=(0.1, 0.1, 0.1)), r"a goal is \(x, y\)"),
        (lambda: pixels.render(np.zeros(3), (0, 0)), "picture size"),
        (lambda: pixels.render(np.zeros(2)), r"a pose is \(x, y, heading\)"),
        (lambda: pixels.render(np.ones(3)), "outside the room"),
        (
            lambda: pixels.render(np.zeros(3), dtype="int8"),
            """dtype='int8'; pictures come as "uint8\"""",
        ),
        (lambda: ad.EnvSpec("x", 2, 5, cardinality=(3,), view="pose"), "only poses"),
        (lambda: ad.EnvSpec("x", 2, 5, shape=(3,), view=5), "view=5; give"),
        (lambda: ad.sources.GoalSearch(noise=2), "noise=2; a probability"),
        (lambda: ad.sources.GoalSearch(cells=3), "cells=3; give 24 to 256"),
        (
            lambda: ad.sources.GoalSearch().start(
                ad.envs.DarkRoom().spec, ad.Rng.of(0), episodes=10
            ),
            "this is DarkRoom; PosteriorSampling",
        ),
        (lambda: ad.sources.PoseQLearning(bins=(0, 1, 1)), "bins="),
        (lambda: ad.sources.PoseQLearning(lr=0), "lr=0; a tabular step size"),
        (
            lambda: ad.sources.PoseQLearning().start(
                ad.envs.DarkRoom().spec, ad.Rng.of(0), episodes=10
            ),
            "needs poses and DarkRoom has none",
        ),
        (
            lambda: ad.optimal_returns(ad.envs.from_gymnasium("CartPole-v1"), ad.Tasks({"a": [0]})),
            "its optimum is unknown",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_way_out(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# ---- the pictures ----


@pytest.mark.parametrize("size", [(8, 8), (24, 32), (17, 33), (72, 96), (72, 40)])
def test_pictures_have_the_size_asked_for_and_are_the_same_every_time(poses, size):
    picture = pixels.render(poses, size)
    assert picture.shape == (500, *size, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, pixels.render(poses, size)) and np.array_equal(
        picture[7], pixels.render(poses[7], size)
    )
    assert picture.std(0).mean() > 20  # places look different


def test_landmarks_move_left_when_one_turns_right():
    """The orange one at 0 degrees: ahead, then left of the middle, then right of it."""
    orange = lambda heading: np.argwhere(
        (np.abs(pixels.render([0, 0, heading])[11] * [1, 1, 1] - [152, 67, 0]) < 12).all(-1)
    ).mean()
    assert abs(orange(0) - 15.5) < 1 and orange(-TURN) < 9 and orange(TURN) > 22


def test_walls_grow_as_one_comes_close_and_sky_is_above_floor():
    wall = lambda x: (
        np.ptp(pixels.render([x, 0, 0])[:, 16], axis=1) > 130
    ).sum()  # rows of the saturated orange landmark
    assert wall(-0.9) < wall(0) < wall(0.5) <= 24
    far = pixels.render([-0.9, 0, 0]).astype(int)
    assert (far[0, :, 2] > far[0, :, 0]).all() and (far[-1, :, 0] > far[-1, :, 2]).all()


def test_the_view_does_not_show_the_platform(maze):
    assert np.array_equal(
        *(
            gymnasium.make("adkit/Watermaze-v0", goal=goal).reset(seed=3)[0]
            for goal in ((0.3, 0.4), (-0.5, 0))
        )
    )


def test_poses_are_stored_in_a_150th_of_what_pictures_take(searches, tmp_path):
    searches.save(tmp_path / "h")
    frame = np.prod((*searches.spec.view, 3))
    assert frame * searches.obs[0, :, 0].size * len(searches) >= 150 * searches.obs.nbytes
    assert (
        same(searches, ad.Histories.load(tmp_path / "h"))
        and ad.Histories.load(tmp_path / "h").spec == searches.spec
    )
    other = searches.seen_as("nothing")
    assert same(searches, other) and other.spec.view == "nothing" and other.obs is not None


# ---- the sources ----


def test_the_search_finds_a_platform_and_then_knows_it(maze):
    tasks = maze.tasks()[:200]
    searched = ad.collect(maze, tasks, ad.sources.GoalSearch(), episodes=15).episode_returns
    at_random = ad.collect(maze, tasks, ad.sources.Random(), episodes=15).episode_returns
    early, late, control = (
        ad.stats.bootstrap(values) for values in (searched[:, :1], searched[:, 12:], at_random)
    )
    assert early.low > 0.2 and early.high < 0.45 and late.low > 0.99 and control.high < 0.2


def test_the_search_never_rules_out_the_truth(maze):
    tasks, rng = maze.tasks()[:50], ad.Rng.of(0, "x", np.arange(50))
    learner = ad.sources.GoalSearch().start(maze.spec, rng, episodes=10)
    state, obs = maze.reset(tasks, rng)
    cell = ((tasks["goal"] + 1) * 24).astype(int)
    for t in range(30):
        action = learner.act(obs, np.full(50, t == 0))
        state, step = maze.step(state, tasks, action, rng.at(t))
        learner.update(ad.Transition(obs, action, *step[1:], step.obs))
        obs = step.obs
        assert learner.possible[np.arange(50), *cell.T].all()


def test_the_search_begins_anew_when_the_platform_is_moved(maze):
    """Thirty lifetimes, 150 steps on one platform and 600 on another; at both ends most episodes take a straight way."""
    tasks, rng = maze.tasks()[:30], ad.Rng.of(0, "x", np.arange(30))
    learner, first = ad.sources.GoalSearch().start(maze.spec, rng, episodes=10), np.ones(30, bool)
    state, obs = maze.reset(tasks, rng)
    paid = []
    for t in range(750):
        here = tasks if t < 150 else tasks.replace(goal=-tasks["goal"])
        action = learner.act(obs, first)
        state, step = maze.step(state, here, action, rng.at(t))
        learner.update(ad.Transition(obs, action, *step[1:], step.obs))
        paid.append(step.reward)
        first = step.terminated | step.truncated
        fresh, _ = maze.reset(here, rng.at(t))
        pose, time, found = (
            np.where(first.reshape(-1, *[1] * (a.ndim - 1)), b, a)
            for a, b in zip(state, fresh, strict=True)
        )
        state, obs = type(state)(pose, time, found), pose
    paid = np.array(paid)
    assert (
        paid[120:150].mean() > 0.12
        and paid[150:180].mean() < 0.02
        and (paid[-60:].mean(0) > 0.08).mean() > 0.9
    )


def test_q_learning_on_binned_poses_learns_from_scratch(maze):
    agent = ad.sources.PoseQLearning(exploration=0.4)
    returns = ad.collect(maze, maze.tasks()[:24], agent, episodes=150).episode_returns
    early, late = ad.stats.bootstrap(returns[:, :5]), ad.stats.bootstrap(returns[:, -30:])
    assert early.high < 0.45 and late.low > 0.85


def test_a_backward_sweep_carries_the_reward_all_the_way():
    """Two steps to a reward from an empty table: lr 0.5, gamma 0.9 give 0.5 to the last step and 0.225 to the first."""
    agent = ad.sources.PoseQLearning(bins=(20, 1, 1))
    learner = agent.start(ad.envs.Watermaze().spec, ad.Rng.of(0), episodes=10)
    places = np.array([[0.05, 0, 0], [0.15, 0, 0], [0.25, 0, 0]], np.float32)
    no = np.zeros(1, bool)
    for t in range(2):
        learner.act(places[t : t + 1], np.array([t == 0]))
        paid = np.array([t], np.float32)
        learner.update(
            ad.Transition(places[t : t + 1], np.array([3]), paid, no, no, places[t + 1 : t + 2])
        )
    assert (
        learner.q[0, [10, 11, 12], 3].tolist() == pytest.approx([0.225, 0.5, 0])
        and np.count_nonzero(learner.q) == 2
    )


# ---- configurations ----


CHANGED = {
    ad.envs.Watermaze: dict(horizon=20, view="pose", ends="platform", n_tasks=3, seed=1),
    ad.sources.GoalSearch: dict(noise=0.3, cells=30),
    ad.sources.PoseQLearning: dict(
        bins=(5, 5, 4), lr=0.1, gamma=0.5, epsilon=0.1, final_epsilon=0.4, exploration=0.2
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, values in CHANGED.items() for field in values]
)
def test_every_config_field_changes_something(kind, field):
    assert {f.name for f in fields(kind)} == set(CHANGED[kind]), (
        "a new field needs a changed value here"
    )
    default, changed = kind(), kind(**{field: CHANGED[kind][field]})
    if kind is not ad.envs.Watermaze:
        env = ad.envs.Watermaze(n_tasks=4)
        lives = [ad.collect(env, env.tasks(), agent, episodes=20) for agent in (default, changed)]
    else:
        lives = [
            ad.collect(env, env.tasks()[:4], ad.sources.GoalSearch(), episodes=3)
            for env in (default, changed)
        ]
    assert not same(*lives) or lives[0].spec != lives[1].spec
