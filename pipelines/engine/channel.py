"""A socket between two of our processes, on which lines of JSON go to and fro."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Sequence
from typing import Any, Final

from tonemill.audiotools import errors
from tonemill.audiotools.errors import TonemillError

MOST_DESCRIPTORS: Final = 32


class Channel:
    """One end of it.

    Args:
        end: of a pair of connected sockets.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end, self._held = end, b""
        self._sending = threading.Lock()
        self.descriptors: list[int] = []
        """File descriptors that came with messages; whoever takes one removes it from the list and closes it."""

    def fileno(self) -> int:
        return self._end.fileno()

    def close(self) -> None:
        self._end.close()

    def tell(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        """Send a message, from any thread, with file descriptors for the other process.

        Raises:
            OSError: the other process is gone.
        """
        line = json.dumps(message).encode() + b"\n"
        with self._sending:
            sent = socket.send_fds(self._end, [line], descriptors) if descriptors else 0
            self._end.sendall(line[sent:])

    def read(self) -> list[Any]:
        """The messages that are complete by now; waits until some bytes came.

        Raises:
            EOFError: the other process is gone, and everything was read.
            TimeoutError, BlockingIOError: nothing came, and the socket has a time-out or does not wait.
        """
        try:
            data, descriptors, _, _ = socket.recv_fds(self._end, 1 << 16, MOST_DESCRIPTORS)
        except ConnectionError:
            data, descriptors = b"", []  # it ended before it read what it was sent
        if not data:
            raise EOFError
        self.descriptors += descriptors
        *lines, self._held = (self._held + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def messages(self) -> tuple[list[Any], bool]:
        """The messages that are there, without waiting; and whether the other process is gone."""
        self._end.setblocking(False)
        messages: list[Any] = []
        try:
            while True:
                messages += self.read()
        except BlockingIOError:
            return messages, False
        except EOFError:
            return messages, True
        finally:
            self._end.setblocking(True)


def named(error: TonemillError) -> tuple[str, str]:
    """Kind and message of an error; one of a kind that takes more than a message becomes its nearest plain kind."""
    kind = next(one for one in type(error).__mro__ if one.__module__ == errors.__name__)
    return kind.__name__, str(error)


def error_of(kind: str, text: str) -> TonemillError:
    """The error that `named` named."""
    error: TonemillError = getattr(errors, kind)(text)
    return error
