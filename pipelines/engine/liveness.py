"""Notice that the workers of an engine are gone, for which runners wait for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final, Protocol

from tonemill.audiotools.errors import OutputError

LOOK_SECONDS: Final = 1.0
"""Between two looks at the workers."""

GRACE_SECONDS: Final = 3.0
"""How long a worker process may be gone before the work is."""

START_SECONDS: Final = 30.0
"""How long worker processes may take to start."""

CLUSTER_SECONDS: Final = 300.0
"""How long a cluster may be without any worker: some begin with none, and fetch machines when there is work."""


class WorkerLost(OutputError):
    """A worker process is gone, and its work is not done."""


class Watched(Protocol):
    """Workers whose end somebody must notice."""

    def require(self) -> None:
        """Notice, some time later, that there are not enough.

        Raises:
            OutputError: there are not.
        """


class Here:
    """The process of this very thread, which notices itself."""

    def require(self) -> None:
        """Nothing can be missing."""


class Processes:
    """Worker processes of Beam's local runner.

    Args:
        expected: how many there must be.
    """

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._looked = self._complete = time.monotonic()
        self._patience = START_SECONDS

    def require(self) -> None:
        """As `Watched.require`.

        Raises:
            WorkerLost: one is gone.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if sum(_is_worker(number) for number in _children(os.getpid())) >= self._expected:
            # At the end of the work the runner stops them itself, and is then soon done.
            self._complete, self._patience = now, GRACE_SECONDS
        elif now - self._complete > self._patience:
            raise WorkerLost(
                "A worker process was killed; if nobody did it, the machine ran out of memory: try fewer --workers. "
                "What was finished stays; give the same command again to go on."
            )


class Cluster:
    """Workers of a Dask cluster, to which Beam's runner has connected in this process.

    Args:
        patience: seconds that it may be without any.
    """

    def __init__(self, patience: float = CLUSTER_SECONDS) -> None:
        self._patience = patience
        self._looked = self._seen = time.monotonic()

    def require(self) -> None:
        """As `Watched.require`.

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


def stop_children(spared: Collection[int]) -> None:
    """End worker processes that this one started; an interrupt that was not typed at a terminal reaches only us.

    Args:
        spared: processes that are told otherwise.
    """
    for shell in set(_children(os.getpid())) - set(spared):
        # A worker runs in a shell, which does not hand on what it is sent.
        for process in [*_children(shell), shell] if _is_worker(shell) else [shell]:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGTERM)


def _children(parent: int) -> list[int]:
    """Processes that one started and that have not ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # After the name in parentheses, which may hold anything: state, then the parent's number.
            state, number = status.read_text().rpartition(")")[2].split()[:2]
            if int(number) == parent and state != "Z":
                found.append(int(status.parent.name))
    return found


def _is_worker(process: int) -> bool:
    with contextlib.suppress(OSError):
        return b"sdk_worker_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False
