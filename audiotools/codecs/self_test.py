"""Try the codecs that the installed libraries bring: encode a little sound, read it back, and hold the two together."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from tonemill.audiotools.codecs import files
from tonemill.audiotools.synthetic import sweep

LIBSNDFILE: Final = {
    "wav wave": ("WAV", "PCM_16", 60.0),
    "rf64": ("RF64", "PCM_16", 60.0),
    "w64": ("W64", "PCM_16", 60.0),
    "aif aiff aifc": ("AIFF", "PCM_16", 60.0),
    "au snd": ("AU", "PCM_16", 60.0),
    "caf": ("CAF", "PCM_16", 60.0),
    "sph": ("NIST", "PCM_16", 60.0),
    "flac": ("FLAC", "PCM_16", 60.0),
    "ogg oga": ("OGG", "VORBIS", 10.0),
    "opus": ("OGG", "OPUS", 10.0),
    "mp3": ("MP3", "MPEG_LAYER_III", 10.0),
}
"""By suffixes: libsndfile's container and sample format, and the smallest signal-to-error ratio, in dB."""

FFMPEG: Final = {
    "aac m4a m4b 3gp": "aac",
    "alac m4a": "alac",
    "ac3": "ac3",
    "mp2 mpeg mpg": "mp2",
    "wma wmv": "wmav2",
    "weba webm mka mkv": "opus",
    "ogv": "vorbis",
    "wv": "wavpack",
    "ape": "ape",
    "tta": "tta",
    "shn": "shorten",
    "spx": "speex",
    "dsf": "dsd_lsbf",
    "mpc": "mpc7",
    "amr": "amrnb",
    "ra": "cook",
    "avi flv": "mp3",
    "mov mp4 m4v": "aac",
}
"""By suffixes: the decoder that FFmpeg needs for them."""

RATE: Final = 48_000
FRAMES: Final = 9_600


class Tried(NamedTuple):
    """A codec and what came of it.

    Args:
        suffixes: of the files that need it.
        error: why it does not work; empty where it does.
    """

    suffixes: str
    error: str


def libsndfile() -> Iterator[Tried]:
    """Encode and decode a fifth of a second with every codec of libsndfile that `files` reads."""
    import soundfile

    sound = sweep(200, 2000, FRAMES, RATE)[0]
    for suffixes, (container, subtype, below_db) in LIBSNDFILE.items():
        try:
            buffer = io.BytesIO()
            soundfile.write(buffer, sound, RATE, format=container, subtype=subtype)
            read = files.read(buffer.getvalue()).whole().samples[0]
        except Exception as error:
            yield Tried(suffixes, f"{type(error).__name__}: {error}")
            continue
        yield Tried(suffixes, _difference(sound, read, below_db))


def _difference(sound: np.ndarray, read: np.ndarray, below_db: float) -> str:
    # The ends of a lossy codec's sound are its own affair.
    inner = slice(FRAMES // 4, 3 * FRAMES // 4)
    if len(read) < inner.stop:
        return f"{len(read)} of {FRAMES} frames came back"
    level, error = (float(np.square(one[inner]).mean()) for one in (sound, read - sound[: len(read)]))
    found = 10 * np.log10(level / max(error, 1e-30))
    return (
        ""
        if found >= below_db
        else f"the error is {found:.0f} dB below the sound, and at least {below_db:.0f} was expected"
    )


def pyav() -> Iterator[Tried]:
    """Ask FFmpeg, as PyAV brings it, for every decoder that its suffixes need.

    Raises:
        ImportError: PyAV is not installed.
    """
    import av

    for suffixes, decoder in FFMPEG.items():
        try:
            codec: Any = av.Codec(decoder, "r")
            yield Tried(suffixes, "" if codec.is_decoder else f"{decoder} only encodes")
        except Exception as error:
            yield Tried(suffixes, f"no decoder {decoder}: {type(error).__name__}")
