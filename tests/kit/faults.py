"""The fault kit: broken audio, a disk that fails, commands that are killed; fixtures that need no test of ours.

A package of its own takes this file and `broken_audio.py` along, and in its conftest imports the fixtures by name:

    from faults import broken_folder, failing_disk, killable
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from broken_audio import BROKEN, Broken

from tonemill.pipelines.cooking.journal import JOURNALS
from tonemill.pipelines.storage.store import Entry

# Broken audio


@pytest.fixture(scope="session")
def broken_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sequence[Broken]]:
    """A folder with one file of every kind of broken audio, and what each must be rejected for; only to be read."""
    folder = tmp_path_factory.mktemp("broken-audio")
    for one in BROKEN:
        one.make(folder / one.name)
    return folder, BROKEN


# A disk that fails


@dataclass
class FailingDisk:
    """Makes calls that touch paths below a folder fail, in this process.

    Args:
        folder: elsewhere nothing fails.
        fail_at: the number of the call that fails first, counted from 0; None never.
        times: so many calls fail, and then the disk is well again; None for ever.
        error: an `errno`, as ENOSPC (full), EIO (broken), EDQUOT, EROFS, ESTALE (a network share that went away).
        calls: what was called so far, as `("open", path)`.
    """

    folder: Path
    fail_at: int | None = None
    times: int | None = None
    error: int = errno.ENOSPC
    calls: list[tuple[str, str]] = field(default_factory=list)

    def watch(self, name: str, path: object) -> None:
        """Count a call, and fail it if it is its turn."""
        if path is None or isinstance(path, int):
            return
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
        if not place.startswith(f"{self.folder}{os.sep}"):
            return
        number = len(self.calls)
        self.calls.append((name, place))
        if self.fail_at is None or number < self.fail_at:
            return
        if self.times is None or number < self.fail_at + self.times:
            raise OSError(self.error, os.strerror(self.error), place)


@pytest.fixture
def failing_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FailingDisk]:
    """Makes a `FailingDisk` of its arguments; the one before it fails no more.

    Opening, syncing, renaming, making and removing can fail. Bytes written through an open file cannot (that is done in
    C): a limit on the size of files, `ulimit -f`, stands for those.
    """
    disks: list[FailingDisk] = []

    def failing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            if disks:
                disks[-1].watch(name, path)
            return real(path, *rest, **named)

        return call

    def fsync(handle: Any) -> None:
        place = None
        with contextlib.suppress(OSError):
            place = Path(f"/proc/self/fd/{handle if isinstance(handle, int) else handle.fileno()}").readlink()
        if disks:
            disks[-1].watch("fsync", place)
        real_fsync(handle)

    real_fsync = os.fsync
    monkeypatch.setattr(builtins, "open", failing("open", builtins.open))
    monkeypatch.setattr(io, "open", failing("open", io.open))
    for name in ("open", "stat", "replace", "rename", "mkdir", "unlink", "rmdir", "chmod"):
        monkeypatch.setattr(os, name, failing(name, getattr(os, name)))
    monkeypatch.setattr(os, "fsync", fsync)

    def make(folder: Path, **settings: Any) -> FailingDisk:
        disks.append(FailingDisk(folder, **settings))
        return disks[-1]

    return make


# A store that fails


class Answered(Exception):
    """What a store's library raises: the status, and the store's own code and words.

    Args:
        status: of HTTP.
        code: the store's own.
    """

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(f"{status} {code}")
        self.response = {
            "Error": {"Code": code or str(status), "Message": "as it was set to"},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }


@dataclass
class FailingStore:
    """A store in a local folder, of which a call fails as it is set to; it stands for any, in this process.

    Args:
        folder: where its objects are files, by their keys.
        fail_at: the number of the call that fails, counted from 0; None never.
        error: what it fails with.
        calls: what was called so far, as `("look", key)`.
    """

    folder: Path
    fail_at: int | None = None
    error: Exception = field(default_factory=lambda: Answered(503))
    calls: list[tuple[str, str]] = field(default_factory=list)

    def _watch(self, name: str, key: str) -> Path:
        self.calls.append((name, key))
        if self.fail_at == len(self.calls) - 1:
            raise self.error
        return self.folder / key

    def look(self, key: str) -> Entry:
        status = self._watch("look", key).stat()
        return Entry(status.st_size, status.st_mtime_ns)

    def find(self, key: str) -> dict[str, Entry]:
        below = sorted(path for path in self._watch("find", key).rglob("*") if path.is_file())
        entries = {str(path.relative_to(self.folder)): path.stat() for path in below}
        return {name: Entry(status.st_size, status.st_mtime_ns) for name, status in entries.items()}

    def is_folder(self, key: str) -> bool:
        return self._watch("is_folder", key).is_dir()

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return self._watch("read", key).read_bytes()[start:end]

    def fetch(self, key: str, target: Path) -> None:
        target.write_bytes(self._watch("fetch", key).read_bytes())

    def put(self, key: str, source: Path) -> None:
        path = self._watch("put", key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())

    def remove(self, key: str) -> None:
        self._watch("remove", key).unlink()


# Commands that are killed

FORKING = """
import os, sys, time
import tonemill.pipelines.building.build  # imported once, for it takes longer than the work
from tonemill.cli.app import app

