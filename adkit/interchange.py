"""Histories for other people's tools: Minari datasets, there and back, and Parquet files. Needs the extra `interchange`.

Minari keeps transitions, and has no place for lifetimes and tasks. Beside its own `data` a dataset has therefore a folder `adkit`
that says which lifetime, task and episode each of Minari's episodes is; each of these also carries that as metadata.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from adkit import artefacts
from adkit.envs.gym import spaces_of
from adkit.lazy import extra
from adkit.protocols import EnvSpec, Tasks

if TYPE_CHECKING:
    from adkit.histories import Histories

KIND = "histories in Minari"
NAMES = {"action": "actions", "reward": "rewards", "terminated": "terminations", "truncated": "truncations"}  # ours: Minari's
TRANSITIONS = ("obs", "final_obs", *NAMES)
ROWS = 1_000_000  # of a Parquet file that are in memory at once, if a lifetime is not longer


def to_minari(histories: Histories, id: str, folder: str | Path | None) -> Path:
    """What `Histories.to_minari` does."""
    minari, path = _minari(), _place(id, folder)
    tasks, (observed, acted) = histories.task_values, spaces_of(histories.spec)
    files = {"task.npy": histories.task, "episode.npy": histories.episode, "task_ids.npy": tasks.ids}
    files |= {f"tasks.{name}.npy": values for name, values in tasks.columns.items()}
    files |= {f"label.{name}.npy": values for name, values in histories.arrays.items() if name not in TRANSITIONS}
    with _whole(path) as temporary:
        artefacts.save(temporary / "adkit", KIND, files, {"spec": asdict(histories.spec), **histories.about})
        storage = minari.dataset.minari_storage.MinariStorage.new(temporary / "data", observed, acted, data_format="hdf5")
        about = {"dataset_id": id, "minari_version": minari.__version__, "algorithm_name": str(histories.about.get("agent", ""))}
        storage.update_metadata(about | {"description": f"Learning histories in {histories.spec.name}, written by adkit."})
        storage.update_episodes(_buffers(minari.data_collector.EpisodeBuffer, histories, observed.dtype))
        storage.update_episode_metadata(_origins(histories))
    return path


def _buffers(buffer: type, histories: Histories, obs_dtype: np.dtype) -> Iterator[Any]:
    """Minari's episodes, lifetime by lifetime; observations and actions in the dtypes that Gymnasium's spaces have."""
    arrays = histories.arrays
    for (n, e), length in np.ndenumerate(histories.length):
        steps = np.s_[n, e, :length]
        obs = np.concatenate([arrays["obs"][steps], arrays["final_obs"][n, e][None]]).astype(obs_dtype)
        values = {theirs: arrays[ours][steps] for ours, theirs in NAMES.items()}
        yield buffer(observations=obs, infos={}, **values | {"actions": values["actions"].astype(np.int64)})


def _origins(histories: Histories) -> Iterator[dict]:
    """Of each of Minari's episodes: its lifetime, episode, task's id and the task itself."""
    tasks = histories.task_values
    for n, task in enumerate(histories.task):
        values = {f"task/{name}": column[task].tolist() for name, column in tasks.columns.items()}
        for episode in histories.episode.tolist():
            yield {"lifetime": n, "episode": episode, "task_id": int(tasks.ids[task]), **values}


def from_minari(id: str, folder: str | Path | None) -> tuple[Path, EnvSpec, Tasks, np.ndarray, dict, np.ndarray, dict]:
    """The dataset's folder, and what `Histories` are made of: spec, tasks, task, arrays, episode, about."""
    minari, path = _minari(), _place(id, folder)
    if not (path / "data").is_dir():
        raise FileNotFoundError(f"{path} holds no Minari dataset; write one with histories.to_minari({id!r}).")
    if not (path / "adkit").is_dir():
        raise artefacts.ArtefactError(f"{path} says nothing of lifetimes and tasks: it was not written by histories.to_minari.")
    files, about = artefacts.load(path / "adkit", KIND)
    try:
        spec = EnvSpec(**about.pop("spec"))
        task, episode, ids = (files.pop(f"{name}.npy") for name in ("task", "episode", "task_ids"))
        kept = lambda prefix: {k[len(prefix) : -len(".npy")]: v for k, v in files.items() if k.startswith(prefix)}
        dataset, expected = minari.MinariDataset(str(path / "data")), (len(task), len(episode))
        if dataset.total_episodes != np.prod(expected):
            raise ValueError(f"{dataset.total_episodes} episodes are not {expected[0]} lifetimes of {expected[1]}")
        arrays = spec.empty(*expected)
        for at, of in zip(np.ndindex(expected), dataset.iterate_episodes(), strict=True):
            steps = *at, np.s_[: len(of.rewards)]
            arrays["obs"][steps] = _exactly(of.observations[:-1], spec.obs_dtype)
            arrays["final_obs"][at] = _exactly(of.observations[-1], spec.obs_dtype)
            for ours, theirs in NAMES.items():
                arrays[ours][steps] = _exactly(getattr(of, theirs), arrays[ours].dtype)
        return path, spec, Tasks(kept("tasks."), ids), task, arrays | kept("label."), episode, about
    except (KeyError, TypeError, ValueError, IndexError, AssertionError, OSError, RuntimeError) as error:
        raise artefacts.ArtefactError(f"{path} does not hold the histories it should: {error}.") from error


