"""The command's side of `fork_server`: start that process once, have it fork workers, read their exit codes."""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
from collections import deque
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
    """The command's handle of the process that forks workers."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.stderr = kept_in_memory()
        with theirs:
            self._process = start(
                ["-m", "tonemill.pipelines.engine.fork_server", str(theirs.fileno())],
                {**ALLOCATION, **os.environ},
                stderr=self.stderr,
                descriptors=[theirs.fileno()],
            )
        self.channel = Channel(ours)
        self.ended: dict[int, int] = {}
        """Exit codes of workers, by process; negative for a signal."""
        self._began: deque[int] = deque()
        self._owner = os.getpid()
        atexit.register(self.close)

    @property
    def is_usable(self) -> bool:
        """Whether the process runs and was started by this process, not by a parent that forked this one."""
        return self._owner == os.getpid() and self._process.poll() is None

    def fork(self, job: dict[str, Any]) -> tuple[int, Channel]:
        """Start a worker; returns its process id and the channel to it. It holds our locks until it ends.

        Raises:
            OutputError: the server has ended.
        """
        ours, theirs = socket.socketpair()
        held = locks.held()
        with theirs, contextlib.suppress(OSError):  # if the server has ended, read() raises
            self.channel.send({**job, "locks": len(held)}, [theirs.fileno(), *held])
        while not self._began:
            self.read()
        return self._began.popleft(), Channel(ours)

    def read(self) -> None:
        """Wait for messages of the server: process ids of new workers, and exit codes.

        Raises:
            OutputError: the server has ended.
        """
        try:
            for message in self.channel.read():
                if "began" in message:
                    # The system may give the process id of a worker that ended to a new one.
                    self.ended.pop(message["began"], None)
                    self._began.append(message["began"])
                else:
                    self.ended[message["ended"]] = message["code"]
        except EOFError:
            raise OutputError(
                f"The process that starts the workers ended with: {self.last_words() or 'no message'}. Finished "
                "work is kept: repeat the command to go on."
            ) from None

    def close(self) -> None:
        """End the server, and wait for it: its processor time then counts as that of this command."""
        if self.is_usable:
            self.channel.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(CLOSE_SECONDS)

    def last_words(self) -> str:
        """The last line that the server or a worker wrote to standard error."""
        return last_line(self.stderr)


_servers: list[Server] = []


def start_server() -> Server:
    """The server of this process; the first call starts it. It ends with this process."""
    if not _servers or not _servers[0].is_usable:
        _servers[:] = [Server()]
    return _servers[0]
