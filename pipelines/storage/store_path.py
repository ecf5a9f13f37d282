"""A path in an object store, used like a `pathlib.Path`."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from tonemill.pipelines.storage.ranged_file import RangedFile
from tonemill.pipelines.storage.store import Entry
from tonemill.pipelines.storage.stores import most_seconds, persist, store_of

T = TypeVar("T")

AHEAD_BYTES: Final = 8 << 20
"""Read at once, at most, where an object is read from front to back."""


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
    def _words(self) -> str:
        """The key, as names are taken from it."""
        if self.scheme != "https":
            return self.key
        # What a query holds is no part of a name.
        parts = urlsplit(str(self))
        return parts.netloc + unquote(parts.path)

    @property
    def name(self) -> str:
        return self._words.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> StorePath:
        return StorePath(self.scheme, self._words.rpartition("/")[0])

    def with_suffix(self, suffix: str) -> StorePath:
        return StorePath(self.scheme, f"{self._words.removesuffix(self.suffix)}{suffix}")

    def relative_to(self, other: StorePath) -> str:
        """The rest of this path after `other`, unnormalised: in a store, `a/./b` and `a/b` are different keys."""
        words, start = self._words, f"{other._words.rstrip('/')}/"
        if not words.startswith(start):
            raise ValueError(f"{self} is not below {other}")
        return words[len(start) :]

    def resolve(self) -> StorePath:
        """The path itself: stores have no links."""
        return self

    def mkdir(self, *_: object, **__: object) -> None:
        """Stores have no folders."""

    def _persist(self, what: str, act: Callable[[], T]) -> T:
        return persist(what, act, self.scheme)

    def _ask(self, what: str, act: Callable[[], T]) -> T:
        """As `_persist`, for short requests: a store that does not answer is given up after `most_seconds`."""
        return persist(what, act, self.scheme, most_seconds())

    def entry(self) -> Entry:
        """Size and time of the object; FileNotFoundError if there is no object with this key, or only a prefix."""
        return self._ask(f"looking at {self}", lambda: store_of(self.scheme).look(self.key))

    def below(self) -> dict[StorePath, Entry]:
        """Every object below it, sorted."""
        found = self._ask(f"listing {self}", lambda: store_of(self.scheme).find(self.key.rstrip("/") + "/"))
        return {StorePath(self.scheme, key): found[key] for key in sorted(found)}

    def stat(self) -> SimpleNamespace:
        found = self.entry()
        return SimpleNamespace(st_size=found.bytes, st_mtime_ns=found.modified_ns, st_ino=0, st_mode=stat.S_IFREG)

    def is_file(self) -> bool:
        try:
            self.entry()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        return self._ask(f"looking at {self}", lambda: store_of(self.scheme).is_folder(self.key))

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Iterator[StorePath]:
        names = dict.fromkeys(path.relative_to(self).split("/")[0] for path in self.below())
        return iter([self / name for name in names])

    def rglob(self, pattern: str) -> Iterator[StorePath]:
        return iter([path for path in self.below() if fnmatchcase(path.name, pattern)])

    def open(self, mode: str = "rb") -> RangedFile:
        assert mode == "rb", mode
        size = self.entry().bytes
        return RangedFile(size, _Ahead(self, size).read)

    def read_bytes(self) -> bytes:
        return self._persist(f"reading {self}", lambda: store_of(self.scheme).read(self.key))

    def read(self, start: int, end: int) -> bytes:
        """Bytes from `start` to before `end`; OSError if the store keeps returning fewer."""

        return self._persist(f"reading {self}", lambda: self._range(start, end))

    def begin(self, count: int) -> tuple[Entry, bytes]:
        """Size and time of the object, and its first bytes: so many, or all."""

        def act() -> tuple[Entry, bytes]:
            found = store_of(self.scheme).look(self.key)
            return found, self._range(0, min(count, found.bytes))

        return self._persist(f"reading {self}", act)

    def _range(self, start: int, end: int) -> bytes:
        data = store_of(self.scheme).read(self.key, start, end) if end > start else b""
        if len(data) != end - start:
            raise EOFError(f"{len(data)} of {end - start} bytes were received")
        return data

    def fetch(self, target: Path) -> Entry:
        """Copy the object to a local file; returns its size and time from before the copy."""

        def act() -> Entry:
            found = store_of(self.scheme).look(self.key)
            store_of(self.scheme).fetch(self.key, target)
            if (got := target.stat().st_size) != found.bytes:
                raise EOFError(f"{got} of {found.bytes} bytes were received")
            return found

        return self._persist(f"reading {self}", act)

    def put(self, source: Path) -> None:
        """Upload a local file as this object, whole or not at all."""
        self._persist(f"writing {self}", lambda: store_of(self.scheme).put(self.key, source))

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self._persist(f"removing {self}", lambda: store_of(self.scheme).remove(self.key))
        except FileNotFoundError:
            if not missing_ok:
                raise


class _Ahead:
    """Bytes of an object: what is read in order is fetched ahead, and of what is read elsewhere its own bytes alone."""

    def __init__(self, path: StorePath, size: int) -> None:
        self._path, self._size = path, size
        self._first, self._held, self._ahead = 0, b"", 0

    def read(self, start: int, end: int) -> bytes:
        last = self._first + len(self._held)
        if not self._first <= start <= end <= last:
            self._ahead = min(AHEAD_BYTES, max(2 * self._ahead, 1 << 16)) if start == last else 0
            self._held = self._path.read(start, min(self._size, max(end, start + self._ahead)))
            self._first = start
        return self._held[start - self._first : end - self._first]
