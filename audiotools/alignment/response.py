"""Find the delay of a linear response, after a memoryless bend of the input, from averaged spectra of two signals.

The wet signal is taken as y = h * f(x) + what has no relation to x, where f bends without memory and h is causal. The
cross spectrum S_xy over the power S_xx is an estimate of h's frequency response H, bin by bin (Welch's method), and
the coherence |S_xy|^2 / (S_xx S_yy) weighs the bins. H is taken as a minimum-phase filter, whose phase follows from
its magnitude (the Hilbert transform of log |H|; Oppenheim and Schafer, Discrete-Time Signal Processing, 12.1), times a
delay. Taking that phase out leaves the delay alone: a filter's own group delay is part of the effect, the latency is
not. What is left is turned into a pulse, weighted by coherence / (1 - coherence) as in the maximum-likelihood
generalised cross-correlation (Knapp and Carter 1976, eq. 40), and the place of its peak is the latency.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np
from jaxtyping import Complex, Float, Float32, Int

Bend = Literal["none", "clip", "rectify"]
"""How the dry signal is bent before it is compared: as a clean, an overdriven or an octave effect does."""

LOWEST_HZ: Final = 30.0
HIGHEST: Final = 0.46
"""Of the sample rate: above it converters' filters leave little."""

_LIFTER: Final = 512
"""Samples of the minimum-phase response that a filter's phase is made of; longer echoes are no filter's."""

_OVERSAMPLING: Final = 8


def bent(samples: Float32[np.ndarray, "time"], bend: Bend, level: float) -> Float32[np.ndarray, "time"]:
    """The signal without its mean as it is, clipped at an eighth of its level, or rectified."""
    samples = samples - samples.mean()
    if bend == "rectify":
        rectified = np.abs(samples)
        return rectified - rectified.mean()
    if bend == "clip":
        return np.tanh(samples * np.float32(8 / (level + 1e-12)))
    return samples


class Spectra(NamedTuple):
    """Sums over frames.

    Args:
        cross: of wet times the conjugate of dry, by bin.
        dry: power.
        wet: power.
        frames: how many.
    """

    cross: Complex[np.ndarray, "bins"]
    dry: Float[np.ndarray, "bins"]
    wet: Float[np.ndarray, "bins"]
    frames: int

    def plus(self, other: Spectra) -> Spectra:
        return Spectra(self.cross + other.cross, self.dry + other.dry, self.wet + other.wet, self.frames + other.frames)

    @property
    def coherence(self) -> Float[np.ndarray, "bins"]:
        """From 0 to 1, without what chance gives to so few frames (half of them overlap), smoothed over a semitone."""
        raw = np.abs(self.cross) ** 2 / (self.dry * self.wet + 1e-30)
        chance = 1 / max(self.frames / 1.5, 1.01)
        return smoothed(np.clip((raw - chance) / (1 - chance), 0, 1))


def sum_spectra(
    dry: Float32[np.ndarray, "time"],
    wet: Float32[np.ndarray, "wet_time"],
    starts: Int[np.ndarray, "frames"],
    lags: Float[np.ndarray, "frames"],
    length: int,
) -> Spectra:
    """Spectra of frames of the dry signal and of the wet one so many samples later, a fraction by a turn of phase.

    Args:
        dry: mono.
        wet: mono.
        starts: of frames in `dry`.
        lags: from a frame's start in `dry` to its start in `wet`.
        length: of a frame.
    """
    from scipy import fft, signal

    window = signal.windows.hann(length, False).astype(np.float32)
    whole = np.floor(lags).astype(int)
    dry_frames = np.lib.stride_tricks.sliding_window_view(dry, length)[starts]
    wet_frames = np.lib.stride_tricks.sliding_window_view(wet, length)[starts + whole]
    dry_spectra, wet_spectra = fft.rfft(dry_frames * window), fft.rfft(wet_frames * window)
    fractions = lags - whole
    angular = 2j * np.pi * np.fft.rfftfreq(length)
    turn = np.ones(1)
    if np.ptp(fractions) < 1e-3:
        turn = np.exp(angular * fractions.mean())
    else:
        wet_spectra = wet_spectra * np.exp(angular * fractions[:, None]).astype(np.complex64)
    return Spectra(
        np.sum(wet_spectra * dry_spectra.conj(), axis=0, dtype=np.complex128) * turn,
        (dry_spectra.real**2 + dry_spectra.imag**2).sum(axis=0, dtype=np.float64),
        (wet_spectra.real**2 + wet_spectra.imag**2).sum(axis=0, dtype=np.float64),
        len(starts),
    )


