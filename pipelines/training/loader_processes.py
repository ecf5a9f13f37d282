"""Processes that decode batches ahead of the training that reads them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import Final

import torch
from torch.utils.data import DataLoader

from tonemill.models.contract import Batch
from tonemill.pipelines.runs.run import TrainConfig
from tonemill.pipelines.training.batch_memory import AHEAD, AHEAD_OF_PARTS
from tonemill.pipelines.training.loader import Batches

STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
LOOK_SECONDS: Final = 0.5
"""Between looks whether the parent is there; PyTorch's own look comes only when a process waits for work."""


def processes_for(settings: TrainConfig, device: torch.device) -> int:
    """How many are wanted."""
    return settings.loader_workers if settings.loader_workers is not None else 4 * (device.type != "cpu")


def batches(dataset: Batches, processes: int, pin: bool) -> Iterator[Batch]:
    """Iterate over a dataset with so many processes that decode ahead; the batches are the same for any number.

    Each makes every so many-th batch, or, where the order is of streams, a part of each, from the same streams.

    The processes outlive a signal to their whole group (of Ctrl-C, `timeout`, Slurm, Kubernetes), so that training can
    save, and end with the process that reads from them, however that ends.
    """
    if processes == 0:
        return iter(dataset)
    parted = dataset.parts > 1
    if parted:
        processes = min(processes, dataset.parts)
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=processes,
        prefetch_factor=AHEAD_OF_PARTS if parted else AHEAD,
        pin_memory=pin and not parted,
        worker_init_fn=_serve,
        # A server that forks would be ended by such a signal.
        multiprocessing_context="fork" if sys.platform == "linux" else None,
    )
    # A process inherits what is blocked, and lets it through when it is deaf to it: no moment is left in between.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        incoming = iter(loader)
        if parted:
            return _joined(incoming, processes, pin)
        # Pinned memory holds copies already.
        return incoming if pin else (batch.copy() for batch in incoming)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _joined(parts: Iterator[Batch], each: int, pin: bool) -> Iterator[Batch]:
    """Batches of so many parts each."""
    while some := list(islice(parts, each)):
        whole = Batch.joined(some)
        yield whole.pin_memory() if pin else whole


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
