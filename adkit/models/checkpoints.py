"""Checkpoints of `distill`: weights, optimizers and log, from which the same call resumes."""

from __future__ import annotations

import hashlib
from itertools import product
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from adkit import folders, store
from adkit.histories import Histories
from adkit.models.network import WRONG, pack_tensors
from adkit.models.transformer import CausalTransformer

KIND = "distillation checkpoint"
STATE = ("momentum_buffer",), ("step", "exp_avg", "exp_avg_sq")  # of Muon's parameters, of AdamW's
RENAMED = {"first": "from_start", "opening": "first_action_weight"}  # settings since version 0.1


def save(
    checkpoint, settings: dict, model: CausalTransformer, optimizers: list, log: list[dict]
) -> None:
    """Write weights, optimizers and log to the folder `checkpoint`, atomically."""
    files = {"weights.safetensors": pack_tensors(model.state_dict())}
    for i, optimizer in enumerate(optimizers):
        flat = {
            f"{index}.{key}": torch.as_tensor(value)
            for index, entry in optimizer.state_dict()["state"].items()
            for key, value in entry.items()
        }
        files[f"optimizer{i}.safetensors"] = pack_tensors(flat)
    about = {"settings": settings, "log": log}
    store.save(checkpoint, KIND, files, about, overwrite=True)


def resume(checkpoint, settings: dict, model: CausalTransformer, optimizers: list) -> list[dict]:
    """Restore weights and optimizers and return the log so far, [] if there is no checkpoint.

    ArtefactError if it was made with other settings, or is damaged.
    """
    folders.recover(Path(checkpoint))
    if folders.vacant(Path(checkpoint)):
        return []
    files, about = store.load(checkpoint, KIND)
    settings, found = store.as_json(settings), _renamed(about.get("settings"))
    if differ := [name for name in settings if found.get(name) != settings[name]]:
        raise store.ArtefactError(
            f"{checkpoint} was made with other {', '.join(differ)}; use another folder, or the "
            "same arguments"
        )
    try:
        log = about["log"]
        _check_log(log, settings["steps"])
        blobs = [files[f"optimizer{i}.safetensors"] for i in (0, 1)]
        states = list(map(_state, optimizers, STATE, blobs))
        model.load_state_dict(safetensors.torch.load(files["weights.safetensors"]))
    except WRONG as error:
        raise store.ArtefactError(
            f"{checkpoint} holds no complete checkpoint: {error}; start again in another folder"
        ) from None
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return log


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
    if not 0 < len(log) <= steps or found != list(range(1, len(log) + 1)):
        raise ValueError(f"its log is not that of the first 1 to {steps} steps: {str(log)[:100]}")


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
