"""Decode with libsndfile: a file, its bytes, or a file with mended lengths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from tonemill.audiotools.codecs import mpeg
from tonemill.audiotools.codecs.containers import Seekable
from tonemill.audiotools.codecs.partial import Partial
from tonemill.audiotools.codecs.spliced import Part, Spliced, opened_raw
from tonemill.audiotools.errors import AudioError, Settled
from tonemill.audiotools.shapes import Float32
from tonemill.audiotools.trouble import refuse_unreadable

BLOCK_FRAMES: Final = 1 << 17
"""Frames per block: 2.7 s at 48 kHz, 1 MiB of stereo float32."""

MP3_SLACK_FRAMES: Final = 2304
"""An MP3 header may promise up to two granules that its decoder delay takes away."""

BLOCK_SECONDS: Final = 20
"""Longest block: at a header rate of 1 Hz a block would last days and, resampled to a usual rate, fill the memory."""

SYSTEM_ERROR: Final = 2
"""libsndfile's `SF_ERR_SYSTEM`: one code for all that the system refuses."""

_DEEP: Final = frozenset(("PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_20", "ALAC_24", "ALAC_32", "DWVW_24", "DWVW_N"))


class Stopped(AudioError):
    """Decoding ended too early; another decoder may do better.

    Args:
        frames: that were decoded, from the first one that was wanted on.
    """

    def __init__(self, reason: str, message: str, frames: int) -> None:
        super().__init__(reason, message)
        self.frames = frames


def probe(source: Path | bytes, parts: tuple[Part, ...]) -> tuple[int, int, int | None, str]:
    """Sample rate, channels, frames (None where the format does not tell), and libsndfile's name of the sample format.

    Args:
        source: a file or its bytes.
        parts: of it to read; none for all of it.

    Raises:
        AudioError: unreadable.
    """
    with _opened(source, parts) as file:
        # libsndfile gives 2**63 - 1 where a stream does not tell its length.
        frames = int(file.frames) if file.frames < 1 << 62 else None
        return int(file.samplerate), int(file.channels), frames, str(file.subtype)


def depth(subtype: str) -> int:
    """Bits per sample that keep what a sample format holds: 16, or 24 for anything deeper."""
    return 24 if subtype in _DEEP else 16


def blocks(
    source: Path | bytes, parts: tuple[Part, ...], start: int, wanted: int | None, most: int = BLOCK_FRAMES
) -> Iterator[Float32[np.ndarray, "channels time"]]:
    """Decode in blocks of `BLOCK_FRAMES` and no more than `BLOCK_SECONDS`.

    Args:
        source: a file or its bytes.
        parts: of it to read; none for all of it.
        start: first frame.
        wanted: frames; None reads to the end.
        most: frames of a block.

    Raises:
        AudioError: not_finite.
        Stopped: damaged, truncated, or no_frames where nothing was decoded.
    """
    import soundfile

    if wanted == 0:
        return
    got = 0
    with _opened(source, parts) as file:
        rate = file.samplerate
        exact = file.subtype == "PCM_16"
        # A header may announce a thousand channels.
        most = max(1, min(most, BLOCK_SECONDS * rate) * 8 // max(8, file.channels))
        try:
            if start:
                file.seek(start)
            while wanted is None or got < wanted:
                size = most if wanted is None else min(most, wanted - got)
                # Reading 16-bit samples as they are is 13 times as fast as letting libsndfile convert them.
                raw = file.read(size, dtype="int16" if exact else "float32", always_2d=True)
                if not len(raw):
                    break
                got += len(raw)
                block = np.empty(raw.shape[::-1], np.float32)
                np.multiply(raw.T, np.float32(1 / 32768), out=block) if exact else np.copyto(block, raw.T)
                if not exact and not np.isfinite(block).all():
                    at = got - len(raw) + int(np.flatnonzero(~np.isfinite(block).all(axis=0))[0])
                    raise AudioError("not_finite", f"sample {start + at} is NaN or infinite")
                yield block
                if len(raw) < size:
                    # Behind a hole in its stream Vorbis would go on at another place, and some sound come twice.
                    break
        except (soundfile.LibsndfileError, RuntimeError) as error:
            if file.frames >= 1 << 62 and not got:
                raise Stopped("no_frames", "it holds a header and no sound", got) from error
            if getattr(error, "code", 0) == SYSTEM_ERROR:
                refuse_unreadable(source)
            # The last frame of a cut file cannot be decoded, whatever else is wrong.
            reason = "damaged" if _sounds_at(source, parts, -1) else "truncated"
            at_seconds = (start + got) / rate
            raise Stopped(reason, f"decoding failed after {at_seconds:.2f} s: {plainly(error)}", got) from error
        if wanted is not None and file.subtype.startswith("MPEG"):
            promised = max(0, file.frames - MP3_SLACK_FRAMES - start)
            # Behind the end that was promised too late there is nothing; behind a place where decoding fails, too.
            wanted = (
                min(wanted, promised) if got or _sounds_at(source, parts, max(0, start - MP3_SLACK_FRAMES)) else wanted
            )
        if wanted is not None and got < wanted and file.format == "OGG" and _sounds_at(source, parts, -1):
            raise Stopped("damaged", f"{wanted - got} of {wanted} frames are lost in its middle", got)
        if wanted is not None and got < wanted:
            raise Stopped("truncated", f"it ends after {got} of the {wanted} frames that its header states", got)


def _sounds_at(source: Path | bytes, parts: tuple[Part, ...], place: int) -> bool:
    """Whether a frame can be decoded; a negative place counts from the end that the header announces."""
    import soundfile

    try:
        with _opened(source, parts) as file:
            frames = file.frames if file.frames < 1 << 62 else 1
            file.seek(frames + place if place < 0 else place)
            return len(file.read(1)) == 1
    except (soundfile.LibsndfileError, RuntimeError, AudioError):
        return False


@contextmanager
def _opened(source: Path | bytes, parts: tuple[Part, ...]) -> Iterator[Any]:
    import soundfile

    try:
        file: Any
        if parts or isinstance(source, Partial):
            # An error of a file of Python's does not come through libsndfile.
            raw = source.opened(is_quiet=True) if isinstance(source, Partial) else opened_raw(source)
            file = soundfile.SoundFile(Spliced(raw, parts) if parts else raw)
        else:
            # Bytes as the name, for a name need not be UTF-8.
            file = soundfile.SoundFile(Seekable(source) if isinstance(source, bytes) else os.fsencode(source))
        if file.subtype.startswith("MPEG"):
            tagged = mpeg.with_length(source, parts, file.frames, MP3_SLACK_FRAMES)
            if tagged is not None:
                file.close()
                file = soundfile.SoundFile(tagged)
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        kind: type[AudioError] = AudioError
        if getattr(error, "code", 0) == SYSTEM_ERROR:
            refuse_unreadable(source)
            kind = Settled
        raise kind("unreadable", f"not audio that can be read: {plainly(error)}") from error
    with file:
        if file.format == "RAW":
            # By the suffix alone libsndfile takes any bytes in a .au, .snd, .vox or .gsm for sound without a header.
            raise AudioError("unreadable", "not audio that can be read: no header was found")
        yield file


def plainly(error: Exception) -> str:
    """A libsndfile message without the path it was given."""
    text = str(error).rsplit(": ", 1)[-1].strip()
    # What libsndfile keeps of an earlier failure where a decoder of its own gives up.
    return "its frames cannot be decoded" if text.startswith("File does not exist") else text
