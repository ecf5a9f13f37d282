"""What is compared: for each system its clips, from folders of sound, corpora or recipes, and a fair choice of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from tonemill.audiotools.codecs import files
from tonemill.audiotools.codecs.files import is_audio
from tonemill.audiotools.errors import AudioError, CorpusError, UsageError
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.cooking.cook import cook
from tonemill.pipelines.corpus.corpus import FOLDER, Corpus, folder_of, open_corpus, samples_of
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.corpus.sidecar import path_of, source_key
from tonemill.pipelines.hashing import number_of
from tonemill.pipelines.planning.plan import Output
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.planning.splits import Splitting
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources.scan import find_audio
from tonemill.pipelines.storage.paths import of_this_machine

SOURCE: Final = "source"
"""Clips match by this where no field is named: the path of their source without its suffix."""


@dataclass(frozen=True)
class Candidate:
    """A clip that may be chosen.

    Args:
        source: where it is from.
        match: equal for clips of two systems that were made of one thing.
        stratum: of which as many are chosen as of others.
        numbers: what a corpus has measured of it.
        read: its sound.
    """

    source: str
    match: str
    stratum: str
    numbers: Mapping[str, float]
    read: Callable[[], Waveform]


@dataclass
class System:
    """One of what is compared.

    Args:
        name: as typed before the equals sign.
        place: as typed after it.
        candidates: of which clips are chosen.
        left_out: why some could not be used, and how many.
    """

    name: str
    place: str
    candidates: list[Candidate]
    left_out: dict[str, int] = field(default_factory=dict)


Chosen = list[tuple[Candidate, Waveform]]


def open_system(text: str, by: str | None, matched: str | None, recipes: Callable[[], Sequence[Recipe]]) -> System:
    """A system as typed: NAME=FOLDER, NAME=CORPUS, NAME=CORPUS:SPLIT, or NAME=- for the recipes of the pipe.

    Args:
        text: as typed.
        by: a field to choose evenly by; of folders, the folder in which a file is.
        matched: a field by which clips of several systems belong together.
        recipes: reads the pipe.

    Raises:
        UsageError: it is not as it must be, or a field is missing.
        CorpusError: there is no sound.
    """
    name, equals, place = text.partition("=")
    if not equals or not name or not place:
        raise UsageError(f"{text} must be NAME=PLACE, as in real=corpora/loops:test or model=renders/model.")
    if place == "-":
        return System(name, "the pipe", [_of_recipe(one, by, matched) for one in recipes()])
    of_this_machine(Path(place), "A study")
    folder, colon, split = place.rpartition(":")
    if not colon or Path(place).exists():
        folder, split = place, ""
    if OutputFolder(Path(folder), "shards").is_begun:
        return System(name, place, _of_corpus(open_corpus(Path(folder)), split, by, matched))
    if split:
        raise UsageError(f"{folder} is no corpus, and only a corpus has splits such as {split}.")
    if matched not in (None, SOURCE) or by not in (None, FOLDER):
        raise UsageError(
            f"{folder} is a folder of sounds, which have no field {matched if matched not in (None, SOURCE) else by}. "
            f"Leave the option out, give --matched {SOURCE} or --by {FOLDER}, or name a corpus."
        )
    found = find_audio([folder]).audio
    return System(name, place, [_of_file(path, Path(there)) for path, there in found])


def _stem(source: str) -> str:
    return str(PurePosixPath(source).with_suffix("")) if is_audio(source) else source


def _of_file(source: str, path: Path) -> Candidate:
    return Candidate(source, _stem(source), folder_of(source), {}, lambda: files.read(path).whole())


def _of_corpus(corpus: Corpus, split: str, by: str | None, matched: str | None) -> list[Candidate]:
    role = next((one for one in ("audio", "wet") if one in corpus.about["roles"]), None)
    if role is None:
        raise CorpusError(
            f"{corpus.name} holds {corpus.holds}; listeners rate the role audio or wet, which it does not have."
        )
    if split and split not in corpus.about["splits"]:
        raise UsageError(f"{corpus.name} has no split {split}; it has {', '.join(corpus.about['splits'])}.")
    fields = corpus.fields()
    for name in (by, matched):
        if name not in (None, SOURCE, FOLDER, *fields):
            raise UsageError(f"{corpus.name} has no field {name}; it has {', '.join(fields) or 'none'}.")
    rows = [row for row in corpus.index().to_pylist() if not split or row["split"] == split]
    if not rows:
        raise CorpusError(f"{corpus.name} holds no example{' of split ' + split if split else ''}.")

    def reader(row: dict[str, Any]) -> Callable[[], Waveform]:
        return lambda: Waveform(samples_of(corpus.folder, row, role), row["sample_rate"])

    counts = Counter(source_key(row["key"]) for row in rows)
    several = {key for key, count in counts.items() if count > 1}
    return [
        _candidate(
            row["key"],
            {**row, FOLDER: folder_of(row["source"]), SOURCE: path_of(row, source_key(row["key"]) in several)},
            fields,
            by,
            matched,
            reader(row),
        )
        for row in rows
    ]


def _candidate(
    source: str,
    row: Mapping[str, Any],
    fields: Sequence[str],
    by: str | None,
    matched: str | None,
    read: Callable[[], Waveform],
) -> Candidate:
    numbers = {name: float(row[name]) for name in fields if isinstance(row.get(name), int | float)}
    match = str(row.get(matched)) if matched not in (None, SOURCE) else _stem(str(row[SOURCE]))
    return Candidate(source, match, str(row.get(by)) if by else "", numbers, read)


def _of_recipe(recipe: Recipe, by: str | None, matched: str | None) -> Candidate:
    def read() -> Waveform:
        plan = make_plan([recipe], Output("files", "wav"), Splitting(), shard_seconds=float("inf"))
        outcome = next(iter(cook(plan.rows[0])), None)
        if outcome is None:
            raise AudioError("no_frames", "its steps left nothing")
        if outcome.error is not None:
            raise outcome.error
        sounds = outcome.example.waveforms()
        if not sounds:
            raise AudioError("roles", f"it has {outcome.example.holds}, and no sound to rate")
        return sounds.get("wet") or next(iter(sounds.values()))

    row = {SOURCE: recipe.path, FOLDER: folder_of(recipe.path), **recipe.fields}
    return _candidate(recipe.path, row, list(recipe.fields), by, matched, read)


def choose(
    systems: Sequence[System], count: int, seed: int, matched: bool, usable: Callable[[Waveform], None]
) -> list[Chosen]:
    """So many clips of each system, by a hash of seed and source, alike many of each stratum.

    Args:
        systems: which count what they leave out.
        count: clips of each.
        seed: decides which.
        matched: the chosen clips of all systems have the same matches, in one order.
        usable: raises an AudioError for a sound that cannot be used.

    Raises:
        CorpusError: there are too few.
    """
    if matched:
        return _chosen_together(systems, count, seed, usable)
    found = []
    for system in systems:
        chosen: Chosen = []
        for candidate in _in_turn(system.candidates, seed):
            if len(chosen) < count and (waveform := _read(system, candidate, usable)) is not None:
                chosen.append((candidate, waveform))
            if len(chosen) == count:
                break
        found.append(chosen)
    short = min(range(len(systems)), key=lambda number: len(found[number]))
    if len(found[short]) < count:
        _refuse(systems[short], len(found[short]), count, "usable clips")
    return found


def _chosen_together(
    systems: Sequence[System], count: int, seed: int, usable: Callable[[Waveform], None]
) -> list[Chosen]:
    by_match = [{one.match: one for one in reversed(system.candidates)} for system in systems]
    shared = set(by_match[0]).intersection(*by_match[1:])
    found: list[Chosen] = [[] for _ in systems]
    for first in _in_turn([one for match, one in by_match[0].items() if match in shared], seed):
        together = [each[first.match] for each in by_match]
        sounds = [_read(system, one, usable) for system, one in zip(systems, together, strict=True)]
        if all(one is not None for one in sounds):
            for chosen, one, sound in zip(found, together, sounds, strict=True):
                assert sound is not None
                chosen.append((one, sound))
        if len(found[0]) == count:
            return found
    least = min(systems, key=lambda one: len(one.candidates))
    return _refuse(least, len(found[0]), count, "usable clips that match in all systems")


def _refuse(system: System, found: int, wanted: int, what: str) -> Any:
    reasons = ", ".join(f"{count} {reason}" for reason, count in system.left_out.items())
    raise CorpusError(
        f"{system.name} ({system.place}) has {found} {what}, and {wanted} are wanted"
        + (f" (left out: {reasons})" if reasons else "")
        + f". Give --clips {max(found, 2)}, or name a place with more."
    )


def _in_turn(candidates: Sequence[Candidate], seed: int) -> Iterator[Candidate]:
    """All of them: one of each stratum, then the next of each, within a stratum by a hash."""
    strata: dict[str, list[Candidate]] = defaultdict(list)
    for one in sorted(candidates, key=lambda one: number_of(f"{seed} {one.match} {one.source}")):
        strata[one.stratum].append(one)
    for rank in range(max(map(len, strata.values()), default=0)):
        yield from (some[rank] for _, some in sorted(strata.items()) if rank < len(some))


def _read(system: System, candidate: Candidate, usable: Callable[[Waveform], None]) -> Waveform | None:
    try:
        waveform = candidate.read()
        if not waveform.frames:
            raise AudioError("no_frames", "it has no frames")
        if not np.isfinite(waveform.samples).all():
            raise AudioError("not_finite", "its samples hold NaN or infinite values")
        usable(waveform)
    except (AudioError, CorpusError) as error:
        reason = getattr(error, "reason", "unreadable")
        system.left_out[reason] = system.left_out.get(reason, 0) + 1
        return None
    return waveform
