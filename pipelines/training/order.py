"""The order in which training reads examples: a permutation, or streams that read an object store from front to back.

Both follow from the index of the corpus, the seed and the epoch alone. So any place in the order is found without
reading what comes before it, and it does not depend on ranks, loader processes or interruptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

STREAMS: Final = 16
"""A part of the order `Streamed`, as `RANGE_BYTES` is: with another number, runs would not go on in their order."""

RANGE_BYTES: Final = 8 << 20
"""Of a shard, the bytes in which the examples of one range begin."""


class Range(NamedTuple):
    """Neighbouring bytes of a shard, read by one request: the members of examples that stand one after another."""

    shard: str
    start: int
    end: int


class Place(NamedTuple):
    """What stands at one place of an epoch.

    Args:
        row: of the example among those of the split.
        stream: that it belongs to.
        range: where its members are; None in an order without ranges.
        following: the range that its stream reads next; None where the epoch ends, or without ranges.
    """

    row: int
    stream: int = 0
    range: Range | None = None
    following: Range | None = None


class Order(Protocol):
    """Which example stands at which place of each epoch."""

    streams: int

    def at(self, epoch: int, position: int) -> Place:
        """What stands at a position of an epoch, both counted from 0."""


class Permuted:
    """A permutation of all examples, drawn from seed and epoch."""

    streams = 1

    def __init__(self, examples: int, seed: int) -> None:
        self._examples, self._seed = examples, seed

    def at(self, epoch: int, position: int) -> Place:
        return Place(int(_permutation(self._examples, self._seed, epoch)[position]))


@lru_cache(maxsize=2)
def _permutation(examples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed % 2**63, epoch]).permutation(examples)


class _Epoch(NamedTuple):
    """An epoch of `Streamed`.

    Args:
        rows: numbers of rows, the first stream's before the second's.
        ranges: the range of each.
        ends: the places in both at which a range ends, or a stream.
    """

    rows: np.ndarray
    ranges: np.ndarray
    ends: np.ndarray


class Streamed:
    """As many streams as `STREAMS`, of which each reads its part of the shards in ranges from front to back.

    An epoch puts the shards in an order of its own, the ranges of each shard, and the examples of each range. This row
    of examples is cut into streams that are equally long to one example, and place p of the epoch is the example number
    p // STREAMS of stream p % STREAMS. So each batch is of ranges of as many places in the corpus as there are streams,
    each range is read once in an epoch, and twice where a cut goes through it.

    Args:
        rows: of the split, with columns shard, and offset and bytes of each name.
        names: of the roles and arrays that are read.
        seed: of the run.
    """

    streams = STREAMS

    def __init__(self, rows: pa.Table, names: Sequence[str], seed: int) -> None:
        self._seed = seed
        offsets = np.stack([rows[f"{name}_offset"].to_numpy() for name in names])
        starts = offsets.min(axis=0)
        ends = (offsets + np.stack([rows[f"{name}_bytes"].to_numpy() for name in names])).max(axis=0)
        # By name, so that numbers do not depend on the order of the rows.
        shards = sorted(rows["shard"].unique().to_pylist())
        of_rows = pc.index_in(rows["shard"], value_set=pa.array(shards)).to_numpy()
        steps = int(ends.max(initial=0)) // RANGE_BYTES + 1
        found, self._range_of = np.unique(of_rows * steps + starts // RANGE_BYTES, return_inverse=True)
        self._shard_of = found // steps
        firsts, lasts = np.full(len(found), np.iinfo(np.int64).max), np.zeros(len(found), np.int64)
        np.minimum.at(firsts, self._range_of, starts)
        np.maximum.at(lasts, self._range_of, ends)
        bounds = zip(self._shard_of, firsts.tolist(), lasts.tolist(), strict=True)
        self._ranges = [Range(shards[shard], first, last) for shard, first, last in bounds]
        lengths = len(self._range_of) // STREAMS + (np.arange(STREAMS) < len(self._range_of) % STREAMS)
        self._begins = np.concatenate([[0], np.cumsum(lengths)])
        self._epochs: dict[int, _Epoch] = {}

    def at(self, epoch: int, position: int) -> Place:
        found = self._epoch(epoch)
        stream, number = position % STREAMS, position // STREAMS
        place = int(self._begins[stream]) + number
        end = int(found.ends[np.searchsorted(found.ends, place, side="right")])
        following = None if end == self._begins[stream + 1] else self._ranges[found.ranges[end]]
        return Place(int(found.rows[place]), stream, self._ranges[found.ranges[place]], following)

    def _epoch(self, epoch: int) -> _Epoch:
        if epoch not in self._epochs:
            self._epochs = {one: kept for one, kept in self._epochs.items() if one == epoch - 1}
            self._epochs[epoch] = self._drawn(epoch)
        return self._epochs[epoch]

    def _drawn(self, epoch: int) -> _Epoch:
        random = np.random.default_rng([self._seed % 2**63, epoch])
        shard_turns = random.permutation(int(self._shard_of.max(initial=0)) + 1)
        turns = np.empty(len(self._ranges), np.int64)
        turns[np.lexsort((random.random(len(turns)), shard_turns[self._shard_of]))] = np.arange(len(turns))
        # One sort of a sum is several times as fast as one by two keys.
        rows = np.argsort(turns[self._range_of] + random.random(len(self._range_of)), kind="stable")
        ranges = self._range_of[rows]
        changes = np.flatnonzero(np.diff(ranges)) + 1
        return _Epoch(rows, ranges, np.union1d(changes, self._begins[1:]))
