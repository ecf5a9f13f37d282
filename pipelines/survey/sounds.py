"""Make clips fit to be compared: one rate, one loudness, no limiting, and files that hold nothing but the sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tonemill.audiotools.codecs.encoding import encode
from tonemill.audiotools.editing.channels import laid_out
from tonemill.audiotools.editing.fades import faded
from tonemill.audiotools.editing.levels import scaled, to_amplitude
from tonemill.audiotools.editing.looped import dithered, loudness_lufs, resampled_loop, true_peak_db
from tonemill.audiotools.editing.resampling import resample
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Waveform

RATES: Final = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000)
"""Of a study; the next one above that of its clips, and at most the last."""

HIGHEST_PEAK_DB: Final = -1.0
"""True peak, dBTP: EBU R 128 for distribution."""

SHORTEST_SECONDS: Final = 0.1
LONGEST_LOOP_SECONDS: Final = 30.0
FADE_MS: Final = 10.0


@dataclass(frozen=True)
class Form:
    """How all clips of a study are made alike.

    Args:
        sample_rate: in hertz.
        mono: mixed to one channel.
        loops: clips are repeated; if not, they are cut to `seconds` and faded out.
        seconds: over which loudness is measured, at least; a loop is repeated until then.
        lufs: the loudness of each.
    """

    sample_rate: int
    mono: bool
    loops: bool
    seconds: float
    lufs: float


@dataclass(frozen=True)
class Level:
    """What was done to a clip's level.

    Args:
        lufs: before; None for silence, which has no loudness to match.
        gain_db: that was applied.
        peak_db: true peak after it; None for silence.
    """

    lufs: float | None
    gain_db: float
    peak_db: float | None


def study_rate(rates: Sequence[int], lowest: bool) -> int:
    """The rate of a study: that of its best clips, or of its poorest, which then bounds the band of all."""
    wanted = min(rates) if lowest else max(rates)
    return next((one for one in RATES if one >= wanted), RATES[-1])


def require_usable(waveform: Waveform, loops: bool) -> None:
    """Refuse a clip that cannot be rated.

    Raises:
        AudioError: too_short, or too_long for a loop.
    """
    seconds = waveform.frames / waveform.sample_rate
    if seconds < SHORTEST_SECONDS:
        raise AudioError("too_short", f"it has {seconds:.3f} s, and a clip must have at least {SHORTEST_SECONDS} s")
    if loops and seconds > LONGEST_LOOP_SECONDS:
        raise AudioError(
            "too_long", f"it has {seconds:.1f} s, and a loop may have {LONGEST_LOOP_SECONDS:.0f} s at most"
        )


def in_form(waveform: Waveform, form: Form) -> Waveform:
    """The clip at the study's rate and in its channels; its level is its own."""
    sound = laid_out(waveform, "mono").whole() if form.mono else waveform
    if form.loops:
        samples = resampled_loop(sound.samples, sound.sample_rate, form.sample_rate)
        return Waveform(np.ascontiguousarray(samples, np.float32), form.sample_rate)
    samples = resample(sound.samples, sound.sample_rate, form.sample_rate)
    frames = round(form.seconds * form.sample_rate)
    if samples.shape[1] <= frames:
        return Waveform(samples, form.sample_rate)
    cut = Waveform(np.ascontiguousarray(samples[:, :frames]), form.sample_rate)
    return faded(cut, frames, 0, round(FADE_MS * form.sample_rate / 1000), "cosine").whole()


def levels(clips: Sequence[Waveform], form: Form) -> list[Level]:
    """Gains that make all clips equally loud; all of them lower where one would otherwise pass `HIGHEST_PEAK_DB`."""
    measured = [
        (
            loudness_lufs(one.samples, one.sample_rate, form.seconds if form.loops else 0),
            true_peak_db(one.samples, one.sample_rate),
        )
        for one in clips
    ]
    gains = [0.0 if lufs is None else form.lufs - lufs for lufs, _ in measured]
    highest = max(
        (peak + gain for (_, peak), gain in zip(measured, gains, strict=True) if peak is not None), default=-99.0
    )
    lower = min(0.0, HIGHEST_PEAK_DB - highest)
    return [
        Level(lufs, gain + lower, None if peak is None else peak + gain + lower)
        for (lufs, peak), gain in zip(measured, gains, strict=True)
    ]


def flac_of(clip: Waveform, level: Level, seed: int) -> bytes:
    """A clip at its level as FLAC of 16 bits with dither, without metadata."""
    louder = scaled(clip, to_amplitude(level.gain_db)).whole()
    return encode(Waveform(dithered(louder.samples, seed), clip.sample_rate), "flac", 16).data
