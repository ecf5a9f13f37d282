"""Processes that decode batches ahead of the training that reads them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from multiprocessing.process import BaseProcess
from typing import Any, Final

import torch
from torch.utils.data import DataLoader, IterableDataset

from tonemill.audiotools.errors import MachineError, TonemillError
from tonemill.models.contract import Batch
from tonemill.pipelines.runs.run import TrainConfig
from tonemill.pipelines.training.batch_memory import AHEAD, AHEAD_OF_PARTS
from tonemill.pipelines.training.loader import Batches

STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
LOOK_SECONDS: Final = 0.5
"""Between looks whether the parent is there; PyTorch's own look comes only when a process waits for work."""

KILLED: Final = "DataLoader worker"
"""Begins the text of PyTorch's error when a loader process has ended."""

MOST_KILLED: Final = 3
"""Times in a row, before a batch is made, that loader processes may be killed."""


def processes_for(settings: TrainConfig, device: torch.device) -> int:
    """How many are wanted."""
    return settings.loader_workers if settings.loader_workers is not None else 4 * (device.type != "cpu")


def batches(
    dataset: Batches, processes: int, pin: bool, say: Callable[[str], None] = lambda _: None
) -> Iterator[Batch]:
    """Iterate over a dataset with so many processes that decode ahead; the batches are the same for any number.

    Each makes every so many-th batch, or, where the order is of streams, a part of each, from the same streams.

    The processes outlive a signal to their whole group (of Ctrl-C, `timeout`, Slurm, Kubernetes), so that training can
    save, and end with the process that reads from them, however that ends. Where one of them is killed, as by the
    kernel when memory runs out, others begin with the batch that comes next.

    Args:
        dataset: of batches.
        processes: so many; with 0 this one reads.
        pin: batches are to be in pinned memory.
        say: prints a line.

    Raises:
        TonemillError, OSError, from the iterator: what the dataset raises.
        MachineError, from the iterator: processes were killed again and again.
    """
    return iter(dataset) if processes == 0 else _Ahead(dataset, processes, pin, say)


class _Ahead:
    """Iterates over batches that processes make; arguments as for `batches`."""

    def __init__(self, dataset: Batches, processes: int, pin: bool, say: Callable[[str], None]) -> None:
        self._parted = dataset.parts > 1
        self._processes = min(processes, dataset.parts) if self._parted else processes
        self._dataset, self._pin, self._say = dataset, pin, say
        self._made = self._killed = 0
        self._parts: Iterator[Any] = self._begun()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        while True:
            try:
                found = self._next()
            except BaseException as error:
                self.close()
                if not str(error).startswith(KILLED):
                    raise
                self._begin_again()
            else:
                self._killed = 0
                self._made += 1
                return found

    def close(self) -> None:
        """End the processes, whatever they wait for."""
        self._end()
        # PyTorch clears away what they leave.
        self._parts = iter(())

    def _next(self) -> Batch:
        some = list(islice(self._parts, self._processes if self._parted else 1))
        if failed := [one for one in some if isinstance(one, Exception)]:
            raise failed[0]
        if not self._parted:
            # Pinned memory holds copies already.
            return some[0] if self._pin else some[0].copy()
        whole = Batch.joined(some)
        return whole.pin_memory() if self._pin else whole

    def _begin_again(self) -> None:
        self._killed += 1
        if self._killed == MOST_KILLED:
            folder = self._dataset.folder
            raise MachineError(
                f"Loader processes were killed {MOST_KILLED} times before they had made one batch, as by the kernel "
                f"when memory runs out. Train with fewer --loader-workers than {self._processes}, or with 0; `tonemill "
                f"verify {folder}` finds what crashes a decoder."
            )
        self._say(
            "A loader process was killed, as by the kernel when memory runs out; others take its place. Fewer "
            f"--loader-workers than {self._processes} need less memory."
        )
        self._parts = self._begun()

    def _begun(self) -> Iterator[Any]:
        loader = DataLoader(
            _Caught(self._dataset.after(self._made)),
            batch_size=None,
            num_workers=self._processes,
            prefetch_factor=AHEAD_OF_PARTS if self._parted else AHEAD,
            pin_memory=self._pin and not self._parted,
            worker_init_fn=_serve,
            # A server that forks would be ended by such a signal.
            multiprocessing_context="fork" if sys.platform == "linux" else None,
        )
        # A process inherits what is blocked, and lets it through when it is deaf to it: no moment is left in between.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        ended, others = signal.getsignal(signal.SIGCHLD), multiprocessing.active_children()
        try:
            begun = iter(loader)
            new = [one for one in multiprocessing.active_children() if one not in others]
            # They are deaf to what Python would end them with, and a store may let them wait for minutes.
            self._end = weakref.finalize(self, _kill, new, begun)
            return begun
        finally:
            # PyTorch's handler would raise its error wherever this process is, as in the middle of a step.
            signal.signal(signal.SIGCHLD, ended or signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Caught(IterableDataset[Any]):
    """Batches, and at the end the error that ends them: PyTorch would put a traceback into its text."""

    def __init__(self, dataset: Batches) -> None:
        super().__init__()
        self._dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._dataset
        except (TonemillError, OSError) as error:
            yield error


def _kill(processes: Sequence[BaseProcess], incoming: Any) -> None:
    for process in processes:
        process.kill()
    # PyTorch would set this event next, which lets processes end, and wait for ever where a killed one held its lock.
    incoming._workers_done_event = threading.Event()


def _serve(_: int) -> None:
    """Make this process, which decodes, deaf to signals that stop training, and let it end with its parent."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        threading.Thread(target=_end_with, args=(parent.pid,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent has ended: another process then stands in the parent's place."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
