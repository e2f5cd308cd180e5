"""Histories: all that N learners, source or distilled, did in their lifetimes, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adkit import store
from adkit.protocols import EnvSpec, Tasks
from adkit.store import pieces

if TYPE_CHECKING:
    import pandas as pd

PER_STEP = ("obs", "action", "reward", "terminated", "truncated")
WITHOUT_LABELS = (*PER_STEP, "final_obs")


@dataclass(frozen=True, eq=False)
class Histories:
    """N lifetimes of E episodes on a horizon of H steps, T = E * H transitions each.

    Step t of episode e is transition e * H + t. An episode that ends early leaves its remaining
    transitions empty (zeros); `length` says how many are real.
    """

    spec: EnvSpec
    task_values: Tasks
    """The distinct tasks."""
    task: np.ndarray
    """(N,) which of the tasks each lifetime lives on; task-major order."""
    arrays: dict[str, np.ndarray]
    """Per step (N, E, H, ...): obs, action, reward, terminated, truncated; `final_obs` (N, E, ...).

    Any others are labels: per lifetime (N,), per episode (N, E) or per step (N, E, H, ...). No
    model reads them.
    """
    episode: np.ndarray
    """(E,) each episode's number in the collected lifetime: 0, 25, 50 ... after `subsample(25)`."""
    about: dict
    """How they were made: env, agent, seed."""

    # ---- reading ----

    def __getattr__(self, name: str) -> np.ndarray:
        """Return a named array, (lifetime, transition, ...): `histories.action[n, t]`."""
        arrays = self.__dict__.get("arrays", {})
        if name not in arrays:
            raise AttributeError(f"histories have no {name!r}; the arrays are {', '.join(arrays)}")
        values = arrays[name]
        if name == "final_obs" or values.ndim < 3:
            return values
        return values.reshape(len(values), -1, *values.shape[3:])

    def __len__(self) -> int:
        return len(self.task)

    @property
    def n_episodes(self) -> int:
        """Return E."""
        return len(self.episode)

    @property
    def tasks(self) -> pd.DataFrame:
        """Return the task table, one row per distinct task, indexed by task id."""
        return self.task_values.frame

    @property
    def length(self) -> np.ndarray:
        """Return (N, E) real transitions in each episode."""
        return (self.arrays["terminated"] | self.arrays["truncated"]).argmax(2) + 1

    @property
    def episode_returns(self) -> np.ndarray:
        """Return (N, E) float32: summed reward."""
        return self.arrays["reward"].sum(2)

    @property
    def returns(self) -> np.ndarray:
        """Return (task, lifetime, episode) float32: summed reward."""
        counts = np.bincount(self.task, minlength=len(self.task_values))
        if len(set(counts.tolist())) != 1 or (np.diff(self.task) < 0).any():
            raise ValueError(
                f"tasks have {counts.min()} to {counts.max()} lifetimes here; "
                "use .episode_returns (N, E) instead"
            )
        return self.episode_returns.reshape(len(self.task_values), -1, self.n_episodes)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per episode: task columns, lifetime, episode, return, length.

        A task's own column of such a name, `length` say, is called `task_length`.
        """
        n, e = np.indices((len(self), self.n_episodes)).reshape(2, -1)
        returns, length = self.episode_returns.ravel(), self.length.ravel()
        numbers = {"lifetime": n, "episode": self.episode[e], "return": returns, "length": length}
        table, renamed = self.tasks.iloc[self.task[n]], {}
        for name in {"task", *numbers} & set(table):
            renamed[name] = f"task_{name}"
            while renamed[name] in table:
                renamed[name] = f"task_{renamed[name]}"
        return table.rename(columns=renamed).reset_index().assign(**numbers)

    # ---- choosing ----

    def __getitem__(self, rows) -> Histories:
        """Return lifetimes by integer, slice, mask or index array; their tasks come along."""
        rows = np.atleast_1d(np.arange(len(self))[rows])
        if not len(rows):
            raise ValueError(f"this keeps none of the {len(self)} lifetimes; choose at least one")
        used, task = np.unique(self.task[rows], return_inverse=True)
        picked = {name: values[rows] for name, values in self.arrays.items()}
        return replace(self, task_values=self.task_values[used], task=task, arrays=picked)

    @property
    def episodes(self) -> EpisodeIndex:
        """Return episodes by slice or index array: `histories.episodes[-50:]`."""
        return EpisodeIndex(self)

    def subsample(self, k: int) -> Histories:
        """Keep every k-th episode: the same learning, k times faster (paper, Appendix I)."""
        if not 1 <= k <= self.n_episodes:
            raise ValueError(
                f"subsample({k}) of {self.n_episodes} episodes; k must be 1 to {self.n_episodes}"
            )
        return self.episodes[::k]

    def windows(
        self, lifetime: np.ndarray, start: np.ndarray, episodes: int, labels: bool = False
    ) -> dict[str, np.ndarray]:
        """Return training windows: per-step arrays (B, W, H, ...), W whole consecutive episodes.

        `lifetime` (B,) and `start` (B,), the first episode, choose them. A window never spans two
        lifetimes. Labels, which no training needs, come along only when asked for.
        """
        lifetime, start = np.asarray(lifetime), np.asarray(start)
        last = {"lifetimes": (lifetime, len(self) - 1)}
        last["first episodes of windows"] = start, self.n_episodes - max(1, episodes)
        for what, (values, most) in last.items():
            if episodes < 1 or (values < 0).any() or (values > most).any():
                chosen = f"{what} are {values.min()} to {values.max()}"
                raise ValueError(f"{chosen}; with episodes={episodes} they can be 0 to {most}")
        names = self.arrays if labels else WITHOUT_LABELS
        rows, columns = lifetime[:, None], start[:, None] + np.arange(episodes)
        whole = {name: self.arrays[name] for name in names}
        return {n: v[lifetime] if v.ndim == 1 else v[rows, columns] for n, v in whole.items()}

    @property
    def labels(self) -> list[str]:
        """Return the names of the labels."""
        return [name for name in self.arrays if name not in WITHOUT_LABELS]

    def seen_as(self, view) -> Histories:
        """Return the same poses for a model that is shown another `view`; see `EnvSpec.view`."""
        return replace(self, spec=replace(self.spec, view=view))

    @staticmethod
    def concatenate(parts: Sequence[Histories]) -> Histories:
        """Join the lifetimes of histories of one environment and episode numbering, by task."""
        first, share = parts[0], "histories to concatenate must share"
        for part in parts[1:]:
            if part.spec != first.spec or not np.array_equal(part.episode, first.episode):
                both = [f"{len(h.episode)} episodes of {h.spec.name}" for h in (first, part)]
                raise ValueError(f"{share} spec and episode numbers, got {' and '.join(both)}")
            if missing := sorted(set(part.arrays) ^ set(first.arrays)):
                raise ValueError(f"{share} their labels; some have no {', '.join(missing)}")
        tasks = [part.task_values[part.task] for part in parts]
        columns = {n: np.concatenate([t[n] for t in tasks]) for n in first.task_values.columns}
        unique, task = Tasks(columns, np.concatenate([t.ids for t in tasks])).unique()
        order = np.argsort(task, kind="stable")
        arrays = {n: np.concatenate([p.arrays[n] for p in parts])[order] for n in first.arrays}
        return Histories(first.spec, unique, task[order], arrays, first.episode, first.about)

    # ---- keeping ----

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write a folder of .npy arrays with a hashed manifest, whole or not at all."""
        self.check()
        about = {"spec": asdict(self.spec), **self.about}
        return store.save(path, "histories", self.arrays | self.identity(), about, overwrite)

    def identity(self) -> dict[str, np.ndarray]:
        """Return the arrays that say which lifetimes and episodes these are, as they are saved."""
        tasks = {f"tasks.{name}": values for name, values in self.task_values.columns.items()}
        ids = self.task_values.ids
        return {"task": self.task, "episode": self.episode, "task_ids": ids} | tasks

    @staticmethod
    def load(path: str | Path, mapped: bool = False) -> Histories:
        """Read and verify what `save` wrote.

        `mapped` arrays stay on disk, so that they may be larger than memory; the files must not
        change while they are used.
        """
        arrays, about = store.load(path, "histories", mapped=True, at_most=lambda about: 0)
        try:
            spec = EnvSpec(**about.pop("spec"))
            if odd := [name for name, v in arrays.items() if not isinstance(v, np.ndarray)]:
                raise ValueError(f"{odd[0]!r} is no array")
            names = [name for name in arrays if name.startswith("tasks.")]
            columns = {name.removeprefix("tasks."): arrays.pop(name) for name in names}
            tasks = Tasks(columns, _numbers("task_ids", arrays.pop("task_ids")))
            task, episode = arrays.pop("task"), arrays.pop("episode")
            histories = Histories(spec, tasks, task, arrays, episode, about)
            histories.check()
        except (KeyError, TypeError, ValueError) as error:
            raise store.ArtefactError(f"{path} does not hold complete histories: {error}") from None
        if mapped:
            return histories
        arrays = {name: np.array(values) for name, values in histories.arrays.items()}
        columns = {name: np.array(values) for name, values in tasks.columns.items()}
        tasks = Tasks(columns, np.array(tasks.ids))
        return Histories(spec, tasks, np.array(task), arrays, np.array(episode), about)

    def check(self) -> None:
        """Raise ValueError unless shapes, dtypes, ranges and episode ends are as they must be."""
        self._check_shapes()
        if not all(np.isfinite(piece).all() for piece in pieces(self.arrays["reward"])):
            raise ValueError("rewards hold NaN or infinity; every reward must be a finite number")
        numbers = {"actions": (self.arrays["action"], self.spec.n_actions)}
        numbers["task numbers"] = self.task, len(self.task_values)
        for i, most in enumerate(self.spec.cardinality or ()):
            for name in ("obs", "final_obs"):
                numbers[f"{name}[..., {i}]"] = self.arrays[name][..., i], most
        for name, (values, most) in numbers.items():
            for piece in pieces(values):
                if piece.size and (piece.min() < 0 or piece.max() >= most):
                    found = f"{piece.min()} to {piece.max()}"
                    raise ValueError(f"{name} are {found}: out of range, 0 to {most - 1}")
        ends = (pieces(self.arrays[name]) for name in ("terminated", "truncated"))
        if not all((ended | cut).any(2).all() for ended, cut in zip(*ends, strict=True)):
            raise ValueError("some episodes never end; each must be terminated or truncated")

    def _check_shapes(self) -> None:
        for name in ("task", "episode"):
            _numbers(name, getattr(self, name))
        n, e, h = len(self.task), self.n_episodes, self.spec.horizon
        for name, (shape, dtype) in self.spec.layout(n, e).items():
            found = self.arrays.get(name)
            if found is None or found.shape != shape or found.dtype != dtype:
                found = "missing" if found is None else f"{found.dtype} {found.shape}"
                needed = f"{n} lifetimes in {self.spec.name} need {np.dtype(dtype)} {shape}"
                raise ValueError(f"array {name!r} is {found}; {needed}")
        for name in self.labels:
            shape = self.arrays[name].shape
            if not shape or shape[:3] != (n, e, h)[: len(shape)]:
                allowed = f"{(n,)} per lifetime, {(n, e)} per episode or {(n, e, h)} per step"
                raise ValueError(f"label {name!r} is {shape}; give {allowed}")

    # ---- showing ----

    def _summary(self) -> dict[str, str]:
        returns, late = self.episode_returns, max(1, self.n_episodes // 10)
        size = sum(values.nbytes for values in self.arrays.values()) / 1e6
        steps = f"{self.spec.horizon} steps ({self.length.sum():,} transitions, {size:.1f} MB)"
        first, last = returns[:, :late].mean(), returns[:, -late:].mean()
        return {
            "environment": store.shown(self.about.get("env", self.spec.name)),
            "agent": store.shown(self.about.get("agent", "?")),
            "tasks x lifetimes": f"{len(self.task_values)} tasks, {len(self)} lifetimes",
            "episodes": f"{self.n_episodes}, each of up to {steps}",
            "return": f"{first:.2f} in the first tenth of episodes, {last:.2f} in the last",
        } | {name: self.about[name] for name in ("missing",) if name in self.about}

    def __repr__(self) -> str:
        lines = (f"  {name:18} {text}" for name, text in self._summary().items())
        return "\n".join(["Histories", *lines])

    def _repr_html_(self) -> str:
        start = "<tr><th style='text-align:left'>"
        rows = (f"{start}{n}</th><td>{escape(v)}</td></tr>" for n, v in self._summary().items())
        return f"<table class='mathjax_ignore'><caption>Histories</caption>{''.join(rows)}</table>"


@dataclass(frozen=True)
class EpisodeIndex:
    """`histories.episodes`: episodes by slice or index array."""

    histories: Histories

    def __getitem__(self, episodes) -> Histories:
        h = self.histories
        kept = np.atleast_1d(np.arange(h.n_episodes)[episodes])
        if not len(kept):
            raise ValueError(f"episodes[{episodes}] keeps none; there are 0 to {h.n_episodes - 1}")
        index = episodes if isinstance(episodes, slice) else kept  # a slice stays a view
        arrays = {name: v if v.ndim == 1 else v[:, index] for name, v in h.arrays.items()}
        return replace(h, arrays=arrays, episode=h.episode[kept])


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    if values.ndim != 1 or values.dtype.kind != "i":
        raise ValueError(f"{name!r} is {values.dtype} {values.shape}; it must be a row of integers")
    return values
