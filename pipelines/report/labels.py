"""Read what an evaluation holds beside its metrics: the labels a judge gave, and the clips nearest to real ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Labels:
    """How a judge labelled the sets of a file, as percentages of each set.

    Args:
        source: the file's name.
        sets: their names.
        rows: each label, and a share of every set.
    """

    source: str
    sets: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Closest:
    """The clips nearest to real ones.

    Args:
        against: the corpus of the real ones.
        pairs: key, key of the real clip, distance and its unit; the nearest first.
    """

    against: str
    pairs: tuple[tuple[str, str, float, str], ...]


def labels_in(source: str, given: Any) -> Iterator[Labels]:
    """The labels of each set, from counts by set and label; nothing where there are none."""
    sets = given if isinstance(given, Mapping) else {}
    sets = {name: one for name, one in sets.items() if isinstance(one, Mapping) and sum(one.values())}
    values = dict.fromkeys(label for one in sets.values() for label in one)
    if values:
        rows = [
            (str(label), tuple(100 * one.get(label, 0) / sum(one.values()) for one in sets.values()))
            for label in values
        ]
        yield Labels(source, tuple(name.replace("_", " ") for name in sets), tuple(rows))


def closest_in(record: Mapping[str, Any]) -> Closest | None:
    """The pairs of `nearest`, as far as they are whole."""
    against, rows = record.get("against"), record.get("nearest")
    if not isinstance(against, Mapping) or not isinstance(rows, list) or not rows:
        return None
    wanted = ("key", "real_key", "distance")
    pairs = [
        (str(row["key"]), str(row["real_key"]), float(row["distance"]), str(row.get("unit", "")))
        for row in rows
        if isinstance(row, Mapping) and all(name in row for name in wanted)
    ]
    return Closest(str(against.get("place", "")), tuple(pairs)) if pairs else None
