"""Local paths and paths in object stores: parse what is typed, convert to URIs, and keep names inside a folder.

A store has no renames and needs none: an object appears whole or not at all when it is put, so the put is the commit.
What is half-made, and what is of this machine only, waits in a local folder (`scratch`).
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
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
"""Requests under way where many small objects are asked for."""


TRIES: Final = 20
"""So often a folder is made again that somebody else takes away."""

LONGEST_NAME: Final = 200
"""Bytes of a name that stands for a part of a key; disks take 255, and some names here get more before and after."""

# A path that was made of a URI has lost a slash; a scheme of one letter would be a drive.
_URI: Final = re.compile(r"([a-z][a-z0-9+.]+):/{1,2}(.*)", re.DOTALL | re.IGNORECASE)


def place(typed: str | Path) -> Path:
    """A path as typed: of this machine, or of a store, which has what is used here of a `Path` without being one.

    Raises:
        UsageError: there is no such kind of store, or it is no place in one.
    """
    return _placed(typed, exact=False)


def exactly(uri: str) -> Path:
    """As `place`, of an object whose key may hold anything: `.` and `..` are names in a store, and lead nowhere."""
    return _placed(uri, exact=True)


def _placed(typed: str | Path, exact: bool) -> Path:
    found = _URI.fullmatch(str(typed))
    if found is None or found[1] == "file":
        return Path(typed)
    scheme, key = found[1].lower(), found[2]
    if scheme not in (*EXTRAS, "https"):
        raise UsageError(f"{scheme}:// is no kind of place that is read here; there are {', '.join(EXTRAS)} and https.")
    if "@" in key.split("/")[0] or holds_secrets(f"{scheme}://{key}"):
        raise UsageError(f"A {scheme}:// URI must hold no password or key: streams and plans keep URIs. {_ELSEWHERE}")
    dotted = key.split("/")[:1] if exact and scheme != "https" else key.split("/")
    if not key.strip("/") or {".", ".."} & set(dotted):
        raise UsageError(f"{scheme}://{key} is no place in a store; it must be as {scheme}://bucket/folder.")
    if scheme == "https" or (exact and "/" in key):
        return cast(Path, StorePath(scheme, key))
    return cast(Path, StorePath(scheme, key.strip("/")))


_ELSEWHERE: Final = "Put it where the store's own tools look for it, as in AWS_ACCESS_KEY_ID."


def as_store(path: object) -> StorePath | None:
    """A path of a store, or None for one of this machine."""
    return path if isinstance(path, StorePath) else None


def mapped(folder: Path, act: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """What comes of things that lie in a folder: one after the other, or many at once where each waits for a store."""
    if as_store(folder) is None:
        return [act(item) for item in items]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(act, items))


def sizes_below(folder: Path) -> dict[Path, int] | None:
    """Sizes of all in a folder of a store, which tells them at once; None where asking one by one is as fast."""
    remote = as_store(folder)
    return None if remote is None else {cast(Path, path): entry.bytes for path, entry in remote.below().items()}


def of_this_machine(path: Path, what: str) -> Path:
    """A path as typed, which must be of this machine.

    Raises:
        UsageError: it is not.
    """
    if as_store(place(path)) is not None:
        raise UsageError(f"{what} works on folders of this machine, and {place(path)} is none. Copy it here first.")
    return path


def scratch(folder: Path) -> Path:
    """Where that waits which is of this machine only: the folder itself, or one that stands for it, in TMPDIR.

    Raises:
        OutputError: it cannot be made, or somebody else made it.
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
    """Make something in TMPDIR, again where another command that ends took an empty folder away at that moment.

    Raises:
        OSError: as `act`; FileNotFoundError where that happens again and again.
    """
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError):
            return act()
    return act()


def scratch_root() -> Path:
    """The folder in TMPDIR that is ours.

    Raises:
        OutputError: it cannot be made, or somebody else made it.
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
        raise OutputError(f"{root} belongs to somebody else. Set TMPDIR to a folder of your own.")
    return root


def _unwritable(place: Path, error: OSError) -> TonemillError:
    if is_of_machine(error):
        return machine_error(error, "TMPDIR")
    return OutputError(f"{place} cannot be written: {error.strerror}. Set TMPDIR to another folder.")


def as_local(key: str) -> str:
    """The relative local path that stands for a key: one that no part of the key leads out of, or is too long for."""
    return "/".join(
        part if part not in ("", ".", "..") and len(os.fsencode(part)) <= LONGEST_NAME else _digest_of(part)
        for part in key.split("/")
    )


def _digest_of(name: str) -> str:
    return f"%{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}"


def kept(path: Path) -> Path:
    """A local copy of an object that is read again and again, fetched anew when it changes; local files as they are."""
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
        # Of earlier versions only: another process may have put the same copy there, and be reading it.
        for old in copy.parent.glob(f".tonemill-copy-*-{glob.escape(remote.name)}"):
            if old != copy:
                old.unlink(missing_ok=True)
    return copy


def inside(folder: Path, name: Any) -> Path:
    """A file of a folder by the name that a plan or a sidecar gives it, which anyone may have written.

    Raises:
        CorpusError: the name leads elsewhere.
    """
    if not is_plain(name):
        raise CorpusError(f"{folder} names a file {name!r}, which does not lie in it. It was made to do harm.")
    return folder / name


def is_plain(name: Any) -> bool:
    """Whether a name leads from a folder to something below it: relative, in parts, none of which leads up."""
    return type(name) is str and "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def to_uri(path: str | os.PathLike[str]) -> str:
    """The absolute `file:` URI of a local path (RFC 8089), or that of one in a store; names not in UTF-8 survive."""
    if as_store(path) is not None:
        return str(path)
    return "file://" + quote_from_bytes(os.fsencode(os.path.abspath(path)))  # noqa: PTH100  (links stay as typed)


def to_path(uri: str) -> Path:
    """The path of a URI, or of a plain path, here or in a store.

    Raises:
        UsageError: it lies where nothing is read, or holds a byte that no path has.
    """
    path = uri
    if uri.startswith("file://"):
        path = os.fsdecode(unquote_to_bytes(uri[len("file://") :]))
    elif "://" in uri:
        return exactly(uri)
    if "\0" in path:
        raise UsageError(f"{uri!r} names no file: no path holds a zero byte.")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise UsageError(f"{uri!r} names no file: it holds half a character.") from error
    return Path(path)


def readable(path: str) -> str:
    """A path for people, keys and JSON: bytes that are not UTF-8 are spelt out, as in `caf\\xe9.wav`.

    What a folder is called that looks like a URI with a password in it is told without the password.
    """
    return without_secrets(os.fsencode(path).decode("utf-8", "backslashreplace"))
