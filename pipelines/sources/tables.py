"""Read a table of metadata as people have it: CSV, TSV, JSON, JSON lines or Parquet, in many dialects."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.recipes.recipe import EXACT, RESERVED
from tonemill.pipelines.sources.separated import decoded, plain, separated

KEY: Final = "path"
"""The column of names in a JSON object that has a record for each name."""

VALUE: Final = "value"
"""The column of values in a JSON object that has one for each name, and no record."""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        line: its line in the file, for messages; for Parquet and JSON arrays the number of the row, from 1.
        values: by column, without those that are empty.
    """

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """The columns and rows of a file of metadata.

    Args:
        path: of the file.
        columns: names, in the order of the file.
        rows: in order.
        renamed: columns that become fields under other names; None leaves one out.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    renamed: Mapping[str, str | None]

    def where(self, row: Row) -> str:
        """A row in words for a message."""
        return f"{'row' if suffix_of(self.path) in ('.parquet', '.json') else 'line'} {row.line}"

    def fields(self, row: Row, *without: str | None) -> dict[str, Any]:
        """The fields of a row: its columns under their new names, but for some."""
        named = ((self.renamed.get(name, name), value) for name, value in row.values.items() if name not in without)
        return {name: value for name, value in named if name is not None}

    def check_names(self, *without: str | None) -> None:
        """Refuse columns whose names tonemill writes itself.

        Raises:
            UsageError: names one, and how to rename it.
        """
        kept = (self.renamed.get(name, name) for name in self.columns if name not in without)
        taken = sorted(RESERVED & {name for name in kept if name is not None})
        if taken:
            raise UsageError(
                f"{self.path} has columns called {' and '.join(taken)}, which tonemill writes itself. "
                f"Give --rename {taken[0]}=my_{taken[0]}, or --rename {taken[0]}= to leave it out."
            )


def read_table(
    path: Path, renamed: Sequence[str] = (), names: Sequence[str] = (), columns: Sequence[str] = ()
) -> Table:
    """Read a table of metadata.

    Text stays text unless it is a number that is written the same way again: `007`, `1_1`, `12e4` and `1.10` are text.

    Args:
        path: of the file; its suffix decides the format, that before .gz, .bz2, .xz or .zst where it is compressed.
            The separator of a text file is found from its content.
        renamed: `OLD=NEW` for columns that become fields under other names, `OLD=` for those that are left out.
        names: columns that it likely has, in the spelling of `plain`: they decide where the separator is in doubt.
        columns: of a text file whose first line is a row.

    Raises:
        UsageError: the file cannot be read; the message has the line and the reason.
    """
    suffix = suffix_of(path)
    if columns and suffix in _READERS:
        raise UsageError(f"--columns is for text whose first line is a row; {path} names its columns itself.")
    try:
        found, rows = (
            _READERS[suffix](path, names) if suffix in _READERS else _as_separated(path, suffix, names, columns)
        )
    except (OSError, EOFError, CorpusError, ValueError, RecursionError, csv.Error, lzma.LZMAError, zlib.error) as error:
        raise UsageError(f"--table {path} cannot be read: {str(error).rstrip('.')[:300]}.") from error
    if not rows:
        raise UsageError(f"--table {path} cannot be read: it is empty, or has a line of column names and no rows.")
    return Table(path, tuple(found), tuple(rows), _renamed(path, found, renamed))


def columns_of(typed: str | None) -> list[str]:
    """The names of columns as `--columns` has them.

    Raises:
        UsageError: one is empty or is there twice.
    """
    names = [name.strip() for name in typed.split(",")] if typed is not None else []
    if "" in names or len(set(names)) < len(names):
        raise UsageError(f"--columns is {typed!r}; it must name each column once, as in --columns path,text.")
    return names


def _renamed(path: Path, columns: Sequence[str], texts: Sequence[str]) -> dict[str, str | None]:
    renamed: dict[str, str | None] = {}
    for text in texts:
        old, equals, new = text.partition("=")
        if not equals or not old:
            raise UsageError(
                f"--rename is {text!r}; it must be OLD=NEW, as in --rename split=part, or OLD= to leave out."
            )
        if old not in columns:
            raise UsageError(f"--rename is {text!r}, but {path} has no column {old!r}; it has: {', '.join(columns)}.")
        renamed[old] = new or None
    kept = [new for new in (renamed.get(name, name) for name in columns) if new is not None]
    twice = sorted({name for name in kept if kept.count(name) > 1})
    if twice:
        raise UsageError(f"--rename would give {path} two columns called {twice[0]!r}. Choose another name.")
    return renamed


def _of_records(records: Sequence[tuple[int, Any]]) -> tuple[list[str], list[Row]]:
    for line, record in records:
        if not isinstance(record, dict):
            raise ValueError(f"what stands in line {line} is no object: {str(record)[:60]}")
    columns = list(dict.fromkeys(chain.from_iterable(record for _, record in records)))
    rows = [
        Row(line, {name: _as_json(value) for name, value in record.items() if _is_known(value)})
        for line, record in records
    ]
    return columns, rows


def _json_lines(path: Path, names: Sequence[str]) -> tuple[list[str], list[Row]]:
    text = decoded(_content(path))
    if text.lstrip().startswith("["):
        return _json(path, names)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    records = []
    for number, line in lines:
        try:
            records.append((number, json.loads(line)))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    return _of_records(records)


def _json(path: Path, names: Sequence[str]) -> tuple[list[str], list[Row]]:
    """An array of objects, an object with an object or a value for each name, lines of objects, or as pandas writes."""
    text = decoded(_content(path))
    try:
        record = json.loads(text)
    except ValueError:
        if text.lstrip().startswith("{") and len(text.splitlines()) > 1:
            return _json_lines(path, names)
        raise
    if isinstance(record, dict):
        record = _records(record, set(names) | {plain(KEY)})
    if not isinstance(record, list):
        raise ValueError("it is neither an array of objects nor an object with an object for each name")
    return _of_records(list(enumerate(record, 1)))


def _records(record: dict[str, Any], names: Set[str]) -> list[Any]:
    """The rows of an object: of columns, of records or values by name, of one list of records, or it is a row."""
    values = list(record.values())
    is_by_column = bool(names & set(map(plain, record)))
    if (columns := record.get("columns")) and isinstance(rows := record.get("data"), list):
        # pandas: orient="split".
        return [dict(zip(columns, row, strict=True)) for row in rows]
    if values and all(isinstance(one, dict) for one in values):
        if is_by_column and all(one.keys() == values[0].keys() and all(map(str.isdigit, one)) for one in values):
            # pandas without an orient: {column: {number of row: value}}.
            return [{name: one[number] for name, one in record.items()} for number in values[0]]
        return [{KEY: name, **{k: v for k, v in one.items() if k != KEY}} for name, one in record.items()]
    if is_by_column:
        if all(isinstance(one, list) and len(one) == len(values[0]) for one in values):
            return [dict(zip(record, row, strict=True)) for row in zip(*values, strict=True)]
        return [record]
    lists = [one for one in values if isinstance(one, list) and one and all(isinstance(row, dict) for row in one)]
    if len(lists) == 1:
        return lists[0]
    if lists:
        raise ValueError(f"it holds {len(lists)} lists of objects, and which is the table cannot be known")
    return [{KEY: name, VALUE: one} for name, one in record.items()]


def _parquet(path: Path, names: Sequence[str]) -> tuple[list[str], list[Row]]:
    from tonemill.pipelines.storage import parquet

    return _of_records(list(enumerate(parquet.read_table(path).to_pylist(), 1)))


def _as_separated(path: Path, suffix: str, names: Sequence[str], columns: Sequence[str]) -> tuple[list[str], list[Row]]:
    own = "\t" if suffix in (".tsv", ".tab") else ","
    header, rows = separated(_content(path), own, names, columns)
    return header, [Row(line, values) for line, values in rows]


def suffix_of(path: Path) -> str:
    """The suffix of the format, without that of a compression."""
    return Path(path.stem if path.suffix.lower() in _COMPRESSED else path.name).suffix.lower()


def _content(path: Path) -> bytes:
    """The bytes of a file, decompressed if its name ends so."""
    return _COMPRESSED.get(path.suffix.lower(), bytes)(path.read_bytes())


def _from_zstandard(data: bytes) -> bytes:
    import pyarrow as pa

    return bytes(pa.CompressedInputStream(pa.BufferReader(data), "zstd").read())


_COMPRESSED: Final[dict[str, Callable[[bytes], bytes]]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": _from_zstandard,
}


def _is_known(value: Any) -> bool:
    return value is not None and value == value


def _as_json(value: Any) -> Any:
    """A value that JSON has: lists and objects stay what they are; a date, say, becomes its text."""
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _as_json(one) for name, one in value.items()}
    if isinstance(value, int) and abs(value) >= EXACT:
        return str(value)
    if isinstance(value, bytes):
        return _text_of(value)
    return value if isinstance(value, str | int | float | bool | None) and value == value else str(value)


def _text_of(value: bytes) -> str:
    """Bytes of a Parquet table as the text that they are, or in hexadecimal digits."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


_READERS: Final[dict[str, Callable[[Path, Sequence[str]], tuple[list[str], list[Row]]]]] = {
    ".parquet": _parquet,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
}
