"""Find the value at which a recording rests: 0, or where a converter with an offset (DC) puts silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from tonemill.audiotools.shapes import Float32
from tonemill.audiotools.waveform import Flow, Sound, Waveform

Number = int | float  # to beartype, an int is no float

WINDOW_SECONDS: Final = 0.01
"""Silence is judged by the extremes of 10 ms, because any wave passes through zero."""

AGREEING: Final = 0.75
"""The share of flat windows that must rest at one value: plateaus of a square wave rest at two."""

SWING: Final = 0.1
"""The share of a recording's range that must lie on either side of where it rests."""


class Extremes:
    """The largest and smallest sample of each channel in windows of 10 ms, across blocks.

    Args:
        sample_rate: in hertz.
        channels: of every block.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self.frames = 0
        self._window = max(1, round(sample_rate * WINDOW_SECONDS))
        self._highs: list[np.ndarray] = []
        self._lows: list[np.ndarray] = []
        self._held = np.zeros((channels, 0), np.float32)

    def take(self, block: Float32[np.ndarray, "channels time"]) -> None:
        self.frames += block.shape[1]
        samples = np.concatenate([self._held, block], axis=1) if self._held.shape[1] else block
        whole = samples.shape[1] // self._window * self._window
        if whole:
            self._enter(samples[:, :whole].reshape(len(samples), -1, self._window))
        self._held = samples[:, whole:].copy()

    def _enter(self, windows: np.ndarray) -> None:
        self._highs.append(windows.max(axis=2))
        self._lows.append(windows.min(axis=2))

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Highs and lows, each (channels, windows); the last window may be shorter."""
        held = [self._held] if self._held.shape[1] else []
        none = [np.zeros((len(self._held), 0), np.float32)]
        return (
            np.concatenate([*(self._highs or none), *(one.max(axis=1, keepdims=True) for one in held)], axis=1),
            np.concatenate([*(self._lows or none), *(one.min(axis=1, keepdims=True) for one in held)], axis=1),
        )

    def rest(self, level: Number) -> Float32[np.ndarray, " channels"]:
        """The value of each channel around which windows are flat: all zeros where that is within `level` of zero.

        What is shorter than a window is flat for want of time, and is not looked at.

        Args:
            level: amplitude up to which a window about its middle is flat, 1 being full scale.
        """
        highs, lows = (table[:, : self.frames // self._window] for table in self.tables())
        zeros = np.zeros(len(highs), np.float32)
        flat = ((highs - lows) / 2 <= level).all(axis=0)
        if not flat.any():
            return zeros
        middles = ((highs + lows) / 2)[:, flat]
        rest = np.median(middles, axis=1).astype(np.float32)
        agree = (abs(middles - rest[:, None]) <= level).all(axis=0).mean() >= AGREEING
        # Sound swings to both sides of its resting value; a plateau is at one end of the range.
        above, below = highs.max(axis=1) - rest, rest - lows.min(axis=1)
        inside = np.minimum(above, below) >= np.where(above + below > 2 * level, SWING * (above + below), 0)
        return rest if agree and inside.all() and abs(rest).max() > level else zeros

    def peak(self, rest: Float32[np.ndarray, " channels"]) -> float:
        """The largest distance of a sample from where its channel rests."""
        highs, lows = self.tables()
        if not highs.size:
            return 0.0
        return max(0.0, float((highs.max(axis=1) - rest).max()), float((rest - lows.min(axis=1)).max()))

    def silence_share(self, level: Number) -> float:
        """The share of time, from 0 to 1, in windows nearer to rest than `level`."""
        highs, lows = self.tables()
        rest = self.rest(level)[:, None]
        quiet = (np.maximum(highs - rest, rest - lows) < level).all(axis=0)
        frames = int(quiet.sum()) * self._window
        if quiet.size and quiet[-1] and self._held.shape[1]:
            frames -= self._window - self._held.shape[1]
        return frames / max(1, self.frames)


def extremes(sound: Sound) -> Extremes:
    """The extremes of a sound; reads it once."""
    found = Extremes(sound.sample_rate, sound.channels)
    for block in sound.blocks():
        found.take(block)
    return found


def means(sound: Sound) -> Float32[np.ndarray, " channels"]:
    """The mean of each channel; reads the sound once."""
    total, frames = np.zeros(sound.channels), 0
    for block in sound.blocks():
        total += block.sum(axis=1, dtype=np.float64)
        frames += block.shape[1]
    return (total / max(1, frames)).astype(np.float32)


def without(sound: Sound, offset: Float32[np.ndarray, " channels"]) -> Sound:
    """A sound less a constant of each channel, as a Flow if it was one."""
    column = offset[:, None]
    if isinstance(sound, Waveform):
        return Waveform(sound.samples - column, sound.sample_rate)

    def blocks() -> Iterator[Float32[np.ndarray, "channels time"]]:
        return (block - column for block in sound.blocks())

    return Flow(blocks, sound.sample_rate, sound.channels, sound.bits)


def high_passed(sound: Sound, hertz: Number) -> Sound:
    """A sound with the band below a frequency removed, as a Flow if it was one.

    A Butterworth filter of second order, which starts as if the first sample had stood for ever: an offset leaves
    no click.

    Args:
        sound: any length.
        hertz: where it is 3 dB down; must be below half the sample rate.
    """
    from scipy.signal import butter, sosfilt, sosfilt_zi

    sections = butter(2, hertz, "highpass", fs=sound.sample_rate, output="sos")

    def blocks() -> Iterator[Float32[np.ndarray, "channels time"]]:
        state = None
        for block in sound.blocks():
            if not block.shape[1]:
                continue
            if state is None:
                state = sosfilt_zi(sections)[:, None, :] * block[None, :, :1]
            passed, state = sosfilt(sections, block.astype(np.float64), axis=1, zi=state)
            yield passed.astype(np.float32)

    if isinstance(sound, Waveform):
        return Flow(blocks, sound.sample_rate, sound.channels).whole()
    return Flow(blocks, sound.sample_rate, sound.channels, sound.bits)
