"""Checkpoints of `distill`: weights, optimizers and log, from which the same call resumes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from filelock import FileLock, Timeout

from adkit import folders, store
from adkit.histories import Histories
from adkit.models.network import WRONG, pack_tensors
from adkit.models.training import Processes
from adkit.models.transformer import CausalTransformer
from adkit.sharding import digest

KIND = "distillation checkpoint"
STATE = ("momentum_buffer",), ("step", "exp_avg", "exp_avg_sq")  # of Muon's parameters, of AdamW's
RENAMED = {"first": "from_start", "opening": "first_action_weight"}  # settings since version 0.1


@dataclass(frozen=True)
class Checkpoint:
    """The folder `path` of one call of `distill`: initial weights at first, later newer ones."""

    path: Path
    settings: dict
    histories: Histories
    model: CausalTransformer
    optimizers: list
    team: Processes

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder for a `with` block; ValueError if another model trains in it now."""
        with ExitStack() as held:
            if self.team.number == 0:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    lock = FileLock(self.path.parent / f".{self.path.name}.lock", timeout=0)
                    held.enter_context(lock)
                except Timeout:
                    says = f"another model trains in {self.path}; use another folder"
                    raise ValueError(says) from None
            yield

    def save(self, log: list[dict]) -> None:
        """Write weights, optimizers and log, atomically; all processes wait for it."""
        if self.team.number == 0:
            files = {"weights.safetensors": pack_tensors(self.model.state_dict())}
            for i, optimizer in enumerate(self.optimizers):
                flat = {
                    f"{index}.{key}": torch.as_tensor(value)
                    for index, entry in optimizer.state_dict()["state"].items()
                    for key, value in entry.items()
                }
                files[f"optimizer{i}.safetensors"] = pack_tensors(flat)
            about = {"settings": self._asked, "log": log, "initial": self.model.initial}
            store.save(self.path, KIND, files, about, overwrite=True)
        self.team.wait()

    def resume(self) -> list[dict]:
        """Restore weights and optimizers and return the log so far, [] at the beginning.

        The first call saves the initial weights. ArtefactError if the checkpoint was made with
        other settings or from other weights, or is damaged.
        """
        folders.recover(self.path)
        if folders.vacant(self.path):
            log = []
            self.model.initial = digest(self.model.state_dict())
        else:
            log = self._restored()
        self.team.check_equal(len(log), self.path)
        if not log:
            self.save(log)
        return log

    def _restored(self) -> list[dict]:
        files, about = store.load(self.path, KIND, at_most=lambda _: 4 * self.model.size + 2**20)
        asked, found = store.as_json(self._asked), _renamed(about.get("settings"))
        differ = [name for name in asked if found.get(name) != asked[name]]
        blob, initial = files.get("weights.safetensors", b""), about.get("initial")
        # this model was begun there, also if it was interrupted, or it holds what is kept there
        mine = [getattr(self.model, "initial", None), digest(self.model.state_dict())]
        if initial and initial not in mine and pack_tensors(self.model.state_dict()) != blob:
            differ.append("weights to begin with")
        if differ:
            raise store.ArtefactError(
                f"{self.path} was made with other {', '.join(differ)}; use another folder, or the "
                "same arguments"
            )
        try:
            log = about["log"]
            _check_log(log, asked["steps"])
            blobs = [files[f"optimizer{i}.safetensors"] for i in (0, 1)] if log else []
            states = list(map(_state, self.optimizers, STATE, blobs))
            self.model.load_state_dict(safetensors.torch.load(blob))
        except WRONG as error:
            raise store.ArtefactError(
                f"{self.path} holds no complete checkpoint: {error}; start again in another folder"
            ) from None
        for optimizer, state in zip(self.optimizers, states, strict=False):
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        self.model.initial = initial
        return log

    @cached_property
    def _asked(self) -> dict:
        return self.settings | {"histories": fingerprint(self.histories, self.settings["predict"])}


def _renamed(found) -> dict:
    """Return the settings of a checkpoint under today's names, {} if they are none."""
    try:
        if "outlook" in found:  # version 0.1
            found = {RENAMED.get(name, name): value for name, value in found.items()}
            label, _, mean, deviation = found.pop("outlook") or (None, None, 0.0, 1.0)
            found |= {"warm_up": 50, "predict": label, "mean": mean, "deviation": deviation}
            found["model"] = CausalTransformer.modern(found["model"])
        return dict(found)
    except WRONG:
        return {}


def _check_log(log, steps: int) -> None:
    """Raise ValueError unless the log has a row for each of the first 1 to `steps` steps."""
    numbers = lambda row: all(isinstance(row[name], int | float) for name in ("loss", "seconds"))
    found = [row["step"] for row in log if numbers(row)]
    if len(log) > steps or found != list(range(1, len(log) + 1)):
        raise ValueError(f"its log is not that of the first 0 to {steps} steps: {str(log)[:100]}")


def _state(optimizer: torch.optim.Optimizer, names: tuple[str, ...], blob: bytes) -> dict:
    """Return the saved state of each parameter; ValueError unless it is complete."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    trained = [i for i, parameter in enumerate(parameters) if parameter.requires_grad]
    saved = safetensors.torch.load(blob)
    state = {i: {name: saved.pop(f"{i}.{name}") for name in names} for i in trained}
    for i, name in product(trained, names):
        if state[i][name].shape != (() if name == "step" else parameters[i].shape):
            raise ValueError(f"tensor '{i}.{name}' of an optimizer is of another shape")
    return state


def fingerprint(histories: Histories, predict: str | None) -> str:
    """Return a hash of the arrays that training reads."""
    digest = hashlib.sha256()
    read = {*histories.arrays} - {*histories.labels} | ({predict} if predict else set())
    for values in (histories.task, *(histories.arrays[name] for name in sorted(read))):
        for piece in store.pieces(values):
            digest.update(np.ascontiguousarray(piece))
    return digest.hexdigest()
