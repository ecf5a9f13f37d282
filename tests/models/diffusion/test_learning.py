"""Each task learns what it must in 300 CPU seconds, as `benchmarks.diffusion_learning` measures it."""

from __future__ import annotations

import pytest

from benchmarks.diffusion_learning import MEASURES, learned


@pytest.mark.slow
@pytest.mark.parametrize("task", MEASURES)
def test_a_task_learns_in_300_cpu_seconds(task: str) -> None:
    steps, row = learned(task, 300)
    assert row.holds, f"{task} after {steps} steps: {row}"
