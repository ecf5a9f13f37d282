"""Cut a sound that flows in blocks into windows of one length, by stated rules for short sounds and tails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from tonemill.audiotools.shapes import Float32

Policy = Literal["pad", "drop", "keep"]
"""What to do with too little sound: append zeros, leave it out, or keep it as it is."""


class Window(NamedTuple):
    """A part of a sound.

    Args:
        start: the frame that it starts at.
        samples: (channels, time).
        padded: so many zeros at its end are not of the sound.
    """

    start: int
    samples: Float32[np.ndarray, "channels window"]
    padded: int = 0


def windows(
    blocks: Iterator[Float32[np.ndarray, "channels time"]], length: int, hop: int, short: Policy, tail: Policy
) -> Iterator[Window]:
    """Yield windows and the frame that each starts at, holding no more than one window and one block.

    Windows start at 0, hop, 2 hop, ... A sound shorter than one window falls under `short`. In a longer one,
    the tail is the window that would start next, if it holds any sound that no earlier window holds.

    Args:
        blocks: arrays (channels, time) of any lengths.
        length: frames per window, 1 or more.
        hop: frames between starts, 1 or more.
        short: for a sound of fewer than `length` frames.
        tail: for what is left at the end of a longer one.
    """
    held: list[np.ndarray] = []
    first = 0  # the frame of the sound at which `held` starts
    ready = 0  # frames in `held`
    start = 0  # of the next window
    for block in blocks:
        held.append(block)
        ready += block.shape[1]
        # With a hop longer than the windows, drop the frames between them.
        while held and first + held[0].shape[1] <= start:
            gone = held.pop(0).shape[1]
            first, ready = first + gone, ready - gone
        if first + ready < start + length:
            continue
        joined = np.concatenate(held, axis=1) if len(held) > 1 else held[0]
        while first + ready >= start + length:
            yield Window(start, joined[:, start - first : start - first + length])
            start += hop
        drop = min(start - first, ready)
        held, first, ready = [joined[:, drop:]], first + drop, ready - drop
    end = first + ready
    covered = 0 if start == 0 else start - hop + length
    if end <= max(covered, start):
        return
    policy = short if start == 0 else tail
    if policy == "drop":
        return
    rest = np.concatenate(held, axis=1)[:, start - first :]
    missing = length - rest.shape[1] if policy == "pad" else 0
    yield Window(start, np.pad(rest, ((0, 0), (0, missing))) if missing else rest, missing)


def window_count(frames: int, length: int, hop: int, short: Policy, tail: Policy) -> int:
    """How many windows `windows` yields for a sound of so many frames."""
    if frames <= 0:
        return 0
    if frames < length:
        return int(short != "drop")
    whole = 1 + (frames - length) // hop
    has_tail = frames > max((whole - 1) * hop + length, whole * hop)
    return whole + int(has_tail and tail != "drop")


def spans(
    blocks: Iterator[Float32[np.ndarray, "channels time"]], edges: Sequence[tuple[int, int]]
) -> Iterator[Float32[np.ndarray, "channels span"]]:
    """Yield the samples from each first frame up to, not including, its last, holding no more than one span.

    Args:
        blocks: arrays (channels, time) of any lengths.
        edges: first and last frame of each span, in order, none reaching into the next, all within the sound.
    """
    held: list[np.ndarray] = []
    at = 0  # the frame that `held` starts at
    ready = 0  # frames in `held`
    for first, last in edges:
        while at + ready < last:
            block = next(blocks, None)
            if block is None:
                return
            held.append(block)
            ready += block.shape[1]
            while held and at + held[0].shape[1] <= first:
                gone = held.pop(0).shape[1]
                at, ready = at + gone, ready - gone
        joined = np.concatenate(held, axis=1) if len(held) > 1 else held[0]
        yield joined[:, first - at : last - at]
        held, at, ready = [joined[:, last - at :]], last, at + ready - last
