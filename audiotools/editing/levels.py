"""Measure how loud a sound is, in one reading of its blocks, and change that by a gain that is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from tonemill.audiotools.editing.loudness import Loudness, LoudnessMeter
from tonemill.audiotools.editing.rest import Extremes
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.shapes import Float32
from tonemill.audiotools.waveform import Flow, Sound, Waveform

FULL_SCALE: Final = 32767 / 32768
"""The highest sample of 16 bits: what touches it may have been clipped."""

CLIPPED_RUN: Final = 3
"""So many equal neighbours at full scale are a clipped peak; one or two may be a normalised one."""

_EQUAL: Final = np.float32(2e-6)
"""Neighbours of a flat top differ by no more: by rounding, where it was scaled after it was clipped."""


def to_db(amplitude: int | float) -> float | None:
    """Decibels of an amplitude, 1 being 0 dB; None for none at all."""
    return 20 * math.log10(amplitude) if amplitude > 0 else None


def to_amplitude(db: int | float) -> float:
    return 10.0 ** (db / 20)


@dataclass(frozen=True)
class Levels:
    """Measures of a sound.

    Args:
        frames: samples per channel.
        sample_rate: in hertz.
        peak_db: of the largest sample (not of the wave between samples, "true peak"); None for digital silence.
        rms_db: root mean square over all channels, a full-scale sine being -3.01 dB; None for digital silence.
        dc_offset: largest mean of a channel, 1 being full scale.
        clipping_share: of all samples, those in flat tops of `CLIPPED_RUN` or more at full scale or above, from 0 to 1.
            A float file may go above full scale without one.
        silence_share: share of time, from 0 to 1, in windows of 10 ms whose peak is under a level.
        loudness: None if it was not measured.
    """

    frames: int
    sample_rate: int
    peak_db: float | None
    rms_db: float | None
    dc_offset: float
    clipping_share: float
    silence_share: float
    loudness: Loudness | None


def measure(sound: Sound, silence_db: int | float = -60.0, loudness: bool = False) -> Levels:
    """Read a sound once, block by block, and measure it; where its blocks are cut changes nothing.

    Args:
        sound: any length.
        silence_db: windows with a lower peak are silence, in dB of full scale.
        loudness: whether to measure that too; it takes four times as long as all else.

    Raises:
        AudioError: not_finite: the samples hold NaN or infinite values.
    """
    meter = LoudnessMeter(sound.sample_rate, sound.channels) if loudness else None
    clipping = _Clipping([0] * sound.channels, [np.float32(0)] * sound.channels)
    extremes = Extremes(sound.sample_rate, sound.channels)
    frames, peak = 0, 0.0
    squares, sums = 0.0, np.zeros(sound.channels)
    for block in sound.blocks():
        if not block.shape[1]:
            continue
        frames += block.shape[1]
        highest, lowest = float(block.max()), float(block.min())
        if not math.isfinite(highest - lowest):
            raise AudioError("not_finite", "its samples hold NaN or infinite values")
        loudest = max(highest, -lowest)
        peak = max(peak, loudest)
        squares += sum(float(np.einsum("t,t->", row, row, dtype=np.float64)) for row in block)
        sums += block.sum(axis=1, dtype=np.float64)
        extremes.take(block)
        clipping.take(block, loudest)
        if meter:
            meter.take(block)
    samples = max(1, frames * sound.channels)
    return Levels(
        frames=frames,
        sample_rate=sound.sample_rate,
        peak_db=to_db(peak),
        rms_db=to_db(math.sqrt(squares / samples)),
        dc_offset=float(np.abs(sums).max()) / max(1, frames),
        clipping_share=clipping.samples / samples,
        silence_share=extremes.silence_share(to_amplitude(silence_db)),
        loudness=meter.read() if meter else None,
    )


def amplified(sound: Sound, gain_db: int | float) -> Sound:
    """A sound with another level, as a Flow if it was one; nothing is clipped here."""
    return scaled(sound, to_amplitude(gain_db))


def scaled(sound: Sound, by: int | float) -> Sound:
    """A sound times a factor, which may turn it upside down; as a Flow if it was one."""
    factor = np.float32(by)
    if isinstance(sound, Waveform):
        return Waveform(sound.samples * factor, sound.sample_rate)

    def blocks() -> Iterator[Float32[np.ndarray, "channels time"]]:
        return (block * factor for block in sound.blocks())

    return Flow(blocks, sound.sample_rate, sound.channels, sound.bits)


@dataclass
class _Clipping:
    """Counts samples in flat tops at full scale, across blocks.

    Args:
        runs: of each channel, how many samples at its end so far are at full scale and equal the one before.
        last: sample of each channel so far.
        samples: counted.
    """

    runs: list[int]
    last: list[np.float32]
    samples: int = 0

    def take(self, block: np.ndarray, loudest: float) -> None:
        if loudest < FULL_SCALE:
            self.runs = [0] * len(self.runs)
        else:
            for channel, row in enumerate(block):
                equal = np.abs(np.diff(row, prepend=self.last[channel])) <= _EQUAL
                self.runs[channel] = self._take_row(equal & (np.abs(row) >= FULL_SCALE), self.runs[channel])
        self.last = list(block[:, -1])

    def _take_row(self, flat: np.ndarray, before: int) -> int:
        """Count one channel's flat tops, each with its first sample; returns the length of the run at the end."""
        edges = np.flatnonzero(np.diff(flat, prepend=False, append=False))
        starts, ends = edges[::2], edges[1::2]
        lengths, least = ends - starts, CLIPPED_RUN - 1
        if before and len(starts) and starts[0] == 0:
            total = before + int(lengths[0])
            if total >= least:
                # What came before was counted already if it was long enough by itself.
                self.samples += int(lengths[0]) + (before + 1 if before < least else 0)
            if ends[0] == len(flat):
                return total
            lengths = lengths[1:]
        self.samples += int((lengths[lengths >= least] + 1).sum())
        return int(lengths[-1]) if len(lengths) and ends[-1] == len(flat) else 0
