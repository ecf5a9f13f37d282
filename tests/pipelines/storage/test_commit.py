"""Files are there whole or not at all, sealed JSON notices a changed byte, and one command holds a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import contents

from tonemill.pipelines.storage.commit import TEMPORARY, Part, pending
from tonemill.pipelines.storage.folders import InUse, is_ours_or_empty, locked
from tonemill.pipelines.storage.json_files import read_json, read_sealed, write_json, write_sealed


def test_a_file_appears_when_it_is_committed_and_not_before(tmp_path: Path) -> None:
    target = tmp_path / "below" / "a.bin"
    with pending(target) as file:
        file.write(b"new")
        file.flush()
        assert not target.exists()
    assert contents(tmp_path) == {"below/a.bin": b"new"}


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), pending(target) as file:
        file.write(b"half of the n")
        raise ZeroDivisionError
    assert contents(tmp_path) == {"a.bin": b"old"}


def test_a_committed_file_has_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from tonemill.pipelines.storage.json_files import write_json;"
        "os.umask(0o027); write_json(Path(sys.argv[1]), {})"
    )
    subprocess.run([sys.executable, "-P", "-c", program, tmp_path / "a.json"], check=True)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def test_a_part_may_be_given_another_name(tmp_path: Path) -> None:
    with Part(tmp_path / "expected") as part:
        part.file.write(b"x")
        part.commit(tmp_path / "found" / "name")
    assert contents(tmp_path) == {"found/name": b"x"}


def test_any_changed_byte_breaks_the_seal(tmp_path: Path) -> None:
    path, record = tmp_path / "a.json", {"schema": 2, "naïve": [1.5, None, "x"], "deep": {"a": {}}}
    write_sealed(path, record)
    assert read_sealed(path) == record
    data = path.read_bytes()
    for place in range(len(data)):
        for bit in (0, 3, 7):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            assert read_sealed(path) is None, (place, bit)
    for cut in range(0, len(data), 7):
        path.write_bytes(data[:cut])
        assert read_sealed(path) is None


def test_json_without_a_seal_is_read_and_is_not_sealed(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert read_sealed(tmp_path / "a.json") is None
    assert read_json(tmp_path / "missing.json") is None
    (tmp_path / "deep.json").write_bytes(b"[" * 200_000)
    assert read_json(tmp_path / "deep.json") is None


HOLD = (
    "import sys; from pathlib import Path; from tonemill.pipelines.storage.folders import locked\n"
    "with locked(Path(sys.argv[1]), sys.argv[2] == 'together'):\n    print('held', flush=True)\n    sys.stdin.read()"
)


@pytest.mark.parametrize(("theirs", "ours", "goes"), [("alone", False, False), ("together", False, False),
                                                      ("alone", True, False), ("together", True, True)])  # fmt: skip
def test_one_command_holds_a_folder_alone_or_many_together(tmp_path: Path, theirs: str, ours: bool, goes: bool) -> None:
    words = [sys.executable, "-P", "-c", HOLD, tmp_path, theirs]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        if goes:
            with locked(tmp_path, together=ours):
                pass
        else:
            with pytest.raises(InUse, match="Another command is writing"), locked(tmp_path, together=ours):
                pass
        other.communicate()
    with locked(tmp_path):
        pass


def test_holding_a_folder_sweeps_what_a_killed_command_left(tmp_path: Path) -> None:
    for name in (f"{TEMPORARY}a", f"train/{TEMPORARY}b", "train/000000.tar", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with locked(tmp_path):
        assert (tmp_path / ".tonemill-lock").read_text() == str(os.getpid())
    assert contents(tmp_path).keys() == {"train/000000.tar", "notes.txt"}


def test_a_folder_is_free_if_nothing_in_it_is_anyone_elses(tmp_path: Path) -> None:
    assert is_ours_or_empty(tmp_path / "new")
    assert is_ours_or_empty(tmp_path)
    write_json(tmp_path / "tonemill.json", {"schema": 1, "plan_digest": "0"})
    assert is_ours_or_empty(tmp_path, "tonemill.json")
    assert not is_ours_or_empty(tmp_path)
    write_json(tmp_path / "tonemill.json", {"name": "of another program"})
    assert not is_ours_or_empty(tmp_path, "tonemill.json")
    assert not is_ours_or_empty(tmp_path / "tonemill.json")
