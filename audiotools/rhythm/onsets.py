"""How much begins at each moment of a sound: an onset envelope in three registers, from blocks, in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.waveform import Sound

HOP_MS: Final = 5.0
WINDOW_MS: Final = 20.0
EDGES_HZ: Final = (130.0, 2000.0)
"""Limits of the middle register: kick and bass are below it, hats and cymbals above."""

DRUMS_HZ: Final = ((30.0, 110.0), (600.0, 3000.0), (6500.0, 11000.0))
"""Bands in which a kick, a snare and a hi-hat are loudest compared with the other two."""

TONES_HZ: Final = 1500.0
"""Up to here chords and basses have their strongest partials."""
TONE_HOPS: Final = 8
"""Harmony changes slowly: one frame of so many is kept."""

_COMPRESSION: Final = 1000.0
_BANDS: Final = 40


@dataclass(frozen=True)
class Onsets:
    """An onset envelope.

    Args:
        strength: (registers, frames): how much louder low, middle and high bands became.
        level: (drums, frames): amplitude in the bands of DRUMS_HZ.
        tones: (bins, frames / TONE_HOPS, rounded up): a log spectrum up to TONES_HZ.
        hop_seconds: from one frame to the next; frame i describes the time i * hop_seconds.
        seconds: the length of the sound.
        frames: the same, in samples.
    """

    strength: Float32[np.ndarray, "3 frames"]
    level: Float32[np.ndarray, "3 frames"]
    tones: Float32[np.ndarray, "bins tone_frames"]
    hop_seconds: float
    seconds: float
    frames: int

    @property
    def total(self) -> Float32[np.ndarray, "frames"]:
        """All registers together, each weighted so that the strongest does not drown the others."""
        scale = self.strength.max(axis=1, keepdims=True)
        even = np.divide(self.strength, scale, out=np.zeros_like(self.strength), where=scale > 1e-6)
        loudness = scale / max(float(scale.max()), 1e-9)
        return (even * np.sqrt(loudness)).sum(axis=0)


def onsets(sound: Sound) -> Onsets:
    """The onset envelope of a sound: rises of log-compressed mel bands, summed per register (spectral flux).

    The channels are averaged. A quiet sound gives the same envelope as a loud one.
    """
    rate = sound.sample_rate
    peak = max((float(np.abs(block).max()) for block in sound.blocks() if block.size), default=0.0)
    hop = max(1, round(HOP_MS * rate / 1000))
    n_fft = 1 << max(5, (round(WINDOW_MS * rate / 1000) - 1).bit_length())
    filters, register = _filters(rate, n_fft)
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32) * np.float32(2 / (n_fft / 2))
    gain = np.float32(_COMPRESSION / peak) if peak > 0 else np.float32(0)
    frequencies = np.fft.rfftfreq(n_fft, 1 / rate)
    drums = np.stack([(frequencies >= min(low, 0.35 * rate)) & (frequencies < high) for low, high in DRUMS_HZ], axis=1)
    parts: list[np.ndarray] = []
    levels: list[np.ndarray] = []
    tones: list[np.ndarray] = []
    bins = max(1, int(np.count_nonzero(frequencies <= TONES_HZ)))
    spectra = 0
    before: np.ndarray | None = None
    frames = 0
    for spans, count in _framed(sound, n_fft, hop):
        frames += count
        if not len(spans):
            continue
        spectrum = np.abs(np.fft.rfft(spans * window, axis=1))
        levels.append(np.sqrt(np.square(spectrum) @ drums.astype(np.float64)).T.astype(np.float32))
        tones.append(np.log1p(gain * spectrum[-spectra % TONE_HOPS :: TONE_HOPS, :bins]).T.astype(np.float32))
        spectra += len(spectrum)
        bands = np.log1p(gain * spectrum @ filters)
        first = np.zeros_like(bands[:1]) if before is None else before
        rises = np.maximum(np.diff(bands, axis=0, prepend=first), 0)
        parts.append(np.stack([rises[:, register == r].sum(axis=1) for r in range(3)]))
        before = bands[-1:]
    strength = np.concatenate(parts, axis=1) if parts else np.zeros((3, 0))
    # A rise is between the centres of two frames: interpolation corrects this half hop.
    strength = (strength + np.pad(strength[:, 1:], ((0, 0), (0, 1)))) / 2
    level = np.concatenate(levels, axis=1) if levels else np.zeros((3, 0), np.float32)
    tone = np.concatenate(tones, axis=1) if tones else np.zeros((bins, 0), np.float32)
    return Onsets(strength.astype(np.float32), level, tone, hop / rate, frames / rate, frames)


def _framed(sound: Sound, n_fft: int, hop: int) -> Iterator[tuple[Float32[np.ndarray, "frames n_fft"], int]]:
    """Overlapping spans of the mean of all channels, centred on multiples of the hop; and samples read since."""
    # Log compression sees an attack as soon as it enters the window: a third of a window early, at every rate and for
    # drums of every kind (measured: 0.33 to 0.37), so the frames are moved by as much.
    held = np.zeros(n_fft // 2 + round(0.34 * n_fft), np.float32)
    for block in sound.blocks():
        # A long block becomes short ones, so that the spans (copies of each sample) stay small.
        for at in range(0, block.shape[1], 1 << 18):
            part = block[:, at : at + (1 << 18)]
            held = np.concatenate([held, part.mean(axis=0, dtype=np.float32)])
            count = max(0, (len(held) - n_fft) // hop + 1)
            if count:
                yield np.lib.stride_tricks.sliding_window_view(held, n_fft)[: count * hop : hop], part.shape[1]
                held = held[count * hop :]
            else:
                yield np.zeros((0, n_fft), np.float32), part.shape[1]
    held = np.concatenate([held, np.zeros(n_fft // 2, np.float32)])
    count = max(0, (len(held) - n_fft) // hop + 1)
    yield (
        np.lib.stride_tricks.sliding_window_view(held, n_fft)[: count * hop : hop]
        if count
        else np.zeros((0, n_fft), np.float32),
        0,
    )


def _filters(rate: int, n_fft: int) -> tuple[Float32[np.ndarray, "bins bands"], np.ndarray]:
    """Mel filters as columns, and the register that each belongs to."""
    import librosa

    top = min(rate / 2, 11000)
    bands = max(6, min(_BANDS, n_fft // 16))
    with np.errstate(all="ignore"):
        filters = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bands, fmin=30, fmax=top, norm=None)
    keep = filters.max(axis=1) > 0
    centres = librosa.mel_frequencies(n_mels=bands + 2, fmin=30, fmax=top)[1:-1][keep]
    return filters[keep].T.astype(np.float32), np.searchsorted(EDGES_HZ, centres)
