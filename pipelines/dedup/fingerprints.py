"""Fingerprints of recipes: made by the workers that cook shards, and kept in a folder, the cache.

    COMMITTED.parquet    a row per fingerprint, without its sketch
    COMMITTED.sketches   the sketches, one after another
    work/                the plan of what is under way, with a sidecar for each part that is done

The sketches are written before the table that points into them, so what a table names is there.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools.comparison.fingerprint import OUTLINE, SCALE_SAMPLES, VERSION, Fingerprint, fingerprint
from tonemill.audiotools.errors import AudioError, CorpusError, OutputError, TonemillError
from tonemill.audiotools.waveform import Sound
from tonemill.pipelines.building.build import cook_shards
from tonemill.pipelines.building.tolerance import Tolerance
from tonemill.pipelines.cooking.cook import Outcome, cook
from tonemill.pipelines.cooking.journal import journal_of
from tonemill.pipelines.cooking.status import Stopped, begin, stopping
from tonemill.pipelines.corpus.layout import ShardFiles
from tonemill.pipelines.corpus.plan_file import PlanFile, dump_plan
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.planning.plan import Output, digest_of
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.planning.splits import Splitting
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.storage import commit, folders, json_files
from tonemill.pipelines.storage.moving import remove_folder
from tonemill.pipelines.storage.output_names import PLAN
from tonemill.pipelines.storage.parquet import read_table
from tonemill.pipelines.storage.paths import mapped

MARK: Final = "tonemill-fingerprints.json"
WORK: Final = "work"
BATCH_SECONDS: Final = 60.0
"""Sound in one piece of work; a kill loses the pieces under way."""

_MEASURES: Final = ("pcm_digest", "sample_rate", "bandwidth_hz", "bits", "clipped", "sounding_seconds")
_COLUMNS: Final = pa.schema(
    [
        ("key", pa.string()),
        ("pcm_digest", pa.string()),
        ("sample_rate", pa.int32()),
        ("bandwidth_hz", pa.float64()),
        ("bits", pa.int32()),
        ("clipped", pa.bool_()),
        ("sounding_seconds", pa.float64()),
        ("outline", pa.list_(pa.float32(), OUTLINE)),
        ("offset", pa.int64()),
        ("samples", pa.int64()),
    ]
)


def key_of(recipe: Recipe) -> str:
    """What a fingerprint is kept by: the sources' content, the part of it, the steps, and how fingerprints are made.

    Without a digest of the content, place, size and time of the last change stand for it.
    """
    sources = {
        role: {name: source[name] for name in ("sha256",)}
        if "sha256" in source
        else {name: source.get(name) for name in ("uri", "bytes", "modified_ns", "offset")}
        for role, source in recipe.sources.items()
    }
    # A seed's field may decide what a step makes of it; a file's does not.
    given = {} if recipe.sources else recipe.fields
    return digest_of(f"{VERSION}\0{Recipe('', sources, given, recipe.steps, recipe.start, recipe.frames).canonical()}")


@dataclass(frozen=True)
class Entry:
    """A fingerprint in the cache, whose sketch waits on disk.

    Args:
        place: the file of sketches.
        offset: where in it, in bytes: levels first, then the samples.
        samples: of the sketch.
    """

    pcm_digest: str
    sample_rate: int
    bandwidth_hz: float
    bits: int
    clipped: bool
    sounding_seconds: float
    outline: Any
    place: Path
    offset: int
    samples: int

    def load(self) -> Fingerprint:
        """The fingerprint with its sketch.

        Raises:
            OutputError: the cache was damaged by other hands.
        """
        blocks = -(-self.samples // SCALE_SAMPLES)
        try:
            with self.place.open("rb") as file:
                file.seek(self.offset)
                data = file.read(4 * blocks + self.samples)
        except OSError as error:
            raise OutputError(f"{self.place} cannot be read: {error.strerror or error}.") from error
        if len(data) != 4 * blocks + self.samples:
            raise OutputError(
                f"{self.place} is damaged. Delete its folder, {self.place.parent}, and repeat the command: it "
                "computes the fingerprints again."
            )
        levels = np.frombuffer(data, "<f4", blocks).astype(np.float32)
        sketch = np.frombuffer(data, np.int8, offset=4 * blocks)
        measures = {name: getattr(self, name) for name in _MEASURES}
        return Fingerprint(**measures, outline=self.outline, levels=levels, sketch=sketch)


def fingerprinted(cache: Path, recipes: Sequence[Recipe], engine: Engine, progress: Progress) -> dict[str, Entry]:
    """Fingerprints by `key_of` of recipes, from the cache or computed; recipes that cannot be decoded are left out.

    The caller holds the cache with `commit.locked`.

    Raises:
        OutputError: the cache is no folder of ours, or cannot be written.
    """
    if not (cache / MARK).exists():
        if not folders.is_ours_or_empty(cache):
            raise OutputError(f"{cache} holds files that tonemill did not make. Name a new folder as --cache.")
        json_files.write_json(cache / MARK, {"schema": 1, "version": VERSION})
    # The folder of a killed command: missing fingerprints are planned again, so its contents have no use.
    remove_folder(cache / WORK)
    tables = {path.stem for path in _files(cache, ".parquet")}
    for sketches in _files(cache, ".sketches"):
        if sketches.stem not in tables:
            sketches.unlink()
    wanted = {key_of(recipe): recipe for recipe in reversed(recipes)}
    found = _read(cache, wanted.keys())
    missing = [recipe for key, recipe in wanted.items() if key not in found]
    if missing:
        if found:
            progress.say(f"{len(found)} of {len(wanted)} fingerprints are in {cache} already")
        plan = make_plan(missing, Output("shards"), Splitting(), BATCH_SECONDS)
        with commit.pending(cache / WORK / PLAN) as file:
            dump_plan(plan, file)
        try:
            with progress.phase("dedup", plan.seconds) as phase:
                cook_shards(cache / WORK, plan, range(len(plan.shards)), engine, phase, Tolerance(), FINGERPRINT)
        finally:
            with contextlib.suppress(OSError):
                remove_folder(cache / WORK)
        found = _read(cache, wanted.keys())
    return found


FINGERPRINT: Final = f"{__name__}:fingerprint_shard"


def fingerprint_shard(home: Path, number: int) -> None:
    """Fingerprint the recipes of one shard of the plan in `home`, and commit them to the cache, its parent folder.

    Raises:
        OutputError: it cannot be written.
        Stopped: the command was interrupted.
    """
    plan = PlanFile(home / PLAN)
    shard = plan.shard(number)
    base = home.parent / f"{shard.digest[:32]}"
    rows = plan.rows(number)
    made: list[dict[str, Any]] = []
    now = begin(number)
    with journal_of(home, number) as journal, commit.Part(base.with_suffix(".sketches")) as part:
        for position, outcomes in itertools.groupby(cook(rows, journal), key=lambda outcome: outcome.planned.position):
            if stopping.is_set():
                raise Stopped
            one = _fingerprint(outcomes)
            if one is not None:
                row = {name: getattr(one, name) for name in _MEASURES}
                row |= {"key": key_of(rows[position].recipe), "outline": one.outline, "samples": one.sketch.size}
                made.append({**row, "offset": part.file.tell()})
                try:
                    part.file.write(one.levels.astype("<f4").tobytes() + one.sketch.tobytes())
                except OSError as error:
                    raise commit.unwritable(base, error) from error
            now.seconds += rows[position].seconds
        if made:
            part.commit()
    if made:
        with commit.pending(base.with_suffix(".parquet")) as file:
            parquet.write_table(pa.Table.from_pylist(made, schema=_COLUMNS), file, compression="zstd")
    json_files.write_json(ShardFiles(home / shard.name).sidecar, {"fingerprints": len(made)})


def _fingerprint(outcomes: Iterator[Outcome]) -> Fingerprint | None:
    """The fingerprint of a recipe's clips in order; None if it cannot be decoded."""
    try:
        return fingerprint(_sounds(outcomes))
    except TonemillError as error:
        if isinstance(error, AudioError):
            return None
        raise
    except Exception:
        # A step that fails here fails again where the recipe is cooked, and is reported there.
        return None