stream, words = sys.argv[1], sys.argv[2:]
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(stream, os.O_RDONLY), 0)
        sys.stdin = open(0)
        app(words)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
"""Runs the command once for each line it is sent, in a fork of its own; prints the process id, then how it ended."""


class Forks:
    """Many runs of one sink, started quickly, each in a process that can be killed.

    Args:
        words: of the command, without `tonemill`.
        stream: the file that it reads as its standard input.
        out: the folder that it makes.
        environment: with Python's path; this process's if not given.
    """

    def __init__(
        self, words: Sequence[str], stream: Path, out: Path, environment: dict[str, str] | None = None
    ) -> None:
        self._out = out
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", FORKING, str(stream), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self._began_ns = 0

    def start(self) -> int:
        """Start a run; its process id."""
        assert self._process.stdin is not None
        self._began_ns = time.time_ns()
        print("go", file=self._process.stdin, flush=True)
        return int(self._read())

    def wait(self) -> int:
        """The exit code of the run that was started; negative for the signal that ended it."""
        return os.waitstatus_to_exitcode(int(self._read()))

    def run(self) -> int:
        """Start and wait; the exit code."""
        self.start()
        return self.wait()

    def timed(self) -> tuple[float, float]:
        """Seconds of a run that must end well: until it is at work, and from then on."""
        begun = time.monotonic()
        process = self.start()
        self.await_work(process)
        at_work = time.monotonic()
        assert self.wait() == 0
        return at_work - begun, time.monotonic() - at_work

    def killed(self, seconds: float, at_work: bool = True) -> int:
        """Start, SIGKILL the command so long after it began to work (or after its start), and wait; the exit code."""
        process = self.start()
        if at_work:
            self.await_work(process)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        return self.wait()

    def await_work(self, process: int) -> None:
        """Wait until a shard is under way, or the command has ended."""
        # The clock of a file system ticks some milliseconds late.
        since = self._began_ns + 10_000_000
        while os.path.exists(f"/proc/{process}"):  # noqa: PTH110
            for path in self._out.rglob(f"{JOURNALS}/*"):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime_ns > since:
                        return
            time.sleep(0.002)

    def _read(self) -> str:
        """A number on a line of its own, among what sinks print."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.strip().isdigit():
                return line
        raise AssertionError(self._process.stderr and self._process.stderr.read())

    def close(self) -> None:
        """End the process that forks."""
        self._process.terminate()
        self._process.communicate()


Killable = Callable[[Sequence[str], bytes, Path], Forks]


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[Killable]:
    """Makes `Forks` of a command's words, the stream it reads and the folder it makes."""
    made: list[Forks] = []

    def make(words: Sequence[str], stream: bytes, out: Path) -> Forks:
        path = tmp_path / f"stream-{len(made)}.jsonl"
        path.write_bytes(stream)
        made.append(Forks(words, path, out))
        return made[-1]

    yield make
    for one in made:
        one.close()


def workers_of(process: int, module: str = "tonemill.pipelines.engine.fork_server") -> list[int]:
    """The processes that do the work of a command: what its server has forked, or those that run another module."""
    parents, found = {}, []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    for one in parents:
        # The server, which a command starts itself, is none.
        if parents[one] != process and process in _above(one, parents) and _runs(one, module):
            found.append(one)
    return found


def _above(process: int, parents: dict[int, int]) -> Iterator[int]:
    while process := parents.get(process, 0):
        yield process


def _runs(process: int, module: str) -> bool:
    """Whether a process is Python that runs a module."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        return b"python" in words[0] and any(module in word.decode(errors="replace") for word in words[1:])
    return False
