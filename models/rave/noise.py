"""Noise through filters that change in time, and random numbers that are a function of seed and place.

A network gives amplitudes a >= 0 of B bands for each frame of F samples. The filter of a frame is the inverse Fourier
transform of a, n = 2 (B - 1) taps, turned by n / 2 and weighted by a Hann window (RAVE's published code; Engel et al.,
2020, https://arxiv.org/abs/2001.04643, section 3.3). Each frame of noise goes through its own filter, and what rings
beyond the frame is added to the next ones; so n may be larger than F. The filters are causal, n / 2 samples late, which
nobody can hear of noise.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from tonemill.models.parts.spectra import overlap_add

PERIOD: Final = 2**22
"""Frames after which the noise repeats: a float counts so far exactly, and hours pass until then."""

SEEDS: Final = 2**24
"""Seeds that a float tells apart."""

Frames = Int64[Tensor, "batch frames"]


def uniform(seeds: Float[Tensor, "batch"], place: Int64[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
    """A number in [-1, 1) for each place, the same wherever it is drawn.

    A hash of 32 bits with multiplications modulo 2^32 between shifts, as in MurmurHash3's finalizer; constants by
    Ettinger, 2018 (https://github.com/skeeto/hash-prospector).
    """
    seed = seeds.to(torch.int64).reshape(-1, *([1] * (place.ndim - 1)))
    return _hash(_hash(place) ^ _hash(seed + 0x9E3779B9)).to(torch.float32) / 2**31 - 1


def normal(seeds: Float[Tensor, "batch"], place: Int64[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
    """A normally distributed number for each place; by Box and Muller from two uniform ones."""
    radius = (uniform(seeds, 2 * place) + 1) / 2
    angle = math.pi * uniform(seeds, 2 * place + 1)
    # The smallest step of 32 bits stands in for 0, whose logarithm is infinite.
    return (-2 * radius.clamp(min=2.0**-33).log()).sqrt() * angle.cos()


def _hash(x: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
    mask = 0xFFFFFFFF
    x = x & mask
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & mask
    x = ((x ^ (x >> 15)) * 0x735A2D97) & mask
    return x ^ (x >> 15)


def impulse_responses(amplitudes: Float[Tensor, "*batch bands"]) -> Float[Tensor, "*batch taps"]:
    """The filter of each frame; equal amplitudes of 1 give a unit impulse in its middle."""
    taps = 2 * (amplitudes.shape[-1] - 1)
    response = torch.fft.irfft(amplitudes.float(), taps).roll(taps // 2, dims=-1)
    return response * torch.hann_window(taps, device=amplitudes.device)


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
    signals, taps = responses.shape[1], responses.shape[-1]
    inside = torch.arange(size, device=frames.device)
    of_signal = torch.arange(signals, device=frames.device)[:, None, None]
    place = ((frames % PERIOD)[:, None, :, None] * size + inside) * signals + of_signal
    transform = 2 ** math.ceil(math.log2(size + taps - 1))
    spectrum = torch.fft.rfft(uniform(seeds, place), transform) * torch.fft.rfft(responses, transform)
    return overlap_add(torch.fft.irfft(spectrum, transform)[..., : size + taps - 1], size)
