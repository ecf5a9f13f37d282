"""The function that does a shard, passed between processes by name; each process imports it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

Work = Callable[[Path, int], None]
"""Do and commit one shard. Arguments: folder of the plan, number of the shard."""


def work_named(name: str) -> Work:
    """Import the function with the name `module:function`."""
    module, _, function = name.partition(":")
    work: Work = getattr(importlib.import_module(module), function)
    return work
