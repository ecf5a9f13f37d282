"""The linear response that takes one signal to another, by least squares over whole recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float32

Signal = Float32[np.ndarray, "_"]

ITERATIONS: Final = 48
FLOOR: Final = 1e-5
"""Of the largest power in the dry spectrum: bands below it are taken to be as strong, so that they come last."""


def least_squares_response(pairs: Sequence[tuple[Signal, Signal]], taps: int) -> Float32[np.ndarray, "taps"]:
    """The causal response of `taps` samples that makes the wet of the dry with the least squared error.

    Conjugate gradients on the normal equations, from silence, with the inverse of the dry spectrum as preconditioner (a
    circulant one; T. Chan, 1988). Each round costs two convolutions of all pairs by FFT. The rounds are so few that
    bands which the dry does not play stay at rest, as with a ridge (Hanke, 1995).

    Args:
        pairs: dry and wet, of one length each. The first `taps - 1` samples of a wet are not looked at, for they hang
            on what was played before; a pair that is no longer than that is left out.

    Returns:
        silence, if nothing is played.
    """
    from scipy import fft

    found = np.zeros(taps, np.float32)
    long = [pair for pair in pairs if pair[0].size >= taps]
    sizes = [fft.next_fast_len(dry.size, real=True) for dry, _ in long]
    spectra = [fft.rfft(dry, size) for (dry, _), size in zip(long, sizes, strict=True)]
    power = _power([dry for dry, _ in long], taps)
    if not power.max(initial=0.0):
        return found

    def forward(response: Signal) -> list[Signal]:
        # The first taps - 1 samples, which a circular convolution of this size folds into, are the ones left out.
        whole = (fft.irfft(one * fft.rfft(response, size), size) for one, size in zip(spectra, sizes, strict=True))
        return [one[taps - 1 : dry.size] for one, (dry, _) in zip(whole, long, strict=True)]

    def adjoint(errors: list[Signal]) -> Signal:
        total = np.zeros(taps, np.float32)
        for error, spectrum, size in zip(errors, spectra, sizes, strict=True):
            placed = np.zeros(size, np.float32)
            placed[taps - 1 : taps - 1 + error.size] = error
            total += fft.irfft(spectrum.conj() * fft.rfft(placed), size)[:taps].astype(np.float32)
        return total

    def preconditioned(gradient: Signal) -> Signal:
        size = 2 * (power.size - 1)
        return fft.irfft(fft.rfft(gradient, size) / (power / power.max() + FLOOR), size)[:taps].astype(np.float32)

    errors: list[Signal] = [wet[taps - 1 :].astype(np.float32) for _, wet in long]
    gradient = adjoint(errors)
    towards = direction = preconditioned(gradient)
    strength = first = float(gradient @ towards)
    for _ in range(ITERATIONS):
        if strength <= 1e-10 * first:
            break
        heard = forward(direction)
        along = strength / sum(float(one @ one) for one in heard)
        found += np.float32(along) * direction
        errors = [(error - along * one).astype(np.float32) for error, one in zip(errors, heard, strict=True)]
        gradient = adjoint(errors)
        towards = preconditioned(gradient)
        before, strength = strength, float(gradient @ towards)
        direction = towards + np.float32(strength / before) * direction
    return found


def _power(signals: Sequence[Signal], taps: int) -> np.ndarray:
    """Mean power over frames twice as long as the response, smoothed over neighbouring bins."""
    from scipy import fft

    size = fft.next_fast_len(max(2 * taps + 2, 128), real=True)
    size += size % 2
    frame, total = size // 2, np.zeros(size // 2 + 1)
    window = np.hanning(frame)
    for signal in signals:
        for start in range(0, max(1, signal.size - frame + 1), max(1, frame // 2)):
            cut = signal[start : start + frame]
            total += np.abs(fft.rfft(cut * window[: cut.size], size)) ** 2
    width = min(9, total.size)
    return np.convolve(np.pad(total, width // 2, mode="edge"), np.ones(width) / width, "valid")[: size // 2 + 1]
