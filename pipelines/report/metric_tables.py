"""Tables of metrics with intervals, from the JSON that `tonemill evaluate --json` prints, or anyone else's."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.report.charts import plain
from tonemill.pipelines.report.labels import Closest, Labels, closest_in, labels_in

SCALE: Final = 200
"""Length of the picture of an interval."""

MOST_WORDS: Final = 12
_MARGIN: Final = 6
_WANTED: Final = 'It takes what `tonemill evaluate --json` prints, or {"metrics": [{"name": "frechet", "value": 8.1}]}.'


@dataclass(frozen=True)
class Beside:
    """What a number stands beside, as held-out real clips: for a person, its interval, and where on the scale."""

    text: str = ""
    interval: str = ""
    value: float | None = None
    at: float | None = None


@dataclass(frozen=True)
class Figure:
    """One metric of one file.

    Args:
        place: the number of the place, or of the file after all places, which decides its colour.
        source: the file's name.
        value: of the metric; None or NaN where it could not be measured.
        text: value for a person.
        interval: likewise, nothing where there is none.
        count: of clips.
        note: what else is known.
        at: position on the common scale of the value, None where there is none.
        reach: of the interval.
        beside: one for each name in `Judged.beside`.
    """

    place: int
    source: str
    value: float | None
    text: str
    interval: str
    count: str
    note: str
    at: float | None
    reach: tuple[float, float] | None
    beside: tuple[Beside, ...]


@dataclass(frozen=True)
class Metric:
    """A metric, and its value in each file."""

    name: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Judged:
    """All metric files.

    Args:
        metrics: in the order they first come.
        beside: names of what numbers stand beside, as `held out` and `noise`.
        notes: the judge, and warnings of the files.
        labels: of each file that has them.
        closest: by the number of the place whose clips they are.
    """

    metrics: tuple[Metric, ...]
    beside: tuple[str, ...]
    notes: tuple[str, ...]
    labels: tuple[Labels, ...] = ()
    closest: Mapping[int, Closest] = field(default_factory=dict)

    @property
    def remarks(self) -> bool:
        """Whether any number has a note of its own."""
        return any(figure.note for metric in self.metrics for figure in metric.figures)

    @property
    def sources(self) -> int:
        """How many different things were judged."""
        return len({figure.source for metric in self.metrics for figure in metric.figures})


@dataclass(frozen=True)
class _Row:
    """A metric of a file as read: the number itself, and others by name."""

    place: int
    source: str
    main: Mapping[str, Any]
    others: Mapping[str, Any]


def read_judged(paths: Sequence[Path], places: Sequence[str] = ()) -> Judged:
    """Read metric files, as `tonemill evaluate --json` prints them, or a plain list of numbers.

    `{"metrics": {"frechet": {"generated": {"value", "low", "high", "count"}, "held_out": ..., "noise": ...}}}` has a
    row for each set, of which the first is what is judged. `{"metrics": [{"name": "frechet", "value", "low", "high",
    "n", "reference", "noise", "note"}]}` means the same. Both may have `judge`, `notes` and `generated` or `corpus`.

    Args:
        paths: of the files.
        places: names of what the report shows; a file about one of them has its colour.

    Raises:
        UsageError: a file cannot be read, or holds something else.
    """
    metrics: dict[str, list[_Row]] = {}
    sources_of_notes: dict[str, list[str]] = {}
    labels: list[Labels] = []
    closest: dict[int, Closest] = {}
    others = len(places)
    read = [(path, one) for path in paths for one in _each(_read(path))]
    for path, record in read:
        source = _source(record) or path.stem
        known = next((number for number, name in enumerate(places) if _same(name, source)), None)
        place, others = (others, others + 1) if known is None else (known, others)
        if record.get("judge") is not None:
            sources_of_notes.setdefault(f"judged by {_words(record['judge'])}", []).append(source)
        labels += labels_in(source, record.get("labels"))
        if known is not None and (found := closest_in(record)) is not None:
            closest[known] = found
        given = record.get("notes")
        for note in given if isinstance(given, list) else ():
            sources_of_notes.setdefault(str(note), []).append(source)
        for name, main, more in _rows(path, record["metrics"]):
            metrics.setdefault(name, []).append(_Row(place, source, main, more))
    beside = tuple(dict.fromkeys(name for rows in metrics.values() for row in rows for name in row.others))
    judged = tuple(_metric(name, rows, beside) for name, rows in metrics.items())
    names = tuple(name.replace("_", " ") for name in beside)
    notes = tuple(f"{', '.join(sources)}: {note}" for note, sources in sources_of_notes.items())
    return Judged(judged, names, notes, tuple(labels), closest)


def _same(name: str, source: str) -> bool:
    """Whether a file's source is the place `name`; the file may have been written in another folder."""
    parts = Path(source).parts
    return Path(name).resolve() == Path(source).resolve() or Path(name).resolve().parts[-len(parts) :] == parts


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"--metrics {path} cannot be read: {error}. {_WANTED}") from error
    if not isinstance(record, dict) or "metrics" not in record:
        raise UsageError(f"--metrics {path} holds no metrics. {_WANTED}")
    return record


