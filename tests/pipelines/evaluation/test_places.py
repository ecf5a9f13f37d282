"""A folder of sounds is one, whatever other files it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import write_wav

from tonemill.pipelines.evaluation.places import ALL, open_place


@pytest.mark.parametrize("other", ["plan.json", "index.parquet"])
def test_files_of_a_persons_own_make_no_corpus(tmp_path: Path, other: str) -> None:
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name)
    (tmp_path / other).write_text("{}")
    found = open_place(tmp_path)
    assert found.kind == "folder"
    assert [member.key for member in found.members[ALL]] == ["a.wav", "b.wav"]
