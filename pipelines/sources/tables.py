"""Read a table of metadata as people have it: CSV, TSV, JSON, JSON lines or Parquet, in many dialects."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.recipes.recipe import EXACT, RESERVED

KEY: Final = "path"
"""The column of names in a JSON object that has a record for each name."""

_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_INTEGER: Final = re.compile(r"-?[1-9][0-9]{0,15}|0")


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
        return f"{'row' if self.path.suffix in ('.parquet', '.json') else 'line'} {row.line}"

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


def read_table(path: Path, renamed: Sequence[str] = (), names: Sequence[str] = ()) -> Table:
    """Read a table of metadata.

    Text stays text unless it is a number that is written the same way again: `007`, `1_1`, `12e4` and `1.10` are text.

    Args:
        path: of the file; its suffix decides the format. The separator of a text file is found from its content.
        renamed: `OLD=NEW` for columns that become fields under other names, `OLD=` for those that are left out.
        names: columns that it likely has, in the spelling of `plain`: they decide where the separator is in doubt.

    Raises:
        UsageError: the file cannot be read; the message has the line and the reason.
    """
    try:
        columns, rows = _READERS.get(path.suffix.lower(), _separated)(path, names)
    except (OSError, CorpusError, ValueError, RecursionError, csv.Error) as error:
        raise UsageError(f"--table {path} cannot be read: {str(error).rstrip('.')[:300]}.") from error
    if not rows:
        raise UsageError(f"--table {path} cannot be read: it is empty, or has a line of column names and no rows.")
    return Table(path, tuple(columns), tuple(rows), _renamed(path, columns, renamed))


def plain(name: str) -> str:
    """A column's name for comparing: `File Name`, `fileName` and `file_name` are one."""
    return re.sub(r"[\W_]+", "", name).casefold()


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
    text = _text(path.read_bytes())
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
    """An array of objects, an object with an object for each name, or lines of objects."""
    text = _text(path.read_bytes())
    try:
        record = json.loads(text)
    except ValueError:
        if text.lstrip().startswith("{") and len(text.splitlines()) > 1:
            return _json_lines(path, names)
        raise
    if isinstance(record, dict) and record and all(isinstance(one, dict) for one in record.values()):
        record = [{KEY: name, **{k: v for k, v in one.items() if k != KEY}} for name, one in record.items()]
    if isinstance(record, dict):
        record = [record]
    if not isinstance(record, list):
        raise ValueError("it is neither an array of objects nor an object with an object for each name")
    return _of_records(list(enumerate(record, 1)))


def _parquet(path: Path, names: Sequence[str]) -> tuple[list[str], list[Row]]:
    from tonemill.pipelines.storage import parquet

    return _of_records(list(enumerate(parquet.read_table(path).to_pylist(), 1)))


def _separated(path: Path, names: Sequence[str]) -> tuple[list[str], list[Row]]:
    """Cells between commas, semicolons, tabs or bars, whichever the line of column names has most of."""
    data = path.read_bytes()
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise ValueError("it is a workbook; save its sheet as CSV")
    text = _text(data)
    lines = io.StringIO(text, newline=None).read().split("\n")
    own = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    first = 0
    if (stated := re.fullmatch(r"sep=(.)", lines[0])) is not None:
        # A line that Excel writes and reads.
        own, first = stated[1], 1
    separators = [own] if first else [own, *(one for one in _SEPARATORS if one != own)]
    wanted = set(names)

    def promise(separator: str) -> tuple[bool, int]:
        header = next(iter(csv.reader(lines[first:], delimiter=separator)), [])
        return bool(wanted & set(map(plain, header))) and len(header) > 1, len(header)

    separator = max(separators, key=promise)
    table = [(number, cells) for number, cells in _cells(lines, first, separator) if any(cells)]
    if not table:
        return [], []
    (_, header), *body = table
    if all(name[:1] == " " for name in header[1:]) and len(header) > 1:
        # `path, label`: the blank belongs to the separator.
        table = [(number, [cell.strip() for cell in cells]) for number, cells in table]
        (_, header), *body = table
    header = [name.strip() for name in header]
    for number, cells in body:
        if len(cells) != len(header):
            raise ValueError(
                f"line {number} has {len(cells)} cells and the line of column names has {len(header)}; cells are "
                f"separated by {_SEPARATORS.get(separator, separator)}"
            )
    for place, name in reversed(list(enumerate(header))):
        column = [cells[place] for _, cells in body]
        if not name and (not any(column) or column == [str(n) for n in range(len(column))]):
            # Separators at the ends of lines, or the row numbers that pandas writes.
            for _, cells in table:
                del cells[place]
            del header[place]
    if "" in header or len(set(header)) < len(header):
        bad = next(name for name in header if not name or header.count(name) > 1)
        raise ValueError(f"two columns are called {bad!r}" if bad else f"column {header.index('') + 1} has no name")
    kinds = [_kind([cells[place] for _, cells in body]) for place in range(len(header))]
    rows = [
        Row(number, {n: kind(cell) for n, kind, cell in zip(header, kinds, cells, strict=True) if cell})
        for number, cells in body
    ]
    return header, rows


