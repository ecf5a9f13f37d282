"""Sub-bands of a signal and back: a cosine-modulated filter bank, near-perfect in its round trip.

With M bands and a prototype h of N taps around n = 0 (RAVE's published code; Nguyen, 1994; Lin and Vaidyanathan, 1998)

    h_k[n] = 2 h[n] cos((2k + 1) pi n / 2M + (-1)^k pi / 4)        band k, frame m:  sum_n x[Mm + n] h_k[n]

and the way back adds up M h_k[n - Mm] of every frame. The prototype is a Kaiser-windowed low-pass whose cutoff makes
the autocorrelation of h nearly zero at multiples of 2M, and whose energy is 1 / 2M. Frames of odd bands that have an
even number change their sign, so that the spectrum of no band is mirrored.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

from tonemill.audiotools.errors import UsageError
from tonemill.models.parts.streaming import State, Streaming, appended, begun, counter


@cache
def prototype(bands: int, taps_per_band: int, attenuation_db: float) -> Float64[np.ndarray, "_"]:
    """The low-pass h: bands * taps_per_band - 1 taps, symmetric.

    The cutoff is searched on a grid first, for the worst tap of the autocorrelation has several minima over it.
    """
    from scipy.optimize import minimize_scalar
    from scipy.signal.windows import kaiser

    taps = bands * taps_per_band - 1
    place = np.arange(taps) - taps // 2
    window = kaiser(taps, _kaiser_beta(attenuation_db))

    def low_pass(cutoff: float) -> Float64[np.ndarray, "_"]:
        return cutoff / np.pi * np.sinc(cutoff * place / np.pi) * window

    def worst(cutoff: float) -> float:
        h = low_pass(cutoff)
        correlation = np.correlate(h, h, "full")[taps - 1 :]
        return float(np.abs(correlation[2 * bands :: 2 * bands]).max() / correlation[0])

    grid = np.linspace(0.5, 0.9, 200) * np.pi / bands
    best = int(np.argmin([worst(cutoff) for cutoff in grid[1:-1]])) + 1
    found = minimize_scalar(worst, bounds=(grid[best - 1], grid[best + 1]), method="bounded", options={"xatol": 1e-9})
    h = low_pass(float(found.x))
    return h / np.sqrt(2 * bands * np.square(h).sum())


def _kaiser_beta(attenuation_db: float) -> float:
    from scipy.signal import kaiser_beta

    return float(kaiser_beta(attenuation_db))


@cache
def filters(bands: int, taps_per_band: int, attenuation_db: float) -> Float64[np.ndarray, "bands taps"]:
    """h_k of every band, with a zero before it: bands * taps_per_band taps, of which the middle one is n = 0."""
    h = np.concatenate([[0.0], prototype(bands, taps_per_band, attenuation_db)])
    place = np.arange(len(h)) - len(h) // 2
    band = np.arange(bands)[:, None]
    return 2 * h * np.cos((2 * band + 1) * np.pi * place / (2 * bands) + (-1.0) ** band * np.pi / 4)


class FilterBank(Streaming):
    """What analysis and synthesis share: convolutions of phases of the signal, and the sign of odd bands.

    Phase p of a signal of M times the rate holds its samples Mm + p; over phases both filters are convolutions at the
    rate of the bands.

    Attributes:
        lag: samples by which its output is late because it is causal; 0 where it is not.
    """

    kernel: Tensor

    def __init__(self, bands: int, channels: int, left: int, kernel: Float64[np.ndarray, "out in taps"]) -> None:
        super().__init__()
        self.bands, self.channels, self.left = bands, channels, left
        self.right = kernel.shape[2] - 1 - left
        self.register_buffer("kernel", torch.tensor(kernel, dtype=torch.float32), persistent=False)

    def _whole(self, x: Float[Tensor, "batch _ frames"]) -> Float[Tensor, "batch _ frames"]:
        return self._convolved(F.pad(x, (self.left, self.right)))

    def _convolved(self, x: Float[Tensor, "batch _ _"]) -> Float[Tensor, "batch _ frames"]:
        """In float32 whatever the precision around it: 8 bits would end the round trip at -48 dB."""
        with torch.autocast(x.device.type, enabled=False):
            return F.conv1d(x.float(), self.kernel)

    def _signed(self, x: Float[Tensor, "batch _ frames"], first: int = 0) -> Float[Tensor, "batch _ frames"]:
        """Odd bands with the sign of frames of an even number changed; `first` is the number of the first frame."""
        frame = torch.arange(first, first + x.shape[-1], device=x.device) % 2
        band = torch.arange(self.bands, device=x.device)[:, None] % 2
        return x * (1 - 2 * (band * (1 - frame))).to(x.dtype)

    def _in_pairs(self, x: Float[Tensor, "batch _ frames"]) -> None:
        if x.shape[-1] % 2:
            raise UsageError(f"a block has {x.shape[-1]} frames of sub-bands; a stream takes an even number.")


class Analysis(FilterBank):
    """A signal (batch, channels, time) to its bands (batch, channels * bands, time / bands).

    Args:
        channels: of the signal, each split into bands of its own, all bands of a channel together.
        causal: looks at no later frame; then it is late by `lag` samples.
    """

    def __init__(self, bands: int, channels: int, taps_per_band: int, attenuation_db: float, causal: bool) -> None:
        kernel = rearrange(filters(bands, taps_per_band, attenuation_db), "k (q p) -> k p q", p=bands)
        half = taps_per_band // 2
        super().__init__(bands, channels, taps_per_band - 1 if causal else half, kernel)
        self.lag = bands * (half - 1) if causal else 0
        self.rate = (1, bands)
        self.aligned(0)

    def aligned(self, delay: int) -> int:
        if delay:
            raise UsageError(f"sub-bands of a stream that is {delay} samples late are not taken.")
        self.delay = self.right
        return self.delay

    def shapes(self) -> list[tuple[int, ...]]:
        return [(self.channels * self.bands, self.left + self.right)]

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch _ frames"]:
        bands = self._signed(self._whole(self._phases(x)))
        return rearrange(bands, "(batch c) k frames -> batch (c k) frames", c=self.channels)

    def step(
        self, x: Float[Tensor, "batch channels time"], state: State
    ) -> tuple[Float[Tensor, "batch _ frames"], State]:
        phases = rearrange(self._phases(x), "(batch c) p frames -> batch (c p) frames", c=self.channels)
        self._in_pairs(phases)
        both, past = appended(state[0], phases)
        both = rearrange(both, "batch (c p) frames -> (batch c) p frames", c=self.channels)
        bands = self._signed(self._convolved(both), first=self.delay % 2)
        return rearrange(bands, "(batch c) k frames -> batch (c k) frames", c=self.channels), [past]

    def _phases(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "_ bands frames"]:
        return rearrange(x, "batch c (frames p) -> (batch c) p frames", p=self.bands)


class Synthesis(FilterBank):
    """Bands (batch, channels * bands, frames) to the signal (batch, channels, frames * bands); see `Analysis`."""

    def __init__(self, bands: int, channels: int, taps_per_band: int, attenuation_db: float, causal: bool) -> None:
        # Sample Mm + p sums M h_k[M (m - m') + p] over frames m': the kernel over m' runs backwards.
        spread = rearrange(filters(bands, taps_per_band, attenuation_db), "k (q p) -> p k q", p=bands)
        half = taps_per_band // 2
        super().__init__(bands, channels, taps_per_band - 1 if causal else half - 1, bands * spread[:, :, ::-1].copy())
        self.lag = bands * half if causal else 0
        self.rate = (bands, 1)
        self.aligned(0)

    def aligned(self, delay: int) -> int:
        self.input_delay = delay
        self.delay = self.bands * (self.right + delay)
        return self.delay

    def shapes(self) -> list[tuple[int, ...]]:
        return [(self.channels * self.bands, self.left + self.right), *counter(self.input_delay)]

    def forward(self, x: Float[Tensor, "batch _ frames"]) -> Float[Tensor, "batch channels time"]:
        bands = rearrange(x, "batch (c k) frames -> (batch c) k frames", c=self.channels)
        return self._joined(self._whole(self._signed(bands)))

    def step(
        self, x: Float[Tensor, "batch _ frames"], state: State
    ) -> tuple[Float[Tensor, "batch channels time"], State]:
        self._in_pairs(x)
        x, counted = begun(x, state[1:], self.input_delay)
        bands = rearrange(x, "batch (c k) frames -> (batch c) k frames", c=self.channels)
        # Frame j of the stream is frame j - delay of the whole: of another parity where the delay is odd.
        signed = self._signed(bands, first=self.input_delay % 2)
        both, past = appended(state[0], rearrange(signed, "(batch c) k frames -> batch (c k) frames", c=self.channels))
        both = rearrange(both, "batch (c k) frames -> (batch c) k frames", c=self.channels)
        return self._joined(self._convolved(both)), [past, *counted]

    def _joined(self, phases: Float[Tensor, "_ bands frames"]) -> Float[Tensor, "batch channels time"]:
        return rearrange(phases, "(batch c) p frames -> batch c (frames p)", c=self.channels)
