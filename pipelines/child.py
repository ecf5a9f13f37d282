"""A Python process beside this one: how it is started, answers in lines of JSON, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any

_SILENT = subprocess.DEVNULL


def start(
    words: Sequence[str],
    environment: Mapping[str, str] | None = None,
    stdin: int = _SILENT,
    stdout: int = _SILENT,
    stderr: int | IO[bytes] = _SILENT,
    descriptors: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start Python.

    It imports nothing from the working folder, and has a session of its own: Ctrl-C at the terminal reaches only the
    command, which ends its processes itself, and `killpg` ends what it started too.

    Args:
        words: after `python -P`.
        environment: all of its variables; those of this process if not given.
        stdin, stdout, stderr: as of `subprocess`.
        descriptors: open files that it inherits.

    Raises:
        OSError: there may be no more processes.
    """
    return subprocess.Popen(
        [sys.executable, "-P", *words],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        pass_fds=descriptors,
        start_new_session=True,
    )


class Child:
    """A process that writes lines of JSON, each perhaps with bytes behind it; killed at the end of a `with` block.

    Args:
        words: after `python -P`.
        environment: as for `start`.
        has_input: it reads what `send` writes; it should end when its input does, for this process may be killed.
        keeps_errors: what it writes to stderr is kept.

    Raises:
        OSError: as `start`.
    """

    def __init__(
        self,
        words: Sequence[str],
        environment: Mapping[str, str] | None = None,
        has_input: bool = True,
        keeps_errors: bool = False,
    ) -> None:
        self._errors = kept_in_memory() if keeps_errors else None
        pipe = subprocess.PIPE
        self._process = start(words, environment, pipe if has_input else _SILENT, pipe, self._errors or _SILENT)
        assert self._process.stdout is not None
        self._out = self._process.stdout.fileno()
        self._held = b""

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, message: Any, data: bytes = b"") -> None:
        """Send a line, and bytes. If the process has ended, the next line raises EOFError."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n" + data)
            self._process.stdin.flush()

    def line(self, seconds: float) -> Any:
        """The next line.

        Args:
            seconds: the longest wait for more bytes.

        Raises:
            TimeoutError: none came.
            EOFError: the process has ended; see `code`.
        """
        while b"\n" not in self._held:
            self._held += self._more(1 << 16, seconds)
        line, _, self._held = self._held.partition(b"\n")
        return json.loads(line.decode("utf-8", "surrogateescape"))

    def take(self, count: int, seconds: float) -> bytes:
        """The next `count` bytes, which are no line.

        Raises:
            TimeoutError, EOFError: as `line`.
        """
        taken = bytearray(self._held[:count])
        self._held = self._held[count:]
        while len(taken) < count:
            taken += self._more(count - len(taken), seconds)
        return bytes(taken)

    def code(self) -> int:
        """Its exit code, negative for a signal; waits until it has ended."""
        return self._process.wait()

    def last_words(self) -> str:
        """The last line that it wrote to stderr, if that is kept."""
        return last_line(self._errors) if self._errors is not None else ""

    def close(self) -> None:
        """Kill it, and the processes that it started."""
        # As long as it is not waited for, no other process group can have its number.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError), self._process:
            pass
        if self._errors is not None:
            self._errors.close()

    def _more(self, count: int, seconds: float) -> bytes:
        ready, _, _ = select.select([self._out], [], [], max(0.0, seconds))
        if not ready:
            raise TimeoutError
        data = os.read(self._out, count)
        if not data:
            raise EOFError
        return data


def end_in_words(code: int) -> str:
    """How a process ended, from its exit code: the name of a signal, or `exit code 1`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def kept_in_memory() -> IO[bytes]:
    """A file in memory, for the disk may be full; a temporary file on systems without memfd_create."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("tonemill-stderr"), "w+b")  # noqa: PTH123  (open as long as its owner)
    return tempfile.TemporaryFile()


def last_line(file: IO[bytes]) -> str:
    """The last line of a file that a process writes; at most 500 characters of it."""
    file.seek(0)
    lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:500] if lines else ""