def _cells(lines: Sequence[str], first: int, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells.

    Cells between tabs are as they stand, for what writes them (Common Voice, say) does not quote; unless all that
    begin with a quotation mark are quoted by the rules of CSV, and one of them had to be.
    """
    if separator == "\t":
        text = "\n".join(lines[first:])
        quoted = list(csv.reader(io.StringIO(text), delimiter="\t")) if _is_quoted(text) else []
        if len({len(cells) for cells in quoted if cells}) != 1:
            numbered = enumerate(lines[first:], first + 1)
            yield from ((number, line.split("\t")) for number, line in numbered if line.strip())
            return
    reader = csv.reader((f"{line}\n" for line in lines[first:]), delimiter=separator, strict=True)
    begin = 0
    try:
        for cells in reader:
            number, begin = first + begin + 1, reader.line_num
            if any("\n" in cell for cell in cells):
                raise ValueError(
                    f"a cell begins with a quotation mark in line {number} and ends in line {first + begin}, so that "
                    "it would swallow rows; take line breaks out of cells, or give the table as JSON lines"
                )
            if cells:
                yield number, cells
    except csv.Error as error:
        raise ValueError(
            f"line {first + begin + 1}: {error}; a cell that has quotation marks is quoted, and has them doubled"
        ) from error


def _is_quoted(text: str) -> bool:
    begun = re.findall(r'(?:^|(?<=[\t\n]))"[^\t\n]*', text)
    quoted = re.findall(r'(?:^|(?<=[\t\n]))"(?:[^"\n]|"")*"(?=[\t\n]|$)', text)
    return bool(quoted) and any('""' in one[1:-1] or "\t" in one for one in quoted) and len(quoted) == len(begun)


def _text(data: bytes) -> str:
    """Text in UTF-8 or UTF-16, with a mark of its order or without."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    head = data[:4096]
    if head.count(0) > len(head) // 4:
        return data.decode("utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} is not UTF-8; `iconv -f cp1252 -t utf-8` turns what Windows writes in Western Europe into it"
        ) from error


def _kind(texts: Sequence[str]) -> Callable[[str], Any]:
    """The converter of a text column: to numbers if each converts back to the same text (007 does not), else `str`."""
    return _number if all(_reads_back(text) for text in texts if text) else str


def _number(text: str) -> int | float:
    return int(text) if _INTEGER.fullmatch(text) else float(text)


def _reads_back(text: str) -> bool:
    if _INTEGER.fullmatch(text):
        return abs(int(text)) < EXACT
    try:
        number = float(text)
    except ValueError:
        return False
    return math.isfinite(number) and repr(number) == text


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
    return value if isinstance(value, str | int | float | bool | None) and value == value else str(value)


_READERS: Final[dict[str, Callable[[Path, Sequence[str]], tuple[list[str], list[Row]]]]] = {
    ".parquet": _parquet,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
}
