"""The contract as code: check your own environment, agent or histories, `check_env(env)`.

Each check returns None or raises AssertionError with a sentence that says what is wrong.
"""

from __future__ import annotations

import copy

import numpy as np

from adkit.histories import PER_STEP, Histories
from adkit.protocols import Agent, Env, Tasks
from adkit.rollout import collect
from adkit.seeds import Rng
from adkit.tables import Tabular

WALKS = 256  # random walks, on which tables are compared with steps
COMPILED = "compiled agents use the tables: inherit reset and step from adkit.tables.Tabular"
ALONE = "a lifetime changed with those beside it; use only its own rows and rng"


def check_env(env: Env, lifetimes: int = 8, steps: int = 60, seed: int = 0) -> None:
    """Check shapes, dtypes, purity of `step`, independence of rows, ends of episodes, tables."""
    spec, tasks = env.spec, env.tasks()
    _require(isinstance(tasks, Tasks) and len(tasks), "tasks() must return at least one task")
    mine = tasks[np.arange(lifetimes) % len(tasks)]
    rng = Rng.of(seed, "check", np.arange(lifetimes))
    state, obs = env.reset(mine, rng.at(0))
    _check_obs(env, obs, lifetimes)
    again = env.reset(mine, rng.at(0))[1]
    _require(_same(obs, again), "reset with the same rng differed; draw from rng alone")
    last, (alone, _) = mine[-1:], env.reset(mine[-1:], rng.at(0)[-1:])
    going, time = np.ones(lifetimes, bool), 0
    while going.all() and time < min(steps, spec.horizon):
        action, draws = rng.at(time).integers(spec.n_actions, 15), rng.at(time)
        if hasattr(env, "allowed_actions"):
            action = draws.kept(action, env.allowed_actions(state), 14)
        pure = not getattr(env, "steps_in_place", False)
        before = copy.deepcopy(state) if pure else None
        next_state, step = env.step(state, mine, action, draws)
        _check_step(env, step, lifetimes)
        if pure:
            twice = env.step(state, mine, action, draws)[1]
            _require(_same(step, twice), "step from one state differed; draw from rng alone")
            _require(_same(before, state), "step changed the state it was given; return a new one")
        alone, single = env.step(alone, last, action[-1:], draws[-1:])
        _require(_same(tuple(a[-1:] for a in step), single), ALONE)
        going, state, time = ~(step.terminated | step.truncated), next_state, time + 1
    late = f"episodes go on past the horizon of {spec.horizon}; truncate them"
    _require(time < spec.horizon or not going.any(), late)
    if hasattr(env, "next_episode") and not getattr(env, "steps_in_place", False):
        _check_next_episode(env, state, mine, rng.at(time))
    if hasattr(env, "tables"):
        _check_tables(env, tasks[np.linspace(0, len(tasks) - 1, 16).astype(int)], steps, seed)


def check_agent(
    agent: Agent, env: Env, episodes: int = 3, lifetimes: int = 3, seed: int = 0
) -> None:
    """Check actions, and that a lifetime is the same in any batch and by either driver."""
    tasks, driver = env.tasks()[:4], "batched" if hasattr(agent, "start") else "auto"
    how = {"episodes": episodes, "lifetimes": lifetimes, "seed": seed}
    together = collect(env, tasks, agent, driver=driver, **how)
    check_histories(together)
    alone = collect(env, tasks[-1:], agent, driver=driver, **how)
    _require(_equal(together[-lifetimes:], alone), ALONE)
    if hasattr(agent, "simulate") and driver == "batched":
        compiled = collect(env, tasks, agent, **how)
        _require(_equal(together, compiled), "the compiled and the batched driver disagree")


def check_histories(histories: Histories) -> None:
    """Check shapes, dtypes, ranges, one end per episode, and emptiness beyond it."""
    try:
        histories.check()
    except ValueError as error:
        raise AssertionError(str(error)) from error
    beyond = np.arange(histories.spec.horizon) >= histories.length[..., None]
    for name in PER_STEP:
        values = histories.arrays[name]
        _require(not values[beyond].any(), f"{name} is not empty beyond the end of an episode")
    ends = histories.arrays["terminated"].sum(2) + histories.arrays["truncated"].sum(2)
    _require((ends == 1).all(), "an episode must end exactly once, terminated or truncated")


def _require(met: bool, sentence: str) -> None:
    if not met:
        raise AssertionError(sentence)


def _check_obs(env: Env, obs: np.ndarray, n: int) -> None:
    spec, found = env.spec, (obs.shape, obs.dtype)
    wanted = (n, *spec.obs_shape), spec.obs_dtype
    _require(found == wanted, f"observations are {found}; the spec says {wanted}")
    if spec.cardinality:
        inside = (obs >= 0).all() and (obs < np.array(spec.cardinality)).all()
        _require(inside, f"observations leave {spec.cardinality}")


def _check_step(env: Env, step, n: int) -> None:
    _check_obs(env, step.obs, n)
    finite = step.reward.shape == (n,) and np.isfinite(step.reward).all()
    _require(finite, "rewards must be (N,) and finite")
    for name in ("terminated", "truncated"):
        flag = getattr(step, name)
        _require(flag.shape == (n,) and flag.dtype == bool, f"{name} must be (N,) bool")
    both = (step.terminated & step.truncated).any()
    _require(not both, "a step cannot be both terminated and truncated")


def _check_next_episode(env: Env, state, tasks: Tasks, rng: Rng) -> None:
    before = copy.deepcopy(state)
    after, obs = env.next_episode(state, tasks, rng)
    _check_obs(env, obs, len(tasks))
    _require(_same(before, state), "next_episode changed the state it was given; return a new one")
    last = type(state)(*(values[-1:] for values in state))
    single = env.next_episode(last, tasks[-1:], rng[-1:])
    _require(_same(tuple(a[-1:] for a in (*after, obs)), (*single[0], single[1])), ALONE)


def _check_tables(env: Env, tasks: Tasks, steps: int, seed: int) -> None:
    """Compare `reset` and `step` with the tables on random walks."""
    mine, rng = tasks[np.arange(WALKS) % len(tasks)], Rng.of(seed, "check tables", np.arange(WALKS))
    state, obs = env.reset(mine, rng.at(0))
    entry, told = Tabular.reset(env, mine, rng.at(0))
    _require(_same(obs, told), f"reset and tables disagree on where an episode starts; {COMPILED}")
    for time in range(min(steps, env.spec.horizon)):
        action = rng.at(time).integers(env.spec.n_actions, 15)
        state, step = env.step(state, mine, action, rng.at(time))
        entry, told = Tabular.step(env, entry, mine, action, rng.at(time))
        for name, answer, entered in zip(step._fields, step, told, strict=True):
            _require(_same(answer, entered), f"step and tables disagree on {name}; {COMPILED}")
        going = ~(step.terminated | step.truncated)
        if not going.any():
            break
        state, entry = (type(s)(*(values[going] for values in s)) for s in (state, entry))
        mine, rng = mine[going], rng[going]


def _same(a, b) -> bool:
    if isinstance(a, tuple):
        return all(_same(x, y) for x, y in zip(a, b, strict=True))
    return np.array_equal(a, b) and a.dtype == b.dtype


def _equal(a: Histories, b: Histories) -> bool:
    same_names = a.arrays.keys() == b.arrays.keys()
    return same_names and all(_same(a.arrays[name], b.arrays[name]) for name in a.arrays)
