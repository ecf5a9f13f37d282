"""Ask object stores for what they do, again where they fail for a moment; the only module that knows of fsspec."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from tonemill.audiotools.errors import UsageError

T = TypeVar("T")

EXTRAS: Final = {"s3": "s3fs", "gs": "gcsfs", "memory": "fsspec"}
"""The optional package that each kind of store needs; `memory` is a store of one process, for tests."""

ATTEMPTS: Final = 6
PAUSE_SECONDS: Final = 0.2
"""Before the second attempt; each further pause is twice as long, more or less."""

ANSWER_SECONDS: Final = 30.0
"""How long a store may say nothing."""


class Entry(NamedTuple):
    """What a store says of an object."""

    bytes: int
    modified_ns: int


class Store(Protocol):
    """What a kind of store can do, without retries; keys are what follows `scheme://`."""

    def look(self, key: str) -> Entry:
        """What is said of an object; FileNotFoundError where there is none."""

    def find(self, key: str) -> dict[str, Entry]:
        """Every object below a prefix."""

    def is_folder(self, key: str) -> bool:
        """Whether there are objects below a prefix."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes of an object, to its end if none is given."""

    def fetch(self, key: str, target: Path) -> None:
        """Copy an object into a local file."""

    def put(self, key: str, source: Path) -> None:
        """Make an object of a local file, whole or not at all."""

    def remove(self, key: str) -> None:
        """Take an object away; FileNotFoundError where there is none."""


class Fsspec:
    """A store that fsspec knows."""

    def __init__(self, scheme: str) -> None:
        try:
            import fsspec

            more: dict[str, Any] = {}
            if scheme == "s3":
                # Retries are ours, for those of two more layers below would multiply.
                waits = {"connect_timeout": ANSWER_SECONDS, "read_timeout": ANSWER_SECONDS}
                more = {"config_kwargs": {**waits, "retries": {"max_attempts": 1}}}
            elif scheme == "gs":
                from aiohttp import ClientTimeout

                # Of silence, for a shard may take longer than that to go through.
                more = {"requests_timeout": ClientTimeout(sock_connect=ANSWER_SECONDS, sock_read=ANSWER_SECONDS)}
            self._files = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True, **more)
        except ImportError as error:
            raise UsageError(f"{scheme}:// needs {EXTRAS[scheme]}. `pip install 'tonemill[{scheme}]'`.") from error
        if scheme == "s3":
            self._files.retries = 1

    def look(self, key: str) -> Entry:
        found = self._files.info(key)
        if found["type"] != "file":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
        return _entry(found)

    def find(self, key: str) -> dict[str, Entry]:
        found = self._files.find(key, detail=True)
        return {name.lstrip("/"): _entry(one) for name, one in found.items() if one["type"] == "file"}

    def is_folder(self, key: str) -> bool:
        try:
            return bool(self._files.info(key)["type"] == "directory")
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


def _entry(found: dict[str, Any]) -> Entry:
    when = next((found[name] for name in ("LastModified", "updated", "mtime", "created") if found.get(name)), None)
    if isinstance(when, str):
        from datetime import datetime

        when = datetime.fromisoformat(when)
    return Entry(int(found["size"]), 0 if when is None else round(when.timestamp() * 1000) * 1_000_000)


_stores: dict[tuple[int, str], Store] = {}
"""By process, for a fork must not talk through the connections of its parent; and by scheme."""


def store_of(scheme: str) -> Store:
    where = (os.getpid(), scheme)
    if where not in _stores:
        if scheme == "https":
            from tonemill.pipelines.storage.https import Web

            _stores[where] = Web()
        else:
            _stores[where] = Fsspec(scheme)
    return _stores[where]


def persist(what: str, act: Callable[[], T]) -> T:
    """Do something until it works, a few times: a store may fail for a moment.

    Raises:
        OSError: what the store says; EIO where it says nothing of use.
    """
    for attempt in range(ATTEMPTS):
        try:
            return act()
        except FileNotFoundError as error:
            # Some say it without a number, by which it is known later.
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), what) from error
        except PermissionError as error:
            raise PermissionError(errno.EACCES, error.strerror or str(error)[:300], what) from error
        except UsageError:
            raise
        except Exception as error:
            if attempt == ATTEMPTS - 1:
                said = f"{type(error).__name__}: {error}"[:300]
                raise OSError(errno.EIO, f"{what}: tried {ATTEMPTS} times, and at last: {said}") from error
        time.sleep(PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.5))
    raise AssertionError
