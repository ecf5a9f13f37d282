"""Encode audio to latents, for tests: mean and RMS of each frame, in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

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


def install(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Bring this step, and the model `latent_prior`, as another package does; its metadata goes into a folder."""
    about = folder / "latents-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: latents\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[tonemill.steps]\nlatents = latents\n[tonemill.models]\nlatent_prior = latent_prior\n"
    )
    patch.syspath_prepend(str(folder))


STEP = Latents
