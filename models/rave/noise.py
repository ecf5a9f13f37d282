"""Noise through filters that change in time, and random numbers that are a function of seed and place.

A network gives amplitudes a >= 0 of B bands for each frame of F samples. The filter of a frame is the inverse Fourier
transform of a, n = 2 (B - 1) taps, turned by n / 2 and weighted by a Hann window (RAVE's published code; Engel et al.,
2020, https://arxiv.org/abs/2001.04643, section 3.3). Each frame of noise goes through its own filter, and what rings
beyond the frame is added to the next ones; so n may be larger than F. The filters are causal, n / 2 samples late, which
makes no difference to noise.
"""

from __future__ import annotations

import math
from functools import cache, reduce
from typing import Final

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from tonemill.models.parts.spectra import overlap_add

PERIOD: Final = 2**22
"""Frames after which the noise repeats: a float counts so far exactly, and hours pass until then."""

SEEDS: Final = 2**24
"""Seeds that a float distinguishes."""

Frames = Int64[Tensor, "batch frames"]


def uniform(seeds: Float[Tensor, "batch"], place: Int64[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
    """A number in [-1, 1) for each place, the same wherever it is drawn.

    A hash of 32 bits with multiplications modulo 2^32 between shifts, as in MurmurHash3's finalizer; constants by
    Ettinger, 2018 (https://github.com/skeeto/hash-prospector).
    """
    seed = seeds.to(torch.int64).reshape(-1, *([1] * (place.ndim - 1)))
    return _hash(_xor(_hash(place), _hash(seed + 0x9E3779B9))).to(torch.float32) / 2**31 - 1


def normal(seeds: Float[Tensor, "batch"], place: Int64[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
    """A normally distributed number for each place; by Box and Muller from two uniform ones."""
    radius = (uniform(seeds, 2 * place) + 1) / 2
    angle = math.pi * uniform(seeds, 2 * place + 1)
    # The smallest step of 32 bits stands in for 0, whose logarithm is infinite.
    return (-2 * radius.clamp(min=2.0**-33).log()).sqrt() * angle.cos()


def _hash(x: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
    mask = 0xFFFFFFFF
    x = x & mask
    x = (_xor(x, x >> 16) * 0x21F0AAAD) & mask
    x = (_xor(x, x >> 15) * 0x735A2D97) & mask
    return _xor(x, x >> 15)


def _xor(one: Int64[Tensor, "*shape"], other: Int64[Tensor, "*#shape"]) -> Int64[Tensor, "*shape"]:
    """Of numbers of at least 0, by sums and AND: torch's ONNX writer has no XOR of numbers."""
    return one + other - 2 * (one & other)


def impulse_responses(amplitudes: Float[Tensor, "*batch bands"]) -> Float[Tensor, "*batch taps"]:
    """The filter of each frame; equal amplitudes of 1 give a unit impulse in its middle."""
    # A graph for another program has a matrix in place of the Fourier transform, which ONNX writers lack.
    return amplitudes.float() @ _responses_of_bands(int(amplitudes.shape[-1]), amplitudes.device)


@cache
def _responses_of_bands(bands: int, device: torch.device) -> Float[Tensor, "bands taps"]:
    """The filter of each band at an amplitude of 1."""
    taps = 2 * (bands - 1)
    response = np.roll(np.fft.irfft(np.eye(bands), taps), taps // 2, axis=1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(taps) / taps)
    # Outside of inference mode, for the cache serves training too.
    with torch.inference_mode(False):
        return torch.from_numpy((response * window).astype(np.float32)).to(device)


def filtered_noise(
    amplitudes: Float[Tensor, "batch signals bands frames"], size: int, seeds: Float[Tensor, "batch"], frames: Frames
) -> Float[Tensor, "batch signals _"]:
    """Noise of every frame through its filter, added up: frames * size samples, and what rings after them.

    Args:
        amplitudes: of each signal's bands.
        size: samples of a frame.
        seeds: of each example.
        frames: the number of each frame in its stream.
    """
    responses = impulse_responses(rearrange(amplitudes, "batch signals bands frames -> batch signals frames bands"))
    signals = responses.shape[1]
    inside = torch.arange(size, device=frames.device)
    of_signal = torch.arange(signals, device=frames.device)[:, None, None]
    place = ((frames % PERIOD)[:, None, :, None] * size + inside) * signals + of_signal
    return overlap_add(_convolved(uniform(seeds, place), responses), size)


def _convolved(one: Float[Tensor, "*batch _"], other: Float[Tensor, "*batch _"]) -> Float[Tensor, "*batch _"]:
    """Each row of one with its row of the other, as so many shifted copies as the shorter has samples."""
    longer, shorter = (one, other) if one.shape[-1] >= other.shape[-1] else (other, one)
    last = int(shorter.shape[-1]) - 1
    return reduce(
        torch.add, [F.pad(longer, (shift, last - shift)) * shorter[..., shift, None] for shift in range(last + 1)]
    )
