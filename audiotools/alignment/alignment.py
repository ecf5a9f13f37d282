"""Measure how a wet recording is aligned to its dry source: latency, polarity, gain, clock drift, and a confidence.

Windows spread over the pair are correlated, and a line is fitted through the peaks over time (`lags`). At the lags of
this line the spectra of all windows are averaged, the effect's own filter delay is removed, and the remaining delay is
the latency (`response`). The windows of unrelated recordings agree on no line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from tonemill.audiotools.alignment.excerpts import collect
from tonemill.audiotools.alignment.lags import Line, Peaks, best_line, window_peaks
from tonemill.audiotools.alignment.response import (
    Bend,
    Response,
    Spectra,
    bent,
    first_response,
    information,
    relative_delay,
    sum_spectra,
)
from tonemill.audiotools.alignment.reverb_onset import impulse_response, onset
from tonemill.audiotools.editing.resampling import resample_blocks, resampled_length
from tonemill.audiotools.waveform import Flow, Sound

STEEPEST: Final = 500e-6
"""Clocks of audio interfaces do not differ by more."""

SHARP: Final = 30.0
"""A pulse this high above its background is a response of its own; below, reverberation or chance."""

STANDING: Final = 118.0
"""Height of the windows' peaks times the root of the sharpness: takes of one drum beat reached 105, weak pairs 133."""

_WINDOW: Final = 1 << 17
_WINDOWS: Final = 16
_FRAME: Final = 8192
_REACH: Final = 256
_BENDS: Final[tuple[Bend, ...]] = ("none", "clip", "rectify")
_LIKED: Final[dict[Bend, float]] = {"none": 1.25, "clip": 1.0, "rectify": 0.7}
"""Bends for nothing are not made: the plain signal wins where another explains little more."""


@dataclass(frozen=True)
class Alignment:
    """How wet follows dry.

    Args:
        latency_samples: the wet's delay at the start of the recording; negative where it leads.
        latency_error_samples: how much too late that may be.
        drift_ppm: how slow the wet's clock is; 0 where the drift is not significant, or the pair too short for it.
        polarity: of the first response: 1, or -1 where the wet is upside down.
        confidence: from 0 to 1; that of unrelated recordings is below 0.5.
        sharpness: of the response, against what surrounds it.
        windows: how many were loud enough to look at.
    """

    latency_samples: float
    latency_error_samples: float
    drift_ppm: float
    polarity: int
    confidence: float
    sharpness: float
    windows: int


