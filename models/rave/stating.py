"""What a trained RAVE states of itself, for a person: phase, latency, cost, speed, and how many latents matter."""

from __future__ import annotations

from typing import Final

import torch

from tonemill.models.rave.codec import Codec
from tonemill.models.rave.cost import cost_of, speed_of
from tonemill.models.rave.settings import RaveConfig

SHARES: Final = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Of the variance, for which the number of latents is stated."""


def stated(codec: Codec, config: RaveConfig) -> dict[str, str]:
    """Values by name, as `tonemill inspect` shows them.

    Args:
        codec: of a checkpoint, on the CPU.
        config: settled.
    """
    rate, hop, plain = int(config.sample_rate or 1), codec.hop_length, codec.plain()
    cost, speed, latency = cost_of(config), speed_of(plain, rate), codec.latency.total
    block = f"a block of {hop} samples ({1000 * hop / rate:.1f} ms)"
    encoder, decoder = (one * rate / 1e9 for one in cost)
    return {
        "phase": _phase(codec, config),
        "latents": _latents(codec, config),
        "latency": f"{latency} samples ({1000 * latency / rate:.1f} ms), beside {block}",
        "cost": f"{encoder + decoder:.2f} billion multiplications for a second of audio: {encoder:.2f} to encode, "
        f"{decoder:.2f} to decode",
        "speed here": f"{speed.real_time:.1f} times real time, and {block} in {1000 * speed.block_seconds:.1f} ms; "
        f"{torch.get_num_threads()} thread(s)",
    }


def _phase(codec: Codec, config: RaveConfig) -> str:
    if float(codec.axes.fitted):
        return (
            f"2 of 2: since step {config.fine_tune_after + 1:,} the encoder stays and discriminators tune the decoder"
        )
    if not config.fine_tune_after:
        return "1 of 1: spectral distances; --fine-tune-after is 0"
    return f"1 of 2: spectral distances; phase 2 begins at step {config.fine_tune_after + 1:,}"


def _latents(codec: Codec, config: RaveConfig) -> str:
    if not float(codec.axes.fitted):
        return f"{config.latent_dim}; their principal axes are measured where phase 2 begins"
    counts = ", ".join(f"{codec.axes.count(None, share)} hold {share:.0%}" for share in SHARES)
    return f"{config.latent_dim}, of which {counts} of the variance"
