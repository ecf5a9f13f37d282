"""Cook one shard of a plan and commit what came of it: a tar of a corpus, or files in a folder."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
from pyarrow import parquet

from tonemill.audiotools import files
from tonemill.audiotools.errors import TRANSIENT, AudioError
from tonemill.pipelines import commit
from tonemill.pipelines.cook import Outcome, cook, failed_encoding
from tonemill.pipelines.plan import Output, Shard, read_plan, read_rows
from tonemill.pipelines.tar import Mark, TarWriter

SIDECAR_SCHEMA: Final = 1
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
    ]
)

stopping = threading.Event()
"""Set when the person wants the command to end: the workers of this process stop before their next example."""


class Stopped(Exception):
    """The person asked for an end; nothing half-written stays."""


@dataclass(frozen=True)
class Piece:
    """An example ready to be stored.

    Args:
        key: of the example.
        name: of its source's file, made fit for a folder by the plan.
        encoded: by role.
        record: its JSON.
    """

    key: str
    name: str
    encoded: dict[str, files.Encoded]
    record: dict[str, Any]


class Shelf(Protocol):
    """Where a shard's examples are put; those of a source that fails later are taken back."""

    def put(self, piece: Piece) -> dict[str, Any]:
        """Store an example; returns columns for the index that say where."""

    def mark(self) -> Any:
        """Where it stands now."""

    def roll_back(self, mark: Any) -> None:
        """Take back what was put since the mark."""

    def finish(self) -> dict[str, Any]:
        """Commit; returns entries for the sidecar."""

    def discard(self) -> None:
        """Remove what was not committed."""


class TarShelf:
    """A shard of a corpus. An example's members are neighbours: KEY.flac or KEY.ROLE.flac, then KEY.json."""

    def __init__(self, target: Path, container: str) -> None:
        self._part = commit.Part(target)
        self._tar = TarWriter(self._part.file)
        self._container = container

    def put(self, piece: Piece) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for role, one in piece.encoded.items():
            extension = self._container if set(piece.encoded) == {"audio"} else f"{role}.{self._container}"
            columns[f"{role}_offset"] = self._tar.add(f"{piece.key}.{extension}", one.data)
            columns[f"{role}_bytes"] = len(one.data)
            columns[f"{role}_sha256"] = hashlib.sha256(one.data).hexdigest()
        text = json.dumps(piece.record, ensure_ascii=False, sort_keys=True)
        self._tar.add(f"{piece.key}.json", text.encode("utf-8", "backslashreplace"))
        return columns

    def mark(self) -> Mark:
        return self._tar.mark()

    def roll_back(self, mark: Mark) -> None:
        self._tar.roll_back(mark)

    def finish(self) -> dict[str, Any]:
        if not self._tar.size:
            # Readers stumble over a tar without members, so a shard of which nothing came has none.
            self._part.target.unlink(missing_ok=True)
            return {"bytes": 0, "sha256": None}
        digest = self._tar.finish()
        self._part.commit()
        return {"bytes": self._tar.size, "sha256": digest}

    def discard(self) -> None:
        self._part.discard()


@dataclass(frozen=True)
class _Written:
    """A file that waits for its final name."""

    part: commit.Part
    bytes: int
    sha256: str


class FileShelf:
    """Files in a folder, named after their sources: NAME.wav, NAME-0003.wav where there are several, NAME_dry.wav."""

    def __init__(self, folder: Path, work: Path, container: str) -> None:
        self._folder = folder
        self._work = work
        self._container = container
        self._waiting: list[tuple[str, str, dict[str, _Written]]] = []

    def put(self, piece: Piece) -> dict[str, Any]:
        parts: dict[str, _Written] = {}
        self._waiting.append((piece.name, piece.key.rpartition("-")[2], parts))
        for role, one in piece.encoded.items():
            # It waits among the sidecars: what a kill leaves there is swept, and the person's folder stays clean.
            part = commit.Part(self._work / piece.key, self._work)
            parts[role] = _Written(part, len(one.data), hashlib.sha256(one.data).hexdigest())
            try:
                part.file.write(one.data)
            except OSError as error:
                raise commit.unwritable(self._folder / piece.name, error) from error
            part.close()
        return {f"{role}_sha256": one.sha256 for role, one in parts.items()}

    def mark(self) -> int:
        return len(self._waiting)

    def roll_back(self, mark: int) -> None:
        for _, _, parts in self._waiting[mark:]:
            for one in parts.values():
                one.part.discard()
        del self._waiting[mark:]

    def finish(self) -> dict[str, Any]:
        clips = Counter(name for name, _, _ in self._waiting)
        files_written = []
        for name, number, parts in self._waiting:
            for role, one in parts.items():
                full = (
                    name + (f"-{number}" if clips[name] > 1 else "") + ("" if set(parts) == {"audio"} else f"_{role}")
                )
                one.part.commit(self._folder / f"{full}.{self._container}")
                files_written.append({"name": f"{full}.{self._container}", "bytes": one.bytes, "sha256": one.sha256})
        text = json.dumps(files_written, sort_keys=True)
        return {
            "bytes": sum(one["bytes"] for one in files_written),
            "sha256": hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(),
            "files": files_written,
        }

    def discard(self) -> None:
        self.roll_back(0)


