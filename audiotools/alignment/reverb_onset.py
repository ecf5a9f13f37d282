"""Find where a response begins that has no peak of its own, as that of reverberation without the direct sound."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from jaxtyping import Float, Float32

from tonemill.audiotools.alignment.response import HIGHEST, LOWEST_HZ

_AFTER: Final = 512
"""Samples of the response that are held against the silence before it."""


def impulse_response(
    pairs: Iterable[tuple[Float32[np.ndarray, "time"], Float32[np.ndarray, "wet_time"]]], sample_rate: int
) -> Float[np.ndarray, "lags"]:
    """The least-squares impulse response from dry windows to the wet that begins with each, by division of spectra.

    Args:
        pairs: dry windows and longer stretches of wet, all of the same lengths; the first lag is the wet's start.
        sample_rate: in hertz.

    Returns:
        a sample for each lag at which a whole window fits.
    """
    from scipy import fft, signal

    cross, power, lags, size = 0.0, 0.0, 0, 0
    for dry, wet in pairs:
        lags, size = len(wet) - len(dry) + 1, fft.next_fast_len(len(wet), real=True)
        taper = signal.windows.tukey(len(dry), 0.2)
        dry_spectrum, wet_spectrum = fft.rfft((dry - dry.mean()) * taper, size), fft.rfft(wet - wet.mean(), size)
        cross = cross + wet_spectrum * dry_spectrum.conj()
        power = power + np.abs(dry_spectrum) ** 2
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate)
    band = (frequencies > LOWEST_HZ) & (frequencies < HIGHEST * sample_rate)
    # Where the dry has little, the quotient is noise: a thousandth of the mean power keeps it down.
    return fft.irfft(cross * band / (power + 1e-3 * np.mean(power)), size)[:lags]


def onset(response: Float[np.ndarray, "lags"], before: int) -> int:
    """The lag at which a response turns from noise into sound: the likeliest change of a normal variable's variance.

    Args:
        response: by lag.
        before: a lag by which it has begun.
    """
    power = np.square(response[: before + _AFTER])
    sums = np.concatenate([[0.0], np.cumsum(power)])
    count = len(power)
    at = np.arange(64, min(before + 1, count - 64))
    if not len(at):
        return before
    last = np.minimum(at + _AFTER, count)
    noise = sums[at] / at + 1e-30
    sound = (sums[last] - sums[at]) / (last - at) + 1e-30
    # Twice the log likelihood against noise all through, of the samples that may be sound.
    gain = (last - at) * (sound / noise - 1 - np.log(sound / noise))
    return int(at[gain.argmax()])
