"""How much a network aliases: the energy that sines leave off their harmonics, over the energy on them.

A distortion makes harmonics above half of the sample rate, which fold back to where no harmonic is. Ten sines step from
1 to 10 kHz, each at -6 dBFS. Each has a whole, odd number of turns in a window of 2^12 samples: its steady output has
that window as a period, a harmonic fills one bin of the window's transform, and none folds back onto another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float

Signal = Float[np.ndarray, "time"]

FREQUENCIES_HZ: Final = tuple(range(1_000, 11_000, 1_000))
LEVEL_DB: Final = -6.0
WINDOW: Final = 4096
FLOOR_DB: Final = -200.0

_MOST: Final = 1e6
"""The magnitude to which a runaway output is clipped."""


def turns_of(frequency_hz: int, sample_rate: int) -> int:
    """The odd number of turns in a window that is nearest to a frequency."""
    return 2 * round((frequency_hz * WINDOW / sample_rate - 1) / 2) + 1


def aliasing_db(play: Callable[[Signal], Signal], sample_rate: int, settling: int) -> float | None:
    """Energy off the harmonics over energy on them, in dB, over all sines below half of the sample rate.

    Args:
        play: the output for a whole input, from the start of a file.
        sample_rate: in hertz.
        settling: samples after which the output of a steady input is steady.

    Returns:
        at least -200 dB, which no aliasing has; None where no sine is below half of the sample rate.
    """
    on = off = 0.0
    for frequency_hz in FREQUENCIES_HZ:
        if frequency_hz >= 0.49 * sample_rate:
            break
        turns = turns_of(frequency_hz, sample_rate)
        phase = 2 * np.pi * turns * np.arange(settling + WINDOW) / WINDOW
        output = play((10 ** (LEVEL_DB / 20) * np.sin(phase)).astype(np.float32))[settling:]
        steady = np.nan_to_num(output.astype(np.float64), nan=_MOST).clip(-_MOST, _MOST)
        power = np.square(np.abs(np.fft.rfft(steady)))
        power[0] = 0.0  # an offset is no aliasing
        harmonics = float(power[turns::turns].sum())
        on += harmonics
        off += float(power.sum()) - harmonics
    if not on:
        return None
    return max(FLOOR_DB, 10 * math.log10(max(off / on, 1e-30)))
