"""What a stream through the autoencoder costs: multiplications by count, and time on this machine."""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from tonemill.models.parts.streaming import Conv, ConvTranspose
from tonemill.models.rave.codec import MOST_FRAMES, Codec
from tonemill.models.rave.player import ForwardPlayer
from tonemill.models.rave.settings import RaveConfig

LEAST_SECONDS: Final = 0.2
"""Of each measurement of time, which takes two blocks or more."""


class Cost(NamedTuple):
    """Multiplications with an addition each, of convolutions, for a sample of audio of every channel.

    Args:
        encoder: with the filter bank before it.
        decoder: with the noise branch, and the filter bank after it.
    """

    encoder: float
    decoder: float


def cost_of(config: RaveConfig) -> Cost:
    """By shapes alone: nothing is computed."""
    frames = 4 * MOST_FRAMES
    with torch.device("meta"):
        codec = Codec(config, norm=False).eval()
        bands = torch.empty(1, codec.channels * config.bands, frames * codec.hop_length // config.bands)
        counts = [0]

        def count(layer: Any, inputs: Any, output: Any) -> None:
            # A weight acts once on each column of the slower side.
            counts[-1] += layer.conv.weight.numel() * min(inputs[0].shape[-1], output.shape[-1])

        for layer in codec.modules():
            if isinstance(layer, Conv | ConvTranspose):
                layer.register_forward_hook(count)
        codes = codec.posterior(bands).mean
        counts.append(0)
        codec.decoder(codes)
    bank = codec.channels * config.bands * config.filter_taps
    return Cost(*(one / (frames * codec.hop_length) + bank for one in counts))


class Speed(NamedTuple):
    """Of a stream of audio to audio on this machine.

    Args:
        real_time: seconds of audio for a second, in blocks of many latent frames.
        block_seconds: for a block of one latent frame, the least of several.
    """

    real_time: float
    block_seconds: float


def speed_of(codec: Codec, sample_rate: int) -> Speed:
    """Measured here and now.

    Args:
        codec: without weight norms.
        sample_rate: in hertz.
    """
    many, one = (_least_seconds(codec, frames) for frames in (MOST_FRAMES, 1))
    return Speed(MOST_FRAMES * codec.hop_length / sample_rate / many, one)


def _least_seconds(codec: Codec, frames: int) -> float:
    player = ForwardPlayer(codec, codec.channels, len(codec.axes.mean), 0.0, 0.0)
    draws = np.random.default_rng(0).standard_normal((codec.channels, frames * codec.hop_length))
    block = (0.1 * draws).astype(np.float32)
    found: list[float] = []
    spent = 0.0
    # The first blocks fill caches, and give no sound until latents have come through.
    for _ in range(2 + player.latency // block.shape[1]):
        player.push(block)
    while len(found) < 2 or spent < LEAST_SECONDS:
        begin = time.perf_counter()
        player.push(block)
        found.append(time.perf_counter() - begin)
        spent += found[-1]
    return min(found)
