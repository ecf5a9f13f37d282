"""Test whether an engine runs our graph correctly: each shard once, on all its workers, with files that we can read.

The probe runs the same graph as a corpus (`engine.run`). Each of its shards only writes a file with the host and the
process that did it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.engine.engine import Engine, check, run
from tonemill.pipelines.storage import commit, json_files
from tonemill.pipelines.storage.paths import as_store, mapped, place

SHARDS: Final = 300
"""More than the 128 elements that Dask gives to one worker."""

WORK: Final = "tonemill.pipelines.engine.probe:write_record"

SHARD_SECONDS: Final = 0.01
"""Least seconds that a shard takes, so that one worker cannot do all shards before the others start."""


@dataclass(frozen=True)
class Conformance:
    """Results of a probe.

    Args:
        lost: numbers of shards that have no record in the folder.
        doubled: numbers of shards that have more than one record.
        workers: number of shards that each process did, by `host:process`.
        seconds: duration of the probe.
        error: message of the error that the engine ended with; empty if it succeeded.
    """

    lost: tuple[int, ...]
    doubled: tuple[int, ...]
    workers: dict[str, int]
    seconds: float
    error: str = ""

    @property
    def holds(self) -> bool:
        """Whether the engine did each shard once and ended without an error."""
        return not (self.lost or self.doubled or self.error)

    def summary(self) -> str:
        """One line for the user: how many shards were done, lost or done twice, on how many workers; and the error."""
        counts = sorted(self.workers.values())
        spread = f"{len(counts)} workers" + (f", {counts[0]} to {counts[-1]} shards each" if counts else "")
        if self.holds:
            return f"did {SHARDS} shards once each in {self.seconds:.1f} s ({spread})"
        faults = [f"{len(some)} {what}" for what, some in (("lost", self.lost), ("done twice", self.doubled)) if some]
        return f"of {SHARDS} shards: {', '.join(faults) or 'none lost'} ({spread}). {self.error}".strip()


def probe(engine: Engine, folder: Path) -> Conformance:
    """Run `SHARDS` small shards on an engine and count the records that each one wrote.

    Args:
        engine: to test.
        folder: one that the workers can write to; the probe makes a folder in it and removes it.

    Raises:
        UsageError: the engine or its options cannot be used.
        OutputError: the folder cannot be written.
    """
    check(engine)
    home = place(folder) / f"{commit.TEMPORARY}probe-{secrets.token_hex(4)}"
    try:
        home.mkdir(parents=True)
    except OSError as error:
        raise commit.unwritable(home, error) from error
    begun, message = time.monotonic(), ""

    def pending() -> Collection[int]:
        return set(range(SHARDS)) - {_number(path) for path in home.iterdir()}

    try:
        try:
            run(home, pending, engine, lambda *_: None, WORK)
        except OutputError as error:
            message = str(error)
        seconds = time.monotonic() - begun
        paths = [path for path in home.iterdir() if _number(path) >= 0]
        records = [cast(dict[str, Any], one) for one in mapped(home, json_files.read_json, paths) if one is not None]
    finally:
        _remove(home)
    done = Counter(int(one["shard"]) for one in records)
    return Conformance(
        tuple(number for number in range(SHARDS) if not done[number]),
        tuple(sorted(number for number, times in done.items() if times > 1)),
        dict(Counter(f"{one['host']}:{one['process']}" for one in records)),
        seconds,
        message,
    )


def write_record(home: Path, number: int) -> None:
    """Do one shard of a probe: write a file with the shard number, host and process id."""
    time.sleep(SHARD_SECONDS)
    record = {"shard": number, "host": socket.gethostname(), "process": os.getpid()}
    json_files.write_json(home / f"{number:06d}-{secrets.token_hex(8)}.json", record)


def _number(path: Path) -> int:
    """The shard number in the name of a record; -1 for another file."""
    number = path.name.partition("-")[0]
    return int(number) if number.isdigit() else -1


def _remove(home: Path) -> None:
    remote = as_store(home)
    if remote is None:
        shutil.rmtree(home, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        mapped(home, lambda path: path.unlink(missing_ok=True), list(remote.below()))
