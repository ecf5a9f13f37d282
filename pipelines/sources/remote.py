"""Sources that lie in stores: find them, say what they are, and bring one here for as long as it is read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import weakref
from functools import cache
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.errors import AudioError, UsageError
from tonemill.pipelines.recipes.recipe import modified_ns
from tonemill.pipelines.storage.locks import lives
from tonemill.pipelines.storage.paths import scratch
from tonemill.pipelines.storage.store import Entry
from tonemill.pipelines.storage.store_path import StorePath

FETCHED: Final = StorePath("memory", ".tonemill-fetched")
"""Stands for the folder in which copies lie, one folder for each process."""


class Copy(type(Path())):  # type: ignore[misc]
    """A local file that is removed when nothing holds its path any more."""


def listed(root: StorePath) -> list[tuple[str, StorePath]]:
    """Every object at or below a place in a store, with its path under it, or its own name.

    Raises:
        UsageError: there is none.
    """
    if root.is_file():
        return [(root.name, root)]
    # What lies on the web cannot be listed.
    below = [(str(path.relative_to(root)), path) for path in root.below()] if root.scheme != "https" else []
    if not below:
        raise UsageError(f"There is no object {root} and none below it.")
    return below


def fetched(remote: StorePath) -> tuple[Copy, Entry, str]:
    """A local copy of an object with its suffix; what the store says of it; its SHA-256.

    Raises:
        OSError: it cannot be read.
    """
    handle, name = tempfile.mkstemp(remote.suffix[:32].replace("/", ""), dir=_folder(os.getpid()))
    os.close(handle)
    copy = Copy(name)
    weakref.finalize(copy, _remove, name)
    entry = remote.fetch(copy)
    with copy.open("rb") as file:
        return copy, entry, hashlib.file_digest(file, "sha256").hexdigest()


def local_copy(source: dict[str, Any], remote: StorePath) -> Copy:
    """A local copy of the source of a recipe.

    Raises:
        OSError: it cannot be read.
        AudioError: changed: it is not the one that was scanned.
    """
    copy, entry, digest = fetched(remote)
    # Without a digest, size and time of last change must do.
    size_and_time = [source.get("bytes"), modified_ns(source)]
    if digest != source["sha256"] if "sha256" in source else list(entry) != size_and_time:
        raise AudioError("changed", "the object is not the one that was scanned; scan again")
    return copy


@cache
def _folder(process: int) -> Path:
    """Where copies of this process lie; those that dead ones left are removed."""
    home = scratch(FETCHED)  # type: ignore[arg-type]
    for old in home.iterdir():
        if old.name.isdigit() and not lives(int(old.name)):
            shutil.rmtree(old, ignore_errors=True)
    mine = home / str(process)
    mine.mkdir(exist_ok=True)
    return mine


def _remove(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)  # noqa: PTH108
