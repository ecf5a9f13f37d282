"""The devices that a plan renders on, and the worker for each: one worker per accelerator, any number on a CPU."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tonemill.pipelines.corpus.plan_file import PlanFile
from tonemill.pipelines.recipes.recipe import recipe_of
from tonemill.pipelines.recipes.step import STEPS, BatchStep, load_steps
from tonemill.pipelines.storage.output_names import PLAN

CPU: Final = "cpu"

_STEP_NAME: Final = re.compile(r'"step"\s*:\s*"([^"]*)"')


def devices_of(home: Path, numbers: Sequence[int]) -> frozenset[str]:
    """The devices that recipes of the shards `numbers` name for their models, as `auto`; empty if no recipe renders.

    Recipes are searched as text, and parsed only if they name such a step. Measured: 0.1 s for 100,000 recipes, and
    0.9 s and 112 MB for a million in 56 shards; parsing takes many times as long.
    """
    if not (home / PLAN).exists():
        return frozenset()
    known, rendering = frozenset(STEPS.names()), dict[str, Sequence[Mapping[str, Any]]]()
    for table in PlanFile(home / PLAN).tables(("recipe",), numbers):
        lines = [line or "" for line in table["recipe"].to_pylist()]
        names = known.intersection(_STEP_NAME.findall("\n".join(lines)))
        wanted = {name for name in names if issubclass(STEPS.module(name).STEP, BatchStep)}
        for line in lines if wanted else ():
            # A match may also be a metadata field named `step`; load_steps below decides.
            if wanted.intersection(_STEP_NAME.findall(line)):
                steps = recipe_of(line).steps
                rendering[repr(steps)] = steps
    loaded = (step for steps in rendering.values() for step in load_steps(steps))
    return frozenset(_device(step) for step in loaded if isinstance(step, BatchStep))


def _device(step: BatchStep) -> str:
    return CPU if getattr(step, "on_cpu", False) else str(getattr(step, "device", "auto"))


def take_device(devices: Collection[str], place: int, workers: int) -> bool:
    """Choose the device that this process renders on; False if every device has a worker already.

    Args:
        devices: named by the plan.
        place: number of this worker, from 0.
        workers: number of workers.
    """
    import torch

    if {*devices} != {CPU}:
        if torch.cuda.is_available():
            if place < torch.cuda.device_count():
                torch.cuda.set_device(place)
                return True
            return False
        if torch.backends.mps.is_available():
            return place == 0
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    return True
