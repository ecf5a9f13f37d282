"""Tables that map error numbers and answers of a store to a kind of failure and a reject reason.

kind        consequence
TRANSIENT   temporary: tried again at the shard's end, and by the next run of the same command
ABSENT      a fact about the source once something beside it could be read; until then temporary
FINAL       a fact about the source, if it is found twice
MACHINE     this machine lacks something: never a reject, the command ends
"""

from __future__ import annotations

import errno
import os
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from tonemill.audiotools.errors import AudioError, Doubtful, MachineError, Settled


class Kind(Enum):
    """The consequence of a failure."""

    TRANSIENT = "transient"
    ABSENT = "absent"
    FINAL = "final"
    MACHINE = "machine"


class Meaning(NamedTuple):
    """The kind and the reason of a failure.

    Args:
        kind: its consequence.
        reason: a key of `reject_reasons.REASONS`; for `Kind.MACHINE`, the advice that mends it.
    """

    kind: Kind
    reason: str


UNKNOWN: Final = Meaning(Kind.TRANSIENT, "network")
"""For every number and code that is in no table here."""

_MISSING: Final = Meaning(Kind.ABSENT, "missing")
_FORBIDDEN: Final = Meaning(Kind.ABSENT, "forbidden")
_NEVER_THERE: Final = Meaning(Kind.FINAL, "missing")
REFUSED: Final = Meaning(Kind.FINAL, "forbidden")

ERRNOS: Final[dict[int, Meaning]] = {
    errno.ENOENT: _MISSING,
    errno.ENOTDIR: _MISSING,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.ELOOP: _NEVER_THERE,
    errno.ENAMETOOLONG: _NEVER_THERE,
    errno.EISDIR: Meaning(Kind.FINAL, "unreadable"),
    errno.ENOSPC: Meaning(Kind.MACHINE, "Make room on that disk, or name another folder (TMPDIR for temporary files)."),
    errno.EDQUOT: Meaning(Kind.MACHINE, "Your quota there is used up: make room, or name another folder (TMPDIR)."),
    errno.EROFS: Meaning(Kind.MACHINE, "Nothing can be written there: name another folder (TMPDIR)."),
    errno.EFBIG: Meaning(
        Kind.MACHINE, "The limit for the length of a file was reached; `ulimit -f unlimited` lifts it."
    ),
    errno.ENOMEM: Meaning(Kind.MACHINE, "Memory ran out. Fewer --workers need less."),
    errno.EMFILE: Meaning(Kind.MACHINE, "The limit of open files was reached; `ulimit -n 4096` raises it."),
    errno.ENFILE: Meaning(Kind.MACHINE, "Too many files are open on this machine: end other programs."),
}
"""Of Linux's numbers; EIO, ESTALE, every timeout and broken connection are `UNKNOWN`, as are those not met yet."""

STATUSES: Final[dict[int, Meaning]] = {
    401: _FORBIDDEN,
    403: _FORBIDDEN,
    404: _MISSING,
    410: _NEVER_THERE,
    451: REFUSED,
}
"""Of HTTP's status codes; 408, 429, 5xx and others are `UNKNOWN`."""

IDENTITY: Final = Meaning(Kind.TRANSIENT, "identity")
"""The store refused the credentials; whether the object exists is not known."""

CODES: Final[dict[str, Meaning]] = {
    **dict.fromkeys(
        (
            "AuthFailure",
            "AuthorizationHeaderMalformed",
            "ExpiredToken",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidToken",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "TokenRefreshRequired",
            "UnauthorizedAccess",
            "authError",
            "accountDisabled",
        ),
        IDENTITY,
    ),
    **dict.fromkeys(("NoSuchKey", "NotFound", "notFound"), _MISSING),
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "forbidden"), _FORBIDDEN),
    "MethodNotAllowed": UNKNOWN,
}
"""Of the codes that S3 and Google Storage give beside a status; what is none of these is judged by its status."""


def meaning_of_answer(status: int | None, code: str = "") -> Meaning:
    """The meaning of a store's answer, by its own code, else by its status."""
    return CODES.get(code) or STATUSES.get(status or 0, UNKNOWN)


def meaning_of(error: OSError) -> Meaning:
    """The meaning of an error: that of a store's answer if it has one, else that of its number."""
    meaning: Meaning = getattr(error, "meaning", None) or ERRNOS.get(error.errno or 0, UNKNOWN)
    return meaning


def is_of_machine(error: OSError) -> bool:
    """Whether an error comes from this machine, as a full disk, and not from the file."""
    return meaning_of(error).kind is Kind.MACHINE


def machine_error(error: OSError, what: str = "") -> MachineError:
    """The end of a command whose machine lacks something: names the path, what is lacking and what mends it."""
    place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    where = " at ".join(filter(None, [what, place]))
    text = error.strerror or str(error)
    return MachineError(
        f"{where}{': ' if where else ''}{text}. {ERRNOS[error.errno or 0].reason} Finished work is kept: mend this "
        "and repeat the command, and it goes on where it stopped."
    )


def not_installed(error: ImportError, what: str) -> MachineError:
    """The end of a command that needs a package which this machine lacks.

    Args:
        error: of the import.
        what: needs it, as the name of a command.
    """
    package = (error.name or "").partition(".")[0]
    lacking = f"{package}, which is not installed here" if package else f"a package that does not load: {error}"
    return MachineError(
        f"{what} needs {lacking}. `pip install tonemill` installs all that is missing. Finished work is kept: "
        "repeat the command, and it goes on."
    )


def require_package(package: str, what: str) -> None:
    """Refuse to begin what needs a package that this machine lacks.

    Raises:
        MachineError: it is not installed.
    """
    try:
        there = find_spec(package) is not None
    except (ImportError, ValueError):
        there = False
    if not there:
        raise not_installed(ModuleNotFoundError(name=package), what)


_WORDS: Final = {
    "missing": "there is no such file: {}",
    "forbidden": "no permission to read the file{}",
    "unreadable": "it is a folder{}",
    "identity": "the store did not accept the credentials: {}",
    "network": "the storage did not answer: {}",
}


def unopenable(error: OSError) -> AudioError:
    """The reject of a source whose reading failed with an error of a disk or a store.

    Raises:
        MachineError: it comes from this machine and not from the source.
    """
    meaning = meaning_of(error)
    if meaning.kind is Kind.MACHINE:
        raise machine_error(error, "reading a source") from error
    text = (error.strerror or str(error)).rstrip(".")
    if meaning.reason in ("forbidden", "unreadable"):
        text = "" if error.strerror in (None, os.strerror(error.errno or 0)) else f": {text}"
    message = _WORDS[meaning.reason].format(text)
    if meaning.kind is Kind.FINAL:
        return Settled(meaning.reason, message)
    return Doubtful(meaning.reason, message)


def refuse_unreadable(source: Path | bytes) -> None:
    """Read a file from first to last, after a decoder failed and did not say whether the file or the disk is at fault.

    Raises:
        AudioError: the disk is.
        MachineError: this machine is.
    """
    if isinstance(source, bytes):
        return
    try:
        with source.open("rb") as file:
            while file.read(1 << 20):
                pass
    except OSError as error:
        raise unopenable(error) from error
