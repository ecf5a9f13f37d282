"""Fetch sources of a shard that are in stores while those before them are cooked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final, NamedTuple

from tonemill.audiotools.codecs import files
from tonemill.audiotools.errors import MachineError, UsageError
from tonemill.pipelines.planning.plan import Planned
from tonemill.pipelines.sources.reader import bring
from tonemill.pipelines.storage.paths import as_store, to_path

MOST_SOURCES: Final = 8
"""Sources that are fetched before their turn, at most; each is a request under way or a copy in TMPDIR."""

MOST_BYTES: Final = 256 << 20
"""Bytes of these sources together, at most. A larger one is fetched ahead alone."""

Fetch = Callable[[Planned, str], files.Source]
"""Gives the source of a recipe by its role, as `bring`."""


class _Source(NamedTuple):
    position: int
    role: str
    record: dict[str, Any]


class Ahead:
    """The sources of recipes, each fetched before it is its turn where it is in a store; for a `with` block.

    Args:
        rows: recipes in the order in which their sources will be taken; some may be left out.
    """

    def __init__(self, rows: Sequence[Planned]) -> None:
        self._following: Iterator[_Source] = (
            _Source(row.position, role, record)
            for row in rows
            for role, record in row.recipe.sources.items()
            if _is_far(record)
        )
        self._next: _Source | None = None
        self._under_way: deque[tuple[_Source, Future[files.Source]]] = deque()
        self._pool = ThreadPoolExecutor(MOST_SOURCES)

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._under_way.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def take(self, planned: Planned, role: str) -> files.Source:
        """As `bring` of a recipe's source; it waits until that is here, and what follows is begun.

        Raises:
            AudioError: as `bring`.
            MachineError: as `bring`.
        """
        record = planned.recipe.sources[role]
        if not _is_far(record):
            return bring(record)
        self._begin()
        while self._under_way:
            source, future = self._under_way.popleft()
            self._begin()
            if (source.position, source.role) == (planned.position, role):
                try:
                    return future.result()
                except MachineError:
                    # The others may have filled TMPDIR.
                    self._let_go()
        return bring(record)

    def _begin(self) -> None:
        """Begin to fetch, as far as the bounds allow."""
        held = sum(_size(source.record) for source, _ in self._under_way)
        while len(self._under_way) < MOST_SOURCES:
            source = self._next = self._next or next(self._following, None)
            if source is None or (self._under_way and held + _size(source.record) > MOST_BYTES):
                return
            held += _size(source.record)
            self._next = None
            self._under_way.append((source, self._pool.submit(bring, source.record)))

    def _let_go(self) -> None:
        """Give up what was fetched ahead; each source is fetched in its turn from now on."""
        futures = [future for _, future in self._under_way]
        self._under_way.clear()
        self._next, self._following = None, iter(())
        for future in futures:
            future.cancel()
        wait(futures)


def _is_far(record: dict[str, Any]) -> bool:
    try:
        return isinstance(record.get("uri"), str) and as_store(to_path(record["uri"])) is not None
    except UsageError:
        return False


def _size(record: dict[str, Any]) -> int:
    """Bytes of a source; of one whose size is not known, as many as all may have."""
    return size if isinstance(size := record.get("bytes"), int) else MOST_BYTES
