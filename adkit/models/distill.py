"""Algorithm Distillation: predict the source's next action from its own past, across episodes (Laskin et al. 2022, Alg. 1)."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from adkit.histories import Histories
from adkit.models.checkpoints import fingerprint, keep, resume
from adkit.models.in_context import InContext
from adkit.models.processes import processes
from adkit.models.tokens import ahead, alike, outcomes, pad, sample_windows, tokenize
from adkit.models.transformer import CausalTransformer
from adkit.protocols import Env, Tasks
from adkit.rollout import collect
from adkit.seeds import Rng

if TYPE_CHECKING:
    import pandas as pd

PADDING = 32  # slots: a CPU's softmax takes 32 bfloat16 at a time and the rest one by one, three times as slowly
WARM_UP = 50  # steps
FLOOR = 0.1  # of the learning rate, to which it falls linearly
VALIDATION = {"episodes": 30, "lifetimes": 4}


def distill(
    model: CausalTransformer,
    histories: Histories,
    *,
    steps: int = 400,
    batch: int = 64,
    lr: float = 4e-3,
    matrix_lr: float = 0.02,
    seed: int = 0,
    first: float = 0.5,
    short: float = 0.5,
    short_episodes: int = 3,
    label_smoothing: float = 0.0,
    opening: float = 1.0,
    foretell: str | None = None,
    foretell_weight: float = 0.5,
    weight_decay: float = 0.01,
    decay: float = 0.4,
    precision: str = "auto",
    val: tuple[Env, Histories] | None = None,
    val_every: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 50,
) -> pd.DataFrame:
    """Train `model` in place on the source's learning histories; a row per step of loss and, at times, validation.

    Each step draws `batch` windows of whole episodes; a share `first` opens a lifetime, as rollouts do. For the first
    `short` of the steps windows are `short_episodes` long and proportionally more, at the same number of tokens:
    cheaper attention, and it learns to explore before it learns to remember. Matrices inside the blocks are trained by
    Muon at `matrix_lr`, everything else by AdamW at `lr`; both warm up over 50 steps and fall to a tenth over the last `decay`.

    `val=(env, histories)` holds tasks kept out of training: their next-action loss and the model's in-context return
    are logged every `val_every` steps. Nothing here is ever chosen by them. `checkpoint` names a folder from which an
    interrupted call with the same arguments goes on to the same weights. `precision` is "float32", "bfloat16", or
    "auto": bfloat16 where the processor multiplies it natively, for it is twice as fast at every width from 16 to 128. One GPU is
    used when there is one; under `accelerate launch` or `notebook_launcher`, all processes train one model together, on the same
    batches as one process would. A notebook's own model stays as it was, since processes share no memory: save it in the function
    that is launched, where `processes().number` is 0.

    `opening` is how much an episode's first action counts, beside 1 for each of the others: more where much is decided there.

    `foretell` names a label of each episode (N, E), which a model with `outcomes` learns to foretell, standardised, from the
    episode's first token; its mean squared error is added with `foretell_weight`. A target, never an input.
    """
    counts = {
        "steps": steps,
        "batch": batch,
        "short_episodes": short_episodes,
        "checkpoint_every": checkpoint_every,
    }
    _check(model, histories, counts, lr, val)
    if not 0 < decay <= 1:
        raise ValueError(
            f"decay={decay}; the learning rate falls over a share of the steps, above 0 and up to 1."
        )
    if not 0 < opening < math.inf:
        raise ValueError(
            f"opening={opening}; an episode's first action counts more than 0 times. Try opening=1."
        )
    outlook = _outlook(model, histories, foretell, foretell_weight)
    team = processes()
    model.to(team.device).train()
    dtype = auto_dtype(precision, model.device)
    optimizers = _optimizers(model, lr, matrix_lr, weight_decay)
    settings = {
        "steps": steps, "batch": batch, "lr": lr, "matrix_lr": matrix_lr, "seed": seed, "first": first, "short": short,
        "short_episodes": short_episodes, "label_smoothing": label_smoothing, "opening": opening, "weight_decay": weight_decay,
        "decay": decay, "outlook": outlook, "dtype": str(dtype), "model": model.config,
        "histories": fingerprint(histories, foretell) if checkpoint else None,
    }  # fmt: skip
    log = resume(checkpoint, settings, model, optimizers)
    team.agree(len(log), checkpoint)
    started = time.perf_counter() - (log[-1]["seconds"] if log else 0.0)

    def draw(step: int) -> dict[str, np.ndarray]:
        brief = step < short * steps and short_episodes < model.window
        episodes = short_episodes if brief else model.window
        rows = batch * model.window // episodes
        rng = Rng.of(seed, "distill", np.arange(rows)).at(step)
        return sample_windows(histories, episodes, rows, first, rng, labels=foretell is not None)

    left = range(len(log), steps)
    drawn = tqdm(
        ahead(draw, left),
        initial=len(log),
        total=steps,
        desc="distill",
        disable=None,
        mininterval=0.5,
    )
    for step, windows in zip(left, drawn, strict=True):
        rows = len(windows["action"])
        count, mine = _actions(windows, opening), team.share(rows)
        windows = {name: values[mine] for name, values in windows.items()}
        total = torch.zeros((), device=team.device)
        for part in _losses(model, windows, dtype, count, rows, label_smoothing, opening, outlook):
            part.backward()
            total += part.detach()
        team.add_up(
            [
                total,
                *(parameter.grad for parameter in model.parameters() if parameter.grad is not None),
            ]
        )
        loss = total.item()
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss became {loss} at step {step}; lower lr={lr} or matrix_lr={matrix_lr}."
            )
        scale = min(
            1.0, (step + 1) / WARM_UP, FLOOR + (1 - FLOOR) * (steps - step) / (decay * steps)
        )
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        row = {"step": step + 1, "loss": loss, "seconds": time.perf_counter() - started}
        if val and ((step + 1) % (val_every or max(1, steps // 4)) == 0 or step + 1 == steps):
            row |= _validate(model, *val, seed)
        log.append(row)
        if checkpoint and ((step + 1) % checkpoint_every == 0 or step + 1 == steps):
            if not team.number:
                keep(checkpoint, settings, model, optimizers, log)
            team.wait()
    model.eval()
    return frame(log)


def _check(
    model: CausalTransformer, histories: Histories, counts: dict[str, int], lr: float, val
) -> None:
    model.check_spec(histories.spec)
    for name, value in (counts | {"lifetimes in histories": len(histories)}).items():
        if value < 1:
            raise ValueError(f"{name}: {value} given; distillation needs at least 1.")
    if histories.n_episodes < model.window:
        horizon = model.spec.horizon
        raise ValueError(
            f"these histories hold {histories.n_episodes} episodes per lifetime and the model's window {model.window}: the last of "
            f"them would stay untrained. Collect more, or make the model with context={max(2, histories.n_episodes) * horizon}."
        )
    if not lr > 0:
        raise ValueError(f"lr={lr}; it must be positive. Try lr=4e-3.")
    if val is not None:
        shared = set(val[1].tasks.index) & set(histories.tasks.index)
        if shared:
            raise ValueError(
                f"{len(shared)} validation tasks are also training tasks ({sorted(shared)[:5]} ...); split them apart."
            )


def auto_dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        fast = (
            device.type == "cuda"
            or torch.cpu._is_amx_tile_supported()
            or torch.cpu._is_avx512_bf16_supported()
        )
        return torch.bfloat16 if fast else torch.float32
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f'precision={precision!r}; choose "auto", "float32" or "bfloat16".')
    return getattr(torch, precision)


def _optimizers(
    model: CausalTransformer, lr: float, matrix_lr: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the blocks' matrices, AdamW for embeddings and head: half the steps of AdamW alone."""
    matrices = [
        parameter for name, parameter in model.named_parameters() if name.startswith("blocks")
    ]
    others = [
        parameter for name, parameter in model.named_parameters() if not name.startswith("blocks")
    ]
    optimizers = [
        torch.optim.Muon(matrices, lr=matrix_lr, weight_decay=weight_decay),
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def _outlook(
    model: CausalTransformer, histories: Histories, foretell: str | None, weight: float
) -> tuple | None:
    """(label, weight, mean, deviation) of what is foretold."""
    if foretell is None and not model.config["outcomes"]:
        return None
    values = histories.arrays.get(foretell)
    if (
        values is None
        or values.shape != (len(histories), histories.n_episodes)
        or model.config["outcomes"] != 1
    ):
        raise ValueError(
            f"foretell={foretell!r} with a model of {model.config['outcomes']} outcomes; name one of the labels per episode "
            f"{[name for name in histories.labels if histories.arrays[name].ndim == 2]}, and make the model with outcomes=1."
        )
    return foretell, weight, float(values.mean()), float(values.std()) or 1.0


def _actions(windows: dict[str, np.ndarray], opening: float = 1.0) -> float:
    """How many there are to predict, each episode's first counted `opening` times."""
    length = (windows["terminated"] | windows["truncated"]).argmax(2) + 1
    return float(length.sum() + (opening - 1) * length.size)


def _losses(
    model,
    windows: dict[str, np.ndarray],
    dtype: torch.dtype,
    count: float,
    rows: int,
    label_smoothing=0.0,
    opening=1.0,
    outlook=None,
) -> Iterator[torch.Tensor]:
    """The mean cross-entropy of the source's actions, at every token that has one (Eq. 6), in parts that add up to it.

    `count` are the actions, and `rows` the windows, of all processes' batch together. With an outlook, the mean squared error of
    what is foretold is added.
    """
    name, weight, mean, deviation = outlook or (None, 0.0, 0.0, 1.0)
    targets = (
        []
        if name is None
        else [outcomes(model.spec, (windows[name][..., None] - mean) / deviation)]
    )
    whole = *tokenize(model.spec, windows), *targets
    for part in alike(*whole):
        tokens, *targets = pad(*part, multiple=PADDING)
        target, *outcome = (torch.as_tensor(values).to(model.device) for values in targets)
        logits, foretold = model.heads(model.on_device(tokens), dtype=dtype)
        nats = F.cross_entropy(
            logits.flatten(0, 1),
            target.flatten(),
            label_smoothing=label_smoothing,
            reduction="none",
        )
        opens = torch.as_tensor(tokens.action == model.spec.n_actions).to(model.device).flatten()
        loss = (nats * torch.where(opens, opening, 1.0)).sum() / count
        if outcome:
            wrong = (foretold - outcome[0])[~outcome[0].isnan()].square().sum()
            loss = loss + weight * wrong / (rows * windows[name].shape[1])
        yield loss


@torch.no_grad()
def _validate(
    model: CausalTransformer, env: Env, histories: Histories, seed: int
) -> dict[str, float]:
    """Next-action loss on validation histories, and mean in-context return over the last third of a lifetime."""
    draw = Rng.of(seed, "validate", np.arange(64))
    windows = sample_windows(histories, model.window, len(draw), 0.5, draw)
    loss = sum(
        part.item() for part in _losses(model, windows, torch.float32, _actions(windows), len(draw))
    )
    tasks = Tasks.of(histories.tasks)
    rollouts = collect(env, tasks, InContext(model), **VALIDATION, seed=seed)
    late = rollouts.returns[:, :, -(VALIDATION["episodes"] // 3) :]
    return {"val_loss": loss, "val_return": float(late.mean())}


def frame(log: list[dict]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(log).set_index("step")


def main(arguments: list[str] | None = None) -> None:
    """`accelerate launch --multi_gpu -m adkit.models.distill HISTORIES MODEL`: train a new model in as many processes as were launched."""
    parser = argparse.ArgumentParser(
        prog="adkit.models.distill",
        description="Train a transformer on saved histories, and save it.",
    )
    parser.add_argument(
        "histories",
        type=Path,
        help="the folder that Histories.save wrote; it is mapped, not read into memory",
    )
    parser.add_argument("model", type=Path, help="the folder for the model")
    for name in ("context", "layers", "heads", "width", "seed", "steps", "batch", "short-episodes"):
        parser.add_argument(
            f"--{name}", type=int, required=name == "context", default=argparse.SUPPRESS
        )
    for name in (
        "lr",
        "matrix-lr",
        "first",
        "short",
        "label-smoothing",
        "opening",
        "weight-decay",
        "decay",
    ):
        parser.add_argument(f"--{name}", type=float, default=argparse.SUPPRESS)
    parser.add_argument("--precision", default=argparse.SUPPRESS)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=argparse.SUPPRESS,
        help="a folder to go on from after an interruption",
    )
    given = vars(parser.parse_args(arguments))
    histories, out = Histories.load(given.pop("histories"), mapped=True), given.pop("model")
    if out.exists():
        parser.error(
            f"{out} is there already, and nothing is overwritten; name another folder for the model."
        )
    made_with = {
        name: given.pop(name) for name in ("context", "layers", "heads", "width") if name in given
    }
    model = CausalTransformer(histories.spec, **made_with, seed=given.get("seed", 0))
    log = distill(model, histories, **given)
    team = processes()
    if not team.number:
        model.save(out)
        print(
            f"{out}: loss {log.loss.iloc[-1]:.4f} after {len(log)} steps; processes: {team.count}",
            flush=True,
        )


if __name__ == "__main__":
    main()
