"""Small pictures of clips for a web page: outlines as SVG paths, spectrograms as grey images that a page may colour."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.mel import FLOOR_DB, mel_spectrogram_db

WIDTH: Final = 1000
"""Of outlines, in units of their view box; HEIGHT likewise, with 0 in the middle."""

HEIGHT: Final = 100

_SPANS: Final = 180
_FRAMES: Final = 280
_BANDS: Final = 72


def outline_path(samples: Float32[np.ndarray, "channels time"], peak: float = 1.0, spans: int = _SPANS) -> str:
    """The extremes of a clip over time, all channels together, as the `d` of an SVG path in a WIDTH x HEIGHT box.

    No peak falls between spans. Samples beyond `peak` are cut at the edge.

    Args:
        samples: (channels, time), finite.
        peak: the amplitude that reaches the edge, more than 0.
        spans: how many extremes, at most.
    """
    time = samples.shape[1]
    if not time or not samples.shape[0]:
        return f"M0 {HEIGHT // 2}H{WIDTH}"
    starts = np.unique(np.linspace(0, time, min(spans, time) + 1).astype(int)[:-1])
    highest = np.maximum.reduceat(samples.max(axis=0), starts)
    lowest = np.minimum.reduceat(samples.min(axis=0), starts)
    middles = (starts + np.append(starts[1:], time)) / 2 * WIDTH / time
    above = _points(middles, highest / peak)
    below = _points(middles[::-1], lowest[::-1] / peak)
    return f"M{'L'.join(above + below)}Z"


def line_path(samples: Float32[np.ndarray, "time"], peak: float = 1.0) -> str:
    """A signal as a line, as the `d` of an SVG path in the same box, `peak` reaching its edge."""
    if samples.size < 2:
        return f"M0 {HEIGHT // 2}H{WIDTH}"
    return f"M{'L'.join(_points(np.linspace(0, WIDTH, samples.size), samples / (peak or 1.0)))}"


def spectrogram_image(samples: Float32[np.ndarray, "channels time"], sample_rate: int) -> bytes:
    """The log-mel spectrogram, the mean of all channels, as a grey WebP: black is FLOOR_DB, white a full-scale sine.

    Time runs to the right, low bands lie below. Columns are at least 2.5 ms apart, so that a short clip is small.

    Args:
        samples: (channels, time), finite.
        sample_rate: in hertz.
    """
    from PIL import Image

    seconds = samples.shape[1] / sample_rate
    hop_ms = max(2.5, 1000 * seconds / _FRAMES)
    levels_db = np.mean([_levels_db(channel[None], sample_rate, hop_ms) for channel in samples], axis=0)
    grey = np.rint((levels_db - FLOOR_DB) * (255 / -FLOOR_DB)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grey[::-1])).save(buffer, "WEBP", quality=60, method=4)
    return buffer.getvalue()


def _levels_db(
    mono: Float32[np.ndarray, "1 time"], sample_rate: int, hop_ms: int | float
) -> Float32[np.ndarray, "n_mels frames"]:
    return mel_spectrogram_db(mono, sample_rate, n_mels=_BANDS, hop_ms=hop_ms)[0]


def _points(x: np.ndarray, y: np.ndarray) -> list[str]:
    """Points of a path; y is 1 at the top and -1 at the bottom."""
    down = (HEIGHT / 2) * (1 - np.clip(y, -1, 1))
    return [f"{across:.0f} {one:.1f}".removesuffix(".0") for across, one in zip(x, down, strict=True)]
