"""Choose and load the clips that a report plays: random ones and extreme ones, or the sets that training wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.codecs import files
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.report.cards import Budget, Card, card_of, read_start, troubled
from tonemill.pipelines.report.charts import plain
from tonemill.pipelines.report.neighbours import Found, KnownNeighbours, Neighbours
from tonemill.pipelines.report.sampling import Chosen, at_the_edges, by_lot, label_of
from tonemill.pipelines.report.subject import SOUNDS, Place, to_read

COURSE: Final = 8
"""Sets of clips that a report plays of one run, from the first to the last."""

CLOSEST: Final = 9
"""At most so many clips are played beside the real clip that is nearest to them."""

_OWN: Final = ("key", "split", "start_seconds", "seconds", "sample_rate", "channels", "peak_db")


@dataclass(frozen=True)
class Set:
    """Clips under one heading."""

    title: str
    note: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Listening:
    """The sets of clips of one place; `place` is its number in the report."""

    place: int
    sets: tuple[Set, ...]


@dataclass(frozen=True)
class LoadedClip:
    """A clip in memory before it becomes a card."""

    key: str
    title: str
    tags: tuple[str, ...]
    fields: Mapping[str, Any]
    notes: tuple[tuple[str, str], ...]
    sounds: Mapping[str, Waveform]
    whole_seconds: float | None
    trouble: Exception | None = None


def listen(
    number: int,
    place: Place,
    count: int,
    seconds: float,
    budget: Budget,
    real: Neighbours | None = None,
    closest: KnownNeighbours | None = None,
) -> Listening:
    """Choose clips of a place, load them and make cards of them, until `count` or `budget` is reached.

    Args:
        number: of the place in the report.
        place: the corpus, folder or run.
        count: random clips, at most.
        seconds: of each clip, at most.
        budget: bytes that the page has left for this place.
        real: real clips; the nearest one is played beside each clip.
        closest: clips of this place and the real clip nearest to each, from a file of metrics.
    """
    if place.run is not None:
        return Listening(number, tuple(_of_run(place, count, seconds, budget, real)))
    index = place.index
    if not index.num_rows:
        return Listening(number, ())
    label = label_of(index, place.fields())
    chosen = [Chosen(row) for row in by_lot(index, count, label)]
    what = f"{len(chosen):,} of {index.num_rows:,}, drawn at random" if len(chosen) < index.num_rows else "All of them"
    what += f", equally many of each {label}" if label and len(chosen) < index.num_rows else ""
    sets = [_set("Clips", what, list(_read(place, chosen, label, seconds)), seconds, budget, real)]
    if closest is not None and closest.by_key:
        at = {key: row for row, key in enumerate(index["key"].to_pylist()) if key in closest.by_key}
        nearest = [Chosen(at[key]) for key in closest.by_key if key in at][:CLOSEST]
        loaded = list(_read(place, nearest, label, seconds))
        sets.append(
            _set("Nearest to real clips", "What the model may have memorised.", loaded, seconds, budget, closest)
        )
    edges = at_the_edges(index) if index.num_rows > 8 else []
    if edges:
        loaded = list(_read(place, edges, label, seconds))
        sets.append(_set("At the edges", "The shortest, longest, softest and loudest.", loaded, seconds, budget, None))
    return Listening(number, tuple(sets))


def _read(place: Place, chosen: list[Chosen], label: str | None, seconds: float) -> Iterator[LoadedClip]:
    rows = place.index.take([one.row for one in chosen]).to_pylist()
    fields = place.fields()
    for one, row in zip(chosen, rows, strict=True):
        shown = [name for name in (*_OWN, *fields) if row.get(name) is not None]
        notes = tuple((name, plain(row[name]) if isinstance(row[name], float) else str(row[name])) for name in shown)
        tags = [f"{label} {row[label]}"] if label and row[label] is not None else []
        title = str(row["source"]) + (f", from {plain(row['start_seconds'])} s" if row.get("start_seconds") else "")
        known = {name: row.get(name) for name in (*fields, "clipped_samples")}
        shown_as = (row["key"], title, tuple([*tags, one.why] if one.why else tags), known, notes)
        try:
            yield LoadedClip(*shown_as, read_start(place.sounds(row), seconds), row["seconds"])
        except (AudioError, OSError, KeyError) as error:
            yield LoadedClip(*shown_as, {}, None, error)


def _of_run(place: Place, count: int, seconds: float, budget: Budget, real: Neighbours | None) -> Iterator[Set]:
    clips = place.folder / "clips"
    sets = sorted(folder for folder in _inside(clips) if folder.name.isdecimal() and folder.is_dir())
    if not sets:
        return
    last = sets[-1]
    loaded = [_read_file(path, f"step {int(last.name):,}, {path.stem}", seconds) for path in _sounds_in(last)[:count]]
    yield _set("What it sounds like now", f"The last set, of step {int(last.name):,}.", loaded, seconds, budget, real)
    if len(sets) > 1:
        places = sorted({round(at * (len(sets) - 1) / (COURSE - 1)) for at in range(COURSE)})
        course = [
            _read_file(path, f"step {int(sets[at].name):,}, {path.stem}", seconds)
            for at in places
            for path in _sounds_in(sets[at])[:1]
        ]
        note = f"The first clip of {len(places)} of {len(sets)} sets, in order."
        yield _set("How it came there", note, course, seconds, budget, None)
    true = [_read_file(path, f"real, {path.stem}", seconds) for path in _sounds_in(clips / "real")[:COURSE]]
    if true:
        yield _set("Real clips", "Of the corpus, at the length that the model makes.", true, seconds, budget, None)


def _sounds_in(folder: Path) -> list[Path]:
    return sorted(path for path in _inside(folder) if path.suffix in SOUNDS)


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _read_file(path: Path, title: str, seconds: float) -> LoadedClip:
    sounds: dict[str, Waveform] = {}
    trouble: Exception | None = None
    try:
        sounds = read_start({"audio": files.read(to_read(path))}, seconds)
    except (AudioError, OSError) as error:
        trouble = error
    return LoadedClip(path.stem, title, (), {}, (("file", f"{path.parent.name}/{path.name}"),), sounds, None, trouble)


def _set(
    title: str,
    note: str,
    loaded: list[LoadedClip],
    seconds: float,
    budget: Budget,
    real: Neighbours | KnownNeighbours | None,
) -> Set:
    """Make a card of each loaded clip, until the budget is used up."""
    sounding = [one for one in loaded if one.trouble is None and _plays(one)]
    found = dict(zip((id(one) for one in sounding), _found(sounding, real), strict=True))
    cards: list[Card] = []
    dropped = 0
    for one in loaded:
        card = _card(one)
        near = found.get(id(one))
        if near is not None and real is not None and card.sides:
            card = _beside(card, near, real, seconds)
        neighbour = [card.neighbour] if card.neighbour else []
        if budget.take(card) and all(budget.take(other) for other in neighbour):
            cards.append(card)
        else:
            dropped += 1
    notes = [note if note.endswith(".") else f"{note}."]
    if dropped:
        notes.append(f"{dropped} more would make the page too large; --megabytes lets it grow.")
    if real is not None:
        notes.append(real.note)
    return Set(title, " ".join(notes), tuple(cards))


def _plays(one: LoadedClip) -> bool:
    return bool(one.sounds) and all(clip.frames for clip in one.sounds.values())


def _found(loaded: list[LoadedClip], real: Neighbours | KnownNeighbours | None) -> list[Found | None]:
    if real is None or not loaded:
        return [None] * len(loaded)
    return real.find([(one.key, one.sounds) for one in loaded])


def _card(one: LoadedClip) -> Card:
    if one.trouble is not None:
        return troubled(one.title, one.trouble, one.tags, one.notes)
    try:
        return card_of(
            one.title, one.sounds, one.fields, tags=one.tags, notes=one.notes, whole_seconds=one.whole_seconds
        )
    except AudioError as error:
        return troubled(one.title, error, one.tags, one.notes)


def _beside(card: Card, near: Found, real: Neighbours | KnownNeighbours, seconds: float) -> Card:
    """A card with its nearest real clip; a clip that cannot be read is named all the same."""
    title = str(near.row["source"])
    try:
        sounds = read_start(real.place.sounds(near.row), min(seconds, card.seconds + 1))
        beside = card_of(title, sounds, near.row, whole_seconds=near.row["seconds"])
    except (AudioError, OSError, KeyError) as error:
        beside = troubled(title, error)
    return replace(card, neighbour=beside, distance=near.distance, distance_unit=near.unit)
