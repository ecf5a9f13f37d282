"""Choose which examples of a corpus a report plays: a few of every label, and the extreme ones."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import compute

EDGES: Final = (
    ("seconds", "shortest", "longest"),
    ("peak_db", "lowest peak", "highest peak"),
)
MOST_LABELS: Final = 100


class Chosen(NamedTuple):
    """A row of the index, and why it was chosen if not by lot."""

    row: int
    why: str = ""


def by_lot(index: pa.Table, count: int, label: str | None) -> list[int]:
    """Rows drawn at random, the same ones each time; equally many of every label, as far as there are enough.

    Args:
        index: of any length.
        count: how many rows, at most.
        label: a column of which every value is drawn equally often, or None.
    """
    rows = index.num_rows
    order = np.random.default_rng(0).permutation(rows)
    if label is None or count >= rows:
        return [int(row) for row in order[:count]]
    codes = index[label].combine_chunks().dictionary_encode("encode").indices.to_numpy()[order]
    sorted_rows = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[sorted_rows], codes[sorted_rows], side="left")
    turn = np.empty(rows, np.int64)
    turn[sorted_rows] = np.arange(rows) - starts
    return [int(row) for row in order[np.argsort(turn, kind="stable")[:count]]]


def at_the_edges(index: pa.Table) -> list[Chosen]:
    """The shortest, longest, softest and loudest examples, where examples differ."""
    found: dict[int, str] = {}
    for column, least, most in EDGES:
        if column not in index.column_names:
            continue
        values = numbers(index[column])
        if not np.isfinite(values).any() or np.nanmin(values) == np.nanmax(values):
            continue
        for row, why in ((int(np.nanargmin(values)), least), (int(np.nanargmax(values)), most)):
            found[row] = f"{found[row]}, {why}" if row in found else why
    return [Chosen(row, why) for row, why in found.items()]


def label_of(index: pa.Table, fields: list[str]) -> str | None:
    """The field that groups examples best: `label`, else the first text field with 2 to 100 values."""
    for name in sorted(fields, key=lambda name: name != "label"):
        column = index[name]
        fits = pa.types.is_string(column.type) or (name == "label" and pa.types.is_integer(column.type))
        if fits and 2 <= _distinct(column) <= MOST_LABELS:
            return name
    return None


def numbers(column: pa.ChunkedArray) -> Any:
    """A column as float64; what is missing or infinite is NaN."""
    values = compute.cast(column, pa.float64(), safe=False).to_numpy()
    return np.where(np.isfinite(values), values, np.nan)


def _distinct(column: pa.ChunkedArray) -> int:
    return int(compute.count_distinct(column).as_py())
