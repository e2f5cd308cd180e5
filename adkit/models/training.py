"""Pieces that every training loop shares: progress, a gradient step, precision, the log, and data-parallel processes."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm

from adkit._lazy import extra

if TYPE_CHECKING:
    import pandas as pd


def progress(name: str, steps: int, done: int = 0) -> tqdm:
    """Return the steps that are left, with a progress bar that shows only in a terminal or a notebook."""
    left = range(done, steps)
    return tqdm(left, name, steps, initial=done, disable=None, mininterval=0.5)


def gradient_step(
    loss: torch.Tensor, optimizer: torch.optim.Optimizer, lr: float, clip: float = 1.0
) -> float:
    """Take one step down the gradient of `loss`, its norm clipped, and return the loss."""
    value = finite(loss.item())
    loss.backward()
    for group in optimizer.param_groups:
        torch.nn.utils.clip_grad_norm_(group["params"], clip)
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return value


def finite(loss: float) -> float:
    """Return the loss, or raise ValueError if it is not finite."""
    if not math.isfinite(loss):
        raise ValueError(f"the loss became {loss}; lower the learning rate (`lr`)")
    return loss


def half_decay(step: int, steps: int, warm_up: int = 1) -> float:
    """Return the factor of the learning rate: linear warm-up, then a linear fall to 0 over the second half."""
    return min(1.0, (step + 1) / warm_up, 2 * (1 - step / steps))


def frame(log: list[dict]) -> pd.DataFrame:
    """Return the log, a row per step, as a table."""
    import pandas as pd

    return pd.DataFrame(log).set_index("step")


def auto_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of `precision`; "auto" is bfloat16 where the processor multiplies it natively."""
    if precision == "auto":
        able = getattr(torch.cpu, "get_capabilities", dict)()  # torch < 2.11 cannot tell
        native = device.type == "cuda" or able.get("amx_bf16") or able.get("avx512_bf16")
        return torch.bfloat16 if native else torch.float32
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f'`precision` must be "auto", "float32" or "bfloat16", got {precision!r}')
    return getattr(torch, precision)


def ahead(work: Callable, items: Iterable, threads: int = 2) -> Iterator:
    """Yield `work(item)` of each item in order, computed in threads while earlier results are used."""
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

    Each computes the gradient on its share of every batch; the sum over processes is the gradient of the whole batch.
    """

    device: torch.device
    number: int = 0
    """Of this process; number 0 writes files."""
    count: int = 1

    def share(self, rows: int) -> slice:
        """Return this process's rows of a batch."""
        if rows < self.count:
            raise ValueError(
                f"a batch of {rows} windows cannot be shared by {self.count} processes; "
                f"try batch={self.count}"
            )
        return slice(self.number * rows // self.count, (self.number + 1) * rows // self.count)

    def sum(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the sum of each tensor over all processes."""
        if self.count == 1:
            return tensors
        return _accelerate().utils.reduce(tensors, "sum")

    def check_equal(self, steps: int, checkpoint) -> None:
        """Raise ValueError unless all processes resume after the same number of steps."""
        found = [steps] if self.count == 1 else _accelerate().utils.gather_object([steps])
        if len(set(found)) > 1:
            raise ValueError(
                f"the processes found different checkpoints in {str(checkpoint)!r}, after {found} "
                "steps; give a folder that all machines share"
            )

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            _accelerate().PartialState().wait_for_everyone()


def processes() -> Processes:
    """Return this process and those launched with it; RuntimeError if several were asked for and one was started."""
    cuda = torch.cuda.is_available()
    alone = "WORLD_SIZE" not in os.environ
    if alone and {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= set(os.environ):
        raise RuntimeError(
            "`accelerate launch` started one process instead of several: without GPUs it needs --multi_gpu, also on CPUs. "
            "Try accelerate launch --multi_gpu --num_processes 2 -m adkit.models.distill ..."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        state = _accelerate().PartialState(cpu=not cuda)
        return Processes(state.device, state.process_index, state.num_processes)
    return Processes(torch.device("cuda" if cuda else "cpu"))


def _accelerate():
    return extra("accelerate", "many", "training in several processes")
