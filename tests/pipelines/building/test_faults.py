"""Each call to a disk or store fails in turn, with each code; the same command, run again, makes the whole corpus."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Tonemill, contents, write_wav
from faults import Answered, FailingDisk, FailingStore
from making import QUIET

from tonemill.audiotools.errors import TonemillError
from tonemill.audiotools.trouble import CODES, ERRNOS, STATUSES, Kind
from tonemill.pipelines.building import build, shard_range
from tonemill.pipelines.cooking import journal
from tonemill.pipelines.cooking.shard import cook_shard
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.maintenance import repair
from tonemill.pipelines.planning.plan import Output, Plan
from tonemill.pipelines.planning.planner import Splitting, make_plan
from tonemill.pipelines.sources import scan
from tonemill.pipelines.sources.reach import Reach, reach
from tonemill.pipelines.storage import copies, stores
from tonemill.pipelines.storage.folders import LOCK
from tonemill.pipelines.storage.leases import LEASES
from tonemill.pipelines.storage.paths import place

MOST_CALLS = 2000
NUMBERS = sorted({*ERRNOS, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.EAGAIN})
ANSWERS = [
    *(Answered(status) for status in (*STATUSES, 400, 408, 416, 429, 500, 502, 503, 504)),
    *(Answered(403, code) for code in CODES),
]


@pytest.fixture
def cooked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are cooked in this process, where calls can be made to fail."""

    def run(home: Path, left: Callable[[], Collection[int]], *_: Any, **__: Any) -> None:
        while todo := sorted(left()):
            for number in todo:
                cook_shard(home, number)
        journal.forget(home, None)
        copies.tidy()

    for module in (build, repair):
        monkeypatch.setattr(module, "run", run)
    for module in (build, shard_range):
        monkeypatch.setattr(module, "check", lambda engine, say=None: None)
    monkeypatch.setattr(stores, "PAUSE_SECONDS", 0.0)
    Reach.__init__(reach)


def made(out: Path, plan: Plan) -> dict[str, Any] | None:
    """The description that a command wrote; None if it failed or reported transient failures."""
    try:
        about = build.produce(build.Build(out, plan, Engine(1), QUIET))
    except TonemillError:
        return None
    return None if about["transient"] else about


def planned(places: list[str]) -> Plan:
    return make_plan(scan.scan(scan.find_audio(places), workers=1), Output("shards"), Splitting(), 0.1)


def raw(folder: Path) -> Path:
    for number in range(4):
        write_wav(folder / "in" / f"{number}.wav", frames=400, seed=number)
    return folder / "in"


