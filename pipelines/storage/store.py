"""The interface of an object store, and the stores that fsspec accesses."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from tonemill.audiotools.errors import UsageError

EXTRAS: Final = {"s3": "s3fs", "gs": "gcsfs", "memory": "fsspec"}
"""The optional package that each kind of store needs; `memory` is a store of one process, for tests."""

ANSWER_SECONDS: Final = 30.0
"""Timeout for a response of a store."""


class Entry(NamedTuple):
    """Size and time of the last change of an object."""

    bytes: int
    modified_ns: int


class Store(Protocol):
    """The operations of a kind of store, without retries; a key is the part of a URI after `scheme://`."""

    def look(self, key: str) -> Entry:
        """Size and time of an object; FileNotFoundError if there is none."""

    def find(self, key: str) -> dict[str, Entry]:
        """Every object below a prefix."""

    def is_folder(self, key: str) -> bool:
        """Whether there are objects below a prefix."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes of an object, to its end if none is given."""

    def fetch(self, key: str, target: Path) -> None:
        """Copy an object into a local file."""

    def put(self, key: str, source: Path) -> None:
        """Upload a local file as an object, whole or not at all."""

    def remove(self, key: str) -> None:
        """Delete an object; FileNotFoundError if there is none."""


def file_system(scheme: str, **settings: Any) -> Any:
    """A file system of fsspec that keeps no listings and shares nothing.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import fsspec

        return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True, **settings)
    except ImportError as error:
        raise UsageError(f"{scheme}:// needs {EXTRAS[scheme]}. `pip install 'tonemill[{scheme}]'`.") from error


class Fsspec:
    """A store that fsspec reads under the names that it was given."""

    def __init__(self, scheme: str) -> None:
        settings: dict[str, Any] = {}
        if scheme == "gs":
            settings["requests_timeout"] = _silence()
        self._files = file_system(scheme, **settings)

    def look(self, key: str) -> Entry:
        found = self._files.info(key)
        if found["type"] != "file":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
        return _entry(found)

    def find(self, key: str) -> dict[str, Entry]:
        found = self._files.find(key, detail=True)
        entries = {name.lstrip("/"): _entry(one) for name, one in found.items() if one["type"] == "file"}
        return {name: one for name, one in entries.items() if not is_marker(name, one)}

    def is_folder(self, key: str) -> bool:
        try:
            # An object of the same name hides the folder from `info`.
            return bool(self._files.ls(f"{key.rstrip('/')}/", detail=False))
        except FileNotFoundError:
            return False

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return bytes(self._files.cat_file(key, start=start or None, end=end))

    def fetch(self, key: str, target: Path) -> None:
        self._files.get_file(key, str(target))

    def put(self, key: str, source: Path) -> None:
        self._files.put_file(str(source), key)

    def remove(self, key: str) -> None:
        self._files.rm_file(key)


def is_marker(key: str, entry: Entry) -> bool:
    """Whether an object is the empty one, with a key that ends in `/`, that web consoles create for a folder."""
    return key.endswith("/") and not entry.bytes


def _silence() -> Any:
    """Timeouts of each read for Google's store; without a total, since a shard may take longer to upload."""
    try:
        from aiohttp import ClientTimeout
    except ImportError:
        return None
    return ClientTimeout(sock_connect=ANSWER_SECONDS, sock_read=ANSWER_SECONDS)


def _entry(found: dict[str, Any]) -> Entry:
    when = next((found[name] for name in ("LastModified", "updated", "mtime", "created") if found.get(name)), None)
    if isinstance(when, str):
        from datetime import datetime

        when = datetime.fromisoformat(when)
    # The store of one process lists seconds, and dates single objects.
    seconds = when if isinstance(when, float) or when is None else when.timestamp()
    return Entry(int(found["size"]), round((seconds or 0.0) * 1000) * 1_000_000)
