"""Turn an exception of a store's library (s3fs, gcsfs, aiohttp, urllib) into an `Answer`: status, code and meaning."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tonemill.audiotools.trouble import (
    IDENTITY,
    UNKNOWN,
    Kind,
    Meaning,
    is_of_machine,
    meaning_of_answer,
)

WITHOUT_CREDENTIALS: Final = {
    "s3": "no credentials were found; for a bucket that needs none, set FSSPEC_S3_ANON=true",
    "gs": "no credentials were found; for a bucket that needs none, set FSSPEC_GS_TOKEN=anon",
}
"""By scheme: the text of `Answer` when the store's library found no credentials."""

_NO_CREDENTIALS: Final = frozenset(
    ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "DefaultCredentialsError")
)

_NUMBERS: Final = {"missing": errno.ENOENT, "forbidden": errno.EACCES}


class Answer(NamedTuple):
    """The outcome of a failed request.

    Args:
        meaning: from the tables of `trouble`.
        status: the HTTP status; None if the store sent none.
        code: the store's error code, such as `InvalidAccessKeyId`; empty if it sent none.
        text: the store's message.
        final: an immediate retry cannot succeed.
    """

    meaning: Meaning
    status: int | None
    code: str
    text: str
    final: bool

    @property
    def words(self) -> str:
        """`CODE (STATUS): TEXT`, without the parts that are missing."""
        code = " ".join(filter(None, [self.code, f"({self.status})" if self.status else ""]))
        return ": ".join(filter(None, [code, self.text]))

    def as_error(self, what: str, attempts: int) -> OSError:
        """FileNotFoundError, PermissionError, or OSError with EIO, with this answer as its text and `meaning`."""
        number = _NUMBERS.get(self.meaning.reason, errno.EIO)
        text = self.words or os.strerror(number)
        if attempts > 1:
            text = f"{what}: tried {attempts} times; the last answer: {text}"
        error = OSError(number, text[:400], what)
        error.meaning = self.meaning  # type: ignore[attr-defined]
        return error


def answer_of(error: Exception, scheme: str) -> Answer:
    """Convert an exception of a store's library.

    Args:
        error: the exception that a request raised.
        scheme: the scheme of the store: `s3`, `gs`, `https` or `memory`.
    """
    if isinstance(error, OSError) and is_of_machine(error):
        return Answer(Meaning(Kind.MACHINE, ""), None, "", error.strerror or str(error), True)
    if (meant := getattr(error, "meaning", None)) is not None:
        return Answer(meant, None, "", getattr(error, "strerror", None) or str(error), True)
    for one in _chain(error):
        if type(one).__name__ in _NO_CREDENTIALS:
            return Answer(IDENTITY, None, "", WITHOUT_CREDENTIALS.get(scheme, str(one)[:300]), True)
    status, code, text = None, "", ""
    for one in _chain(error):
        its_status, its_code, its_text = _parts(one)
        status, code, text = status or its_status, code or its_code, text or its_text
    if status is None and isinstance(error, FileNotFoundError):
        status = 404
    if status is None and isinstance(error, PermissionError):
        status = 403
    # Some libraries repeat the status as the code.
    code = "" if code.isdigit() else code
    meaning = meaning_of_answer(status, code)
    text = text or f"{type(error).__name__}: {error}"
    # Every answer in a table of `trouble` stays the same a second later; only others are worth a retry.
    return Answer(meaning, status, code, text.strip()[:300], meaning is not UNKNOWN)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, then its `__cause__` or `__context__`, and so on."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _parts(error: BaseException) -> tuple[int | None, str, str]:
    """(HTTP status, code, message) from the attributes that botocore, gcsfs, aiohttp and urllib set."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        about, technical = response.get("Error", {}), response.get("ResponseMetadata", {})
        code = str(about.get("Code") or "")
        status = technical.get("HTTPStatusCode") or (int(code) if code.isdigit() else None)
        return status, code, str(about.get("Message") or "")
    status = getattr(error, "code", None)
    status = getattr(error, "status", None) if status is None else status
    if str(status).isdigit():
        reason = next((one.get("reason") for one in getattr(error, "errors", None) or () if isinstance(one, dict)), "")
        return (
            int(str(status)),
            str(reason or ""),
            str(getattr(error, "message", "") or getattr(error, "msg", "") or ""),
        )
    if type(error) is OSError and str(error).startswith("Forbidden: "):
        return 403, "", str(error)
    return None, "", ""
