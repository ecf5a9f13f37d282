"""`verify`, `repair` and `remove` by an engine, shard by shard: they find and make what one process does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Tonemill, contents
from making import QUIET

from tonemill.pipelines.cooking import journal
from tonemill.pipelines.cooking.journal import Journal
from tonemill.pipelines.corpus.layout import OutputFolder
from tonemill.pipelines.maintenance import check_pieces, verification
from tonemill.pipelines.maintenance.shard_check import Checked, Job
from tonemill.pipelines.maintenance.verification import verify
from tonemill.pipelines.pieces import pieces
from tonemill.pipelines.storage import json_files

IN_THREADS = "--runner", "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def findings(folder: Path, **more: Any) -> tuple[Any, ...]:
    found = verify(folder, False, QUIET, 2, **more)
    return found.findings, found.notes, found.shards, found.examples, found.bytes


@pytest.mark.parametrize("without_plan", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_worker_processes_find_what_threads_find(
    copy: Path, monkeypatch: pytest.MonkeyPatch, without_plan: bool
) -> None:
    for damaged in ("train/000000.tar", "train/000001.index.parquet", *(["plan.parquet"] if without_plan else [])):
        flip(copy / damaged)
    by_threads = findings(copy)
    assert {one.path for one in by_threads[0]} >= {"train/000000.tar", "train/000001.index.parquet"}
    monkeypatch.setattr(verification, "MOST_FOR_THREADS", 0)
    assert findings(copy) == by_threads


def test_worker_processes_compare_the_tables_of_the_whole(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "MOST_FOR_THREADS", 0)
    about = json_files.read_sealed(copy / "corpus.json")
    assert about is not None
    json_files.write_sealed(copy / "corpus.json", {**about, "peak_db": 3.0})
    (found,) = findings(copy)[0]
    assert (found.path, found.kind) == ("corpus.json", "unfit") and "peak_db is 3.0" in found.message


def test_a_killed_verify_goes_on_and_looks_again_at_what_was_damaged(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, looked = tmp_path / "work", list[str]()
    check, most = check_pieces.check, 2

    def run(home: Path, left: Callable[[], Sequence[int]], *_: Any) -> None:
        for number in left():
            check_pieces.check_shard(home, number)
        journal.forget(home)

    def dying(job: Job, quick: bool) -> Checked:
        if len(looked) == most:
            raise KeyboardInterrupt
        looked.append(job.name)
        return check(job, quick)

    flip(copy / "train/000000.tar")
    monkeypatch.setattr(pieces, "run", run)
    monkeypatch.setattr(check_pieces, "check", dying)
    with pytest.raises(KeyboardInterrupt):
        findings(copy, work=work)
    assert looked == ["train/000000", "train/000001"]
    most = 100
    assert {one.path for one in findings(copy, work=work)[0]} == {"train/000000.tar"}
    assert looked.count("train/000000") == 2 and looked.count("train/000001") == 1
    assert not work.exists()


def test_a_shard_that_ends_two_workers_is_a_finding(copy: Path, tmp_path: Path) -> None:
    place = tmp_path / journal.JOURNALS / "0"
    for _ in range(2):
        Journal(place).at(0)
        assert journal.note_end(tmp_path, "SIGSEGV")
    with journal.journal_of(tmp_path, 0) as kept:
        job = Job(OutputFolder.open(copy), "train/000000", None, (), None, None)
        (found,) = check_pieces.survived(job, False, kept).findings
    assert (found.path, found.kind) == ("train/000000.tar", "undecodable") and "SIGSEGV" in found.message


@pytest.mark.parametrize("by", [("--workers", 2), pytest.param(IN_THREADS, marks=pytest.mark.slow)])
def test_an_engine_repairs_and_removes_as_one_process_does(
    tonemill: Tonemill, copy: Path, tmp_path: Path, by: tuple[Any, ...]
) -> None:
    whole, alone = contents(copy), Path(shutil.copytree(copy, tmp_path / "alone"))
    flip(copy / "train/000000.tar")
    assert tonemill("repair", copy, "-q", *by).done().line["repaired"] == ["train/000000"]
    assert contents(copy) == whole
    for folder, words in ((alone, ()), (copy, by)):
        assert tonemill("remove", folder, "-q", "--where", "speaker == 'ann'", *words).done().line["shards"]
    assert contents(copy) == contents(alone)


def test_verify_imports_no_pandas(corpus: Path, environment: dict[str, str]) -> None:
    """Whose import takes longer than all of `verify` in a corpus like this one."""
    program = (
        "import sys\n"
        "from tonemill.cli.app import app\n"
        "try: app(['verify', sys.argv[1], '--quick', '-q'])\n"
        "except SystemExit: print('pandas' in sys.modules)"
    )
    words = [sys.executable, "-c", program, str(corpus)]
    ended = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    assert ended.stdout.splitlines()[-1] == "False"
