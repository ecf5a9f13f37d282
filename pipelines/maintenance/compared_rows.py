"""The examples of a corpus as far as a comparison holds them: keys, and one digest for all that is stored of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.array_columns import PLACE_COLUMNS, SHAPE_COLUMNS
from tonemill.pipelines.storage.chosen_rows import rows_at
from tonemill.pipelines.storage.parquet import table_file

ROWS: Final = 512
"""Rows of the index that become Python objects at once."""

AT_ONCE: Final = 1 << 17
"""Rows that are taken out of the index in one pass over it."""

_DIGEST_BYTES: Final = 16


class ComparedRows:
    """Keys and digests of all rows of an index; the rows themselves stay in their file.

    Args:
        path: of the index.

    Raises:
        CorpusError: it is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        keys, digests = [pa.array([], pa.large_string())], list[bytes]()
        with table_file(path) as table:
            self._columns = [name for name in table.schema.names if _is_compared(name)]
            for batch in table.batches(self._columns) if "key" in self._columns else ():
                keys.append(batch["key"].cast(pa.large_string()))
                digests.append(b"".join(_digests(batch)))
        self.keys = pa.concat_arrays(keys)
        self._digests = np.frombuffer(b"".join(digests), np.uint64).reshape(-1, _DIGEST_BYTES // 8)

    def differ(self, here: np.ndarray, other: ComparedRows, there: np.ndarray) -> np.ndarray:
        """Of pairs of rows by their numbers, whether something stored is not the same."""
        return (self._digests[here] != other._digests[there]).any(axis=1)

    def rows(self, numbers: np.ndarray) -> Iterator[dict[str, Any]]:
        """Rows by their numbers, in that order.

        Raises:
            CorpusError: the index is damaged, or was changed meanwhile.
        """
        for start in range(0, len(numbers), AT_ONCE):
            here = numbers[start : start + AT_ONCE]
            with table_file(self._path) as table:
                is_same = sum(table.rows_of_groups()) == len(self.keys)
                some = rows_at(table, here if is_same else here[:0], self._columns)
            if not is_same or some["key"].to_pylist() != self.keys.take(pa.array(here)).to_pylist():
                raise CorpusError(f"{self._path} was changed while it was read. Give the command again.")
            for first in range(0, some.num_rows, ROWS):
                yield from some.slice(first, ROWS).to_pylist()


def _is_compared(column: str) -> bool:
    return column in ("key", "source", "shard") or column.endswith(
        tuple(f"_{what}" for what in (*PLACE_COLUMNS, *SHAPE_COLUMNS))
    )


def _digests(rows: pa.RecordBatch) -> Iterator[bytes]:
    """For each row a digest of the digests of all its parts, by their names."""
    schema = rows.schema
    names = sorted(field.name for field in schema if field.name.endswith("_sha256") and field.type == pa.string())
    parts = [pc.binary_join_element_wise(pa.scalar(name), rows[name], pa.scalar("=")) for name in names]
    texts = pc.binary_join_element_wise(*parts, pa.array([""] * rows.num_rows), pa.scalar(";"), null_handling="skip")
    for text in texts.to_pylist():
        yield hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()


def places_in(mine: pa.Array, theirs: pa.Array) -> pa.Array:
    """For each key the place of the same among others; null where there is none."""
    if mine.equals(theirs):
        # Two makings of a corpus: a table of a million keys would be of no use.
        return pa.array(np.arange(len(mine), dtype=np.int32))
    return pc.index_in(mine, value_set=theirs)
