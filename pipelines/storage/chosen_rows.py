"""Rows of a table by their numbers or by a text; of row groups without them no more than that text is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tonemill.pipelines.storage.parquet import TableFile


def rows_at(table: TableFile, numbers: Sequence[int] | np.ndarray, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows in the order in which their numbers are given.

    Args:
        table: that is open.
        numbers: each at most once.
        columns: their names; None for all.

    Raises:
        CorpusError: the table is damaged.
    """
    wanted = np.asarray(numbers, np.int64)
    order = np.argsort(wanted)
    ascending = wanted[order]
    schema = table.schema if columns is None else pa.schema([one for one in table.schema if one.name in columns])
    pieces, first = list[pa.RecordBatch](), 0
    for group, rows in enumerate(table.rows_of_groups()):
        if len(_between(ascending, first, first + rows)):
            start = first
            for batch in table.batches(columns, group):
                here = _between(ascending, start, start + batch.num_rows) - start
                pieces += [batch.take(pa.array(here))] if len(here) else []
                start += batch.num_rows
        first += rows
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return pa.Table.from_batches(pieces, schema).take(pa.array(places))


def _between(ascending: np.ndarray, first: int, end: int) -> np.ndarray:
    return ascending[np.searchsorted(ascending, first) : np.searchsorted(ascending, end)]


def rows_with(table: TableFile, column: str, value: str) -> Iterator[dict[str, Any]]:
    """The rows that have a text in a column; of row groups without it that column alone is read.

    Args:
        table: that is open.
        column: its name.
        value: the text.

    Raises:
        CorpusError: the table is damaged.
    """
    for group in range(len(table.rows_of_groups()) if column in table.schema.names else 0):
        texts = (batch.column(0) for batch in table.batches((column,), group))
        if any(pc.index(some, value).as_py() >= 0 for some in texts):
            for batch in table.batches(None, group):
                yield from batch.filter(pc.equal(batch.column(column), value)).to_pylist()
