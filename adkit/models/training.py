"""Pieces shared by all training loops: progress, gradient steps, precision, log, processes."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pandas as pd
import torch
from tqdm import tqdm

from adkit import sharding
from adkit._lazy import extra


def progress(name: str, steps: int, done: int = 0) -> tqdm:
    """Return the steps that are left, with a progress bar in a terminal or notebook."""
    left = range(done, steps)
    return sharding.progress(left, desc=name, total=steps, initial=done, unit="step")


def descend(
    loss: torch.Tensor, parameters, optimizers: list, factor: float, clip: float = 1.0
) -> float:
    """Take a step down the clipped gradients at `factor` of the learning rates; return the loss.

    ValueError, and no step, if the loss is not finite.
    """
    if not math.isfinite(value := loss.item()):
        raise ValueError(f"the loss became {value}; lower the learning rate (`lr`)")
    torch.nn.utils.clip_grad_norm_(parameters, clip)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return value


def half_decay(step: int, steps: int, warm_up: int = 1) -> float:
    """Return the learning rate's factor: rising for `warm_up` steps, falling in the last half."""
    return min(1.0, (step + 1) / warm_up, 2 * (1 - step / steps))


def frame(log: list[dict]) -> pd.DataFrame:
    """Return the log, a row per step, as a table."""
    return pd.DataFrame(log or {"step": []}).set_index("step")


def auto_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of `precision`; "auto" is bfloat16 where that is native."""
    if precision == "auto":
        able = getattr(torch.cpu, "get_capabilities", dict)()  # torch < 2.11 cannot tell
        native = device.type == "cuda" or able.get("amx_bf16") or able.get("avx512_bf16")
        return torch.bfloat16 if native else torch.float32
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f'`precision` must be "auto", "float32" or "bfloat16", got {precision!r}')
    return getattr(torch, precision)


def ahead(work: Callable, items: Iterable, threads: int = 2) -> Iterator:
    """Yield `work(item)` of each item in order, computed ahead of time in threads."""
    with ThreadPoolExecutor(threads, "ahead") as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@dataclass(frozen=True)
class Processes:
    """The processes of `accelerate launch` that train one model together, or this process alone.

    Each computes the gradient on its share of every batch; the sum is that of the whole batch.
    """

    device: torch.device
    number: int = 0
    """Of this process; number 0 writes files."""
    count: int = 1

    def share(self, rows: int) -> slice:
        """Return this process's rows of a batch."""
        return slice(self.number * rows // self.count, (self.number + 1) * rows // self.count)

    def sum(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the sum of each tensor over all processes."""
        return tensors if self.count == 1 else _accelerate().utils.reduce(tensors, "sum")

    def check_equal(self, steps: int, checkpoint) -> None:
        """Raise ValueError unless all processes resume after the same number of steps."""
        found = [steps] if self.count == 1 else _accelerate().utils.gather_object([steps])
        if len(set(found)) > 1:
            raise ValueError(
                f"the processes found different checkpoints in {str(checkpoint)!r}, after {found} "
                "steps; give a folder that all machines share"
            )

    def wait(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            _accelerate().PartialState().wait_for_everyone()


def processes() -> Processes:
    """Return this process and those launched with it; RuntimeError if they did not start."""
    cuda, count = torch.cuda.is_available(), int(os.environ.get("WORLD_SIZE", "0"))
    if not count and {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= set(os.environ):
        raise RuntimeError(
            "`accelerate launch` started one process instead of several; try accelerate launch "
            "--multi_gpu --num_processes 2 train.py, with --multi_gpu on CPUs too"
        )
    if count < 2:
        return Processes(torch.device("cuda" if cuda else "cpu"))
    state = _accelerate().PartialState(cpu=not cuda)
    return Processes(state.device, state.process_index, state.num_processes)


def _accelerate():
    return extra("accelerate", "many", "training in several processes")
