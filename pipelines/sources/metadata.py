"""Fields of a source from its file name and from a table."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.pipelines.recipes.recipe import RESERVED


def fields_from_name(pattern: str) -> Callable[[str], dict[str, str]]:
    """Read fields from paths by a pattern such as `{label}_{speaker}_{index}` or `{label}/{take}`.

    The pattern is held against the end of the path without its suffix, as many folders deep as it has slashes.
    A field takes the least text that fits and never a slash.

    Raises:
        UsageError: the pattern has no fields, or names one twice or one that tonemill writes itself.
    """
    parts = re.split(r"\{(\w*)\}", pattern)
    names = parts[1::2]
    if not names or "" in names or len(set(names)) < len(names) or any(name[0].isdigit() for name in names):
        raise UsageError(f"--fields is {pattern!r}; it must name fields in braces, each once, as '{{label}}_{{take}}'.")
    check_names(dict.fromkeys(names))
    expression = "".join(f"(?P<{part}>[^/]+?)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    matcher = re.compile(rf"(?:.*/)?{expression}", re.DOTALL)

    def read(path: str) -> dict[str, str]:
        stem = os.path.splitext(path)[0]  # noqa: PTH122
        match = matcher.fullmatch(stem)
        return match.groupdict() if match else {}

    return read


def fields_from_table(table: Path) -> Callable[[str], dict[str, Any]]:
    """Read fields from a CSV, TSV, JSONL or Parquet table, joined on its column `path` (or `file`, or `name`).

    Raises:
        UsageError: the table cannot be read, has no such column, or names a column that tonemill writes itself.
    """
    rows = read_table(table)
    column = next((name for name in ("path", "file", "filename", "name") if rows and name in rows[0]), None)
    if column is None:
        raise UsageError(
            f"{table} has no column 'path' to join on; it has: {', '.join(map(str, rows[0])) if rows else 'no rows'}."
        )
    check_names({name: None for name in rows[0] if name != column})
    joined = {str(row[column]): {k: _plain(v) for k, v in row.items() if k != column and _is_known(v)} for row in rows}
    return lambda path: joined.get(path) or joined.get(path.rsplit("/", 1)[-1]) or {}


def read_table(table: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import json

    from tonemill.pipelines.storage import parquet

    try:
        if table.suffix == ".parquet":
            return parquet.read_table(table).to_pylist()
        with table.open("rb") as file:
            if table.suffix in (".jsonl", ".json", ".ndjson"):
                return json.read_json(file).to_pylist()
            text = io.TextIOWrapper(file, "utf-8-sig", newline="")
            reader = csv.DictReader(text, delimiter="\t" if table.suffix == ".tsv" else ",", strict=True)
            rows = list(reader)
            if not reader.fieldnames or any(None in row or None in row.values() for row in rows):
                raise csv.Error("it is empty, or a row has more or fewer cells than there are columns")
    except (OSError, CorpusError, pa.ArrowException, csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"--table {table} cannot be read: {error}.") from error
    kinds = {name: _kind([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    return [{name: kind(row[name]) if row[name] else None for name, kind in kinds.items()} for row in rows]


def _kind(texts: list[str | None]) -> type:
    """What a column of text holds: a number only if every one is spelt as that number is, so that 007 stays 007."""
    for kind in (int, float):
        try:
            if all(kind(text) == kind(text) and (kind is float or str(int(text)) == text) for text in texts if text):
                if kind is float and any(re.match(r"-?0\d", text) for text in texts if text):
                    return str
                return kind
        except (ValueError, OverflowError):
            continue
    return str


def _is_known(value: Any) -> bool:
    return value is not None and value == value


def _plain(value: Any) -> Any:
    """A value that JSON has; a date, say, becomes its text."""
    return value if isinstance(value, str | int | float | bool) else str(value)


def check_names(names: Mapping[str, Any]) -> None:
    taken = sorted(RESERVED & set(names))
    if taken:
        raise UsageError(
            f"Fields cannot be called {' or '.join(taken)}: tonemill writes these itself. Choose other names."
        )
