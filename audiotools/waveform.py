"""Sound in memory: a Waveform holds all of it, a Flow yields it block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.shapes import Float32

MOST_WHOLE_BYTES: Final = 4 << 30
"""Of one sound that is read whole: three hours of stereo at 48 kHz."""


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
    """A waveform that need not fit in memory: it is read in blocks from its start, any number of times.

    Args:
        open_blocks: starts a reading; yields arrays (channels, time) of any lengths.
        sample_rate: in hertz.
        channels: of every block.
        bits: per sample, enough to keep what it is read from.
        decoders: libraries that decode it; one that fails part of the way may leave the rest to another.
    """

    open_blocks: Callable[[], Iterator[Float32[np.ndarray, "channels time"]]]
    sample_rate: int
    channels: int
    bits: int = 16
    decoders: set[str] = field(default_factory=set)

    def blocks(self) -> Iterator[Float32[np.ndarray, "channels time"]]:
        """Start a reading."""
        return self.open_blocks()

    def whole(self) -> Waveform:
        """Read everything into memory.

        Raises:
            AudioError: too_long: it is more than `MOST_WHOLE_BYTES`. Hours of silence fit in a small file.
        """
        parts, total = [], 0
        for block in self.blocks():
            parts.append(block)
            total += block.nbytes
            if total > MOST_WHOLE_BYTES:
                seconds = MOST_WHOLE_BYTES / (4 * self.channels * self.sample_rate)
                message = f"more than {seconds / 60:.0f} minutes would have to be in memory at once"
                raise AudioError("too_long", f"{message}; put `tonemill slice` before this step, or scan shorter files")
        samples = np.concatenate(parts, axis=1) if parts else np.zeros((self.channels, 0), np.float32)
        return Waveform(samples, self.sample_rate)


Sound = Waveform | Flow
