"""From a corpus to batches: every epoch another order, and the n-th batch always the same.

The order is a permutation of all examples, drawn from seed and epoch; batch n is a slice of the permutations laid end
to end. So it depends on neither the number of loader processes nor on how often training was interrupted, and going on
at step n costs nothing. Examples are read from their places in the tars, which the index knows.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tonemill.audiotools.errors import CorpusError
from tonemill.models.contract import Batch, Request
from tonemill.pipelines.corpus.corpus import FOLDER, Corpus, folder_of, samples_of

STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
LOOK_SECONDS: Final = 0.5
"""Between looks whether the parent is there; PyTorch's own look comes only when a process waits for work."""


class Batches(IterableDataset[Batch]):
    """Batches of one split, without end.

    Args:
        corpus: where from.
        split: train, valid or test.
        roles: waveforms to read.
        length: samples per example; longer ones are cropped at a place drawn from seed, epoch and key.
        batch_size: examples per batch.
        seed: decides order and crops.
        first: number of the first batch.
        rank: of this process among `ranks`; each gets every so many-th batch.
        pad: lengthen shorter examples by silence, instead of refusing them.

    Raises:
        CorpusError: the split is empty, its examples are too short, or a shard is not what its sidecar promises.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        roles: tuple[str, ...],
        length: int,
        batch_size: int,
        seed: int = 0,
        first: int = 0,
        rank: int = 0,
        ranks: int = 1,
        pad: bool = False,
    ) -> None:
        super().__init__()
        self._folder = corpus.folder
        self._roles = roles
        self._length = length
        self._batch_size = batch_size
        self._seed = seed
        self._first = first
        self._rank, self._ranks = rank, ranks
        self._pad = pad
        table = corpus.index()
        mask = np.array(table["split"]) == split if table.num_rows else np.zeros(0, bool)
        # One chunk per column: picking a row out of many chunks is a search in each.
        self._rows = table.filter(mask).combine_chunks()
        self._fields = corpus.fields()
        places = [f"{role}_{what}" for role in roles for what in ("offset", "bytes")]
        self._wanted = ["key", "shard", "source", "samples", *places, *self._fields]
        self.examples = self._rows.num_rows
        self._check(corpus, split)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        lane, lanes = (worker.id, worker.num_workers) if worker else (0, 1)
        number = self._first + lane
        while True:
            yield self.batch(number * self._ranks + self._rank)
            number += lanes

    def batch(self, number: int) -> Batch:
        """The batch of a number, counted over all ranks."""
        audio: dict[str, list[np.ndarray]] = {role: [] for role in self._roles}
        fields: dict[str, list[Any]] = {}
        for place in range(number * self._batch_size, (number + 1) * self._batch_size):
            epoch, position = divmod(place, self.examples)
            row = int(_permutation(self.examples, self._seed, epoch)[position])
            record = {name: self._rows[name][row].as_py() for name in self._wanted}
            start = self._crop(record, epoch)
            for role in self._roles:
                audio[role].append(self._read(record, role, start))
            for name, value in _with_folder(record, self._fields).items():
                fields.setdefault(name, []).append(value)
        return Batch({role: torch.from_numpy(np.stack(clips)) for role, clips in audio.items()}, fields)

    def _crop(self, record: dict[str, Any], epoch: int) -> int:
        spare = record["samples"] - self._length
        if spare <= 0:
            return 0
        digest = hashlib.sha256(f"{self._seed} {epoch} {record['key']}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % (spare + 1)

    def _read(self, record: dict[str, Any], role: str, start: int) -> np.ndarray:
        short = self._length - record["samples"]
        if short <= 0:
            return samples_of(self._folder, record, role, start, self._length)
        return np.pad(samples_of(self._folder, record, role), ((0, 0), (0, short)))

    def _check(self, corpus: Corpus, split: str) -> None:
        if not self.examples:
            splits = ", ".join(corpus.about["splits"])
            raise CorpusError(f"{corpus.name} has no {split} split; it has {splits}. Choose one with --split.")
        shortest = min(self._rows["samples"].to_pylist())
        if shortest < self._length and not self._pad:
            raise CorpusError(
                f"{corpus.name} holds clips of {shortest} samples and this model reads {self._length}. Rebuild it with "
                f"`tonemill slice --samples {self._length} --short pad`, or train with a smaller --length."
            )
        counts = dict(zip(*np.unique(np.array(self._rows["shard"]), return_counts=True), strict=True))
        for shard in corpus.shards(split):
            tar = corpus.output.shard(shard["shard"]).tar
            size = tar.stat().st_size if tar.exists() else None
            # A tar that was cut between two members still reads as a whole, shorter one.
            if size != shard["bytes"] or counts.get(shard["shard"]) != shard["examples"]:
                what = "is missing" if size is None else f"has {size} of {shard['bytes']} bytes"
                raise CorpusError(f"{tar} {what}: it is not what its sidecar promises. Remove it and shard again.")


def batches(dataset: Batches, processes: int, pin: bool) -> Iterator[Batch]:
    """Iterate over a dataset with so many processes that decode ahead; the batches are the same for any number.

    The processes outlive a signal to their whole group (of Ctrl-C, `timeout`, Slurm, Kubernetes), so that training can
    save, and end with the process that reads from them, however that ends.
    """
    if processes == 0:
        return iter(dataset)
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=processes,
        prefetch_factor=2,
        pin_memory=pin,
        worker_init_fn=_serve,
        # A server that forks would be ended by such a signal.
        multiprocessing_context="fork" if sys.platform == "linux" else None,
    )
    # A process inherits what is blocked, and lets it through when it is deaf to it: no moment is left in between.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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


def examples_of(corpus: Corpus, split: str, roles: tuple[str, ...]) -> Iterator[Request]:
    """Every example of a split, whole, in the order of the index; its number there is its seed.

    Raises:
        CorpusError: one cannot be read.
    """
    table, fields = corpus.index(), corpus.fields()
    for number, record in enumerate(table.filter(pc.equal(table["split"], split)).to_pylist()):
        audio = {role: samples_of(corpus.folder, record, role) for role in roles}
        yield Request(number, _with_folder(record, fields), audio)


def _with_folder(record: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """The fields of an example, and the folder of its source where no field has that name."""
    return {FOLDER: folder_of(record["source"]), **{name: record[name] for name in fields}}


@lru_cache(maxsize=2)
def _permutation(examples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed % 2**63, epoch]).permutation(examples)
