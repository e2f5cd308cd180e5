"""Checkpoints of a training: weights, optimizers and log, from which the same call goes on to the same weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from adkit import artefacts, places, weights
from adkit.histories import Histories
from adkit.models.transformer import CausalTransformer
from adkit.npy import pieces

KIND = "distillation checkpoint"
RENAMED = {"first": "from_start", "opening": "first_action_weight"}  # settings of version 0.1


def resume(checkpoint, settings: dict, model: CausalTransformer, optimizers: list) -> list[dict]:
    """Restore weights and optimizers and return the log so far; an empty log if there is no checkpoint."""
    if checkpoint is None:
        return []
    places.recover(Path(checkpoint))
    if places.vacant(Path(checkpoint)):
        return []
    files, about = artefacts.load(checkpoint, KIND)
    settings = artefacts.as_json(settings)
    found, log = _renamed(about.get("settings")), about.get("log")
    if found != settings:
        both = found.keys() | settings.keys()
        differ = sorted(name for name in both if found.get(name) != settings.get(name))
        raise artefacts.ArtefactError(
            f"{checkpoint} was made with other {', '.join(differ)}; use another folder or the same arguments."
        )
    try:
        _check_log(log, settings["steps"])
        network = weights.unpack(files["weights.safetensors"])
        weights.check(network, model.state_dict())
        states = [
            _state(optimizer, files[f"optimizer{i}.safetensors"])
            for i, optimizer in enumerate(optimizers)
        ]
    except weights.WRONG as error:
        raise artefacts.ArtefactError(
            f"{checkpoint} holds no complete checkpoint: {error}. Begin anew in another folder."
        ) from None
    model.load_state_dict(network)  # only now that all of it is known to fit
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict(
            {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
        )
    return log


def _renamed(found: dict) -> dict:
    """Return the settings of a checkpoint under today's names; version 0.1 had others."""
    if not isinstance(found, dict) or "outlook" not in found:
        return found if isinstance(found, dict) else {}
    found = {RENAMED.get(name, name): value for name, value in found.items()}
    try:
        label, _, mean, deviation = found.pop("outlook") or (None, None, 0.0, 1.0)
        found["model"] = CausalTransformer.modern(found["model"])
    except weights.WRONG:
        return {}
    return found | {"warm_up": 50, "predict": label, "mean": mean, "deviation": deviation}


def _check_log(log: list[dict], steps: int) -> None:
    """Raise ValueError unless there is a row of numbers for each of the first steps."""
    number = lambda value: type(value) in (int, float)
    if not (isinstance(log, list) and 0 < len(log) <= steps):
        raise ValueError(f"its log is no list of 1 to {steps} steps")
    for i, row in enumerate(log, 1):
        whole = (
            isinstance(row, dict)
            and {"step", "loss", "seconds"} <= row.keys()
            and all(map(number, row.values()))
        )
        if not whole or row["step"] != i:
            raise ValueError(f"row {i} of its log is {str(row)[:100]}")


def _state(optimizer: torch.optim.Optimizer, blob: bytes) -> dict[int, dict[str, torch.Tensor]]:
    """An optimizer's state by parameter, from a checkpoint: ValueError unless it is all of it."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    wanted = {}
    for i, parameter in enumerate(parameters):
        if not parameter.requires_grad:  # left alone, as an eye that was taught before
            continue
        shapes = {"momentum_buffer": parameter}
        if isinstance(optimizer, torch.optim.AdamW):
            shapes = {"step": torch.tensor(0.0), "exp_avg": parameter, "exp_avg_sq": parameter}
        wanted |= {f"{i}.{key}": value for key, value in shapes.items()}
    tensors = weights.unpack(blob)
    weights.check(tensors, wanted)
    state: dict[int, dict] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    return state


def save(
    checkpoint, settings: dict, model: CausalTransformer, optimizers: list, log: list[dict]
) -> None:
    """Write weights, optimizers and log to the folder `checkpoint`, atomically."""
    files = {"weights.safetensors": weights.pack(model.state_dict())}
    for i, optimizer in enumerate(optimizers):
        state = optimizer.state_dict()["state"]
        flat = {
            f"{index}.{key}": torch.as_tensor(value)
            for index, entry in state.items()
            for key, value in entry.items()
        }
        files[f"optimizer{i}.safetensors"] = weights.pack(flat)
    artefacts.save(
        checkpoint,
        KIND,
        files,
        {"settings": settings, "log": log},
        overwrite=True,
    )


def fingerprint(histories: Histories, predict: str | None) -> str:
    """Return a hash of the arrays that training reads."""
    digest = hashlib.sha256()
    labels = [name for name in histories.labels if name != predict]
    for values in (
        histories.task,
        *(histories.arrays[name] for name in sorted(histories.arrays) if name not in labels),
    ):
        for piece in pieces(values):
            digest.update(np.ascontiguousarray(piece))
    return digest.hexdigest()
