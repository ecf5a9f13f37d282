"""Audio files: probe a header, decode in blocks; with `encoding`, the only place that knows codecs."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.codecs import ffmpeg, mpeg
from tonemill.audiotools.codecs.containers import Seekable, missing_bytes
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Flow

DECODABLE: Final = frozenset(
    ("aif", "aifc", "aiff", "au", "caf", "flac", "mp3", "oga", "ogg", "opus", "rf64", "snd", "sph", "w64", "wav")
) | {"wave"}
"""Suffixes that libsndfile reads; those of `ffmpeg.SUFFIXES` need an optional package, and are rejected without it."""

BLOCK_FRAMES: Final = 1 << 17
"""Frames per block: 2.7 s at 48 kHz, 1 MiB of stereo float32."""

MP3_SLACK_FRAMES: Final = 2304
"""An MP3 header may promise up to two granules that its decoder delay takes away."""

BLOCK_SECONDS: Final = 20
"""Of any block: a header may say 1 Hz, and a block of days, converted to a usual rate, could fill any memory."""

HIGHEST_HZ: Final = 2_000_000
"""Three times the highest rate of FLAC; at a false one of 2 GHz a clip of a few seconds could fill any memory."""

_DEPTHS: Final = {"PCM_24": 24, "PCM_32": 24, "FLOAT": 24, "DOUBLE": 24, "ALAC_24": 24, "ALAC_32": 24}


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Args:
        sample_rate: in hertz.
        channels: 1 or more.
        frames: samples per channel; None where the format does not tell.
        subtype: libsndfile's name of the sample format, as `PCM_16`.
    """

    sample_rate: int
    channels: int
    frames: int | None
    subtype: str

    @property
    def bits(self) -> int:
        """Bits per sample that keep what the file holds: 16, or 24 for anything deeper."""
        return _DEPTHS.get(self.subtype, 16)


Source = Path | bytes
"""Where encoded audio lies: a file, or the bytes themselves."""


def is_audio(path: str | os.PathLike[str]) -> bool:
    """Whether a name ends like an audio file's."""
    suffix = os.path.splitext(os.fspath(path))[1][1:].lower()  # noqa: PTH122  (a million names pass here)
    return suffix in DECODABLE or suffix in ffmpeg.SUFFIXES


def probe(source: Source) -> Header:
    """Read a header.

    Raises:
        AudioError: missing, forbidden, empty, unreadable, unsupported, no_frames or truncated.
    """
    _refuse_short_container(source)
    if _is_for_ffmpeg(source):
        found = ffmpeg.probe(source)
        return _plausible(Header(found.sample_rate, found.channels, found.frames, found.codec))
    with _opened(source) as file:
        # libsndfile says 2**63 - 1 where a stream does not tell its length.
        frames = int(file.frames) if file.frames < 1 << 62 else None
        if frames == 0:
            raise AudioError("no_frames", "its header announces no sound")
        return _plausible(Header(int(file.samplerate), int(file.channels), frames, str(file.subtype)))


def _plausible(header: Header) -> Header:
    """Refuse what no converter ever gave; slow rates are legal (weather, tides)."""
    if not 1 <= header.sample_rate <= HIGHEST_HZ:
        raise AudioError("unreadable", f"its header says {header.sample_rate} Hz, which is no rate of sound")
    return header


def read(source: Source, start: int = 0, frames: int | None = None) -> Flow:
    """Read audio in blocks of `BLOCK_FRAMES`, as float32 (channels, time).

    Args:
        source: a file or its bytes.
        start: first frame.
        frames: how many; None reads to the end.

    Raises:
        AudioError: as `probe`; while the blocks are read, also damaged and not_finite.
    """
    header = probe(source)
    if _is_for_ffmpeg(source):
        return Flow(
            lambda: ffmpeg.blocks(source, start, frames, header.frames),
            header.sample_rate,
            header.channels,
            header.bits,
        )
    return Flow(lambda: _blocks(source, header, start, frames), header.sample_rate, header.channels, header.bits)


