"""Read what FFmpeg reads (m4a, aac, wma, webm, the sound of videos) through PyAV, an optional package."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.errors import AudioError

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
        "tta",
        "weba",
        "wma",
        "wv",
    )
) | frozenset(("3gp", "avi", "flv", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ogv", "webm", "wmv"))
"""Suffixes of files that this module reads and libsndfile does not."""

SHORT_SECONDS: Final = 0.5
"""A container's duration is rounded, and counts what a codec puts before and after; a cut file lacks more."""


class Stream(NamedTuple):
    """What a container says of its first sound."""

    sample_rate: int
    channels: int
    frames: int | None
    codec: str


def probe(source: Path | bytes) -> Stream:
    """Read the header of the first audio stream.

    Raises:
        AudioError: unsupported, where PyAV is not installed; unreadable; no_frames, where there is no sound.
    """
    with _opened(source) as (container, stream):
        context = stream.codec_context
        if not context.sample_rate or not context.channels:
            raise AudioError("unreadable", f"its {context.name} stream says neither rate nor channels")
        if stream.duration is not None:
            seconds: float | None = float(stream.duration * stream.time_base)
        else:
            seconds = container.duration / 1e6 if container.duration else None
        frames = round(seconds * context.sample_rate) if seconds and seconds > 0 else None
        return Stream(int(context.sample_rate), int(context.channels), frames, str(context.name))


def blocks(
    source: Path | bytes, start: int, frames: int | None, declared: int | None
) -> Iterator[Float32[np.ndarray, "channels time"]]:
    """Decode the first audio stream; what a codec needs before the sound (its priming) is left out, as FFmpeg does.

    Args:
        start: first frame.
        frames: how many; None decodes to the end.
        declared: by the header; a stream that ends much earlier was cut.

    Raises:
        AudioError: damaged, truncated or not_finite; no_frames where nothing was decoded.
    """
    import av

    end = None if frames is None else start + frames
    at = 0
    with _opened(source) as (container, stream):
        rate = stream.codec_context.sample_rate
        # The same rate and channels, as planar floats: only the numbers are converted.
        convert = av.AudioResampler(format="fltp", layout=stream.codec_context.layout, rate=rate)
        try:
            for frame in _frames(container, stream, convert):
                block = frame.to_ndarray()
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
            raise AudioError("damaged", f"decoding failed after {at / rate:.2f} s: {_plainly(error)}") from error
    if at == 0:
        raise AudioError("no_frames", "it ends where its sound should begin")
    wanted = declared if end is None else min(end, declared) if declared is not None else None
    if wanted is not None and at < wanted - SHORT_SECONDS * rate:
        raise AudioError("truncated", f"it ends after {at} of the {wanted} frames that its header announces")


def _frames(container: Any, stream: Any, convert: Any) -> Iterator[Any]:
    for frame in container.decode(stream):
        frame.pts = None  # gaps in time stamps are no silence
        yield from convert.resample(frame)
    yield from convert.resample(None)


@contextmanager
def _opened(source: Path | bytes) -> Iterator[tuple[Any, Any]]:
    try:
        import av
    except ImportError as error:
        raise AudioError(
            "unsupported", "FFmpeg's formats need PyAV: `pip install 'tonemill[ffmpeg]'`, or convert it to FLAC or WAV"
        ) from error
    try:
        place = io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
        container = av.open(place, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError, UnicodeEncodeError) as error:
        raise AudioError("unreadable", f"not audio that can be read: {_plainly(error)}") from error
    with container:
        if not container.streams.audio:
            raise AudioError("no_frames", "it holds no sound, only pictures or data")
        yield container, container.streams.audio[0]


def _plainly(error: Exception) -> str:
    """FFmpeg's words without the path."""
    return str(getattr(error, "strerror", None) or error).split(": ")[0].split("] ")[-1].strip("'\" ")
