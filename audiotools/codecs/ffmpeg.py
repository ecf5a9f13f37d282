"""Read what FFmpeg reads (m4a, aac, wma, webm, the sound of videos, and more) through PyAV, an optional package."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from tonemill.audiotools.codecs.spliced import Part, Spliced, opened_raw
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.shapes import Float32
from tonemill.audiotools.trouble import refuse_unreadable

SUFFIXES: Final = frozenset(
    (
        "aac",
        "ac3",
        "alac",
        "amr",
        "ape",
        "dsf",
        "m4a",
        "m4b",
        "mka",
        "mp2",
        "mpc",
        "ra",
        "shn",
        "spx",
        "tta",
        "weba",
        "wma",
        "wv",
    )
) | frozenset(("3gp", "avi", "flv", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ogv", "webm", "wmv"))
"""Suffixes of files that this module reads and libsndfile does not."""

SHORT_SECONDS: Final = 0.5
"""A container's duration is rounded, and counts what a codec puts before and after; a cut file lacks more."""


MOST_PADDING: Final = 4096
"""Frames that a codec may add behind the sound; more than that, and the container's duration is wrong."""

HINT: Final = "FFmpeg might read it: `pip install 'tonemill[ffmpeg]'`"

_DEPTHS: Final = {"u8": 16, "s16": 16}
"""Bits that keep a sample format of FFmpeg; all others are deeper, as s32 of 24-bit sound."""

_SKIP_MANUAL: Final = 1 << 29
"""AV_CODEC_FLAG2_SKIP_MANUAL: samples that a container announces as padding are not taken off."""

_STRICT: Final = {"err_detect": "crccheck+bitstream+buffer+explode"}

_CHECKED: Final = frozenset(("ape", "flac", "tta", "wavpack"))
"""Codecs that keep a checksum of their samples, which FFmpeg compares if it is bidden to."""


class Stream(NamedTuple):
    """The header of a container's first audio stream, and the number of audio streams."""

    sample_rate: int
    channels: int
    frames: int | None
    codec: str
    bits: int
    sounds: int


def loads() -> bool:
    """Whether PyAV is there and can be used; one that lacks a library of the system cannot."""
    try:
        if find_spec("av") is None:
            return False
        import av  # noqa: F401
    except (ImportError, OSError, ValueError):
        return False
    return True


def probe(source: Path | bytes, parts: tuple[Part, ...] = ()) -> Stream:
    """Read the header of the first audio stream.

    Args:
        source: a file or its bytes.
        parts: of it to read; none for all of it.

    Raises:
        AudioError: no_decoder, where PyAV is not installed; unreadable; no_frames, where there is no sound.
    """
    with _opened(source, parts) as (container, stream):
        context = stream.codec_context
        if not context.sample_rate or not context.channels:
            raise AudioError("unreadable", f"its {context.name} stream states no sample rate or no channels")
        if stream.duration is not None:
            seconds: float | None = float(stream.duration * stream.time_base)
        else:
            seconds = container.duration / 1e6 if container.duration else None
        frames = round(seconds * context.sample_rate) if seconds and seconds > 0 else None
        rate, channels, name = int(context.sample_rate), int(context.channels), str(context.name)
        return Stream(rate, channels, frames, name, _depth(context), len(container.streams.audio))


def _depth(context: Any) -> int:
    """Bits that keep what a codec gives; those of a lossy codec are no more than its noise."""
    is_lossless = context.codec.lossless or context.name.startswith("pcm_")
    if not is_lossless or context.format is None or context.name in ("pcm_alaw", "pcm_mulaw"):
        return 16
    return _DEPTHS.get(context.format.packed.name, 24)


def decodes_all(source: Path | bytes, parts: tuple[Part, ...], wanted: int | None, slack: int) -> bool:
    """Whether a file that another library does not decode is whole: no checksum fails, and all frames come.

    Args:
        source: a file or its bytes.
        parts: of it to read; none for all of it.
        wanted: frames that its header announces, if it does.
        slack: how many of them may be missing.
    """
    import av

    frames = 0
    try:
        with _opened(source, parts, _STRICT) as (container, stream):
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    return False
                frames += frame.samples
    except (av.error.FFmpegError, ValueError, AudioError):
        return False
    return frames > 0 and (wanted is None or frames >= wanted - slack)


