"""Read Parquet files; damaged ones, and malicious ones that unpack to too much memory, raise `CorpusError`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.storage.table_digests import opened, version_of

MOST_BYTES: Final = 4 << 30
"""Bytes of one table in memory: the index of some ten million examples."""

MOST_METADATA: Final = 256 << 20
"""Bytes of a table's metadata, which Arrow unpacks before it can be checked."""

MOST_AT_ONCE: Final = 512 << 20
"""Bytes of one batch of rows."""

MOST_ROWS: Final = 1 << 14
"""Rows of one batch."""

FEW_ROWS: Final = 1 << 10
"""Rows of a batch below which reading takes many times as long."""

NESTED_ROWS: Final = 256
"""Rows of one batch if a value may be a list, which has any length."""

LONGEST_ROW: Final = 4 << 20
"""Four times the longest recipe."""

MOST_FOOTERS: Final = 4
"""Footers of tables that a process keeps: that of an earlier plan has kilobytes for each shard."""

_footers: dict[tuple[int, ...] | None, tuple[Any, pa.Schema]] = {}
"""Parsed footers and their schemas, by version of the file."""


class _Opened(NamedTuple):
    """A Parquet file and its schema, which pyarrow copies, with all of its metadata, each time it is read."""

    file: parquet.ParquetFile
    schema: pa.Schema


Wanted = Callable[[str], bool]
"""Whether a column is read."""


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
        reason = " ".join((getattr(error, "strerror", None) or str(error)).split())[:300]
        raise CorpusError(f"{path} is missing or damaged: {reason}.") from error


def read_table(path: Path, wanted: Wanted | None = None, known: Mapping[str, Any] | None = None) -> pa.Table:
    """A Parquet file's table; opened here, for pyarrow cannot open a name that is not UTF-8.

    Args:
        path: of the file.
        wanted: which columns are read; all of them if it is None.
        known: bytes and SHA-256 of the file, where they are at hand.

    Raises:
        CorpusError: it is missing or damaged, or would take more memory than any index.
    """
    with reading(path), opened(path, known=known) as file:
        return _whole(file, _parquet(file, path), path, wanted=wanted)


def table_in(data: bytes, path: Path) -> pa.Table:
    """The table of a Parquet file whose bytes are there already.

    Raises:
        CorpusError: as `read_table`.
    """
    with reading(path):
        file = io.BytesIO(data)
        return _whole(file, _parquet(file, path), path)


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, some thousand at a time; one batch without rows where it has none.

    Raises:
        CorpusError: as `read_table`.
    """
    with reading(path), opened(path) as file:
        yield from _batches(file, _parquet(file, path), path)


class TableFile:
    """A table that is open, of which columns and rows can be read one after the other."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path, self._opened = file, path, _parquet(file, path)

    @property
    def schema(self) -> pa.Schema:
        return self._opened.schema

    def note(self, key: bytes) -> bytes | None:
        """The bytes under a key in the metadata of the schema or of the footer; None if there are none."""
        return (self._opened.schema.metadata or {}).get(key) or (self._opened.file.metadata.metadata or {}).get(key)

    def rows_of_groups(self) -> list[int]:
        """How many rows each row group has."""
        metadata = self._opened.file.metadata
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    def group(self, number: int, wanted: Wanted | None, held: io.RawIOBase) -> pa.Table:
        """One row group, from a file that has its bytes at the same places.

        Raises:
            CorpusError: it is damaged.
        """
        with reading(self._path):
            metadata, schema = self._opened.file.metadata, self._opened.schema
            there = _Opened(parquet.ParquetFile(held, metadata=metadata, pre_buffer=False), schema)
            return _whole(cast(BinaryIO, held), there, self._path, number, wanted)

    def batches(self, columns: Collection[str] | None = None, number: int | None = None) -> Iterator[pa.RecordBatch]:
        """The rows, or some columns of them, some thousand at a time; one batch without rows where there is none.

        Args:
            columns: their names; None for all.
            number: of the row group whose rows are wanted; None for all.

        Raises:
            CorpusError: they are damaged.
        """
        wanted = None if columns is None else lambda name: name in columns
        batches = _batches(self._file, self._opened, self._path, number, wanted)
        while True:
            with reading(self._path):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


@contextmanager
def table_file(path: Path, known: Mapping[str, Any] | None = None) -> Iterator[TableFile]:
    """Open a table once for several reads; arguments as of `read_table`.

    Raises:
        CorpusError: it is missing or damaged.
    """
    with contextlib.ExitStack() as stack:
        with reading(path):
            file = stack.enter_context(opened(path, known=known))
            table = TableFile(file, path)
        yield table


def read_row_group(path: Path, number: int, proved: bool = True) -> pa.Table:
    """One row group of a Parquet file.

    Args:
        path: of the file.
        number: of the row group.
        proved: the file's bytes are those that were recorded.

    Raises:
        CorpusError: as `read_table`.
    """
    with reading(path), opened(path, proved) as file:
        return _whole(file, _parquet(file, path), path, number)


def read_row_groups(
    path: Path, wanted: Wanted, numbers: Sequence[int] | None = None, proved: bool = True
) -> Iterator[pa.Table]:
    """Some columns of row groups of a Parquet file, one group after another.

    Args:
        path: of the file.
        wanted: which columns are read.
        numbers: of the row groups; None for all.
        proved: the file's bytes are those that were recorded.

    Raises:
        CorpusError: as `read_table`.
    """
    with reading(path), opened(path, proved) as file:
        there = _parquet(file, path)
        for number in range(there.file.metadata.num_row_groups) if numbers is None else numbers:
            yield _whole(file, there, path, number, wanted)


