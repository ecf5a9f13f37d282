"""Find where a sound begins and ends, and cut it there, block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.waveform import Flow, Sound, Waveform

Number = int | float  # to beartype, an int is no float


def extent(sound: Sound) -> tuple[int, float]:
    """Frames of a sound, and its largest absolute sample; reads it once."""
    frames, peak = 0, 0.0
    for block in sound.blocks():
        if block.shape[1]:
            frames += block.shape[1]
            peak = max(peak, float(block.max()), -float(block.min()))
    return frames, peak


def loud_part(sound: Sound, level: Number) -> tuple[int, int] | None:
    """The first frame in which any channel rises above a level, and the frame after the last such one.

    Args:
        sound: is read once.
        level: amplitude, 1 being full scale.

    Returns:
        (first, end), or None where nothing rises above the level.
    """
    first, end, at = None, 0, 0
    for block in sound.blocks():
        frames = block.shape[1]
        # Most blocks are loud somewhere, and only the ends of the sound need looking at frame by frame.
        if frames and max(block.max(), -block.min()) > level:
            loud = np.flatnonzero((np.abs(block) > level).any(axis=0))
            first = at + int(loud[0]) if first is None else first
            end = at + int(loud[-1]) + 1
        at += frames
    return None if first is None else (first, end)


def part(sound: Sound, first: int, end: int) -> Sound:
    """The frames from `first` to before `end`, as a Flow if it was one; reading stops where the part does."""
    if isinstance(sound, Waveform):
        return Waveform(sound.samples[:, first:end], sound.sample_rate)
    flow = sound

    def blocks() -> Iterator[Float32[np.ndarray, "channels time"]]:
        at = 0
        for block in flow.blocks():
            piece = block[:, max(0, first - at) : max(0, end - at)]
            at += block.shape[1]
            if piece.shape[1]:
                yield piece
            if at >= end:
                return

    return Flow(blocks, flow.sample_rate, flow.channels, flow.bits)
