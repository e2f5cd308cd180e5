"""The contract as code: hold your own environment, agent or histories to it, `check_env(env)`.

Each check returns None or raises AssertionError with a sentence that says what broke.
"""

from __future__ import annotations

import copy

import numpy as np

from adkit import tables
from adkit.envs.gymnasium import SteppedGymnasium
from adkit.histories import Histories
from adkit.protocols import Agent, Env, Simulates, Tasks
from adkit.rollout import collect
from adkit.seeds import Rng

WALKS = 256  # random ones, on which tables are compared with steps
AS_COMPILED = "agents live compiled lifetimes over the tables: let adkit.tables.reset and step do both, or draw as they do."


def check_env(env: Env, lifetimes: int = 8, steps: int = 60, seed: int = 0) -> None:
    """Shapes and dtypes, purity of `step`, independence of rows, ends of episodes, finite rewards, and tables that agree."""
    _has(env, "Env", "spec", "tasks", "reset", "step")
    assert lifetimes >= 1 and steps >= 1, (
        f"lifetimes={lifetimes}, steps={steps}; give at least 1 of each."
    )
    spec, tasks = env.spec, env.tasks()
    assert isinstance(tasks, Tasks) and len(tasks) >= 1, (
        "tasks() must return at least one task, as adkit.Tasks."
    )
    rows = np.arange(lifetimes) % len(tasks)
    mine, rng = tasks[rows], Rng.of(seed, "check", np.arange(lifetimes))
    state, obs = env.reset(mine, rng.at(0))
    _check_obs(env, obs, lifetimes)
    _, again = env.reset(mine, rng.at(0))
    assert np.array_equal(obs, again), (
        "reset with the same rng gave other observations; draw all randomness from rng."
    )

    last = mine[-1:]
    alone, _ = env.reset(last, rng.at(0)[-1:])
    live, time = np.ones(lifetimes, bool), 0
    while live.all() and time < min(steps, spec.horizon):
        action = rng.at(time).integers(spec.n_actions, 15)
        pure = not isinstance(env, SteppedGymnasium)
        before = copy.deepcopy(state) if pure else None
        next_state, step = env.step(state, mine, action, rng.at(time))
        if pure:
            _, twice = env.step(state, mine, action, rng.at(time))
            assert _same(step, twice), (
                "step from the same state differed the second time; draw all randomness from rng."
            )
            assert _same(before, state), (
                "step changed the state it was given; it must return a new one."
            )
        alone, single = env.step(alone, last, action[-1:], rng.at(time)[-1:])
        assert _same(tuple(a[-1:] for a in step), single), (
            "a row depended on the other rows of its batch."
        )
        _check_obs(env, step.obs, lifetimes)
        assert step.reward.shape == (lifetimes,) and np.isfinite(step.reward).all(), (
            "rewards must be (N,) and finite."
        )
        for name in ("terminated", "truncated"):
            assert (
                getattr(step, name).shape == (lifetimes,) and getattr(step, name).dtype == bool
            ), f"{name} must be (N,) bool."
        assert not (step.terminated & step.truncated).any(), (
            "a step cannot be both terminated and truncated."
        )
        live, state, time = ~(step.terminated | step.truncated), next_state, time + 1
    assert time < spec.horizon or not live.any(), (
        f"episodes go on past the horizon of {spec.horizon}; truncate them."
    )
    if hasattr(env, "next_episode"):
        before = copy.deepcopy(state)
        after, obs = env.next_episode(state, mine, rng.at(time))
        _check_obs(env, obs, lifetimes)
        assert _same(before, state), (
            "next_episode changed the state it was given; it must return a new one."
        )
        single = env.next_episode(type(state)(*(a[-1:] for a in state)), last, rng.at(time)[-1:])
        assert _same(tuple(a[-1:] for a in (*after, obs)), (*single[0], single[1])), (
            "a row depended on the others of its batch."
        )
    if hasattr(env, "tables"):
        _check_tables(env, tasks[np.linspace(0, len(tasks) - 1, 16).astype(int)], steps, seed)


