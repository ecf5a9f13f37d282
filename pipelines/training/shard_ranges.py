"""Ranges of the shards of a corpus in an object store, read whole and ahead of their use, in memory.

A request for each example would cost the time of an answer each. A request for a whole shard would begin again at the
shard's start when the store cuts it, and could be dealt neither to ranks nor to loader processes. So shards are read in
ranges of about 8 MiB (`order.RANGE_BYTES`), in the order in which the streams of training use them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from typing import BinaryIO, cast

from tonemill.pipelines.corpus.corpus import Corpus, Tars
from tonemill.pipelines.storage.paths import as_store
from tonemill.pipelines.storage.ranged_file import RangedFile
from tonemill.pipelines.training.order import RANGE_BYTES, Place, Range


class ShardRanges:
    """Opens shards of a corpus; what is read of them comes from ranges in memory.

    A stream holds the range that it reads and the one that follows. What is in neither is read from its place on, and
    with it what stands behind it, so that one example after another takes few requests too.

    Args:
        corpus: whose shards are read.
        tars: opens the shards themselves, as copies of them; None opens them where they are.
    """

    def __init__(self, corpus: Corpus, tars: Tars | None = None) -> None:
        self._output = corpus.output
        self._tars = tars
        self._sizes = {one["shard"]: int(one["bytes"]) for one in corpus.about["shards"]}
        self._of_streams: dict[int, tuple[Range | None, Range | None]] = {}
        self._held: dict[Range, Future[bytes]] = {}
        self._last: tuple[Range, bytes] | None = None

    def prepare(self, places: Iterable[Place]) -> None:
        """Begin to read the ranges of some places, then those that follow them; let go of what is behind them."""
        places = list(places)
        self._of_streams |= {one.stream: (one.range, one.following) for one in places}
        kept = {one for pair in self._of_streams.values() for one in pair} | {one.range for one in places}
        self._held = {one: data for one, data in self._held.items() if one in kept}
        for wanted in (*(one.range for one in places), *(one.following for one in places)):
            if wanted is not None and wanted not in self._held:
                self._held[wanted] = Future()
                # No pool of threads: the end of a process would wait for it, and so for a store that stalls.
                threading.Thread(target=self._fetch, args=(wanted, self._held[wanted]), daemon=True).start()

    def close(self) -> None:
        """Wait for what is being read, and let go of all: no process may be forked off while a thread reads."""
        for data in self._held.values():
            data.exception()
        self._held, self._of_streams, self._last = {}, {}, None

    def open(self, shard: str) -> BinaryIO:
        """A shard as a file.

        Raises:
            OSError, when it is read: the store cannot be read.
        """
        return cast(BinaryIO, RangedFile(self._sizes[shard], partial(self.read, shard)))

    def read(self, shard: str, start: int, end: int) -> bytes:
        """Bytes of a shard from `start` to before `end`."""
        for one, waiting in self._held.items():
            if _covers(one, shard, start, end):
                # What failed ahead of its use may succeed by now.
                data = self._read(one) if waiting.exception() is not None else waiting.result()
                return data[start - one.start : end - one.start]
        if self._last is None or not _covers(self._last[0], shard, start, end):
            ahead = Range(shard, start, min(self._sizes[shard], max(end, start + RANGE_BYTES)))
            self._last = ahead, self._read(ahead)
        (_, first, _), data = self._last
        return data[start - first : end - first]

    def _fetch(self, wanted: Range, data: Future[bytes]) -> None:
        try:
            data.set_result(self._read(wanted))
        except BaseException as error:
            data.set_exception(error)

    def _read(self, wanted: Range) -> bytes:
        there = self._output.shard(wanted.shard).tar
        if self._tars is None and (store := as_store(there)) is not None:
            return store.read(wanted.start, wanted.end)
        with there.open("rb") if self._tars is None else self._tars.open(wanted.shard) as file:
            file.seek(wanted.start)
            return bytes(file.read(wanted.end - wanted.start))


def _covers(one: Range, shard: str, start: int, end: int) -> bool:
    return one.shard == shard and one.start <= start and end <= one.end
