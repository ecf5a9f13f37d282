"""What follows from the rows of a whole corpus, added up some thousand at a time: counts, rates, peaks, reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tonemill.pipelines.corpus.array_columns import ArrayCounts
from tonemill.pipelines.storage.output_names import INDEX


class RowTotals:
    """Sums over index and rejects.

    Args:
        arrays: names of those that any example has.
    """

    def __init__(self, arrays: Collection[str]) -> None:
        self._arrays = ArrayCounts(arrays) if arrays else None
        self._columns: list[str] = []
        self._examples = self._gain_limited = 0
        self._rates, self._channels = set[Any](), set[Any]()
        self._peak: float | None = None
        self._other_lengths, self._quiet_mixes = set[str](), set[str]()
        self._reasons, self._refused_by = Counter[str](), Counter[str]()

    def add(self, name: str, table: pa.Table) -> None:
        """Enter rows of the table of that file name; all of the index have the same columns."""
        if name == INDEX:
            self._add_index(table)
            return
        for row in table.select(["step", "outcome", "reason"]).to_pylist():
            self._reasons[f"{row['outcome']}: {row['reason']}"] += 1
            self._refused_by[f"{row['outcome']}: {row['reason']} ({row['step']})"] += 1

    def _add_index(self, index: pa.Table) -> None:
        self._columns = index.column_names
        self._examples += index.num_rows
        self._rates |= _values(index, "sample_rate")
        self._channels |= _values(index, "channels")
        self._peak = _highest(index, "peak_db", self._peak)
        self._gain_limited += _trues(index, "gain_limited")
        self._other_lengths |= _sources_with(index, "declared_samples")
        self._quiet_mixes |= _sources_with(index, "mix_db")
        if self._arrays is not None:
            self._arrays.add(index)

    def before_splits(self) -> dict[str, Any]:
        """The fields of corpus.json on columns, rate and channels; `arrays` where there are any."""
        return {
            **({"arrays": self._arrays.described()} if self._arrays is not None else {}),
            "columns": self._columns,
            "sample_rate": _only(self._rates),
            "channels": _only(self._channels),
            "examples": self._examples,
        }

    def reasons(self) -> dict[str, dict[str, int]]:
        """The fields on what was refused."""
        return {
            "reasons": dict(sorted(self._reasons.items())),
            "refused_by": dict(sorted(self._refused_by.items())),
        }

    def levels(self) -> dict[str, Any]:
        """The fields on peaks and lengths."""
        quiet = len(self._quiet_mixes)
        return {
            "peak_db": self._peak,
            "gain_limited": self._gain_limited,
            "other_lengths": len(self._other_lengths),
            **({"quiet_mixes": quiet} if quiet else {}),
        }


def _values(index: pa.Table, column: str) -> set[Any]:
    return set(index[column].unique().to_pylist()) if column in index.column_names else set()


def _only(values: set[Any]) -> Any:
    """The one value of a column, or None if there are several."""
    return next(iter(values)) if len(values) == 1 else None


def _highest(index: pa.Table, column: str, before: float | None) -> float | None:
    """The largest number of a column, and of those before it."""
    values = index[column] if column in index.column_names else pa.chunked_array([], pa.null())
    if pa.types.is_floating(values.type) and not pc.any(pc.is_nan(values)).as_py():
        found: list[Any] = [pc.max(values).as_py()]
    else:
        found = values.to_pylist()
    return max((value for value in (before, *found) if isinstance(value, int | float)), default=None)


def _trues(index: pa.Table, suffix: str) -> int:
    """Rows in which a column of this name, alone or after a role's, is true."""
    columns = [index[name].to_pylist() for name in index.column_names if name.endswith(suffix)]
    return sum(any(value is True for value in row) for row in zip(*columns, strict=True))


def _sources_with(index: pa.Table, suffix: str) -> set[str]:
    """The sources that have something in a column of this name, alone or after a role's."""
    columns = [index[name].is_valid().to_pylist() for name in index.column_names if name.endswith(suffix)]
    sources = index["source"].to_pylist() if columns else []
    return {source for source, *row in zip(sources, *columns, strict=True) if any(row)}
