"""Progress of the shards that this process is cooking, and the request to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from tonemill.pipelines.storage.stores import cut_short

stopping = cut_short
"""Set when the user stops the command: the workers of this process stop before their next example."""


@dataclass
class UnderWay:
    """How far a shard is.

    Args:
        seconds: expected seconds of sound cooked so far.
        refused: sources and clips refused so far.
        rejected: whole sources rejected so far.
    """

    seconds: float = 0.0
    refused: int = 0
    rejected: int = 0


under_way: dict[int, UnderWay] = {}
"""The shards that this process is cooking or has cooked, by number."""


def _at_once(commit: Callable[[], None]) -> None:
    commit()


COMMITTED: Final[ContextVar[Callable[[Callable[[], None]], None]]] = ContextVar("COMMITTED", default=_at_once)
"""Calls what commits a shard to a store: at once, or beside the next shard of this process."""


def begin(number: int) -> UnderWay:
    """The counts of a shard, at zero, for some runners give a process the same shard twice.

    Counts are not deleted: a worker process reports the counts it has, and its parent would keep those not reported.
    """
    under_way[number] = UnderWay()
    return under_way[number]


class Stopped(Exception):
    """The user stopped the command; the shard's half-written files are removed."""
