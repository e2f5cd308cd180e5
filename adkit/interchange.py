"""Histories for other people's tools: Minari datasets, there and back, and Parquet files. Needs the extra `interchange`.

Minari keeps transitions, and has no place for lifetimes and tasks. Beside its own `data` a dataset has therefore a folder `adkit`
that says which lifetime, task and episode each of Minari's episodes is; each of these also carries that as metadata.
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
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from adkit import artefacts, places
from adkit._lazy import extra
from adkit.envs.gymnasium import spaces_of
from adkit.npy import let_go
from adkit.protocols import EnvSpec, Tasks

if TYPE_CHECKING:
    from adkit.histories import Histories

KIND = "histories in Minari"
NAMES = {
    "action": "actions",
    "reward": "rewards",
    "terminated": "terminations",
    "truncated": "truncations",
}  # ours: Minari's
STORED = {"obs": "observations"} | NAMES
TRANSITIONS = ("obs", "final_obs", *NAMES)
ROWS = 1_000_000  # transitions that are in memory at once, if a lifetime is not longer
EPISODE = 2**15  # bytes that an episode takes in HDF5 beside its numbers, at most; 15,000 measured
AT_MOST = 1000  # times its bytes in HDF5 that an episode may take in memory, where it is padded to its horizon


def to_minari(histories: Histories, id: str, folder: str | Path | None) -> Path:
    """What `Histories.to_minari` does."""
    minari, path = _minari(), _place(id, folder)
    tasks, (observed, acted) = histories.task_values, spaces_of(histories.spec)
    files = {
        "task.npy": histories.task,
        "episode.npy": histories.episode,
        "task_ids.npy": tasks.ids,
    }
    files |= {f"tasks.{name}.npy": values for name, values in tasks.columns.items()}
    files |= {
        f"label.{name}.npy": values
        for name, values in histories.arrays.items()
        if name not in TRANSITIONS
    }
    with _whole(path) as temporary:
        _reserve(
            temporary.parent, _size(histories) + sum(values.nbytes for values in files.values())
        )
        artefacts.save(
            temporary / "adkit", KIND, files, {"spec": asdict(histories.spec), **histories.about}
        )
        storage = minari.dataset.minari_storage.MinariStorage.new(
            temporary / "data", observed, acted, data_format="hdf5"
        )
        about = {
            "dataset_id": id,
            "minari_version": minari.__version__,
            "algorithm_name": str(histories.about.get("agent", "")),
        }
        storage.update_metadata(
            about
            | {"description": f"Learning histories in {histories.spec.name}, written by adkit."}
        )
        storage.update_episodes(
            _buffers(minari.data_collector.EpisodeBuffer, histories, observed.dtype)
        )
        storage.update_episode_metadata(_origins(histories))
    return path


def _buffers(buffer: type, histories: Histories, obs_dtype: np.dtype) -> Iterator[Any]:
    """Minari's episodes, lifetime by lifetime; observations and actions in the dtypes that Gymnasium's spaces have."""
    for _, arrays in _parts(histories):
        for (n, e), length in np.ndenumerate(arrays["length"]):
            steps = np.s_[n, e, :length]
            obs = np.concatenate([arrays["obs"][steps], arrays["final_obs"][n, e][None]]).astype(
                obs_dtype
            )
            values = {theirs: arrays[ours][steps] for ours, theirs in NAMES.items()}
            yield buffer(
                observations=obs,
                infos={},
                **values | {"actions": values["actions"].astype(np.int64)},
            )


def _parts(histories: Histories) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Some lifetimes at a time: the first one's number, and what they did. Of a map, what has been read is let go."""
    some = max(1, ROWS // (histories.n_episodes * histories.spec.horizon))
    for start in range(0, max(1, len(histories)), some):
        arrays = {name: histories.arrays[name][start : start + some] for name in TRANSITIONS}
        yield start, arrays | {"length": (arrays["terminated"] | arrays["truncated"]).argmax(2) + 1}
        for values in arrays.values():
            let_go(values)


def _origins(histories: Histories) -> Iterator[dict]:
    """Of each of Minari's episodes: its lifetime, episode, task's id and the task itself."""
    tasks = histories.task_values
    for n, task in enumerate(histories.task):
        values = {f"task/{name}": column[task].tolist() for name, column in tasks.columns.items()}
        for episode in histories.episode.tolist():
            yield {"lifetime": n, "episode": episode, "task_id": int(tasks.ids[task]), **values}


def _size(histories: Histories) -> int:
    """Bytes that the histories will take in HDF5, at most; up to half of a chunk may be empty."""
    numbers = (math.prod(histories.spec.obs_shape) + 2) * sum(
        int(arrays["length"].sum()) for _, arrays in _parts(histories)
    )
    episode = EPISODE + sum(values[:1].nbytes for values in histories.task_values.columns.values())
    return 2 * 8 * numbers + episode * (1 + len(histories) * histories.n_episodes)


def _reserve(folder: Path, size: int) -> None:
    """OSError unless a file of this size can be written there: HDF5 (2.0) crashes the process that closes one on a full disk."""
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if hasattr(os, "posix_fallocate"):  # which knows of quotas, too
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)


