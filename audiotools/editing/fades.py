"""Fade a sound in and out, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from tonemill.audiotools.shapes import Float32
from tonemill.audiotools.waveform import Flow, Sound, Waveform

Shape = Literal["linear", "equal-power", "cosine"]


def fade_curve(frames: int, shape: Shape) -> Float32[np.ndarray, " frames"]:
    """Gains that rise from exactly 0 to exactly 1; of one frame, 0.

    Played against their mirror image, the gains of linear and cosine add up to 1, and the squares of equal-power: where
    two sounds cross, these keep the amplitude of equal ones and the power of unlike ones.
    """
    place = np.arange(frames) / max(1, frames - 1)
    curve = {
        "linear": place,
        "equal-power": np.sin(np.pi / 2 * place),
        "cosine": 0.5 - 0.5 * np.cos(np.pi * place),
    }[shape]
    return curve.astype(np.float32)


def fitted(frames: int, fade_in: int, fade_out: int) -> tuple[int, int]:
    """Lengths of two fades that fit into a sound: shortened alike where they would overlap."""
    both = fade_in + fade_out
    if both <= frames:
        return fade_in, fade_out
    shorter = fade_in * frames // both
    return shorter, min(fade_out, frames - shorter)


def faded(sound: Sound, frames: int, fade_in: int, fade_out: int, shape: Shape) -> Sound:
    """A sound with faded ends, as a Flow if it was one.

    Args:
        sound: of `frames` frames.
        frames: its length.
        fade_in: frames that rise, from a first one of 0.
        fade_out: frames that fall, to a last one of 0; together with `fade_in` no more than `frames`.
        shape: as `fade_curve` has them.
    """
    rise, fall = fade_curve(fade_in, shape), fade_curve(fade_out, shape)[::-1]

    def blocks() -> Iterator[Float32[np.ndarray, "channels time"]]:
        at = 0
        for block in sound.blocks():
            end = at + block.shape[1]
            if at < fade_in or end > frames - fade_out:
                block = block.copy()
                _scale(block, rise, -at)
                _scale(block, fall, frames - fade_out - at)
            yield block
            at = end

    flow = Flow(blocks, sound.sample_rate, sound.channels, getattr(sound, "bits", 16))
    return flow.whole() if isinstance(sound, Waveform) else flow


def _scale(block: np.ndarray, curve: np.ndarray, first: int) -> None:
    """Multiply a block by a curve whose first gain belongs to the block's frame `first`, which may lie outside."""
    start, end = max(0, first), min(block.shape[1], first + len(curve))
    if start < end:
        block[:, start:end] *= curve[start - first : end - first]