def _sounds(outcomes: Iterator[Outcome]) -> Iterator[Sound]:
    for outcome in outcomes:
        if outcome.error is None:
            yield from (sound for _, sound in sorted(outcome.example.sounds.items()))
        elif outcome.of_source:
            raise outcome.error


def _read(cache: Path, wanted: Any) -> dict[str, Entry]:
    """The wanted fingerprints that are in the cache."""
    found: dict[str, Entry] = {}
    paths = _files(cache, ".parquet")
    names = [field.name for field in fields(Entry) if field.name not in ("place", "outline")]
    for path, (rows, outlines) in zip(paths, mapped(cache, _table, paths), strict=True):
        for row, outline in zip(rows, outlines, strict=True):
            if row["key"] in wanted:
                place = path.with_suffix(".sketches")
                found[row["key"]] = Entry(**{name: row[name] for name in names}, outline=outline, place=place)
    return found


def _table(path: Path) -> tuple[list[dict[str, Any]], Any]:
    """The rows of a table of fingerprints, and their outlines."""
    try:
        table = read_table(path)
        outlines = table.column("outline").combine_chunks().flatten().to_numpy().reshape(-1, OUTLINE)
        return table.drop_columns("outline").to_pylist(), outlines
    except (CorpusError, pa.ArrowException, KeyError, ValueError) as error:
        raise OutputError(f"{path} is damaged: {error}. Remove it, and the next command rebuilds it.") from error


def _files(cache: Path, suffix: str) -> list[Path]:
    return sorted(path for path in cache.iterdir() if path.suffix == suffix)
