"""A long linear response played as a stream without delay: its head directly, its tail in parts by FFT.

The tail is cut into parts of `PART` taps; the spectrum of each part of the input is kept, and multiplied with those of
the response when the next part begins (uniformly partitioned overlap-save, Wefers, 2015). Parts begin at fixed samples
of the stream, so the output does not depend on the sizes of blocks.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float32

PART: Final = 512


class Convolver:
    """The player of one response.

    Args:
        taps: the response, from lag 0.
    """

    def __init__(self, taps: Float32[np.ndarray, "taps"]) -> None:
        padded = np.zeros(-(-taps.size // PART) * PART, np.float32)
        padded[: taps.size] = taps
        self._head = padded[:PART]
        tail = padded[PART:].reshape(-1, PART)
        self._responses = np.fft.rfft(tail, 2 * PART).astype(np.complex64)
        self._spectra = np.zeros_like(self._responses)
        self._newest = 0
        self._parts = np.zeros(2 * PART, np.float32)  # the part before, and the current one
        self._coming = np.zeros(PART, np.float32)  # the tail's output for the current part
        self._at = 0

    def push(self, block: Float32[np.ndarray, "time"]) -> Float32[np.ndarray, "time"]:
        output = np.empty_like(block)
        done = 0
        while done < block.size:
            size = min(PART - self._at, block.size - done)
            begin = PART + self._at
            self._parts[begin : begin + size] = block[done : done + size]
            window = self._parts[begin - PART + 1 : begin + size]
            output[done : done + size] = np.convolve(window, self._head, "valid")
            output[done : done + size] += self._coming[self._at : self._at + size]
            self._at += size
            done += size
            if self._at == PART:
                self._turn()
        return output

    def _turn(self) -> None:
        """After a whole part of the input, compute the tail's output for the next part."""
        self._at = 0
        if len(self._responses):
            self._newest = (self._newest - 1) % len(self._responses)
            self._spectra[self._newest] = np.fft.rfft(self._parts)
            order = (self._newest + np.arange(len(self._responses))) % len(self._responses)
            total = np.einsum("pf,pf->f", self._spectra[order], self._responses)
            self._coming = np.fft.irfft(total)[PART:].astype(np.float32)
        self._parts[:PART] = self._parts[PART:]
