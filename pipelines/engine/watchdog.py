"""End a process whose decoder hangs or whose memory runs out, for nothing else ends a call into a codec."""

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
"""Of the machine's memory, what all workers together may hold; more is taken as a codec gone wild."""


def end_if_hung(patience: float) -> None:
    """Look after the decoders of this process, and never return.

    Args:
        patience: seconds that a decoder may take for a block of sound.
    """
    while True:
        time.sleep(min(1.0, patience / 4))
        # A decoder in a process of its own gets its full time first.
        if journal.note_hung(1.25 * patience):
            os._exit(journal.HUNG_EXIT)


def end_largest(workers: Iterable[int]) -> None:
    """End the worker that holds most, where all together hold too much."""
    held = {process: _resident_bytes(process) for process in workers}
    if sum(held.values()) > MEMORY_SHARE * _memory_bytes():
        with suppress(ProcessLookupError):
            os.kill(max(held, key=held.__getitem__), signal.SIGKILL)


def _memory_bytes() -> float:
    """Memory of the machine, or as much of it as this container may take."""
    there = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):
        there = min(there, float(Path("/sys/fs/cgroup/memory.max").read_text()))
    return there


def _resident_bytes(process: int) -> int:
    """Memory that a process holds; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
