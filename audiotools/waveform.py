"""Sound in memory: a Waveform holds all of it, a Flow yields it block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32


@dataclass(frozen=True)
class Waveform:
    """Samples and their rate.

    Args:
        samples: (channels, time), float32, full scale is [-1, 1].
        sample_rate: in hertz.
    """

    samples: Float32[np.ndarray, "channels time"]
    sample_rate: int

    @property
    def channels(self) -> int:
        return int(self.samples.shape[0])

    @property
    def frames(self) -> int:
        return int(self.samples.shape[1])

    def blocks(self) -> Iterator[Float32[np.ndarray, "channels time"]]:
        """Yield the samples as one block."""
        yield self.samples

    def whole(self) -> Waveform:
        return self


@dataclass(frozen=True)
class Flow:
    """A waveform that need not fit in memory: it can be read from its start, in blocks, as often as asked.

    Args:
        open_blocks: starts a reading; yields arrays (channels, time) of any lengths.
        sample_rate: in hertz.
        channels: of every block.
        bits: per sample, enough to keep what it is read from.
    """

    open_blocks: Callable[[], Iterator[Float32[np.ndarray, "channels time"]]]
    sample_rate: int
    channels: int
    bits: int = 16

    def blocks(self) -> Iterator[Float32[np.ndarray, "channels time"]]:
        """Start a reading."""
        return self.open_blocks()

    def whole(self) -> Waveform:
        """Read everything into memory."""
        parts = list(self.blocks())
        samples = np.concatenate(parts, axis=1) if parts else np.zeros((self.channels, 0), np.float32)
        return Waveform(samples, self.sample_rate)


Sound = Waveform | Flow
