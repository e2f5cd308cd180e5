"""Histories: everything N learners did in their lifetimes, in order. Source and distilled agents leave the same kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adkit import artefacts
from adkit.npy import blocks, pieces
from adkit.protocols import EnvSpec, Tasks

if TYPE_CHECKING:
    import pandas as pd

PER_STEP = ("obs", "action", "reward", "terminated", "truncated")
WITHOUT_LABELS = (*PER_STEP, "final_obs")


@dataclass(frozen=True, eq=False)
class Histories:
    """N lifetimes of E episodes on a horizon of H: named arrays (lifetime, transition), T = E * H transitions each.

    Step t of episode e is transition e * H + t. An episode that ends early leaves its remaining transitions empty
    (zeros); `length` says how many are real.
    """

    spec: EnvSpec
    task_values: Tasks
    """The distinct tasks."""
    task: np.ndarray
    """(N,) which of the tasks each lifetime lives on; task-major order."""
    arrays: dict[str, np.ndarray]
    """Per step (N, E, H, ...): obs, action, reward, terminated, truncated; `final_obs` (N, E, ...). Any others are labels: per
    lifetime (N,), per episode (N, E) or per step (N, E, H, ...). No model reads them."""
    episode: np.ndarray
    """(E,) each episode's number in the lifetime that was collected: 0, 25, 50 ... after `subsample(25)`."""
    about: dict
    """How they were made: env, agent, seed."""

    # ---- reading ----

    def __getattr__(self, name: str) -> np.ndarray:
        """A named array, (lifetime, transition, ...): `histories.action[n, t]`."""
        arrays = self.__dict__.get("arrays", {})
        if name not in arrays:
            raise AttributeError(f"histories have no {name!r}; the arrays are {', '.join(arrays)}.")
        values = arrays[name]
        return (
            values
            if name == "final_obs" or values.ndim < 3
            else values.reshape(len(values), -1, *values.shape[3:])
        )

    def __len__(self) -> int:
        return len(self.task)

    @property
    def n_episodes(self) -> int:
        """E."""
        return len(self.episode)

    @property
    def tasks(self) -> pd.DataFrame:
        """The task table, one row per distinct task, indexed by task id."""
        return self.task_values.frame

    @property
    def length(self) -> np.ndarray:
        """(N, E) real transitions in each episode."""
        return (self.arrays["terminated"] | self.arrays["truncated"]).argmax(2) + 1

    @property
    def first(self) -> np.ndarray:
        """(N, T) bool: this transition opens an episode."""
        return np.broadcast_to(
            np.arange(self.n_episodes * self.spec.horizon) % self.spec.horizon == 0,
            self.action.shape,
        )

    @property
    def episode_returns(self) -> np.ndarray:
        """(N, E) float32: summed reward."""
        return self.arrays["reward"].sum(2)

    @property
    def returns(self) -> np.ndarray:
        """(task, lifetime, episode) float32: summed reward."""
        counts = np.bincount(self.task, minlength=len(self.task_values))
        if len(set(counts.tolist())) != 1 or (np.diff(self.task) < 0).any():
            raise ValueError(
                f"tasks have {counts.min()} to {counts.max()} lifetimes here; use .episode_returns (N, E) instead."
            )
        return self.episode_returns.reshape(len(self.task_values), -1, self.n_episodes)

    def to_frame(self) -> pd.DataFrame:
        """One row per episode: task columns, lifetime, episode, return, length."""
        import pandas as pd

        n, e = np.indices((len(self), self.n_episodes)).reshape(2, -1)
        numbers = {
            "lifetime": n,
            "episode": self.episode[e],
            "return": self.episode_returns.ravel(),
            "length": self.length.ravel(),
        }
        table = self.tasks.iloc[self.task[n]].reset_index()
        return pd.concat([table, pd.DataFrame(numbers)], axis=1)

    # ---- choosing ----

    def __getitem__(self, rows) -> Histories:
        """Lifetimes by integer, slice, mask or index array; their tasks come along."""
        rows = np.atleast_1d(np.arange(len(self))[rows])
        used, task = np.unique(self.task[rows], return_inverse=True)
        picked = {name: values[rows] for name, values in self.arrays.items()}
        return replace(self, task_values=self.task_values[used], task=task, arrays=picked)

    @property
    def episodes(self) -> EpisodeIndex:
        """Episodes by slice or index array: `histories.episodes[-50:]`."""
        return EpisodeIndex(self)

    def subsample(self, k: int) -> Histories:
        """Every k-th episode: the same learning, k times faster (paper, Appendix I)."""
        if not 1 <= k <= self.n_episodes:
            raise ValueError(
                f"subsample({k}) of {self.n_episodes} episodes; k must be 1 to {self.n_episodes}."
            )
        return self.episodes[::k]

    def windows(
        self, lifetime: np.ndarray, start: np.ndarray, episodes: int, labels: bool = False
    ) -> dict[str, np.ndarray]:
        """Training windows: per-step arrays (B, W, H, ...), W whole consecutive episodes of one lifetime each.

        `lifetime` (B,) and `start` (B,), the first episode, choose them. A window never spans two lifetimes. Labels, which no
        training needs, come along only when asked for.
        """
        lifetime, start = np.asarray(lifetime), np.asarray(start)
        if episodes < 1 or (start < 0).any() or (start + episodes > self.n_episodes).any():
            at = f"from {start.min()} to {start.max()}"
            raise ValueError(
                f"windows of {episodes} episodes {at} on leave the {self.n_episodes} there are; count from 0."
            )
        if (lifetime < 0).any() or (lifetime >= len(self)).any():
            raise ValueError(
                f"lifetimes {lifetime.min()} to {lifetime.max()}; these histories have 0 to {len(self) - 1}."
            )
        names = self.arrays if labels else WITHOUT_LABELS
        whole = {name: self.arrays[name] for name in names}
        return {
            n: v[lifetime] if v.ndim == 1 else blocks(v, lifetime, start, episodes)
            for n, v in whole.items()
        }

    @property
    def labels(self) -> list[str]:
        """The names of the labels."""
        return [name for name in self.arrays if name not in WITHOUT_LABELS]

    def seen_as(self, view) -> Histories:
        """The same poses for a model that is shown another `view` of them; see `EnvSpec.view`."""
        return replace(self, spec=replace(self.spec, view=view))

    @staticmethod
    def concatenate(parts: Sequence[Histories]) -> Histories:
        """The lifetimes of several histories of one environment and episode numbering, grouped by task."""
        if not parts:
            raise ValueError("no histories to concatenate; give at least one.")
        first = parts[0]
        for part in parts[1:]:
            if part.spec != first.spec or not np.array_equal(part.episode, first.episode):
                both = f"{first.n_episodes} episodes of {first.spec.name} and {part.n_episodes} of {part.spec.name}"
                raise ValueError(
                    f"{both}: histories to concatenate must share their spec and their episodes' numbers."
                )
            if set(part.arrays) != set(first.arrays):
                missing = sorted(set(part.arrays) ^ set(first.arrays))
                raise ValueError(
                    f"histories to concatenate must have the same labels; some have no {', '.join(missing)}."
                )
        every = Tasks(
            {
                name: np.concatenate([p.task_values[name] for p in parts])
                for name in first.task_values.columns
            },
            np.concatenate([p.task_values.ids for p in parts]),
        )
        unique, row = every.unique()
        offsets = np.cumsum([0] + [len(p.task_values) for p in parts])
        task = np.concatenate(
            [row[p.task + offset] for p, offset in zip(parts, offsets, strict=False)]
        )
        order = np.argsort(task, kind="stable")
        arrays = {
            name: np.concatenate([p.arrays[name] for p in parts])[order] for name in first.arrays
        }
        return Histories(first.spec, unique, task[order], arrays, first.episode, first.about)

    # ---- keeping ----

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write a folder of .npy arrays with a hashed manifest, whole or not at all."""
        self.check()
        files = {f"{name}.npy": values for name, values in (self.arrays | self._whose()).items()}
        return artefacts.save(
            path, "histories", files, {"spec": asdict(self.spec), **self.about}, overwrite
        )

    @staticmethod
    def assemble(path: str | Path, parts: Iterable[Histories], whole: Histories) -> Path:
        """As `save`, from parts that are in memory one at a time; `whole` has their tasks, and no arrays."""
        checked = (part.arrays for part in parts if part.check() is None)
        return artefacts.assemble(
            path,
            "histories",
            checked,
            {"spec": asdict(whole.spec), **whole.about},
            **whole._whose(),
        )

    def _whose(self) -> dict[str, np.ndarray]:
        """Which lifetimes and episodes these are."""
        tasks = {f"tasks.{name}": values for name, values in self.task_values.columns.items()}
        return {
            "task": self.task,
            "episode": self.episode,
            "task_ids": self.task_values.ids,
        } | tasks

    @staticmethod
    def load(path: str | Path, mapped: bool = False) -> Histories:
        """Read and verify what `save` wrote; `mapped` arrays stay on disk, so that they may be larger than memory."""
        files, about = artefacts.load(path, "histories", mapped)
        try:
            spec = EnvSpec(**about.pop("spec"))
            arrays = {name.removesuffix(".npy"): value for name, value in files.items()}
            if extra := [
                name for name, value in files.items() if not isinstance(value, np.ndarray)
            ]:
                raise ValueError(f"{extra[0]!r} is no array")
            columns = {
                name.removeprefix("tasks."): arrays.pop(name)
                for name in list(arrays)
                if name.startswith("tasks.")
            }
            tasks = Tasks(columns, _numbers("task_ids", arrays.pop("task_ids")))
            histories = Histories(
                spec, tasks, arrays.pop("task"), arrays, arrays.pop("episode"), about
            )
            histories.check()
        except (KeyError, TypeError, ValueError) as error:
            raise artefacts.ArtefactError(
                f"{path} does not hold complete histories: {error}"
            ) from None
        return histories

    def to_minari(self, id: str, folder: str | Path | None = None) -> Path:
        """Write a Minari dataset, one of its episodes for each of ours, whole or not at all: `minari.load_dataset(id)` reads it.

        `id` is Minari's "namespace/name-v0"; `folder` holds Minari's datasets, by default where Minari itself looks. Returns the
        dataset's own folder. Needs the extra `interchange`; raises FileExistsError where there is a dataset of this id already.
        """
        from adkit import interchange

        return interchange.to_minari(self, id, folder)

    @staticmethod
    def from_minari(id: str, folder: str | Path | None = None) -> Histories:
        """Read back, equal in every bit, what `to_minari` wrote."""
        from adkit import interchange

        path, spec, tasks, *rest = interchange.from_minari(id, folder)
        histories = Histories(spec, tasks, *rest)
        try:
            histories.check()
        except ValueError as error:
            raise artefacts.ArtefactError(
                f"{path} does not hold complete histories: {error}."
            ) from error
        return histories

    def to_parquet(self, path: str | Path) -> Path:
        """Write one Parquet file, one row per transition, whole or not at all, for pandas, Polars, DuckDB or Spark.

        Columns: task (its id) and task_NAME for each of its columns; lifetime, episode, step; obs, action, reward, terminated,
        truncated, next_obs. Vectors are lists of fixed length. The spec and `about` are JSON in the file's metadata, "adkit".
        Needs the extra `interchange`; raises FileExistsError where there is such a file.
        """
        from adkit import interchange

        return interchange.to_parquet(self, path)

    def check(self) -> None:
        """Raise ValueError unless shapes, dtypes, ranges and episode ends are what they must be."""
        for name in ("task", "episode"):
            _numbers(name, getattr(self, name))
        n, e, h = len(self.task), self.n_episodes, self.spec.horizon
        want = {
            "obs": ((n, e, h, *self.spec.obs_shape), self.spec.obs_dtype),
            "action": ((n, e, h), np.uint8),
        }
        want |= {
            "reward": ((n, e, h), np.float32),
            "terminated": ((n, e, h), bool),
            "truncated": ((n, e, h), bool),
        }
        want |= {"final_obs": ((n, e, *self.spec.obs_shape), self.spec.obs_dtype)}
        for name, (shape, dtype) in want.items():
            found = self.arrays.get(name)
            if found is None or found.shape != shape or found.dtype != dtype:
                found = "missing" if found is None else f"{found.dtype} {found.shape}"
                raise artefacts.ArtefactError(
                    f"array {name!r} is {found}; {self.spec.name} histories of {n} lifetimes need {np.dtype(dtype)} {shape}."
                )
        for name in self.labels:
            shape = self.arrays[name].shape
            if shape[:3] != (n, e, h)[: len(shape)]:
                raise artefacts.ArtefactError(
                    f"label {name!r} is {shape}; give {(n,)} per lifetime, {(n, e)} per episode or {(n, e, h)} per step."
                )
        if not all(np.isfinite(piece).all() for piece in pieces(self.arrays["reward"])):
            raise ValueError("rewards hold NaN or infinity; every reward must be a finite number.")
        numbers = {
            "actions": (self.arrays["action"], self.spec.n_actions),
            "task numbers": (self.task, len(self.task_values)),
        }
        for i, most in enumerate(self.spec.cardinality or ()):
            numbers |= {
                f"{name}[..., {i}]": (self.arrays[name][..., i], most)
                for name in ("obs", "final_obs")
            }
        for name, (values, most) in numbers.items():
            for piece in pieces(values):
                if piece.size and (piece.min() < 0 or piece.max() >= most):
                    raise ValueError(
                        f"{name} are {piece.min()} to {piece.max()}: out of range, which is 0 to {most - 1}."
                    )
        ends = zip(
            *(pieces(self.arrays[name]) for name in ("terminated", "truncated")), strict=True
        )
        if not all((terminated | truncated).any(2).all() for terminated, truncated in ends):
            raise ValueError(
                "some episodes never end: every episode must be terminated or truncated."
            )

    # ---- showing ----

    def _summary(self) -> dict[str, str]:
        returns = self.episode_returns
        late = max(1, self.n_episodes // 10)
        size = sum(values.nbytes for values in self.arrays.values())
        return {
            "environment": f"{self.about.get('env', self.spec.name)}",
            "agent": f"{self.about.get('agent', '?')}",
            "tasks x lifetimes": f"{len(self.task_values)} tasks, {len(self)} lifetimes",
            "episodes": f"{self.n_episodes} of {self.spec.horizon} steps ({self.length.sum():,} transitions, {size / 1e6:.1f} MB)",
            "return": f"{returns[:, :late].mean():.2f} in the first tenth of episodes, {returns[:, -late:].mean():.2f} in the last",
        }

    def __repr__(self) -> str:
        return "Histories\n" + "\n".join(
            f"  {name:18} {text}" for name, text in self._summary().items()
        )

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td>{escape(text)}</td></tr>"
            for name, text in self._summary().items()
        )
        return f"<table><caption>Histories</caption>{rows}</table>"


@dataclass(frozen=True)
class EpisodeIndex:
    """`histories.episodes`: episodes by slice or index array."""

    histories: Histories

    def __getitem__(self, episodes) -> Histories:
        h = self.histories
        kept = np.atleast_1d(np.arange(h.n_episodes)[episodes])
        if not len(kept):
            raise ValueError(f"episodes[{episodes}] keeps none; there are 0 to {h.n_episodes - 1}.")
        index = episodes if isinstance(episodes, slice) else kept  # a slice stays a view
        arrays = {
            name: values if values.ndim == 1 else values[:, index]
            for name, values in h.arrays.items()
        }
        return replace(h, arrays=arrays, episode=h.episode[kept])

    def __len__(self) -> int:
        return self.histories.n_episodes


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    if values.ndim != 1 or values.dtype.kind != "i":
        raise ValueError(
            f"{name!r} is {values.dtype} {values.shape}; it must be a row of integers."
        )
    return values
