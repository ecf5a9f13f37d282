"""How well the end of a clip leads into its start, and a short crossfade where it does not."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float, Float32

FRAME_MS: Final = 8.0
_BANDS: Final = 24


def loopability(samples: Float32[np.ndarray, "channels time"], sample_rate: int) -> float:
    """From 0 to 1: 1 where going from the end to the start is no more of a jump than what happens inside the clip.

    Three jumps across the seam are held against the greatest of their kind inside: the step from the last sample to
    the first (a click), how much louder any band becomes (an attack that nothing led up to), and how much quieter (a
    tail cut off). The worst of the three ratios counts. A clip too short to compare with, or silent, scores 1.
    """
    mono = samples.mean(axis=0, dtype=np.float64)
    hop = max(8, round(FRAME_MS * sample_rate / 1000))
    frames = len(mono) // hop
    if frames < 8 or np.abs(mono).max(initial=0.0) < 1e-5:
        return 1.0
    steps = np.abs(np.diff(mono))
    click = _ratio(float(np.quantile(steps, 0.9995)), abs(float(mono[0] - mono[-1])), floor=2e-3)
    # The last frame ends with the last sample and the first begins with the first: a loop has no other seam.
    around = np.concatenate([mono[-4 * hop :], mono[: 4 * hop]])
    inside, across = _jumps(mono, hop), _jumps(around, hop)
    seam = slice(2, 5)  # the changes between frames that touch the join
    rise = _ratio(float(np.quantile(inside, 0.995)), float(across[seam].max()), floor=6.0)
    fall = _ratio(float(np.quantile(-inside, 0.995)), float((-across[seam]).max()), floor=6.0)
    return min(click, rise, fall)


def with_seam(samples: Float32[np.ndarray, "channels time"], sample_rate: int, seam_ms: float) -> np.ndarray:
    """The clip with its last milliseconds faded, with equal power, into what would come before its start.

    What comes before the start is not known, so it is the start played backwards: level and colour fit, and the last
    sample meets the first.
    """
    count = min(round(seam_ms * sample_rate / 1000), samples.shape[1] // 2)
    if count < 1:
        return samples
    angle = np.linspace(0, np.pi / 2, count, dtype=np.float32)
    joined = samples.copy()
    joined[:, -count:] = samples[:, -count:] * np.cos(angle) + samples[:, :count][:, ::-1] * np.sin(angle)
    return joined


def _jumps(mono: Float[np.ndarray, "time"], hop: int) -> Float[np.ndarray, "frames"]:
    """The change of level, in decibels over the bands that change most, from each frame to the next."""
    frames = mono[: len(mono) // hop * hop].reshape(-1, hop)
    power = np.abs(np.fft.rfft(frames * np.hanning(hop), axis=1)) ** 2
    edges = np.unique(np.geomspace(1, power.shape[1], _BANDS + 1).astype(int))
    bands = np.add.reduceat(power, edges[:-1], axis=1)
    level = 10 * np.log10(bands + 1e-8 * hop)
    return np.diff(level, axis=0).mean(axis=1)


def _ratio(usual: float, seam: float, floor: float) -> float:
    """1 where the seam's jump is no greater than a usual one, or too small to hear."""
    return 1.0 if seam <= max(usual, floor) else max(usual, floor) / seam
