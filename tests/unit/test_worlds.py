"""Environments: hand-computed tables, known optima, Gymnasium's own checker, and adkit's."""

from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env

import adkit as ad
from adkit.testing import check_env

ROOMS = [
    ad.envs.DarkRoom(),
    ad.envs.DarkRoom(size=17, reward="once"),
    ad.envs.DarkRoom(size=4, horizon=7, start="random"),
    ad.envs.DarkRoom(size=3, horizon=6, reward="once", start="random", permuted=True),
    ad.envs.DarkKeyToDoor(size=4, horizon=12),
    ad.envs.DarkKeyToDoor(size=2, horizon=6, start="centre", permuted=True),
    ad.envs.AdversarialBandit(n_tasks=20),
    ad.envs.AdversarialBandit(arms=3, horizon=5, bias="even", n_tasks=7),
]


IDS = ["FrozenLake-v1", "Taxi-v4", "CartPole-v1", "CliffWalking-v1"]
OTHERS = [ad.envs.from_gymnasium(id, horizon=40) for id in IDS]


@pytest.mark.parametrize("env", ROOMS + OTHERS, ids=repr)
def test_every_world_keeps_the_contract(env):
    check_env(env)


def rewards_of(env, task, actions):
    """Return the reward of each action, and the last step."""
    rng, rewards = ad.Rng.of(0, "x", np.arange(1)), []
    state, _ = env.reset(task, rng)
    for action in actions:
        state, step = env.step(state, task, np.array([action]), rng)
        rewards.append(float(step.reward[0]))
    return rewards, step


def test_a_step_moves_rewards_and_truncates_as_drawn_by_hand():
    """3 x 3 room, goal in the corner (2, 0), from the centre: right, up, up into the wall, left."""
    env = ad.envs.DarkRoom(size=3, horizon=4)
    task, rng = env.task(goal=(2, 0)), ad.Rng.of(0, "x", np.arange(1))
    state, obs = env.reset(task, rng)
    assert obs.tolist() == [[1, 1]]
    walk = []
    for action in (2, 3, 3, 1):
        state, step = env.step(state, task, np.array([action]), rng)
        walk.append((*step.obs[0].tolist(), float(step.reward[0]), bool(step.truncated[0])))
    assert walk == [(2, 1, 0.0, False), (2, 0, 1.0, False), (2, 0, 1.0, False), (1, 0, 0.0, True)]
    assert not step.terminated.any()


def test_reward_once_rewards_once_per_episode():
    env = ad.envs.DarkRoom(size=3, horizon=6, reward="once")
    stay = ad.collect(env, env.task(goal=(1, 1)), ad.sources.Optimal(), episodes=5)
    assert (stay.returns == 1).all() and (stay.reward.reshape(5, 6).argmax(1) == 0).all()
    walk = ad.collect(env, env.task(goal=(1, 1)), ad.sources.Random(), episodes=200)
    assert set(np.unique(walk.returns)) == {0.0, 1.0}


def test_the_key_rewards_once_and_only_then_the_door():
    """3 x 3, from the centre (1, 1): the door, the key, twice, then the door, twice.

    Actions: right to the door, left, left to the key, stay, right, right to the door, stay, left.
    """
    env = ad.envs.DarkKeyToDoor(size=3, horizon=8, start="centre")
    task = env.task(key=(0, 1), door=(2, 1))
    rewards, last = rewards_of(env, task, (2, 1, 1, 0, 2, 2, 0, 1))
    assert rewards == [0, 0, 1, 0, 0, 1, 0, 0] and last.truncated.all()
    same_place = env.task(key=(1, 1), door=(1, 1))
    assert rewards_of(env, same_place, (0, 0, 0, 0))[0] == [1, 1, 0, 0]


@pytest.mark.parametrize(("bias", "share"), [("odd", 0.95), ("even", 0.05), ("uniform", 0.5)])
def test_the_best_arm_hides_where_the_bias_says(bias, share):
    means = ad.envs.AdversarialBandit(bias=bias, n_tasks=4000).tasks()["means"]
    assert abs((means.argmax(1) % 2 == 1).mean() - share) < 0.03 and abs(means.mean() - 0.5) < 0.01


def test_an_arm_rewards_as_often_as_its_chance_and_the_optimum_is_the_best_arm():
    env = ad.envs.AdversarialBandit(arms=3)
    task = env.task(means=(0.2, 0.9, 0.0))
    made = ad.collect(env, task, ad.sources.Random(), episodes=3000)
    rewarded = [made.reward[made.action == arm].mean() for arm in range(3)]
    np.testing.assert_allclose(rewarded, [0.2, 0.9, 0], atol=0.05)
    assert ad.optimal_returns(env, task) == pytest.approx([0.9])


def test_key_to_door_can_hold_out_pairs_or_cells():
    env = ad.envs.DarkKeyToDoor()
    assert len(env.tasks()) == 6561 and np.allclose(ad.optimal_returns(env, env.tasks()[::300]), 2)
    train, test = env.tasks().split(0.3, seed=0)
    assert len(train) == 1968 and not set(train.ids) & set(test.ids)
    train, test = env.tasks().split(0.8, seed=0, by=("key", "door"))
    cells = lambda tasks: {tuple(cell) for name in ("key", "door") for cell in tasks[name].tolist()}
    assert len(cells(train)) == 65 and len(cells(test)) == 16 and not cells(train) & cells(test)
    with pytest.raises(ValueError, match="both sides need one"):
        env.tasks()[:3].split(0.5, by=("key",))


