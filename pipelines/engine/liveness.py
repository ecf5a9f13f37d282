"""Raise an error when a cluster has lost all its workers; its runner would wait for ever."""

from __future__ import annotations

import time
from typing import Final

from tonemill.audiotools.errors import OutputError

LOOK_SECONDS: Final = 1.0
"""Seconds between two checks of the workers."""

CLUSTER_SECONDS: Final = 300.0
"""Seconds that a cluster may be without a worker: some start with none and add machines when there is work."""


class Cluster:
    """The Dask cluster that Beam's runner in this process is connected to.

    Args:
        patience: seconds that it may be without a worker.
    """

    def __init__(self, patience: float = CLUSTER_SECONDS) -> None:
        self._patience = patience
        self._looked = self._seen = time.monotonic()

    def require(self) -> None:
        """Check, at most once in `LOOK_SECONDS`, that the cluster has a worker.

        Raises:
            OutputError: it has had none for `patience` seconds.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if _dask_workers():
            self._seen = now
        elif now - self._seen > self._patience:
            raise OutputError(
                f"The cluster has had no worker for {self._patience:g} s. What was finished stays; start workers, and "
                "give the same command again to go on."
            )


def _dask_workers() -> int:
    """Number of workers in the scheduler's list; 0 if the scheduler cannot be reached."""
    from distributed import default_client

    try:
        return len(default_client().scheduler_info()["workers"])
    except Exception:  # the scheduler has ended, or the runner is not connected yet
        return 0
