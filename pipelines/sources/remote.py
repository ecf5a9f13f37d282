"""Find and describe sources in stores, and keep a local copy of a source while it is read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from tonemill.audiotools.errors import AudioError, MachineError, UsageError
from tonemill.audiotools.trouble import is_of_machine
from tonemill.pipelines.recipes.recipe import modified_ns
from tonemill.pipelines.sources.reach import reach
from tonemill.pipelines.storage.copies import full, new_copy
from tonemill.pipelines.storage.store import Entry
from tonemill.pipelines.storage.store_path import StorePath
from tonemill.pipelines.storage.stores import cut_short, last_answer

T = TypeVar("T")

LOOK_SECONDS: Final = 0.5
"""Interval at which is checked whether bytes of an object have arrived."""


class Copy(type(Path())):  # type: ignore[misc]
    """A local file that is removed when nothing holds its path any more."""


def listed(root: StorePath) -> list[tuple[str, StorePath]]:
    """Every object at or below a place in a store, with its path under it, or its own name; a place may be both.

    Raises:
        UsageError: there is none.
    """
    found = [(root.name, root)] if root.is_file() else []
    # What is on the web cannot be listed.
    if root.scheme != "https":
        found += [(path.relative_to(root), path) for path in root.below()]
    if not found:
        raise UsageError(f"There is no object {root}, and no folder of that name.")
    return found


def fetched(remote: StorePath, again: bool = False) -> tuple[Copy, Entry, str]:
    """(local copy of an object, with its suffix; its size and time in the store; its SHA-256).

    Args:
        remote: the object.
        again: it vanished before.

    Raises:
        OSError: it cannot be read.
        MachineError: the copy cannot be kept.
    """
    copy = Copy(new_copy(remote.suffix[:32].replace("/", "")))
    weakref.finalize(copy, _remove, str(copy))
    try:
        entry = watched(remote, lambda: remote.fetch(copy), lambda: copy.stat().st_size)
    except OSError as error:
        if is_of_machine(error):
            raise full(error, _wanted(remote)) from error
        if error.errno == errno.ENOENT and not copy.exists():
            return _vanished(remote, again, error)
        raise
    try:
        with copy.open("rb") as file:
            return copy, entry, hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        return _vanished(remote, again, error)


def _vanished(remote: StorePath, again: bool, error: OSError) -> tuple[Copy, Entry, str]:
    """Fetch a copy again that was deleted from TMPDIR; the second time, raise `unstable`."""
    if again:
        raise unstable(remote) from error
    return fetched(remote, again=True)


def unstable(remote: object) -> MachineError:
    """The error for a copy of a source that was deleted twice while it was read."""
    return MachineError(
        f"TMPDIR is {tempfile.gettempdir()}, and the temporary copy of {remote} was deleted from there twice while "
        "it was read. Set TMPDIR to a folder in which no other program deletes files, and repeat the command: it "
        "goes on where it stopped."
    )


def _wanted(remote: StorePath) -> str:
    with contextlib.suppress(OSError):
        return f"the {remote.entry().bytes} bytes of {remote}"
    return str(remote)


def watched(remote: StorePath, act: Callable[[], T], received: Callable[[], int] = lambda: 0) -> T:
    """What `act` gives, which reads an object, until no byte arrives for `reach.seconds_left()`.

    Args:
        remote: the object.
        act: reads it.
        received: number of bytes so far; without it `act` as a whole has that time.

    Raises:
        OSError: the object cannot be read; ETIMEDOUT if no byte arrived in time.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(act())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    grew, size = time.monotonic(), 0
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
        if cut_short.is_set() and thread.is_alive():
            raise OSError(errno.EINTR, "the command ends", str(remote))
        with contextlib.suppress(OSError):
            now = received()
            grew, size = (time.monotonic() if now != size else grew), now
        if thread.is_alive() and (waited := time.monotonic() - grew) > reach.seconds_left():
            answer = last_answer(thread.ident)
            message = f"{remote} gave nothing for {waited:.0f} s{f', and before that {answer}' if answer else ''}"
            raise OSError(errno.ETIMEDOUT, message, str(remote))
    if failed:
        raise failed[0]
    return done[0]


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


def _remove(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)  # noqa: PTH108
