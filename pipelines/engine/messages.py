"""Messages between a command, its worker and the worker's hands: lines of JSON over a socket."""

from __future__ import annotations

import json
import socket
from typing import Any

from tonemill.audiotools import errors
from tonemill.audiotools.errors import TonemillError


def tell(channel: socket.socket, message: Any) -> None:
    """Send a message."""
    channel.sendall(json.dumps(message).encode() + b"\n")


class Inbox:
    """What arrives, message by message.

    Args:
        channel: to read.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._held = channel, b""

    def take(self) -> Any:
        """The next message, which is waited for; as long as the socket's own timeout lets it.

        Raises:
            EOFError: whoever sent is gone.
            TimeoutError: there is none yet.
        """
        while b"\n" not in self._held:
            try:
                data = self._channel.recv(1 << 16)
            except ConnectionError:
                data = b""  # it died before it read what it was sent
            if not data:
                raise EOFError
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        return json.loads(line)


def named(error: TonemillError) -> tuple[str, str]:
    """Kind and message of an error; one of a kind that takes more than a message becomes its nearest plain kind."""
    kind = next(one for one in type(error).__mro__ if one.__module__ == errors.__name__)
    return kind.__name__, str(error)


def error_of(kind: str, text: str) -> TonemillError:
    """The error that `named` named."""
    error: TonemillError = getattr(errors, kind)(text)
    return error
