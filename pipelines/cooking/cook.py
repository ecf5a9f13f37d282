"""Cook recipes: read each source, apply its steps, and yield examples, or an error if a decoder or step fails."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tonemill.audiotools.arrays import Array
from tonemill.audiotools.codecs import files
from tonemill.audiotools.codecs.files import LIBSNDFILE
from tonemill.audiotools.errors import AudioError, Doubtful, Filtered, MachineError, Settled, TonemillError
from tonemill.audiotools.trouble import not_installed, unopenable
from tonemill.audiotools.waveform import Flow
from tonemill.pipelines.cooking.ahead import Fetch
from tonemill.pipelines.cooking.journal import Journal
from tonemill.pipelines.planning.plan import Planned
from tonemill.pipelines.recipes.example import Example, Refusal
from tonemill.pipelines.recipes.step import BatchStep, Step, load_steps, refuse_soundless, step_name
from tonemill.pipelines.sources.reach import Source, reach, sources_of
from tonemill.pipelines.sources.reader import bring, open_array, open_sound


@dataclass(frozen=True)
class Outcome:
    """The state of a recipe between two steps: an example, or the error that ended it.

    Args:
        planned: the recipe with its place in the plan.
        example: input of the next step; if there is an error, the example that had it.
        error: None if the example goes on to the next step.
        step: name of the step with the error.
        decoded: samples per channel by role, for roles that were decoded to their end.
        decoders: libraries that decoded a role, by role; only roles that needed another library than libsndfile.
    """

    planned: Planned
    example: Example
    error: AudioError | None = None
    step: str = ""
    decoded: Mapping[str, int] = field(default_factory=dict)
    decoders: Mapping[str, str] = field(default_factory=dict)

    @property
    def of_source(self) -> bool:
        """Whether there is an error and it rejects the whole source, not one clip."""
        return self.error is not None and not self.example.is_clip

    @property
    def surprises(self) -> dict[str, int | float | str]:
        """Notes on how a source was read, by name of the index column.

        The declared and the decoded length in samples, if they differ; the number of bytes behind the sound; the number
        of further sounds in the file; the decoders, if libsndfile did not read it all; and notes of the steps.
        """
        recipe = self.planned.recipe
        found: dict[str, int | float | str] = dict(self.example.notes)
        for role, decoded in self.decoded.items():
            prefix = "" if len(recipe.sounds) == 1 else f"{role}_"
            source = recipe.sources[role]
            declared = source.get("declared", source.get("frames"))
            if isinstance(declared, int) and declared != decoded and recipe.is_whole:
                found |= {f"{prefix}declared_samples": declared, f"{prefix}decoded_samples": decoded}
            found |= {f"{prefix}{name}": source[name] for name in ("left_bytes", "sounds") if source.get(name)}
            if role in self.decoders:
                found[f"{prefix}decoder"] = self.decoders[role]
        return found


def cook(
    rows: Sequence[Planned],
    journal: Journal | None = None,
    fetch: Fetch = lambda row, role: bring(row.recipe.sources[role]),
) -> Iterator[Outcome]:
    """Cook the recipes of a shard; yields their outcomes in order, with the outcomes of one recipe together.

    A source that fails part of the way yields examples first, then an outcome that is `of_source`: the caller removes
    the examples of that source again. A source without examples yields one outcome with an error.

    Args:
        rows: recipes of one shard.
        journal: of that shard; it records the source in progress, for a decoder may crash this process.
        fetch: gives the sources.
    """
    journal = journal or Journal()
    for _, same in itertools.groupby(rows, key=lambda row: json.dumps(row.recipe.steps)):
        group = list(same)
        outcomes: Iterator[Outcome] = (_begun(planned, journal, fetch) for planned in group)
        for step in load_steps(group[0].recipe.steps):
            outcomes = _batched(step, outcomes) if isinstance(step, BatchStep) else _applied(step, outcomes)
        yield from _with_empty_sources(group, outcomes)


def _begun(planned: Planned, journal: Journal, fetch: Fetch) -> Outcome:
    recipe = planned.recipe
    example = Example({}, recipe.fields, path=recipe.path)
    decoded: dict[str, int] = {}
    decoders: dict[str, str] = {}
    try:
        journal.refuse_deadly(planned.position)
        brought = {role: _brought(planned, role, journal, fetch) for role in recipe.sources}
        opened, arrays = _opened(planned, brought, journal)
        flows = {role: flow for role, (flow, _) in opened.items()}
        sounds = {
            role: replace(
                flow, open_blocks=partial(_read_blocks, flow, planned.position, journal, role, decoded, decoders)
            )
            for role, flow in flows.items()
        }
        for source in sources_of(recipe):
            reach.read(source)
    except Exception as error:
        return _failed(Outcome(planned, example), error, "read")
    rates = {sound.sample_rate for sound in sounds.values()} | {array.sample_rate for array in arrays.values()}
    start_seconds = recipe.start / rates.pop() if len(rates) == 1 else 0.0
    bits = max((sound.bits for sound in sounds.values()), default=16)
    places = {role: place for role, (_, place) in opened.items() if place is not None}
    example = replace(example, sounds=sounds, bits=bits, start_seconds=start_seconds, places=places, arrays=arrays)
    return Outcome(planned, example, decoded=decoded, decoders=decoders)


def _brought(planned: Planned, role: str, journal: Journal, fetch: Fetch) -> files.Source:
    """A local copy of a source, or the source itself. The time limit of decoders does not apply to the transfer.

    Raises:
        AudioError: as `bring`.
        MachineError: no source can be read any more.
    """
    journal.at(planned.position)
    begun = time.monotonic()
    try:
        return fetch(planned, role)
    except Doubtful as error:
        recipe = planned.recipe
        reach.failed(Source(str(recipe.sources[role].get("uri")), recipe.path), error, time.monotonic() - begun)
        raise


def _opened(
    planned: Planned, brought: Mapping[str, files.Source], journal: Journal
) -> tuple[dict[str, tuple[Flow, Path | None]], dict[str, Array]]:
    """Open all sounds and arrays of a recipe.

    Raises:
        AudioError: one of them cannot be opened.
        MachineError: no source can be read any more.
    """
    recipe, position, begun = planned.recipe, planned.position, time.monotonic()
    opened: dict[str, tuple[Flow, Path | None]] = {}
    for role, source in recipe.sounds.items():
        place = Source(str(source.get("uri")), recipe.path)
        try:
            with journal.reading(position):
                suspect = journal.is_suspect(position)
                try:
                    one = open_sound(source, brought[role], recipe.start, recipe.frames, suspect, journal.patience)
                except MemoryError:
                    # A decoder in a process of its own has a limit on its memory.
                    journal.accuse(position)
                    one = open_sound(source, brought[role], recipe.start, recipe.frames, True, journal.patience)
        except Doubtful as error:
            reach.failed(place, error, time.monotonic() - begun)
            raise
        opened[role] = one
    arrays = {
        name: open_array(source, brought[name], recipe.start, recipe.frames) for name, source in recipe.arrays.items()
    }
    return opened, arrays


def _read_blocks(
    flow: Flow, position: int, journal: Journal, role: str, decoded: dict[str, int], decoders: dict[str, str]
) -> Iterator[Any]:
    """Blocks of a source. Errors get the note `read`: they are not errors of the step that requested the block."""
    blocks, samples = flow.blocks(), 0
    try:
        while True:
            with journal.reading(position):
                block = next(blocks, None)
            if flow.decoders - {LIBSNDFILE}:
                decoders[role] = "+".join(sorted(flow.decoders, reverse=True))
            if block is None:
                decoded[role] = samples
                return
            samples += block.shape[1]
            yield block
    except AudioError as error:
        error.add_note("read")
        raise
    except MemoryError as error:
        journal.accuse(position)
        rejection = Settled("memory", "its decoder ran out of memory; it is read again in a separate process")
        rejection.add_note("read")
        raise rejection from error


def _applied(step: Step, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    name = step_name(type(step))
    for outcome in outcomes:
        if outcome.error is not None:
            yield outcome
            continue
        try:
            refuse_soundless(step, outcome.example)
            for made in step.apply(outcome.example):
                if isinstance(made, Refusal):
                    yield replace(outcome, example=made.example, error=made.error, step=name)
                else:
                    yield replace(outcome, example=made)
        except Exception as error:
            yield _failed(outcome, error, name)


def _batched(step: BatchStep, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Apply a step to several examples at once; outcomes with an error pass unchanged, in their order."""
    name = step_name(type(step))
    outcomes = (_checked(step, name, outcome) for outcome in outcomes)
    while waiting := _take(outcomes, step.examples_at_once):
        try:
            ready = iter(step.apply_batch([outcome.example for outcome in waiting if outcome.error is None]))
        except Exception as error:
            yield from (outcome if outcome.error else _failed(outcome, error, name) for outcome in waiting)
            continue
        for outcome in waiting:
            yield outcome if outcome.error else replace(outcome, example=next(ready))


