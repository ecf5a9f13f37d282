"""What a worker is at, written where the next one finds it: so a source that ends processes is known, and set apart.

A file per shard lies in the folder `JOURNALS` of the plan's home while that shard is cooked. Its first line is the
position of the source under way; every further line is what is known against one: `POSITION suspect`, where a worker
ended there for whatever reason, or `POSITION SIGNAL`, where it was seen to be ended by one, or to be hung.
A suspect is decoded in a process of its own (`sources.decoder`); one that ends the worker even so is refused.
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
"""When each journal of this process last began to wait for a decoder."""


class Journal:
    """Of one shard that is being cooked.

    Args:
        path: of its file; None for one that is kept nowhere, and knows of no suspects.

    Raises:
        OutputError: it cannot be written.
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
        """Note which source a decoder is asked for, and that it has not answered yet."""
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
        """Note the source under way. One small write to a file's cache: it outlives the process, not the machine."""
        if self._path is not None and position != self._position:
            self._position = position
            os.pwrite(self._file, b"%*d\n" % (WIDTH, position), 0)

    def accuse(self, position: int) -> None:
        """Enter a source as a suspect, which is decoded in a process of its own from now on."""
        if position not in self._against:
            self._against[position] = [SUSPECT]
            if self._path is not None:
                _write(self._file, self._against)
                self._position = NOWHERE

    def enter_hung(self) -> None:
        """Enter that the decoder of the source under way hangs."""
        self._against.setdefault(self._position, []).append(HUNG)
        _write(self._file, self._against)

    def is_suspect(self, position: int) -> bool:
        """Whether a worker ended at this source."""
        return position in self._against

    def refuse_deadly(self, position: int) -> None:
        """Refuse a source that hung a decoder, or that ended workers even when another process decoded it.

        Raises:
            AudioError: hung, killed or crashed.
        """
        found = self._against.get(position, [])
        seen = [what for what in found if what != SUSPECT]
        if HUNG in seen:
            raise AudioError("hung", "its decoder gave no sound for so long that it was given up")
        if len(seen) < 2:
            return
        if seen[-1] == signal.SIGKILL.name:
            raise AudioError("killed", "the worker was killed twice while it was at it: it ran out of memory, probably")
        raise AudioError("crashed", f"the worker ended with {seen[-1]} twice while it was at it")

    def close(self, finished: bool) -> None:
        """Forget the source under way; where the shard is finished, everything."""
        if self._path is None:
            return
        _write(self._file, self._against)
        os.close(self._file)
        if finished or not self._against:
            self._path.unlink(missing_ok=True)
        self._path = None


@contextmanager
def journal_of(home: Path, number: int) -> Iterator[Journal]:
    """The journal of a shard of the plan in a folder; the shard is finished when the block ends without an error."""
    journal = Journal(scratch(home) / JOURNALS / str(number))
    finished = False
    try:
        yield journal
        finished = True
    finally:
        journal.close(finished)


def set_patience(seconds: float) -> None:
    """Set how long the decoders of this process may take."""
    global _patience
    _patience = seconds


def note_end(home: Path, what: str, among: Collection[int] | None = None) -> bool:
    """Enter into every journal in which a source is under way how the worker ended there; whether there was one.

    Args:
        home: where the journals lie.
        what: ended it.
        among: numbers of the shards that were the worker's; None for all.
    """
    any_found = False
    for path in _paths(home, among):
        found = _read(path, what)
        any_found |= bool(found)
        with path.open("r+b") as file:
            _write(file.fileno(), found)
    return any_found


def suspected(home: Path) -> list[int]:
    """Numbers of the shards that hold suspects."""
    return sorted(int(path.name) for path in _paths(home) if _read(path, SUSPECT))


def forget(home: Path, among: Collection[int] | None = None) -> None:
    """Remove the journals of a home, or those of some shards, for they are done or the plan is another."""
    if among is None:
        shutil.rmtree(scratch(home) / JOURNALS, ignore_errors=True)
        return
    for path in _paths(home, among):
        path.unlink(missing_ok=True)


def note_hung(seconds: float) -> bool:
    """Enter into the journals of this process which decoders gave nothing for so long; whether there was one."""
    now = time.monotonic()
    late = [journal for journal, begun in list(_reading.items()) if now - begun > seconds]
    for journal in late:
        journal.enter_hung()
    return bool(late)


def _paths(home: Path, among: Collection[int] | None = None) -> list[Path]:
    paths = [path for path in (scratch(home) / JOURNALS).glob("*") if path.name.isdigit()]
    return [path for path in paths if among is None or int(path.name) in among]


def _read(path: Path, under_way: str) -> dict[int, list[str]]:
    """What a journal holds against positions; against the one under way, what is given."""
    against: dict[int, list[str]] = defaultdict(list)
    with contextlib.suppress(OSError):
        first, *lines = path.read_text("ascii", "replace").splitlines() or [""]
        for line in lines:
            position, _, what = line.partition(" ")
            if position.isdigit() and what:
                against[int(position)].append(what)
        # A hung decoder's source has been named already.
        if first.strip().isdigit() and HUNG not in against[int(first)]:
            against[int(first)].append(under_way)
    return {position: found for position, found in against.items() if found}


def _write(file: int, against: dict[int, list[str]]) -> None:
    lines = [f"{position} {what}" for position, found in sorted(against.items()) for what in found]
    os.ftruncate(file, 0)
    os.pwrite(file, "\n".join([f"{NOWHERE:{WIDTH}d}", *lines, ""]).encode(), 0)