def _blocks(
    source: Source, header: Header, start: int, frames: int | None
) -> Iterator[Float32[np.ndarray, "channels time"]]:
    import soundfile

    exact = header.subtype == "PCM_16"
    wanted = None if header.frames is None else max(0, header.frames - start)
    if frames is not None:
        wanted = frames if wanted is None else min(frames, wanted)
    if wanted == 0:
        return
    got = 0
    # A header may announce a thousand channels.
    most = max(1, min(BLOCK_FRAMES, BLOCK_SECONDS * header.sample_rate) * 8 // max(8, header.channels))
    with _opened(source) as file:
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
        except (soundfile.LibsndfileError, RuntimeError) as error:
            if header.frames is None and not got:
                raise AudioError("no_frames", "it ends where its sound should begin") from error
            reason = "damaged" if _has_its_end(source, header) else "truncated"
            at_seconds = (start + got) / header.sample_rate
            raise AudioError(reason, f"decoding failed after {at_seconds:.2f} s: {plainly(error)}") from error
        slack = MP3_SLACK_FRAMES if header.subtype.startswith("MPEG") else 0
        if wanted is not None and got < wanted - slack:
            raise AudioError("truncated", f"it ends after {got} of the {wanted} frames that its header announces")


def _has_its_end(source: Source, header: Header) -> bool:
    """Whether the last frame that a header announces can be decoded: a cut file's cannot, whatever else is wrong."""
    import soundfile

    try:
        with _opened(source) as file:
            file.seek((header.frames or 1) - 1)
            return len(file.read(1)) == 1
    except (soundfile.LibsndfileError, RuntimeError, AudioError):
        return False


@contextmanager
def _opened(source: Source) -> Iterator[Any]:
    import soundfile

    try:
        # Bytes as the name, for a name need not be UTF-8.
        file = soundfile.SoundFile(Seekable(source) if isinstance(source, bytes) else os.fsencode(source))
        if file.subtype.startswith("MPEG"):
            tagged = mpeg.with_length(source, file.frames, MP3_SLACK_FRAMES)
            if tagged is not None:
                file.close()
                file = soundfile.SoundFile(tagged)
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise AudioError("unreadable", f"not audio that can be read: {plainly(error)}") from error
    with file:
        if file.format == "RAW":
            # By the suffix alone libsndfile takes any bytes in a .au, .snd, .vox or .gsm for sound without a header.
            raise AudioError("unreadable", "not audio that can be read: it has no header")
        yield file


def _is_for_ffmpeg(source: Source) -> bool:
    return isinstance(source, Path) and source.suffix[1:].lower() in ffmpeg.SUFFIXES


def plainly(error: Exception) -> str:
    """A libsndfile message without the path it was given."""
    return str(error).rsplit(": ", 1)[-1].strip()


def unopenable(error: OSError) -> AudioError:
    """What an error of the file system means for the file."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return AudioError("missing", f"there is no such file: {error.strerror}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return AudioError("forbidden", "the file may not be read")
    if error.errno == errno.EISDIR:
        return AudioError("unreadable", "it is a folder")
    return AudioError("network", f"the storage did not answer: {error.strerror or error}")


def _refuse_short_container(source: Source) -> None:
    """Compare a RIFF or AIFF file's chunks with its size, for libsndfile reads a cut one as a shorter one."""
    try:
        # A named pipe would wait for a writer for ever.
        if isinstance(source, Path) and source.exists() and not source.is_file():
            raise AudioError("unreadable", "it is no regular file")
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as raw:
            size = raw.seek(0, os.SEEK_END)
            raw.seek(0)
            missing = missing_bytes(raw, size)
    except OSError as error:
        raise unopenable(error) from error
    if size == 0:
        raise AudioError("empty", "it holds no bytes")
    if missing:
        raise AudioError("truncated", f"it ends {missing} bytes before the sound that its header announces")
