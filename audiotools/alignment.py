"""How a wet recording lies against its dry source: delay, polarity, gain, clock drift, and how sure that is.

Windows spread over the pair are correlated in a whitened spectrum (generalized cross-correlation with a partial phase
transform: Knapp and Carter, 1976), which stays sharp through distortion, filters, compression and reverb: what arrives
first and most alike makes the peak. Windows of a true pair agree on one delay, or on one that moves evenly with the
clocks; those of strangers agree on nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float, Float32

from tonemill.audiotools.resampling import resample_blocks, resampled_length
from tonemill.audiotools.slicing import spans
from tonemill.audiotools.waveform import Flow, Sound

WHITENING: Final = 0.8
"""0 is plain correlation, whose peak is as wide as the music's; 1 whitens all, silent bands included."""
BAND_HZ: Final = (60.0, 9000.0)
WINDOW_SECONDS: Final = 2.5
MOST_WINDOWS: Final = 32
MOST_DRIFT_PPM: Final = 400.0
LEAST_SHARPNESS: Final = 7.0
"""A window whose peak stands less far above the rest of its correlation, in standard deviations, says nothing."""
AGREEMENT_SAMPLES: Final = 3.0
PLAIN_DRIFT_PPM: Final = 20.0


@dataclass(frozen=True)
class Alignment:
    """How wet follows dry.

    Args:
        latency_samples: by which the wet is late at the start of the recording; negative where it leads.
        drift_ppm: by which the wet's clock is slow; 0 where the pair is too short to tell.
        polarity: 1, or -1 where the wet is upside down.
        confidence: from 0 to 1; strangers stay below 0.5.
        sharpness: of the correlation, in standard deviations, the median over windows that agree.
        windows: how many were loud enough to look at.
    """

    latency_samples: float
    drift_ppm: float
    polarity: int
    confidence: float
    sharpness: float
    windows: int


@dataclass(frozen=True)
class _Peak:
    at_seconds: float
    lag: float
    height: float
    sharpness: float


def align(dry: Sound, wet: Sound, frames: int, max_latency_ms: int | float = 200.0) -> Alignment:
    """Find how a wet recording lies against its dry source.

    Args:
        dry, wet: of one sample rate.
        frames: of the shorter one.
        max_latency_ms: delays up to this, either way, are looked for.
    """
    found = _measured(dry, wet, frames, max_latency_ms)
    if found.confidence < 0.5 or abs(found.drift_ppm) < PLAIN_DRIFT_PPM:
        return found
    # Within a window a drifting clock smears the peak, to one side or the other: without most of it we see better.
    again = _measured(dry, without_drift(wet, found.drift_ppm), frames, max_latency_ms)
    if again.confidence < 0.5:
        return found
    return replace(again, drift_ppm=found.drift_ppm + again.drift_ppm)


def without_drift(sound: Sound, drift_ppm: int | float) -> Sound:
    """A wet sound as its dry's clock would have sampled it; `steady_frames` of them."""
    return Flow(
        lambda: resample_blocks(sound.blocks(), _CLOCK_HZ, _steady_hz(drift_ppm)), sound.sample_rate, sound.channels
    )


def steady_frames(frames: int, drift_ppm: int | float) -> int:
    """How many frames `without_drift` leaves of so many."""
    return resampled_length(frames, _CLOCK_HZ, _steady_hz(drift_ppm))


_CLOCK_HZ: Final = 10_000_000
"""Only the ratio of two clocks counts: this one tells a tenth of a part in a million."""


def _steady_hz(drift_ppm: int | float) -> int:
    return round(_CLOCK_HZ / (1 + drift_ppm * 1e-6))


def _measured(dry: Sound, wet: Sound, frames: int, max_latency_ms: int | float) -> Alignment:
    rate = dry.sample_rate
    most = max(8, round(max_latency_ms * rate / 1000))
    length = min(frames, round(WINDOW_SECONDS * rate))
    starts = _starts(frames, length)
    dry_parts = spans(dry.blocks(), [(start, start + length) for start in starts]) if len(starts) else iter(())
    peaks: list[_Peak] = []
    for start, wet_part, dry_part in zip(
        starts, _wet_parts(wet, starts, length, most, frames), dry_parts, strict=False
    ):
        before = min(most, start)
        peak = _peak(dry_part.mean(axis=0), wet_part.mean(axis=0), before, most, rate)
        if peak is not None:
            peaks.append(_Peak((start + length / 2) / rate, *peak))
    return _agreed(peaks, rate)


