"""Cook one shard of a plan and commit its examples: as a tar of a corpus, or as files in a folder."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.errors import AudioError, Doubtful
from tonemill.audiotools.waveform import Flow
from tonemill.pipelines.cooking.ahead import Ahead
from tonemill.pipelines.cooking.cook import Outcome, cook, failed_encoding
from tonemill.pipelines.cooking.copies import settled
from tonemill.pipelines.cooking.doubts import Doubts
from tonemill.pipelines.cooking.journal import NOWHERE, Journal, journal_of
from tonemill.pipelines.cooking.seconds import of_source
from tonemill.pipelines.cooking.status import COMMITTED, Stopped, UnderWay, begin, stopping
from tonemill.pipelines.cooking.writers import FileShelf, Piece, Shelf, TarShelf
from tonemill.pipelines.corpus.array_columns import (
    ARRAY_BITS,
    PLACE_COLUMNS,
    array_columns,
    array_records,
    encoded_array,
)
from tonemill.pipelines.corpus.environment import environment
from tonemill.pipelines.corpus.layout import ShardFiles
from tonemill.pipelines.corpus.plan_file import PlanFile
from tonemill.pipelines.corpus.shard_tables import Tally, fits_a_column
from tonemill.pipelines.corpus.sidecar import commit_tables
from tonemill.pipelines.planning.plan import Output, Planned, Shard
from tonemill.pipelines.recipes.example import Example
from tonemill.pipelines.recipes.step import load_steps, packages_of
from tonemill.pipelines.storage import commit
from tonemill.pipelines.storage.output_names import PLAN
from tonemill.pipelines.storage.paths import as_store, scratch

NEIGHBOURS: Final = 4
"""Shards on each side whose sources are tried, if no source of this shard can be read."""


def cook_shard(home: Path, number: int) -> None:
    """Cook a shard of the plan in the folder `home` and commit it: its files, its tables, its sidecar.

    In a worker, a shard in a store is put there after this has returned (`status.COMMITTED`).

    Raises:
        OutputError: a file cannot be written.
        MachineError: this machine lacks room, memory or handles, or can read no source any more.
        Stopped: the user stopped the command.
    """
    status = (home / PLAN).stat()
    plan = _plan_as_of(home / PLAN, status.st_size, status.st_mtime_ns, status.st_ino)
    shard = plan.shard(number)
    files = ShardFiles(home / shard.name)
    files.base.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        journal = held.enter_context(journal_of(home, number))
        try:
            rows = plan.rows(number)
            doubts = Doubts(rows, partial(_others, plan, number))
            while True:
                shelf = _shelf(home, files, plan.output)
                with ExitStack() as begun:
                    begun.callback(shelf.discard)
                    tally = _fill(shelf, shard, plan.output, rows, number, journal, home / PLAN, doubts)
                    if doubts.cook_again():
                        continue
                    doubts.settle(tally.rejects)
                    held.push(begun.pop_all())
                break
        except OSError as error:
            raise commit.unwritable(files.base, error) from error
        used = environment(packages_of(row.recipe.steps for row in rows))
        journal.at(NOWHERE)
        rest = held.pop_all()

    def finish() -> None:
        with rest:
            try:
                stored = shelf.finish()
            except OSError as error:
                raise commit.unwritable(files.base, error) from error
            commit_tables(files, shard, tally, stored, used)

    if as_store(home) is None:
        finish()
    else:
        COMMITTED.get()(finish)


def _shelf(home: Path, files: ShardFiles, output: Output) -> Shelf:
    if output.kind == "shards":
        return TarShelf(files.tar, output.container)
    return FileShelf(home.parent, scratch(files.base.parent), output.container)


def _others(plan: PlanFile, number: int) -> Iterator[Planned]:
    """Recipes of the `NEIGHBOURS` shards before and after a shard, the nearest first."""
    for step in range(1, NEIGHBOURS + 1):
        for other in {(number + step) % plan.count, (number - step) % plan.count} - {number}:
            yield from plan.rows(other)


@lru_cache(maxsize=2)
def _plan_as_of(path: Path, *_: int) -> PlanFile:
    """The plan's file: a process reads its end once, and again only if the file changes."""
    return PlanFile(path)


def _fill(
    shelf: Shelf,
    shard: Shard,
    output: Output,
    rows: Sequence[Planned],
    number: int,
    journal: Journal,
    plan_file: Path,
    doubts: Doubts,
) -> Tally:
    now = begin(number)
    ready = settled(rows, plan_file, journal)
    with Ahead(ready) as ahead:
        return _filled(shelf, shard, output, rows, now, cook(ready, journal, ahead.take), doubts)


def _filled(
    shelf: Shelf,
    shard: Shard,
    output: Output,
    rows: Sequence[Planned],
    now: UnderWay,
    cooked: Iterator[Outcome],
    doubts: Doubts,
) -> Tally:
    tally = Tally(shard, seconds={})
    names = {row.key: row.name for row in rows}
    for position, outcomes in itertools.groupby(cooked, key=lambda outcome: outcome.planned.position):
        until = now.seconds + rows[position].seconds
        mark, first_example, first_reject = shelf.mark(), len(tally.examples), len(tally.rejects)
        clips: list[tuple[str, Example]] = []
        for clip, outcome in enumerate(outcomes):
            if stopping.is_set():
                raise Stopped
            if outcome.error is None:
                watched = _watched(outcome.example, now, until)
                outcome = _stored(shelf, replace(outcome, example=watched), clip, names, output, tally)
            if outcome.of_source:
                # A source is kept whole or not at all: no clips are kept of a file that breaks off half-way.
                shelf.roll_back(mark)
                del tally.examples[first_example:], tally.rejects[first_reject:]
                assert outcome.error is not None
                if isinstance(outcome.error, Doubtful):
                    doubts.enter(outcome.planned, outcome.error)
                tally.refuse(outcome.planned, None, outcome.step, outcome.error)
                break
            if outcome.error is not None:
                tally.refuse(outcome.planned, clip, outcome.step, outcome.error)
                clips.append((outcome.error.outcome, outcome.example))
        for row in tally.examples[first_example:]:
            row |= outcome.surprises
        became = tally.close_source(first_example, first_reject)
        spent = of_source(outcome.planned.recipe, outcome.decoded, tally.examples[first_example:], clips, became)
        tally.account(spent)
        now.seconds, now.refused, now.rejected = until, len(tally.rejects), tally.ledger["rejected"]
    return tally


