"""Algorithm Distillation: predict the source's next action from its own past, across episodes (Laskin et al. 2022, Alg. 1)."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from adkit.histories import Histories
from adkit.models.checkpoints import fingerprint, resume, save
from adkit.models.in_context import InContext
from adkit.models.tokens import (
    by_length,
    episode_lengths,
    opens_episode,
    pad,
    sample_windows,
    tokenize,
)
from adkit.models.training import Processes, ahead, auto_dtype, finite, frame, processes, progress
from adkit.models.transformer import CausalTransformer
from adkit.protocols import Env, Tasks
from adkit.rollout import collect
from adkit.seeds import Rng

if TYPE_CHECKING:
    import pandas as pd

PADDING = 32  # slots: a CPU's softmax takes 32 bfloat16 at a time and the rest one by one, three times as slowly
FLOOR = 0.1  # of the learning rate, to which it falls linearly
PREDICTION_WEIGHT = 0.5  # of the squared error of a predicted label, beside the cross-entropy
CHECKPOINTS = 20  # per training


@dataclass(frozen=True)
class Schedule:
    """Learning rates, and the windows that training sees, over the steps of `distill`."""

    lr: float = 4e-3
    """Of AdamW, which trains embeddings and heads."""
    matrix_lr: float = 0.02
    """Of Muon, which trains the matrices inside the blocks."""
    weight_decay: float = 0.01
    """Of the matrices inside the blocks."""
    warm_up: int = 50
    """Steps over which the learning rates rise."""
    decay: float = 0.4
    """Share of the steps, at the end, over which the learning rates fall to a tenth."""
    from_start: float = 0.5
    """Share of the windows that open a lifetime, as rollouts do; the others begin at any episode."""
    short: float = 0.5
    """Share of the steps, at the beginning, with short windows and proportionally more of them: attention is
    cheaper, and the model learns to explore before it learns to remember."""
    short_episodes: int = 3
    """Episodes of a short window."""

    def __post_init__(self):
        for name in ("lr", "matrix_lr", "warm_up", "short_episodes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"`decay` must be in (0, 1], got {self.decay}")

    def factor(self, step: int, steps: int) -> float:
        """Return what the learning rates are multiplied by at a step."""
        falling = FLOOR + (1 - FLOOR) * (steps - step) / (self.decay * steps)
        return min(1.0, (step + 1) / self.warm_up, falling)

    def window(self, step: int, steps: int, whole: int) -> int:
        """Return the episodes of the windows at a step, for a model whose own window is `whole`."""
        return min(self.short_episodes, whole) if step < self.short * steps else whole


@dataclass(frozen=True)
class Validation:
    """Tasks kept out of training, on which `distill` logs the loss and the in-context return, and chooses nothing."""

    env: Env
    histories: Histories
    """The source's histories on these tasks."""
    every: int | None = None
    """Steps between validations; a quarter of the training by default."""

    def due(self, step: int, steps: int) -> bool:
        """Return whether to validate after `step` steps."""
        return step % (self.every or max(1, steps // 4)) == 0 or step == steps

    @torch.no_grad()
    def measure(self, model: CausalTransformer, seed: int) -> dict[str, float]:
        """Return the next-action loss, and the mean return over the last third of the model's rollouts."""
        draw = Rng.of(seed, "validate", np.arange(64))
        windows = sample_windows(self.histories, model.window, len(draw), 0.5, draw)
        loss = sum(part.item() for part in Loss().parts(model, windows))
        tasks, agent = Tasks.of(self.histories.tasks), InContext(model)
        rollouts = collect(self.env, tasks, agent, episodes=30, lifetimes=4, seed=seed)
        return {"val_loss": loss, "val_return": float(rollouts.returns[:, :, -10:].mean())}


def distill(
    model: CausalTransformer,
    histories: Histories,
    *,
    steps: int = 400,
    batch: int = 64,
    seed: int = 0,
    schedule: Schedule = Schedule(),
    label_smoothing: float = 0.0,
    first_action_weight: float = 1.0,
    predict: str | None = None,
    precision: str = "auto",
    validation: Validation | None = None,
    checkpoint: str | Path | None = None,
) -> pd.DataFrame:
    """Train `model` in place on the source's learning histories; return a row per step of loss and validation.

    Each step draws `batch` windows of whole episodes. An episode's first action counts `first_action_weight` times.
    `predict` names an episode label (N, E) that a model with `predictions=1` learns to predict from each episode's first
    token; the label is a target, never an input. `precision` is "float32", "bfloat16", or "auto": bfloat16 where the
    processor multiplies it natively, which is twice as fast. `checkpoint` names a folder from which an interrupted call
    with the same arguments resumes and reaches the same weights. A GPU is used if there is one. Under `accelerate launch`
    or `notebook_launcher` all processes train one model, on the batches of one process.
    """
    _check(model, histories, steps, batch, validation)
    loss = Loss.of(model, histories, label_smoothing, first_action_weight, predict, precision)
    team = processes()
    model.to(team.device).train()
    optimizers = _optimizers(model, schedule)
    settings = {"steps": steps, "batch": batch, "seed": seed, **asdict(schedule), **loss.settings}
    settings |= {"model": model.config, "histories": checkpoint and fingerprint(histories, predict)}
    log = resume(checkpoint, settings, model, optimizers)
    team.check_equal(len(log), checkpoint)
    started = time.perf_counter() - (log[-1]["seconds"] if log else 0.0)
    left = progress("distill", steps, done=len(log))
    draw = partial(_draw, histories, schedule, model.window, steps, batch, seed, predict)
    for step, windows in zip(left, ahead(draw, range(len(log), steps)), strict=True):
        value = _backward(model, windows, loss, team)
        _step(model, optimizers, schedule.factor(step, steps))
        log.append({"step": step + 1, "loss": value, "seconds": time.perf_counter() - started})
        if validation and validation.due(step + 1, steps):
            log[-1] |= validation.measure(model, seed)
        if checkpoint and ((step + 1) % max(1, steps // CHECKPOINTS) == 0 or step + 1 == steps):
            if team.number == 0:
                save(checkpoint, settings, model, optimizers, log)
            team.wait()
    model.eval()
    return frame(log)


def _check(
    model: CausalTransformer, histories: Histories, steps: int, batch: int, validation
) -> None:
    """Raise ValueError for mistakes that would show late, or never."""
    model.check_spec(histories.spec)
    if steps < 1 or batch < 1:
        raise ValueError(f"`steps` and `batch` must be at least 1, got {steps} and {batch}")
    episodes = histories.n_episodes
    if episodes < model.window:
        context = max(2, episodes) * model.spec.horizon
        raise ValueError(
            f"the histories have {episodes} episodes per lifetime, but the model's window has "
            f"{model.window}; collect more episodes, or make the model with context={context}"
        )
    if validation is not None:
        shared = set(validation.histories.tasks.index) & set(histories.tasks.index)
        if shared:
            raise ValueError(
                f"{len(shared)} validation tasks are also training tasks ({sorted(shared)[:5]} "
                "...); split the tasks before collecting, as in env.tasks().split(0.8, seed=0)"
            )


def _draw(
    histories: Histories, schedule: Schedule, window: int, steps, batch, seed, predict, step: int
) -> dict[str, np.ndarray]:
    """Draw the windows of one step: `batch` of the model's own length, or more that are shorter."""
    episodes = schedule.window(step, steps, window)
    rows = batch * window // episodes
    rng = Rng.of(seed, "distill", np.arange(rows)).at(step)
    labels = predict is not None
    return sample_windows(histories, episodes, rows, schedule.from_start, rng, labels)


@dataclass(frozen=True)
class Loss:
    """Mean cross-entropy of the source's actions at every token that has one (Eq. 6), and the squared error of a label."""

    label_smoothing: float = 0.0
    first_action_weight: float = 1.0
    """How often the first action of an episode counts."""
    predict: str | None = None
    """Episode label to predict, standardised by `mean` and `deviation`."""
    mean: float = 0.0
    deviation: float = 1.0
    dtype: torch.dtype = torch.float32

    @staticmethod
    def of(model, histories, label_smoothing, first_action_weight, predict, precision) -> Loss:
        """Return the loss with the label's mean and deviation; ValueError if label and model do not fit."""
        dtype = auto_dtype(precision, processes().device)
        if predict is None and not model.config["predictions"]:
            return Loss(label_smoothing, first_action_weight, dtype=dtype)
        labels = [name for name in histories.labels if histories.arrays[name].ndim == 2]
        if predict not in labels or model.config["predictions"] != 1:
            raise ValueError(
                f"`predict` must be an episode label, one of {labels}, for a model with predictions=1; "
                f"got {predict!r} and predictions={model.config['predictions']}"
            )
        values = histories.arrays[predict]
        scale = float(values.mean()), float(values.std()) or 1.0
        return Loss(label_smoothing, first_action_weight, predict, *scale, dtype)

    @property
    def settings(self) -> dict:
        """The fields as a checkpoint's manifest keeps them."""
        return {**vars(self), "dtype": str(self.dtype)}

    def weight(self, windows: dict[str, np.ndarray]) -> float:
        """Return the total weight of the actions in these windows."""
        length = episode_lengths(windows)
        return float(length.sum() + (self.first_action_weight - 1) * length.size)

    def parts(
        self,
        model: CausalTransformer,
        windows: dict[str, np.ndarray],
        weight: float | None = None,
        rows: int | None = None,
    ) -> Iterator[torch.Tensor]:
        """Yield terms that add up to the loss.

        `weight` of the actions and `rows` are those of the whole batch, if these windows are one process's share of it.
        """
        weight, rows = weight or self.weight(windows), rows or len(windows["action"])
        label = None
        if self.predict is not None:
            label = (windows[self.predict] - self.mean) / self.deviation  # (B, W)
        for part in by_length(tokenize(model.spec, windows, label)):
            tokens = pad(part, multiple=PADDING).to(model.device)
            logits, prediction = model.heads(tokens, dtype=self.dtype)
            nats = F.cross_entropy(
                logits.flatten(0, 1),
                tokens.target.flatten(),
                label_smoothing=self.label_smoothing,
                reduction="none",
            )
            first = opens_episode(model.spec, tokens).flatten()
            loss = (nats * torch.where(first, self.first_action_weight, 1.0)).sum() / weight
            if label is not None:
                error = prediction[..., 0] - tokens.label
                squares = error[~error.isnan()].square().sum()
                loss = loss + PREDICTION_WEIGHT * squares / (rows * label.shape[1])
            yield loss


def _backward(model, windows: dict[str, np.ndarray], loss: Loss, team: Processes) -> float:
    """Put the gradient of the loss of all processes' windows into the parameters, and return the loss."""
    rows, weight = len(windows["action"]), loss.weight(windows)
    mine = {name: values[team.share(rows)] for name, values in windows.items()}
    total = torch.zeros((), device=team.device)
    for part in loss.parts(model, mine, weight, rows):
        part.backward()
        total += part.detach()
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    total, *gradients = team.sum([total, *(parameter.grad for parameter in trained)])
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.grad = gradient
    return finite(total.item())


def _step(model, optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Clip the gradient and take one step, at `factor` of the learning rates."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _optimizers(model: CausalTransformer, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Return Muon (Jordan et al. 2024) for the blocks' matrices and AdamW for the rest: half the steps of AdamW alone."""
    inside, outside = [], []
    for name, parameter in model.named_parameters():
        (inside if name.startswith("blocks") else outside).append(parameter)
    optimizers = [
        torch.optim.Muon(inside, lr=schedule.matrix_lr, weight_decay=schedule.weight_decay),
        torch.optim.AdamW(outside, lr=schedule.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def main(arguments: list[str] | None = None) -> None:
    """Train and save a model: `accelerate launch --multi_gpu -m adkit.models.distill HISTORIES MODEL --context 200`."""
    parser = argparse.ArgumentParser(
        "adkit.models.distill", description="Train a transformer on saved histories, and save it."
    )
    absent = {"default": argparse.SUPPRESS}
    parser.add_argument("histories", type=Path, help="folder of Histories.save; it is mapped")
    parser.add_argument("model", type=Path, help="folder for the model; nothing is overwritten")
    parser.add_argument("--context", type=int, required=True, help="transitions")
    for name in ("layers", "heads", "width", "steps", "batch", "seed"):
        parser.add_argument(f"--{name}", type=int, **absent)
    for option in fields(Schedule):
        name, kind = option.name.replace("_", "-"), type(option.default)
        parser.add_argument(f"--{name}", type=kind, **absent)
    for name in ("label-smoothing", "first-action-weight"):
        parser.add_argument(f"--{name}", type=float, **absent)
    parser.add_argument("--precision", **absent)
    parser.add_argument("--checkpoint", type=Path, help="folder to resume from", **absent)
    given = vars(parser.parse_args(arguments))
    take = lambda *names: {name: given.pop(name) for name in names if name in given}
    histories, out = Histories.load(given.pop("histories"), mapped=True), given.pop("model")
    if out.exists():
        parser.error(f"{out} exists, and nothing is overwritten; name another folder")
    shape, seed = take("context", "layers", "heads", "width"), given.get("seed", 0)
    schedule = Schedule(**take(*(option.name for option in fields(Schedule))))
    model = CausalTransformer(histories.spec, **shape, seed=seed)
    log, team = distill(model, histories, schedule=schedule, **given), processes()
    if team.number == 0:
        model.save(out)
        print(
            f"{out}: loss {log.loss.iloc[-1]:.4f} after {len(log)} steps; processes: {team.count}",
            flush=True,
        )


if __name__ == "__main__":
    main()