def _starts(frames: int, length: int) -> list[int]:
    """Windows that neither overlap nor leave much out, up to `MOST_WINDOWS`."""
    count = min(MOST_WINDOWS, max(1, frames // length)) if frames >= 64 else 0
    return [int(at) for at in np.linspace(0, frames - length, count)] if count else []


def _wet_parts(wet: Sound, starts: Sequence[int], length: int, most: int, frames: int):  # type: ignore[no-untyped-def]
    """The wet around each window, which overlap: each is read by itself out of one stream that is held for it."""
    held = np.zeros((wet.channels, 0), np.float32)
    at = 0
    blocks = wet.blocks()
    for start in starts:
        first, last = max(0, start - most), start + length + most
        parts = [held]
        while at + sum(part.shape[1] for part in parts) < last:
            block = next(blocks, None)
            if block is None:
                break
            parts.append(block)
            if at + sum(part.shape[1] for part in parts[:-1]) < first:
                gone = sum(part.shape[1] for part in parts[:-1])
                at, parts = at + gone, [block]
        held = np.concatenate(parts, axis=1)
        skip = max(0, min(first - at, held.shape[1]))
        held, at = held[:, skip:], at + skip
        yield held[:, : last - at]


def _peak(
    dry: Float[np.ndarray, "time"], wet: Float[np.ndarray, "longer"], before: int, most: int, rate: int
) -> tuple[float, float, float] | None:
    """Lag in samples, signed height and sharpness of the whitened correlation; None where a side is silent.

    Args:
        dry: a window.
        wet: the same, and up to `most` samples more at either side.
        before: how many more there are at the start.
    """
    if min(np.abs(dry).max(initial=0.0), np.abs(wet).max(initial=0.0)) < 1e-5 or len(wet) < 64:
        return None
    size = 1 << (len(dry) + len(wet) + 2 * most).bit_length()
    # A window cuts low notes off with a step; whitened, the steps of both sides would make a peak of their own.
    cross = np.fft.rfft(_tapered(wet, rate), size) * np.conj(np.fft.rfft(_tapered(dry, rate), size))
    strength = np.abs(cross)
    if strength.max() <= 0:
        return None
    frequency = np.fft.rfftfreq(size, 1 / rate)
    inside = (frequency >= BAND_HZ[0]) & (frequency <= min(BAND_HZ[1], 0.47 * rate))
    white = np.where(inside, cross / (strength + 1e-7 * strength.max()) ** WHITENING, 0)
    correlation = np.fft.irfft(white, size)
    # Index before + lag: a wet part that starts `before` samples early finds lag 0 there.
    lags = np.arange(-most, most + 1)
    seen = correlation[(lags + before) % size]
    # Of peaks of like height the first is the sound itself, and later ones are its echoes.
    heights = np.abs(seen)
    at = int(np.argmax(heights >= 0.7 * heights.max()))
    at += int(np.argmax(heights[at : at + 6]))
    spread = float(np.sqrt(np.mean(correlation**2)))
    lag = _fraction(white, size, int(lags[at]) + before) - before
    return float(lag), float(seen[at]), float(heights[at] / max(spread, 1e-20))


def _tapered(samples: Float[np.ndarray, "time"], rate: int) -> Float[np.ndarray, "time"]:
    """Faded in and out over 50 ms, or an eighth of a short window."""
    count = min(round(0.05 * rate), len(samples) // 8)
    ramp = np.ones(len(samples))
    ramp[:count] = np.sin(np.linspace(0, np.pi / 2, count)) ** 2
    ramp[len(samples) - count :] = ramp[:count][::-1]
    return (samples - samples.mean()) * ramp


def _fraction(white: np.ndarray, size: int, index: int) -> float:
    """Where between samples the peak near an index lies: the correlation evaluated there, band-limited, by Newton."""
    omega = 2 * np.pi * np.arange(len(white)) / size
    place = float(index)
    for _ in range(8):
        turned = white * np.exp(1j * omega * place)
        slope, bend = -(omega * turned.imag).sum(), -(omega**2 * turned.real).sum()
        if bend == 0:
            break
        step = float(np.clip(-slope / bend, -0.5, 0.5))
        place += step
        if abs(step) < 1e-5:
            break
    return place if abs(place - index) <= 1.0 else float(index)


def _agreed(peaks: Sequence[_Peak], rate: int) -> Alignment:
    """The line (delay and drift) that most windows lie on."""
    clear = [peak for peak in peaks if peak.sharpness >= LEAST_SHARPNESS]
    if not clear:
        return Alignment(0.0, 0.0, 1, 0.0, max((peak.sharpness for peak in peaks), default=0.0), len(peaks))
    times = np.array([peak.at_seconds for peak in clear])
    lags = np.array([peak.lag for peak in clear])
    weights = np.array([peak.sharpness for peak in clear])
    best: tuple[float, np.ndarray] = (-1.0, np.zeros(len(clear), bool))
    for i in range(len(clear)):
        for j in range(i, len(clear)):
            slope = 0.0 if i == j else (lags[j] - lags[i]) / (times[j] - times[i])
            if abs(slope) > MOST_DRIFT_PPM * 1e-6 * rate:
                continue
            on = np.abs(lags - lags[i] - slope * (times - times[i])) <= AGREEMENT_SAMPLES + abs(slope)
            # Of lines that as much lies on, the level one: two windows always lie on some line.
            score = float(weights[on].sum()) - 1e-3 * abs(slope)
            if score > best[0] + 1e-9:
                best = (score, on)
    on = best[1]
    for _ in range(3):
        slope, start = _line(times[on], lags[on])
        # Within a window a drifting clock smears the peak by as much as it moves.
        reach = AGREEMENT_SAMPLES + abs(slope) * WINDOW_SECONDS / 2
        near = np.abs(lags - start - slope * times) <= reach
        on = near if near.any() else on
    signs = np.array([np.sign(peak.height) for peak in clear])[on]
    polarity = 1 if float((signs * weights[on]).sum()) >= 0 else -1
    sharpness = float(np.median(weights[on]))
    agreeing = float(on.sum()) / len(peaks)
    same_sign = float(np.abs((signs * weights[on]).sum()) / weights[on].sum())
    # One window cannot agree with another; then only a peak that no stranger reaches will do.
    standing = 1 / (1 + np.exp(-(sharpness - (32.0 if on.sum() < 3 else 11.0)) / 2.0))
    confidence = float(standing * min(1.0, agreeing / 0.5) * same_sign)
    return Alignment(start, slope / rate * 1e6, polarity, confidence, sharpness, len(peaks))


def _line(times: Float[np.ndarray, "windows"], lags: Float[np.ndarray, "windows"]) -> tuple[float, float]:
    """Slope and lag at time 0 of the line through most windows (Theil, 1950; Sen, 1968), level unless plainly not."""
    level = float(np.median(lags))
    if len(times) < 4 or float(np.ptp(times)) < 4.0:
        return 0.0, level
    first, second = np.triu_indices(len(times), 1)
    slope = float(np.median((lags[second] - lags[first]) / (times[second] - times[first])))
    start = float(np.median(lags - slope * times))
    scatter = 1.5 * float(np.median(np.abs(lags - start - slope * times))) + 0.05
    error = scatter / float(np.sqrt(((times - times.mean()) ** 2).sum()))
    level_scatter = 1.5 * float(np.median(np.abs(lags - level)))
    if abs(slope) < 5 * error or level_scatter < 2 * scatter:
        return 0.0, level
    return slope, start


def gain_of(dry: Sound, wet: Sound) -> tuple[float, float]:
    """The gain that brings the dry nearest to the wet by least squares, signed; and the share of energy left over.

    Args:
        dry, wet: aligned, of one length; channels are averaged.
    """
    cross = dry_energy = wet_energy = 0.0
    for a, b in _side_by_side(dry, wet):
        x, y = a.mean(axis=0, dtype=np.float64), b.mean(axis=0, dtype=np.float64)
        cross += float(x @ y)
        dry_energy += float(x @ x)
        wet_energy += float(y @ y)
    if dry_energy <= 0 or wet_energy <= 0:
        return 0.0, 1.0
    return cross / dry_energy, max(0.0, 1 - cross**2 / (dry_energy * wet_energy))


def _side_by_side(dry: Sound, wet: Sound):  # type: ignore[no-untyped-def]
    """Blocks of both of the same length."""
    left: list[Float32[np.ndarray, "channels time"]] = [np.zeros((1, 0), np.float32)] * 2
    sources = [dry.blocks(), wet.blocks()]
    while True:
        for side in (0, 1):
            while left[side].shape[1] == 0:
                block = next(sources[side], None)
                if block is None:
                    return
                left[side] = block
        count = min(part.shape[1] for part in left)
        yield left[0][:, :count], left[1][:, :count]
        left = [part[:, count:] for part in left]
