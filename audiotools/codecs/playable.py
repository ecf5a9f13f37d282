"""Encode a clip for a web page: small, and playable by every browser of today, phones' too."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.editing.resampling import resample
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Waveform

EXACT_BYTES: Final = 40_000
"""A clip whose FLAC is no larger stays exact; a longer one becomes an MP3, for not every Safari plays Vorbis."""

_LEAST_RATIO: Final = 10
"""Sound that is no silence does not become smaller than a tenth as FLAC, so a long clip is not tried."""

_MP3_RATES: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_MP3_LEVEL: Final = 0.4


@dataclass(frozen=True)
class Playable:
    """An encoded clip.

    Args:
        data: a whole file.
        mime: its type, as `audio/flac`.
    """

    data: bytes
    mime: str


def playable(clip: Waveform) -> Playable:
    """Encode as FLAC of 16 bits if that is small, else as MP3 (about 100 kbit/s for stereo, half of it for mono).

    Channels after the second are left out, rates that browsers or the codec lack are resampled, and samples
    beyond full scale are clipped.

    Args:
        clip: of any length but 0, with finite samples.

    Raises:
        AudioError: no_frames: it is empty; not_finite: it holds NaN or infinite values.
    """
    import soundfile

    if not clip.frames:
        raise AudioError("no_frames", "there is no sound to play")
    if not np.isfinite(clip.samples).all():
        raise AudioError("not_finite", "its samples hold NaN or infinite values")
    clip = _at_common_rate(Waveform(clip.samples[:2], clip.sample_rate))
    if clip.samples.size * 2 <= EXACT_BYTES * _LEAST_RATIO:
        exact = encode(clip, "flac", 16).data
        if len(exact) <= EXACT_BYTES:
            return Playable(exact, "audio/flac")
    buffer = io.BytesIO()
    samples = np.clip(clip.samples, -1, 1).T
    soundfile.write(
        buffer,
        samples,
        clip.sample_rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="VARIABLE",
        compression_level=_MP3_LEVEL,
    )
    return Playable(buffer.getvalue(), "audio/mpeg")


def _at_common_rate(clip: Waveform) -> Waveform:
    """At the least rate of MP3 that keeps all of it, which for rates above the highest is the highest."""
    if clip.sample_rate in _MP3_RATES:
        return clip
    rate = next((one for one in _MP3_RATES if one >= clip.sample_rate), _MP3_RATES[-1])
    return Waveform(resample(clip.samples, clip.sample_rate, rate, quality="fast"), rate)
