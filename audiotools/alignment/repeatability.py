"""What a wet recording does where its dry source repeats itself: the floor of what any model can learn of it."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.editing.slicing import spans
from tonemill.audiotools.waveform import Sound

PROBE_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 600.0
PROBES: Final = 6
EQUAL_ESR: Final = 1e-6
"""Sections of the dry this alike are one and the same: 60 dB down, as in a loop that was pasted twice."""


def replicate_esr(dry: Sound, wet: Sound, frames: int) -> float | None:
    """The error-to-signal ratio between two passes of the wet, where the dry plays the same second twice.

    Args:
        dry, wet: aligned, of one sample rate.
        frames: of both.

    Returns:
        The median over repeated seconds; None where the dry repeats none, or is longer than ten minutes.
    """
    rate = dry.sample_rate
    length = round(PROBE_SECONDS * rate)
    if frames < 2 * length or frames > LONGEST_SECONDS * rate:
        return None
    samples = np.concatenate([block.mean(axis=0, dtype=np.float32) for block in dry.blocks()])[:frames]
    errors = []
    # The first passes are left out: an effect that is still ringing from before differs for a while.
    for start in np.linspace(0, frames - length, PROBES).astype(int):
        probe = samples[start : start + length]
        again = _repeat_of(probe, samples, int(start))
        if again is None:
            continue
        # The second half of each: what came before differs, and effects remember.
        edges = sorted([(int(start) + length // 2, int(start) + length), (again + length // 2, again + length)])
        first, second = (part.mean(axis=0, dtype=np.float64) for part in spans(wet.blocks(), edges))
        energy = float(first @ first)
        if energy > 1e-9 * length:
            errors.append(float((first - second) @ (first - second)) / energy)
    return float(np.median(errors)) if errors else None


def _repeat_of(probe: Float32[np.ndarray, "time"], samples: Float32[np.ndarray, "longer"], start: int) -> int | None:
    """Where else, without overlap, the same samples stand."""
    energy = float(probe.astype(np.float64) @ probe)
    if energy < 1e-6 * len(probe):
        return None
    size = 1 << (len(samples) + len(probe)).bit_length()
    match = np.fft.irfft(np.fft.rfft(samples, size) * np.conj(np.fft.rfft(probe, size)), size)[: len(samples)]
    match[max(0, start - len(probe)) : start + len(probe)] = 0
    at = int(np.argmax(match[: len(samples) - len(probe) + 1]))
    other = samples[at : at + len(probe)].astype(np.float64)
    error = float(((other - probe) ** 2).sum()) / energy
    return at if abs(at - start) >= len(probe) and error < EQUAL_ESR else None
