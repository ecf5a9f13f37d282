"""The process that forks workers (`fork_server`), seen from the command: started once, it makes one at a time."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections import deque
from typing import IO, Any, Final

from tonemill.audiotools.errors import OutputError
from tonemill.pipelines.engine.channel import Channel
from tonemill.pipelines.storage import locks

ALLOCATION: Final = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""For glibc, which else gives the memory of every block of sound back to the system and asks for it again: measured on
four hours of it, as much system time again as all reading and writing took."""


class Server:
    """The process that forks workers, seen from the command."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.said = _kept_in_memory()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tonemill.pipelines.engine.fork_server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.said,
                env={**ALLOCATION, **os.environ},
                # What is typed at the terminal reaches the command, which tells the workers.
                start_new_session=True,
            )
        self.channel = Channel(ours)
        self.ended: dict[int, int] = {}
        """Exit codes of workers, by process; negative for a signal."""
        self._began: deque[int] = deque()
        self._owner = os.getpid()

    @property
    def is_usable(self) -> bool:
        """Whether it lives, and was not left over by a fork of the process that started it."""
        return self._owner == os.getpid() and self._process.poll() is None

    def fork(self, job: dict[str, Any]) -> tuple[int, Channel]:
        """A new worker: its process id, and the channel to it. It holds the locks of this process until it ends.

        Raises:
            OutputError: the server is gone.
        """
        ours, theirs = socket.socketpair()
        held = locks.held()
        with theirs, contextlib.suppress(OSError):  # what ended the server is found in reading
            self.channel.tell({**job, "locks": len(held)}, [theirs.fileno(), *held])
        while not self._began:
            self.read()
        return self._began.popleft(), Channel(ours)

    def read(self) -> None:
        """Take in what the server tells; waits for it.

        Raises:
            OutputError: the server is gone.
        """
        try:
            for message in self.channel.read():
                if "began" in message:
                    # The system may give the number of one that has ended to another.
                    self.ended.pop(message["began"], None)
                    self._began.append(message["began"])
                else:
                    self.ended[message["ended"]] = message["code"]
        except EOFError:
            raise OutputError(
                f"The process that does the work ended with: {self.last_words() or 'no word'}. What was finished "
                "stays; give the same command again to go on."
            ) from None

    def last_words(self) -> str:
        """The last line that it or a worker wrote to standard error."""
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else ""


def _kept_in_memory() -> IO[bytes]:
    """A file that takes no room on a disk, which may be full."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("tonemill-said"), "w+b")  # noqa: PTH123  (it lives as long as the server)
    return tempfile.TemporaryFile()


_servers: list[Server] = []


def start_server() -> Server:
    """The server of this process, started when there is none. It ends when this process does."""
    if not _servers or not _servers[0].is_usable:
        _servers[:] = [Server()]
    return _servers[0]
