"""Change the number of channels of a block of samples, or of a whole sound, and measure what a mix to mono loses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

import numpy as np

from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.shapes import Float32
from tonemill.audiotools.waveform import Flow, Sound, Waveform

Layout = Literal["keep", "mono", "stereo"]

LARGEST_LOSS_DB: Final = -120.0
"""What is stated of channels that cancel altogether."""


def mixed_channels(channels: int, layout: Layout) -> int:
    """How many channels `mixed` gives.

    Raises:
        AudioError: unsupported: more than two channels have no agreed way to become two.
    """
    if layout == "stereo" and channels > 2:
        raise AudioError("unsupported", f"it has {channels} channels; only 1 or 2 become stereo. Use --channels mono")
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


def picked(sound: Sound, channel: int) -> Sound:
    """One channel of a sound, as a Flow if it was one.

    Args:
        sound: any.
        channel: counted from 0.
    """
    if isinstance(sound, Waveform):
        return Waveform(sound.samples[channel : channel + 1], sound.sample_rate)

    def blocks() -> Iterator[Float32[np.ndarray, "1 time"]]:
        return (block[channel : channel + 1] for block in sound.blocks())

    return Flow(blocks, sound.sample_rate, 1, sound.bits)


def mixed_blocks(
    sound: Sound, layout: Layout, noted: Callable[[float], None] = lambda loss_db: None
) -> Iterator[Float32[np.ndarray, "mixed time"]]:
    """The blocks of a sound, each as `mixed` makes it.

    Args:
        sound: is read once.
        layout: as of `mixed`.
        noted: is called at the end, and where reading stops before it, with the RMS of the mono mix of what was read,
            in dB of its loudest channel: 0 for equal channels, -3 for unrelated ones of one level, -6 where one of two
            is silent, and less where channels cancel each other. Of silence, and of other layouts, nothing is noted.
    """
    if layout != "mono" or sound.channels < 2:
        yield from (mixed(block, layout) for block in sound.blocks())
        return
    powers, mix = np.zeros(sound.channels), 0.0
    try:
        for block in sound.blocks():
            mono = mixed(block, layout)
            # The sums of one block in single precision are right to 0.001 dB.
            powers += [float(np.dot(row, row)) for row in block]
            mix += float(np.dot(mono[0], mono[0]))
            yield mono
    finally:
        if loudest := float(powers.max()):
            noted(float(10 * np.log10(max(mix / loudest, 10 ** (LARGEST_LOSS_DB / 10)))))


def laid_out(sound: Sound, layout: Layout, noted: Callable[[float], None] = lambda loss_db: None) -> Sound:
    """A sound mixed to a layout, as a Flow if it was one.

    Args:
        sound: any.
        layout: as of `mixed`.
        noted: as of `mixed_blocks`; at once for a Waveform, and each time that a Flow was read.

    Raises:
        AudioError: as `mixed_channels`.
    """
    channels = mixed_channels(sound.channels, layout)
    if isinstance(sound, Waveform):
        (samples,) = mixed_blocks(sound, layout, noted)
        return Waveform(samples, sound.sample_rate)
    return Flow(lambda: mixed_blocks(sound, layout, noted), sound.sample_rate, channels, sound.bits)


def channel_powers(sound: Sound) -> list[float]:
    """The mean square of each channel; reads the sound once."""
    total, frames = np.zeros(sound.channels), 0
    for block in sound.blocks():
        total += [float(np.einsum("t,t->", row, row, dtype=np.float64)) for row in block]
        frames += block.shape[1]
    return [float(power) for power in total / max(1, frames)]
