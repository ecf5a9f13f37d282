"""Find where a sound begins and ends, and cut it there, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def phrases(sounds: Sequence[Sound], levels: Sequence[Number], gap: int) -> list[tuple[int, int]]:
    """First frame of each phrase and the frame after its last, of sounds that run beside each other.

    A phrase ends where none of the sounds rises above its level for at least `gap` frames.

    Args:
        sounds: each is read once.
        levels: amplitude for each sound, 1 being full scale.
        gap: frames, 1 or more.
    """
    runs = sorted(run for sound, level in zip(sounds, levels, strict=True) for run in _loud_runs(sound, level, gap))
    found: list[tuple[int, int]] = []
    for first, end in runs:
        if found and first - found[-1][1] < gap:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((first, end))
    return found


def _loud_runs(sound: Sound, level: Number, gap: int) -> Iterator[tuple[int, int]]:
    begun, end, at = -1, 0, 0
    for block in sound.blocks():
        loud = at + np.flatnonzero((np.abs(block) > level).any(axis=0))
        at += block.shape[1]
        if not loud.size:
            continue
        breaks = np.flatnonzero(np.diff(loud) > gap)
        for first, last in zip(loud[[0, *(breaks + 1)]], loud[[*breaks, -1]], strict=True):
            if begun >= 0 and first - end < gap:
                end = int(last) + 1
                continue
            if begun >= 0:
                yield begun, end
            begun, end = int(first), int(last) + 1
    if begun >= 0:
        yield begun, end


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