def _watched(example: Example, now: UnderWay, most: float) -> Example:
    """The example; while one of its Flows is read, its seconds count as cooked, so that a long file shows progress.

    Args:
        example: of a source.
        now: of its shard.
        most: expected seconds of the shard with this source.
    """

    def blocks(flow: Flow) -> Iterator[Any]:
        done = now.seconds
        for block in flow.blocks():
            yield block
            done += block.shape[1] / flow.sample_rate
            now.seconds = max(now.seconds, min(done, most))

    sounds = dict(example.sounds)
    for role, sound in example.sounds.items():
        if isinstance(sound, Flow):
            sounds[role] = replace(sound, open_blocks=partial(blocks, sound))
            break
    return replace(example, sounds=sounds)


def _stored(shelf: Shelf, outcome: Outcome, clip: int, names: dict[str, str], output: Output, tally: Tally) -> Outcome:
    """Encode and store an example and add its index row; returns the outcome, with an error if that failed."""
    example, planned = outcome.example, outcome.planned
    bits = (output.bits or example.bits) if example.sounds else ARRAY_BITS
    try:
        rate = example.sample_rate
        encoded = {
            role: encode(sound, output.container, bits, shelf.spill, output.quality)
            for role, sound in example.sounds.items()
        }
        arrays = {name: encoded_array(array) for name, array in example.arrays.items()}
        lengths = {one.frames for one in encoded.values()} if encoded or not arrays else {example.samples or 0}
        if len(lengths) != 1:
            raise AudioError("roles", f"its roles have {sorted(lengths)} samples; `tonemill align` makes them equal")
        if lengths == {0} and encoded:
            raise AudioError("no_frames", "no sound was left of it")
        if max(one.size for one in (*encoded.values(), *arrays.values())) > shelf.most_bytes:
            raise AudioError(
                "unsupported",
                "a file in a tar holds at most 8 GiB, and this sound is larger; put `tonemill slice` before the sink",
            )
        frames = lengths.pop()
        shapes = array_columns(example.arrays)
        _refuse_unfit_arrays(example, frames, shapes)
    except Exception as error:
        return failed_encoding(outcome, error)
    peak = max((one.peak for one in encoded.values()), default=0.0)
    row = {
        "key": f"{planned.key}-{clip:04d}",
        "split": tally.shard.split,
        "shard": tally.shard.name,
        "source": planned.recipe.path,
        "clip": clip,
        "start_seconds": example.start_seconds,
        "samples": frames,
        "seconds": frames / rate,
        "sample_rate": rate,
        "channels": max((sound.channels for sound in example.sounds.values()), default=0),
        "bits": bits,
        "peak_db": 20 * math.log10(peak) if peak else None,
        "clipped_samples": sum(one.clipped for one in encoded.values()),
    }
    stated = {**(_none_fields(planned.recipe.steps) if output.states_none else {}), **example.fields}
    about = {"roles": sorted(encoded), **row, **stated, "recipe": planned.recipe.lineage()}
    del about["split"], about["shard"]
    if example.arrays:
        about["arrays"] = array_records(example.arrays)
    where = shelf.put(Piece(str(row["key"]), names[planned.key], encoded, about, arrays))
    # What a step measures may be a list of hundreds of numbers, as an embedding.
    given = planned.recipe.fields
    fields = {name: value for name, value in stated.items() if fits_a_column(value, name in given)}
    tally.roles |= encoded.keys()
    tally.arrays |= arrays.keys()
    tally.examples.append({**row, **fields, **where, **shapes})
    return outcome


def _none_fields(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for step in load_steps(steps) for name, value in step.none_fields.items()}


def _refuse_unfit_arrays(example: Example, frames: int, shapes: Mapping[str, Any]) -> None:
    """Refuse arrays whose length does not fit the sound, and fields with the name of an index column for arrays.

    Raises:
        AudioError: roles.
    """
    for name, array in example.arrays.items():
        # The last frame may reach beyond the sound, and centred frames add one.
        if array.samples is not None and abs(array.samples - frames) > 2 * (array.hop or 0):
            raise AudioError(
                "roles",
                f"its array {name} spans {array.frames} frames of {array.hop} samples, but its sound has {frames} "
                "samples: a step after the one that made the array changed the sound. Put that step before "
                "`tonemill render`",
            )
    taken = sorted({*shapes, "arrays", *(f"{name}_{what}" for name in example.arrays for what in PLACE_COLUMNS)})
    taken = [name for name in taken if name in example.fields] if example.arrays else []
    if taken:
        raise AudioError(
            "roles",
            f"its field {taken[0]} has the name of one of its arrays. Rename it where it comes from (`scan "
            "--rename` for a column of a table)",
        )
