"""Try sources that could not be read once more at the end of a shard, and only then choose their reject reasons."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from tonemill.audiotools.errors import AudioError, Doubtful
from tonemill.pipelines.planning.plan import Planned
from tonemill.pipelines.sources.reach import Source, reach, sources_of
from tonemill.pipelines.sources.reader import Vanished, bring
from tonemill.pipelines.sources.remote import unstable
from tonemill.pipelines.storage.stores import cut_short

MOST_PASSES: Final = 3
"""Most times that a shard is cooked, if sources that failed can be read later."""


class Doubts:
    """The sources of one shard that could not be read.

    Args:
        rows: recipes of the shard.
        others: returns recipes of other shards; their sources are tried if none of this shard can be read.
    """

    def __init__(self, rows: Sequence[Planned], others: Callable[[], Iterable[Planned]] = tuple) -> None:
        self._rows = {row.key: row for row in rows}
        self._first: dict[str, float] = {}
        self._now: dict[str, Doubtful] = {}
        self._twice: set[str] = set()
        self._passes = 0

        def all_sources() -> Iterable[Source]:
            for group in (rows, others()):
                for row in group:
                    yield from sources_of(row.recipe)

        reach.among(all_sources)

    def enter(self, row: Planned, error: Doubtful) -> None:
        """Record that a source could not be read."""
        self._now[row.key] = error
        self._first.setdefault(row.key, time.monotonic())

    def cook_again(self) -> bool:
        """Try each source that failed once again; returns whether the shard must be cooked again.

        Raises:
            MachineError: no source can be read any more, or copies vanish as soon as they are made.
        """
        self._passes += 1
        vanished = [key for key, error in self._now.items() if isinstance(error, Vanished) and key in self._twice]
        if vanished:
            raise unstable(sources_of(self._rows[vanished[0]].recipe)[0].uri)
        again = False
        for key in [key for key in self._now if key not in self._twice]:
            if cut_short.is_set():
                break
            self._twice.add(key)
            again |= self._tried(self._rows[key])
        if not again or self._passes >= MOST_PASSES:
            return False
        self._now.clear()
        return True

    def _tried(self, row: Planned) -> bool:
        """Whether all sources of a recipe can be fetched now."""
        for source, place in zip(row.recipe.sources.values(), sources_of(row.recipe), strict=True):
            begun = time.monotonic()
            try:
                bring(source)
            except Doubtful as error:
                self._now[row.key] = error
                reach.failed(place, error, time.monotonic() - begun)
                return False
            except AudioError:
                # The file can be reached; cooking finds its error.
                return True
            reach.read(place)
        return True

    def settle(self, rejects: Iterable[dict[str, Any]]) -> None:
        """Write the final reason and message, permanent or transient, into each reject."""
        for row in rejects:
            if row["clip"] is None and (error := self._now.get(row["key"])) is not None:
                source = sources_of(self._rows[row["key"]].recipe)[0]
                verdict = reach.verdict(source, error, self._first[row["key"]])
                row["reason"], row["message"] = verdict.reason, verdict.message
