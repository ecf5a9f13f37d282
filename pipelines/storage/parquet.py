"""Read Parquet that anyone may have written: damage is an error of ours, and so is what unpacks without end."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError

MOST_BYTES: Final = 4 << 30
"""Of one table in memory: the index of some ten million examples."""

MOST_METADATA: Final = 256 << 20
"""Of a table's own description, which Arrow unpacks before anybody can look at it."""

MOST_AT_ONCE: Final = 512 << 20
"""Of one batch of rows."""

MOST_ROWS: Final = 1 << 14

LONGEST_ROW: Final = 4 << 20
"""Four times the longest recipe."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell errors of Arrow and of the file system in our words.

    Raises:
        CorpusError: something in the block could not be read.
    """
    try:
        yield
    except CorpusError:
        raise
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        said = " ".join((getattr(error, "strerror", None) or str(error)).split())[:300]
        raise CorpusError(f"{path} is missing or damaged: {said}.") from error


def read_table(path: Path) -> pa.Table:
    """A Parquet file's table; opened here, for pyarrow cannot open a name that is not UTF-8.

    Raises:
        CorpusError: it is missing or damaged, or would take more memory than any index.
    """
    with reading(path), path.open("rb") as file:
        return _read(file, path)


def table_in(data: bytes, path: Path) -> pa.Table:
    """The table of a Parquet file whose bytes are there already.

    Raises:
        CorpusError: as `read_table`.
    """
    with reading(path):
        return _read(io.BytesIO(data), path)


def read_row_group(path: Path, number: int) -> pa.Table:
    """One row group of a Parquet file.

    Raises:
        CorpusError: as `read_table`.
    """
    with reading(path), path.open("rb") as file:
        return _read(file, path, number)


def texts(path: Path, column: str, groups: Sequence[int]) -> Iterator[list[str]]:
    """One column of some row groups of a Parquet file, a batch at a time: a plan of a million recipes is never whole.

    Raises:
        CorpusError: it is missing or damaged, or is no column of texts.
    """
    with reading(path), path.open("rb") as file:
        opened = _opened(file, path)
        metadata = opened.metadata
        if not set(groups) <= set(range(metadata.num_row_groups)):
            raise CorpusError(f"{path} has {metadata.num_row_groups} parts, and not all of those asked for.")
        # As in `_read`: no text is longer than its group, so that a batch stays in bounds.
        longest = max((metadata.row_group(group).total_byte_size for group in groups), default=0)
        rows = max(1, min(MOST_ROWS, MOST_AT_ONCE // max(1, longest)))
        for batch in opened.iter_batches(rows, groups, [column], use_threads=False):
            values = batch.column(column)
            if values.type != pa.string():
                raise CorpusError(f"{path} has no texts as its {column}.")
            yield [value or "" for value in values.to_pylist()]


def read_metadata(path: Path, key: bytes) -> bytes:
    """What a Parquet file's own description has under a key.

    Raises:
        CorpusError: it is missing or damaged, or has no such key.
    """
    with reading(path), path.open("rb") as file:
        found = (_opened(file, path).schema_arrow.metadata or {}).get(key)
        if not found:
            raise CorpusError(f"{path} was not made by tonemill.")
        return bytes(found)


def _opened(file: BinaryIO, path: Path) -> parquet.ParquetFile:
    # The last eight bytes: the length of the description, and the letters PAR1.
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    length = int.from_bytes(file.read(4), "little")
    if length > min(MOST_METADATA, size):
        raise CorpusError(f"{path} is damaged: it announces {length} bytes of description.")
    file.seek(0)
    # Without Arrow's threads: some were still starting when a short command ended, and aborted it. Arrow's own
    # read_table starts one whatever it is told, for it reads through its data sets.
    return parquet.ParquetFile(file, pre_buffer=False)


def _read(file: BinaryIO, path: Path, number: int | None = None) -> pa.Table:
    """Unpack in steps, and stop where it becomes too much."""
    opened = _opened(file, path)
    schema, metadata = opened.schema_arrow, opened.metadata
    if number is not None and not 0 <= number < metadata.num_row_groups:
        raise CorpusError(f"{path} has {metadata.num_row_groups} parts, and no part {number}.")
    groups = list(range(metadata.num_row_groups)) if number is None else [number]
    chunks = [group.column(column) for group in map(metadata.row_group, groups) for column in range(group.num_columns)]
    # A value that repeats takes no room in the file, and eight bytes in memory.
    _refuse_more(sum(one.total_uncompressed_size + 8 * one.num_values for one in chunks), path)
    # A text that repeats is spelt out in every row: no text is longer than its chunk, so that a batch stays in bounds.
    longest = max((one.total_uncompressed_size for one in chunks), default=0)
    rows = max(1, min(MOST_ROWS, MOST_AT_ONCE // max(1, longest)))
    batches, total = [], 0
    for batch in opened.iter_batches(rows, groups, use_threads=False):
        total += batch.nbytes
        _refuse_more(total, path)
        if batch.nbytes > LONGEST_ROW * max(1, batch.num_rows):
            raise CorpusError(f"{path} has rows of {batch.nbytes // batch.num_rows} bytes. It was made to do harm.")
        batch.validate(full=True)  # text that is not UTF-8 would be an error later, wherever it is read
        batches.append(batch)
    return pa.Table.from_batches(batches, schema)


def _refuse_more(count: int, path: Path) -> None:
    if count > MOST_BYTES:
        raise CorpusError(
            f"{path} would take {count >> 20} MiB of memory, and {MOST_BYTES >> 20} are the most. It is damaged, or "
            "made to do harm; make the corpus anew, in several folders if it is really so large."
        )
