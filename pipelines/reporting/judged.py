"""Tables of metrics with intervals, from the JSON that `tonemill evaluate --json` prints, or anyone else's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.reporting.charts import plain

SCALE: Final = 200
"""Length of the picture of an interval."""

_MARGIN: Final = 6


@dataclass(frozen=True)
class Figure:
    """One metric of one file.

    Args:
        place: the number of the place, or of the file after all places, which decides its colour.
        source: the file's name.
        value: of the metric; None or NaN where it could not be measured.
        text: value and interval for a person.
        count: of clips.
        reference: held-out real against real, for a person.
        noise: the same for noise.
        note: what else is known.
        at: positions of value, low, high, reference and noise on the common scale, None where there is none.
    """

    place: int
    source: str
    value: float | None
    text: str
    count: str
    reference: str
    noise: str
    note: str
    at: Mapping[str, float | None]


@dataclass(frozen=True)
class Metric:
    """A metric, and what each file says of it."""

    name: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Judged:
    """All metric files.

    Args:
        metrics: in the order they first come.
        judges: who judged, a line for each file that says so.
    """

    metrics: tuple[Metric, ...]
    judges: tuple[str, ...]


def read_judged(paths: Sequence[Path], places: Sequence[str] = ()) -> Judged:
    """Read metric files: `{"metrics": [{"name", "value", "low", "high", "n", "reference", "noise", "note"}], "judge"}`.

    Args:
        paths: of the files.
        places: names of what the report shows; a file about one of them has its colour.

    Raises:
        UsageError: a file cannot be read, or holds something else.
    """
    rows: dict[str, list[tuple[int, str, Mapping[str, Any]]]] = {}
    judges = []
    others = len(places)
    for path in paths:
        record = _read(path)
        source = str(record.get("corpus") or record.get("name") or path.stem)
        number = places.index(source) if source in places else others
        others += source not in places
        if record.get("judge") is not None:
            judges.append(f"{source}: {_words(record['judge'])}")
        for row in record["metrics"]:
            rows.setdefault(str(row["name"]), []).append((number, source, row))
    return Judged(tuple(_metric(name, some) for name, some in rows.items()), tuple(judges))


def _read(path: Path) -> dict[str, Any]:
    shape = '{"metrics": [{"name": "frechet", "value": 8.1, "low": 7.5, "high": 8.9, "n": 500}, ...], "judge": "..."}'
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"--metrics {path} cannot be read: {error}. It takes JSON like {shape}.") from error
    rows = record.get("metrics") if isinstance(record, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "name" in row for row in rows):
        raise UsageError(f"--metrics {path} holds no list of metrics. It takes JSON like {shape}.")
    return record


def _metric(name: str, rows: list[tuple[int, str, Mapping[str, Any]]]) -> Metric:
    numbers = [
        found
        for _, _, row in rows
        for key in ("value", "low", "high", "reference", "noise")
        if (found := _number(row.get(key))) is not None
    ]
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    span = (high - low) or 1.0

    def at(value: Any) -> float | None:
        number = _number(value)
        if number is None:
            return None
        return SCALE / 2 if high == low else round(_MARGIN + (number - low) / span * (SCALE - 2 * _MARGIN), 1)

    figures = []
    for place, source, row in rows:
        value, least, most = (_number(row.get(key)) for key in ("value", "low", "high"))
        text = plain(value) if value is not None else "not measured"
        if value is not None and least is not None and most is not None:
            text += f" ({plain(least)} to {plain(most)})"
        count = _number(row.get("n"))
        figures.append(
            Figure(
                place,
                source,
                value,
                text,
                "" if count is None else plain(count),
                _told(row.get("reference")),
                _told(row.get("noise")),
                " ".join(str(row[key]) for key in ("unit", "note", "warning") if row.get(key)),
                {key: at(row.get(key)) for key in ("value", "low", "high", "reference", "noise")},
            )
        )
    return Metric(name, tuple(figures))


def _number(value: Any) -> float | None:
    """A finite number, or None; of a record, its value."""
    if isinstance(value, Mapping):
        value = value.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _told(value: Any) -> str:
    number = _number(value)
    return plain(number) if number is not None else ""


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_words(one)}" for name, one in value.items())
    return plain(value) if isinstance(value, float) else str(value)