@pytest.mark.usefixtures("cooked_here")
@pytest.mark.parametrize("stride", [23, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_a_call_to_the_disk_of_the_sources_fails(
    tmp_path: Path, failing_disk: Callable[..., FailingDisk], number: int, stride: int
) -> None:
    folder = raw(tmp_path)
    plan = planned([str(folder)])
    expected = made(tmp_path / "whole", plan)
    assert expected is not None and expected["examples"] == 4
    failed = 0
    for call in itertools.count(number % stride, stride):
        Reach.__init__(reach)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        disk = failing_disk(folder, fail_at=call, times=1, error=number)
        ended = made(tmp_path / "out", plan)
        calls = len(disk.calls)
        failing_disk(folder)
        failed += ended is None
        if ended is None:
            ended = made(tmp_path / "out", plan)
        assert ended is not None and ended["digest"] == expected["digest"], (os.strerror(number), disk.calls[call:])
        if calls <= call:
            break
        assert call < MOST_CALLS
    # What is of this machine ends the command; what may be the disk's is tried again before the command ends.
    assert not failed or ERRNOS[number].kind is Kind.MACHINE


@pytest.mark.usefixtures("cooked_here")
@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("answer", ANSWERS, ids=str)
def test_a_request_for_a_source_fails(tmp_path: Path, store: FailingStore, answer: Answered, stride: int) -> None:
    raw(store.folder / "bucket")
    plan = planned(["s3://bucket/in"])
    expected = made(tmp_path / "whole", plan)
    assert expected is not None and expected["examples"] == 4
    for call in itertools.count(0, stride):
        Reach.__init__(reach)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        store.calls.clear()
        store.fail_at, store.error = call, answer
        ended = made(tmp_path / "out", plan)
        calls = len(store.calls)
        store.fail_at = None
        if ended is None:
            ended = made(tmp_path / "out", plan)
        assert ended is not None and ended["digest"] == expected["digest"], (answer, store.calls[call:])
        if calls <= call:
            break
        assert call < MOST_CALLS


def outcome(out: Path, plan: Plan) -> str:
    """The error message of a command, as `console.guarded` prints it; empty if it succeeded."""
    try:
        about = build.produce(build.Build(out, plan, Engine(1), QUIET))
    except (TonemillError, OSError) as error:
        return str(error) or type(error).__name__
    return "temporary reason" if about["transient"] else ""


def faults(every: Sequence[Any], stride: int) -> Iterator[tuple[int, Any]]:
    """Number of the call that fails, and the fault. Stride 1: all pairs; else every n-th call, the faults in turn."""
    for call in itertools.count(0, stride):
        for one in every if stride == 1 else every[call // stride % len(every) :][:1]:
            yield call, one


STRIDES = [29, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.usefixtures("cooked_here")
@pytest.mark.parametrize("stride", STRIDES)
def test_a_call_to_the_disk_of_the_corpus_fails(
    tmp_path: Path, failing_disk: Callable[..., FailingDisk], stride: int
) -> None:
    plan, out = planned([str(raw(tmp_path))]), tmp_path / "out"
    assert outcome(tmp_path / "whole", plan) == ""
    expected, failed = contents(tmp_path / "whole"), 0
    for call, number in faults(NUMBERS, stride):
        Reach.__init__(reach)
        shutil.rmtree(out, ignore_errors=True)
        disk = failing_disk(out, fail_at=call, times=1, error=number)
        ended = outcome(out, plan)
        calls = len(disk.calls)
        failing_disk(out)
        failed += bool(ended)
        if ended:
            ended = outcome(out, plan)
        found = contents(out)
        found.pop(LOCK, None)
        assert not ended and found == expected, (ended, os.strerror(number), disk.calls[call : call + 1])
        if calls <= call:
            break
        assert call < MOST_CALLS
    assert failed > 2


def broken(corpus: Path) -> None:
    """One tar is gone, and a byte of another file is wrong."""
    (corpus / "train" / "000001.tar").unlink()
    index = corpus / "index.parquet"
    index.write_bytes(index.read_bytes()[:-9] + b"x" + index.read_bytes()[-8:])


COMMANDS: dict[str, tuple[Callable[[Path], None] | None, list[str]]] = {
    "write": (None, ["write"]),
    "range": (None, ["shard", "--shard-seconds", "0.1", "--range", "1:3"]),
    "repair": (broken, ["repair"]),
    "remove": (lambda corpus: None, ["remove", "--source", "2.wav"]),
}
"""What is done to a finished corpus before the command; None begins without one. Then the command."""


@pytest.mark.usefixtures("cooked_here")
@pytest.mark.parametrize("stride", [41, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_call_to_the_disk_fails_under_each_command(
    tmp_path: Path, tonemill: Tonemill, failing_disk: Callable[..., FailingDisk], name: str, stride: int
) -> None:
    before, (command, *flags) = COMMANDS[name]
    stream = tonemill("scan", raw(tmp_path), "-q").done().out
    tonemill("shard", tmp_path / "corpus", "--shard-seconds", 0.1, "-q", stdin=stream).done()

    def begin(out: Path) -> None:
        shutil.rmtree(out, ignore_errors=True)
        Reach.__init__(reach)
        if before is not None:
            shutil.copytree(tmp_path / "corpus", out)
            before(out)

    begin(tmp_path / "whole")
    tonemill(command, tmp_path / "whole", *flags, "-q", stdin=stream).done()
    expected, failed, out = contents(tmp_path / "whole"), 0, tmp_path / "out"
    for call, number in faults(NUMBERS, stride):
        begin(out)
        disk = failing_disk(out, fail_at=call, times=1, error=number)
        ended = tonemill(command, out, *flags, "-q", stdin=stream)
        calls = len(disk.calls)
        failing_disk(out)
        assert "Traceback" not in ended.err, ended.err
        failed += ended.code != 0
        if ended.code != 0:
            ended = tonemill(command, out, *flags, "-q", stdin=stream)
        trouble = (ended.err, os.strerror(number), disk.calls[call : call + 1])
        assert ended.code == 0, trouble
        found = {path: data for path, data in contents(out).items() if path != LOCK}
        assert found == {path: data for path, data in expected.items() if path != LOCK}, trouble
        if calls <= call:
            break
        assert call < MOST_CALLS
    assert failed


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FailingStore:
    """A store in place of every other, and a TMPDIR of this test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    made = FailingStore(tmp_path / "store")
    for module in ("storage.stores", "storage.store_path", "sources.reach"):
        monkeypatch.setattr(f"tonemill.pipelines.{module}.store_of", lambda scheme: made)
    return made


@pytest.mark.usefixtures("cooked_here")
@pytest.mark.parametrize("stride", STRIDES)
def test_a_request_for_the_corpus_fails(tmp_path: Path, store: FailingStore, stride: int) -> None:
    plan, out, there = planned([str(raw(tmp_path))]), place("s3://bucket/out"), store.folder / "bucket" / "out"
    assert outcome(tmp_path / "whole", plan) == ""
    expected, failed = contents(tmp_path / "whole"), 0
    for call, answer in faults(ANSWERS, stride):
        Reach.__init__(reach)
        shutil.rmtree(there, ignore_errors=True)
        store.calls.clear()
        store.fail_at, store.error = call, answer
        ended = outcome(out, plan)
        calls = list(store.calls)
        store.fail_at = None
        failed += bool(ended)
        if ended:
            ended = outcome(out, plan)
        # A lease stays where the store refuses to remove it. No process holds its lock, so the next command removes it.
        found = {path: data for path, data in contents(there).items() if LEASES not in path}
        assert not ended and found == expected, (ended, answer, calls[call : call + 1])
        if len(calls) <= call:
            break
        assert call < MOST_CALLS
    assert failed > 1


@pytest.mark.usefixtures("cooked_here")
@pytest.mark.parametrize("stride", STRIDES)
def test_a_call_to_the_temporary_disk_fails(
    tmp_path: Path, store: FailingStore, failing_disk: Callable[..., FailingDisk], stride: int
) -> None:
    """Where copies of sources are made, and parts of a corpus in a store: trouble there is never of a source."""
    raw(store.folder / "bucket")
    plan, out, there = planned(["s3://bucket/in"]), place("s3://bucket/out"), store.folder / "bucket" / "out"
    assert outcome(out, plan) == ""
    expected, failed = contents(there), 0
    for call, number in faults(NUMBERS, stride):
        Reach.__init__(reach)
        for folder in (there, *(tmp_path / "tmp").iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
        disk = failing_disk(tmp_path / "tmp", fail_at=call, times=1, error=number)
        ended = outcome(out, plan)
        calls = len(disk.calls)
        failing_disk(tmp_path / "tmp")
        failed += bool(ended)
        if ended:
            ended = outcome(out, plan)
        assert not ended and contents(there) == expected, (ended, os.strerror(number), disk.calls[call : call + 1])
        if calls <= call:
            break
        assert call < MOST_CALLS
    assert failed > 2
