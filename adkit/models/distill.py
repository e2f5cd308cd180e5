"""Algorithm Distillation: predict the source's next action from its past (Laskin et al. 2022)."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from adkit.histories import Histories
from adkit.models import tokens as layout
from adkit.models.checkpoints import Checkpoint
from adkit.models.in_context import InContext
from adkit.models.taps import plain
from adkit.models.training import Processes, ahead, auto_dtype, descend, frame, processes, progress
from adkit.models.transformer import CausalTransformer
from adkit.protocols import Env, Tasks
from adkit.rollout import collect
from adkit.seeds import Rng

FLOOR = 0.1  # of the learning rate, to which it falls linearly
PREDICTION_WEIGHT = 0.5  # of a predicted label's squared error, beside the cross-entropy
CHECKPOINTS = 20  # per training


@dataclass(frozen=True)
class Schedule:
    """Learning rates, and lengths of windows, over the steps of `distill`."""

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
    """Share of windows that open a lifetime, as rollouts do; the others begin at any episode."""
    short: float = 0.5
    """Share of the steps, at the beginning, with short windows and proportionally more of them:
    attention is cheaper, and the model learns to explore before it learns to remember."""
    short_episodes: int = 3
    """Episodes of a short window."""

    def __post_init__(self):
        if not 0 < self.decay <= 1:
            raise ValueError(f"`decay` must be in (0, 1], got {self.decay}")
        for name in ("lr", "matrix_lr", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}")
        for name in ("from_start", "short"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {getattr(self, name)}")

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the learning rates at a step."""
        falling = FLOOR + (1 - FLOOR) * (steps - step) / (self.decay * steps)
        return min(1.0, (step + 1) / max(1, self.warm_up), falling)

    def episodes(self, step: int, steps: int, window: int) -> int:
        """Return the episodes of each window at a step; full windows have `window`."""
        return min(self.short_episodes, window) if step < self.short * steps else window


