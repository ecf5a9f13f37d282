"""Local paths and paths in object stores: parse what is typed, convert to URIs, and keep names inside a folder.

A store has no renames and needs none: a put makes an object whole or not at all, so the put is the commit. Unfinished
and machine-local files are kept in a local folder (`scratch`).
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote_from_bytes, unquote_to_bytes

from tonemill.audiotools.errors import CorpusError, OutputError, TonemillError, UsageError
from tonemill.audiotools.secrets import holds_secrets, without_secrets
from tonemill.audiotools.trouble import is_of_machine, machine_error
from tonemill.pipelines.storage.store import EXTRAS
from tonemill.pipelines.storage.store_path import StorePath

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE: Final = 16
"""Parallel requests to a store for many small objects."""


TRIES: Final = 20
"""Attempts to create a folder in TMPDIR that another process keeps deleting."""

LONGEST_NAME: Final = 200
"""Bytes of a local name for a part of a key; file systems allow 255, and some names get a prefix and a suffix."""

# `Path` of a URI loses a slash; a scheme of one letter would be a drive.
_URI: Final = re.compile(r"([a-z][a-z0-9+.]+):/{1,2}(.*)", re.DOTALL | re.IGNORECASE)


def place(typed: str | Path) -> Path:
    """Parse a path as typed: a `Path`, or a `StorePath`, which has the methods of `Path` that tonemill uses.

    Raises:
        UsageError: the scheme is unknown, or the rest is not a path in a store.
    """
    return _placed(typed, exact=False)


def exactly(uri: str) -> Path:
    """As `place`, for a URI whose key may contain `.` and `..`: a store treats them as plain names."""
    return _placed(uri, exact=True)


def _placed(typed: str | Path, exact: bool) -> Path:
    found = _URI.fullmatch(str(typed))
    if found is None or found[1] == "file":
        return Path(typed)
    scheme, key = found[1].lower(), found[2]
    if scheme not in (*EXTRAS, "https"):
        raise UsageError(f"{scheme}:// is not supported; there are {', '.join(EXTRAS)} and https.")
    if "@" in key.split("/")[0] or holds_secrets(f"{scheme}://{key}"):
        raise UsageError(
            f"A {scheme}:// URI must not contain a password or key, because corpora store URIs. {_ELSEWHERE}"
        )
    dotted = key.split("/")[:1] if exact and scheme != "https" else key.split("/")
    if not key.strip("/") or {".", ".."} & set(dotted):
        raise UsageError(f"{scheme}://{key} names no bucket and folder; it must be as {scheme}://bucket/folder.")
    if scheme == "https" or (exact and "/" in key):
        return cast(Path, StorePath(scheme, key))
    return cast(Path, StorePath(scheme, key.strip("/")))


_ELSEWHERE: Final = "Put it where the store's own tools look for it, as in AWS_ACCESS_KEY_ID."


def as_store(path: object) -> StorePath | None:
    """`path` if it is a `StorePath`; None for a local path."""
    return path if isinstance(path, StorePath) else None


def mapped(folder: Path, act: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`act(item)` of each item, in order: one after the other for a local folder, in parallel for one in a store."""
    if as_store(folder) is None:
        return [act(item) for item in items]
    found, left = list[R](), iter(items)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # Items may be large, and `pool.map` takes all of them at once.
        while some := list(itertools.islice(left, 64 * AT_ONCE)):
            found += pool.map(act, some)
    return found


def sizes_below(folder: Path) -> dict[Path, int] | None:
    """Path and bytes of each object in a folder of a store, from one listing; None for a local folder."""
    remote = as_store(folder)
    return None if remote is None else {cast(Path, path): entry.bytes for path, entry in remote.below().items()}


def of_this_machine(path: Path, what: str) -> Path:
    """`path` itself, if it is a local path.

    Raises:
        UsageError: it is a path in a store.
    """
    if as_store(place(path)) is not None:
        raise UsageError(
            f"{what} works on folders of this machine, and {place(path)} is in a store. Copy it here first."
        )
    return path


def scratch(folder: Path) -> Path:
    """A local folder for temporary files of `folder`: itself if local, else one under TMPDIR.

    Raises:
        OutputError: the folder cannot be made, or belongs to another user.
    """
    remote = as_store(folder)
    if remote is None:
        return folder
    root = scratch_root()
    mine = root / remote.scheme / as_local(remote.key)
    try:
        undisturbed(lambda: mine.mkdir(parents=True, exist_ok=True))
    except OSError as error:
        raise _unwritable(root, error) from error
    return mine


