"""Read a table of metadata as people have it: CSV, TSV, JSON, JSON lines or Parquet, in many dialects."""

from __future__ import annotations

import csv
import lzma
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.recipes.recipe import RESERVED
from tonemill.pipelines.sources.records import ARROW, Found, is_json, of_arrow, of_json
from tonemill.pipelines.sources.separated import decoded, separated
from tonemill.pipelines.sources.unpacking import suffix_of, unpacked


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
        unit: what the numbers of its rows count, "line" or "row".
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    renamed: Mapping[str, str | None]
    unit: str = "line"

    def where(self, row: Row) -> str:
        """A row in words for a message."""
        return f"{self.unit} {row.line}"

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
        path: of the file; its content decides the format and the compression, and finds the separator of text.
        renamed: `OLD=NEW` for columns that become fields under other names, `OLD=` for those that are left out.
        names: columns that it likely has, in the spelling of `plain`: they decide where the separator is in doubt.
        columns: of a text file whose first line is a row.

    Raises:
        UsageError: the file cannot be read; the message has the line and the reason.
    """
    try:
        found, rows, unit = _rows(path, names, columns)
    except (OSError, EOFError, CorpusError, ValueError, RecursionError, csv.Error, lzma.LZMAError, zlib.error) as error:
        raise UsageError(f"--table {path} cannot be read: {str(error).rstrip('.')[:300]}.") from error
    if not rows:
        raise UsageError(f"--table {path} cannot be read: it is empty, or has a line of column names and no rows.")
    return Table(path, tuple(found), tuple(Row(*row) for row in rows), _renamed(path, found, renamed), unit)


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


def _rows(path: Path, names: Sequence[str], columns: Sequence[str]) -> Found:
    """The rows of a table, whose kind its content decides."""
    name, data = unpacked(path)
    suffix = suffix_of(Path(name))
    is_arrow = data.startswith(ARROW)
    if not is_arrow and not is_json(data, suffix):
        return *separated(data, "\t" if suffix in (".tsv", ".tab") else ",", names, columns), "line"
    if columns:
        raise UsageError(f"--columns is for text whose first line is a row; {path} names its columns itself.")
    return of_arrow(data, path) if is_arrow else of_json(decoded(data), suffix, set(names))
