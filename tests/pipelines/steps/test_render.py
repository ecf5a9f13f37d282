"""The render step refuses, before it renders, what its direction cannot read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tonemill.audiotools.arrays import Array
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Waveform
from tonemill.models import earlier
from tonemill.pipelines import config
from tonemill.pipelines.recipes.example import Example
from tonemill.pipelines.steps.render import Render

DIGEST, PARENT = "0123456789abcdef" * 4, "fedcba9876543210" * 4
DECODE = Render(
    "voice", needs=("latents",), rows=4, hop=64, sample_rate=16000, sha256=DIGEST, encoders=(DIGEST, PARENT)
)


def latents(rows: int = 4, **fields: Any) -> Example:
    return Example({}, fields, arrays={"latents": Array(np.zeros((rows, 5), np.float32), 16000, 64)})


@pytest.mark.parametrize("digest", [DIGEST, PARENT])
def test_arrays_of_the_checkpoint_or_of_its_parent_are_read(digest: str) -> None:
    DECODE.check(latents(encoded_by=f"moved@{digest[:16]}"))


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (latents(), "no run that is noted"),
        (latents(encoded_by="voice@0000000000000000"), "voice@0000000000000000"),
        (latents(rows=3, encoded_by=f"voice@{DIGEST[:16]}"), "of 4 channels, and this has 3"),
        (Example({}), "renders from the array latents"),
    ],
)
def test_other_arrays_are_rejects(example: Example, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        DECODE.check(example)


def test_sound_of_other_channels_is_a_reject_with_the_step_that_mends_it() -> None:
    step = Render("stereo", needs=("audio",), channels=2, sample_rate=16000)
    step.check(Example({"audio": Waveform(np.zeros((2, 9), np.float32), 16000)}))
    with pytest.raises(AudioError, match="tonemill channels stereo"):
        step.check(Example({"audio": Waveform(np.zeros((1, 9), np.float32), 16000)}))


def test_a_recipe_is_digested_without_what_the_checkpoint_decides() -> None:
    """So plans of the version before these fields grow on."""
    step = {"step": "render", "version": 1, **config.to_dict(DECODE)}
    before = {name: value for name, value in step.items() if name not in earlier.LATER}
    assert dict(earlier.comparable(step)) == dict(earlier.comparable(before)) == before
