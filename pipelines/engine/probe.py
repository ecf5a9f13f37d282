"""Find out whether an engine does our graph as it must: every shard once, on all its workers, seen by this machine.

What is run is the very graph of `graph.run`, on shards that do nothing but leave a file that says who was at it.
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
"""More than the 128 elements that one engine gives to one worker."""

WORK: Final = "tonemill.pipelines.engine.probe:leave_word"

SHARD_SECONDS: Final = 0.01
"""What a shard takes at least, so that one worker cannot do all before the others have begun."""


@dataclass(frozen=True)
class Conformance:
    """What an engine did with the shards of a probe.

    Args:
        lost: numbers of those that it did not do, or not where this machine looks.
        doubled: of those that it did more than once.
        workers: how many shards each process did, by `host:process`.
        seconds: that it took.
        said: the error that it ended with, or nothing.
    """

    lost: tuple[int, ...]
    doubled: tuple[int, ...]
    workers: dict[str, int]
    seconds: float
    said: str = ""

    @property
    def holds(self) -> bool:
        """Whether corpora can be left to it."""
        return not (self.lost or self.doubled or self.said)

    def told(self) -> str:
        """In words."""
        counts = sorted(self.workers.values())
        spread = f"{len(counts)} workers" + (f", {counts[0]} to {counts[-1]} shards each" if counts else "")
        if self.holds:
            return f"did {SHARDS} shards once each in {self.seconds:.1f} s ({spread})"
        faults = [f"{len(some)} {what}" for what, some in (("lost", self.lost), ("done twice", self.doubled)) if some]
        return f"of {SHARDS} shards: {', '.join(faults) or 'none lost'} ({spread}). {self.said}".strip()


def probe(engine: Engine, folder: Path) -> Conformance:
    """Let an engine do many tiny shards, and look at what came of each.

    Args:
        engine: to be tried.
        folder: that its workers see too, where a folder of the probe's own is made and removed.

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
    begun, said = time.monotonic(), ""

    def left() -> Collection[int]:
        return set(range(SHARDS)) - {_number(path) for path in home.iterdir()}

    try:
        try:
            run(home, left, engine, lambda _: None, WORK)
        except OutputError as error:
            said = str(error)
        seconds = time.monotonic() - begun
        paths = [path for path in home.iterdir() if _number(path) >= 0]
        words = [cast(dict[str, Any], word) for word in mapped(home, json_files.read_json, paths) if word is not None]
    finally:
        _remove(home)
    done = Counter(int(word["shard"]) for word in words)
    return Conformance(
        tuple(number for number in range(SHARDS) if not done[number]),
        tuple(sorted(number for number, times in done.items() if times > 1)),
        dict(Counter(f"{word['host']}:{word['process']}" for word in words)),
        seconds,
        said,
    )


def leave_word(home: Path, number: int) -> None:
    """Do one shard of a probe."""
    time.sleep(SHARD_SECONDS)
    word = {"shard": number, "host": socket.gethostname(), "process": os.getpid()}
    json_files.write_json(home / f"{number:06d}-{secrets.token_hex(8)}.json", word)


def _number(path: Path) -> int:
    """The shard whose word a file is; -1 for another file."""
    number = path.name.partition("-")[0]
    return int(number) if number.isdigit() else -1


def _remove(home: Path) -> None:
    remote = as_store(home)
    if remote is None:
        shutil.rmtree(home, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        mapped(home, lambda path: path.unlink(missing_ok=True), list(remote.below()))
