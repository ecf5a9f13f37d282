"""The journal of a shard: a file with the source in progress, which identifies a source that crashes workers.

While a shard is cooked, it has a file in the folder `JOURNALS` of the plan's home. The first line of the file is the
position of the source in progress. Each further line is an entry against a source: `POSITION suspect` if a worker
ended while reading it, for an unknown reason; `POSITION SIGNAL` if that signal ended the worker; `POSITION hung`.
A suspect is decoded in a process of its own (`sources.decoder`); if it ends the worker even then, it is refused.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tonemill.audiotools.errors import AudioError
from tonemill.pipelines.sources.decoder import PATIENCE
from tonemill.pipelines.storage.commit import OURS, unwritable
from tonemill.pipelines.storage.paths import scratch

JOURNALS: Final = f"{OURS}-journals"

HUNG: Final = "hung"
SUSPECT: Final = "suspect"

HUNG_EXIT: Final = 75
"""Exit code of a worker whose decoder hung."""

NOWHERE: Final = -1
WIDTH: Final = 15

_patience = PATIENCE

_reading: dict[Journal, float] = {}
"""Start of the wait for a decoder (monotonic seconds), by journal of this process that waits for one."""


class Journal:
    """The journal of a shard that is being cooked.

    Args:
        path: of its file; None for a journal without a file, which has no suspects at first.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.patience = _patience
        self._path = path
        self._position = NOWHERE
        self._against: dict[int, list[str]] = {}
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._against = _read(path, SUSPECT)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            _write(self._file, self._against)
        except OSError as error:
            raise unwritable(path, error) from error

    @contextmanager
    def reading(self, position: int) -> Iterator[None]:
        """Record a source as the one in progress, and measure the time of its decoder until the block ends."""
        if self._path is None:
            yield
            return
        self.at(position)
        _reading[self] = time.monotonic()
        try:
            yield
        finally:
            _reading.pop(self, None)

    def at(self, position: int) -> None:
        """Record the source in progress: one small write without fsync, which survives a crash of the process only."""
        if self._path is not None and position != self._position:
            self._position = position
            os.pwrite(self._file, b"%*d\n" % (WIDTH, position), 0)

    def accuse(self, position: int) -> None:
        """Record a source as a suspect; it is decoded in a process of its own from now on."""
        if position not in self._against:
            self._against[position] = [SUSPECT]
            if self._path is not None:
                _write(self._file, self._against)
                self._position = NOWHERE

    def enter_hung(self) -> None:
        """Record that the decoder of the source in progress hangs."""
        self._against.setdefault(self._position, []).append(HUNG)
        _write(self._file, self._against)

    def is_suspect(self, position: int) -> bool:
        """Whether the journal has an entry against this source."""
        return position in self._against

    def refuse_deadly(self, position: int) -> None:
        """Refuse a source that hung a decoder, or that ended a worker although another process decoded it.

        Raises:
            AudioError: hung, killed or crashed.
        """
        found = self._against.get(position, [])
        seen = [what for what in found if what != SUSPECT]
        if HUNG in seen:
            raise AudioError("hung", "its decoder gave no sound within --decode-seconds")
        if len(seen) < 2:
            return
        if seen[-1] == signal.SIGKILL.name:
            raise AudioError("killed", "two processes that read it were killed; probably the machine ran out of memory")
        raise AudioError("crashed", f"two processes that read it ended unexpectedly, with {seen[-1]}")

    def close(self, finished: bool) -> None:
        """Clear the source in progress; remove the file if the shard is finished or there are no entries."""
        if self._path is None:
            return
        _write(self._file, self._against)
        os.close(self._file)
        if finished or not self._against:
            self._path.unlink(missing_ok=True)
        self._path = None


@contextmanager
def journal_of(home: Path, number: int) -> Iterator[Journal]:
    """The journal of a shard, for a `with` block; if the block ends without an error, the journal is removed."""
    journal = Journal(scratch(home) / JOURNALS / str(number))
    finished = False
    try:
        yield journal
        finished = True
    finally:
        journal.close(finished)


def set_patience(seconds: float) -> None:
    """Set the seconds that decoders of this process may take for a block of sound."""
    global _patience
    _patience = seconds


def note_end(home: Path, what: str, among: Collection[int] | None = None) -> bool:
    """Record how a worker ended, in each journal with a source in progress; returns whether there was one.

    Args:
        home: folder of the plan, which has the journals.
        what: `SUSPECT`, a signal's name or an exit code.
        among: numbers of the worker's shards; None for all.
    """
    any_found = False
    for path in _paths(home, among):
        found = _read(path, what)
        any_found |= bool(found)
        with path.open("r+b") as file:
            _write(file.fileno(), found)
    return any_found


def suspected(home: Path) -> list[int]:
    """Numbers of the shards whose journals have entries or a source in progress."""
    return sorted(int(path.name) for path in _paths(home) if _read(path, SUSPECT))


def forget(home: Path, among: Collection[int] | None = None) -> None:
    """Remove the journals of all shards, or of the shards in `among`, when these are done or the plan changes."""
    if among is None:
        shutil.rmtree(scratch(home) / JOURNALS, ignore_errors=True)
        return
    for path in _paths(home, among):
        path.unlink(missing_ok=True)


def note_hung(seconds: float) -> bool:
    """Record decoders of this process that have taken more than `seconds`; returns whether there is one."""
    now = time.monotonic()
    late = [journal for journal, begun in list(_reading.items()) if now - begun > seconds]
    for journal in late:
        journal.enter_hung()
    return bool(late)


def _paths(home: Path, among: Collection[int] | None = None) -> list[Path]:
    paths = [path for path in (scratch(home) / JOURNALS).glob("*") if path.name.isdigit()]
    return [path for path in paths if among is None or int(path.name) in among]


def _read(path: Path, under_way: str) -> dict[int, list[str]]:
    """The entries of a journal by position, with `under_way` added as an entry against the source in progress."""
    against: dict[int, list[str]] = defaultdict(list)
    with contextlib.suppress(OSError):
        first, *lines = path.read_text("ascii", "replace").splitlines() or [""]
        for line in lines:
            position, _, what = line.partition(" ")
            if position.isdigit() and what:
                against[int(position)].append(what)
        # If the decoder hung, the journal has that entry already.
        if first.strip().isdigit() and HUNG not in against[int(first)]:
            against[int(first)].append(under_way)
    return {position: found for position, found in against.items() if found}


def _write(file: int, against: dict[int, list[str]]) -> None:
    lines = [f"{position} {what}" for position, found in sorted(against.items()) for what in found]
    os.ftruncate(file, 0)
    os.pwrite(file, "\n".join([f"{NOWHERE:{WIDTH}d}", *lines, ""]).encode(), 0)
