"""The command's side of `fork_server`: start that process once, and have it fork workers."""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
from typing import Any, Final

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.child import kept_in_memory, last_line, start
from tonemill.pipelines.engine.channel import Channel
from tonemill.pipelines.storage import locks

ALLOCATION: Final = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""Settings of glibc's allocator. With its defaults it returns the memory of every block of sound to the system and
requests it again; on four hours of sound that cost as much system time as all reading and writing."""


CLOSE_SECONDS: Final = 2.0
"""The longest wait for a server that ends."""


class Server:
    """The command's handle of the process that forks workers; it can be read from once that process has ended."""

    def __init__(self) -> None:
        self._end, theirs = socket.socketpair()
        self._errors = kept_in_memory()
        with theirs:
            self._process = start(
                ["-m", "tonemill.pipelines.engine.fork_server", str(theirs.fileno())],
                {**ALLOCATION, **os.environ},
                stderr=self._errors,
                descriptors=[theirs.fileno()],
            )
        self._owner = os.getpid()
        atexit.register(self.close)

    @property
    def is_usable(self) -> bool:
        """Whether the process runs and was started by this process, not by a parent that forked this one."""
        return self._owner == os.getpid() and self._process.poll() is None

    def fileno(self) -> int:
        return self._end.fileno()

    def fork(self, job: dict[str, Any]) -> tuple[int, Channel]:
        """Start a worker; returns its process id and the channel to it. It holds our locks until it ends.

        Raises:
            OutputError: the server has ended.
        """
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        try:
            with theirs:
                socket.send_fds(self._end, [b"."], [theirs.fileno(), *locks.held()])
            process = channel.first()["process"]
        except (OSError, EOFError):
            raise self.failure() from None
        with contextlib.suppress(OSError):  # if the worker has ended already, the server reports it
            channel.send(job)
        return process, channel

    def failure(self) -> OutputError:
        """What a person reads when this process has ended."""
        return OutputError(
            f"The process that starts the workers ended with: {self.last_words() or 'no message'}. Finished work is "
            "kept: repeat the command to go on."
        )

    def last_words(self) -> str:
        """The last line that the server or a worker wrote to standard error."""
        return last_line(self._errors)

    def close(self) -> None:
        """End the server, and wait for it: its processor time then counts as that of this command."""
        if self.is_usable:
            self._end.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(CLOSE_SECONDS)


_servers: list[Server] = []


def start_server() -> Server:
    """The server of this process; the first call starts it. It ends with this process."""
    if not _servers or not _servers[0].is_usable:
        _servers[:] = [Server()]
    return _servers[0]
