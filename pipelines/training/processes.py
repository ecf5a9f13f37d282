"""Several processes train one run, as `torchrun` starts them: they average gradients, and the first one writes.

Each process reads its rows of every batch. Random numbers for examples are drawn for the whole batch in each
(`Batch.draw`), so a run learns what one process would, but for statistics that layers take of their own rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, distributed

from tonemill.audiotools.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Args:
        rank: of this one, counted from 0.
        count: of all; with 1 nothing is exchanged.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes the run."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Put the mean over all processes into each tensor."""
        if self.count > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)
                tensor /= self.count

    def averaged(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scalars by name, the same names in each process, as means over all of them."""
        if self.count == 1 or not values:
            return dict(values)
        stacked = torch.stack([value.detach().float() for value in values.values()])
        self.average([stacked])
        return dict(zip(values, stacked, strict=True))

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Put what the first process holds into each tensor."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def any(self, here: bool, device: torch.device) -> bool:
        """Whether something holds in any process."""
        if self.count == 1:
            return here
        flag = torch.tensor(float(here), device=device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            distributed.barrier()


ALONE: Final = Processes()


@contextmanager
def joined(device: torch.device, batch_size: int) -> Iterator[tuple[Processes, torch.device]]:
    """Join the other processes, if `torchrun` started several; gives the device of this one.

    Raises:
        UsageError: the batch cannot be dealt evenly.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE, device
        return
    if batch_size % count:
        raise UsageError(f"--batch-size is {batch_size}, which {count} processes cannot share evenly.")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), count), device
        # The others wait for the first one, which is still writing: all connections close at once.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
