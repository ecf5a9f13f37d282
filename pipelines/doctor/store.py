"""Whether a folder in a store can be used: listed, written to, read and cleared, and what its clock shows."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tonemill.audiotools.errors import TonemillError
from tonemill.pipelines.doctor.checks import Found
from tonemill.pipelines.storage.commit import TEMPORARY
from tonemill.pipelines.storage.store_path import StorePath

SKEW_SECONDS: Final = 60.0
"""S3 refuses what is signed 900 s off its own clock."""

CONTENT: Final = b"tonemill"


class Tried(NamedTuple):
    """The result of one request.

    Args:
        answer: what was read, or why it failed.
        failed: whether it did.
    """

    answer: str
    failed: bool


def store(folder: StorePath) -> Iterator[Found]:
    """What can be done with a folder in a store."""
    name = folder / f"{TEMPORARY}doctor-{secrets.token_hex(4)}"
    mend = f"tonemill doctor {folder}   (with credentials that may do so)"
    listed = _tried(lambda: str(folder.is_dir()))
    if listed.failed:
        yield Found("broken", f"{folder} cannot be listed: {listed.answer}", mend)
    begun = time.time()
    with tempfile.NamedTemporaryFile() as file:
        file.write(CONTENT)
        file.flush()
        put = _tried(lambda: name.put(Path(file.name)))
    if put.failed:
        yield Found("broken", f"{folder} cannot be written to: {put.answer}", mend)
        return
    read = _tried(name.read_bytes)
    if read.failed or read.answer != str(CONTENT):
        yield Found("broken", f"{folder} cannot be read, though it was written to: {read.answer}", mend)
    yield from _clock(name, begun)
    removed = _tried(name.unlink)
    if removed.failed:
        yield Found("broken", f"{name} cannot be removed: {removed.answer}", mend)
    if not any(one.failed for one in (listed, read, removed)):
        yield Found("ok", f"{folder} can be listed, read and written, and files there can be deleted")


def _clock(name: StorePath, begun: float) -> Iterator[Found]:
    seen = _tried(lambda: name.entry().modified_ns)
    if seen.failed:
        yield Found("broken", f"the store does not show {name}: {seen.answer}", f"tonemill doctor {name.parent}")
    elif (off := abs(int(seen.answer) / 1e9 - begun)) > SKEW_SECONDS:
        message = f"the clock of this machine and that of the store are {off:.0f} s apart"
        yield Found("warning", message, "sudo timedatectl set-ntp true")


def _tried(act: Callable[[], object]) -> Tried:
    try:
        return Tried(str(act()), False)
    except (OSError, TonemillError) as error:
        return Tried(getattr(error, "strerror", None) or str(error), True)
