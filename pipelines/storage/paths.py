"""Places that are no folders of this machine: paths in object stores, read and written like those of `pathlib`.

A store has no renames and needs none: an object appears whole or not at all when it is put, so the put is the commit.
What is half-made, and what is of this machine only, waits in a local folder (`scratch`).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast
from urllib.parse import unquote, urlsplit

from tonemill.audiotools.errors import OutputError, UsageError
from tonemill.audiotools.secrets import holds_secrets
from tonemill.pipelines.storage.stores import EXTRAS, Entry, persist, store_of

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE: Final = 16
"""Requests under way where many small objects are asked for."""

AHEAD_BYTES: Final = 8 << 20
"""Read at once, at most, where an object is read from front to back."""

# A path that was made of a URI has lost a slash; a scheme of one letter would be a drive.
_URI: Final = re.compile(r"([a-z][a-z0-9+.]+):/{1,2}(.*)", re.DOTALL | re.IGNORECASE)


class StorePath:
    """A path in a store, with as much of `pathlib.Path` as is used here."""

    def __init__(self, scheme: str, key: str) -> None:
        self.scheme, self.key = scheme, key

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: StorePath) -> bool:
        return str(self) < str(other)

    def __truediv__(self, name: object) -> StorePath:
        return StorePath(self.scheme, f"{self.key.rstrip('/')}/{name}")

    @property
    def _pure(self) -> PurePosixPath:
        if self.scheme == "https":
            # What a query holds is no part of a name.
            parts = urlsplit(str(self))
            return PurePosixPath(parts.netloc + unquote(parts.path))
        return PurePosixPath(self.key)

    @property
    def name(self) -> str:
        return self._pure.name

    @property
    def suffix(self) -> str:
        return self._pure.suffix

    @property
    def parent(self) -> StorePath:
        return StorePath(self.scheme, str(self._pure.parent))

    def with_suffix(self, suffix: str) -> StorePath:
        return StorePath(self.scheme, str(self._pure.with_suffix(suffix)))

    def relative_to(self, other: StorePath) -> PurePosixPath:
        return self._pure.relative_to(other._pure)

    def mkdir(self, *_: object, **__: object) -> None:
        """Stores have no folders."""

    def entry(self) -> Entry:
        """What the store says of it; FileNotFoundError where it is nothing, or but a prefix."""
        return persist(f"looking at {self}", lambda: store_of(self.scheme).look(self.key))

    def below(self) -> dict[StorePath, Entry]:
        """Every object below it, sorted."""
        found = persist(f"listing {self}", lambda: store_of(self.scheme).find(self.key.rstrip("/") + "/"))
        return {StorePath(self.scheme, key): found[key] for key in sorted(found)}

    def stat(self) -> SimpleNamespace:
        found = self.entry()
        return SimpleNamespace(st_size=found.bytes, st_mtime_ns=found.modified_ns, st_mode=stat.S_IFREG)

    def is_file(self) -> bool:
        try:
            self.entry()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        return persist(f"looking at {self}", lambda: store_of(self.scheme).is_folder(self.key))

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Iterator[StorePath]:
        names = dict.fromkeys(str(path.relative_to(self)).split("/")[0] for path in self.below())
        return iter([self / name for name in names])

    def rglob(self, pattern: str) -> Iterator[StorePath]:
        return iter([path for path in self.below() if fnmatchcase(path.name, pattern)])

    def open(self, mode: str = "rb") -> io.RawIOBase:
        assert mode == "rb", mode
        return _Reader(self, self.entry().bytes)

    def read_bytes(self) -> bytes:
        return persist(f"reading {self}", lambda: store_of(self.scheme).read(self.key))

    def read(self, start: int, end: int) -> bytes:
        """Bytes from `start` to before `end`; OSError where the store keeps giving fewer."""

        def act() -> bytes:
            data = store_of(self.scheme).read(self.key, start, end) if end > start else b""
            if len(data) != end - start:
                raise EOFError(f"{len(data)} of {end - start} bytes came")
            return data

        return persist(f"reading {self}", act)

    def fetch(self, target: Path) -> Entry:
        """Copy it to a local file; returns what the store said of it before."""

        def act() -> Entry:
            found = store_of(self.scheme).look(self.key)
            store_of(self.scheme).fetch(self.key, target)
            if (got := target.stat().st_size) != found.bytes:
                raise EOFError(f"{got} of {found.bytes} bytes came")
            return found

        return persist(f"reading {self}", act)

    def put(self, source: Path) -> None:
        """Make it of a local file; it is there whole when this returns, and before that not at all."""
        persist(f"writing {self}", lambda: store_of(self.scheme).put(self.key, source))

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            persist(f"removing {self}", lambda: store_of(self.scheme).remove(self.key))
        except FileNotFoundError:
            if not missing_ok:
                raise


class _Reader(io.RawIOBase):
    """An object as a file: what is asked for where it jumps, more and more where it goes on."""

    def __init__(self, path: StorePath, size: int) -> None:
        super().__init__()
        self._path, self._size = path, size
        self._at = self._first = 0
        self._held = b""
        self._ahead = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        start, last = self._at, self._first + len(self._held)
        if not self._first <= start <= end <= last:
            self._ahead = min(AHEAD_BYTES, max(2 * self._ahead, 1 << 16)) if start == last else 0
            self._held = self._path.read(start, min(self._size, max(end, start + self._ahead)))
            self._first = start
        data = self._held[start - self._first : end - self._first] if end > start else b""
        self._at = max(start, end)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def place(typed: str | Path) -> Path:
    """A path as typed: of this machine, or of a store, which has what is used here of a `Path` without being one.

    Raises:
        UsageError: there is no such kind of store, or it is no place in one.
    """
    found = _URI.fullmatch(str(typed))
    if found is None or found[1] == "file":
        return Path(typed)
    scheme, key = found[1].lower(), found[2]
    if scheme not in (*EXTRAS, "https"):
        raise UsageError(f"{scheme}:// is no kind of place that is read here; there are {', '.join(EXTRAS)} and https.")
    if "@" in key.split("/")[0] or holds_secrets(f"{scheme}://{key}"):
        raise UsageError(f"A {scheme}:// URI must hold no password or key: streams and plans keep URIs. {_ELSEWHERE}")
    if not key.strip("/") or {".", ".."} & set(key.split("/")):
        raise UsageError(f"{scheme}://{key} is no place in a store; it must be as {scheme}://bucket/folder.")
    return cast(Path, StorePath(scheme, key if scheme == "https" else key.strip("/")))


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
    root = Path(tempfile.gettempdir()) / f"tonemill-{os.getuid()}"
    try:
        with contextlib.suppress(FileExistsError):
            root.mkdir(mode=0o700)
        status = root.lstat()
        if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
            raise OutputError(f"{root} belongs to somebody else. Set TMPDIR to a folder of your own.")
        mine = root / remote.scheme / remote.key
        mine.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{root} cannot be written: {error.strerror}. Set TMPDIR to another folder.") from error
    return mine


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
        for old in copy.parent.glob(f".tonemill-copy-*-{remote.name}"):
            old.unlink(missing_ok=True)
        Path(part.name).replace(copy)
    return copy
