"""Who is alive and whose copies are whose: in containers with the same process numbers, and on disks without locks."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Tonemill

from tonemill.pipelines.doctor import machine
from tonemill.pipelines.storage import copies
from tonemill.pipelines.storage.locks import WITHOUT_LOCKS

REFUSALS = ("ENOLCK", "EOPNOTSUPP", "ENOSYS")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A TMPDIR of this test."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(copies, "_held", {})
    yield folder
    copies.discard()


@pytest.fixture(params=REFUSALS)
def lockless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system that answers so to flock."""
    number = getattr(errno, request.param)

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    return str(request.param)


def test_these_are_all_refusals() -> None:
    assert {errno.errorcode[number] for number in WITHOUT_LOCKS} == {
        errno.errorcode[getattr(errno, name)] for name in REFUSALS
    }


def test_where_there_are_no_locks_nothing_of_others_is_swept(temporary: Path, lockless: str) -> None:
    mine = copies.new_copy(".wav")
    other = mine.parent.parent / "0123456789abcdef"
    (other / "deep").mkdir(parents=True)
    (other / copies.LOCK).write_bytes(b"")
    (other / "deep" / "copy.wav").write_bytes(b"in use, for all that is known")
    old = mine.parent.parent / "4321"
    old.mkdir()
    (old / "copy.wav").write_bytes(b"of an earlier version")
    copies.tidy()
    assert not mine.exists() and (other / "deep" / "copy.wav").exists() and (old / "copy.wav").exists()
    assert copies.new_copy(".wav").exists() and (other / copies.LOCK).exists()


def test_doctor_names_a_temporary_folder_without_locks(temporary: Path, lockless: str) -> None:
    (found,) = [str(one) for one in machine.temporary(temporary) if "no locks" in str(one)]
    assert os.strerror(getattr(errno, lockless)) in found and "not deleted there" in found


def test_a_corpus_on_a_disk_without_locks_is_refused(
    tonemill: Tonemill, tmp_path: Path, plan: bytes, lockless: str
) -> None:
    """Two commands could write there at once; on a disk flock alone decides."""
    tonemill("shard", tmp_path / "out", "-q", stdin=plan).refused(1, "cannot be locked", "locks")
    assert not list(tmp_path.rglob("*.tar"))


@pytest.mark.parametrize("moment", ["the folder was made", "its lock was opened"])
def test_another_command_tidies_while_this_one_begins(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """It takes away what is empty, and the lock that no process held when it looked."""
    lstat, flock, left = Path.lstat, fcntl.flock, [True]

    def taken_away(self: Path) -> os.stat_result:
        if left and self.parent == temporary:
            left.clear()
            self.rmdir()
        return lstat(self)

    def locked(file: Any, how: int) -> None:
        flock(file, how)
        if left and Path(file.name).parent.name == copies.FETCHED.key:
            left.clear()
            Path(file.name).unlink()

    monkeypatch.setattr(*((Path, "lstat", taken_away) if moment == "the folder was made" else (fcntl, "flock", locked)))
    path = copies.new_copy(".wav")
    assert path.exists() and (path.parent.parent / copies.LOCK).exists() and not left


HOLDER = """
import sys
from tonemill.pipelines.storage import copies
copy = copies.new_copy(".wav")
copy.write_bytes(b"held")
print(copy, flush=True)
sys.stdin.readline()
"""

SWEEPER = """
from tonemill.pipelines.storage import copies
copies.new_copy(".wav").write_bytes(b"mine")
copies.tidy()
"""

LEASE = """
import os, sys
from pathlib import Path
from tonemill.pipelines.storage import leases, stores
from tonemill.pipelines.storage.store import Entry
from tonemill.pipelines.storage.store_path import StorePath

class Folder:
    def __init__(self, root): self.root = Path(root)
    def look(self, key):
        status = (self.root / key).stat()
        return Entry(status.st_size, status.st_mtime_ns)
    def find(self, key):
        found = sorted(path for path in (self.root / key).rglob("*.json"))
        return {str(path.relative_to(self.root)): self.look(path.relative_to(self.root)) for path in found}
    def read(self, key, start=0, end=None): return (self.root / key).read_bytes()
    def put(self, key, source):
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(Path(source).read_bytes())
    def remove(self, key): (self.root / key).unlink()

store = Folder(sys.argv[1])
stores._stores[(os.getpid(), "s3")] = store
with leases.leased(StorePath("s3", "bucket/corpus"), together=False, say=lambda text: print(text, flush=True)) as other:
    print("refused" if other else "held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def apart() -> list[str]:
    """Words that run a command under process numbers of its own, as in another container."""
    words = ["unshare", *(["-Ur"] if os.getuid() else []), "-pf", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("no namespaces of process numbers can be made here")
    return words


def started(apart: list[str], program: str, *words: object, **environment: str) -> subprocess.Popen[Any]:
    command = [*apart, sys.executable, "-P", "-c", program, *map(str, words)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def line_of(process: subprocess.Popen[Any]) -> str:
    assert process.stdout is not None
    return str(process.stdout.readline()).strip()


def let_end(process: subprocess.Popen[Any]) -> None:
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def test_containers_that_share_a_temporary_folder_leave_each_other_s_copies(temporary: Path, apart: list[str]) -> None:
    holder = started(apart, HOLDER)
    copy = Path(line_of(holder))
    assert copy.read_bytes() == b"held"
    subprocess.run([*apart, sys.executable, "-P", "-c", SWEEPER], check=True)
    assert copy.read_bytes() == b"held"
    # What the dead leave is swept, whatever their number was.
    holder.kill()
    holder.communicate()
    subprocess.run([*apart, sys.executable, "-P", "-c", SWEEPER], check=True)
    assert not copy.exists() and not list(temporary.rglob("*.wav"))


def test_a_lease_of_another_container_is_refused_while_it_lives(tmp_path: Path, apart: list[str]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = started(apart, LEASE, tmp_path / "store", TMPDIR=str(tmp_path / "a"))
    assert line_of(first) == "held"
    second = started(apart, LEASE, tmp_path / "store", TMPDIR=str(tmp_path / "b"))
    assert line_of(second) == "refused"
    let_end(second)
    let_end(first)
    third = started(apart, LEASE, tmp_path / "store", TMPDIR=str(tmp_path / "b"))
    assert line_of(third) == "held"
    # Killed, as by a restart: the next waits for nothing.
    third.kill()
    third.communicate()
    last = started(apart, LEASE, tmp_path / "store", TMPDIR=str(tmp_path / "a"))
    assert line_of(last) == "held"
    let_end(last)
    assert not list((tmp_path / "store").rglob("*.json"))
