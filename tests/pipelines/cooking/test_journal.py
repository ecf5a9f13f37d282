"""The journal of a shard: which source a worker that ended was reading, and which sources are refused for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonemill.audiotools.errors import AudioError
from tonemill.pipelines.cooking.journal import HUNG, JOURNALS, SUSPECT, forget, journal_of, note_end, suspected


class Killed(BaseException):
    """Raised in place of a signal: it ends the block of a journal."""


def ended_at(home: Path, shard: int, position: int, what: str) -> bool:
    """End a worker while it reads a source; returns whether a journal names that source."""
    try:
        with journal_of(home, shard) as journal:
            journal.at(position)
            journal.close = lambda finished: None  # type: ignore[method-assign]  # a killed process closes nothing
            raise Killed
    except Killed:
        pass
    return note_end(home, what)


def test_a_finished_shard_leaves_no_journal(tmp_path: Path) -> None:
    with journal_of(tmp_path, 3) as journal, journal.reading(7):
        pass
    assert list((tmp_path / JOURNALS).iterdir()) == []
    assert suspected(tmp_path) == []


def test_the_source_under_way_is_suspected_and_its_neighbours_are_not(tmp_path: Path) -> None:
    assert ended_at(tmp_path, 3, 7, "SIGSEGV")
    assert suspected(tmp_path) == [3]
    with journal_of(tmp_path, 3) as journal:
        assert journal.is_suspect(7)
        assert not journal.is_suspect(6)
        journal.refuse_deadly(7)  # once may have been chance


@pytest.mark.parametrize(
    ("signals", "reason"),
    [(["SIGSEGV", "SIGSEGV"], "crashed"), (["SIGKILL", "SIGKILL"], "killed"), ([HUNG], "hung")],
)
def test_a_source_that_ends_workers_again_is_refused(tmp_path: Path, signals: list[str], reason: str) -> None:
    for one in signals:
        assert ended_at(tmp_path, 0, 5, one)
    with journal_of(tmp_path, 0) as journal, pytest.raises(AudioError) as refused:
        journal.refuse_deadly(5)
    assert refused.value.reason == reason


def test_who_only_worked_beside_a_hanging_source_is_not_blamed(tmp_path: Path) -> None:
    for _ in range(3):
        ended_at(tmp_path, 0, 5, SUSPECT)
    with journal_of(tmp_path, 0) as journal:
        journal.refuse_deadly(5)


def test_a_worker_that_was_at_no_source_accuses_none(tmp_path: Path) -> None:
    assert not note_end(tmp_path, "SIGKILL")
    assert ended_at(tmp_path, 1, 2, "SIGSEGV")
    forget(tmp_path)
    assert suspected(tmp_path) == []