@dataclass(frozen=True)
class Validation:
    """Held-out tasks on which `distill` logs the loss and the in-context return."""

    env: Env
    histories: Histories
    """The source's histories on these tasks."""
    every: int | None = None
    """Steps between validations; a quarter of the training by default."""

    @torch.no_grad()
    def measure(self, model: CausalTransformer, seed: int) -> dict[str, float]:
        """Return the next-action loss, and the mean return late in the model's rollouts."""
        draw = Rng.of(seed, "validate", np.arange(64))
        windows = layout.sample_windows(self.histories, model.window, len(draw), 0.5, draw)
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
    """Train `model` in place on the source's histories; return a table with a row per step.

    Each step draws `batch` windows of whole episodes; an episode's first action counts
    `first_action_weight` times. `predict` names an episode label (N, E) that a model with
    `predictions=1` learns to predict from each episode's first token; it is never an input.
    `precision` is "float32", "bfloat16", or "auto": bfloat16 where it is native and twice as fast.
    An interrupted call leaves the table of the steps taken in `model.log`; called again, it resumes
    from the folder `checkpoint` and reaches the same weights. Trains on a GPU if there is one.
    Under `accelerate launch` or `notebook_launcher`, all processes train one model on the batches
    of one process.
    """
    model, steps, batch, seed = plain(model), *map(operator.index, (steps, batch, seed))
    _check(model, histories, validation, steps, batch, label_smoothing)
    team = processes()
    model.to(team.device).zero_grad()  # of a call that was interrupted
    label, dtype = _label(model, histories, predict), auto_dtype(precision, team.device)
    loss = Loss(label_smoothing, first_action_weight, *label, dtype=dtype)
    optimizers = _optimizers(model, schedule)
    settings = {"steps": steps, "batch": batch, "seed": seed, **asdict(schedule), **asdict(loss)}
    settings |= {"dtype": str(dtype), "model": model.config}
    kept = checkpoint and Checkpoint(Path(checkpoint), settings, histories, model, optimizers, team)
    draw = partial(_draw, histories, schedule, model.window, steps, batch, seed, bool(predict))
    with kept.alone() if kept else nullcontext():
        log = kept.resume() if kept else []
        try:
            for done in _descent(model, optimizers, loss, draw, schedule, steps, team, log):
                if validation and due(done, steps, validation.every or steps // 4):
                    log[-1] |= validation.measure(model, seed)
                if kept and due(done, steps, steps // CHECKPOINTS):
                    kept.save(log)
        finally:  # also after Kernel > Interrupt
            model.log = frame(log)
    return model.log


def _descent(
    model, optimizers, loss: Loss, draw: Callable, schedule: Schedule, steps, team, log: list[dict]
) -> Iterator[int]:
    """Take and log the steps that are left; after each, yield how many were taken."""
    started = time.perf_counter() - (log[-1]["seconds"] if log else 0.0)
    left = progress("distill", steps, done=len(log))
    for step, windows in zip(left, ahead(draw, range(len(log), steps)), strict=True):
        total = _backward(model, windows, loss, team)
        value = descend(total, model.parameters(), optimizers, schedule.factor(step, steps))
        log.append({"step": step + 1, "loss": value, "seconds": time.perf_counter() - started})
        yield step + 1


def due(step: int, steps: int, every: int) -> bool:
    """Return whether `step` is a multiple of `every`, or the last."""
    return step % max(1, every) == 0 or step == steps


def _check(model, histories: Histories, validation, steps, batch, label_smoothing) -> None:
    """Raise ValueError for mistakes that would show late, or never."""
    if steps < 1 or batch < 1:
        raise ValueError(f"`steps` and `batch` must be at least 1, got {steps} and {batch}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"`label_smoothing` must be in [0, 1), got {label_smoothing}; try 0.1")
    model.check_spec(histories.spec)
    model.check_weights()
    episodes = histories.n_episodes
    if episodes < model.window:
        raise ValueError(
            f"the histories have {episodes} episodes per lifetime, but the model's window has "
            f"{model.window}; collect more episodes, or make the model with "
            f"context={max(2, episodes) * model.spec.horizon}"
        )
    shared = histories.task_values.shared(validation.histories.task_values) if validation else []
    if shared:
        raise ValueError(
            f"{len(shared)} validation tasks are also training tasks, such as {shared[0]}; split "
            "the tasks before collecting, as in env.tasks().split(0.8, seed=0)"
        )


def _label(model, histories: Histories, predict: str | None) -> tuple[str | None, float, float]:
    """Return the label to predict, its mean and deviation, after checking that it fits."""
    if predict is None and not model.config["predictions"]:
        return None, 0.0, 1.0
    labels = [name for name in histories.labels if histories.arrays[name].ndim == 2]
    if predict not in labels or model.config["predictions"] != 1:
        raise ValueError(
            f"`predict` must be an episode label, one of {labels}, for a model with predictions=1, "
            f"got {predict!r} and predictions={model.config['predictions']}"
        )
    values = histories.arrays[predict]
    return predict, float(values.mean()), float(values.std()) or 1.0


def _draw(
    histories: Histories, schedule: Schedule, window: int, steps, batch, seed, labels, step: int
) -> dict[str, np.ndarray]:
    """Draw the windows of one step: `batch` full ones, or more that are shorter."""
    episodes = schedule.episodes(step, steps, window)
    rows = batch * window // episodes
    rng = Rng.of(seed, "distill", np.arange(rows)).at(step)
    return layout.sample_windows(histories, episodes, rows, schedule.from_start, rng, labels)


@dataclass(frozen=True)
class Loss:
    """Cross-entropy of the source's actions (Eq. 6), and the squared error of a predicted label."""

    label_smoothing: float = 0.0
    first_action_weight: float = 1.0
    """How often an episode's first action counts."""
    predict: str | None = None
    """Episode label to predict, standardised by `mean` and `deviation`."""
    mean: float = 0.0
    deviation: float = 1.0
    dtype: torch.dtype = torch.float32

    def parts(self, model, windows: dict, whole: dict | None = None) -> Iterator[torch.Tensor]:
        """Yield terms of the mean over the batch `whole`, of which `windows` are a share or all."""
        whole, label = whole or windows, None
        length = layout.episode_lengths(whole)  # (B, W)
        weight = float(length.sum() + (self.first_action_weight - 1) * length.size)
        if self.predict is not None:
            label = (windows[self.predict] - self.mean) / self.deviation  # (B, W)
        for part in layout.by_length(layout.tokenize(model.spec, windows, label)):
            tokens = part.to(model.device)
            logits, prediction = model.heads(tokens, dtype=self.dtype)
            how = {"label_smoothing": self.label_smoothing, "reduction": "none"}
            nats = F.cross_entropy(logits.flatten(0, 1), tokens.target.flatten(), **how)
            first = tokens.previous_action.flatten() == model.spec.n_actions  # of its episode
            loss = (nats * torch.where(first, self.first_action_weight, 1.0)).sum() / weight
            if label is not None:
                error = prediction[..., 0] - tokens.label
                squares = error[~error.isnan()].square().sum()
                loss = loss + PREDICTION_WEIGHT * squares / whole[self.predict].size
            yield loss


def _backward(model, windows: dict[str, np.ndarray], loss: Loss, team: Processes) -> torch.Tensor:
    """Set the gradient of the loss over all processes' shares of the windows; return the loss."""
    mine = team.share(len(windows["action"]))
    share = {name: values[mine] for name, values in windows.items()}
    total = torch.zeros((), device=team.device)
    for part in loss.parts(model, share, windows):
        part.backward()
        total += part.detach()
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    total, *gradients = team.sum([total, *(parameter.grad for parameter in trained)])
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.grad = gradient
    return total


def _optimizers(model, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Return Muon (Jordan et al. 2024) for blocks, AdamW for the rest: half the steps of AdamW."""
    inside, outside = [], []
    for name, parameter in model.named_parameters():
        (inside if name.startswith("blocks") else outside).append(parameter)
    return [
        torch.optim.Muon(inside, lr=schedule.matrix_lr, weight_decay=schedule.weight_decay),
        torch.optim.AdamW(outside, lr=schedule.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
