"""The linear response from signals to another, one or several in parallel, by least squares over whole recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float32

Signal = Float32[np.ndarray, "_"]

ITERATIONS: Final = 48
FLOOR: Final = 1e-5
"""Of the largest power in the dry spectrum: bands below it are taken to be as strong, so that they come last."""

RIDGE: Final = 1e-7
"""Added to normal equations whose diagonal is 1."""
FRAMES: Final = 1 << 16
"""Samples that are correlated at once."""


def least_squares_response(pairs: Sequence[tuple[Signal, Signal]], taps: int) -> Float32[np.ndarray, "taps"]:
    """The causal response of `taps` samples that makes the wet of the dry with the least squared error.

    Conjugate gradients on the normal equations, from silence, with the inverse of the dry spectrum as preconditioner (a
    circulant one; T. Chan, 1988). Each round costs two convolutions of all pairs by FFT. The rounds are so few that
    bands which the dry does not play stay at rest, as with a ridge (Hanke, 1995).

    Args:
        pairs: dry and wet, of one length each. The first `taps - 1` samples of a wet are left out, because they
            depend on the input before the pair; so are pairs that are no longer than that.

    Returns:
        zeros if the dry is silent.
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
        change = forward(direction)
        along = strength / sum(float(one @ one) for one in change)
        found += np.float32(along) * direction
        errors = [(error - along * one).astype(np.float32) for error, one in zip(errors, change, strict=True)]
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


def least_squares_responses(
    pairs: Sequence[tuple[Sequence[Signal], Signal]], taps: int
) -> tuple[Float32[np.ndarray, "inputs taps"], float]:
    """Causal responses to several inputs, and a constant, whose sum is the wet with the least squared error.

    The normal equations are made from correlations by FFT, less what the edges of recordings would add (the covariance
    method; Makhoul, 1975), and solved at once: for thousands of unknowns, where `least_squares_response` takes more.

    Args:
        pairs: inputs and wet, all of one length. The first `taps - 1` samples of a wet are left out, because
            they depend on the input before the pair; so are pairs that are no longer than that.

    Returns:
        zeros without such pairs.
    """
    from scipy import fft, linalg

    inputs = len(pairs[0][0]) if pairs else 0
    long = [(np.stack(dry).astype(np.float64), wet.astype(np.float64)) for dry, wet in pairs if wet.size >= taps]
    unknown, size = inputs * taps, fft.next_fast_len(FRAMES + taps, real=True)
    spectra = np.zeros((inputs, inputs + 1, size // 2 + 1), complex)
    edges, moments = np.zeros((unknown + 1, unknown + 1)), np.zeros(unknown + 1)
    for dry, wet in long:
        both = np.concatenate([dry, wet[None]])
        for start in range(0, wet.size, FRAMES):
            left = fft.rfft(dry[:, start : start + FRAMES], size)
            right = fft.rfft(both[:, start : start + FRAMES + taps - 1], size)
            spectra += left.conj()[:, None] * right[None]
        padded = np.pad(dry, ((0, 0), (taps - 1, taps - 1)))
        lagged = np.lib.stride_tricks.sliding_window_view(padded, taps, axis=1)[:, :, ::-1].swapaxes(0, 1)
        ends = [*range(taps - 1), *range(wet.size, wet.size + taps - 1)]
        rows = lagged[ends].reshape(len(ends), unknown)
        edges[:unknown, :unknown] += rows.T @ rows
        moments[:unknown] -= rows[: taps - 1].T @ wet[: taps - 1]
        sums = lagged[taps - 1 : wet.size].sum(axis=0).ravel()
        edges[:unknown, -1] -= sums
        edges[-1, :unknown] -= sums
        edges[-1, -1] -= wet.size - taps + 1
        moments[-1] += wet[taps - 1 :].sum()
    lags = fft.irfft(spectra, size)
    # The sum over n of x_p[n - i] x_q[n - j] is the correlation at the lag i - j.
    whole = np.array(
        [[linalg.toeplitz(lags[p, q, :taps], lags[q, p, :taps]) for q in range(inputs)] for p in range(inputs)]
    )
    matrix = -edges
    matrix[:unknown, :unknown] += whole.transpose(0, 2, 1, 3).reshape(unknown, unknown)
    moments[:unknown] += lags[:, -1, :taps].ravel()
    scale = np.sqrt(np.maximum(matrix.diagonal(), 1e-12))
    matrix /= scale[:, None] * scale
    matrix[np.diag_indices_from(matrix)] += RIDGE
    found = linalg.solve(matrix, moments / scale, assume_a="pos") / scale
    return found[:unknown].reshape(inputs, taps).astype(np.float32), float(found[-1])
