"""Fingerprint a sound: identify it, find its copies, and measure its quality among them.

A fingerprint holds four things: a digest of the decoded samples; an outline, a short vector that is nearly the same for
all copies of a recording, to find candidates by; a sketch, the sound at 16 kHz and 8 bits, to compare two candidates by
(`audiotools.likeness`); and measures of quality, to choose among copies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Complex64, Float, Float32, Float64, Int8

from tonemill.audiotools.editing.channels import mixed
from tonemill.audiotools.editing.resampling import resample_blocks
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Sound

VERSION: Final = 1
"""Raise it when the same sound gets another fingerprint."""

RATE: Final = 16000
"""Of sketches, in hertz."""

FIRST: Final = 60 * RATE
LATER: Final = 10 * RATE
"""A sketch holds the first minute, and ten seconds from each doubling of 80 s on: an hour takes 2 minutes' room."""

SCALE_SAMPLES: Final = 256
WINDOW: Final = 256
HOP: Final = 128

_BANDS: Final = 12
_PARTS: Final = 8
OUTLINE: Final = _PARTS * (_BANDS + 1)
_OUTLINE_HZ: Final = (100.0, 3600.0)
_FLOOR_DB: Final = 25.0
_SOUNDING_DB: Final = -30.0
_SPECTRUM: Final = 4096
_WALL_DB: Final = 25.0


@dataclass(frozen=True)
class Fingerprint:
    """The fingerprint of one sound.

    Args:
        pcm_digest: SHA-256 of rate, channels and samples as float32: 16 bits are equal in any lossless file, and in
            24 bits with zeros below.
        sample_rate: in hertz.
        bandwidth_hz: below it there is sound; half the rate, or where the spectrum ends at a wall.
        bits: 8, 16 or 24, the fewest that hold every sample.
        clipped: three or more samples in a row stand at full scale.
        sounding_seconds: from the first to the last sound above -30 dB of the peak.
        outline: (104,), decibels.
        levels: one for each 256 samples of the sketch.
        sketch: the sound in 8 bits, emphasised, at `RATE`.
    """

    pcm_digest: str
    sample_rate: int
    bandwidth_hz: float
    bits: int
    clipped: bool
    sounding_seconds: float
    outline: Float32[np.ndarray, "104"]
    levels: Float32[np.ndarray, "blocks"]
    sketch: Int8[np.ndarray, "time"]

    @property
    def is_silent(self) -> bool:
        return not self.levels.any()

    def pieces(self) -> list[Float32[np.ndarray, "_"]]:
        """The sketch as samples: the first minute, then ten seconds each."""
        samples = self.sketch * np.repeat(self.levels, SCALE_SAMPLES)[: self.sketch.size]
        cuts = range(FIRST, samples.size, LATER)
        return np.split(samples, list(cuts))


def fingerprint(sounds: Iterable[Sound]) -> Fingerprint:
    """Fingerprint sounds one after another as one: the clips of a source, or its roles.

    Args:
        sounds: of any rates and channels; read block by block, once.

    Raises:
        AudioError: no_frames: there are no samples; and what reading them raises.
    """
    gauge, sketcher = _Gauge(), _Sketcher()
    for sound in sounds:
        gauge.begin(sound.sample_rate, sound.channels)
        for block in resample_blocks(gauge.watched(sound.blocks()), sound.sample_rate, RATE, quality="fast"):
            sketcher.add(block[0])
    if not gauge.frames:
        raise AudioError("no_frames", "there is no sound to fingerprint")
    pieces = [_emphasised(piece) for piece in sketcher.pieces()]
    levels, sketch = _quantised(np.concatenate(pieces))
    return Fingerprint(
        gauge.digest.hexdigest(),
        gauge.sample_rate,
        gauge.bandwidth_hz(),
        gauge.bits,
        gauge.clipped,
        sketcher.sounding_seconds(),
        outline(pieces[0]),
        levels,
        sketch,
    )


