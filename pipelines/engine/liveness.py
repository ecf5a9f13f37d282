"""Raise an error when a cluster is not there, or has lost all its workers; its runner would wait for ever."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tonemill.audiotools.errors import OutputError

LOOK_SECONDS: Final = 1.0
"""Seconds between two checks of the workers."""

CLUSTER_SECONDS: Final = 300.0
"""Seconds that a cluster may be without a worker: some start with none and add machines when there is work."""

REACH_SECONDS: Final = 40.0
"""Seconds that a cluster may take to answer: one that is being started is waited for."""

GLANCE_SECONDS: Final = 0.5
"""Seconds after which a person reads that a cluster is waited for."""

SCHEDULER_FILE: Final = "dask_scheduler_file"

ADDRESSES: Final = ("job_endpoint", "flink_master", "spark_master_url", "dask_client_address", SCHEDULER_FILE)
"""Beam's options that hold the address of a job service, of a master or of a scheduler, or name a file with it."""

# Of Dask's other protocols, and of words as `[auto]` and `embed`, nothing can be tried here.
_ADDRESS: Final = re.compile(r"(?:(?:tcp|tls|spark|https?)://)?(\[[^\]]+\]|[^:/\[\]]+):(\d+)/?")


def require_reachable(options: Sequence[str], patience: float = REACH_SECONDS) -> None:
    """Connect to each address that the options name, and close the connection.

    Args:
        options: of Beam, as `--job_endpoint=localhost:8099`.
        patience: seconds that an address may take to accept a connection, or a scheduler's file to appear.

    Raises:
        OutputError: one does not; the message has its option and what was tried.
    """
    for name, _, value in (option.lstrip("-").partition("=") for option in options):
        until = time.monotonic() + patience
        while name in ADDRESSES:
            try:
                _connect(name, value, patience)
                break
            except (OSError, ValueError, KeyError, TypeError) as error:
                if time.monotonic() > until:
                    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                    raise OutputError(
                        f"There is no cluster at --beam {name}={value}: {reason}, for {patience:g} s. Start it, or "
                        "correct the option, and repeat the command."
                    ) from error
                time.sleep(LOOK_SECONDS / 4)


def _connect(name: str, value: str, seconds: float) -> None:
    """Connect to the address that an option has, or that is in the file it names."""
    address = json.loads(Path(value).read_text())["address"] if name == SCHEDULER_FILE else value
    if match := _ADDRESS.fullmatch(address):
        socket.create_connection((match[1].strip("[]"), int(match[2])), seconds).close()


def glance(options: Sequence[str], say: Callable[[str], None]) -> None:
    """Print which cluster does not answer yet; `require_reachable` waits for it later, in the process of the runner.

    Args:
        options: of Beam.
        say: prints a line.
    """
    try:
        require_reachable(options, GLANCE_SECONDS)
    except OutputError as error:
        say(f"{str(error).partition(', for ')[0]}, so far. The command waits for it, {REACH_SECONDS:g} s at most.")


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
                f"The cluster has had no worker for {self._patience:g} s. Finished work is kept: start workers, "
                "and repeat the command to go on."
            )


def _dask_workers() -> int:
    """Number of workers in the scheduler's list; 0 if the scheduler cannot be reached."""
    from distributed import default_client

    try:
        return len(default_client().scheduler_info()["workers"])
    except Exception:  # the scheduler has ended, or the runner is not connected yet
        return 0
