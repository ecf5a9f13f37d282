"""What a store answered, whichever library brought the answer: its status, its own code, and what both mean."""

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
"""What is said where a store's library finds nothing that says who we are."""

_NO_CREDENTIALS: Final = frozenset(
    ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "DefaultCredentialsError")
)

_NUMBERS: Final = {"missing": errno.ENOENT, "forbidden": errno.EACCES}


class Answer(NamedTuple):
    """What a failed request came to.

    Args:
        meaning: by the tables of `trouble`.
        status: of HTTP; None where none came.
        code: the store's own, as `InvalidAccessKeyId`; empty where it has none.
        text: for people.
        final: asking again at once is of no use.
    """

    meaning: Meaning
    status: int | None
    code: str
    text: str
    final: bool

    @property
    def words(self) -> str:
        """The store's own code and status, and what it says to people."""
        code = " ".join(filter(None, [self.code, f"({self.status})" if self.status else ""]))
        return ": ".join(filter(None, [code, self.text]))

    def as_error(self, what: str, attempts: int) -> OSError:
        """The error that says so: FileNotFoundError, PermissionError, or an OSError with EIO."""
        number = _NUMBERS.get(self.meaning.reason, errno.EIO)
        text = self.words or os.strerror(number)
        if attempts > 1:
            text = f"{what}: tried {attempts} times, and at last: {text}"
        error = OSError(number, text[:400], what)
        error.meaning = self.meaning  # type: ignore[attr-defined]
        return error


def answer_of(error: Exception, scheme: str) -> Answer:
    """What an error of a store's library says.

    Args:
        error: that a request ended with.
        scheme: of the store.
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
        found = _said(one)
        status, code, text = status or found[0], code or found[1], text or found[2]
    if status is None and isinstance(error, FileNotFoundError):
        status = 404
    if status is None and isinstance(error, PermissionError):
        status = 403
    # Some give the number for a code.
    code = "" if code.isdigit() else code
    meaning = meaning_of_answer(status, code)
    text = text or f"{type(error).__name__}: {error}"
    # An unknown refusal of a request that is as it was will not be taken back in a second.
    return Answer(meaning, status, code, text.strip()[:300], meaning is not UNKNOWN)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was made of."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _said(error: BaseException) -> tuple[int | None, str, str]:
    """Status, code and words, as botocore, gcsfs, aiohttp and urllib have them."""
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
