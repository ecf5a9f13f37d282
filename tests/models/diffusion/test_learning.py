"""Each task learns what it must in 300 CPU seconds, and a kind of sound is learned from eight files."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.diffusion_learning import MEASURES, learned
from benchmarks.diffusion_tuning import tuned


@pytest.mark.slow
@pytest.mark.parametrize("task", MEASURES)
def test_a_task_learns_in_300_cpu_seconds(task: str) -> None:
    steps, row = learned(task, 300)
    assert row.holds, f"{task} after {steps} steps: {row}"


@pytest.mark.slow
def test_a_kind_of_sound_is_learned_from_eight_files(tmp_path: Path) -> None:
    """In ten CPU minutes sixty others cost less at every noise level; copies are no more than among those."""
    found = tuned(tmp_path, 400, 200)
    assert found.cpu_seconds < 600
    assert found.holds, found
