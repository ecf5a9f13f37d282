"""Read files over https; a redirect to any other scheme is refused."""

from __future__ import annotations

import errno
import urllib.error
import urllib.request
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from tonemill.audiotools.errors import UsageError
from tonemill.audiotools.trouble import REFUSED
from tonemill.pipelines.storage.store import ANSWER_SECONDS, Entry

PIECE_BYTES: Final = 1 << 20

ELSEWHERE: Final = "the server redirects to an address that is not https, which is not followed"


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only: http can be altered in transit, and `file:` would read this machine's files."""

    def redirect_request(
        self, request: urllib.request.Request, file: IO[bytes], code: int, message: str, headers: Any, target: str
    ) -> urllib.request.Request | None:
        if urlsplit(target).scheme != "https":
            raise _refused()
        return super().redirect_request(request, file, code, message, headers, target)


class Web:
    """Files at https URLs: a store that is read-only and cannot be listed."""

    def __init__(self) -> None:
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            _SameScheme(),
            urllib.request.HTTPErrorProcessor(),
        ):
            self._opener.add_handler(handler)

    def look(self, key: str) -> Entry:
        with self._answer(key, {}, "HEAD") as answer:
            return _entry(answer.headers, "Content-Length")

    def find(self, key: str) -> dict[str, Entry]:
        raise UsageError(
            f"https://{key} is a web address, whose files cannot be listed; name each file, or pipe their names "
            "into `tonemill scan -`."
        )

    def is_folder(self, key: str) -> bool:
        return False

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        if end is None:
            with self._answer(key, {}) as answer:
                whole: bytes = answer.read()
                return whole[start:]
        with self._answer(key, {"Range": f"bytes={start}-{end - 1}"}) as answer:
            # A server without range requests answers 200 with the whole file.
            data: bytes = answer.read(end - start if answer.status == 206 else end)
            return data if answer.status == 206 else data[start:]

    def fetch(self, key: str, target: Path) -> None:
        with self._answer(key, {}) as answer, target.open("wb") as file:
            while piece := answer.read(PIECE_BYTES):
                file.write(piece)

    def put(self, key: str, source: Path) -> None:
        raise UsageError(f"https://{key} can only be read.")

    def remove(self, key: str) -> None:
        raise UsageError(f"https://{key} can only be read.")

    def _answer(self, key: str, headers: dict[str, str], method: str = "GET") -> Any:
        # A compressed body would not have the announced length.
        headers = {"Accept-Encoding": "identity", "User-Agent": "tonemill", **headers}
        request = urllib.request.Request(f"https://{key}", headers=headers, method=method)
        try:
            return self._opener.open(request, timeout=ANSWER_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                if error.code < 400:
                    raise _refused() from error
                raise


def _refused() -> PermissionError:
    error = PermissionError(errno.EACCES, ELSEWHERE)
    error.meaning = REFUSED  # type: ignore[attr-defined]
    return error


def _entry(headers: Message, length: str) -> Entry:
    if not str(headers.get(length, "")).isdigit():
        raise OSError(errno.EIO, "the server does not state the length of the file, which is needed to read it")
    when = headers.get("Last-Modified")
    return Entry(int(headers[length]), 0 if when is None else round(parsedate_to_datetime(when).timestamp()) * 10**9)