def undisturbed(act: Callable[[], R]) -> R:
    """`act()`, which creates something in TMPDIR; repeated if another command deleted an empty parent folder meanwhile.

    Raises:
        OSError: as `act`; FileNotFoundError after `TRIES` repetitions.
    """
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError):
            return act()
    return act()


def scratch_root() -> Path:
    """The folder `tonemill-UID` in TMPDIR, which is made if it is missing.

    Raises:
        OutputError: the folder cannot be made, or belongs to another user.
        MachineError: TMPDIR is full.
    """
    try:
        root = Path(tempfile.gettempdir()) / f"tonemill-{os.getuid()}"

        def made() -> os.stat_result:
            with contextlib.suppress(FileExistsError):
                root.mkdir(mode=0o700)
            return root.lstat()

        status = undisturbed(made)
    except OSError as error:
        raise _unwritable(Path(tempfile.gettempdir()), error) from error
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        raise OutputError(f"{root} belongs to another user. Set TMPDIR to a folder of your own.")
    return root


def _unwritable(place: Path, error: OSError) -> TonemillError:
    if is_of_machine(error):
        return machine_error(error, "TMPDIR")
    return OutputError(f"{place} cannot be written: {error.strerror}. Set TMPDIR to another folder.")


def as_local(key: str) -> str:
    """A relative local path for a key; parts that are empty, `.`, `..` or too long are replaced by their digest."""
    return "/".join(
        part if part not in ("", ".", "..") and len(os.fsencode(part)) <= LONGEST_NAME else _digest_of(part)
        for part in key.split("/")
    )


def _digest_of(name: str) -> str:
    return f"%{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}"


def kept(path: Path) -> Path:
    """A local copy of an object, kept for later reads and fetched again when the object changes; or a local path."""
    remote = as_store(path)
    if remote is None:
        return path
    entry = remote.entry()
    copy = scratch(cast(Path, remote.parent)) / f".tonemill-copy-{entry.bytes}-{entry.modified_ns}-{remote.name}"
    if not copy.exists():
        with tempfile.NamedTemporaryFile(prefix=".tonemill-part-", dir=copy.parent, delete=False) as part:
            pass
        remote.fetch(Path(part.name))
        Path(part.name).replace(copy)
        # Copies of earlier versions only: another process may be reading this version's copy.
        for old in copy.parent.glob(f".tonemill-copy-*-{glob.escape(remote.name)}"):
            if old != copy:
                old.unlink(missing_ok=True)
    return copy


def beside(folder: Path, relative: str) -> Path:
    """The place that a relative path names from a folder, on its disk or in its store.

    Raises:
        UsageError: it is above the bucket.
    """
    remote = as_store(folder)
    if remote is None:
        return Path(os.path.normpath(folder.resolve() / relative))
    return place(f"{remote.scheme}://{os.path.normpath(f'{remote.key}/{relative}')}")


def inside(folder: Path, name: Any) -> Path:
    """`folder / name`, for a name from a plan or a sidecar, which may be malicious.

    Raises:
        CorpusError: the path is outside the folder.
    """
    if not is_plain(name):
        raise CorpusError(
            f"{folder} names a file {name!r} outside of it. It is damaged or malicious; nothing was read."
        )
    return folder / name


def is_plain(name: Any) -> bool:
    """Whether `name` is a relative path without empty, `.` or `..` parts, so that it stays below a folder."""
    return type(name) is str and "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def to_uri(path: str | os.PathLike[str]) -> str:
    """The absolute `file:` URI of a local path (RFC 8089), or the URI of a store path; names not in UTF-8 are kept."""
    if as_store(path) is not None:
        return str(path)
    return "file://" + quote_from_bytes(os.fsencode(os.path.abspath(path)))  # noqa: PTH100  (links stay as typed)


def to_path(uri: str) -> Path:
    """The `Path` or `StorePath` of a URI or of a plain path.

    Raises:
        UsageError: the scheme cannot be read, or the path contains a zero byte or half a surrogate pair.
    """
    path = uri
    if uri.startswith("file://"):
        path = os.fsdecode(unquote_to_bytes(uri[len("file://") :]))
    elif "://" in uri:
        return exactly(uri)
    if "\0" in path:
        raise UsageError(f"{uri!r} is not the path of a file: it contains the byte 0 (%00), which no file name has.")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise UsageError(f"{uri!r} is not the path of a file: it contains half of a UTF-8 character.") from error
    return Path(path)


def readable(path: str) -> str:
    """A path as valid UTF-8, for messages, keys and JSON: other bytes are escaped, as in `caf\\xe9.wav`.

    A password is removed from a path that looks like a URI with one.
    """
    return without_secrets(os.fsencode(path).decode("utf-8", "backslashreplace"))
