"""Hold the rows of a table's file against rows that come from elsewhere, some thousand at a time."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.storage.parquet import read_batches


class SameRows:
    """Whether a file holds the rows that are added, in order, and no others; one that cannot be read counts as such.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._batches = read_batches(path)
        self._rest: pa.Table | None = None
        self._same = self._readable = True

    def add(self, rows: pa.Table) -> None:
        """Compare with as many rows of the file."""
        if not (self._same and self._readable):
            return
        try:
            found = self._taken(rows.num_rows)
        except CorpusError:
            self._readable = False
            return
        self._same = found.equals(rows)

    def _taken(self, count: int) -> pa.Table:
        while self._rest is None or self._rest.num_rows < count:
            batch = next(self._batches, None)
            if batch is None:
                break
            more = pa.Table.from_batches([batch])
            self._rest = more if self._rest is None else pa.concat_tables([self._rest, more])
        assert self._rest is not None
        found, self._rest = self._rest.slice(0, count), self._rest.slice(count)
        return found

    def end(self) -> bool:
        """Whether all rows were the same and none is left."""
        try:
            return not self._readable or (self._same and not self._taken(1).num_rows)
        except CorpusError:
            return True
