"""Notice that the workers of a cluster are gone, for which its runner waits for ever."""

from __future__ import annotations

import time
from typing import Final

from tonemill.audiotools.errors import OutputError

LOOK_SECONDS: Final = 1.0
"""Between two looks at the workers."""

CLUSTER_SECONDS: Final = 300.0
"""How long a cluster may be without any worker: some begin with none, and fetch machines when there is work."""


class Cluster:
    """Workers of a Dask cluster, to which Beam's runner has connected in this process.

    Args:
        patience: seconds that it may be without any.
    """

    def __init__(self, patience: float = CLUSTER_SECONDS) -> None:
        self._patience = patience
        self._looked = self._seen = time.monotonic()

    def require(self) -> None:
        """Notice, some time later, that there is none.

        Raises:
            OutputError: there has been none for so long.
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
    """How many workers the scheduler knows; 0 where it cannot be asked."""
    from distributed import default_client

    try:
        return len(default_client().scheduler_info()["workers"])
    except Exception:  # the scheduler is gone, or the runner has not connected yet: no worker can be told of
        return 0
