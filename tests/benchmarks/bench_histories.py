"""Learning histories per second: compiled Q-learning against the same learner in plain Python and
in NumPy.
"""

from __future__ import annotations

from random import Random

import numpy as np
from measure import bound, compare, fresh, rate

import adkit as ad

ENV = ad.envs.DarkRoom()
SIZE, HORIZON, CELLS = ENV.size, ENV.spec.horizon, ENV.size**2
SOURCE = ad.sources.QLearning()
LR, GAMMA = SOURCE.lr, SOURCE.gamma
EPISODES, EVERY = 500, 25
MOVED = {
    "bytes": EPISODES * HORIZON * 2 * 5 * 8
}  # of the value table: two rows of five actions, each step
TASKS = ENV.tasks()[:64]
GOALS = (TASKS["goal"] @ (SIZE, 1)).tolist()  # as cell numbers
CENTRE = SIZE // 2 * SIZE + SIZE // 2
ACTIONS = ENV.spec.n_actions
NEXT = ENV.tables(TASKS[:1]).next_state[
    0, :, :, 0
]  # (cells, actions): the walls are the same in every task


def epsilon_in(episode: int) -> float:
    return SOURCE.epsilon * max(0.0, 1.0 - episode / (SOURCE.exploration * EPISODES))


# ---- the same learner, again and again; each returns the mean return of every episode (E,) ----


def compiled(lifetimes: int = 128, seed: int = 0) -> np.ndarray:
    """adkit: 64 tasks x 128 lifetimes = 8192 learners; one episode in 25 is kept, all 82 M steps
    are learned from.
    """
    histories = ad.collect(
        ENV,
        TASKS,
        SOURCE,
        episodes=EPISODES,
        lifetimes=lifetimes,
        every=EVERY,
        seed=seed,
        driver="compiled",
    )
    return histories.episode_returns.mean(0)


def plain_python(goals: list[int] = GOALS, seed: int = 0) -> np.ndarray:
    """One learner after the other, in lists: sources/q_learning.py and the room, line by line,
    without Numba.
    """
    draw, returns = Random(seed).random, np.zeros(EPISODES)

    def act(q: list[list[float]], s: int, epsilon: float) -> int:
        if epsilon > 0 and draw() < epsilon:
            return int(draw() * ACTIONS)
        values = q[s]
        best, ties = values[0], 1
        for a in range(1, ACTIONS):
            if values[a] > best:
                best, ties = values[a], 1
            elif values[a] == best:
                ties += 1
        chosen = int(draw() * ties) if ties > 1 else 0
        for a in range(ACTIONS):
            if values[a] == best:
                if chosen == 0:
                    return a
                chosen -= 1

    def learn(
        q: list[list[float]], s_tm1: int, a_tm1: int, r_t: float, terminated_t: bool, s_t: int
    ) -> None:
        target = r_t
        if not terminated_t:
            target += GAMMA * max(q[s_t])
        q[s_tm1][a_tm1] += LR * (target - q[s_tm1][a_tm1])

    def step(s: int, a: int, goal: int, time: int) -> tuple[int, float, bool, bool]:
        x, y = divmod(s, SIZE)
        dx, dy = moves[a]
        reached = min(max(x + dx, 0), SIZE - 1) * SIZE + min(max(y + dy, 0), SIZE - 1)
        return reached, float(reached == goal), False, time == HORIZON - 1

    moves = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
    for goal in goals:
        q = [[SOURCE.initial_q] * ACTIONS for _ in range(CELLS)]
        for episode in range(EPISODES):
            epsilon, s, time, truncated = epsilon_in(episode), CENTRE, 0, False
            while not truncated:
                a = act(q, s, epsilon)
                s_next, reward, terminated, truncated = step(s, a, goal, time)
                learn(q, s, a, reward, terminated, s_next)
                returns[episode] += reward
                s, time = s_next, time + 1
    return returns / len(goals)


def python_tuned(goals: list[int] = GOALS, seed: int = 0) -> np.ndarray:
    """The same in one loop without a call: built-ins over five values, neighbours from a table, no
    generality left.
    """
    draw, returns = Random(seed).random, np.zeros(EPISODES)
    neighbours = NEXT.tolist()
    for goal in goals:
        q = [[SOURCE.initial_q] * ACTIONS for _ in range(CELLS)]
        for episode in range(EPISODES):
            epsilon, cell, total = epsilon_in(episode), CENTRE, 0
            for _ in range(HORIZON):
                values = q[cell]
                if epsilon > 0 and draw() < epsilon:
                    action = int(draw() * ACTIONS)
                else:
                    best = max(values)
                    if values.count(best) == 1:
                        action = values.index(best)
                    else:
                        ties = [a for a in range(ACTIONS) if values[a] == best]
                        action = ties[int(draw() * len(ties))]
                cell = neighbours[cell][action]
                reward = cell == goal
                total += reward
                values[action] += LR * (reward + GAMMA * max(q[cell]) - values[action])
            returns[episode] += total
    return returns / len(goals)