def _parquet(file: BinaryIO, path: Path) -> _Opened:
    size = file.seek(0, 2)
    # The last eight bytes are the length of the footer, and a mark.
    file.seek(max(0, size - 8))
    length = int.from_bytes(file.read(4), "little")
    if length > min(MOST_METADATA, size):
        raise CorpusError(f"{path} is damaged: it announces {length} bytes of metadata.")
    file.seek(0)
    # Without Arrow's threads: some were still starting when a short command ended, and aborted it. Arrow's
    # read_table starts one even with use_threads=False, because it reads through its data sets.
    version = version_of(file)
    if version in _footers:
        metadata, schema = _footers[version]
        return _Opened(parquet.ParquetFile(file, metadata=metadata, pre_buffer=False), schema)
    there = parquet.ParquetFile(file, pre_buffer=False)
    schema = there.schema_arrow
    if version is not None:
        if len(_footers) >= MOST_FOOTERS:
            _footers.clear()
        _footers[version] = there.metadata, schema
    return _Opened(there, schema)


def _whole(
    file: BinaryIO, there: _Opened, path: Path, number: int | None = None, wanted: Wanted | None = None
) -> pa.Table:
    _refuse_more(sum(size + more for size, more in _stated(there.file.metadata, path, number)), path)
    return gathered(_batches(file, there, path, number, wanted), path)


def gathered(batches: Iterable[pa.RecordBatch], path: Path) -> pa.Table:
    """One table of the batches of a file.

    Raises:
        CorpusError: together they take more memory than any index.
    """
    some, total = list[pa.RecordBatch](), 0
    for batch in batches:
        some.append(batch)
        total += batch.nbytes
        _refuse_more(total, path)
    return pa.Table.from_batches(some)


def _stated(metadata: Any, path: Path, number: int | None) -> list[tuple[int, int]]:
    """What a file states of row groups: bytes of their values, and how many more they may take in memory."""
    if number is not None and not 0 <= number < metadata.num_row_groups:
        raise CorpusError(f"{path} has {metadata.num_row_groups} parts, and no part {number}.")
    numbers = range(metadata.num_row_groups) if number is None else [number]
    # Of row groups, and not of their columns: pyarrow 25 ends the process where a column's description is damaged.
    groups = [(one.total_byte_size, one.num_rows, one.num_columns) for one in map(metadata.row_group, numbers)]
    if any(count < 0 for group in groups for count in group):
        raise CorpusError(f"{path} is damaged: it states sizes below zero.")
    # A value that repeats takes no room in the file, and eight bytes in memory.
    return [(size, 8 * rows * columns) for size, rows, columns in groups]


def _batches(
    file: BinaryIO, opened_file: _Opened, path: Path, number: int | None = None, wanted: Wanted | None = None
) -> Iterator[pa.RecordBatch]:
    """Unpack in steps, and stop where one of them or a row group becomes too much; at least one batch."""
    there, schema = opened_file
    metadata = there.metadata
    stated = _stated(metadata, path, number)
    _refuse_more(max((size + more for size, more in stated), default=0), path)
    numbers = list(range(metadata.num_row_groups)) if number is None else [number]
    # A text that repeats is spelt out in every row: no text is longer than its row group, so that a batch stays in
    # bounds. Where so few rows fit, texts are read as numbers of a list, and counted before they are spelt out.
    rows = max(1, min(MOST_ROWS, MOST_AT_ONCE // max([1, *(size for size, _ in stated)])))
    if not all(map(_is_flat, schema.types)):
        rows = min(rows, NESTED_ROWS)
    elif rows < FEW_ROWS:
        texts = [field.name for field in schema if _is_text(field.type)]
        there, rows = parquet.ParquetFile(file, metadata=metadata, read_dictionary=texts, pre_buffer=False), MOST_ROWS
    columns = None if wanted is None else [name for name in schema.names if wanted(name)]
    fields = [field for field in schema if wanted is None or wanted(field.name)]
    # The metadata of an earlier plan name every shard: they are not copied for each row group.
    chosen = pa.schema(fields, schema.metadata if number is None else None)
    count = 0
    for packed in there.iter_batches(rows, numbers, columns, use_threads=False):
        length = sum(map(_spelt_bytes, packed.columns))
        if length > LONGEST_ROW * max(1, packed.num_rows):
            raise CorpusError(f"{path} has rows of {length // packed.num_rows} bytes. It is damaged or malicious.")
        _refuse_more(length, path)
        batch = _spelt(packed, chosen)
        batch.validate(full=True)  # text that is not UTF-8 would be an error later, wherever it is read
        count += 1
        yield batch
    if not count:
        # Made from a list of rows, it would import pandas where that is installed: 0.3 s.
        yield pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in chosen], schema=chosen)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return any(fits(kind) for fits in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary))


def _is_flat(kind: pa.DataType) -> bool:
    """Whether a value is a text, or takes a few bytes at most."""
    return _is_text(kind) or any(fits(kind) for fits in (pa.types.is_primitive, pa.types.is_boolean, pa.types.is_null))


def _spelt_bytes(column: pa.Array) -> int:
    """Bytes of a column after its dictionary is expanded."""
    if not pa.types.is_dictionary(column.type) or not _is_text(column.type.value_type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary).take(column.indices)
    return int(pc.sum(lengths).as_py() or 0) + 4 * len(column)


def _spelt(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        column if column.type == kind else column.dictionary_decode().cast(kind)
        for column, kind in zip(batch.columns, schema.types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _refuse_more(count: int, path: Path) -> None:
    if count > MOST_BYTES:
        raise CorpusError(
            f"{path} would take {count >> 20} MiB of memory, and {MOST_BYTES >> 20} are allowed. It is damaged or "
            "malicious; make the corpus again, in several folders if it is really so large."
        )
