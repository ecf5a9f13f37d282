"""Hand a study out on this machine and take answers: a fixed set of files, and no names from requests."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tonemill.audiotools.errors import OutputError, TonemillError, UsageError
from tonemill.pipelines.storage import commit
from tonemill.pipelines.survey.answers import MOST_BYTES, NotAnswers, read_session
from tonemill.pipelines.survey.study import Study

MOST_ANSWERS: Final = 10_000
"""Files that are stored, whatever is sent."""

SECONDS: Final = 30
"""After which a request that does not go on is given up."""


def server_of(
    study: Study, host: str, port: int, tell: Callable[[str], None] = lambda text: None
) -> ThreadingHTTPServer:
    """A server, which listens when this returns; `serve_forever` runs it.

    Args:
        study: to hand out.
        host: an address of this machine.
        port: 0 takes any.
        tell: is given a line for each set of answers that arrives.

    Raises:
        OutputError: the address is taken.
        UsageError: there is no such address.
    """
    files = {"/index.html": (study.files.page, "text/html; charset=utf-8")}
    files |= {
        f"/clips/{one}.js": (study.files.clips / f"{one}.js", "text/javascript; charset=utf-8")
        for one in study.plan["clips"]
    }
    desk = _Desk(study, tell)

    class Handler(_Handler):
        served = files
        takes = desk

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise OutputError(
                f"Port {port} is taken. Name another with --port, or --port 0 for any that is free."
            ) from error
        raise UsageError(
            f"No server can be opened at {host}:{port}: {error}. Name an address of this machine with --host, or "
            "another --port."
        ) from error


class _Desk:
    """Stores answers under numbers of its own, and gives listeners theirs."""

    def __init__(self, study: Study, tell: Callable[[str], None]) -> None:
        self.study, self.tell = study, tell
        self.lock = threading.Lock()
        folder = study.files.answers
        numbers = (
            [path.stem.removeprefix("answers-") for path in folder.glob("answers-*.json")] if folder.is_dir() else []
        )
        self.stored = max([int(one) for one in numbers if one.isdigit()], default=0)
        self.listeners = 0

    def next_listener(self) -> int:
        with self.lock:
            self.listeners += 1
            return self.stored + self.listeners

    def store(self, body: bytes) -> None:
        """Keep what is a listener's answers.

        Raises:
            NotAnswers: it is not.
            OutputError: they cannot be written.
        """
        session = read_session(body, self.study)
        with self.lock:
            if self.stored >= MOST_ANSWERS:
                raise OutputError(f"There are {MOST_ANSWERS} files of answers already.")
            target = self.study.files.answers / f"answers-{self.stored + 1:06d}.json"
            with commit.pending(target) as file:
                file.write(body)
            self.stored += 1
        self.tell(f"{target.name}: listener {session['listener']}, {len(session['trials'])} trials")


class _Handler(BaseHTTPRequestHandler):
    served: dict[str, tuple[Path, str]]
    takes: _Desk
    timeout = SECONDS
    server_version = "tonemill"
    sys_version = ""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/":
            # Each visit without a number gets the next one, so that orders stay balanced.
            self._answer(HTTPStatus.FOUND, {"Location": f"/index.html?listener={self.takes.next_listener()}"})
            return
        known = self.served.get(path)
        if known is None:
            self._answer(HTTPStatus.NOT_FOUND)
            return
        try:
            data = known[0].read_bytes()
        except OSError:
            self._answer(HTTPStatus.NOT_FOUND)
            return
        self._answer(HTTPStatus.OK, {"Content-Type": known[1]}, data)

    def do_POST(self) -> None:
        # Close afterwards: what was not read of a body is no next request.
        self.close_connection = True
        if urlsplit(self.path).path != "/answers":
            self._answer(HTTPStatus.NOT_FOUND)
            return
        origin, host = self.headers.get("Origin"), self.headers.get("Host", "")
        if origin is not None and urlsplit(origin).netloc != host:
            self._answer(HTTPStatus.FORBIDDEN)
            return
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            self._answer(HTTPStatus.LENGTH_REQUIRED)
            return
        if int(length) > MOST_BYTES:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        try:
            self.takes.store(self.rfile.read(int(length)))
        except NotAnswers as error:
            self._answer(HTTPStatus.BAD_REQUEST, {"Content-Type": "application/json"}, json.dumps(str(error)).encode())
        except TonemillError as error:
            self.takes.tell(str(error))
            self._answer(HTTPStatus.INSUFFICIENT_STORAGE)
        else:
            self._answer(HTTPStatus.NO_CONTENT)

    def _answer(self, status: HTTPStatus, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store" if status == HTTPStatus.FOUND else "no-cache")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: visitors of a study stay private."""
