"""What is done to a shard: a function that commands and graphs carry by its name, for whatever process imports it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

Work = Callable[[Path, int], None]
"""Does and commits one shard of the plan in a folder."""


def work_named(name: str) -> Work:
    """The function that is named as `module:function`."""
    module, _, function = name.partition(":")
    work: Work = getattr(importlib.import_module(module), function)
    return work
