"""A disk that fails at any call: an error in words, no file that is half, and afterwards the same bytes."""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SHARDING, Tonemill, contents
from faults import FailingDisk

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.storage import folders, json_files

MOST_CALLS = 500


@pytest.mark.parametrize("times", [1, None])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.ESTALE])
def test_a_file_is_the_old_or_the_new_whichever_call_fails(
    tmp_path: Path, failing_disk: Callable[..., FailingDisk], error: int, times: int | None
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    failed = 0
    for number in range(MOST_CALLS):
        failing_disk(folder)
        json_files.write_sealed(folder / "a.json", {"is": "old"})
        disk = failing_disk(folder, fail_at=number, times=times, error=error)
        try:
            json_files.write_sealed(folder / "a.json", {"is": "new"})
        except OutputError as raised:
            assert "cannot be written" in str(raised) and "repeat the command" in str(raised)
            failed += 1
        failing_disk(folder)
        assert json_files.read_sealed(folder / "a.json") in ({"is": "old"}, {"is": "new"})
        if len(disk.calls) <= number:
            break
    assert failed >= 4
    assert json_files.read_sealed(folder / "a.json") == {"is": "new"}


@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_a_corpus_is_finished_by_the_same_command_whichever_call_failed(
    stride: int, tonemill: Tonemill, plan: bytes, corpus: Path, tmp_path: Path, failing_disk: Callable[..., FailingDisk]
) -> None:
    """Of a corpus whose shards are done, for what cooks them is another process."""
    words = ("shard", tmp_path / "out", *SHARDING, "--workers", 1)
    failed = 0
    for number in itertools.count(0, stride):
        failing_disk(tmp_path / "out")
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        shutil.copytree(corpus, tmp_path / "out")
        for name in ("corpus.json", "index.parquet"):
            (tmp_path / "out" / name).unlink()
        disk = failing_disk(tmp_path / "out", fail_at=number, times=1, error=errno.EIO)
        ended = tonemill(*words, stdin=plan)
        calls = len(disk.calls)
        failing_disk(tmp_path / "out")
        if ended.code:
            ended.refused(1, "Error: ")
            failed += 1
            tonemill(*words, stdin=plan).done()
        made = contents(tmp_path / "out")
        made.pop(folders.LOCK, None)  # of a disk that failed when it was given free; the next command takes it
        assert made == contents(corpus)
        if calls <= number:
            break
        assert number < MOST_CALLS
    assert failed >= 3
