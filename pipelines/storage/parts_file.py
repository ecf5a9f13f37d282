"""Parquet files whose parts have digests of their own, so that a reader compares what it reads and nothing else.

    PAR1 and the first row group | other row groups | small tables, each a Parquet file of its own | the end

The end is Parquet's footer, which names where each part ends and its SHA-256; that of the end itself is recorded beside
the file. Readers of Parquet find row groups by the footer, so that any of them reads the rows.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.storage.parquet import MOST_AT_ONCE, TableFile, reading, table_in
from tonemill.pipelines.storage.paths import as_store, kept
from tonemill.pipelines.storage.table_digests import not_as_written, opened, window

PARTS: Final = b"tonemill.parts"
"""Key of the list of parts in the footer."""


class _Part(NamedTuple):
    """Where a part ends, one after the other from the start of the file, and the SHA-256 of its bytes."""

    end: int
    sha256: str


class PartsWriter:
    """Write such a file, row groups first.

    Args:
        file: open for writing, at its start.
        schema: of the rows, with the metadata that readers find first.
    """

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._sink, self._schema = _Hashing(file), schema
        self._writer = parquet.ParquetWriter(self._sink, schema, compression="zstd")
        self._groups: list[_Part] = []
        self._tables: list[_Part] = []

    def group(self, rows: pa.Table) -> None:
        """Write a row group."""
        self._writer.write_table(rows, row_group_size=max(1, rows.num_rows))
        self._groups.append(self._sink.part())

    def table(self, table: pa.Table) -> None:
        """Write a table beside the rows, which no other reader sees."""
        held = io.BytesIO()
        parquet.write_table(table, held, compression="zstd")
        self._sink.write(held.getvalue())
        self._tables.append(self._sink.part())

    def close(self) -> dict[str, Any]:
        """Write the end; returns its bytes and SHA-256."""
        about = {"groups": self._groups, "tables": self._tables}
        self._writer.add_key_value_metadata({PARTS: json.dumps(about)})
        self._writer.close()
        before = (self._tables or self._groups or [_Part(0, "")])[-1].end
        end = self._sink.part()
        return {"bytes": end.end - before, "sha256": end.sha256}

    def __enter__(self) -> PartsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


class _Hashing(io.RawIOBase):
    """A file to which parts are written, with the digest of each."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self._at, self._digest = file, 0, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        self._file.write(data)
        self._digest.update(data)
        self._at += len(data)
        return len(data)

    def part(self) -> _Part:
        """End a part."""
        found, self._digest = _Part(self._at, self._digest.hexdigest()), hashlib.sha256()
        return found


class PartsFile:
    """Such a file for reading, or any Parquet file, as far as its footer.

    Args:
        path: of the file; it is opened for each read, so that one in another's place is noticed by the digests.
        proved: every part that is read has the digest that was recorded.

    Raises:
        CorpusError: it is missing or damaged.
    """

    def __init__(self, path: Path, proved: bool = True) -> None:
        self._path, self._proved = path, proved
        self._copy: Path | None = None
        with reading(path), opened(path, proved, by_end=True) as file:
            self._table = TableFile(file, path)
            size = file.seek(0, io.SEEK_END)
            self._size, self._groups, self._tables = size, list[_Part](), list[_Part]()
            listed = self._table.note(PARTS)
            if listed is not None:
                self._groups, self._tables = self._parts(json.loads(listed), size)

    def note(self, key: bytes) -> bytes | None:
        """The bytes under a key of the metadata; None if there are none."""
        return self._table.note(key)

    @property
    def schema(self) -> pa.Schema:
        """Of the rows."""
        return self._table.schema

    @property
    def tables(self) -> int:
        """How many tables are beside the rows."""
        return len(self._tables)

    def copy(self) -> None:
        """Read parts of a file in a store from a local copy from now on, which later commands find too.

        Raises:
            CorpusError: the file is gone.
        """
        if as_store(self._path) is not None:
            with reading(self._path):
                self._copy = kept(self._path)

    def starts(self) -> list[int]:
        """Number of the first row of each row group, and last that of all rows."""
        return list(itertools.accumulate(self._table.rows_of_groups(), initial=0))

    def group(self, number: int, columns: Collection[str] | None = None) -> pa.Table:
        """Some columns of a row group, or all.

        Raises:
            CorpusError: it is damaged.
        """
        before = self._groups[number - 1].end if number else 0
        with reading(self._path):
            held = window(self._bytes(before, self._groups[number]), before, self._size)
            wanted = None if columns is None else lambda name: name in columns
            return self._table.group(number, wanted, held)

    def table(self, number: int) -> pa.Table:
        """One of the tables beside the rows.

        Raises:
            CorpusError: it is damaged.
        """
        before = self._tables[number - 1].end if number else self._groups[-1].end if self._groups else 0
        with reading(self._path):
            return table_in(self._bytes(before, self._tables[number]), self._path)

    def _bytes(self, start: int, part: _Part) -> bytes:
        if self._copy is not None:
            data = _read(self._copy, start, part.end)
            if hashlib.sha256(data).hexdigest() == part.sha256:
                return data
            # A store's times may be too coarse to tell two versions.
            self._copy.unlink(missing_ok=True)
            self._copy = kept(self._path)
        data = _read(self._copy or self._path, start, part.end)
        if self._proved and hashlib.sha256(data).hexdigest() != part.sha256:
            raise not_as_written(self._path)
        return data

    def _parts(self, about: Any, size: int) -> tuple[list[_Part], list[_Part]]:
        groups, tables = ([_Part(end, sha256) for end, sha256 in about[name]] for name in ("groups", "tables"))
        ends = [0, *(part.end for part in (*groups, *tables)), size]
        rows = self._table.rows_of_groups()
        if (
            not all(type(end) is int for end in ends)
            or not all(0 <= after - before <= MOST_AT_ONCE for before, after in itertools.pairwise(ends))
            or len(groups) != len(rows)
            or min(rows, default=0) < 0
        ):
            raise CorpusError(f"{self._path} is damaged: its list of parts does not match its content.")
        return groups, tables


def _read(path: Path, start: int, end: int) -> bytes:
    remote = as_store(path)
    if remote is not None:
        return remote.read(start, end)
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)
