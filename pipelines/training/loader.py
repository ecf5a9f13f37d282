"""From a corpus to batches: every epoch another order, and the n-th batch always the same.

The order is a permutation of all examples, drawn from seed and epoch; batch n is a slice of the permutations laid end
to end. So it depends on neither the number of loader processes nor on how often training was interrupted, and going on
at step n costs nothing. Examples are read at their offsets in the tars, which the index holds.
"""

from __future__ import annotations

import hashlib
import math
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
from tonemill.models.contract import Augment, Batch, Request
from tonemill.pipelines.corpus.corpus import FOLDER, Corpus, Tars, array_of, folder_of, samples_of

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
        rank: of this process among `ranks`; each gets its equal share of the rows of every batch.
        pad: lengthen shorter examples by silence, and their arrays by zeros, instead of refusing them.
        arrays: to read, by name; one with a hop is cropped to `length // hop` frames from the instant at which the
            audio is, which is a multiple of all hops, and one without is whole.

        most: examples of the split that are used, the first ones of its index; None for all.
        augmentation: random changes of the audio; arrays stay as they are.
        tars: opens shards; None opens those of the corpus itself.

    Raises:
        CorpusError: the split is empty, its examples are too short or lack an array, or a shard is not what its sidecar
            promises.
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
        arrays: tuple[str, ...] = (),
        most: int | None = None,
        augmentation: Augment | None = None,
        tars: Tars | None = None,
    ) -> None:
        super().__init__()
        self._folder = corpus.folder
        self._tars = tars
        self._roles = roles
        self._augmentation = augmentation
        self._length = length if augmentation is None else augmentation.read_length
        self._batch_size = batch_size
        self._seed = seed
        self._first = first
        self._rank, self._ranks = rank, ranks
        self._pad = pad
        _refuse_missing(corpus, arrays)
        self._hops: dict[str, int | None] = {name: corpus.arrays[name]["hop"] for name in arrays}
        self._grid = math.lcm(*(hop for hop in self._hops.values() if hop is not None))
        table = corpus.index()
        # One chunk per column: picking a row out of many chunks is a search in each.
        self._rows = table.filter(pc.equal(table["split"], split)).combine_chunks()
        self._fields = corpus.fields()
        places = [f"{name}_{what}" for name in (*roles, *arrays) for what in ("offset", "bytes")]
        lengths = [f"{name}_frames" for name in arrays]
        self._wanted = ["key", "shard", "source", "samples", *places, *lengths, *self._fields]
        self.examples = self._rows.num_rows
        self._check(corpus, split)
        self._rows = self._rows.slice(0, most)
        self.examples = self._rows.num_rows

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        lane, lanes = (worker.id, worker.num_workers) if worker else (0, 1)
        number = self._first + lane
        while True:
            yield self.batch(number)
            number += lanes

    def batch(self, number: int) -> Batch:
        """The rows of this rank of the batch of a number."""
        audio: dict[str, list[np.ndarray]] = {role: [] for role in self._roles}
        arrays: dict[str, list[np.ndarray]] = {name: [] for name in self._hops}
        fields: dict[str, list[Any]] = {}
        share = self._batch_size // self._ranks
        first = number * self._batch_size + self._rank * share
        for place in range(first, first + share):
            epoch, position = divmod(place, self.examples)
            row = int(_permutation(self.examples, self._seed, epoch)[position])
            record = {name: self._rows[name][row].as_py() for name in self._wanted}
            start = self._crop(record, epoch)
            clips: Mapping[str, np.ndarray] = {role: self._read(record, role, start) for role in self._roles}
            if self._augmentation is not None:
                clips = self._augmentation(clips, np.random.default_rng(self._entropy(record, epoch)))
            for role, clip in clips.items():
                audio[role].append(clip)
            for name in self._hops:
                arrays[name].append(self._read_array(record, name, start))
            for name, value in _with_folder(record, self._fields).items():
                fields.setdefault(name, []).append(value)
        return Batch(_stacked(audio), fields, _stacked(arrays), self._rank * share, self._batch_size)

    def _crop(self, record: dict[str, Any], epoch: int) -> int:
        spare = self._usable(record) - self._length
        if spare <= 0:
            return 0
        return self._entropy(record, epoch) % (spare // self._grid + 1) * self._grid

    def _entropy(self, record: Mapping[str, Any], epoch: int) -> int:
        """A number that follows from the run's seed, the epoch and the example."""
        digest = hashlib.sha256(f"{self._seed} {epoch} {record['key']}".encode()).digest()
        return int.from_bytes(digest[:8], "big")

    def _usable(self, record: Mapping[str, Any]) -> int:
        """Samples of an example that all it is read by have."""
        spans = [record[f"{name}_frames"] * hop for name, hop in self._hops.items() if hop is not None]
        return int(min([record["samples"], *spans]))

    def _read_array(self, record: dict[str, Any], name: str, start: int) -> np.ndarray:
        hop = self._hops[name]
        if hop is None:
            return array_of(self._folder, record, name, tars=self._tars)
        wanted, first = self._length // hop, start // hop
        frames = min(wanted, record[f"{name}_frames"] - first)
        return np.pad(array_of(self._folder, record, name, first, frames, self._tars), ((0, 0), (0, wanted - frames)))

    def _read(self, record: dict[str, Any], role: str, start: int) -> np.ndarray:
        short = self._length - record["samples"]
        if short <= 0:
            return samples_of(self._folder, record, role, start, self._length, self._tars)
        return np.pad(samples_of(self._folder, record, role, tars=self._tars), ((0, 0), (0, short)))

    def _check(self, corpus: Corpus, split: str) -> None:
        if not self.examples:
            splits = ", ".join(corpus.about["splits"])
            raise CorpusError(f"{corpus.name} has no {split} split; it has {splits}. Choose one with --split.")
        self._check_arrays(corpus, split)
        columns = ["samples", *(f"{name}_frames" for name, hop in self._hops.items() if hop is not None)]
        shortest = self._usable({name: pc.min(self._rows[name]).as_py() for name in columns})
        if shortest < self._length and not self._pad:
            raise CorpusError(
                f"{corpus.name} holds clips of {shortest} samples and this model reads {self._length}. Rebuild it with "
                f"`tonemill slice --samples {self._length} --short pad`, or train with a smaller --length."
            )
        # NumPy's view of a column of texts would import pandas.
        counts = {one["values"]: one["counts"] for one in pc.value_counts(self._rows["shard"]).to_pylist()}
        for shard in corpus.shards(split):
            tar = corpus.output.shard(shard["shard"]).tar
            size = tar.stat().st_size if tar.exists() else None
            # A tar that was cut between two members still reads as a whole, shorter one.
            if size != shard["bytes"] or counts.get(shard["shard"]) != shard["examples"]:
                what = "is missing" if size is None else f"has {size} of {shard['bytes']} bytes"
                raise CorpusError(f"{tar} {what}: it is not what its sidecar promises. Remove it and shard again.")

    def _check_arrays(self, corpus: Corpus, split: str) -> None:
        """Refuse arrays that do not stack.

        Raises:
            CorpusError: an example lacks one, or they differ in channels, or in frames where those are no instants.
        """
        for name, hop in self._hops.items():
            missing = max(self._rows[f"{name}_{what}"].null_count for what in ("offset", "bytes", "frames"))
            if missing:
                raise CorpusError(
                    f"{missing} of the {self.examples} examples of the {split} split of {corpus.name} have no array "
                    f"{name}. Make the corpus of sources that all have one."
                )
            if isinstance(corpus.arrays[name]["channels"], list):
                raise CorpusError(f"{corpus.name} holds arrays {name} of different channels, which no batch stacks.")
            if hop is not None and 0 < self._length < hop:
                raise CorpusError(
                    f"{self._length} samples are less than one frame of the array {name} of {corpus.name}, which has "
                    f"{hop} of them. Train with a larger --length."
                )
            if hop is None and len(self._rows[f"{name}_frames"].unique()) > 1:
                raise CorpusError(
                    f"{corpus.name} holds arrays {name} without a hop and of different frames, which no batch stacks."
                )


def _refuse_missing(corpus: Corpus, arrays: Sequence[str]) -> None:
    for name in arrays:
        if name not in corpus.arrays or isinstance(corpus.arrays[name]["hop"], list):
            what = "arrays of several hops" if name in corpus.arrays else "no array"
            raise CorpusError(
                f"{corpus.name} holds {what} {name}, but {corpus.holds}. Make a corpus in which every example has one "
                "of the same hop."
            )


def _stacked(parts: Mapping[str, Sequence[np.ndarray]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.stack(ones)) for name, ones in parts.items()}


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


def examples_of(
    corpus: Corpus,
    split: str,
    roles: tuple[str, ...],
    arrays: tuple[str, ...] = (),
    most: int | None = None,
    tars: Tars | None = None,
) -> Iterator[Request]:
    """Every example of a split, or the first ones, whole, in the order of the index; its number there is its seed.

    Raises:
        CorpusError: one cannot be read.
    """
    _refuse_missing(corpus, arrays)
    table, fields = corpus.index(), corpus.fields()
    for number, record in enumerate(table.filter(pc.equal(table["split"], split)).slice(0, most).to_pylist()):
        audio = {role: samples_of(corpus.folder, record, role, tars=tars) for role in roles}
        values = {
            name: array_of(corpus.folder, record, name, tars=tars)
            for name in arrays
            if record[f"{name}_offset"] is not None
        }
        yield Request(number, _with_folder(record, fields), audio, values)


def _with_folder(record: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """The fields of an example, and the folder of its source where no field has that name."""
    return {FOLDER: folder_of(record["source"]), **{name: record[name] for name in fields}}


@lru_cache(maxsize=2)
def _permutation(examples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed % 2**63, epoch]).permutation(examples)
