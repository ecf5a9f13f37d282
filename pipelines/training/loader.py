"""From a corpus to batches: every epoch another order, and the n-th batch always the same.

Batch n is a slice of the epochs' orders laid end to end (`order.py`). So it depends on neither the number of loader
processes nor on how often training was interrupted, and going on at step n costs nothing. Examples are read at their
offsets in the tars, which the index holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from torch.utils.data import IterableDataset, get_worker_info

from tonemill.audiotools.errors import CorpusError
from tonemill.models.contract import Augment, Batch, Request
from tonemill.pipelines.corpus.corpus import FOLDER, Corpus, Tars, array_of, folder_of, samples_of
from tonemill.pipelines.hashing import number_of
from tonemill.pipelines.storage.paths import as_store, sizes_below
from tonemill.pipelines.training.batch_memory import BatchMemory, Stacks
from tonemill.pipelines.training.order import Order, Permuted, Place, Streamed
from tonemill.pipelines.training.shard_ranges import ShardRanges

ROWS: Final = 512
"""Rows of the index that become Python objects at once."""


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
        streamed: in the order `Streamed`, whose examples are read in ranges of shards; else each is read at its place.

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
        streamed: bool = False,
    ) -> None:
        super().__init__()
        self.folder = corpus.folder
        self._ranges = ShardRanges(corpus, tars) if streamed else None
        self._tars = self._ranges or tars
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
        self._fields = corpus.fields()
        wanted = _columns(roles, arrays, self._fields)
        # One chunk per column: picking a row out of many chunks is a search in each.
        self._rows = corpus.rows(split, wanted).combine_chunks()
        self.examples = self._rows.num_rows
        self._check(corpus, split)
        self._rows = self._rows.slice(0, most)
        self.examples = self._rows.num_rows
        self._columns = {name: self._rows[name].combine_chunks() for name in wanted}
        self._memory = BatchMemory()
        self._order: Order = Permuted(self.examples, seed)
        if streamed:
            self._order = Streamed(self._rows, (*roles, *arrays), seed)

    @property
    def parts(self) -> int:
        """Into so many parts loader processes may divide a batch; 1 where each makes whole batches.

        Rows of a batch are in the order of their streams. So a process that makes the same part of each batch reads the
        same few streams, and no other reads them.
        """
        return 1 if self._ranges is None else min(self._order.streams, self._share)

    @property
    def _share(self) -> int:
        """Rows of a batch for this rank."""
        return self._batch_size // self._ranks

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        lane, lanes = (worker.id, worker.num_workers) if worker else (0, 1)
        number = self._first
        if self.parts > 1:
            while True:
                yield self.batch(number, lane, lanes)
                number += 1
        number += lane
        while True:
            yield self.batch(number)
            number += lanes

    def after(self, count: int) -> Batches:
        """The same without the first so many batches."""
        later = copy(self)
        later._first += count
        return later

    def close(self) -> None:
        """Let go of what was read ahead; a batch reads it again."""
        if self._ranges is not None:
            self._ranges.close()

    def batch(self, number: int, part: int = 0, parts: int = 1) -> Batch:
        """The rows of this rank of the batch of a number; one of so many parts of them."""
        whole = range(number * self._batch_size, (number + 1) * self._batch_size)
        places = [(place // self.examples, self._at(place)) for place in whole]
        places.sort(key=lambda one: one[1].stream)
        first, end = (self._rank * self._share + self._share * one // parts for one in (part, part + 1))
        places = places[first:end]
        if self._ranges is not None:
            self._ranges.prepare(one for _, one in places)
        audio, arrays = (Stacks(len(places), self._memory) for _ in range(2))
        fields: dict[str, list[Any]] = {}
        for row, (epoch, place) in enumerate(places):
            record = {name: column[place.row].as_py() for name, column in self._columns.items()}
            start = self._crop(record, epoch)
            clips: Mapping[str, np.ndarray] = {role: self._read(record, role, start) for role in self._roles}
            if self._augmentation is not None:
                clips = self._augmentation(clips, np.random.default_rng(self._entropy(record, epoch)))
            for role, clip in clips.items():
                audio.put(role, row, clip)
            for name in self._hops:
                arrays.put(name, row, self._read_array(record, name, start))
            for name, value in _with_folder(record, self._fields).items():
                fields.setdefault(name, []).append(value)
        return Batch(audio.tensors, fields, arrays.tensors, first, self._batch_size)

    def _at(self, place: int) -> Place:
        return self._order.at(*divmod(place, self.examples))

    def _crop(self, record: dict[str, Any], epoch: int) -> int:
        spare = self._usable(record) - self._length
        if spare <= 0:
            return 0
        return self._entropy(record, epoch) % (spare // self._grid + 1) * self._grid

    def _entropy(self, record: Mapping[str, Any], epoch: int) -> int:
        """A number that follows from the run's seed, the epoch and the example."""
        return number_of(f"{self._seed} {epoch} {record['key']}")

    def _usable(self, record: Mapping[str, Any]) -> int:
        """Samples of an example that all it is read by have."""
        spans = [record[f"{name}_frames"] * hop for name, hop in self._hops.items() if hop is not None]
        return int(min([record["samples"], *spans]))

    def _read_array(self, record: dict[str, Any], name: str, start: int) -> np.ndarray:
        hop = self._hops[name]
        if hop is None:
            return array_of(self.folder, record, name, tars=self._tars)
        wanted, first = self._length // hop, start // hop
        frames = min(wanted, record[f"{name}_frames"] - first)
        return np.pad(array_of(self.folder, record, name, first, frames, self._tars), ((0, 0), (0, wanted - frames)))

    def _read(self, record: dict[str, Any], role: str, start: int) -> np.ndarray:
        short = self._length - record["samples"]
        if short <= 0:
            return samples_of(self.folder, record, role, start, self._length, self._tars)
        return np.pad(samples_of(self.folder, record, role, tars=self._tars), ((0, 0), (0, short)))

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
        # A listing of a store is one request, and a look at each of its objects one each; a web server has no listing.
        store = as_store(corpus.folder)
        sizes = None if store is None or store.scheme == "https" else sizes_below(corpus.folder / split)
        for shard in corpus.shards(split):
            tar = corpus.output.shard(shard["shard"]).tar
            size = _bytes_of(tar) if sizes is None else sizes.get(tar)
            # A tar that was cut between two members still reads as a whole, shorter one.
            if size != shard["bytes"] or counts.get(shard["shard"]) != shard["examples"]:
                what = "is missing" if size is None else f"has {size} of {shard['bytes']} bytes"
                raise CorpusError(f"{tar} {what}, so it is damaged. `tonemill repair {corpus.name}` makes it again.")

    def _check_arrays(self, corpus: Corpus, split: str) -> None:
        """Refuse arrays that do not stack.

        Raises:
            CorpusError: an example lacks one, or they differ in channels, or in frames where those are no instants.
        """
        for name, hop in self._hops.items():
            missing = max(self._rows[f"{name}_{what}"].null_count for what in ("offset", "bytes", "frames"))
            if missing:
                raise CorpusError(
                    f"{missing} of the {self.examples} examples of the {split} split of {corpus.name} have no "
                    f"array {name}. Make a corpus in which all examples have one."
                )
            if isinstance(corpus.arrays[name]["channels"], list):
                raise CorpusError(
                    f"{corpus.name} holds arrays {name} with different numbers of channels, which fit in no batch."
                )
            if hop is not None and 0 < self._length < hop:
                raise CorpusError(
                    f"{self._length} samples are shorter than one frame of the array {name} of {corpus.name}, "
                    f"whose frames have {hop} samples. Train with a larger --length."
                )
            if hop is None and len(self._rows[f"{name}_frames"].unique()) > 1:
                raise CorpusError(
                    f"{corpus.name} holds arrays {name} without a hop and with different numbers of frames, which "
                    "fit in no batch."
                )


def _columns(roles: Sequence[str], arrays: Sequence[str], fields: Sequence[str]) -> list[str]:
    """Those of the index by which examples are read."""
    places = [f"{name}_{what}" for name in (*roles, *arrays) for what in ("offset", "bytes")]
    return ["key", "shard", "source", "samples", *places, *(f"{name}_frames" for name in arrays), *fields]


def _bytes_of(tar: Path) -> int | None:
    try:
        return int(tar.stat().st_size)
    except FileNotFoundError:
        return None


def _refuse_missing(corpus: Corpus, arrays: Sequence[str]) -> None:
    for name in arrays:
        if name not in corpus.arrays or isinstance(corpus.arrays[name]["hop"], list):
            what = "arrays of several hops" if name in corpus.arrays else "no array"
            raise CorpusError(
                f"{corpus.name} holds {what} {name}, but {corpus.holds}. Make a corpus in which every example has one "
                "of the same hop."
            )


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
    if as_store(corpus.folder) is not None:
        tars = ShardRanges(corpus, tars)
    fields = corpus.fields()
    rows = corpus.rows(split, _columns(roles, arrays, fields)).slice(0, most)
    for number, record in enumerate(row for batch in rows.to_batches(ROWS) for row in batch.to_pylist()):
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
