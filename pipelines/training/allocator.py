"""Let the C library's malloc keep freed memory, so that training steps do not fault the same pages in again.

glibc takes blocks above 128 KiB (the threshold grows to 32 MiB) from the kernel by mmap, and returns them when they are
freed. A step of training frees and takes hundreds of such blocks, and each time the kernel clears their pages. With
both thresholds raised the blocks stay in the process (mallopt(3)). Worker processes get theirs from the environment
that they start with (`pipelines/engine/server.py`); training runs in the command's own process, which has started.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Parameters of mallopt (malloc.h of glibc)."""

MOST: Final = 2**31 - 1
"""The largest value that mallopt takes, in bytes."""

MOST_OF_OLDER: Final = 32 * 2**20
"""The largest threshold of older versions of glibc, in bytes: half of the heap of a thread."""

CHOSEN_BY_USER: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
"""Environment variables that set the allocator; where one is set, its choice stays."""


def keep_memory() -> bool:
    """Raise the thresholds of glibc's malloc for this process; returns whether it did.

    It does nothing on other systems, with another allocator preloaded, and if the environment sets the allocator.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in CHOSEN_BY_USER):
        return False
    try:
        process, library = ctypes.CDLL(None), ctypes.CDLL("libc.so.6")
        used, own = (ctypes.cast(one.malloc, ctypes.c_void_p).value for one in (process, library))
        mallopt = library.mallopt
    except (OSError, AttributeError):
        return False
    if used != own:
        return False
    kept = mallopt(M_MMAP_THRESHOLD, MOST) or mallopt(M_MMAP_THRESHOLD, MOST_OF_OLDER)
    return bool(kept and mallopt(M_TRIM_THRESHOLD, MOST))
