"""Noise with a spectrum that is known: an autoregressive process of first order."""

from __future__ import annotations

import numpy as np
import torch
from scipy.signal import lfilter

RHO, DEVIATION = 0.95, 0.2
OPTIMUM = 0.10298
"""Mean over frequency of the root of its spectrum: the least v-loss that is possible."""


def noise(clips: int, length: int, seed: int, rho: float = RHO) -> torch.Tensor:
    """Clips (clips, 1, length) of standard deviation `DEVIATION`."""
    drawn = np.random.default_rng(seed).standard_normal((clips, length + 512)) * DEVIATION * (1 - rho**2) ** 0.5
    return torch.from_numpy(lfilter([1], [1, -rho], drawn)[:, None, 512:].astype(np.float32))
