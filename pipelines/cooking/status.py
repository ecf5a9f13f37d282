"""Progress of the shards that this process is cooking, and the request to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from tonemill.pipelines.storage.stores import cut_short

stopping = cut_short
"""Set when the user stops the command: the workers of this process stop before their next example."""

under_way: dict[int, float] = {}
"""Expected seconds cooked so far of each shard in progress in this process, for the progress bar."""

refused: dict[int, int] = {}
"""Sources and clips refused so far in each shard in progress in this process."""

rejected: dict[int, int] = {}
"""Whole sources rejected so far in each shard in progress in this process."""


def _at_once(commit: Callable[[], None]) -> None:
    commit()


COMMITTED: Final[ContextVar[Callable[[Callable[[], None]], None]]] = ContextVar("COMMITTED", default=_at_once)
"""Calls what commits a shard to a store: at once, or beside the next shard of this process."""


def begin(number: int) -> None:
    """Set the counts of a shard to zero, for some runners give a process the same shard twice.

    Counts are not deleted: a worker process reports the counts it has, and its parent would keep those not reported.
    """
    under_way[number], refused[number], rejected[number] = 0.0, 0, 0


class Stopped(Exception):
    """The user stopped the command; the shard's half-written files are removed."""