def _exactly(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The same numbers in another dtype; ValueError where it cannot hold them."""
    cast = np.asarray(values).astype(dtype)
    if not np.array_equal(cast, values, equal_nan=cast.dtype.kind == "f"):
        raise ValueError(f"{values.dtype} numbers that are no {np.dtype(dtype)}")
    return cast


def _minari() -> ModuleType:
    """Minari, which can read and write HDF5, its default format."""
    extra("h5py", "interchange", "Minari's format")
    return extra("minari", "interchange", "to_minari")


def _place(id: str, folder: str | Path | None) -> Path:
    """The folder of a Minari dataset; ValueError unless `id` is one."""
    minari = _minari()
    try:
        minari.dataset.minari_dataset.parse_dataset_id(id)
    except (ValueError, TypeError):
        raise ValueError(f"id={id!r}; Minari's datasets are called namespace/name-v0, such as dark-room/q-learning-v0.") from None
    return Path(folder, id) if folder is not None else minari.storage.datasets_root_dir.get_dataset_path(id)


def to_parquet(histories: Histories, path: str | Path) -> Path:
    """What `Histories.to_parquet` does."""
    pa, parquet = (extra(name, "interchange", "to_parquet") for name in ("pyarrow", "pyarrow.parquet"))
    path, writer = Path(path), None
    about = json.dumps({"spec": asdict(histories.spec), "about": histories.about}, allow_nan=False)
    lifetimes = max(1, ROWS // (histories.n_episodes * histories.spec.horizon))
    with _whole(path) as temporary:
        try:
            for start in range(0, max(1, len(histories)), lifetimes):
                columns = {name: _column(pa, values) for name, values in _rows(histories, start, start + lifetimes).items()}
                table = pa.table(columns).replace_schema_metadata({"adkit": about})
                writer = writer or parquet.ParquetWriter(temporary, table.schema)
                writer.write_table(table)
        finally:
            if writer:
                writer.close()
    return path


def _rows(histories: Histories, start: int, stop: int) -> dict[str, np.ndarray]:
    """The columns of the transitions of lifetimes start to stop."""
    arrays = {name: values[start:stop] for name, values in histories.arrays.items() if name in TRANSITIONS}
    length, tasks = histories.length[start:stop], histories.task_values
    n, e, t = np.nonzero(np.arange(histories.spec.horizon) < length[..., None])
    after = np.concatenate([arrays["obs"][:, :, 1:], np.zeros_like(arrays["obs"][:, :, :1])], axis=2)
    after[(*np.indices(length.shape), length - 1)] = arrays.pop("final_obs")
    task = histories.task[start:stop][n]
    columns = {"task": tasks.ids[task], **{f"task_{name}": values[task] for name, values in tasks.columns.items()}}
    columns |= {"lifetime": n + start, "episode": histories.episode[e], "step": t}
    return columns | {name: arrays[name][n, e, t] for name in ("obs", *NAMES)} | {"next_obs": after[n, e, t]}


def _column(pa: Any, values: np.ndarray) -> Any:
    """Numbers as they are, vectors as lists of fixed length."""
    flat = pa.array(values.reshape(-1))
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A path to write a file or a folder to, which then takes the place `path`; if writing fails, nothing is left.

    Raises FileExistsError where there is something already.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already; write under another name, or delete it first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary / path.name
        if path.exists():
            raise FileExistsError(f"{path} was written by another process meanwhile; that one was kept.")
        os.rename(temporary / path.name, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