def _checked(step: BatchStep, name: str, outcome: Outcome) -> Outcome:
    if outcome.error is None:
        try:
            refuse_soundless(step, outcome.example)
            step.check(outcome.example)
        except Exception as error:
            return _failed(outcome, error, name)
    return outcome


def _take(outcomes: Iterator[Outcome], examples: int) -> list[Outcome]:
    """The next outcomes, until `examples` of them are without an error or there are no more."""
    taken: list[Outcome] = []
    count = 0
    for outcome in outcomes:
        taken.append(outcome)
        count += outcome.error is None
        if count == examples:
            break
    return taken


def _with_empty_sources(rows: Sequence[Planned], outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """Add an outcome with an error for each recipe that has none, so that every source is accounted for."""
    waiting = iter(rows)
    current: Planned | None = None
    for outcome in outcomes:
        while current is not outcome.planned:
            current = next(waiting)
            if current is not outcome.planned:
                yield _nothing_left(current)
        yield outcome
    yield from map(_nothing_left, waiting)


def _nothing_left(planned: Planned) -> Outcome:
    error = Filtered("too_short", "nothing was left of it")
    return Outcome(planned, Example({}, planned.recipe.fields), error, "cook")


def failed_encoding(outcome: Outcome, error: Exception) -> Outcome:
    """The outcome of an example that could not be stored."""
    return _failed(outcome, error, "encode")


def _failed(outcome: Outcome, error: Exception, step: str) -> Outcome:
    if isinstance(error, AudioError):
        reading = "read" in getattr(error, "__notes__", ())
        return replace(outcome, error=error, step="read" if reading else step)
    if isinstance(error, TonemillError):
        raise error
    if isinstance(error, ModuleNotFoundError):
        raise not_installed(error, step) from error
    if isinstance(error, OSError):
        return replace(outcome, error=unopenable(error), step=step)
    if isinstance(error, MemoryError):
        raise MachineError(
            f"{outcome.planned.recipe.path}: this machine has too little memory for {step}. Give fewer --workers, "
            "or put `tonemill slice` before the step that needs the whole file. Finished work is kept: the same "
            "command goes on."
        ) from error
    return replace(outcome, error=AudioError("step_failed", f"{type(error).__name__}: {error}"[:500]), step=step)
