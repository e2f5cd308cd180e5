"""Checkpoints of `distill`: weights, optimizers and log, from which the same call resumes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from adkit import folders, store
from adkit.histories import Histories
from adkit.models import weights
from adkit.models.transformer import CausalTransformer
from adkit.store import pieces

KIND = "distillation checkpoint"
RENAMED = {"first": "from_start", "opening": "first_action_weight"}  # settings since version 0.1


def save(
    checkpoint, settings: dict, model: CausalTransformer, optimizers: list, log: list[dict]
) -> None:
    """Write weights, optimizers and log to the folder `checkpoint`, atomically."""
    files = {"weights.safetensors": weights.pack(model.state_dict())}
    for i, optimizer in enumerate(optimizers):
        flat = {
            f"{index}.{key}": torch.as_tensor(value)
            for index, entry in optimizer.state_dict()["state"].items()
            for key, value in entry.items()
        }
        files[f"optimizer{i}.safetensors"] = weights.pack(flat)
    about = {"settings": settings, "log": log}
    store.save(checkpoint, KIND, files, about, overwrite=True)


def resume(checkpoint, settings: dict, model: CausalTransformer, optimizers: list) -> list[dict]:
    """Restore weights and optimizers and return the log so far, [] if there is no checkpoint.

    ArtefactError if it was made with other settings, or is damaged; the model is then unchanged.
    """
    if checkpoint is None:
        return []
    folders.recover(Path(checkpoint))
    if folders.vacant(Path(checkpoint)):
        return []
    files, about = store.load(checkpoint, KIND)
    settings, found = store.as_json(settings), _renamed(about.get("settings"))
    if found != settings:
        both = found.keys() | settings.keys()
        differ = sorted(name for name in both if found.get(name) != settings.get(name))
        raise store.ArtefactError(
            f"{checkpoint} was made with other {', '.join(differ)}; use another folder, or the "
            "same arguments"
        )
    try:
        log = _checked(about.get("log"), settings["steps"])
        network = weights.unpack(files["weights.safetensors"])
        weights.check(network, model.state_dict())
        states = [weights.unpack(files[f"optimizer{i}.safetensors"]) for i in (0, 1)]
        for optimizer, state in zip(optimizers, states, strict=True):
            weights.check(state, _expected_state(optimizer))
    except weights.WRONG as error:
        raise store.ArtefactError(
            f"{checkpoint} holds no complete checkpoint: {error}; start again in another folder"
        ) from None
    model.load_state_dict(network)
    for optimizer, state in zip(optimizers, states, strict=True):
        entries: dict[int, dict] = {}
        for name, value in state.items():
            index, key = name.split(".", 1)
            entries.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict(optimizer.state_dict() | {"state": entries})
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
    except weights.WRONG:
        return {}


def _checked(log: list[dict], steps: int) -> list[dict]:
    """Return the log; ValueError unless it has a row of numbers for each of the first steps."""
    if not (isinstance(log, list) and 0 < len(log) <= steps):
        raise ValueError(f"its log has no 1 to {steps} steps")
    for i, row in enumerate(log, 1):
        numbers = all(type(value) in (int, float) for value in row.values())
        if not (numbers and {"step", "loss", "seconds"} <= row.keys() and row["step"] == i):
            raise ValueError(f"row {i} of its log is {str(row)[:100]}")
    return log


def _expected_state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return tensors like those of an optimizer's state after a step."""
    expected = {}
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    for i, parameter in enumerate(parameters):
        if not parameter.requires_grad:  # a frozen encoder
            continue
        if isinstance(optimizer, torch.optim.AdamW):
            expected |= {f"{i}.exp_avg": parameter, f"{i}.exp_avg_sq": parameter}
            expected[f"{i}.step"] = torch.tensor(0.0)
        else:
            expected[f"{i}.momentum_buffer"] = parameter
    return expected


def fingerprint(histories: Histories, predict: str | None) -> str:
    """Return a hash of the arrays that training reads."""
    digest = hashlib.sha256()
    unread = [name for name in histories.labels if name != predict]
    read = [histories.arrays[name] for name in sorted(histories.arrays) if name not in unread]
    for values in (histories.task, *read):
        for piece in pieces(values):
            digest.update(np.ascontiguousarray(piece))
    return digest.hexdigest()
