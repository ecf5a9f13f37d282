"""Pieces of work: what a killed command left is taken over, and what is damaged, or may pass, is done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tonemill.audiotools.errors import OutputError, UsageError
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.pieces import pieces
from tonemill.pipelines.pieces.pieces import answers, do_pieces, key_of, work_folder
from tonemill.pipelines.planning.plan import digest_of
from tonemill.pipelines.progress import Phase, Progress

WORKER = '''
"""Squares a number, notes that it did, and fails where a file `poor` is."""

from pathlib import Path

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.pieces.pieces import commit_answer, job_of_piece


def square(home, number):
    job = job_of_piece(home, number)
    notes = Path(job["notes"])
    if (notes / "poor").exists() and job["value"] >= 4:
        raise OutputError("poor")
    with (notes / "done").open("a") as file:
        file.write(f"{job['value']}\\n")
    commit_answer(home, job, job["value"] ** 2)
'''

Do = Callable[[Path, list[int]], list[Any]]


@pytest.fixture
def do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Do:
    (tmp_path / "squaring.py").write_text(WORKER)
    monkeypatch.syspath_prepend(tmp_path)

    def squares(work: Path, values: list[int]) -> list[Any]:
        (tmp_path / "done").write_text("")
        keys = [digest_of(str(value)) for value in values]
        job: Callable[[int], dict[str, Any]] = lambda n: {"value": values[n], "notes": str(tmp_path)}  # noqa: E731
        amounts = [1.0] * len(values)
        with Progress(quiet=True).phase("x", len(values)) as phase, work_folder(work, Engine(1)) as folder:
            do_pieces(folder.home, keys, job, Engine(1), "squaring:square", phase, amounts, lambda value: value != 1)
            return list(answers(folder.home, keys))

    return squares


def test_a_command_that_failed_goes_on_where_it_stopped(
    do: Do, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, lines = tmp_path / "work", list[str]()
    monkeypatch.setattr(Phase, "say", lambda _, text: lines.append(text))
    (tmp_path / "poor").touch()
    with pytest.raises(OutputError, match="poor"):
        do(work, [1, 2, 3, 4, 5])
    (tmp_path / "poor").unlink()
    assert not lines
    (work / f"{digest_of('3')}.answer.json").write_text(json.dumps({"answer": 9, "seal": "0" * 64}))
    # 7 came meanwhile; 1 is not final, 3 is damaged.
    assert do(work, [1, 2, 7, 3, 4, 5]) == [1, 4, 49, 9, 16, 25]
    assert sorted((tmp_path / "done").read_text().split()) == ["1", "3", "4", "5", "7"]
    assert not work.exists()
    assert lines == [f"1 of 6 pieces were done by an earlier command, and are not done again ({work})"]


def test_answers_of_another_version_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    key = key_of(["a"], True)
    assert key == key_of(["a"], True) != key_of(["b"], True) and len(key) == 64
    monkeypatch.setattr(pieces, "environment", lambda: {"tonemill": "99"})
    assert key_of(["a"], True) != key


def test_a_folder_with_other_files_is_no_work_folder(do: Do, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "song.wav").touch()
    with pytest.raises(OutputError, match=r"song\.wav"):
        do(mine, [1])
    assert [path.name for path in mine.iterdir()] == ["song.wav"]


def test_workers_elsewhere_do_not_see_a_folder_in_tmpdir() -> None:
    with pytest.raises(UsageError, match="--work FOLDER"), work_folder(None, Engine(1, "dask")):
        pass
