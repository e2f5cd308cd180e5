"""Histories for other people's tools: Minari datasets, and Parquet files.

Minari keeps transitions, and has no place for lifetimes and tasks. Beside its own `data`, a dataset
has therefore a folder `adkit` with the histories themselves, as `Histories.save` writes them; each
of Minari's episodes carries its lifetime, task and episode as metadata. Needs the extra
`interchange`.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from adkit import folders, store
from adkit._lazy import extra
from adkit.histories import Histories
from adkit.protocols import EnvSpec

NAMES = {"action": "actions", "reward": "rewards"}  # ours: Minari's
NAMES |= {"terminated": "terminations", "truncated": "truncations"}
TRANSITIONS = ("obs", "final_obs", *NAMES)
ROWS = 1_000_000  # transitions that are in memory at once, if a lifetime is not longer
EPISODE = 2**15  # bytes, at most, of an episode in HDF5 beside its numbers; 15,000 measured


# ---- to Minari ----


def to_minari(histories: Histories, id: str, folder: str | Path | None = None) -> Path:
    """Write a Minari dataset, one of its episodes for each of ours, whole or not at all.

    `minari.load_dataset(id)` reads it; `id` is Minari's "namespace/name-v0". `folder` holds
    Minari's datasets, by default where Minari looks. Returns the dataset's own folder. Raises
    FileExistsError where there is a dataset of this id.
    """
    path, spaces = _place(id, folder), _spaces(histories.spec)
    import minari

    with _whole(path) as temporary:
        histories.save(temporary / "adkit")
        _reserve(temporary.parent, histories)
        new = minari.dataset.minari_storage.MinariStorage.new
        storage = new(temporary / "data", *spaces, data_format="hdf5")
        about = {"dataset_id": id, "minari_version": minari.__version__}
        about["algorithm_name"] = str(histories.about.get("agent", ""))
        about["description"] = f"Learning histories in {histories.spec.name}, written by adkit."
        storage.update_metadata(about)
        buffer = minari.data_collector.EpisodeBuffer
        storage.update_episodes(_buffers(buffer, histories, spaces[0].dtype))
        storage.update_episode_metadata(_origins(histories))
    return path


def _spaces(spec: EnvSpec) -> tuple:
    """Return the Gymnasium spaces of the observations and actions that histories hold."""
    from gymnasium import spaces

    if spec.cardinality:
        obs = spaces.MultiDiscrete(spec.cardinality)
    else:
        least, most = (0, 255) if spec.dtype == "uint8" else (-np.inf, np.inf)
        obs = spaces.Box(least, most, spec.shape, spec.obs_dtype.type)
    return obs, spaces.Discrete(spec.n_actions)


def _buffers(buffer: type, histories: Histories, obs_dtype: np.dtype) -> Iterator[Any]:
    """Yield Minari's episodes, lifetime by lifetime, in the dtypes that Gymnasium's spaces have."""
    for _, arrays in _parts(histories):
        for (n, e), length in np.ndenumerate(arrays["length"]):
            steps = np.s_[n, e, :length]
            obs = np.concatenate([arrays["obs"][steps], arrays["final_obs"][n, e][None]])
            values = {theirs: arrays[ours][steps] for ours, theirs in NAMES.items()}
            values["actions"] = values["actions"].astype(np.int64)
            yield buffer(observations=obs.astype(obs_dtype), infos={}, **values)


def _parts(histories: Histories) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield some lifetimes at a time: the first one's number, and what they did."""
    some = max(1, ROWS // (histories.n_episodes * histories.spec.horizon))
    for start in range(0, max(1, len(histories)), some):
        arrays = {name: histories.arrays[name][start : start + some] for name in TRANSITIONS}
        yield start, arrays | {"length": (arrays["terminated"] | arrays["truncated"]).argmax(2) + 1}
        for values in arrays.values():
            store.let_go(values)


def _origins(histories: Histories) -> Iterator[dict]:
    """Yield, for each of Minari's episodes, its lifetime, episode, task's id and the task."""
    tasks = histories.task_values
    for n, task in enumerate(histories.task):
        values = {f"task/{name}": column[task].tolist() for name, column in tasks.columns.items()}
        for episode in histories.episode.tolist():
            yield {"lifetime": n, "episode": episode, "task_id": int(tasks.ids[task]), **values}


def _reserve(folder: Path, histories: Histories) -> None:
    """Raise OSError unless HDF5's file will fit: HDF5 (2.0) crashes when it closes on a full disk.

    Up to half of each of its chunks may be empty.
    """
    steps = sum(int(arrays["length"].sum()) for _, arrays in _parts(histories))
    numbers = (math.prod(histories.spec.obs_shape) + 2) * steps
    episode = EPISODE + sum(values[:1].nbytes for values in histories.task_values.columns.values())
    size = 2 * 8 * numbers + episode * (1 + len(histories) * histories.n_episodes)
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if hasattr(os, "posix_fallocate"):  # which knows of quotas, too
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)


