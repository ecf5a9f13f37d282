"""Index and rejects of a whole corpus, made of the tables of its shards, some thousand rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from tonemill.pipelines.corpus.shard_tables import as_text
from tonemill.pipelines.storage.output_names import INDEX, REJECTS
from tonemill.pipelines.storage.parquet import MOST_ROWS
from tonemill.pipelines.storage.paths import AT_ONCE, as_store, mapped

GROUP_ROWS: Final = MOST_ROWS
"""Rows of a row group, so that a reader unpacks one for each batch."""

MOST_HELD: Final = 128 << 20
"""Bytes of tables of shards that are held from one pass to the next; others are read once more."""

Pair = tuple[pa.Table, pa.Table]
"""Index and rejects of a shard."""


class WholeTables:
    """The rows of all shards, in order, in groups of one schema.

    Args:
        folder: of the tables.
        count: of shards.
        read: the tables of a shard by its number.
    """

    def __init__(self, folder: Path, count: int, read: Callable[[int], Pair]) -> None:
        self._folder, self._count, self._read = folder, count, read
        self._held: dict[int, Pair] = {}
        self._room = MOST_HELD
        self._noted: set[int] = set()
        self._schemas: dict[pa.Schema, None] = {}

    def note(self, number: int, pair: Pair) -> None:
        """Take over the tables of a shard that were read for something else; each shard in its turn."""
        if number in self._noted:
            return
        self._noted.add(number)
        if pair[0].num_rows:
            self._schemas[pair[0].schema] = None
        size = sum(table.nbytes for table in pair)
        if size <= self._room:
            self._room -= size
            self._held[number] = pair

    def groups(self) -> Iterator[tuple[str, pa.Table]]:
        """File name and rows of one row group after another, those of the two tables mixed; at least one of each.

        Raises:
            CorpusError: a table is damaged.
        """
        for number, pair in self._pairs() if len(self._noted) < self._count else ():
            self.note(number, pair)
        schema, texts = _common(list(self._schemas))
        gathered = {INDEX: _Gathered(), REJECTS: _Gathered()}
        for _, (index, rejects) in self._pairs():
            if index.num_rows:
                yield from ((INDEX, group) for group in gathered[INDEX].add(_cast(index, schema, texts)))
            yield from ((REJECTS, group) for group in gathered[REJECTS].add(rejects))
        yield from ((name, group) for name, rest in gathered.items() for group in rest.end(schema))

    def _pairs(self) -> Iterator[tuple[int, Pair]]:
        at_once = 1 if as_store(self._folder) is None else AT_ONCE
        for start in range(0, self._count, at_once):
            numbers = range(start, min(self._count, start + at_once))
            wanted = [number for number in numbers if number not in self._held]
            found = dict(zip(wanted, mapped(self._folder, self._read, wanted), strict=True))
            for number in numbers:
                yield number, found[number] if number in found else self._held[number]


class _Gathered:
    """Rows that wait until there are enough for a group."""

    def __init__(self) -> None:
        self._tables = list[pa.Table]()
        self._rows = 0
        self._is_empty = True

    def add(self, table: pa.Table) -> Iterator[pa.Table]:
        """The groups that are full now."""
        self._tables.append(table)
        self._rows += table.num_rows
        while self._rows >= GROUP_ROWS:
            whole = pa.concat_tables(self._tables)
            self._tables, self._is_empty = [whole.slice(GROUP_ROWS)], False
            self._rows -= GROUP_ROWS
            yield whole.slice(0, GROUP_ROWS)

    def end(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """What is left; rows of none where nothing was there at all."""
        if self._rows or self._is_empty:
            yield pa.concat_tables(self._tables) if self._tables else schema.empty_table()


def _common(schemas: Sequence[pa.Schema]) -> tuple[pa.Schema, frozenset[str]]:
    """A schema for the rows of all, and the columns that become text, for they are numbers here and text there."""
    if not schemas:
        return pa.schema([]), frozenset()
    try:
        return pa.unify_schemas(schemas, promote_options="permissive"), frozenset()
    except pa.ArrowTypeError:
        pass
    kinds: dict[str, set[pa.DataType]] = {}
    for schema in schemas:
        for field in schema:
            kinds.setdefault(field.name, set()).add(field.type)
    numbers = {pa.null(), pa.int64(), pa.float64()}
    mixed = {name for name, types in kinds.items() if len(types - {pa.null()}) > 1 and not types <= numbers}
    texts = frozenset(mixed - {name for name in mixed if _are_alike(kinds[name], numbers)})
    spelt = [
        pa.schema([(field.name, pa.string() if field.name in texts else field.type) for field in schema])
        for schema in schemas
    ]
    return pa.unify_schemas(spelt, promote_options="permissive"), texts


def _are_alike(kinds: set[pa.DataType], numbers: set[pa.DataType]) -> bool:
    """Whether all are lists, of one kind of value or of numbers."""
    if not all(pa.types.is_null(kind) or pa.types.is_list(kind) for kind in kinds):
        return False
    values = {kind.value_type for kind in kinds if pa.types.is_list(kind)} - {pa.null()}
    return len(values) < 2 or values <= numbers


def _cast(table: pa.Table, schema: pa.Schema, texts: frozenset[str]) -> pa.Table:
    if table.schema == schema:
        return table
    columns = {
        name: _of_text(column) if name in texts else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return pa.concat_tables([schema.empty_table(), pa.table(columns)], promote_options="permissive")


def _of_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_list(column.type):
        return column.cast(pa.string())
    return pa.chunked_array([[as_text(value) for value in column.to_pylist()]], pa.string())
