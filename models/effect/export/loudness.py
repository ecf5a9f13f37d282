"""How loud a network's output is for a standard input, and how much it compresses: what players level models by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float

Signal = Float[np.ndarray, "time"]

INPUT_DB: Final = -18.0
"""RMS of the standard input, in dB of full scale."""

_SECONDS: Final = 2.0
_SOFTER_DB: Final = 20.0


class Loudness(NamedTuple):
    """Levels of a model, as `.nam` files hold them.

    Args:
        loudness: RMS of the output for the standard input, in dB of full scale; -200 for silence.
        gain: how much of a change of the input's level is lost in the output: 0 for a linear effect, 1 for one whose
            output has one level.
    """

    loudness: float
    gain: float


def standard_input(sample_rate: int) -> Signal:
    """Decaying bursts of coloured noise, four a second, of `INPUT_DB`, the same each time."""
    burst = sample_rate // 4
    bursts = np.random.default_rng(0).standard_normal((round(4 * _SECONDS), burst))
    bursts *= np.exp(-6 * np.arange(burst) / burst)
    # As a guitar's, most of its energy is below some kHz.
    coloured = np.convolve(bursts.ravel(), 0.8 ** np.arange(20), "full")[: bursts.size]
    level = float(np.sqrt(np.mean(np.square(coloured))))
    return (coloured * 10 ** (INPUT_DB / 20) / level).astype(np.float32)


def measured(play: Callable[[Signal], Signal], sample_rate: int) -> Loudness:
    """Play the standard input, and the same 20 dB softer.

    Args:
        play: the output for a whole input, from the start of a file.
        sample_rate: in hertz.
    """
    dry = standard_input(sample_rate)
    loud, soft = (_level_db(play(gain * dry)) for gain in (np.float32(1), np.float32(10 ** (-_SOFTER_DB / 20))))
    return Loudness(loud, min(1.0, max(0.0, 1 - (loud - soft) / _SOFTER_DB)))


def _level_db(signal: Signal) -> float:
    return 10 * math.log10(max(float(np.mean(np.square(signal, dtype=np.float64))), 1e-20))
