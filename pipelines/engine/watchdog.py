"""End a worker whose decoder hangs or whose memory runs out; a call into a codec cannot be stopped otherwise."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from tonemill.pipelines.cooking import journal

MEMORY_SHARE: Final = 0.85
"""Share of the machine's memory that all workers together may hold; above it, the largest worker is killed."""


def end_if_hung(patience: float) -> None:
    """Check the decoders of this process for ever; end the process when one hangs.

    Args:
        patience: seconds that a decoder may take for a block of sound.
    """
    while True:
        time.sleep(min(1.0, patience / 4))
        # A decoder in a process of its own is ended after `patience`, so this process waits longer.
        if journal.note_hung(1.25 * patience):
            os._exit(journal.HUNG_EXIT)


def end_largest(workers: Iterable[int]) -> None:
    """Kill the worker with the most memory if all together hold more than `MEMORY_SHARE`."""
    held = {process: _resident_bytes(process) for process in workers}
    if sum(held.values()) > MEMORY_SHARE * _memory_bytes():
        with suppress(ProcessLookupError):
            os.kill(max(held, key=held.__getitem__), signal.SIGKILL)


def _memory_bytes() -> float:
    """Memory of the machine in bytes, or the limit of this container if that is less."""
    there = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):
        there = min(there, float(Path("/sys/fs/cgroup/memory.max").read_text()))
    return there


def _resident_bytes(process: int) -> int:
    """Resident memory of a process in bytes; 0 if it has ended or the system has no /proc."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
