"""Change the number of channels of a block of samples."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.errors import AudioError

Layout = Literal["keep", "mono", "stereo"]


def mixed_channels(channels: int, layout: Layout) -> int:
    """How many channels `mixed` gives.

    Raises:
        AudioError: unsupported: more than two channels have no agreed way to become two.
    """
    if layout == "stereo" and channels > 2:
        raise AudioError("unsupported", f"it has {channels} channels, which cannot become stereo; use --channels mono")
    return {"keep": channels, "mono": 1, "stereo": 2}[layout]


def mixed(block: Float32[np.ndarray, "channels time"], layout: Layout) -> Float32[np.ndarray, "mixed time"]:
    """Mix to mono (mean of all channels) or spread to stereo (mono twice).

    Raises:
        AudioError: as `mixed_channels`.
    """
    channels = mixed_channels(len(block), layout)
    if channels == len(block):
        return block
    if channels == 2:
        return np.repeat(block, 2, axis=0)
    # Adding rows reads memory in order; a mean over the interleaved axis took 40 times as long.
    total = block[0] + block[1]
    for row in block[2:]:
        total += row
    total *= np.float32(1 / len(block))
    return total[None]
