"""Scan by an engine: each piece is some hundred files, and what was read of them is kept until the command ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tonemill.pipelines.cooking.status import Stopped, stopping
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.hashing import number_of
from tonemill.pipelines.pieces.pieces import answers, commit_answer, do_pieces, job_of_piece, key_of, work_folder
from tonemill.pipelines.progress import Phase
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources.decoder import PATIENCE, Probers
from tonemill.pipelines.sources.scan import Found, described, sample_of
from tonemill.pipelines.storage.paths import as_store, exactly, readable, to_path, to_uri

MOST_FILES: Final = 256
"""About so many files are a piece of a large scan; a kill loses the pieces under way."""

PIECES: Final = 64
"""About so many pieces a smaller scan has."""

WORK: Final = f"{__name__}:scan_piece"


def scan_by(
    engine: Engine,
    work: Path | None,
    found: Found,
    digest: bool,
    metadata: Callable[[str], Mapping[str, Any]],
    keep_cut: bool,
    phase: Phase,
) -> Iterator[Recipe]:
    """The recipes that `scan` gives, read by an engine.

    Args:
        engine: workers and runner.
        work: the work folder as typed; None for a temporary one.
        found: as of `scan`.
        digest: as of `scan`.
        metadata: as of `scan`.
        keep_cut: as of `scan`.
        phase: progress in files; it is complete before the first recipe comes.

    Raises:
        UsageError: workers of a runner would not see a temporary folder.
        TonemillError: a worker failed; what was read stays.
    """
    bounds = _bounds(found.audio)
    sample = [(path, to_uri(exactly(name))) for path, name in sample_of(found.audio)]

    def files_of(number: int) -> list[tuple[str, str]]:
        return [(path, to_uri(exactly(name))) for path, name in found.audio[bounds[number] : bounds[number + 1]]]

    def job_of(number: int) -> dict[str, Any]:
        return {"files": files_of(number), "sample": sample, "digest": digest, "keep_cut": keep_cut}

    pieces = range(len(bounds) - 1)
    missing = set(found.missing)

    def missing_in(number: int) -> list[str]:
        """A name of a list that had no file may have one by now."""
        return [path for path, name in found.audio[bounds[number] : bounds[number + 1]] if readable(name) in missing]

    keys = [key_of(files_of(number), missing_in(number), digest, keep_cut) for number in pieces]
    amounts = [float(after - first) for first, after in pairwise(bounds)]
    with work_folder(work, engine, phase.say) as folder:
        do_pieces(folder.home, keys, job_of, engine, WORK, phase, amounts, is_final=is_read)
        rows = iter(found.audio)
        for entries in answers(folder.home, keys):
            folder.is_kept |= not is_read(entries)
            for entry, (path, _) in zip(entries, rows, strict=False):
                yield Recipe(path, {"audio": entry}, dict(metadata(path)))


def _bounds(audio: Sequence[tuple[str, str]]) -> list[int]:
    """Where pieces begin, and the number of files at the end.

    The digest of a name decides where a piece begins: of files that come or go, only their own pieces change.
    """
    # A power of two, so that most places stay when the number of files grows.
    every = 1 << min(MOST_FILES, max(1, len(audio) // PIECES)).bit_length() - 1
    bounds = [0]
    for number, (_, name) in enumerate(audio):
        length = number - bounds[-1]
        if length >= 4 * every or (length and number_of(to_uri(exactly(name)), 4) % every == 0):
            bounds.append(number)
    return [*bounds, len(audio)]


def is_read(answer: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every file was read, or is refused for good; what may be read another time is tried again."""
    return all(entry.get("unread", {"final": True}).get("final", False) for entry in answer)


def scan_piece(home: Path, number: int) -> None:
    """For a worker: read the files of a piece, and commit their entries to the work folder.

    Raises:
        OutputError: the work folder cannot be read or written.
        Stopped: the command was interrupted.
    """
    job = job_of_piece(home, number)
    files, sample = ([(path, str(to_path(uri))) for path, uri in job[what]] for what in ("files", "sample"))
    # Threads that wait for a store use no core; files of a disk have one, for the other cores have workers too.
    threads = None if any(as_store(exactly(name)) is not None for _, name in files[:1]) else 1
    entries = list(described(files, sample, job["digest"], threads, job["keep_cut"], _probers()))
    if stopping.is_set():
        raise Stopped
    commit_answer(home, job, entries)


@cache
def _probers() -> Probers:
    """The processes that read headers for this one; they end with it, for their input does."""
    return Probers(os.cpu_count() or 1, PATIENCE)
