"""Change training clips at random where they are read: phase, level, polarity, silence, speed, place, dither.

Each change is a function of a clip (channels, time) and a NumPy generator. The loader seeds the generator by the run's
seed, the epoch and the example's key, so that a batch is the same for any number of loader processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32

Clip = Float32[np.ndarray, "_ _"]
Change = Callable[[Clip, np.random.Generator, int], Clip]
"""A change of a clip, with random draws, at a sample rate."""

POLE_RADIUS: Final = 0.99
PHASE_HZ: Final = (20.0, 2000.0)
GAIN_DB: Final = (-6.0, 3.0)
MUTE_SHARE: Final = 0.1
FASTEST: Final = 2 ** (2 / 12)
"""Of a change of speed: two semitones either way."""


def phase(clip: Clip, draws: np.random.Generator, sample_rate: int) -> Clip:
    """A second-order all-pass: other phases around a frequency, the same magnitudes.

    H(z) = (r^2 - 2 r cos(w) z^-1 + z^-2) / (1 - 2 r cos(w) z^-1 + r^2 z^-2), with r = 0.99 and the frequency drawn
    log-uniformly from 20 to 2000 Hz (Caillon and Esling, 2021, https://arxiv.org/abs/2111.05011, section 4).
    """
    from scipy.signal import lfilter

    low, high = PHASE_HZ
    frequency = low * (high / low) ** draws.random()
    angle = 2 * math.pi * min(frequency / sample_rate, 0.499)
    poles = np.array([1.0, -2 * POLE_RADIUS * math.cos(angle), POLE_RADIUS**2])
    return lfilter(poles[::-1], poles, clip, axis=1).astype(np.float32)


def gain(clip: Clip, draws: np.random.Generator, sample_rate: int) -> Clip:
    """From -6 to 3 dB, and never above full scale where the clip was below it."""
    factor = 10 ** (draws.uniform(*GAIN_DB) / 20)
    peak = float(np.abs(clip).max(initial=0))
    return clip * np.float32(min(factor, max(1.0, 1 / peak)) if peak > 0 else factor)


def polarity(clip: Clip, draws: np.random.Generator, sample_rate: int) -> Clip:
    """Every other clip upside down."""
    return -clip if draws.random() < 0.5 else clip


def mute(clip: Clip, draws: np.random.Generator, sample_rate: int) -> Clip:
    """One clip in ten is silent, so that silence is learned."""
    return np.zeros_like(clip) if draws.random() < MUTE_SHARE else clip


def dequantize(clip: Clip, draws: np.random.Generator, sample_rate: int) -> Clip:
    """Noise of one step of 16 bits, uniform around 0, in place of the steps."""
    return clip + (draws.random(clip.shape, np.float32) - np.float32(0.5)) / 32768


def shift(clip: Clip, draws: np.random.Generator, sample_rate: int) -> Clip:
    """Rotate in time: the end goes on at the beginning, as in a loop."""
    return np.roll(clip, int(draws.integers(clip.shape[1])), axis=1)


def speed(clip: Clip, draws: np.random.Generator, sample_rate: int) -> Clip:
    """Faster or slower by up to two semitones, and pitched with it; the clip gets shorter or longer."""
    from tonemill.audiotools.editing.resampling import resample

    factor = FASTEST ** draws.uniform(-1, 1)
    return resample(clip, round(sample_rate * factor), sample_rate)


CHANGES: Final[Mapping[str, Change]] = {
    one.__name__: one for one in (speed, shift, phase, polarity, gain, mute, dequantize)
}
"""By name, in the order in which they are applied."""


@dataclass(frozen=True)
class Augmentation:
    """Changes that a model's training clips go through, all roles alike.

    Args:
        names: of `CHANGES`.
        sample_rate: of the clips, in hertz.
        length: samples of a changed clip.
    """

    names: tuple[str, ...]
    sample_rate: int
    length: int

    @property
    def read_length(self) -> int:
        """Samples that must be read for the fastest change of speed to leave enough."""
        return math.ceil(self.length * FASTEST) + 1 if "speed" in self.names else self.length

    def __call__(self, audio: Mapping[str, Clip], draws: np.random.Generator) -> dict[str, Clip]:
        """Changed clips (channels, length); each role goes through the same draws.

        Args:
            audio: by role, (channels, read_length).
            draws: seeded for this example and epoch.
        """
        seed = draws.integers(2**63)
        changed = {}
        for role, clip in audio.items():
            same = np.random.default_rng(seed)
            for name, change in CHANGES.items():
                if name in self.names:
                    clip = change(clip, same, self.sample_rate)
            changed[role] = np.ascontiguousarray(clip[:, : self.length])
        return changed
