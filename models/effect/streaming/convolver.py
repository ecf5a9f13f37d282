"""A long linear response played as a stream without delay: its head directly, its tail in parts by FFT.

The tail is cut into parts of `PART` taps; the spectrum of each part of the input is kept, and multiplied with those of
the response when the next part begins (uniformly partitioned overlap-save, Wefers, 2015). Parts stand at fixed places
in the stream, so what comes out does not hang on how it is cut.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float32

PART: Final = 512


class Convolver:
    """One stream through one response.

    Args:
        taps: the response, from lag 0.
        bias: added to every sample.
    """

    def __init__(self, taps: Float32[np.ndarray, "taps"], bias: float = 0.0) -> None:
        padded = np.zeros(-(-taps.size // PART) * PART, np.float32)
        padded[: taps.size] = taps
        self._head, self._bias = padded[:PART], np.float32(bias)
        tail = padded[PART:].reshape(-1, PART)
        self._responses = np.fft.rfft(tail, 2 * PART).astype(np.complex64)
        self._spectra = np.zeros_like(self._responses)
        self._newest = 0
        self._heard = np.zeros(2 * PART, np.float32)  # the part before, and the one that comes in
        self._coming = np.full(PART, self._bias, np.float32)  # what the tail adds to the part that comes in
        self._at = 0

    def push(self, block: Float32[np.ndarray, "time"]) -> Float32[np.ndarray, "time"]:
        said = np.empty_like(block)
        done = 0
        while done < block.size:
            size = min(PART - self._at, block.size - done)
            begin = PART + self._at
            self._heard[begin : begin + size] = block[done : done + size]
            window = self._heard[begin - PART + 1 : begin + size]
            said[done : done + size] = np.convolve(window, self._head, "valid")
            said[done : done + size] += self._coming[self._at : self._at + size]
            self._at += size
            done += size
            if self._at == PART:
                self._turn()
        return said

    def _turn(self) -> None:
        """A part has come in whole: what the tail says to the next one is known."""
        self._at = 0
        if len(self._responses):
            self._newest = (self._newest - 1) % len(self._responses)
            self._spectra[self._newest] = np.fft.rfft(self._heard)
            order = (self._newest + np.arange(len(self._responses))) % len(self._responses)
            total = np.einsum("pf,pf->f", self._spectra[order], self._responses)
            self._coming = np.fft.irfft(total)[PART:].astype(np.float32) + self._bias
        self._heard[:PART] = self._heard[PART:]