def test_permuted_actions_relabel_the_moves():
    env = ad.envs.DarkRoom(size=3, horizon=4, permuted=True)
    task = env.task(goal=(0, 0), actions=(4, 3, 2, 1, 0))  # action 0 now goes down
    assert rewards_of(env, task, [0])[1].obs.tolist() == [[1, 2]]
    assert len(env.tasks()) == 9 * 120


def test_the_optimum_of_the_dark_room_is_the_papers():
    """Distance d is rewarded 20 - d + 1 times, the centre 20 times: 16.54 on average."""
    env = ad.envs.DarkRoom()
    distance = np.abs(env.tasks()["goal"] - 4).sum(1)
    np.testing.assert_allclose(ad.optimal_returns(env, env.tasks()), np.minimum(21 - distance, 20))
    assert ad.optimal_returns(env, env.tasks()).mean() == pytest.approx(16.54, abs=0.01)


def test_the_optimum_of_the_slippery_lake_is_known():
    """Value iteration by Gymnasium's users gives 0.74 within 100 steps on the 4 x 4 map."""
    tasks = [{"is_slippery": True}, {"is_slippery": False}]
    env = ad.envs.from_gymnasium("FrozenLake-v1", tasks=tasks)
    np.testing.assert_allclose(ad.optimal_returns(env, env.tasks()), [0.744, 1.0], atol=1e-3)


def test_a_random_policy_gets_what_the_paper_computes():
    env = ad.envs.DarkRoom()
    returns = ad.collect(env, env.tasks(), ad.sources.Random(), episodes=200, lifetimes=4).returns
    assert returns.mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("start", ["centre", "random"])
def test_registered_rooms_pass_gymnasiums_checker(start):
    env = gymnasium.make("adkit/DarkRoom-v0", goal=(3, 4), size=6, start=start)
    gymnasium_check_env(env.unwrapped, skip_render_check=True)
    vector = gymnasium.make_vec("adkit/DarkRoom-v0", num_envs=3, goal=(3, 4), horizon=5)
    obs, _ = vector.reset(seed=0)
    assert obs.tolist() == [[4, 4]] * 3
    ends = [vector.step(np.array([0, 1, 2]))[3].tolist() for _ in range(5)]
    assert ends == [[False] * 3] * 4 + [[True] * 3]


def test_the_registered_room_is_the_same_room():
    env = gymnasium.make("adkit/DarkRoom-v0", goal=(5, 4))
    env.reset(seed=0)
    assert [env.step(2)[1] for _ in range(3)] == [1.0, 0.0, 0.0]


def test_a_world_of_tables_that_cannot_be_hashed_says_how_to_write_it():
    @dataclass(frozen=True)
    class Painted(ad.envs.DarkRoom):
        colours: np.ndarray = None

    env, says = (
        Painted(4, 6, colours=np.zeros(16)),
        "Painted are cached by its hash, .* make it a f",
    )
    with pytest.raises(ValueError, match=says):
        ad.collect(env, env.tasks(), ad.sources.QLearning(), episodes=2)


def test_gymnasium_tables_and_stepping_agree():
    """The lake from its own table and the lake stepped by Gymnasium agree, action by action."""
    env = ad.envs.from_gymnasium("FrozenLake-v1", is_slippery=False)
    real = gymnasium.make("FrozenLake-v1", is_slippery=False)
    made = ad.collect(env, env.tasks(), ad.sources.Random(), episodes=30)
    for e in range(30):
        obs, _ = real.reset()
        for t in range(made.length[0, e]):
            assert obs == made.arrays["obs"][0, e, t, 0]
            obs, reward, terminated, truncated, _ = real.step(int(made.arrays["action"][0, e, t]))
            assert reward == made.arrays["reward"][0, e, t]
            ends = made.arrays["terminated"][0, e, t], made.arrays["truncated"][0, e, t]
            assert (terminated, truncated) == ends


def test_an_old_state_of_a_stepped_environment_is_refused():
    env = ad.envs.from_gymnasium("CartPole-v1")
    tasks, rng = env.tasks()[[0, 0]], ad.Rng.of(0, "x", np.arange(2))
    state, _ = env.reset(tasks, rng)
    env.step(state, tasks, np.array([0, 1]), rng)
    with pytest.raises(ValueError, match="only the newest state"):
        env.step(state, tasks, np.array([0, 1]), rng)


def test_tasks_split_slice_and_index_like_an_array():
    tasks = ad.envs.DarkRoom().tasks()
    train, test = tasks.split(0.8, seed=0)
    assert len(train) == 65 and len(test) == 16
    assert sorted([*train.ids, *test.ids]) == list(range(81))
    assert [len(tasks[3]), len(tasks[2:5]), len(tasks[tasks["goal"][:, 0] == 0])] == [1, 3, 9]
    again, _ = tasks.split(0.8, seed=0)
    assert (again.ids == train.ids).all() and (tasks.split(0.8, seed=1)[0].ids != train.ids).any()
    back = ad.Tasks.of(train.frame)
    np.testing.assert_array_equal(back["goal"], train["goal"])
    np.testing.assert_array_equal(back.ids, train.ids)
