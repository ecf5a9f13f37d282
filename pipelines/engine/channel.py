"""A socket between two of our processes, which send each other lines of JSON."""

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
    """One end of the connection.

    Args:
        end: one of a pair of connected sockets.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end, self._held = end, b""
        self._sending = threading.Lock()
        self.descriptors: list[int] = []
        """File descriptors that came with messages; a caller that takes one removes it here and closes it."""

    def fileno(self) -> int:
        return self._end.fileno()

    def close(self) -> None:
        self._end.close()

    def send(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        """Send a message, and file descriptors for the other process; may be called from any thread.

        Raises:
            OSError: the other process has ended.
        """
        line = json.dumps(message).encode() + b"\n"
        with self._sending:
            sent = socket.send_fds(self._end, [line], descriptors) if descriptors else 0
            self._end.sendall(line[sent:])

    def read(self) -> list[Any]:
        """Wait for bytes and return the complete messages.

        Raises:
            EOFError: the other process has ended, and everything was read.
            TimeoutError, BlockingIOError: nothing came, and the socket has a time-out or does not block.
        """
        try:
            data, descriptors, _, _ = socket.recv_fds(self._end, 1 << 16, MOST_DESCRIPTORS)
        except ConnectionError:
            data, descriptors = b"", []  # the other process ended with messages unread
        if not data:
            raise EOFError
        self.descriptors += descriptors
        *lines, self._held = (self._held + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def messages(self) -> tuple[list[Any], bool]:
        """The messages that have arrived, without waiting; and whether the other process has ended."""
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
    """Class name and message of an error; for a class outside `audiotools.errors`, the name of its base there."""
    kind = next(one for one in type(error).__mro__ if one.__module__ == errors.__name__)
    return kind.__name__, str(error)


def error_of(kind: str, text: str) -> TonemillError:
    """The error whose class name and message `named` returned."""
    error: TonemillError = getattr(errors, kind)(text)
    return error