def from_minari(
    id: str, folder: str | Path | None
) -> tuple[Path, EnvSpec, Tasks, np.ndarray, dict, np.ndarray, dict]:
    """The dataset's folder, and what `Histories` are made of: spec, tasks, task, arrays, episode, about."""
    path = _place(id, folder)
    if not (path / "data").is_dir():
        raise FileNotFoundError(
            f"{path} holds no Minari dataset; write one with histories.to_minari({id!r})."
        )
    if not (path / "adkit").is_dir():
        raise artefacts.ArtefactError(
            f"{path} says nothing of lifetimes and tasks: it was not written by histories.to_minari."
        )
    files, about = artefacts.load(path / "adkit", KIND)
    try:
        spec = EnvSpec(**about.pop("spec"))
        task, episode, ids = (files.pop(f"{name}.npy") for name in ("task", "episode", "task_ids"))
        kept = lambda prefix: {
            k[len(prefix) : -len(".npy")]: v for k, v in files.items() if k.startswith(prefix)
        }
        if odd := [name for name, values in files.items() if not isinstance(values, np.ndarray)]:
            raise ValueError(f"{odd[0]!r} is no array")
        arrays = _read(path / "data" / "main_data.hdf5", spec, len(task), len(episode))
        return path, spec, Tasks(kept("tasks."), ids), task, arrays | kept("label."), episode, about
    except (
        KeyError,
        TypeError,
        ValueError,
        OSError,
        RuntimeError,
        MemoryError,
        OverflowError,
    ) as error:
        raise artefacts.ArtefactError(
            f"{path} does not hold the histories it should: {error}."
        ) from error


def _read(path: Path, spec: EnvSpec, lifetimes: int, episodes: int) -> dict[str, np.ndarray]:
    """The transitions in Minari's file. It may come from a stranger: no memory is taken for what is not there.

    Not by Minari itself, which makes the environment that a dataset's metadata names, by calling whatever they say.
    """
    import h5py

    size = left = path.stat().st_size
    per_step = math.prod(spec.obs_shape) * spec.obs_dtype.itemsize + 7
    if not path.is_file() or lifetimes * episodes * spec.horizon * per_step > AT_MOST * size:
        raise ValueError(
            f"{size:,} bytes are not {lifetimes} lifetimes of {episodes} episodes of up to {spec.horizon} steps"
        )
    with h5py.File(path) as file:
        if len(file) != lifetimes * episodes:
            raise ValueError(f"{len(file)} episodes are not {lifetimes} lifetimes of {episodes}")
        arrays = spec.empty(lifetimes, episodes)
        for i, at in enumerate(np.ndindex(lifetimes, episodes)):
            found = {ours: _stored(file, f"episode_{i}", theirs) for ours, theirs in STORED.items()}
            length, left = (
                len(found["reward"]),
                left - sum(values.nbytes for values in found.values()),
            )
            shapes = dict.fromkeys(NAMES, (length,)) | {"obs": (length + 1, *spec.obs_shape)}
            if (
                {name: values.shape for name, values in found.items()} != shapes
                or length > spec.horizon
                or left < 0
            ):
                raise ValueError(
                    f"episode {i} has {length} steps, it says, and other arrays do not, or the file is too small"
                )
            obs, steps = _exactly(found.pop("obs")[()], spec.obs_dtype), (*at, np.s_[:length])
            arrays["obs"][steps], arrays["final_obs"][at] = obs[:-1], obs[-1]
            for name, values in found.items():
                arrays[name][steps] = _exactly(values[()], arrays[name].dtype)
    return arrays


