"""Settings of the prior, and the options of rendering with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Final

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.directions import Bounds
from tonemill.models.exchange import CorpusFacts
from tonemill.models.parts.codec import latents_of, settled_frames
from tonemill.models.parts.settings import require_least

LATENTS: Final = "latents"
"""The array that it learns from where no codec names another."""

CLIP_SECONDS: Final = 4.0
"""Of a training example where no length is set."""

KERNEL: Final = 3
"""Taps of a convolution in time."""


@dataclass(frozen=True)
class PriorConfig:
    codec: Annotated[
        str | None, "A run that decodes the frames to audio, as of rave; default: none, and frames come out."
    ] = None
    length: Annotated[int | None, "Samples of audio that a training example's frames are of; default: 4 seconds."] = (
        None
    )
    width: Annotated[int, "Channels of the convolutions in time."] = 256
    receptive_seconds: Annotated[float, "Of frames that a frame is drawn given, about."] = 2.5
    stacks: Annotated[int, "Rounds of dilations 1, 2, 4 and on; more see the same time through more layers."] = 2
    frame_width: Annotated[int, "Units between the coordinates of a frame."] = 64
    mixture: Annotated[int, "Normal distributions of each coordinate."] = 8
    dropout: Annotated[float, "Of a frame's context, a share that is left out in training."] = 0.1
    learning_rate: Annotated[float, "Of Adam."] = 3e-4
    learning_rate_warm_up: Annotated[int, "Steps in which it rises at the beginning; 0: none."] = 100
    validate_seconds: Annotated[float, "Of held-out audio whose frames are measured each time; 0: all of it."] = 600.0
    array: Annotated[str | None, "The array of frames; default: what the codec decodes, else latents."] = None
    hop: Annotated[int | None, "Samples for a frame; default: the corpus's."] = None
    rows: Annotated[int | None, "Numbers of a frame; default: the corpus's."] = None
    sample_rate: Annotated[int | None, "In hertz; default: the corpus's."] = None
    channels: Annotated[int | None, "Of the audio; default: the codec's."] = None

    def __post_init__(self) -> None:
        require_least(
            self, length=1, width=1, stacks=1, frame_width=1, mixture=1, learning_rate_warm_up=0, validate_seconds=0
        )
        for name in ("receptive_seconds", "learning_rate"):
            if getattr(self, name) <= 0:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be above 0.")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"--dropout is {self.dropout}; it must be at least 0 and below 1.")

    @property
    def dilations(self) -> tuple[int, ...]:
        """Of each layer: so many doublings that the stacks reach about over `receptive_seconds`."""
        wanted = self.receptive_seconds * (self.sample_rate or 1) / (self.hop or 1)
        doublings = round(math.log2(1 + max(wanted - 1, 1) / ((KERNEL - 1) * self.stacks)))
        return tuple(2**layer for layer in range(max(1, doublings))) * self.stacks

    @property
    def receptive_field(self) -> int:
        """Frames that a frame is drawn given."""
        return 1 + (KERNEL - 1) * sum(self.dilations)

    def settled_for(self, corpus: CorpusFacts) -> PriorConfig:
        """With what a corpus of frames and a codec decide.

        Raises:
            CorpusError: it has no such frames, or they are not those of the codec; the message names the mend.
        """
        if "codec" in corpus.parents:
            array = latents_of(corpus, "codec", str(self.codec)).name
        else:
            array = self.array or LATENTS
        ours = settled_frames(self, corpus, array, "prior")
        hop = ours["hop"]
        channels = corpus.parents["codec"].channels if "codec" in corpus.parents else 0
        settled = replace(self, array=array, channels=channels, **ours)
        frames = (round(CLIP_SECONDS * corpus.sample_rate) if self.length is None else self.length) // hop
        if frames < 2:
            raise CorpusError(
                f"{corpus.name} has a frame for {hop} samples, so a training example is {frames} frames long, and "
                f"needs at least two. Set --length to {2 * hop} or more."
            )
        return replace(settled, length=frames * hop)


@dataclass(frozen=True)
class PriorOptions:
    seconds: Annotated[float | None, "Of each clip; default: of a training clip.", Bounds(0.001)] = None
    temperature: Annotated[
        float, "Deviations are multiplied by it, and log weights divided; 0: the likeliest each time.", Bounds(0)
    ] = 1.0