class Response(NamedTuple):
    """The first response of wet to dry.

    Args:
        delay: in samples, beside the lag that the spectra were taken at.
        polarity: 1 or -1, of that first response.
        sharpness: the pulse's height against the median of what surrounds it.
        error: how much earlier it would be, if the response fell off half as steeply again where it is not seen.
    """

    delay: float
    polarity: int
    sharpness: float
    error: float


def in_band(bins: int, sample_rate: int) -> np.ndarray:
    frequencies = np.linspace(0, sample_rate / 2, bins)
    return (frequencies > LOWEST_HZ) & (frequencies < HIGHEST * sample_rate)


def information(spectra: Spectra, sample_rate: int) -> float:
    """The mean of -ln(1 - coherence) over the band."""
    coherence = spectra.coherence[in_band(len(spectra.cross), sample_rate)]
    return float(-np.log1p(-np.minimum(coherence, 0.9999)).mean())


def weights(spectra: Spectra, sample_rate: int) -> Float[np.ndarray, "bins"]:
    """How far to believe each bin's phase: coherence / (1 - coherence), at most 10."""
    coherence = spectra.coherence
    believed = np.minimum(coherence / (1 - np.minimum(coherence, 0.999)), 10.0)
    return np.where(in_band(len(coherence), sample_rate) & (coherence > 0.02), believed, 0.0)


def first_response(spectra: Spectra, sample_rate: int, reach: int) -> Response | None:
    """Where the response begins, within `reach` samples around the lag of the spectra; None if nothing is coherent."""
    from scipy import fft

    band = weights(spectra, sample_rate)
    if np.count_nonzero(band) < 8:
        return None
    bins = len(band)
    phases, steeper = (
        unit(spectra.cross) * np.exp(-1j * _minimum_phase(_log_magnitude(spectra, sample_rate, steepness)))
        for steepness in (1.0, 1.5)
    )
    pulse = fft.irfft(band * phases, n=2 * (bins - 1) * _OVERSAMPLING)
    lags = np.arange(-reach * _OVERSAMPLING, reach * _OVERSAMPLING + 1)
    around = np.abs(pulse[lags])
    background = 1.4826 * float(np.median(np.abs(pulse))) + 1e-30
    at = _earliest(around, background)
    polarity = 1 if pulse[lags[at]] > 0 else -1
    delay = refined_peak(band * phases * polarity, float(lags[at]) / _OVERSAMPLING)
    error = abs(delay - refined_peak(band * steeper * polarity, delay))
    return Response(delay, polarity, float(around[at] / background), error)


def _earliest(pulse: np.ndarray, background: float) -> int:
    """The index of the highest peak, or of an earlier one two thirds as high and 20 times above the background."""
    highest = int(pulse.argmax())
    # A pulse of a narrow band has side lobes, two fifths as high at most beyond so many samples.
    before = pulse[: max(0, highest - 12 * _OVERSAMPLING)]
    clear = np.flatnonzero(before >= max(0.67 * pulse[highest], 20 * background))
    if not len(clear):
        return highest
    first = int(clear[0])
    while pulse[first + 1] > pulse[first]:
        first += 1
    return first


