"""Find where a sound begins and ends, and cut it there, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tonemill.audiotools.editing.rest import extremes
from tonemill.audiotools.shapes import Float32
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


@dataclass(frozen=True)
class Ground:
    """The range of samples that counts as silence.

    Args:
        frames: samples per channel.
        level: amplitude up to which it is silent, 1 being full scale.
        rest: the value of each channel from which that counts; 0 but for recordings with an offset.
    """

    frames: int
    level: float
    rest: Float32[np.ndarray, " channels"]

    def about(self, block: Float32[np.ndarray, "channels time"]) -> Float32[np.ndarray, "channels time"]:
        """Samples less the values at which their channels rest."""
        return block - self.rest[:, None] if self.rest.any() else block


def ground(sound: Sound, threshold: Number, is_relative: bool) -> Ground:
    """The silence of a sound; reads it once.

    Args:
        sound: any length.
        threshold: amplitude, 1 being full scale or the largest sample.
        is_relative: it counts from the largest sample.
    """
    found = extremes(sound)
    none = np.zeros(sound.channels, np.float32)
    # Half of the range is the peak of a sound about any offset.
    highs, lows = found.tables()
    half = float((highs.max(axis=1) - lows.min(axis=1)).max()) / 2 if highs.size else 0.0
    rest = found.rest(threshold * half if is_relative else threshold)
    peak = found.peak(rest if rest.any() else none)
    return Ground(found.frames, threshold * peak if is_relative else float(threshold), rest)


def loud_part(sound: Sound, where: Ground) -> tuple[int, int] | None:
    """The first frame in which any channel is no longer silent, and the frame after the last such one.

    Args:
        sound: is read once.
        where: what of it is silence.

    Returns:
        (first, end), or None where nothing is louder.
    """
    first, end, at, level = None, 0, 0, where.level
    for block in map(where.about, sound.blocks()):
        frames = block.shape[1]
        # Most blocks are loud somewhere, and only the ends of the sound need looking at frame by frame.
        if frames and max(block.max(), -block.min()) > level:
            loud = np.flatnonzero((np.abs(block) > level).any(axis=0))
            first = at + int(loud[0]) if first is None else first
            end = at + int(loud[-1]) + 1
        at += frames
    return None if first is None else (first, end)


def phrases(sounds: Sequence[Sound], grounds: Sequence[Ground], gap: int) -> list[tuple[int, int]]:
    """First frame of each phrase and the frame after its last, of sounds that run beside each other.

    A phrase ends where all of the sounds are silent for at least `gap` frames.

    Args:
        sounds: each is read once.
        grounds: what of each is silence.
        gap: frames, 1 or more.
    """
    runs = sorted(run for sound, where in zip(sounds, grounds, strict=True) for run in _loud_runs(sound, where, gap))
    found: list[tuple[int, int]] = []
    for first, end in runs:
        if found and first - found[-1][1] < gap:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((first, end))
    return found


def _loud_runs(sound: Sound, where: Ground, gap: int) -> Iterator[tuple[int, int]]:
    begun, end, at = -1, 0, 0
    for block in map(where.about, sound.blocks()):
        loud = at + np.flatnonzero((np.abs(block) > where.level).any(axis=0))
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
