"""Shapes in signatures are checked in tests, and cost no command with audio an import."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from tonemill.audiotools.waveform import Waveform


def test_tests_check_shapes_of_what_every_command_imports() -> None:
    with pytest.raises(TypeCheckError):
        Waveform(np.zeros(8, np.float32), 8000)


@pytest.mark.parametrize(
    "module",
    ["pipelines.sources.scan", "pipelines.cooking.shard", "pipelines.building.build", "audiotools.editing.levels"],
)
def test_what_checks_shapes_is_not_imported(module: str) -> None:
    program = f"import sys, tonemill.{module}; print('jaxtyping' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"False\n"
