"""Play audio through a model block by block, in memory that does not grow, or many whole files at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.editing.resampling import resample, resample_blocks
from tonemill.audiotools.waveform import Flow, Sound, Waveform
from tonemill.models.players import Blocks, played

if TYPE_CHECKING:
    from tonemill.models.contract import Model, Request


def streamed(model: Model, request: Request, sound: Sound, most_whole: int = 0) -> Sound:
    """Audio through the model: a Flow of a Flow, a Waveform of a Waveform, as long as the input at the model's rate.

    Of a Flow of at most `most_whole` samples at the model's rate a Waveform is made. The model's latency is taken off
    the start, and the rest of its output is flushed at the end. Each reading of the Flow starts with a new player.
    """
    sound = _brief(sound, most_whole * sound.sample_rate // model.sample_rate)
    first = model.player(request, sound.channels)
    unused = [first]

    def blocks() -> Blocks:
        player = unused.pop() if unused else model.player(request, sound.channels)
        yield from played(player, resample_blocks(sound.blocks(), sound.sample_rate, model.sample_rate))

    flow = Flow(blocks, model.sample_rate, first.channels)
    return flow.whole() if isinstance(sound, Waveform) else flow


def _brief(sound: Sound, frames: int) -> Sound:
    """A sound of at most so many frames as a Waveform; a longer one as it is, and nothing is read of it for 0."""
    if not frames or isinstance(sound, Waveform):
        return sound
    parts, total = [np.zeros((sound.channels, 0), np.float32)], 0
    for block in sound.blocks():
        parts.append(block)
        total += block.shape[1]
        if total > frames:
            return sound
    return Waveform(np.concatenate(parts, axis=1), sound.sample_rate)


def played_frames(
    model: Model, request: Request, sound: Sound, hop_length: int
) -> Float32[np.ndarray, "channels frames"]:
    """The array of a sound, which is read block by block: only the array is held whole.

    Args:
        model: whose direction streams.
        request: with that direction.
        sound: at any rate.
        hop_length: samples of a frame.
    """
    player = model.player(request, sound.channels)
    blocks = resample_blocks(sound.blocks(), sound.sample_rate, model.sample_rate)
    silence = np.zeros((player.channels, 0), np.float32)
    return np.concatenate([silence, *played(player, blocks, Fraction(1, hop_length))], axis=1)


def together(model: Model, requests: Sequence[Request], sounds: Sequence[Sound]) -> list[Waveform]:
    """Whole sounds through the model at once.

    Args:
        model: whose directions say that it can.
        requests: one for each sound, with equal options.
        sounds: at any rate.
    """
    whole = [resample(sound.whole().samples, sound.sample_rate, model.sample_rate) for sound in sounds]
    with_audio = [replace(request, audio={"audio": one}) for request, one in zip(requests, whole, strict=True)]
    return [Waveform(output, model.sample_rate) for output in model.play_batch(with_audio)]
