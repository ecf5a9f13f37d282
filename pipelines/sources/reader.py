"""Open a source of a recipe: from disk, from a tar, from a store, or through a decoder in a process of its own."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from tonemill.audiotools.arrays import Array, read_npy
from tonemill.audiotools.codecs import files
from tonemill.audiotools.errors import AudioError, Doubtful, UsageError
from tonemill.audiotools.reject_reasons import REASONS, TRANSIENT
from tonemill.audiotools.trouble import unopenable
from tonemill.audiotools.waveform import Flow
from tonemill.pipelines.recipes.recipe import modified_ns
from tonemill.pipelines.sources import decoder
from tonemill.pipelines.sources.remote import Copy, local_copy
from tonemill.pipelines.storage.paths import as_store, to_path
from tonemill.pipelines.storage.tar import cut_out

TRUNCATED: Final = "truncated"
KEEP: Final = "keep"
"""Value under `TRUNCATED` of a source whose existing part is read although the file is cut."""


def open_sound(
    source: dict[str, Any], audio: files.Source, start: int, frames: int | None, suspect: bool, patience: float
) -> tuple[Flow, Path | None]:
    """The sound of one role, and its file; a member of a tar has no file, and no tags of its own.

    Args:
        source: of a recipe.
        audio: what `bring` gave of it.
        start: the first frame wanted.
        frames: how many are wanted; None for all that follow.
        suspect: it may end the process that decodes it, so another process does.
        patience: seconds that this other process may take for a block.

    Raises:
        AudioError: it cannot be read.
    """
    kept = None if isinstance(audio, bytes) else audio
    keep_cut = source.get(TRUNCATED) == KEEP
    try:
        if suspect or source.get("suspect"):
            flow = decoder.read(audio, start, frames, patience, keep_cut)
        else:
            flow = files.read(audio, start, frames, keep_cut)
    except AudioError as error:
        refuse_vanished(source, kept, error)
        raise
    return (replace(flow, open_blocks=partial(_blocks, flow, source, kept)) if isinstance(kept, Copy) else flow), kept


def _blocks(flow: Flow, source: dict[str, Any], kept: Path) -> Iterator[Any]:
    try:
        yield from flow.blocks()
    except AudioError as error:
        refuse_vanished(source, kept, error)
        raise


def refuse_vanished(source: dict[str, Any], kept: Path | None, error: AudioError) -> None:
    """Say that a local copy vanished, where an error comes of that: nothing is known of the source.

    Raises:
        Vanished: it did.
    """
    if isinstance(kept, Copy) and not kept.exists():
        raise Vanished("network", f"its temporary copy was deleted from {kept.parent}") from error


class Vanished(Doubtful):
    """The local copy of a source vanished while it was read."""


def open_array(source: dict[str, Any], found: files.Source, start: int, frames: int | None) -> Array:
    """The array of a source.

    Args:
        source: of a recipe.
        found: what `bring` gave of it.
        start: the first sample wanted of the sound that it belongs to.
        frames: how many samples are wanted; None for all that follow.

    Raises:
        AudioError: it cannot be read, is not what the recipe announces, or is cut between its frames.
    """
    try:
        data = found if isinstance(found, bytes) else found.read_bytes()
    except OSError as error:
        raise unopenable(error) from error
    array = read_npy(data, source["sample_rate"], source.get("hop"))
    if (array.channels, array.frames) != (source["channels"], source["frames"]):
        raise AudioError(
            "changed", f"it has {array.channels} channels of {array.frames} frames, not those of its recipe"
        )
    return array if not start and frames is None else array.cut(start, frames)


def bring(source: dict[str, Any]) -> files.Source:
    """The bytes of a source, or the file that holds nothing else; that of a store is copied here.

    Raises:
        AudioError: it cannot be read, is not the file that was scanned, or could not be read when it was scanned.
        MachineError: the copy cannot be kept.
    """
    if isinstance(unread := source.get("unread"), dict):
        reason = str(unread.get("reason"))
        if unread.get("final") is True and reason in REASONS:
            raise AudioError(reason, str(unread.get("message")))
        raise AudioError(
            reason if reason in TRANSIENT else "unreachable",
            f"it could not be read when it was scanned ({unread.get('message')}); scan again, and give --update",
        )
    try:
        place = to_path(source["uri"])
    except UsageError as error:
        raise AudioError("unsupported", str(error)) from error
    try:
        stored = as_store(place)
        status = None if stored is not None else place.stat()
        if "offset" in source and (status is None or stat.S_ISREG(status.st_mode)):
            with place.open("rb") as file:
                data = cut_out(file, source["offset"], source["bytes"])
            _refuse_change(source, hashlib.sha256(data).hexdigest())
            return data
        if stored is not None:
            return local_copy(source, stored)
        assert status is not None
        if (status.st_size, status.st_mtime_ns) != (source.get("bytes"), modified_ns(source)):
            if not stat.S_ISREG(status.st_mode):
                raise AudioError("changed", "it is not a regular file any more; scan again")
            # Touched or copied is not changed, as long as the bytes are the same.
            with place.open("rb") as file:
                _refuse_change(source, hashlib.file_digest(file, "sha256").hexdigest())
        return place
    except OSError as error:
        raise unopenable(error) from error


def _refuse_change(source: dict[str, Any], digest: str) -> None:
    if source.get("sha256") != digest:
        raise AudioError("changed", "the file is not the one that was scanned; scan again")