def _each(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A record for each set that a comparison of several has, as a comparison of that set alone would have it."""
    sets = record.get("sets")
    if not isinstance(sets, Mapping) or len(sets) < 2 or not isinstance(record["metrics"], Mapping):
        yield record
        return

    def of(name: str, rows: Any) -> Any:
        if not isinstance(rows, Mapping):
            return rows
        return {"generated" if one == name else one: row for one, row in rows.items() if one == name or one not in sets}

    for name, about in sets.items():
        metrics = {metric: of(name, rows) for metric, rows in record["metrics"].items() if name in rows}
        near = record.get("nearest")
        nearest = [one for one in near if isinstance(one, Mapping) and one.get("set") == name] if near else near
        more = {"generated": about, "metrics": metrics, "nearest": nearest, "labels": of(name, record.get("labels"))}
        yield {**record, **more}


def _rows(path: Path, metrics: Any) -> Iterator[tuple[str, Mapping[str, Any], dict[str, Any]]]:
    """Each metric's name, its number, and what that stands beside."""
    for one in _pairs(metrics) if isinstance(metrics, dict | list) else [None]:
        if one is None or not isinstance(one[1], Mapping) or not one[1]:
            raise UsageError(f"--metrics {path} holds no list of metrics. {_WANTED}")
        name, row = one
        if isinstance(next(iter(row.values())), Mapping):
            (_, main), *rest = row.items()
            yield name, main, dict(rest)
        else:
            renamed = {"reference": "held_out", "noise": "noise"}
            yield name, row, {renamed[key]: row[key] for key in renamed if row.get(key) is not None}


def _pairs(metrics: dict[str, Any] | list[Any]) -> Iterator[tuple[str, Any] | None]:
    if isinstance(metrics, dict):
        yield from metrics.items()
    else:
        yield from ((str(row["name"]), row) if isinstance(row, dict) and "name" in row else None for row in metrics)


def _source(record: Mapping[str, Any]) -> str | None:
    generated = record.get("generated")
    found = generated.get("place") if isinstance(generated, Mapping) else record.get("corpus") or record.get("name")
    return str(found) if found else None


def _metric(name: str, rows: list[_Row], beside: tuple[str, ...]) -> Metric:
    given = [row.main.get(key) for row in rows for key in ("value", "low", "high")]
    given += [value for row in rows for value in row.others.values()]
    numbers = [number for value in given if (number := _number(value)) is not None]
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)

    def at(value: Any) -> float | None:
        number = _number(value)
        if number is None:
            return None
        return SCALE / 2 if high == low else round(_MARGIN + (number - low) / (high - low) * (SCALE - 2 * _MARGIN), 1)

    figures = []
    for row in rows:
        least, most = at(row.main.get("low")), at(row.main.get("high"))
        count = _number(row.main.get("count", row.main.get("n")))
        figures.append(
            Figure(
                row.place,
                row.source,
                _number(row.main.get("value")),
                *(_shown(row.main) if _number(row.main.get("value")) is not None else ("not measured", "")),
                "" if count is None else plain(count),
                " ".join(str(row.main[key]) for key in ("unit", "note", "warning") if row.main.get(key)),
                at(row.main.get("value")),
                None if least is None or most is None else (least, most),
                tuple(_beside(row.others.get(one), at) for one in beside),
            )
        )
    return Metric(name, tuple(figures))


def _beside(value: Any, at: Callable[[Any], float | None]) -> Beside:
    return Beside(*_shown(value), _number(value), at(value))


def _number(value: Any) -> float | None:
    """A finite number, or None; of a record, its value."""
    if isinstance(value, Mapping):
        value = value.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _shown(value: Any) -> tuple[str, str]:
    """A number, and its interval where it has one."""
    number = _number(value)
    if number is None:
        return "", ""
    ends = [_number(value.get(key)) for key in ("low", "high")] if isinstance(value, Mapping) else [None]
    return plain(number, 3), "" if None in ends else " to ".join(plain(end, 3) for end in ends)


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_words(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, list):
        return ", ".join(map(_words, value[:MOST_WORDS])) + (", ..." if len(value) > MOST_WORDS else "")
    return plain(value) if isinstance(value, float) else str(value)