class _Gauge:
    """Measures sounds at their own rate while they pass."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.frames = 0
        self.sample_rate = 0
        self.bits = 8
        self.clipped = False
        self._power: Any = np.zeros(_SPECTRUM // 2 + 1)

    def begin(self, sample_rate: int, channels: int) -> None:
        self.digest.update(f"{sample_rate} {channels}\n".encode())
        self.sample_rate = max(self.sample_rate, sample_rate)

    def watched(self, blocks: Iterator[Float32[np.ndarray, "channels _"]]) -> Iterator[Float32[np.ndarray, "1 _"]]:
        """The blocks in mono, measured on the way."""
        window = np.hanning(_SPECTRUM).astype(np.float32)
        for block in blocks:
            # Zero has two signs in floating point and one in whole numbers.
            self.digest.update(np.ascontiguousarray(block.T + np.float32(0)).data)
            self.frames += block.shape[1]
            while self.bits < 24 and (block * 2.0 ** (self.bits - 1) % 1).any():
                self.bits += 8
            full = np.abs(block) >= 1 - 2**-14
            self.clipped |= bool((full[:, 2:] & full[:, 1:-1] & full[:, :-2]).any())
            mono = mixed(block, "mono")
            # Every other frame will do for an average.
            for start in range(0, max(1, mono.shape[1] - _SPECTRUM), 2 * _SPECTRUM):
                part = mono[0, start : start + _SPECTRUM]
                self._power += np.abs(np.fft.rfft(part * window[: part.size], _SPECTRUM)) ** 2
            yield mono

    def bandwidth_hz(self) -> float:
        """Where the spectrum falls by 25 dB within 500 Hz and stays down, as after resampling up or lossy coding."""
        width = max(1, round(500 * _SPECTRUM / self.sample_rate))
        count = self._power.size // width
        bands = 10 * np.log10(self._power[: count * width].reshape(count, width).mean(axis=1) + 1e-12)
        above = np.maximum.accumulate(bands[::-1])[::-1]
        # Below 3 kHz tones fall as steeply; one band between is the slope itself.
        low = round(3000 * _SPECTRUM / self.sample_rate / width)
        drops = {edge: bands[edge] - above[edge + 2] for edge in range(low, count - 2)}
        wall = max(drops, key=lambda edge: drops[edge], default=None)
        nyquist = self.sample_rate / 2
        if wall is None or drops[wall] < _WALL_DB:
            return nyquist
        return float(min(nyquist, (wall + 1.5) * width * self.sample_rate / _SPECTRUM))


class _Sketcher:
    """Keeps those parts of a sound that make its sketch, and its envelope."""

    def __init__(self) -> None:
        self._parts: list[list[Any]] = [[]]
        self._at = 0
        self._peaks: list[Any] = []
        self._rest: Any = np.zeros(0, np.float32)

    def add(self, samples: Float32[np.ndarray, "_"]) -> None:
        self._keep(samples)
        self._at += samples.size
        joined = np.concatenate([self._rest, np.abs(samples)])
        whole = joined.size // (RATE // 100) * (RATE // 100)
        self._peaks.append(joined[:whole].reshape(-1, RATE // 100).max(axis=1, initial=0.0))
        self._rest = joined[whole:]

    def _keep(self, samples: Any) -> None:
        begin, end = self._at, self._at + samples.size
        number, start, stop = 0, 0, FIRST
        while start < end:
            while len(self._parts) <= number:
                self._parts.append([])
            if stop > begin:
                self._parts[number].append(samples[max(0, start - begin) : stop - begin].copy())
            number += 1
            start = 80 * RATE << (number - 1)
            stop = start + LATER

    def pieces(self) -> list[Float32[np.ndarray, "_"]]:
        return [np.concatenate(parts) for parts in self._parts if parts]

    def sounding_seconds(self) -> float:
        peaks = np.concatenate([*self._peaks, self._rest.max(initial=0.0, keepdims=True)])
        loud = np.flatnonzero(peaks >= peaks.max() * 10 ** (_SOUNDING_DB / 20))
        return float(loud[-1] - loud[0] + 1) / 100 if peaks.max() > 0 else 0.0


def _emphasised(samples: Float32[np.ndarray, "time"]) -> Float32[np.ndarray, "time"]:
    """Raise the spectrum by 6 dB an octave up to 1.5 kHz, without delay, so that 8 bits hold all of it."""
    spectrum = np.fft.rfft(samples, samples.size + SCALE_SAMPLES)
    hertz = np.fft.rfftfreq(samples.size + SCALE_SAMPLES, 1 / RATE)
    return np.fft.irfft(spectrum * (np.minimum(1, hertz / 1500) + 0.05), samples.size + SCALE_SAMPLES)[
        : samples.size
    ].astype(np.float32)


def _quantised(samples: Float32[np.ndarray, "time"]) -> tuple[Float32[np.ndarray, "blocks"], Int8[np.ndarray, "time"]]:
    blocks = -(-samples.size // SCALE_SAMPLES)
    padded = np.pad(samples, (0, blocks * SCALE_SAMPLES - samples.size)).reshape(blocks, SCALE_SAMPLES)
    levels = (np.abs(padded).max(axis=1) / 127).astype(np.float32)
    # Blocks 120 dB and more below full scale count as silence.
    levels[levels < 1e-8] = 0
    scaled = np.divide(padded, levels[:, None], out=np.zeros_like(padded), where=levels[:, None] > 0)
    return levels, np.rint(scaled).astype(np.int8).reshape(-1)[: samples.size]


def spectra(samples: Float[np.ndarray, "time"]) -> Complex64[np.ndarray, "frames 129"]:
    """The short-time spectrum at `RATE`: Hann windows of 16 ms, 8 ms apart, with silence around."""
    padded = np.pad(samples.astype(np.float32), (WINDOW // 2, WINDOW + HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    window = np.hanning(WINDOW + 1)[:WINDOW].astype(np.float32)
    return np.fft.rfft(frames * window, axis=1).astype(np.complex64)


def outline(samples: Float32[np.ndarray, "time"]) -> Float32[np.ndarray, "104"]:
    """The course of the spectrum between 0.1 and 3.6 kHz, in eight parts of equal energy, and how long each part is.

    Parts of equal energy begin and end at the same sounds whatever silence comes before, and need no level; their
    spectra are shares, in decibels, so gain does not matter; above 3.6 kHz copies at low rates have nothing.
    """
    energy = np.cumsum(np.square(samples, dtype=np.float64))
    if not energy.size or energy[-1] <= 0:
        return np.zeros(OUTLINE, np.float32)
    # Frames are counted from the onset, or a delay of half a frame would change those of a short sound.
    onset = int(np.searchsorted(energy, 0.005 * energy[-1]))
    from_onset = np.pad(samples, (WINDOW, 0))[onset:]
    power = np.abs(spectra(from_onset)) ** 2
    edges = np.geomspace(*_OUTLINE_HZ, _BANDS + 1) * WINDOW / RATE
    bands = _split_bins(power, edges)
    course = np.concatenate([np.zeros((1, _BANDS)), np.cumsum(bands, axis=0)])
    total = course.sum(axis=1)
    if total[-1] <= 0:
        return np.zeros(OUTLINE, np.float32)
    marks = np.interp(np.linspace(0.005, 0.995, _PARTS + 1) * total[-1], total, np.arange(total.size))
    at = np.stack([np.interp(marks, np.arange(total.size), course[:, band]) for band in range(_BANDS)])
    shares = np.diff(at, axis=1) * _PARTS / total[-1]
    colour = 10 * np.log10(np.maximum(shares, 0) + 10 ** (-_FLOOR_DB / 10))
    # A part twice as long counts like a band 3 dB off; a short part counts less: 32 ms is the resolution in time.
    lengths = 10 * np.log10(np.diff(marks) + 4)
    return np.concatenate([colour.T.reshape(-1), lengths]).astype(np.float32)


def _split_bins(
    power: Float32[np.ndarray, "frames bins"], edges: Float64[np.ndarray, "_"]
) -> Float64[np.ndarray, "_ _"]:
    """Power between edges given in bins; a bin that an edge cuts counts on both sides by its share."""
    course = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1, dtype=np.float64)], axis=1)
    # Bin k reaches from k - 1/2 to k + 1/2.
    places = edges + 0.5
    below = np.floor(places).astype(int)
    at = course[:, below] + (places - below) * (course[:, below + 1] - course[:, below])
    return np.diff(at, axis=1)
