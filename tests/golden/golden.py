"""What the package computed before it was rebuilt (commit 9aad8eb), as hashes and numbers.

`python tests/golden/golden.py` records golden.json anew, which only a commit that says why may do.
Integers and flags are hashed exactly. Floats that pass through
BLAS or torch differ between processors in their last digits and are kept as numbers.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import adkit as ad

HERE = Path(__file__).parent
STORED = HERE / "golden.json"


def digest(*arrays) -> str:
    """Hash arrays with their shapes and dtypes."""
    hashed = hashlib.sha256()
    for values in arrays:
        values = np.ascontiguousarray(values)
        hashed.update(f"{values.dtype.str}{values.shape}".encode())
        hashed.update(values.tobytes())
    return hashed.hexdigest()[:16]


def of_histories(histories) -> str:
    arrays = histories.arrays
    return digest(histories.task, histories.episode, *(arrays[name] for name in sorted(arrays)))


# ---- worlds ----


def worlds() -> dict:
    envs = ad.envs
    return {
        "room": envs.DarkRoom(size=5, horizon=8),
        "room 9": envs.DarkRoom(),
        "room once": envs.DarkRoom(size=7, horizon=12, reward="once"),
        "room random start": envs.DarkRoom(size=5, horizon=8, start="random"),
        "room permuted": envs.DarkRoom(size=4, horizon=6, permuted=True),
        "keys": envs.DarkKeyToDoor(size=4, horizon=12),
        "keys centre": envs.DarkKeyToDoor(size=4, horizon=12, start="centre"),
        "bandit": envs.AdversarialBandit(n_tasks=50),
        "bandit even": envs.AdversarialBandit(bias="even", arms=5, n_tasks=50),
        "maze": envs.Watermaze(horizon=20, view="pose", n_tasks=20),
        "maze platform": envs.Watermaze(horizon=20, view=(8, 12), ends="platform", n_tasks=20),
        "cookies": envs.CookieWorld(),
        "cookies tolerance": envs.CookieWorld(tolerance_visible=True),
    }


def some_tasks(env, n: int = 6):
    tasks = env.tasks()
    return tasks[np.linspace(0, len(tasks) - 1, min(n, len(tasks))).astype(int)]


def envs() -> dict:
    found = {}
    for name, env in worlds().items():
        tasks = env.tasks()
        columns = tasks.columns
        found[f"{name}: tasks"] = digest(*(columns[key] for key in sorted(columns)), tasks.ids)
        some = some_tasks(env)
        if hasattr(env, "tables"):
            found[f"{name}: tables"] = digest(*env.tables(some))
        if not name.startswith(("maze", "cookies")):
            found[f"{name}: optimum"] = np.round(ad.optimal_returns(env, some), 6).tolist()
    room, keys = worlds()["room 9"], worlds()["keys"]
    found["split"] = [part.ids.tolist() for part in room.tasks().split(0.8, seed=0)]
    found["split by"] = digest(*(part.ids for part in keys.tasks().split(0.8, 1, by=("key",))))
    rng = ad.Rng.of(3, "golden", np.arange(5))
    draws = [rng.at(step).uniform(draw) for step in (0, 7) for draw in (0, 3)]
    found["seeds"] = digest(*draws, rng.at(2).integers(7), rng.keys)
    return found


# ---- sources ----


def histories_of_sources() -> dict:
    """Every source on every world that it runs on: 6 tasks x 2 lifetimes x 12 episodes."""
    s, w = ad.sources, worlds()
    half = s.QLearning(epsilon=0.5, exploration=0.5)
    cases = {
        "q_learning": (half, ["room", "room once", "keys", "room permuted"]),
        "q_learning phases": (replace(half, phases=2, epsilon=0.3), ["keys"]),
        "posterior": (s.PosteriorSampling(), ["room", "room once", "room random start", "keys"]),
        "greedy posterior": (s.PosteriorSampling(greed=10.0, forgetting=0.5, rest=True), ["keys"]),
        "explorer": (s.SystematicExplorer(), ["room", "keys centre"]),
        "optimal": (s.Optimal(), ["room", "keys", "bandit"]),
        "random": (s.Random(), ["room", "keys", "bandit even", "maze", "maze platform", "cookies"]),
        "ucb": (s.UCB(), ["bandit", "bandit even"]),
        "thompson": (s.ThompsonSampling(), ["bandit"]),
    }
    found = {}
    for name, (source, places) in cases.items():
        for place in places:
            env = w[place]
            how = {"episodes": 12, "lifetimes": 2, "seed": 4}
            whole = ad.collect(env, some_tasks(env), source, **how)
            found[f"{name} in {place}"] = of_histories(whole)
            thin = ad.collect(env, some_tasks(env), source, every=5, driver="batched", **how)
            found[f"{name} in {place}, batched, every 5th"] = of_histories(thin)
    cookies = w["cookies"]
    for labelled in (True, False):
        source = s.Shards(
            {"P": 0.3, "S": 0.3, "R": 0.2, "N": 0.1, "L": 0.1},
            dict.fromkeys(["D0", "D1", "D2", "D3", "D4", "D5", "D6"], 1 / 7),
            labelled=labelled,
        )
        made = ad.collect(cookies, some_tasks(cookies, 40), source, episodes=15, seed=2)
        exact = {name: made.arrays[name] for name in ("obs", "action", "reward", "final_obs")}
        found[f"shards in cookies, labelled {labelled}"] = digest(*exact.values())
        for label in sorted(made.labels):
            values = made.arrays[label].astype(float)
            kept = [values.shape[-1], float(np.nanmean(values)), float(np.nanstd(values))]
            found[f"shards in cookies, label {label}"] = ["numbers", *kept]
    return found


# ---- models ----


def tiny(env, **settings):
    how = {"context": 4 * env.spec.horizon, "layers": 2, "heads": 2, "width": 16, "seed": 0}
    return ad.CausalTransformer(env.spec, **how | settings)


def losses(model, histories, steps: int = 12, **how):
    """Train for a few steps in float32, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    log = ad.distill(model, histories, steps=steps, batch=8, precision="float32", **how)
    torch.set_num_threads(threads)
    return ["numbers", *map(float, log["loss"])]


