"""Histories that others have published or generate: ad-eps's, and XLand-MiniGrid's datasets."""

from __future__ import annotations

import json
import math
import pickle
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adkit._lazy import extra
from adkit.folders import is_plain
from adkit.histories import WITHOUT_LABELS, Histories
from adkit.protocols import EnvSpec, Tasks
from adkit.sharding import digest, joined, number_of_shards, saved

AS_OURS = np.array([0, 3, 2, 4, 1])  # ad-eps's are stay, up, right, down, left
MOVES = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)])  # ours: stay, left, right, up, down
XLAND = {"tiles": 13, "colours": 12, "actions": 6}


# ---- ad-eps ----


def from_ad_eps(
    folder: str | Path, out: str | Path | None = None, *, size: int = 9, every: int = 1
) -> Histories:
    """Read learning histories that ad-eps (github.com/corl-team/ad-eps) wrote of its dark rooms.

    `folder` holds its .metadata and .npz files; `size` is the cells along each wall. Places (row,
    column) become (y, x) and actions ours: these are histories of `ad.envs.DarkRoom(size, horizon)`
    or, where goals are pairs, of `DarkKeyToDoor`, with the ids of our tasks. That every move leads
    where ours does is checked. Every `every`-th episode is kept. With `out`, lifetimes are saved
    there as they are read, and the histories are `mapped`. ValueError names what does not fit.
    """
    lists = {path: json.loads(path.read_text("utf-8")) for path in Path(folder).rglob("*.metadata")}
    named = [(path.parent, name) for path in lists for name in lists[path]["ordered_trajectories"]]
    paths = [beside / name for beside, name in named]
    if not paths or not all(is_plain(name) for _, name in named):
        raise ValueError(f"{folder} has no .metadata file of ad-eps that names files beside it")
    goals = np.concatenate([about["goal"] for about in lists.values()]).astype(int)
    if len(goals) != len(paths) or goals.min() < 0 or goals.max() >= size:
        most = f"with size={size} goals are 0 to {size - 1}"
        raise ValueError(f"{len(paths)} trajectories have {goals.tolist()} as goals; {most}")
    places = goals.reshape(len(goals), -1, 2)[..., ::-1]  # (row, column) to (x, y)
    names = ["goal"] if places.shape[1] == 1 else ["key", "door"]
    ids = places.reshape(len(goals), -1) @ (size ** np.arange(2 * len(names))[::-1])
    tasks, task = Tasks(
        {name: places[:, i].astype(np.int16) for i, name in enumerate(names)}, ids
    ).unique()
    order = np.argsort(task, kind="stable")
    paths, task = [paths[row] for row in order], task[order]
    lengths = [len(episode) for episode in _numbers(paths[0], "states")]
    world = "DarkRoom" if names == ["goal"] else "DarkKeyToDoor"
    spec = EnvSpec(world, n_actions=5, horizon=max(lengths), cardinality=(size, size))
    about = {"env": f"{world} of ad-eps", "agent": lists.popitem()[1].get("algorithm", "?")}
    if len(names) == 2:
        about["missing"] = "whether the door or the clock ended an episode at its last step"
    whole = Histories(spec, tasks, task, {}, np.arange(0, len(lengths), every), about)
    return _read(whole, lambda n: _of_ad_eps(whole, paths[n]), out, [list(map(str, paths)), size])


