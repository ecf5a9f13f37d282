"""A socket between a command and a worker, which send each other lines of JSON."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from typing import Any, Final

from tonemill.audiotools import errors
from tonemill.audiotools.errors import TonemillError

STOP: Final = "stop"
"""The message upon which a worker stops before its next clip and ends."""


class Channel:
    """One end of the connection.

    Args:
        end: one of a pair of connected sockets.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end, self._held = end, b""
        self._sending = threading.Lock()

    def fileno(self) -> int:
        return self._end.fileno()

    def close(self) -> None:
        self._end.close()

    def send(self, message: Any) -> None:
        """Send a message; may be called from any thread.

        Raises:
            OSError: the other process has ended.
        """
        # The first newline ends a line that a process was killed in: the server writes into the channel of its worker.
        with self._sending:
            self._end.sendall(b"\n" + json.dumps(message).encode() + b"\n")

    def first(self) -> Any:
        """Wait for one message, and read nothing beyond it: what follows makes the channel ready for reading.

        Raises:
            EOFError: the other process has ended.
        """
        line = b""
        while not line.strip() or not line.endswith(b"\n"):
            byte = self._end.recv(1)
            if not byte:
                raise EOFError
            line += byte
        return json.loads(line)

    def read(self) -> list[Any]:
        """Wait for bytes and return the complete messages.

        Raises:
            EOFError: the other process has ended, and everything was read.
        """
        try:
            data = self._end.recv(1 << 16)
        except ConnectionError:
            data = b""  # the other process ended with messages unread
        if not data:
            raise EOFError
        *lines, self._held = (self._held + data).split(b"\n")
        messages = []
        for line in lines:
            with suppress(ValueError):
                messages.append(json.loads(line))
        return messages


def named(error: TonemillError) -> tuple[str, str]:
    """Class name and message of an error; for a class outside `audiotools.errors`, the name of its base there."""
    kind = next(one for one in type(error).__mro__ if one.__module__ == errors.__name__)
    return kind.__name__, str(error)


def error_of(kind: str, text: str) -> TonemillError:
    """The error whose class name and message `named` returned."""
    error: TonemillError = getattr(errors, kind)(text)
    return error