def check_agent(
    agent: Agent, env: Env, episodes: int = 3, lifetimes: int = 3, seed: int = 0
) -> None:
    """Actions in range, and the same life in any batch and by either driver."""
    _has(env, "Env", "spec", "tasks", "reset", "step")
    _has(agent, "Agent", "simulate" if hasattr(agent, "simulate") else "start")
    tasks, driver = env.tasks()[:4], "batched" if hasattr(agent, "start") else "auto"
    together = collect(
        env, tasks, agent, episodes=episodes, lifetimes=lifetimes, seed=seed, driver=driver
    )
    check_histories(together)
    alone = collect(
        env, tasks[-1:], agent, episodes=episodes, lifetimes=lifetimes, seed=seed, driver=driver
    )
    assert _equal(together[-lifetimes:], alone), (
        "a lifetime changed with the lifetimes beside it; use only its own rows and rng."
    )
    if isinstance(agent, Simulates) and driver == "batched":
        compiled = collect(env, tasks, agent, episodes=episodes, lifetimes=lifetimes, seed=seed)
        assert _equal(together, compiled), "the compiled and the batched driver disagree."


def check_histories(histories: Histories) -> None:
    """Shapes, dtypes, ranges, every episode ended once, and empty beyond its end."""
    assert isinstance(histories, Histories), (
        f"{type(histories).__name__} given; give histories, such as collect makes."
    )
    try:
        histories.check()
    except ValueError as error:
        raise AssertionError(str(error)) from error
    beyond = np.arange(histories.spec.horizon) >= histories.length[..., None]
    for name in ("obs", "action", "reward", "terminated", "truncated"):
        assert not histories.arrays[name][beyond].any(), (
            f"{name} is not empty beyond the end of an episode."
        )
    ends = histories.arrays["terminated"].sum(2) + histories.arrays["truncated"].sum(2)
    assert (ends == 1).all(), "an episode must end exactly once, terminated or truncated."


def _has(given: object, protocol: str, *names: str) -> None:
    missing = ", ".join(name for name in names if not hasattr(given, name))
    assert not missing, (
        f"{type(given).__name__} has no {missing}, so it is no {protocol}; see adkit.protocols."
    )
    assert not isinstance(given, type), (
        f"{given} is a class; give one of its kind, {given.__name__}()."
    )


def _check_obs(env: Env, obs: np.ndarray, n: int) -> None:
    spec = env.spec
    assert obs.shape == (n, *spec.obs_shape), (
        f"observations have shape {obs.shape}; the spec says {(n, *spec.obs_shape)}."
    )
    assert obs.dtype == spec.obs_dtype, (
        f"observations have dtype {obs.dtype}; the spec says {spec.obs_dtype}."
    )
    if spec.cardinality:
        assert (obs >= 0).all() and (obs < np.array(spec.cardinality)).all(), (
            f"observations leave {spec.cardinality}."
        )


def _check_tables(env: Env, tasks: Tasks, steps: int, seed: int) -> None:
    table = env.tables(tasks)
    states = table.seen.shape[1]
    assert ((table.next_state >= 0) & (table.next_state < states)).all(), (
        "tables lead outside the states they have."
    )
    assert np.allclose(table.cumulative[..., -1], 1), "outcome probabilities do not sum to 1."
    assert np.allclose(table.start[:, -1], 1), "start probabilities do not sum to 1."
    mine, rng = tasks[np.arange(WALKS) % len(tasks)], Rng.of(seed, "check tables", np.arange(WALKS))
    (state, obs), (entry, told) = env.reset(mine, rng.at(0)), tables.reset(env, mine, rng.at(0))
    assert np.array_equal(obs, told), (
        f"reset and tables disagree on where an episode starts; {AS_COMPILED}"
    )
    for time in range(min(steps, env.spec.horizon)):
        action = rng.at(time).integers(env.spec.n_actions, 15)
        state, step = env.step(state, mine, action, rng.at(time))
        entry, told = tables.step(env, entry, mine, action, rng.at(time))
        for name, answer, entered in zip(step._fields, step, told, strict=True):
            assert np.array_equal(answer, entered), (
                f"step and tables disagree on {name}; {AS_COMPILED}"
            )
        going = ~(step.terminated | step.truncated)
        if not going.any():
            break
        if not going.all():
            state, entry = (type(s)(*(values[going] for values in s)) for s in (state, entry))
            mine, rng = mine[going], rng[going]


def _same(a, b) -> bool:
    if isinstance(a, tuple):
        return all(_same(x, y) for x, y in zip(a, b, strict=True))
    return np.array_equal(a, b)


def _equal(a: Histories, b: Histories) -> bool:
    kinds = lambda h: {name: values.dtype for name, values in h.arrays.items()}
    return kinds(a) == kinds(b) and all(
        np.array_equal(a.arrays[name], b.arrays[name]) for name in a.arrays
    )
