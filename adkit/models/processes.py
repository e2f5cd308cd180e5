"""The processes that train one model together: those of `accelerate launch` or `notebook_launcher`, or one alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from adkit._lazy import extra


@dataclass(frozen=True)
class Processes:
    """Each has a part of every batch, and all take the same steps: the sums of their gradients are those of one process."""

    device: torch.device
    number: int = 0
    """Of this process; 0 writes what is written."""
    count: int = 1

    def share(self, rows: int) -> slice:
        """The rows of a batch that are this process's."""
        if rows < self.count:
            raise ValueError(
                f"batches of {rows} windows for {self.count} processes; give each at least one: batch={self.count}."
            )
        return slice(self.number * rows // self.count, (self.number + 1) * rows // self.count)

    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """Put the sum over processes into each tensor."""
        if self.count > 1:
            tensors = list(tensors)
            flat = torch.cat([values.flatten() for values in tensors])
            torch.distributed.all_reduce(flat)
            for values, total in zip(
                tensors, flat.split([values.numel() for values in tensors]), strict=True
            ):
                values.copy_(total.view_as(values))

    def agree(self, steps: int, checkpoint) -> None:
        """Raise ValueError unless all of them go on after as many steps."""
        if self.count > 1:
            found = [None] * self.count
            torch.distributed.all_gather_object(found, steps)
            if len(set(found)) > 1:
                raise ValueError(
                    f"checkpoint={str(checkpoint)!r}: the processes read different ones, after {found} steps; give a folder that "
                    "all machines share."
                )

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            torch.distributed.barrier()


def processes() -> Processes:
    """This process and those that were launched with it; RuntimeError if they were asked for and not started."""
    if "WORLD_SIZE" not in os.environ and {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= set(
        os.environ
    ):
        raise RuntimeError(
            "`accelerate launch` was asked for several processes and started one: without GPUs it starts more only with "
            "--multi_gpu, which serves CPUs too. Try accelerate launch --multi_gpu --num_processes 2 -m adkit.models.distill ..."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        state = extra("accelerate", "many", "training in several processes").PartialState(
            cpu=not torch.cuda.is_available()
        )
        return Processes(state.device, state.process_index, state.num_processes)
    return Processes(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
