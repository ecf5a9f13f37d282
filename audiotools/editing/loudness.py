"""Loudness by ITU-R BS.1770-4, measured block by block, with pyloudnorm's filters.

The filters are pyloudnorm's set "DeMan": at 48 kHz they are the table of BS.1770-4, annex 1, and a 997 Hz sine at full
scale reads -3.010 LUFS as the standard requires (pyloudnorm's default set reads -3.052). Gating blocks are pyloudnorm's
too: 400 ms, a new one every 100 ms, and the last may lack up to 50 ms of sound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from tonemill.audiotools.shapes import Float32

STEPS_PER_SECOND: Final = 10
STEPS_PER_BLOCK: Final = 4
GATE_LUFS: Final = -70.0
LOWEST_RATE: Final = 4000
"""Hertz; below it the shelf of the filter, at 1682 Hz, comes too near to half the rate to have its shape."""

_SURROUND: Final = {5: (1.0, 1.0, 1.0, 1.41, 1.41), 6: (1.0, 1.0, 1.0, 0.0, 1.41, 1.41)}
"""Weights of left, right, centre, (low frequencies,) left and right surround (BS.1770-4, table 3); others weigh 1."""


@dataclass(frozen=True)
class Loudness:
    """A measured loudness.

    Args:
        lufs: None for silence (nothing above -70 LUFS), and at rates below 4000 Hz.
        gated: whether it is the gated loudness of the standard; a sound shorter than 400 ms is one block, ungated.
    """

    lufs: float | None
    gated: bool


@dataclass
class LoudnessMeter:
    """Measures the integrated loudness of a sound that comes in blocks of any lengths, in constant memory.

    Args:
        sample_rate: in hertz.
        channels: of every block.
    """

    sample_rate: int
    channels: int
    _frames: int = 0
    _energies: list[float] = field(default_factory=lambda: [0.0])
    _filters: Any = None
    _state: Any = None

    def take(self, block: Float32[np.ndarray, "channels time"]) -> None:
        """Measure the next block."""
        if self.sample_rate < LOWEST_RATE or not block.shape[1]:
            return
        from scipy.signal import sosfilt

        if self._state is None:
            self._filters = _k_weighting(self.sample_rate)
            self._state = np.zeros((2, self.channels, 2))
        weighted, self._state = sosfilt(self._filters, block, zi=self._state)
        np.square(weighted, out=weighted)
        weights = np.array(_SURROUND.get(self.channels, (1.0,) * self.channels))
        power = weighted[0] if self.channels == 1 else weights @ weighted
        # Energies of steps of 100 ms, cut where pyloudnorm cuts: at whole frames below k * 100 ms.
        first = 0
        while first < len(power):
            step_end = len(self._energies) * self.sample_rate // STEPS_PER_SECOND
            last = min(len(power), first + step_end - self._frames)
            self._energies[-1] += float(power[first:last].sum())
            self._frames += last - first
            first = last
            if self._frames == step_end:
                self._energies.append(0.0)

    def read(self) -> Loudness:
        """The loudness of all that was taken (BS.1770-4, equations 2 to 7)."""
        steps = self._frames / self.sample_rate * STEPS_PER_SECOND
        blocks = 0 if steps < STEPS_PER_BLOCK else round(steps - STEPS_PER_BLOCK) + 1
        if not self._frames:
            return Loudness(None, False)
        if not blocks:
            powers = np.array([math.fsum(self._energies) / self._frames])
        else:
            energies = np.array([*self._energies, 0.0])[: blocks + STEPS_PER_BLOCK - 1]
            sums = np.convolve(energies, np.ones(STEPS_PER_BLOCK), mode="valid")
            powers = sums * STEPS_PER_SECOND / (STEPS_PER_BLOCK * self.sample_rate)
        loud = powers[powers >= _power(GATE_LUFS)]
        if not len(loud):
            return Loudness(None, blocks > 0)
        if blocks:
            # The relative gate is 10 LU below the loudness of the blocks that passed the absolute gate.
            loud = loud[loud > loud.mean() / 10]
        return Loudness(-0.691 + 10 * math.log10(float(loud.mean())), blocks > 0)


def _power(lufs: float) -> float:
    return 10.0 ** ((lufs + 0.691) / 10)


def _k_weighting(sample_rate: int) -> np.ndarray:
    """Second-order sections (2, 6) of the shelf and the high-pass."""
    from pyloudnorm.iirfilter import IIRfilter

    shelf = IIRfilter(3.99984385397, 0.7071752369554193, 1681.9744509555319, sample_rate, "high_shelf_DeMan")
    high_pass = IIRfilter(0.0, 0.5003270373253953, 38.13547087613982, sample_rate, "high_pass_DeMan")
    return np.array([[*one.b, *one.a] for one in (shelf, high_pass)])