def _of_ad_eps(whole: Histories, path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of one of ad-eps's trajectories, a lifetime."""
    listed = [_numbers(path, name) for name in ("states", "actions", "rewards")]
    length = np.array([len(episode) for episode in listed[0]])
    cell, action, reward = (np.concatenate(values) for values in listed)
    size = whole.spec.cardinality[0]
    if not len(cell) == len(action) == len(reward):
        counts = f"{len(cell)} states, {len(action)} actions and {len(reward)} rewards"
        raise ValueError(f"{path} holds {counts}; each step needs one of each")
    if not ((cell >= 0) & (cell < size**2)).all() or not np.isin(action, range(5)).all():
        allowed = f"0 to {size**2 - 1} and 0 to 4 (size={size})"
        raise ValueError(f"{path} holds states or actions out of range; allowed are {allowed}")
    obs = np.stack(np.divmod(cell.astype(int), size)[::-1], 1)
    steps = {"obs": obs, "action": AS_OURS[action.astype(int)], "reward": reward}
    led = (obs + MOVES[steps["action"]]).clip(0, size - 1)
    last = length.cumsum() - 1
    wrong = np.setdiff1d(np.flatnonzero((led[:-1] != obs[1:]).any(1)), last)
    if len(wrong):
        where = f"episode {np.searchsorted(last, wrong[0])} of {path}"
        raise ValueError(
            f"a move in {where} does not lead to the next place; is size={size} right?"
        )
    if len(length) <= whole.episode[-1]:
        raise ValueError(f"{path} holds {len(length)} episodes, others more; read them apart")
    arrays = _cut(whole.spec, steps, last, whole.episode)
    return arrays | {"final_obs": led[last[whole.episode]]}


class _Plain(pickle.Unpickler):
    """Reads lists of numbers alone; what a stranger pickled could run anything."""

    def find_class(self, module: str, name: str) -> type:
        known = {"_reconstruct", "scalar", "ndarray", "dtype"}
        if module.split(".")[0] == "numpy" and name in known:
            return super().find_class(module, name)
        raise ValueError(f"a file of ad-eps holds lists of numbers, got {module}.{name}")


def _numbers(path: Path, name: str) -> np.ndarray:
    """Return an array of an .npz file: (E, H) numbers, or (E,) lists of numbers."""
    form = np.lib.format
    with zipfile.ZipFile(path) as kept, kept.open(f"{name}.npy") as file:
        form.read_magic(file)
        if form.read_array_header_1_0(file)[2].hasobject:  # episodes of unequal length
            return _Plain(file).load()
    with np.load(path) as kept:
        return kept[name]


# ---- XLand-MiniGrid ----


def from_xland(
    path: str | Path,
    out: str | Path | None = None,
    *,
    tasks: Sequence[int] | None = None,
    lifetimes: int = 32,
    episodes: int = 100,
    horizon: int | None = None,
) -> Histories:
    """Read learning histories of XLand-100B or XLand-Trivial-20B (arXiv:2406.08973).

    Of the groups `tasks` in the HDF5 file (all by default), and the first `lifetimes` of each, it
    keeps `episodes` of each lifetime, evenly spaced; the label `number` says which. A task is
    `ruleset`, its number in the benchmark. An observation is 5x5 coordinates, each 12 * tile +
    colour; `expert_action` is a label. `horizon` is the most steps in an episode, by default the
    longest that a first pass finds. With `out`, lifetimes are saved there as they are read.
    """
    h5py, path = extra("h5py", "interchange", "from_xland"), Path(path)
    with h5py.File(path) as file:
        groups = _groups(file, path, tasks)
        shape, about = file[groups[0]]["states"].shape, dict(file[groups[0]].attrs)
        rules = np.array([file[k].attrs["ruleset-id"] for k in groups], np.int64)
        count = min(lifetimes, *(len(file[k]["dones"]) for k in groups))
        if horizon is None:
            ends = (np.flatnonzero(file[k]["dones"][n]) for k in groups for n in range(count))
            horizon = max(int(np.diff(each, prepend=-1).max(initial=1)) for each in ends)
    spec = EnvSpec(
        str(about.get("env-id", "XLand")),
        XLAND["actions"],
        horizon,
        (XLAND["tiles"] * XLAND["colours"],) * math.prod(shape[2:]),
    )
    about = {"env": spec.name, "benchmark": str(about.get("benchmark-id", "?")), "agent": "PPO"}
    about["missing"] = (
        "final observations (the last one is repeated); whether an episode ended or was cut off "
        "(one of `horizon` steps counts as cut off)"
    )
    task = np.arange(len(groups)).repeat(count)
    whole = Histories(spec, Tasks({"ruleset": rules}), task, {}, np.arange(episodes), about)

    def one(n: int) -> dict[str, np.ndarray]:
        with h5py.File(path) as file:
            return _of_xland(whole, file[groups[n // count]], n % count)

    return _read(whole, one, out, [str(path), groups, count, episodes, horizon])


def _groups(file: Any, path: Path, tasks: Sequence[int] | None) -> list[str]:
    """Return the names of the groups asked for; ValueError for what is missing."""
    there = sorted((k for k in file if k.isdecimal()), key=int)
    groups = there if tasks is None else [str(k) for k in tasks]
    if not groups or (lost := sorted(set(groups) - set(there), key=int)):
        wrong = f"no groups {', '.join(lost)}" if groups else "none of XLand's groups 0, 1, 2 ..."
        raise ValueError(f"{path} has {len(there)} tasks, and {wrong}")
    needs = {"states", "actions", "rewards", "dones"}
    for k in groups:
        if lost := needs - set(file[k]) | {"ruleset-id"} - set(file[k].attrs):
            raise ValueError(f"group {k} of {path} has no {', '.join(sorted(lost))}")
    return groups


def _of_xland(whole: Histories, group: Any, row: int) -> dict[str, np.ndarray]:
    """Return the arrays of one lifetime of XLand's."""
    names = {"states": "obs", "actions": "action", "rewards": "reward"}
    names |= {"expert_actions": "expert_action"} if "expert_actions" in group else {}
    steps = {ours: group[theirs][row] for theirs, ours in names.items()}
    steps["obs"] = steps["obs"].reshape(len(steps["obs"]), -1)
    last, n = np.flatnonzero(group["dones"][row]), whole.n_episodes
    if len(last) < n:
        where = f"history {row} of group {group.name} has {len(last)} complete episodes"
        raise ValueError(f"{where}; ask for fewer than episodes={n}")
    number = np.linspace(0, len(last) - 1, n).astype(np.int32)
    final = {"final_obs": steps["obs"][last[number]], "number": number}
    return _cut(whole.spec, steps, last, number) | final


# ---- both ----


def _cut(
    spec: EnvSpec, steps: dict[str, np.ndarray], last: np.ndarray, number: np.ndarray
) -> dict[str, np.ndarray]:
    """Return episodes `number` (E,) of a lifetime as arrays (E, H, ...).

    `steps` are in order (T, ...); `last` is the last step of each episode.
    """
    first = np.append(0, last[:-1] + 1)[number, None]
    last = last[number, None]
    if (last - first).max() >= spec.horizon:
        most = (last - first).max() + 1
        raise ValueError(f"an episode has {most} steps, more than the horizon of {spec.horizon}")
    at = first + np.arange(spec.horizon)
    arrays = {name: values[np.minimum(at, last)] for name, values in steps.items()}
    for values in arrays.values():
        values[at > last] = 0
    ends, cut = at == last, last - first == spec.horizon - 1
    return arrays | {"terminated": ends & ~cut, "truncated": ends & cut}


def _read(whole: Histories, one: Callable, out: str | Path | None, call: list) -> Histories:
    """Return the histories of which `one(n)` reads lifetime n, and say what they do not hold."""
    labels = {name: values for name, values in one(0).items() if name not in WITHOUT_LABELS}
    if missing := whole.about.get("missing"):
        warnings.warn(f"not in the files: {missing}", stacklevel=3)

    def empty(n: int) -> dict[str, np.ndarray]:
        arrays = whole.spec.empty(n, whole.n_episodes)
        return arrays | {name: np.zeros((n, *v.shape), v.dtype) for name, v in labels.items()}

    def read(rows: np.ndarray) -> dict[str, np.ndarray]:
        arrays = empty(len(rows))
        for i, n in enumerate(rows):
            for name, values in one(n).items():
                arrays[name][i] = values
        return arrays

    made = lambda shards: ((k, read(rows)) for k, rows in enumerate(shards))
    n_shards = number_of_shards(len(whole), empty(1), 1)
    if out is not None:
        return saved(Path(out), whole, digest(call), n_shards, made)
    histories = joined(whole, empty(1), n_shards, made)
    histories.check()
    return histories
