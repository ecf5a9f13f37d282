"""How the examples of places are distributed: lengths, levels, tempo, rates and labels, over the whole index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import compute

from tonemill.pipelines.report.charts import Chart, histogram, plain
from tonemill.pipelines.report.sampling import numbers
from tonemill.pipelines.report.subject import Place

OWN: Final = ("seconds", "peak_db", "sample_rate", "channels", "clipped_samples")
"""Columns that every index has and a person asks about."""

NAMES: Final = frozenset({"seed"})
"""Numbers that only name something."""

FIRST: Final = ("seconds", "loudness_lufs", "rms_db", "peak_db", "tempo_bpm", "label")
MOST_BARS: Final = 16
FEW: Final = 12
"""Whole numbers with no more distinct values than this are shown by value, where values come again and again."""

AGAIN: Final = 4

MANY: Final = 60
"""Values of which there are more, and none makes up a share of more than one in so many, are names, and not shown."""

MOST_VALUES: Final = 10_000
MOST_FIELDS: Final = 40


@dataclass(frozen=True)
class Bar:
    """How often a value comes: in each place, its count and its share of the largest, from 0 to 100."""

    value: str
    counts: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class Values:
    """How often the values of a field come.

    Args:
        title: the field.
        bars: the most frequent ones.
        rest: what is left out, in words.
    """

    title: str
    bars: tuple[Bar, ...]
    rest: str = ""
    kind: str = "values"


@dataclass(frozen=True)
class Constant:
    """A field that has one value everywhere, or so many values that only their number is shown."""

    title: str
    value: str


@dataclass(frozen=True)
class Distributions:
    """What the columns of the indexes hold; `left_out` names fields beyond the first MOST_FIELDS."""

    shown: tuple[Chart | Values, ...]
    constant: tuple[Constant, ...]
    left_out: tuple[str, ...] = ()


def distributions(places: Sequence[Place]) -> Distributions:
    """All fields of all places; every row counts, for counting is fast."""
    named = list(dict.fromkeys(name for place in places for name in (*OWN, *place.fields())))
    named = [name for name in named if name not in NAMES and any(name in one.index.column_names for one in places)]
    named.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    shown: list[Chart | Values] = []
    constant: list[Constant] = []
    left_out: list[str] = []
    for name in named:
        found = _field(name, places)
        if isinstance(found, Constant):
            constant.append(found)
        elif found is not None and len(shown) < MOST_FIELDS:
            shown.append(found)
        elif found is not None:
            left_out.append(name)
    return Distributions(tuple(shown), tuple(constant), tuple(left_out))


def _field(name: str, places: Sequence[Place]) -> Chart | Values | Constant | None:
    columns = [place.index[name] if name in place.index.column_names else None for place in places]
    counts = [_counts(column) for column in columns]
    numeric = all(column is None or _is_number(column.type) for column in columns)
    distinct = {value for count in counts if count is not None for value in count}
    if numeric and (None in counts or not _is_kind(distinct, counts)):
        values = [np.zeros(0) if column is None else numbers(column) for column in columns]
        return histogram(name, values, [place.index.num_rows for place in places])
    if None in counts:
        return Constant(name, f"more than {MOST_VALUES:,} different values")
    known = [count or Counter() for count in counts]
    held = sum(sum(count.values()) for count in known)
    rows = sum(place.index.num_rows for place, column in zip(places, columns, strict=True) if column is not None)
    if len(distinct) > MANY and max(max(count.values(), default=0) for count in known) < held / MANY:
        return Constant(name, f"{len(distinct):,} different values")
    if len(distinct) == 1 and held == rows:
        return Constant(name, _text(next(iter(distinct))))
    return _values(name, known, places) if distinct else None


def _counts(column: pa.ChunkedArray | None) -> Counter[Any] | None:
    """How often each value comes; None where there are too many for that."""
    if column is None or pa.types.is_null(column.type):
        return Counter()
    if compute.count_distinct(column).as_py() > (FEW if _is_number(column.type) else MOST_VALUES):
        return None
    tally = compute.value_counts(column.combine_chunks()).to_pylist()
    # What is missing is None, or NaN, which is not even itself.
    return Counter(
        {one["values"]: one["counts"] for one in tally if one["values"] is not None and one["values"] == one["values"]}
    )


def _values(name: str, counts: list[Counter[Any]], places: Sequence[Place]) -> Values:
    together: Counter[Any] = Counter()
    for count, place in zip(counts, places, strict=True):
        for value, number in count.items():
            together[value] += number / max(1, place.index.num_rows)
    whole = all(_is_whole(value) for value in together)
    named = sorted(together, key=float if whole else str)
    frequent = sorted(named, key=lambda value: -together[value])[:MOST_BARS]
    if whole:
        frequent.sort(key=float)
    shares = [
        [count.get(value, 0) / max(1, place.index.num_rows) for value in frequent]
        for count, place in zip(counts, places, strict=True)
    ]
    top = max((max(one, default=0) for one in shares), default=0) or 1
    bars = tuple(
        Bar(
            _text(value),
            tuple(
                (place, counts[place].get(value, 0), round(100 * shares[place][at] / top, 2))
                for place in range(len(places))
                if name in places[place].index.column_names
            ),
        )
        for at, value in enumerate(frequent)
    )
    more = len(together) - len(frequent)
    without = sum(
        place.index.num_rows - sum(count.values())
        for place, count in zip(places, counts, strict=True)
        if name in place.index.column_names
    )
    rest = [f"{more:,} more values"] * (more > 0) + [f"{without:,} without"] * (without > 0)
    return Values(name, bars, ", ".join(rest))


def _is_kind(distinct: set[Any], counts: Sequence[Counter[Any] | None]) -> bool:
    """Whether numbers tell kinds apart, as rates do, and do not measure, as decibels do."""
    if len(distinct) < 2:
        return True
    rows = sum(sum(count.values()) for count in counts if count is not None)
    often = len(distinct) <= AGAIN or rows >= AGAIN * len(distinct)
    return len(distinct) <= FEW and often and all(float(value).is_integer() for value in distinct)


def _is_whole(value: Any) -> bool:
    """Whether a value has its place among numbers, as a digit that is a label has."""
    return isinstance(value, int | float) or (isinstance(value, str) and value.isascii() and value.isdecimal())


def _is_number(kind: pa.DataType) -> bool:
    # A column that holds nothing is of any kind.
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)


def _text(value: Any) -> str:
    return plain(value) if isinstance(value, float) else str(value)