def blocks(
    source: Path | bytes,
    parts: tuple[Part, ...],
    start: int,
    frames: int | None,
    declared: int | None,
    channels: int | None = None,
) -> Iterator[Float32[np.ndarray, "channels time"]]:
    """Decode the first audio stream; what a codec needs before and behind the sound is left out, as far as it is known.

    Args:
        source: a file or its bytes.
        parts: of it to read; none for all of it.
        start: first frame.
        frames: how many; None decodes to the end.
        declared: by the header; a stream that ends much earlier was cut.
        channels: of every block; None for those of the stream.

    Raises:
        AudioError: damaged, truncated or not_finite; no_frames where nothing was decoded.
    """
    import av

    end = None if frames is None else start + frames
    at = 0
    with _opened(source, parts) as (container, stream):
        rate = stream.codec_context.sample_rate
        decoded = _decoded(container, stream, channels or stream.codec_context.channels)
        if declared is not None and "mp4" in container.format.name.split(","):
            decoded = _without_padding(decoded, declared)
        try:
            for block in decoded:
                first, last = max(0, start - at), block.shape[1] if end is None else min(block.shape[1], end - at)
                at += block.shape[1]
                if first < last:
                    part = np.ascontiguousarray(block[:, first:last], np.float32)
                    if not np.isfinite(part).all():
                        raise AudioError("not_finite", f"a sample near {at / rate:.2f} s is NaN or infinite")
                    yield part
                if end is not None and at >= end:
                    return
        except (av.error.FFmpegError, ValueError) as error:
            refuse_unreadable(source)
            raise AudioError("damaged", f"decoding failed after {at / rate:.2f} s: {_plainly(error)}") from error
    if at == 0:
        raise AudioError("no_frames", "it holds a header and no sound")
    wanted = declared if end is None else min(end, declared) if declared is not None else None
    if wanted is not None and at < wanted - SHORT_SECONDS * rate:
        raise AudioError("truncated", f"it ends after {at} of the {wanted} frames that its header states")


def _decoded(container: Any, stream: Any, channels: int) -> Iterator[Float32[np.ndarray, "channels time"]]:
    """Blocks of so many channels, of the stream's rate. Channels may change where two MP3s were joined."""
    import av

    convert, layout, rate = None, "", stream.codec_context.sample_rate
    for frame in container.decode(stream):
        frame.pts = None  # gaps in time stamps are no silence
        if convert is None or frame.layout.name != layout:
            if convert is not None:
                yield from (_of_channels(rest.to_ndarray(), channels) for rest in convert.resample(None))
            layout = frame.layout.name
            # The same rate and channels, as planar floats: only the numbers are converted.
            convert = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        yield from (_of_channels(one.to_ndarray(), channels) for one in convert.resample(frame))
    if convert is not None:
        yield from (_of_channels(rest.to_ndarray(), channels) for rest in convert.resample(None))


def _of_channels(block: np.ndarray, channels: int) -> np.ndarray:
    if len(block) == channels:
        return block
    if len(block) == 1:
        return np.repeat(block, channels, axis=0)
    if channels == 1:
        return block.mean(axis=0, keepdims=True, dtype=np.float32)
    raise AudioError("unsupported", f"its {channels} channels change to {len(block)} in the middle")


def _without_padding(decoded: Iterator[np.ndarray], declared: int) -> Iterator[np.ndarray]:
    """Blocks up to the frames that an edit list declares, unless far more follow: then the list is wrong."""
    at, held, behind = 0, [], 0
    for block in decoded:
        if behind > MOST_PADDING:
            yield block
            continue
        left = max(0, declared - at)
        at += block.shape[1]
        if left:
            yield block[:, :left]
        if block.shape[1] > left:
            held.append(block[:, left:])
            behind += block.shape[1] - left
            if behind > MOST_PADDING:
                yield from held
                held = []


@contextmanager
def _opened(
    source: Path | bytes, parts: tuple[Part, ...], options: dict[str, str] | None = None
) -> Iterator[tuple[Any, Any]]:
    try:
        import av
    except (ImportError, OSError) as error:
        raise AudioError(
            "no_decoder", "FFmpeg's formats need PyAV: `pip install 'tonemill[ffmpeg]'`, or convert it to FLAC or WAV"
        ) from error
    try:
        place: Any = io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
        if parts:
            place = Spliced(opened_raw(source), parts)
        container = av.open(place, metadata_errors="replace", options=options or {})
    except (av.error.FFmpegError, ValueError, UnicodeEncodeError) as error:
        refuse_unreadable(source)
        raise AudioError("unreadable", f"not audio that can be read: {_plainly(error)}") from error
    with container:
        if not container.streams.audio:
            raise AudioError("no_frames", "it holds no sound, only pictures or data")
        stream = container.streams.audio[0]
        if (container.format.name, stream.codec_context.name) == ("caf", "alac"):
            # Its last packet is as short as its sound, and FFmpeg would take the announced rest off it once more.
            stream.codec_context.flags2 |= _SKIP_MANUAL
        if options:
            stream.codec_context.options = options
        elif stream.codec_context.name in _CHECKED:
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        yield container, stream


def _plainly(error: Exception) -> str:
    """FFmpeg's words without the path."""
    return str(getattr(error, "strerror", None) or error).split(": ")[0].split("] ")[-1].strip("'\" ")
