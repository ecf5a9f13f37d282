"""Record which sources this process could read, to decide whether a failure is of one source or of all."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from tonemill.audiotools.errors import AudioError, Doubtful, MachineError, Settled, UsageError
from tonemill.pipelines.storage.paths import as_store, readable, to_path
from tonemill.pipelines.storage.stores import most_seconds, store_of

MOST_SOURCES: Final = 10
"""Number of different sources that may fail in a row before a process gives up."""

MOST_PROBES: Final = 12
"""Number of other sources that are tried before their place counts as unreadable."""

JUDGED: Final = frozenset({"missing", "forbidden"})
"""Reasons that are facts about a source only where something beside it can be read."""


class Source(NamedTuple):
    """URI of a source, and its path below the scanned folder.

    Args:
        uri: of the file or object.
        path: below its root.
    """

    uri: str
    path: str


class _Read(NamedTuple):
    source: Source
    seconds: float


class Reach:
    """Record of the sources that one process could read and could not read."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._reads: dict[str, deque[_Read]] = defaultdict(lambda: deque(maxlen=4))
        self._failed: dict[str, None] = {}
        self._spent = 0.0
        self._others: Callable[[], Iterable[Source]] = tuple

    def among(self, others: Callable[[], Iterable[Source]]) -> None:
        """Set the other sources that are tried when it is unclear whether any source can be read."""
        self._others = others

    def read(self, source: Source) -> None:
        """Note that a source could be read."""
        place = neighbourhood(source)
        with self._lock:
            self._reads[place].append(_Read(source, time.monotonic()))
            self._failed.clear()
            self._spent = 0.0

    def seconds_left(self) -> float:
        """How long this process may go on trying without reading anything."""
        return max(0.1, most_seconds() - self._spent)

    def failed(self, source: Source, error: Doubtful, seconds: float) -> None:
        """Note that a source could not be read, for a reason that may concern all sources.

        Args:
            source: that was tried.
            error: it failed with.
            seconds: that the trial took.

        Raises:
            MachineError: nothing could be read for too long, or of too many sources.
        """
        if isinstance(error, Settled):
            return
        with self._lock:
            self._failed[source.uri] = None
            self._spent += seconds
            if len(self._failed) < MOST_SOURCES and self._spent < most_seconds():
                return
            failed, spent = len(self._failed), self._spent
        if error.reason in JUDGED and self._other_readable(source):
            return
        clock = (
            f" The clock of this machine shows {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC."
            if "Skew" in str(error)
            else ""
        )
        raise MachineError(
            f"{socket.gethostname()} could read none of the last {failed} sources, in {spent:.0f} s; at last "
            f"{readable(source.uri)}: {error.message.rstrip('.')}.{clock} Finished work is kept: mend this and "
            "repeat the command, and it goes on where it stopped."
        )

    def verdict(self, source: Source, error: Doubtful, since: float) -> AudioError:
        """The error of a source that failed twice: final (`AudioError`), or `Doubtful` if it may be readable later.

        Args:
            source: that failed.
            error: of the second attempt.
            since: time of the first failure, by the monotonic clock.
        """
        if isinstance(error, Settled):
            return AudioError(error.reason, error.message)
        if error.reason not in JUDGED:
            return error
        if (lost := lost_ground(source)) is not None:
            return Doubtful(
                "unreachable", f"{error.message}; {lost} is missing or empty, as when a disk is not mounted"
            )
        place = neighbourhood(source)
        with self._lock:
            later = any(one.seconds > since and one.source.uri != source.uri for one in self._reads[place])
        if later or self._other_readable(source):
            return AudioError(error.reason, error.message)
        return Doubtful("unreachable", f"{error.message}; no other file of {readable(place)} could be read either")

    def _other_readable(self, source: Source) -> bool:
        """Whether another source of the same neighbourhood can be read now."""
        place = neighbourhood(source)
        with self._lock:
            known = [one.source for one in reversed(self._reads[place])]
        tried = {source.uri}
        for one in islice(_alike(place, [known, self._others()], tried), MOST_PROBES):
            if is_readable(one):
                self.read(one)
                return True
        return False


def _alike(place: str, groups: Iterable[Iterable[Source]], tried: set[str]) -> Iterator[Source]:
    for group in groups:
        for one in group:
            if one.uri not in tried and neighbourhood(one) == place:
                tried.add(one.uri)
                yield one


def is_readable(source: Source) -> bool:
    """Whether a source can be opened and read from now, without any second try."""
    try:
        place = to_path(source.uri)
        if (remote := as_store(place)) is not None:
            store = store_of(remote.scheme)
            if store.look(remote.key).bytes:
                store.read(remote.key, 0, 1)
        else:
            with place.open("rb") as file:
                file.read(1)
    except Exception:
        return False
    return True


def neighbourhood(source: Source) -> str:
    """The bucket, host or scanned folder of a source, whose sources become unreachable together."""
    try:
        place = to_path(source.uri)
    except UsageError:
        return source.uri
    if (remote := as_store(place)) is not None:
        return f"{remote.scheme}://{remote.key.partition('/')[0]}"
    return str(_grounds(place, source)[0])


def lost_ground(source: Source) -> Path | None:
    """A folder above a source that is gone or empty, so that the absence of the source is no fact; None without one."""
    place = to_path(source.uri)
    if as_store(place) is not None:
        return None
    root, target = _grounds(place, source)
    if _is_void(root):
        return root
    nearest = target.parent
    while not nearest.is_dir() and nearest != nearest.parent:
        nearest = nearest.parent
    return nearest if _is_void(nearest) else None


def _grounds(place: Path, source: Source) -> tuple[Path, Path]:
    """The folder that a file was found below, and the file itself; of a link, its target and the folder of that."""
    target, root = Path(os.path.realpath(place)), place.parent
    if readable(str(place)).endswith(f"/{source.path}"):
        for _ in range(source.path.count("/")):
            root = root.parent
    real_root = Path(os.path.realpath(root))
    return (real_root if target.is_relative_to(real_root) else target.parent), target


def _is_void(folder: Path) -> bool:
    """Whether a folder is gone or empty; one that may not be listed is neither."""
    try:
        with os.scandir(folder) as entries:
            return next(iter(entries), None) is None
    except PermissionError:
        return False
    except OSError:
        return True


reach: Final = Reach()
"""The record of this process; a forked child starts with a copy of its parent's."""


def sources_of(recipe: Any) -> list[Source]:
    """The sources of a recipe."""
    return [Source(str(one.get("uri")), recipe.path) for one in recipe.sources.values()]
