"""Generated music that benchmarks of effects learn from and are judged on: plucked strings, and the error against it.

Plucked strings (Karplus and Strong, 1983), 82 to 660 Hz, one to three at a time, 18 dB apart at most, with rests,
through a soft limiter to a mean of |x| near the audiofx seed's clip (0.16), peak 0.8.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter


def pluck(pitch_hz: float, seconds: float, rng: np.random.Generator, rate: int) -> np.ndarray:
    period = int(rate / pitch_hz - 0.5)
    burst = np.zeros(int(seconds * rate))
    burst[:period] = rng.uniform(-1, 1, period)
    burst[:period] -= burst[:period].mean()
    feedback = np.zeros(period + 2)
    feedback[[0, period, period + 1]] = 1, -0.498, -0.498
    return lfilter([1.0], feedback, burst)


def music(seconds: float, seed: int, rate: int = 44100) -> np.ndarray:
    """The same for the same seed and rate; another rate draws other notes."""
    rng = np.random.default_rng(seed)
    result, now = np.zeros(int(seconds * rate)), 0.0
    while now < seconds:
        for _ in range(rng.integers(1, 4)):
            start = int(now * rate)
            struck = pluck(82 * 2 ** (rng.integers(0, 37) / 12), rng.uniform(0.3, 1.5), rng, rate)
            struck = struck[: result.size - start]
            result[start : start + struck.size] += 10 ** (-rng.uniform(0, 18) / 20) * struck
        now += rng.uniform(0.15, 0.6)
    result = np.tanh(result * (0.2 / np.abs(result).mean()))
    for rest in np.arange(2.0, seconds, 4.0):  # every fourth second ends in 0.3 s of nothing
        result[int(rest * rate) : int((rest + 0.3) * rate)] = 0
    return (result * (0.8 / np.abs(result).max())).astype(np.float32)


def esr(true: np.ndarray, output: np.ndarray) -> float:
    return float(np.square(true - output).sum() / np.square(true).sum())