@dataclass
class _Tally:
    """What came of a shard's sources so far: rows for the tables, and the ledger."""

    shard: Shard
    examples: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    ledger: Counter[str] = field(default_factory=Counter)

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


def cook_shard(folder: Path, number: int) -> None:
    """Cook a shard of the plan that lies in an output folder and commit it: its files, its tables, its sidecar.

    Raises:
        OutputError: something cannot be written.
        Stopped: the person asked for an end.
    """
    home = home_of(folder)
    plan = read_plan(home / PLAN)
    shard = plan.shards[number]
    base = home / shard.name
    container = plan.output.container
    base.parent.mkdir(parents=True, exist_ok=True)
    shelf: Shelf
    if plan.output.kind == "shards":
        shelf = TarShelf(base.with_suffix(".tar"), container)
    else:
        shelf = FileShelf(folder, base.parent, container)
    try:
        tally = _fill(shelf, shard, plan.output, home / PLAN, number)
        stored = shelf.finish()
    except OSError as error:
        raise commit.unwritable(base, error) from error
    finally:
        shelf.discard()
    _write_table(base.with_suffix(".index.parquet"), pa.Table.from_pylist(tally.examples))
    _write_table(base.with_suffix(".rejects.parquet"), pa.Table.from_pylist(tally.rejects, schema=REJECT_COLUMNS))
    sidecar = {
        "schema": SIDECAR_SCHEMA,
        "shard": shard.name,
        "plan_digest": shard.digest,
        "examples": len(tally.examples),
        "seconds": math.fsum(row["seconds"] for row in tally.examples),
        **stored,
        "ledger": {name: tally.ledger[name] for name in LEDGER},
        "transient": sum(row["reason"] in TRANSIENT for row in tally.rejects),
        "environment": commit.environment(),
    }
    commit.write_json(base.with_suffix(".json"), sidecar)


LEDGER: Final = ("sources", "kept", "rejected", "filtered", "clips", "examples", "clips_rejected", "clips_filtered")


def home_of(folder: Path) -> Path:
    """Where an output folder's plan lies: a folder of files keeps it out of sight."""
    return folder / WORK if (folder / WORK).is_dir() else folder


def _fill(shelf: Shelf, shard: Shard, output: Output, plan: Path, number: int) -> _Tally:
    tally = _Tally(shard)
    rows = read_rows(plan, number)
    names = {row.key: row.name for row in rows}
    for _, outcomes in itertools.groupby(cook(rows), key=lambda outcome: outcome.planned.position):
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
        tally.close_source(first_example, first_reject)
    return tally


def _stored(shelf: Shelf, outcome: Outcome, clip: int, names: dict[str, str], output: Output, tally: _Tally) -> Outcome:
    """Encode and store an example and enter it into the index; the outcome, failed if that could not be done."""
    example, planned = outcome.example, outcome.planned
    bits = output.bits or example.bits
    try:
        rate = example.sample_rate
        encoded = {role: files.encode(sound, output.container, bits) for role, sound in example.sounds.items()}
        lengths = {one.frames for one in encoded.values()}
        if len(lengths) != 1:
            raise AudioError("roles", f"its roles have {sorted(lengths)} samples; `tonemill align` makes them equal")
        if lengths == {0}:
            raise AudioError("no_frames", "no sound was left of it")
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
    }
    about = {"roles": sorted(encoded), **row, **example.fields, "recipe": planned.recipe.lineage()}
    del about["split"], about["shard"]
    where = shelf.put(Piece(str(row["key"]), names[planned.key], encoded, about))
    fields = {name: value for name, value in example.fields.items() if isinstance(value, str | int | float | bool)}
    tally.examples.append({**row, **fields, **where})
    return outcome


def _write_table(target: Path, table: pa.Table) -> None:
    with commit.pending(target) as file:
        parquet.write_table(table, file, compression="zstd")
