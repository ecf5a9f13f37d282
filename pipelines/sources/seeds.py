"""Recipes for generative models: a seed each, and no audio."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources.metadata import check_names


def seeds(count: int, seed: int, fields: Mapping[str, Any]) -> Iterator[Recipe]:
    """Recipes without audio, for models that render from seeds; different `seed`s share none.

    Raises:
        UsageError: a field's name is one that tonemill writes itself.
    """
    check_names(fields)
    if "seed" in fields:
        raise UsageError("--set seed would make all seeds one; --seed N gives other seeds.")
    for index in range(count):
        # 48 bits: any JSON reader keeps them exactly.
        value = int.from_bytes(hashlib.sha256(f"{seed}:{index}".encode()).digest()[:6], "big")
        yield Recipe(f"seed-{seed}-{index:06d}", {}, {"seed": value, **fields})