def numpy_textbook(goals: np.ndarray, seed: int = 0) -> np.ndarray:
    """All learners take one step at a time, every line a NumPy expression: the usual way."""
    rng, n, returns = np.random.default_rng(seed), len(goals), np.zeros(EPISODES)
    q, row, lr, gamma = (
        np.full((n, CELLS, ACTIONS), SOURCE.initial_q, np.float32),
        np.arange(n),
        np.float32(LR),
        np.float32(GAMMA),
    )
    for episode in range(EPISODES):
        epsilon, cell, total = epsilon_in(episode), np.full(n, CENTRE), np.zeros(n, np.float32)
        for _ in range(HORIZON):
            values = q[row, cell]  # (n, actions)
            best = values == values.max(1, keepdims=True)
            action = np.where(best, rng.random(values.shape, np.float32), -1).argmax(1)
            if epsilon > 0:
                action = np.where(
                    rng.random(n, np.float32) < epsilon, rng.integers(ACTIONS, size=n), action
                )
            reached = NEXT[cell, action]
            reward = (reached == goals).astype(np.float32)
            old = values[row, action]
            q[row, cell, action] = old + lr * (reward + gamma * q[row, reached].max(1) - old)
            total += reward
            cell = reached
        returns[episode] = total.mean()
    return returns


def numpy_tuned(goals: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same with every trick found: flat takes, maxima over the leading axis, ties drawn by a
    table of bit patterns.

    One number u in [0, 1) draws among any set of ties: row `pattern` of `pick` holds the tied
    actions in equal shares.
    """
    rng, n, returns = np.random.default_rng(seed), len(goals), np.zeros(EPISODES)
    shares = int(np.lcm.reduce(np.arange(1, ACTIONS + 1)))
    tied = [[a for a in range(ACTIONS) if pattern >> a & 1] for pattern in range(2**ACTIONS)]
    pick = np.concatenate([np.repeat(who or [0], shares // len(who or [0])) for who in tied])
    q = np.full((n * CELLS, ACTIONS), SOURCE.initial_q, np.float32)
    flat, begin, neighbours = q.reshape(-1), np.arange(n) * CELLS, NEXT.ravel().astype(np.intp)
    lr, gamma = np.float32(LR), np.float32(GAMMA)
    for episode in range(EPISODES):
        epsilon, cell, total = epsilon_in(episode), np.full(n, CENTRE), np.zeros(n, np.float32)
        explore = rng.random((HORIZON, n), np.float32) < epsilon if epsilon > 0 else None
        share = (rng.random((HORIZON, n), np.float32) * shares).astype(np.intp)
        row = begin + cell
        for t in range(HORIZON):
            values = q.take(
                row, axis=0
            ).T.copy()  # (actions, n): the maximum of five long rows, not of n short ones
            best = values.max(0)
            if explore is not None:
                best[explore[t]] = -np.inf  # who explores has all actions tied
            pattern = np.packbits(values >= best, axis=0, bitorder="little")[0]
            action = pick.take(pattern * np.intp(shares) + share[t])
            cell = neighbours.take(cell * ACTIONS + action)
            reward = (cell == goals).astype(np.float32)
            at, row = row * ACTIONS + action, begin + cell
            target = reward + gamma * q.take(row, axis=0).T.copy().max(0)
            old = flat.take(at)
            flat[at] = old + lr * (target - old)
            total += reward
        returns[episode] = total.mean()
    return returns


def of(learner, *arguments, lifetimes: int) -> float:
    """Learner-in-the-loop steps per second."""

    def live() -> int:
        learner(*arguments)
        return lifetimes * EPISODES * HORIZON

    return rate(live)


MANY = np.tile(GOALS, 16)  # 1024 lifetimes
OURS = lambda: of(compiled, lifetimes=8192)


def test_all_learn_the_same():
    def summary(curve: np.ndarray) -> np.ndarray:
        """Mean return in the middle of learning and after exploration has ended, of all episodes
        there are.
        """
        step = EPISODES // len(curve)
        return np.array(
            [curve[a // step : b // step].mean() for a, b in ((100, 175), (175, 250), (400, 500))]
        )

    reference = summary(compiled())
    others = {
        "plain Python": plain_python(GOALS * 2)[::EVERY],
        "Python, tuned": python_tuned(GOALS * 4)[::EVERY],
        "NumPy": numpy_textbook(MANY)[::EVERY],
        "NumPy, tuned": numpy_tuned(MANY)[::EVERY],
    }
    for name, curve in others.items():
        np.testing.assert_allclose(
            summary(curve),
            reference,
            atol=0.35,
            err_msg=f"{name} does not learn what adkit learns.",
        )


def test_against_plain_python():
    compare(
        "histories, plain Python",
        OURS,
        lambda: of(plain_python, GOALS[::4], lifetimes=16),
        asked=150,
        **MOVED,
    )


def test_against_numpy():
    compare(
        "histories, NumPy lock-step",
        OURS,
        lambda: of(numpy_textbook, MANY, lifetimes=1024),
        asked=10,
        repetitions=3,
    )


def test_against_tuned_baselines():
    """No bound was asked against tricks like these; shown so that the figures above are not
    mistaken for the baselines' limits.
    """
    compare(
        "histories, Python tuned by hand",
        OURS,
        lambda: of(python_tuned, GOALS[::4], lifetimes=16),
        asked=None,
    )
    compare(
        "histories, NumPy tuned by hand",
        OURS,
        lambda: of(numpy_tuned, MANY, lifetimes=1024),
        asked=None,
        repetitions=3,
    )


def test_first_call(tmp_path):
    code = """
import adkit as ad
env = ad.envs.DarkRoom()
histories = ad.collect(env, env.tasks()[:8], ad.sources.QLearning(), episodes=20, lifetimes=2)
assert histories.reward.sum() > 0
"""
    caches = [{"NUMBA_CACHE_DIR": str(tmp_path / str(i))} for i in range(3)]
    bound(
        "first histories in a fresh process, nothing cached",
        [fresh(code, environment=cache)[0] for cache in caches],
        "s",
        5,
    )
    bound(
        "first histories in a fresh process, cached",
        [fresh(code, environment=caches[0])[0] for _ in range(5)],
        "s",
        1.5,
    )
