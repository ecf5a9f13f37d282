"""Play audio through a model that renders from audio: as streams that need not fit in memory, or many files at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from tonemill.audiotools.editing.resampling import resample, resample_blocks
from tonemill.audiotools.waveform import Flow, Sound, Waveform

if TYPE_CHECKING:
    from tonemill.models.contract import Model, Request


def streamed(model: Model, request: Request, sound: Sound, size: int) -> Sound:
    """One sound through the model, `size` samples at a time: a Flow of a Flow, a Waveform of a Waveform.

    Each channel has a player of its own; each reading of the Flow starts with new ones.
    """

    def blocks() -> Iterator[Float32[np.ndarray, "channels time"]]:
        players = [model.player(request) for _ in range(sound.channels)]
        for block in resample_blocks(sound.blocks(), sound.sample_rate, model.sample_rate):
            for first in range(0, block.shape[1], size):
                rows = [np.ascontiguousarray(row) for row in block[:, first : first + size]]
                yield np.stack([player.push(row) for player, row in zip(players, rows, strict=True)])

    flow = Flow(blocks, model.sample_rate, sound.channels)
    return flow.whole() if isinstance(sound, Waveform) else flow


def together(
    model: Model, requests: Sequence[Request], sounds: Sequence[Sound], lockstep: int, segments: int
) -> list[Waveform]:
    """Whole sounds through the model at once.

    Args:
        model: hears its own output, so that one stream leaves a processor waiting.
        requests: one for each sound.
        sounds: at any rate.
        lockstep: sounds played side by side.
        segments: overlapping parts into which each sound is cut; 1 plays it in order.
    """
    whole = [resample(sound.whole().samples, sound.sample_rate, model.sample_rate) for sound in sounds]
    asked = [replace(request, audio={"audio": samples}) for request, samples in zip(requests, whole, strict=True)]
    return [Waveform(output, model.sample_rate) for output in model.play_together(asked, lockstep, segments)]
