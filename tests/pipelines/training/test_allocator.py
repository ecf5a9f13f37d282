"""Freed memory stays in the process, so that it is not faulted in again; what the user chose stays."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tonemill.pipelines.training.allocator import CHOSEN_BY_USER

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not that of glibc")

PROGRAM = """
import resource, sys
import numpy as np
from tonemill.pipelines.training.allocator import keep_memory
kept = keep_memory() if sys.argv[1] == "keep" else False
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(20_000_000, np.float32)
before = faults()
for _ in range(5):
    np.ones(20_000_000, np.float32)
print(kept, faults() - before)
"""


def ran(how: str, **environment: str) -> tuple[bool, int]:
    """Whether memory is kept, and the page faults of five arrays of 80 MB that are freed again."""
    inherited = {name: value for name, value in os.environ.items() if name not in CHOSEN_BY_USER}
    command = [sys.executable, "-c", PROGRAM, how]
    found = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True)
    kept, faults = found.stdout.split()
    return kept == "True", int(faults)


def test_freed_memory_is_not_faulted_in_again() -> None:
    kept, faults = ran("keep")
    _, without = ran("leave")
    assert kept and faults < without / 2


def test_what_the_environment_sets_stays() -> None:
    kept, _ = ran("keep", MALLOC_MMAP_THRESHOLD_="65536")
    assert not kept