def relative_delay(spectra: Spectra, reference: Spectra, sample_rate: int, reach: float) -> tuple[float, float]:
    """How much later one response comes than another, in samples, and how alike they are, from -1 to 1."""
    from scipy import fft

    band = np.minimum(weights(spectra, sample_rate), weights(reference, sample_rate))
    if np.count_nonzero(band) < 8:
        return 0.0, 0.0
    turned = band * unit(spectra.cross) * unit(reference.cross).conj()
    pulse = fft.irfft(turned, n=2 * (len(band) - 1) * _OVERSAMPLING)
    lags = np.arange(-round(reach * _OVERSAMPLING), round(reach * _OVERSAMPLING) + 1)
    at = int(pulse[lags].argmax())
    delay = refined_peak(turned, float(lags[at]) / _OVERSAMPLING)
    angular = 2j * np.pi * np.linspace(0, 0.5, len(band))
    return delay, float(np.real(turned * np.exp(angular * delay)).sum() / band.sum())


def refined_peak(spectrum: Complex[np.ndarray, "bins"], delay: float) -> float:
    """The peak of a pulse, in fractions of a sample, by Newton's method on its spectrum."""
    angular = 2 * np.pi * np.linspace(0, 0.5, len(spectrum))
    for _ in range(12):
        turned = spectrum * np.exp(1j * angular * delay)
        slope, curvature = -float((angular * turned.imag).sum()), -float((angular**2 * turned.real).sum())
        if curvature >= 0:
            break
        delay += float(np.clip(-slope / curvature, -0.1, 0.1))
    return delay


def unit(spectrum: Complex[np.ndarray, "bins"]) -> Complex[np.ndarray, "bins"]:
    return spectrum / (np.abs(spectrum) + 1e-30)


def smoothed(values: Float[np.ndarray, "bins"]) -> Float[np.ndarray, "bins"]:
    """The mean over 3 % of the frequency on either side, two bins at least."""
    bins = np.arange(len(values))
    half = np.maximum(2, (bins * 0.03).astype(int))
    low, high = np.maximum(bins - half, 0), np.minimum(bins + half + 1, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return (sums[high] - sums[low]) / (high - low)


def _log_magnitude(spectra: Spectra, sample_rate: int, steepness: float) -> Float[np.ndarray, "bins"]:
    """ln |H|; where nothing is coherent it goes on as a filter does, at so many times its slope in dB per octave."""
    bins = len(spectra.cross)
    power = smoothed(np.abs(spectra.cross) ** 2 / (spectra.dry + 1e-30) ** 2)
    log_magnitude = 0.5 * np.log(power + 1e-30)
    known = np.flatnonzero((spectra.coherence > 0.1) & in_band(bins, sample_rate))
    if len(known) < 8:
        return np.zeros(bins)
    # Warped as the bilinear transform warps, so that a digital filter's slope is straight up to Nyquist.
    octaves = np.log2(np.tan(np.pi / 2 * np.minimum(np.maximum(np.arange(bins), 1) / bins, 0.998)))
    filled = np.interp(octaves, octaves[known], log_magnitude[known])
    top = known[-1]
    last = known[known > top / 1.6]
    if len(last) > 8:
        slope = min(0.0, max(-8.0, float(np.polyfit(octaves[last], log_magnitude[last], 1)[0]))) * steepness
        filled[top:] = log_magnitude[last].mean() + slope * (octaves[top:] - octaves[last].mean())
    return filled


def _minimum_phase(log_magnitude: Float[np.ndarray, "bins"]) -> Float[np.ndarray, "bins"]:
    """The phase of the causal, stable filter of that magnitude whose inverse is causal and stable too."""
    from scipy import fft

    cepstrum = fft.irfft(log_magnitude)
    size = len(cepstrum)
    folded = np.zeros(size)
    folded[1 : size // 2] = 2 * cepstrum[1 : size // 2]
    quefrency = np.arange(size)
    folded *= np.where(quefrency < _LIFTER, 0.5 + 0.5 * np.cos(np.pi * quefrency / _LIFTER), 0.0)
    return fft.rfft(folded).imag
