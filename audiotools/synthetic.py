"""Sound from formulas: sines, sweeps and a drum machine, for tests that need the truth and a demo that needs music.

Every function is pure: equal arguments, and generators in equal states, give equal samples. A drum hit starts at its
first sample, peaks at 0.8, and has faded to nothing at its last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log, pi
from typing import Any, Final

import numpy as np
from jaxtyping import Float32
from numpy.random import Generator

from tonemill.audiotools.errors import UsageError

Number = int | float  # to beartype, an int is no float

RANGES: Final[dict[str, dict[str, tuple[float, float]]]] = {
    "kick": {"pitch_hz": (42, 68), "bend": (2, 7), "decay_ms": (220, 600), "click": (0.05, 0.4), "drive": (1, 3)},
    "snare": {"pitch_hz": (160, 230), "snap": (0.3, 0.8), "tone_hz": (3000, 7000), "decay_ms": (140, 320)},
    "hat": {"tone_hz": (6000, 9500), "metal": (0.2, 0.8), "decay_ms": (40, 450)},
    "clap": {"tone_hz": (900, 1700), "spread_ms": (7, 13), "decay_ms": (120, 350)},
}
"""The musical parameters of each voice, and between what they are drawn."""

PATTERNS: Final[dict[str, dict[str, str]]] = {
    "house": {"kick": "x...x...x...x...", "clap": "....x.......x...", "hat": "..x...x...x...x."},
    "boom bap": {"kick": "x......xx.x.....", "snare": "....x.......x..o", "hat": "x.o.x.o.x.o.x.o."},
    "break": {"kick": "x.x.......xx....", "snare": "....x..o.o..x..o", "hat": "x.x.x.x.x.x.x.x."},
    "electro": {"kick": "x..x..x...x..x..", "snare": "....x.......x...", "hat": "xoxoxoxoxoxoxoxo"},
    "waltz": {"kick": "x...........", "snare": "....x...x...", "hat": "x.o.x.o.x.oo"},
}
"""Sixteenth notes of one bar: x is a full hit, o a soft one."""

_MIX: Final = {"kick": (1.0, 0.0), "snare": (0.8, -0.1), "hat": (0.45, 0.5), "clap": (0.7, -0.4)}
"""Gain of each voice in a loop, and its place from left (-1) to right (1)."""
_VELOCITY: Final = {"x": 1.0, "o": 0.4}


def sine(
    frequency_hz: Number, frames: int, sample_rate: int, amplitude: Number = 0.5, phase: Number = 0.0
) -> Float32[np.ndarray, "1 time"]:
    """A sine (1, frames) that starts at `phase`, in radians."""
    seconds = np.arange(frames) / sample_rate
    return _mono(amplitude * np.sin(2 * pi * frequency_hz * seconds + phase))


def sweep(
    from_hz: Number, to_hz: Number, frames: int, sample_rate: int, amplitude: Number = 0.5
) -> Float32[np.ndarray, "1 time"]:
    """An exponential sine sweep (1, frames): equal time in every octave (Farina, 2000)."""
    seconds = np.arange(frames) / sample_rate
    rate = log(to_hz / from_hz) * sample_rate / frames
    # The phase is the integral of 2 pi from_hz exp(rate t).
    return _mono(amplitude * np.sin(2 * pi * from_hz / rate * np.expm1(rate * seconds)))


def kick(
    sample_rate: int,
    rng: Generator,
    pitch_hz: Number = 50.0,
    bend: Number = 4.0,
    decay_ms: Number = 400.0,
    click: Number = 0.2,
    drive: Number = 1.5,
) -> Float32[np.ndarray, "1 time"]:
    """A bass drum: a sine that falls to `pitch_hz` from `1 + bend` times that, a click, and soft clipping.

    Args:
        sample_rate: in hertz.
        rng: makes the noise of the click.
        pitch_hz: where the pitch comes to rest.
        bend: how far above that it starts, as a multiple.
        decay_ms: time to fall by 60 dB, before `drive`.
        click: loudness of the beater against the skin.
        drive: gain into the soft clipper, 1 or more.
    """
    seconds = _seconds(decay_ms, sample_rate)
    fall_seconds = 0.022
    # The phase is the integral of 2 pi pitch_hz (1 + bend exp(-t / fall_seconds)).
    phase = 2 * pi * pitch_hz * (seconds - bend * fall_seconds * np.expm1(-seconds / fall_seconds))
    body = np.sin(phase) * _decay(seconds, decay_ms)
    beater = click * _noise(rng, seconds.size, sample_rate, 1500, 9000) * _decay(seconds, 12)
    return _finished(np.tanh(drive * (body + beater)), sample_rate)


def snare(
    sample_rate: int,
    rng: Generator,
    pitch_hz: Number = 190,
    snap: Number = 0.5,
    tone_hz: Number = 5000,
    decay_ms: Number = 220,
) -> Float32[np.ndarray, "1 time"]:
    """A snare drum: two modes of the skin, and the wires as noise around `tone_hz`; `snap` is their share.

    Args are those of `kick`; `decay_ms` is of the wires.
    """
    seconds = _seconds(decay_ms, sample_rate)
    bend = 1 + 0.35 * np.exp(-seconds / 0.008)
    modes = [gain * np.sin(2 * pi * ratio * pitch_hz * seconds * bend) for ratio, gain in ((1, 1.0), (1.6, 0.5))]
    skin = sum(modes) * _decay(seconds, 0.6 * decay_ms)
    wires = _noise(rng, seconds.size, sample_rate, tone_hz / 3, 1.7 * tone_hz) * _decay(seconds, decay_ms)
    return _finished((1 - snap) * skin + snap * wires, sample_rate)


def hat(
    sample_rate: int, rng: Generator, tone_hz: Number = 7500, metal: Number = 0.5, decay_ms: Number = 80
) -> Float32[np.ndarray, "1 time"]:
    """A hi-hat, closed (short `decay_ms`) or open: noise and six detuned square waves (`metal`) above `tone_hz`.

    Args are those of `kick`.
    """
    seconds = _seconds(decay_ms, sample_rate)
    ratios = (1.0, 1.34, 1.52, 1.81, 2.33, 2.67)  # no two share a small whole ratio, so there is no pitch
    turning = 2 * pi * 317 * np.arange(-500, seconds.size + 500) / sample_rate
    squares = sum(np.sign(np.sin(ratio * turning + rng.uniform(0, 2 * pi))) for ratio in ratios)
    # The filter is circular: where the ends meet, all squares jump at once, so the ends are cut off.
    bronze = _band(np.asarray(squares), sample_rate, tone_hz, 0.45 * sample_rate)[500:-500]
    hiss = _noise(rng, seconds.size, sample_rate, tone_hz, 0.45 * sample_rate)
    return _finished((metal * bronze + (1 - metal) * hiss) * _decay(seconds, decay_ms), sample_rate)


def clap(
    sample_rate: int, rng: Generator, tone_hz: Number = 1200, spread_ms: Number = 10, decay_ms: Number = 220
) -> Float32[np.ndarray, "1 time"]:
    """A hand clap: four bursts of noise around `tone_hz`, `spread_ms` apart, the last one ringing for `decay_ms`.

    Args are those of `kick`.
    """
    seconds = _seconds(3 * spread_ms + decay_ms, sample_rate)
    envelope = np.zeros_like(seconds)
    for burst in range(4):
        since = seconds - burst * spread_ms / 1000
        length_ms = decay_ms if burst == 3 else 3 * spread_ms
        envelope = np.where(since >= 0, _decay(since, length_ms), envelope)
    hands = _noise(rng, seconds.size, sample_rate, 0.75 * tone_hz, 2.2 * tone_hz)
    return _finished(hands * envelope, sample_rate)


VOICES: Final[dict[str, Callable[..., Any]]] = {"kick": kick, "snare": snare, "hat": hat, "clap": clap}


def varied(voice: str, rng: Generator) -> dict[str, float]:
    """Draw musical parameters for a voice from `RANGES`; long decays are rarer than short ones."""
    drawn = {name: low * (high / low) ** rng.random() for name, (low, high) in RANGES[voice].items()}
    return {name: round(float(value), 3) for name, value in drawn.items()}


def hit(
    voice: str, sample_rate: int, seed: int, parameters: Mapping[str, float], channels: int = 1
) -> Float32[np.ndarray, "channels time"]:
    """One hit of a voice of `VOICES`; channels differ in their noise and in nothing else."""
    rng = np.random.default_rng(seed)
    return np.concatenate([VOICES[voice](sample_rate, rng, **parameters) for _ in range(channels)])


def loop(
    bpm: Number,
    bars: int,
    sample_rate: int,
    pattern: Mapping[str, str] = PATTERNS["house"],
    *,
    seed: int = 0,
    swing: Number = 0.5,
    beats_per_bar: int = 4,
    channels: int = 1,
    kit: Mapping[str, Mapping[str, float]] | None = None,
) -> Float32[np.ndarray, "channels time"]:
    """A drum loop that repeats without a seam: the tails past its end are added to its start.

    Args:
        bpm: beats per minute.
        bars: length.
        sample_rate: in hertz.
        pattern: for each voice, a sixteenth note per character (`x` full, `o` soft, `.` rest); repeated as needed.
        seed: draws the parameters of each voice and how hard each hit is struck.
        swing: where the second sixteenth of each pair falls: 0.5 is straight, 2/3 a triplet.
        beats_per_bar: 4 for most music, 3 for a waltz.
        channels: 1, or 2 with each voice in its place.
        kit: parameters of each voice; left out, the seed draws them.

    Returns:
        (channels, round(bars * beats_per_bar * 60 * sample_rate / bpm)), peak 0.8.

    Raises:
        UsageError: the tempo, or `bars`, is not above 0.
    """
    if bpm <= 0 or bars < 1:
        raise UsageError(f"a loop of {bars} bars at {bpm} BPM has no length; both must be above 0.")
    rng = np.random.default_rng(seed)
    sixteenth_frames = 15 * sample_rate / bpm
    result = np.zeros((channels, round(bars * beats_per_bar * 60 * sample_rate / bpm)))
    for voice, notes in pattern.items():
        sound = VOICES[voice](sample_rate, rng, **(varied(voice, rng) if kit is None else kit[voice]))
        folded = np.zeros((-(-sound.shape[1] // result.shape[1]), result.shape[1]))
        folded.flat[: sound.shape[1]] = sound
        gain, place = _MIX[voice]
        angle = (1 + place) * pi / 4
        sides = np.array([[np.cos(angle)], [np.sin(angle)]]) * 2**0.5 if channels == 2 else np.ones((channels, 1))
        for step in range(4 * beats_per_bar * bars):
            if velocity := _VELOCITY.get(notes[step % len(notes)]):
                start = round((step + (2 * swing - 1) * (step % 2)) * sixteenth_frames)
                struck = gain * velocity * rng.uniform(0.85, 1) * np.roll(folded.sum(axis=0), start)
                result += sides * struck
    return (result * (0.8 / max(np.abs(result).max(), 1e-9))).astype(np.float32)


def _mono(samples: np.ndarray) -> Float32[np.ndarray, "1 time"]:
    return samples.astype(np.float32)[None, :]


def _seconds(decay_ms: Number, sample_rate: int) -> np.ndarray:
    """The instants of a hit that lasts until it is 60 dB down."""
    return np.arange(max(64, round(decay_ms * sample_rate / 1000))) / sample_rate


def _decay(seconds: np.ndarray, decay_ms: Number) -> np.ndarray:
    """An exponential that falls by 60 dB in `decay_ms`."""
    return 10 ** (-3000 * seconds / decay_ms)


def _band(samples: np.ndarray, sample_rate: int, low_hz: Number, high_hz: Number) -> np.ndarray:
    """Keep a band, with slopes of 24 dB per octave and no phase shift, and bring it to an RMS of 0.3."""
    frequency_hz = np.fft.rfftfreq(samples.size, 1 / sample_rate)
    frequency_hz[0] = frequency_hz[1]
    gain = 1 / np.sqrt((1 + (low_hz / frequency_hz) ** 8) * (1 + (frequency_hz / high_hz) ** 8))
    banded = np.fft.irfft(np.fft.rfft(samples) * gain, samples.size)
    return banded * (0.3 / np.sqrt(np.mean(banded**2)))


def _noise(rng: Generator, frames: int, sample_rate: int, low_hz: Number, high_hz: Number) -> np.ndarray:
    return _band(rng.standard_normal(frames), sample_rate, low_hz, high_hz)


def _finished(samples: np.ndarray, sample_rate: int) -> Float32[np.ndarray, "1 time"]:
    """Fade the last 5 ms to nothing and bring the peak to 0.8."""
    fade = min(samples.size, round(0.005 * sample_rate))
    samples[-fade:] *= np.cos(np.linspace(0, pi / 2, fade)) ** 2
    return _mono(samples * (0.8 / np.abs(samples).max()))
