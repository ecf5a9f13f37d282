"""Spectral distances of RAVE, of the signal and of its sub-bands (Caillon and Esling, 2021, section 3.1; specs 4.1).

At each scale of n samples, a hop of n / 4 and a mirrored edge, with magnitudes X of the true and Y of the found signal

    sum |X - Y|^2 / sum |X|^2 + mean |ln(X + 1e-7) - ln(Y + 1e-7)|

summed over scales. The ratio is of each clip, over all its channels and bands, and has a floor: a silent clip would
weigh more than all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tonemill.models.parts.spectra import logarithm_distance, magnitudes, quarter_hops, relative_distance

OFFSET: Final = 1e-7
LEAST: Final = 1e-12
"""Of a magnitude, where its gradient is still finite; far below the offset."""

Signals = Float[Tensor, "batch signals time"]


def spectral_distance(found: Signals, true: Signals, scales: Sequence[int], silence_rms: float) -> Float[Tensor, ""]:
    """The distance, in float32 whatever the precision around it.

    Args:
        found: signals of a clip, as channels or sub-bands; longer than half of each scale.
        true: what they should be.
        scales: samples of the transforms.
        silence_rms: a clip below this level has the ratio that it would have at this level.
    """
    total = found.new_zeros((), dtype=torch.float32)
    with torch.autocast(found.device.type, enabled=False):
        for resolution in quarter_hops(*scales):
            x, y = (
                rearrange(
                    magnitudes(one.float().flatten(0, 1), resolution, "reflection", LEAST),
                    "(batch signals) frames bins -> batch (signals frames) bins",
                    signals=found.shape[1],
                )
                for one in (found, true)
            )
            # White noise of this level has such a mean square: the energy of a Hann window is 3/8 of its length.
            floor = max(1e-12, silence_rms**2 * 0.375 * resolution.n_fft)
            total = total + relative_distance(x, y, 2, floor) + logarithm_distance(x, y, OFFSET)
    return total
