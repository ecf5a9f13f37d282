"""Several processes train one run, as `--devices` or `torchrun` starts them: they average gradients, the first writes.

Each process reads its rows of every batch. Random numbers for examples are drawn for the whole batch in each
(`Batch.draw`), so a run learns what one process would, but for statistics that layers take of their own rows.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import torch
from torch import Tensor, distributed

from tonemill.audiotools.errors import RunError, UsageError
from tonemill.pipelines.training.launcher import LAUNCHER, refuse_unequal_shares

WAIT: Final = timedelta(hours=12)
"""Others wait so long while the first process fits, listens or validates; one that has ended is noticed otherwise."""


class Abandoned(RunError):
    """A process cannot go on because another one has ended, which printed why."""


class Processes:
    """This process among those that train together.

    Args:
        rank: of this one, counted from 0.
        count: of all; with 1 nothing is exchanged.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count
        self.lost = False
        """Whether an exchange in training failed, for another process has ended; from then on none is tried."""

    @property
    def first(self) -> bool:
        """Whether this one writes the run."""
        return self.rank == 0

    @property
    def orphaned(self) -> bool:
        """Whether the process that started this one with the others has ended."""
        launcher = os.environ.get(LAUNCHER)
        return self.count > 1 and launcher is not None and int(launcher) != os.getppid()

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Put the mean over all processes into each tensor; where another process has ended, they stay as they are."""
        if self.count == 1 or self.lost:
            return
        kinds: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        for tensor in tensors:
            kinds[tensor.dtype].append(tensor)
        for some in kinds.values():
            # One exchange for all of them, of a copy: one that fails leaves sums of some of the processes behind.
            flat = torch.cat([one.reshape(-1) for one in some])
            if not self._exchanged(flat, distributed.ReduceOp.SUM):
                return
            flat /= self.count
            for one, mean in zip(some, flat.split([one.numel() for one in some]), strict=True):
                one.copy_(mean.view_as(one))

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
            with self._all_there():
                for tensor in tensors:
                    distributed.broadcast(tensor, 0)

    def any(self, here: bool, device: torch.device) -> bool:
        """Whether something holds in any process, or one has ended."""
        if self.count == 1:
            return here
        flag = torch.tensor(float(here), device=device)
        return not self._exchanged(flag, distributed.ReduceOp.MAX) or bool(flag)

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            with self._all_there():
                distributed.barrier()

    @contextmanager
    def _all_there(self) -> Iterator[None]:
        """Where nothing is left to be saved if another process has ended.

        Raises:
            Abandoned: one has.
        """
        try:
            yield
        except RuntimeError as error:
            raise Abandoned(f"Another of the {self.count} processes that train together ended.") from error

    def _exchanged(self, tensor: Tensor, operation: distributed.ReduceOp.RedOpType) -> bool:
        """Reduce a tensor over all; whether that succeeded."""
        if self.lost:
            return False
        try:
            distributed.all_reduce(tensor, operation)
        except RuntimeError:
            # Gloo: "Connection closed by peer", and others like it.
            self.lost = True
        return not self.lost


ALONE: Final = Processes()


@contextmanager
def joined(device: torch.device, batch_size: int, wished: int = 1) -> Iterator[tuple[Processes, torch.device]]:
    """Join the other processes, if several were started; gives the device of this one.

    Args:
        device: of a process alone.
        batch_size: of all together.
        wished: `--devices`.

    Raises:
        UsageError: the batch cannot be dealt evenly, or there are not so many devices.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if wished not in (1, count):
        raise UsageError(
            f"--devices is {wished}, but {count} processes were started. `tonemill train` starts one for each "
            "device by itself; with torchrun, leave --devices out."
        )
    if count == 1:
        yield ALONE, device
        return
    refuse_unequal_shares(batch_size, count)
    if device.type == "mps":
        raise UsageError(f"{count} processes cannot share the device mps. Train with --device cpu, or in one process.")
    if device.type == "cuda":
        there = torch.cuda.device_count()
        if int(os.environ["LOCAL_RANK"]) >= there:
            raise UsageError(
                f"{count} processes need a GPU each, and this machine has {there}. Train with --devices {there}."
            )
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=WAIT)
    try:
        processes = Processes(distributed.get_rank(), count)
        yield processes, device
        # The others wait for the first one, which is still writing: all connections close at once.
        if not processes.lost:
            distributed.barrier()
    finally:
        distributed.destroy_process_group()
