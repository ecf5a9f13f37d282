"""The tables of one shard: a row for each example, a row for each reject."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools.errors import AudioError
from tonemill.pipelines.planning.plan import Planned, Shard
from tonemill.pipelines.storage import commit
from tonemill.pipelines.storage.columns import column

REJECT_COLUMNS: Final = pa.schema(
    [
        ("source", pa.string()),
        ("key", pa.string()),
        ("clip", pa.int32()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("step", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("measured", pa.string()),
    ]
)


@dataclass
class Tally:
    """What came of a shard's sources so far: rows for the tables, and the ledger.

    `seconds` has those of each source by what became of them; None where that is not known.
    """

    shard: Shard
    examples: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    ledger: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, list[float]] | None = None
    roles: set[str] = field(default_factory=set)
    arrays: set[str] = field(default_factory=set)

    def refuse(self, planned: Planned, clip: int | None, step: str, error: AudioError) -> None:
        """Add a row to the rejects: of a clip by its number, or of a whole source (None)."""
        row = {
            "source": planned.recipe.path,
            "key": planned.key,
            "clip": clip,
            "split": self.shard.split,
            "shard": self.shard.name,
            "step": step,
            "outcome": error.outcome,
            "reason": error.reason,
            "message": error.message,
            "measured": json.dumps(error.measured) if error.measured else None,
        }
        self.rejects.append(row)

    def account(self, spent: Mapping[str, float] | None) -> None:
        """Enter the seconds of a source by what became of them; None where that is not known."""
        if spent is None:
            self.seconds = None
        elif self.seconds is not None:
            for name, seconds in spent.items():
                self.seconds.setdefault(name, []).append(seconds)

    def close_source(self, first_example: int, first_reject: int) -> str:
        """Enter a source of which everything is known into the ledger; whether it was kept, rejected or filtered."""
        kept = len(self.examples) - first_example
        refused = self.rejects[first_reject:]
        self.ledger["sources"] += 1
        if kept:
            self.ledger["kept"] += 1
            self.ledger["clips"] += kept + len(refused)
            self.ledger["examples"] += kept
            self.ledger["clips_rejected"] += sum(row["outcome"] == "rejected" for row in refused)
            self.ledger["clips_filtered"] += sum(row["outcome"] == "filtered" for row in refused)
            return "kept"
        became = "rejected" if any(row["outcome"] == "rejected" for row in refused) else "filtered"
        self.ledger[became] += 1
        return became


def fits_a_column(value: Any, may_be_list: bool) -> bool:
    """Whether a field is in the index: a value, or a list of values; others are in KEY.json alone.

    Args:
        value: of the field.
        may_be_list: a list counts.
    """
    if may_be_list and isinstance(value, list):
        return all(one is None or isinstance(one, str | int | float | bool) for one in value)
    return isinstance(value, str | int | float | bool)


def as_text(value: Any) -> str | None:
    """A value in a column of text; a list as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def index_table(rows: list[dict[str, Any]]) -> pa.Table:
    """A column for everything that any row has; a field that is a number here and text there becomes text."""
    columns: dict[str, pa.Array] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = column(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            columns[name] = column([as_text(value) for value in values])
    return pa.table(columns)


def write_table(target: Path, table: pa.Table) -> dict[str, Any]:
    """Write a table; returns its bytes and SHA-256."""
    with commit.fingerprinted(target) as (file, found):
        parquet.write_table(table, file, compression="zstd")
    return found
