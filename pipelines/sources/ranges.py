"""Read the header of a source in a store by ranges, where its format has it in few places."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tonemill.audiotools.codecs.files import Header
from tonemill.audiotools.codecs.partial import Absent, Partial, partly
from tonemill.audiotools.errors import AudioError
from tonemill.pipelines.sources.remote import fetched, watched
from tonemill.pipelines.storage.store import Entry
from tonemill.pipelines.storage.store_path import StorePath

HEAD_BYTES: Final = 1 << 16
"""Fetched of the start of a source, and at least of every further place."""

MOST_BYTES: Final = 8 << 20
"""Of a source that wants more, all is fetched, to a file."""

_SUFFIXES: Final = frozenset(
    (".wav", ".wave", ".rf64", ".bw64", ".aif", ".aiff", ".aifc", ".flac", ".caf", ".au", ".snd", ".w64", ".sph")
)
"""Of names of sources that are begun by ranges."""

_MAGIC: Final = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"fLaC", b"caff", b".snd", b"riff", b"NIST_1A")
"""First bytes of what these suffixes stand for. Of other formats, frames or pages are counted to the end."""


def first_bytes(remote: StorePath) -> tuple[Path, Entry, str]:
    """What is here of an object, and its size and time: its first bytes, or a copy where more are needed; no digest.

    Raises:
        OSError: it cannot be read.
        MachineError: a copy cannot be kept.
    """
    if remote.suffix.lower() not in _SUFFIXES:
        return fetched(remote)
    entry, head = watched(remote, lambda: remote.begin(HEAD_BYTES))
    return partly(f"far{remote.suffix}", entry.bytes, {0: head}), entry, ""


def header_of(remote: StorePath, found: Path, probe: Callable[[Path, bool], Header], keep_cut: bool) -> Header:
    """The header of an object; what its first bytes do not tell is fetched.

    Args:
        remote: the object.
        found: a copy, or as `first_bytes` gave it.
        probe: reads the header of a file.
        keep_cut: what is there of a cut file is to be read.

    Raises:
        OSError: it cannot be read.
        AudioError: as `probe`.
        MachineError: a copy cannot be kept.
    """
    if not isinstance(found, Partial):
        return probe(found, keep_cut)
    while not found.size or found.stretches[0].startswith(_MAGIC):
        try:
            header = probe(found, keep_cut)
            if found.absent is None:
                return header
        except (Absent, AudioError):
            if found.absent is None:
                raise
        start, end = _wanted(found, found.absent)
        if sum(map(len, found.stretches.values())) + end - start > min(MOST_BYTES, found.size // 2):
            break
        found = _with(found, start, watched(remote, partial(remote.read, start, end)))
    copy, _, _ = fetched(remote)
    return probe(copy, keep_cut)


def _wanted(found: Partial, absent: Absent) -> tuple[int, int]:
    """Where to begin and end: what is read in order is doubled each time, up to what is here already."""
    before = next((len(data) for start, data in found.stretches.items() if start + len(data) == absent.start), 0)
    following = min((start for start in found.stretches if start > absent.start), default=found.size)
    return absent.start, min(following, max(absent.end, absent.start + max(HEAD_BYTES, before)))


def _with(found: Partial, start: int, data: bytes) -> Partial:
    stretches = {**found.stretches}
    before = next((place for place, held in stretches.items() if place + len(held) == start), None)
    if before is not None:
        start, data = before, stretches[before] + data
    return partly(str(found), found.size, {**stretches, start: data})