def _stored(place: Any, *names: str) -> Any:
    """Numbers that are stored in this very file, as they are: no link to another one, nor anything that grows when it is read."""
    import h5py

    for name in names:
        if (
            not isinstance(place, h5py.Group)
            or place.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD
        ):
            raise ValueError(f"{'/'.join(names)} is kept elsewhere")
        place = place[name]
    if not isinstance(place, h5py.Dataset) or place.dtype.kind not in "biuf":
        raise ValueError(f"{'/'.join(names)} holds no numbers")
    if place.is_virtual or place.external or place.id.get_create_plist().get_nfilters():
        raise ValueError(
            f"{'/'.join(names)} is compressed, or kept elsewhere; to_minari writes plain numbers"
        )
    return place


def _exactly(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The same numbers in another dtype; ValueError where it cannot hold them."""
    with np.errstate(invalid="ignore", over="ignore"):
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
        raise ValueError(
            f"id={id!r}; Minari's datasets are called namespace/name-v0, such as dark-room/q-learning-v0."
        ) from None
    return (
        Path(folder, id)
        if folder is not None
        else minari.storage.datasets_root_dir.get_dataset_path(id)
    )


def to_parquet(histories: Histories, path: str | Path) -> Path:
    """What `Histories.to_parquet` does."""
    pa, parquet = (
        extra(name, "interchange", "to_parquet") for name in ("pyarrow", "pyarrow.parquet")
    )
    path, writer = Path(path), None
    about = json.dumps({"spec": asdict(histories.spec), "about": histories.about}, allow_nan=False)
    with _whole(path) as temporary:
        try:
            for start, arrays in _parts(histories):
                columns = {
                    name: _column(pa, values)
                    for name, values in _rows(histories, start, arrays).items()
                }
                table = pa.table(columns).replace_schema_metadata({"adkit": about})
                writer = writer or parquet.ParquetWriter(temporary, table.schema)
                writer.write_table(table)
        finally:
            if writer:
                writer.close()
    return path


def _rows(histories: Histories, start: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of the transitions of some lifetimes, number `start` the first."""
    length, tasks = arrays["length"], histories.task_values
    n, e, t = np.nonzero(np.arange(histories.spec.horizon) < length[..., None])
    after = np.concatenate(
        [arrays["obs"][:, :, 1:], np.zeros_like(arrays["obs"][:, :, :1])], axis=2
    )
    after[(*np.indices(length.shape), length - 1)] = arrays["final_obs"]
    task = histories.task[start + n]
    columns = {
        "task": tasks.ids[task],
        **{f"task_{name}": values[task] for name, values in tasks.columns.items()},
    }
    columns |= {"lifetime": n + start, "episode": histories.episode[e], "step": t}
    return (
        columns
        | {name: arrays[name][n, e, t] for name in ("obs", *NAMES)}
        | {"next_obs": after[n, e, t]}
    )


def _column(pa: Any, values: np.ndarray) -> Any:
    """Numbers as they are, vectors as lists of fixed length."""
    flat = pa.array(values.reshape(-1))
    return (
        flat
        if values.ndim == 1
        else pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))
    )


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A path to write a file or a folder to, which then takes the place `path`; whatever goes wrong, nothing is left, or, of a
    process that was killed, only until the next one writes there.

    Raises FileExistsError where there is something, also if it came meanwhile, and OSError where there is no room.
    """
    try:
        if os.path.lexists(path):
            raise FileExistsError(
                f"{path} is there already; write under another name, or delete it first."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = places.beside(path)
        try:
            new = temporary / path.name
            yield new
            for file in (new, *new.rglob("*")):
                if file.is_file():
                    with open(file, "rb") as written:
                        os.fsync(written.fileno())
            with places.alone(path.parent):
                _put(new, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except FileExistsError:
        raise
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        text = f"{path} was not written ({why}), and nothing is left of it. Make room, or write elsewhere"
        raise OSError(error.errno or errno.EIO, text) from error


def _put(new: Path, path: Path) -> None:
    """Not over anything: unlike a rename, a link to a file fails where some other program has just put one."""
    try:
        if os.path.lexists(path):
            raise FileExistsError
        os.link(new, path)
    except FileExistsError:
        raise FileExistsError(
            f"{path} was written by another process meanwhile; that one was kept."
        ) from None
    except OSError:  # a folder, or a file system without links
        os.rename(new, path)
