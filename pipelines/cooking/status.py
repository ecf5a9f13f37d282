"""Progress of the shards that this process is cooking, and the request to stop."""

from __future__ import annotations

from tonemill.pipelines.storage.stores import cut_short

stopping = cut_short
"""Set when the person wants the command to end: the workers of this process stop before their next example."""

under_way: dict[int, float] = {}
"""Expected seconds cooked so far of each shard that this process is at, for the progress bar."""

refused: dict[int, int] = {}
"""Sources and clips refused so far in each shard that this process is at."""

rejected: dict[int, int] = {}
"""Whole sources rejected so far in each shard that this process is at."""


def begin(number: int) -> None:
    """Set what is counted of a shard to zero, for some runners give a process the same shard twice.

    Counts are not deleted: a worker process reports the counts it has, and its parent would keep those not reported.
    """
    under_way[number], refused[number], rejected[number] = 0.0, 0, 0


class Stopped(Exception):
    """The person asked for an end; nothing half-written stays."""
