"""Rows of tables whose cells have types: JSON in the shapes that people write, Parquet, and Arrow."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence, Set
from itertools import chain
from pathlib import Path
from typing import Any, Final

from tonemill.pipelines.recipes.recipe import EXACT
from tonemill.pipelines.sources.separated import Rows, plain

ARROW: Final = (b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff")
"""How Parquet, Arrow files (Feather) and Arrow streams (Hugging Face `datasets`) begin."""

KEY: Final = "path"
"""The column of names in a JSON object that has a record for each name."""

VALUE: Final = "value"
"""The column of values in a JSON object that has one for each name, and no record."""

_LINES: Final = (".jsonl", ".ndjson")
_SPACE: Final = " \t\r\n"

Found = tuple[Sequence[str], Rows, str]
"""(columns, rows, what the number of a row counts)."""


def is_json(data: bytes, suffix: str) -> bool:
    """Whether a table is JSON: by its suffix, or because its first line, or all of it, is an array or an object."""
    if suffix.lower() in (".json", *_LINES):
        return True
    begin = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not begin.startswith((b"{", b"[")):
        return False
    for text in (begin.split(b"\n", 1)[0], begin):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            continue
        return True
    return False


def of_json(text: str, suffix: str, names: Set[str]) -> Found:
    """An array of objects, lines of objects, an object with an object or a value for each name, or as pandas writes.

    Args:
        text: of the file.
        suffix: of its name; by .jsonl and .ndjson each line is a row, also where there is only one.
        names: columns that it likely has, in the spelling of `plain`.

    Raises:
        ValueError: it is none of these, or has one name twice with different values.
    """
    text = text.strip(_SPACE)
    # Not str.splitlines: JSON takes some of its ends of lines for text.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip(_SPACE)]
    if suffix.lower() in _LINES and not text.startswith("["):
        return *_of_records([(number, _line(number, line)) for number, line in lines]), "line"
    try:
        record = json.loads(text, object_pairs_hook=_once)
    except ValueError:
        if len(lines) < 2 or not _is_object(lines[0][1]):
            raise
        return of_json(text, _LINES[0], names)
    if isinstance(record, dict):
        record = _records(record, names | {plain(KEY)})
    if not isinstance(record, list):
        raise ValueError("it is neither an array of objects nor an object with an object for each name")
    return *_of_records(list(enumerate(record, 1))), "row"


def of_arrow(data: bytes, path: Path) -> Found:
    """The rows of a Parquet file, an Arrow file or an Arrow stream.

    Raises:
        CorpusError: it is damaged.
    """
    import pyarrow as pa

    from tonemill.pipelines.storage import parquet

    if data.startswith(ARROW[0]):
        table = parquet.table_in(data, path)
    else:
        with parquet.reading(path):
            opened = pa.ipc.open_stream if data.startswith(ARROW[2]) else pa.ipc.open_file
            table = opened(pa.BufferReader(data)).read_all()
    return *_of_records(list(enumerate(table.to_pylist(), 1))), "row"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, which may have a name twice.

    Raises:
        ValueError: it has one with two values.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            raise ValueError(f"an object has {name!r} twice, as {str(found[name])[:60]} and as {str(value)[:60]}")
        found[name] = value
    return found


def _line(number: int, line: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_once)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _of_records(records: Sequence[tuple[int, Any]]) -> tuple[list[str], Rows]:
    for line, record in records:
        if not isinstance(record, dict):
            raise ValueError(f"line {line} is not a JSON object: {str(record)[:60]}")
    columns = list(dict.fromkeys(chain.from_iterable(record for _, record in records)))
    rows = [
        (line, {name: _as_json(value) for name, value in record.items() if _is_known(value)})
        for line, record in records
    ]
    return columns, rows


def _records(record: dict[str, Any], names: Set[str]) -> list[Any]:
    """The rows of an object: of columns, by name, of its only list or object of records, or the object is a row."""
    values = list(record.values())
    is_by_column = bool(names & set(map(plain, record)))
    columns, rows = record.get("columns"), record.get("data")
    if columns and isinstance(columns, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows):
        # pandas: orient="split".
        if not all(isinstance(one, str) for one in columns) or any(len(row) != len(columns) for row in rows):
            raise ValueError('its "columns" must be names, and each row of its "data" must have a value for each')
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
    objects = [one for one in values if isinstance(one, dict)]
    if not lists and len(objects) == 1 and objects[0] and all(isinstance(one, dict) for one in objects[0].values()):
        return _records(objects[0], names)
    if lists:
        raise ValueError(f"it holds {len(lists)} lists of objects, and which is the table cannot be known")
    return [{KEY: name, VALUE: one} for name, one in record.items()]


def _is_known(value: Any) -> bool:
    return value is not None and value == value


def _as_json(value: Any) -> Any:
    """A value that JSON has: lists and objects stay what they are; a date or infinity becomes text."""
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _as_json(one) for name, one in value.items()}
    if isinstance(value, int) and abs(value) >= EXACT:
        return str(value)
    if isinstance(value, bytes):
        return _text_of(value)
    is_finite = not isinstance(value, float) or math.isfinite(value)
    return value if isinstance(value, str | int | float | bool | None) and is_finite else str(value)


def _text_of(value: bytes) -> str:
    """Bytes of a Parquet table as the text that they are, or in hexadecimal digits."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