def from_minari(id: str, folder: str | Path | None = None) -> Histories:
    """Read back, equal in every bit, the histories that `to_minari` kept in the dataset."""
    path = _place(id, folder)
    if not (path / "adkit").is_dir():
        raise FileNotFoundError(f"{path} is no dataset written by to_minari(histories, {id!r})")
    return Histories.load(path / "adkit")


def _place(id: str, folder: str | Path | None) -> Path:
    """Return the folder of a Minari dataset; ValueError unless `id` is one."""
    extra("h5py", "interchange", "Minari's format")
    minari = extra("minari", "interchange", "Minari's format")
    minari.dataset.minari_dataset.parse_dataset_id(id)
    if folder is not None:
        return Path(folder, id)
    return minari.storage.datasets_root_dir.get_dataset_path(id)


# ---- to Parquet ----


def to_parquet(histories: Histories, path: str | Path) -> Path:
    """Write one Parquet file, one row per transition, whole or not at all.

    Columns: task (its id) and task_NAME for each of its columns; lifetime, episode, step; obs,
    action, reward, terminated, truncated, next_obs. Vectors are lists of fixed length. The spec
    and `about` are JSON in the file's metadata, "adkit". Raises FileExistsError where there is
    such a file.
    """
    pa = extra("pyarrow", "interchange", "to_parquet")
    parquet = extra("pyarrow.parquet", "interchange", "to_parquet")
    path = Path(path)
    about = json.dumps({"spec": asdict(histories.spec), "about": histories.about}, allow_nan=False)
    tables = (_table(pa, histories, *part) for part in _parts(histories))
    first = next(tables).replace_schema_metadata({"adkit": about})
    with _whole(path) as new, parquet.ParquetWriter(new, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)
    return path


def _table(pa: ModuleType, histories: Histories, start: int, arrays: dict[str, np.ndarray]) -> Any:
    """Return a row per transition of some lifetimes, number `start` the first."""
    length, tasks = arrays["length"], histories.task_values
    n, e, t = np.nonzero(np.arange(histories.spec.horizon) < length[..., None])
    after = np.roll(arrays["obs"], -1, axis=2)
    after[(*np.indices(length.shape), length - 1)] = arrays["final_obs"]
    task = histories.task[start + n]
    columns = {"task": tasks.ids[task]}
    columns |= {f"task_{name}": values[task] for name, values in tasks.columns.items()}
    columns |= {"lifetime": n + start, "episode": histories.episode[e], "step": t}
    columns |= {name: arrays[name][n, e, t] for name in ("obs", *NAMES)}
    columns["next_obs"] = after[n, e, t]
    return pa.table({name: _column(pa, values) for name, values in columns.items()})


def _column(pa: ModuleType, values: np.ndarray) -> Any:
    """Return numbers as they are, vectors as lists of fixed length."""
    flat, size = pa.array(values.reshape(-1)), math.prod(values.shape[1:])
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, size)


# ---- whole or not at all ----


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield a place to write a new file or folder that then becomes `path`, whole or not at all."""
    if os.path.lexists(path):
        raise FileExistsError(f"{path} is there already; write under another name or delete it")
    with folders.new_beside(path) as new:
        yield new
        folders.flush(new)
        with folders.locked(path.parent):
            if os.path.lexists(path):
                raise FileExistsError(f"{path} was written by another process; that one was kept")
            os.rename(new, path)
