"""Progress of the shards that this process is cooking, and the request to stop."""

from __future__ import annotations

import threading

stopping = threading.Event()
"""Set when the person wants the command to end: the workers of this process stop before their next example."""

under_way: dict[int, float] = {}
"""Expected seconds cooked so far of each shard that this process is at, for the progress bar."""

refused: dict[int, int] = {}
"""Sources and clips refused so far in each shard that this process is at."""

rejected: dict[int, int] = {}
"""Whole sources rejected so far in each shard that this process is at."""


class Stopped(Exception):
    """The person asked for an end; nothing half-written stays."""
