"""Gather the content of a report, and write it as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from tonemill.audiotools.errors import OutputError, TonemillError, UsageError
from tonemill.pipelines.evaluation.vectors import read_vectors
from tonemill.pipelines.maintenance.leaks import leaks
from tonemill.pipelines.report import overview
from tonemill.pipelines.report.cards import Budget
from tonemill.pipelines.report.charts import plain
from tonemill.pipelines.report.curves import curves
from tonemill.pipelines.report.distributions import distributions
from tonemill.pipelines.report.labels import Closest
from tonemill.pipelines.report.metric_tables import read_judged
from tonemill.pipelines.report.neighbours import KnownNeighbours, Neighbours, known_neighbours, neighbours
from tonemill.pipelines.report.page import GENERATOR, page
from tonemill.pipelines.report.playlists import Listening, listen
from tonemill.pipelines.report.rejects import refusals
from tonemill.pipelines.report.sampling import by_lot, label_of, numbers
from tonemill.pipelines.report.subject import Place, open_place
from tonemill.pipelines.storage import commit, paths

TABLE_ROWS: Final = 200
TABLE_COLUMNS: Final = 12
_OWN: Final = ("source", "split", "start_seconds", "seconds", "peak_db")


@dataclass(frozen=True)
class Wishes:
    """Options of a report.

    Args:
        metrics: files as `tonemill evaluate --json` prints them.
        against: the real corpus that renders are held against; None looks for the one that the model was trained on.
        embeddings: files of vectors by key, by which neighbours are found.
        clips: of each place, at most.
        seconds: of each clip, at most.
        megabytes: of sound and pictures, at most.
        title: of the page.
    """

    metrics: Sequence[Path] = ()
    against: str | None = None
    embeddings: Sequence[Path] = ()
    clips: int = 24
    seconds: float = 10.0
    megabytes: float = 6.0
    title: str | None = None


@dataclass(frozen=True)
class Examples:
    """A table of examples: names of columns and whether they hold numbers, and rows as text and what sorts them."""

    place: int
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[tuple[str, str], ...], ...]
    note: str


def report(names: Sequence[str], target: Path, wishes: Wishes) -> dict[str, Any]:
    """Write a report; return its path, its bytes and how many places and clips it shows.

    Args:
        names: corpora, runs and folders, one or more.
        target: the HTML file; an earlier report there is replaced.
        wishes: its options.

    Raises:
        UsageError: a place is neither a corpus, a folder of files nor a run, or a file holds no metrics.
        CorpusError: a place is unfinished or damaged.
        OutputError: the target is another's, or cannot be written.
    """
    refuse_other_file(target)
    judged = read_judged(wishes.metrics, list(names))
    given = read_vectors(wishes.embeddings)
    vectors = {key: vector for key, vector in given.items() if np.isfinite(vector).all()}
    places = [open_place(name) for name in names]
    against = open_place(wishes.against) if wishes.against is not None else None
    if against is not None and against.run is not None:
        raise UsageError(f"--against {against.name} is a run; name the corpus of real clips.")
    found = [leaks(place.output.plan) if place.run is None else [] for place in places]
    charts, lost = curves(places)
    listening_sets: list[Listening] = []
    spent = 0.0
    prepared: dict[Path, Neighbours | None] = {}
    for number, place in enumerate(places):
        # Every place has its share, and what one leaves the next may have.
        budget = Budget((wishes.megabytes * 1e6 - spent) / (len(places) - number))
        real = _real(place, against, vectors, prepared)
        closest = _known(judged.closest.get(number), place, against)
        listening_sets.append(listen(number, place, wishes.clips, wishes.seconds, budget, real, closest))
        spent += budget.used
    content = page(
        {
            "title": wishes.title or _title(names),
            "places": places,
            "kinds": overview.KINDS,
            "findings": overview.findings(places, found, charts, lost),
            "facts": overview.facts(places),
            "judged": judged,
            "curves": charts,
            "listening_sets": listening_sets,
            "distributions": distributions(places),
            "splits": [overview.splits(place) for place in places],
            "leaks": found,
            "refusals": [refusals(place.rejects) for place in places],
            "examples": [_examples(number, place) for number, place in enumerate(places) if place.index.num_rows],
            "plain": plain,
        }
    )
    with commit.pending(target) as file:
        file.write(content)
    clips = sum(len(one.cards) for listening in listening_sets for one in listening.sets)
    return {"report": str(target), "bytes": len(content), "places": len(places), "clips": clips}


def _title(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"


def refuse_other_file(target: Path) -> None:
    """Refuse to replace a file that is no report.

    Raises:
        OutputError: it is not.
    """
    if target.is_dir():
        raise OutputError(f"{target} is a folder. Name a file, as in -o {target}/report.html.")
    if target.exists() and GENERATOR.encode() not in target.read_bytes()[:2000]:
        raise OutputError(f"{target} exists and is not a report, so it is not overwritten. Name another file with -o.")


def _real(
    place: Place, against: Place | None, vectors: Mapping[str, Any], prepared: dict[Path, Neighbours | None]
) -> Neighbours | None:
    """The real clips to compare a place's clips with: those of `against`, else those that its model was trained on.

    None for clips that no model made, unless `against` is given, and for a corpus of arrays alone, as of latents.
    """
    corpus = against if against is not None else _trained_on(place)
    if corpus is None or not corpus.index.num_rows or corpus.folder.resolve() == place.folder.resolve():
        return None
    if not corpus.about["roles"]:
        return None
    if corpus.folder not in prepared:
        prepared[corpus.folder] = neighbours(corpus, vectors)
    return prepared[corpus.folder]


def _known(closest: Closest | None, place: Place, against: Place | None) -> KnownNeighbours | None:
    """The neighbours that a file of metrics names, where their corpus is still there."""
    if closest is None or place.run is not None:
        return None
    try:
        named = _found_from(closest.against, place.folder)
        known = against is not None and against.folder.resolve() == named.resolve()
        real = against if against is not None and known else open_place(str(named))
    except TonemillError:
        return None
    return None if real.run is not None or not real.index.num_rows else known_neighbours(real, closest.pairs)


def _trained_on(place: Place) -> Place | None:
    try:
        run = place.run
        if run is None:
            folder = place.rendered_by()
            run = open_place(str(folder)).run if folder is not None else None
        return open_place(str(_found_from(str(run.about["corpus"]), run.folder))) if run is not None else None
    except (TonemillError, OSError, KeyError):
        # The run or its corpus was moved.
        return None


def _found_from(name: str, folder: Path) -> Path:
    """A place by its name, as it was typed here or in a folder above another place."""
    typed = paths.place(name)
    if paths.as_store(folder) is not None or typed.exists():
        return typed
    return next((above / name for above in folder.resolve().parents if (above / name).exists()), typed)


def _examples(number: int, place: Place) -> Examples:
    index = place.index
    columns = [name for name in (*_OWN, *place.fields()) if name in index.column_names]
    columns = [name for name in columns if name != "start_seconds" or len(index["start_seconds"].unique()) > 1]
    shown = tuple(columns[:TABLE_COLUMNS])
    rows = sorted(by_lot(index, TABLE_ROWS, label_of(index, place.fields())))
    taken = index.take(rows).select(shown)
    digits = {name: _digits(taken[name]) for name in shown}
    cells = (tuple(_cell(row[name], digits[name]) for name in shown) for row in taken.to_pylist())
    note = (
        f"{len(rows):,} of {index.num_rows:,} examples, drawn at random"
        if len(rows) < index.num_rows
        else "All examples"
    )
    more = f", {len(columns) - len(shown)} more fields in the index" if len(columns) > len(shown) else ""
    heads = tuple((name, digits[name] is not None) for name in shown)
    return Examples(number, heads, tuple(islice(cells, TABLE_ROWS)), f"{note}{more}.")


def _digits(column: pa.ChunkedArray) -> int | None:
    """Digits behind the point with which a column's numbers are shown; None for a column without numbers."""
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        return None
    values = numbers(column)
    values = values[np.isfinite(values)]
    if not values.size or not (values % 1).any():
        return 0
    return int(np.clip(3 - np.floor(np.log10(np.abs(values).max())), 0, 6))


def _cell(value: Any, digits: int | None) -> tuple[str, str]:
    """The text of a cell, and the text that it is sorted by; both empty for a missing value."""
    if value is None:
        return "", ""
    if isinstance(value, bool):
        return ("yes", "1") if value else ("no", "0")
    if isinstance(value, int | float):
        if not np.isfinite(value):
            return plain(value), ""
        return f"{value:.{digits or 0}f}".replace("-", "−"), repr(value)
    return str(value), str(value)