def training() -> dict:
    w, found = worlds(), {}
    for place in ("keys", "bandit", "maze", "maze platform", "room"):
        env = w[place]
        made = ad.collect(env, some_tasks(env), ad.sources.Random(), episodes=8, lifetimes=2)
        found[place] = losses(tiny(env), made)
        if place == "keys":
            found["keys, smoothed"] = losses(tiny(env), made, label_smoothing=0.1)
            found["keys, opening"] = losses(tiny(env), made, first_action_weight=4.0)
    label = made.episode_returns.astype(np.float32)
    labelled = replace(made, arrays=made.arrays | {"return": label})
    found["predicting"] = losses(tiny(env, predictions=1), labelled, predict="return")
    recurrent = ad.RecurrentPolicy(env.spec, width=8)
    log = ad.distill_recurrent(recurrent, made, steps=6, batch=4, episodes=3)
    found["recurrent"] = ["numbers", *map(float, log["loss"])]
    return found


def rollouts() -> dict:
    """The shipped model's actions in the shipped room: agreement with the actions stored then."""
    env = ad.envs.DarkRoom()
    tasks = env.tasks().split(0.8, seed=0)[1][:4]
    model = ad.CausalTransformer.load(ad.find("dark_room/ad"))
    prompt = ad.collect(env, tasks, ad.sources.Random(), episodes=3, seed=1)
    cases = {  # arguments of the agent, episodes, lifetimes
        "lifetime": ({}, 14, 2),
        "episode": ({"memory": "episode"}, 14, 2),
        "greedy": ({"temperature": 1e-6}, 14, 2),
        "keep": ({"keep": 2, "temperature": 0.7}, 14, 2),
        "prompt": ({"prompt": prompt}, 4, 1),
    }
    found = {}
    for name, (how, episodes, n) in cases.items():
        agent = ad.InContext(model, **how)
        made = ad.collect(env, tasks, agent, episodes=episodes, lifetimes=n, seed=3)
        found[name] = ["actions", "".join(map(str, made.arrays["action"].ravel()))]
    return found


# ---- the study ----


def study() -> dict:
    """Verdicts from the shipped tables: words exactly, effects to five digits."""
    from study import judge
    from study.verdicts import load_hypotheses, verdicts

    root = HERE.parents[1]
    hypotheses = load_hypotheses(root / "notebooks" / "hypotheses.yaml")
    measured = judge.measured(judge.load(root / "data/cookie_world"))
    found = {}
    for name, one in verdicts(hypotheses, measured).items():
        rules, first = (
            one.rules,
            (one.rules.role == "supported") & (one.rules.measure == one.measure),
        )
        controls = rules[rules.role == "control"]
        failed = ", ".join(controls.measure[~controls.passed])
        told = f"failed: {failed}" if failed else f"all {len(controls)} hold"
        found[f"{name}: words"] = [one.verdict, one.grade, ", ".join(rules.rule[first]), told]
        found[f"{name}: effect"] = ["numbers", *map(float, (*one.effect, one.sesoi, one.mde))]
    return found


GROUPS = {
    "envs": envs,
    "histories": histories_of_sources,
    "training": training,
    "rollouts": rollouts,
    "study": study,
}
TOLERANCE = 2e-4  # relative, and absolute below 1
AGREEMENT = 0.98  # of actions: rounding very occasionally changes a sampled action


def same(stored, found) -> bool:
    """Compare a stored value with a found one, as its kind allows."""
    kind = stored[0] if isinstance(stored, list) and isinstance(stored[0], str) else None
    if kind == "numbers":
        a, b = np.array(stored[1:], float), np.array(found[1:], float)
        close = {"rtol": TOLERANCE, "atol": TOLERANCE, "equal_nan": True}
        return a.shape == b.shape and np.allclose(a, b, **close)
    if kind == "actions":
        a, b = map(list, (stored[1], found[1]))
        return len(a) == len(b) and np.mean(np.array(a) == np.array(b)) >= AGREEMENT
    return stored == found


def differences(group: str) -> list[str]:
    """Return what a group computes otherwise than stored, a line each."""
    stored, found = json.loads(STORED.read_text())[group], GROUPS[group]()
    lines = [f"{group}: {key} is missing" for key in stored.keys() - found.keys()]
    for key in stored.keys() & found.keys():
        if not same(stored[key], found[key]):
            lines.append(f"{group}: {key}: stored {stored[key]}, found {found[key]}")
    return sorted(line[:400] for line in lines)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1] / "notebooks"))
    values = {name: group() for name, group in GROUPS.items()}
    STORED.write_text(json.dumps(values, indent=1) + "\n")
