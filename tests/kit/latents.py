"""Encode audio to latents, for tests: mean and RMS of each frame, in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from tonemill.audiotools.arrays import Array
from tonemill.pipelines.recipes.example import Example
from tonemill.pipelines.recipes.step import Step

HOP = 256


def encoded(samples: np.ndarray, hop: int = HOP) -> np.ndarray:
    """(2, frames): mean and RMS of the first channel, frame by frame; a last frame that is not full is of fewer."""
    cut = [samples[0, start : start + hop].astype(np.float64) for start in range(0, samples.shape[1], hop)]
    return np.array([[one.mean() for one in cut], [np.sqrt((one**2).mean()) for one in cut]], np.float32)


@dataclass(frozen=True)
class Latents(Step):
    hop: Annotated[int, "Samples in a frame."] = HOP
    keep_audio: Annotated[bool, "Keep the sound beside them."] = False
    left_out: Annotated[int, "Frames that are missing at the end."] = 0
    embedding: Annotated[bool, "Also one vector of the whole."] = False

    def apply(self, example: Example) -> Iterator[Example]:
        (waveform,) = example.waveforms().values()
        values = encoded(waveform.samples, self.hop)
        values = values[:, : values.shape[1] - self.left_out].copy()
        arrays = {"latents": Array(values, waveform.sample_rate, self.hop)}
        if self.embedding:
            arrays["embedding"] = Array(values.mean(axis=1, keepdims=True), waveform.sample_rate)
        yield example.with_arrays(arrays, keep_sounds=self.keep_audio)


STEP = Latents
