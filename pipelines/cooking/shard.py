"""Cook one shard of a plan and commit what came of it: a tar of a corpus, or files in a folder."""

from __future__ import annotations

import itertools
import json
import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.errors import TRANSIENT, AudioError
from tonemill.pipelines.cooking.cook import Outcome, cook, failed_encoding
from tonemill.pipelines.cooking.journal import Journal, journal_of
from tonemill.pipelines.cooking.writers import FileShelf, Piece, Shelf, TarShelf
from tonemill.pipelines.planning.plan import Output, Plan, Planned, Shard, read_plan, read_rows
from tonemill.pipelines.storage import commit
from tonemill.pipelines.storage.paths import kept

SIDECAR_SCHEMA: Final = 2
PLAN: Final = "plan.parquet"
WORK: Final = ".tonemill"
"""Where the plan and the sidecars of a folder of files lie; those of a corpus lie in the corpus itself."""

REJECT_COLUMNS: Final = pa.schema(
    [
        ("source", pa.string()),
        ("key", pa.string()),
        ("clip", pa.int32()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("step", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("measured", pa.string()),
    ]
)

stopping = threading.Event()
"""Set when the person wants the command to end: the workers of this process stop before their next example."""

under_way: dict[int, float] = {}
"""Expected seconds cooked so far of each shard that this process is at, for the progress bar."""

refused: dict[int, int] = {}
"""Sources and clips refused so far in each shard that this process is at."""

rejected: dict[int, int] = {}
"""Whole sources rejected so far in each shard that this process is at."""


class Stopped(Exception):
    """The person asked for an end; nothing half-written stays."""


@dataclass
class Tally:
    """What came of a shard's sources so far: rows for the tables, and the ledger."""

    shard: Shard
    examples: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    ledger: Counter[str] = field(default_factory=Counter)
    roles: set[str] = field(default_factory=set)

    def refuse(self, outcome: Outcome, clip: int | None) -> None:
        error = outcome.error
        assert error is not None
        row = {
            "source": outcome.planned.recipe.path,
            "key": outcome.planned.key,
            "clip": clip,
            "split": self.shard.split,
            "shard": self.shard.name,
            "step": outcome.step,
            "outcome": error.outcome,
            "reason": error.reason,
            "message": error.message,
            "measured": json.dumps(error.measured) if error.measured else None,
        }
        self.rejects.append(row)

    def close_source(self, first_example: int, first_reject: int) -> None:
        """Enter a source of which everything is known into the ledger."""
        kept = len(self.examples) - first_example
        refused = self.rejects[first_reject:]
        self.ledger["sources"] += 1
        if kept:
            self.ledger["kept"] += 1
            self.ledger["clips"] += kept + len(refused)
            self.ledger["examples"] += kept
            self.ledger["clips_rejected"] += sum(row["outcome"] == "rejected" for row in refused)
            self.ledger["clips_filtered"] += sum(row["outcome"] == "filtered" for row in refused)
        else:
            self.ledger["rejected" if any(row["outcome"] == "rejected" for row in refused) else "filtered"] += 1


def cook_shard(home: Path, number: int) -> None:
    """Cook a shard of the plan that lies in a folder and commit it: its files, its tables, its sidecar.

    Raises:
        OutputError: something cannot be written.
        Stopped: the person asked for an end.
    """
    lying = kept(home / PLAN)
    status = lying.stat()
    plan = _plan_as_of(lying, status.st_size, status.st_mtime_ns, status.st_ino)
    shard = plan.shards[number]
    base = home / shard.name
    container = plan.output.container
    base.parent.mkdir(parents=True, exist_ok=True)
    shelf: Shelf
    if plan.output.kind == "shards":
        shelf = TarShelf(base.with_suffix(".tar"), container)
    else:
        shelf = FileShelf(home.parent, base.parent, container)
    with journal_of(home, number) as journal:
        try:
            tally = _fill(shelf, shard, plan.output, read_rows(lying, number), number, journal)
            stored = shelf.finish()
        except OSError as error:
            raise commit.unwritable(base, error) from error
        finally:
            shelf.discard()
        commit_tables(base, shard, tally, stored, commit.environment())


@lru_cache(maxsize=2)
def _plan_as_of(path: Path, *_: int) -> Plan:
    """A plan that is read once by all shards of a process, for it names every shard; again when its file is another."""
    return read_plan(path)


def commit_tables(
    base: Path, shard: Shard, tally: Tally, stored: dict[str, Any], environment: dict[str, str]
) -> dict[str, Any]:
    """Write the tables of a shard whose sound is in place, and last its sidecar, which is returned.

    Args:
        base: path of the shard's files without their suffixes.
        shard: of the plan.
        tally: what came of its sources.
        stored: what the shelf says of the sound.
        environment: what the sound was made with.
    """
    tables = {
        "index": index_table(tally.examples),
        "rejects": pa.Table.from_pylist(tally.rejects, schema=REJECT_COLUMNS),
    }
    sidecar = {
        "schema": SIDECAR_SCHEMA,
        "shard": shard.name,
        "plan_digest": shard.digest,
        "examples": len(tally.examples),
        "seconds": round(math.fsum(row["seconds"] for row in tally.examples), 6),
        **stored,
        "ledger": {name: tally.ledger[name] for name in LEDGER},
        "roles": sorted(tally.roles),
        "tables": {name: write_table(base.with_suffix(f".{name}.parquet"), tables[name]) for name in tables},
        "clipped_examples": sum(row["clipped_samples"] > 0 for row in tally.examples),
        "transient": sum(row["reason"] in TRANSIENT for row in tally.rejects),
        "environment": environment,
    }
    commit.write_sealed(base.with_suffix(".json"), sidecar)
    return sidecar


LEDGER: Final = ("sources", "kept", "rejected", "filtered", "clips", "examples", "clips_rejected", "clips_filtered")


def _fill(shelf: Shelf, shard: Shard, output: Output, rows: Sequence[Planned], number: int, journal: Journal) -> Tally:
    tally = Tally(shard)
    names = {row.key: row.name for row in rows}
    for position, outcomes in itertools.groupby(cook(rows, journal), key=lambda outcome: outcome.planned.position):
        mark, first_example, first_reject = shelf.mark(), len(tally.examples), len(tally.rejects)
        for clip, outcome in enumerate(outcomes):
            if stopping.is_set():
                raise Stopped
            if outcome.error is None:
                outcome = _stored(shelf, outcome, clip, names, output, tally)
            if outcome.of_source:
                # All of a source or nothing: a file that breaks off half-way is not half a file's worth of clips.
                shelf.roll_back(mark)
                del tally.examples[first_example:], tally.rejects[first_reject:]
                tally.refuse(outcome, None)
                break
            if outcome.error is not None:
                tally.refuse(outcome, clip)
        for row in tally.examples[first_example:]:
            row |= outcome.surprises
        tally.close_source(first_example, first_reject)
        under_way[number] = under_way.get(number, 0.0) + rows[position].seconds
        refused[number] = len(tally.rejects)
        rejected[number] = tally.ledger["rejected"]
    return tally


def _stored(shelf: Shelf, outcome: Outcome, clip: int, names: dict[str, str], output: Output, tally: Tally) -> Outcome:
    """Encode and store an example and enter it into the index; the outcome, failed if that could not be done."""
    example, planned = outcome.example, outcome.planned
    bits = output.bits or example.bits
    try:
        rate = example.sample_rate
        encoded = {role: encode(sound, output.container, bits, shelf.spill) for role, sound in example.sounds.items()}
        lengths = {one.frames for one in encoded.values()}
        if len(lengths) != 1:
            raise AudioError("roles", f"its roles have {sorted(lengths)} samples; `tonemill align` makes them equal")
        if lengths == {0}:
            raise AudioError("no_frames", "no sound was left of it")
        if max(one.size for one in encoded.values()) > shelf.most_bytes:
            raise AudioError("unsupported", "a member of a tar holds less than 8 GiB, and this is more; slice it")
    except Exception as error:
        return failed_encoding(outcome, error)
    frames = lengths.pop()
    peak = max(one.peak for one in encoded.values())
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
        "channels": max(sound.channels for sound in example.sounds.values()),
        "bits": bits,
        "peak_db": 20 * math.log10(peak) if peak else None,
        "clipped_samples": sum(one.clipped for one in encoded.values()),
    }
    about = {"roles": sorted(encoded), **row, **example.fields, "recipe": planned.recipe.lineage()}
    del about["split"], about["shard"]
    where = shelf.put(Piece(str(row["key"]), names[planned.key], encoded, about))
    fields = {name: value for name, value in example.fields.items() if isinstance(value, str | int | float | bool)}
    tally.roles |= encoded.keys()
    tally.examples.append({**row, **fields, **where})
    return outcome


def index_table(rows: list[dict[str, Any]]) -> pa.Table:
    """A column for everything that any row has; a field that is a number here and text there becomes text."""
    columns: dict[str, pa.Array] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            columns[name] = pa.array([None if value is None else str(value) for value in values])
    return pa.table(columns)


def write_table(target: Path, table: pa.Table) -> dict[str, Any]:
    """Write a table; returns its bytes and SHA-256."""
    with commit.Part(target) as part:
        try:
            parquet.write_table(table, part.file, compression="zstd")
        except OSError as error:
            raise commit.unwritable(target, error) from error
        part.close()
        said = commit.fingerprint(part.path)
        part.commit()
    return said