class _Window(NamedTuple):
    """An excerpt of the dry, and of the wet from `first_lag` samples after its start on."""

    start: int
    dry: Float32[np.ndarray, "time"]
    first_lag: int
    wet: Float32[np.ndarray, "wet_time"]

    def spectra(self, line: Line, bend: Bend, level: float, length: int) -> Spectra | None:
        starts = np.arange(0, len(self.dry) - length + 1, length // 2)
        lags = line.at(self.start + starts + length / 2) - self.first_lag
        first = starts + np.floor(lags)
        fits = (first >= 0) & (first + length <= len(self.wet))
        if not fits.any():
            return None
        return sum_spectra(bent(self.dry, bend, level), self.wet, starts[fits], lags[fits], length)


def align(dry: Sound, wet: Sound, frames: int, max_latency_ms: int | float = 200.0) -> Alignment:
    """Measure how a wet recording is aligned to its dry source.

    Args:
        dry, wet: of one sample rate; each is read once.
        frames: of the shorter one.
        max_latency_ms: delays up to this, either way, are looked for; and up to half of the recording.
    """
    rate = dry.sample_rate
    windows = _windows(dry, wet, frames, round(max_latency_ms * rate / 1000))
    unrelated = Alignment(0.0, 0.0, 0.0, 1, 0.0, 0.0, len(windows))
    if not windows:
        return unrelated
    level = float(np.sqrt(np.mean([np.mean(np.square(window.dry)) for window in windows])))
    times = np.array([window.start + len(window.dry) / 2 for window in windows])
    line = _line(windows, times, rate, level)
    length = min(_FRAME, 1 << (len(windows[0].dry) // 4).bit_length() - 1)
    bend, upright = _bends(windows, line, rate, level, length)
    line, spread = _settled(windows, times, line, bend, rate, level, length)
    response = _response(windows, line, bend, rate, level, length)
    if response is None:
        return unrelated
    if response.sharpness < SHARP:
        response = _diffuse(windows, line, response, rate)
    elif upright is not None:
        other = _response(windows, line, upright, rate, level, length)
        response = response._replace(polarity=other.polarity if other else 1)
    # Of few windows half a one more might have agreed by chance.
    agreeing = max(0.0, line.agreement - 0.5 / len(windows))
    standing = (line.score * response.sharpness**0.5 / STANDING) ** 6
    return Alignment(
        latency_samples=line.offset + response.delay,
        latency_error_samples=response.error + spread,
        drift_ppm=line.slope * 1e6,
        polarity=response.polarity,
        confidence=agreeing * standing / (1 + standing),
        sharpness=response.sharpness,
        windows=len(windows),
    )


def without_drift(sound: Sound, drift_ppm: int | float) -> Sound:
    """A wet sound as its dry's clock would have sampled it; `steady_frames` of them."""
    return Flow(
        lambda: resample_blocks(sound.blocks(), _CLOCK_HZ, _steady_hz(drift_ppm)), sound.sample_rate, sound.channels
    )


def steady_frames(frames: int, drift_ppm: int | float) -> int:
    """The length of `without_drift`'s output, in frames."""
    return resampled_length(frames, _CLOCK_HZ, _steady_hz(drift_ppm))


_CLOCK_HZ: Final = 10_000_000
"""The drift is a ratio of two sample rates; rounding one of them to a hertz at this rate is an error of 0.1 ppm."""


def _steady_hz(drift_ppm: int | float) -> int:
    return round(_CLOCK_HZ / (1 + drift_ppm * 1e-6))


def _windows(dry: Sound, wet: Sound, frames: int, max_latency: int) -> list[_Window]:
    """Windows in which the dry has sound, spread over the recording."""
    length = min(_WINDOW, max(1024, frames // 3), frames)
    if length < 256:
        return []
    count = min(_WINDOWS, max(1, -(-2 * frames // length) - 1))
    starts = [round(start) for start in np.linspace(0, frames - length, count)]
    # A sound does not show a latency of more than half of itself; clocks move the later windows further.
    reaches = [min(max_latency, frames // 2) + 16 + int(STEEPEST * start) for start in starts]
    dries = collect(dry, [(start, start + length) for start in starts])
    wets = collect(wet, [(start - reach, start + length + reach) for start, reach in zip(starts, reaches, strict=True)])
    found = [_Window(*parts) for parts in zip(starts, dries, (-reach for reach in reaches), wets, strict=True)]
    levels = np.array([window.dry.std() for window in found])
    if max(window.wet.std() for window in found) < 1e-6 or levels.max() < 1e-6:
        return []
    return [window for window, level in zip(found, levels, strict=True) if level > 1e-3 * levels.max()]


def _line(windows: list[_Window], times: np.ndarray, rate: int, level: float) -> Line:
    """The line of lags that most windows bear out, of the dry signal as it is or bent."""
    found = [window_peaks(w.dry, w.wet, w.first_lag, rate, _BENDS, level) for w in windows]
    lines = {}
    for bend in _BENDS:
        peaks = Peaks(np.array([each[bend][0] for each in found]), np.array([each[bend][1] for each in found]))
        lines[bend] = best_line(peaks, times, STEEPEST, -windows[0].first_lag)
    return max(lines.items(), key=lambda item: item[1].score * _LIKED[item[0]])[1]


def _bends(windows: list[_Window], line: Line, rate: int, level: float, length: int) -> tuple[Bend, Bend | None]:
    """The bend of the dry signal that explains most of the wet; and, if it rectifies, one that keeps polarity."""
    explained = {}
    for bend in _BENDS:
        total = _sum([window.spectra(line, bend, level, length) for window in windows])
        explained[bend] = information(total, rate) * _LIKED[bend] if total else 0.0
    best = max(_BENDS, key=explained.__getitem__)
    upright = max(_BENDS[:2], key=explained.__getitem__)
    return best, upright if best == "rectify" and explained[upright] > 0.2 * explained[best] else None


class _Fit(NamedTuple):
    """A line through delays, in samples, over times, in samples; with standard errors."""

    offset: float
    slope: float
    slope_error: float
    spread: float


def _settled(
    windows: list[_Window], times: np.ndarray, line: Line, bend: Bend, rate: int, level: float, length: int
) -> tuple[Line, float]:
    """The line fitted to the delays of all windows against their sum, level unless it plainly is not; its error."""
    spread = 0.0
    for turn in range(3):
        slope_before = line.slope
        parts = [window.spectra(line, bend, level, length) for window in windows]
        total = _sum(parts)
        if total is None:
            return line._replace(slope=0.0), 0.0
        delays = [relative_delay(part, total, rate, 24.0) if part else (0.0, -1.0) for part in parts]
        kept = np.array([likeness > 0.15 for _, likeness in delays])
        if np.count_nonzero(kept) < 4:
            return line._replace(offset=float(line.at(times).mean()), slope=0.0), 0.0
        fit = _fit(times[kept], np.array([delay for delay, _ in delays])[kept])
        spread = fit.spread
        line = line._replace(offset=line.offset + fit.offset, slope=line.slope + fit.slope)
        # The standard error from few windows is uncertain, so a drift must be more of them away from 0.
        sigmas = 4 + 20 / max(1, int(kept.sum()) - 2)
        plain = abs(line.slope) > sigmas * fit.slope_error and abs(line.slope) * float(np.ptp(times)) > 0.5
        if not plain and (turn == 2 or slope_before == 0):
            return line._replace(offset=float(line.at(times).mean()), slope=0.0), spread
    return line, spread


def _response(windows: list[_Window], line: Line, bend: Bend, rate: int, level: float, length: int) -> Response | None:
    total = _sum([window.spectra(line, bend, level, length) for window in windows])
    return first_response(total, rate, min(_REACH, length // 4)) if total else None


def _fit(times: Float[np.ndarray, "windows"], delays: Float[np.ndarray, "windows"]) -> _Fit:
    """Theil and Sen's line, then a least-squares line through the points near it."""
    first, second = np.triu_indices(len(times), 1)
    slope = float(np.median((delays[second] - delays[first]) / (times[second] - times[first])))
    rest = delays - slope * times
    rest -= np.median(rest)
    near = np.abs(rest) < 4 * (1.4826 * np.median(np.abs(rest)) + 1e-3)
    times, delays = times[near], delays[near]
    centred = times - times.mean()
    slope = float(centred @ delays / (centred @ centred))
    rest = delays - delays.mean() - slope * centred
    variance = float(rest @ rest) / max(1, len(times) - 2)
    spread = float(np.sqrt(variance / len(times)))
    offset = float(delays.mean() - slope * times.mean())
    return _Fit(offset, slope, float(np.sqrt(variance / (centred @ centred))), spread)


def _diffuse(windows: list[_Window], line: Line, response: Response, rate: int) -> Response:
    """The first response where there is no clear one: the onset of the impulse response."""
    middles = [round(line.offset + line.slope * (w.start + len(w.dry) / 2)) - w.first_lag for w in windows]
    behind = min(4 * _FRAME, *middles)
    ahead = min(_FRAME, *(len(w.wet) - len(w.dry) - at for w, at in zip(windows, middles, strict=True)))
    if behind < 128 or ahead < 0:
        return response
    pairs = ((w.dry, w.wet[at - behind : at + ahead + len(w.dry)]) for w, at in zip(windows, middles, strict=True))
    found = impulse_response(pairs, rate)
    at = onset(found, behind)
    polarity = 1 if found[at : at + 8].sum() > 0 else -1
    return response._replace(delay=float(at - behind), polarity=polarity, error=2.0)


def _sum(parts: list[Spectra | None]) -> Spectra | None:
    total: Spectra | None = None
    for part in parts:
        if part is not None:
            total = part if total is None else total.plus(part)
    return total


def gain_of(dry: Sound, wet: Sound, late: float = 0.0) -> tuple[float, float]:
    """The gain that brings the dry nearest to the wet by least squares, signed; and the share of energy left over.

    Args:
        dry, wet: aligned, of one length; channels are averaged.
        late: samples by which the wet is late; a few. At one sample too many white noise has no gain.
    """
    cross = dry_energy = wet_energy = 0.0
    for a, b in _side_by_side(dry, wet):
        x, y = a.mean(axis=0, dtype=np.float64), b.mean(axis=0, dtype=np.float64)
        if late:
            # The ends of a block wrap around: so many of its thousands of samples.
            x = np.fft.irfft(np.fft.rfft(x) * np.exp(-2j * np.pi * late * np.fft.rfftfreq(len(x))), len(x))
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
