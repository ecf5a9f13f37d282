"""The codec of a model of latents: only the corpora that it encoded pass, and blocks decode as the whole does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tonemill.audiotools.errors import CorpusError
from tonemill.models.directions import Direction, ParentFacts
from tonemill.models.exchange import ArrayFacts, CorpusFacts
from tonemill.models.parts.codec import Latents, decoded, decoded_blocks, latents_of
from tonemill.models.vocoder import MODEL
from tonemill.models.vocoder.settings import VocosConfig

RATE = 16000
DIGEST = "0123456789abcdef" * 4
DIRECTIONS = {"encode": Direction("Latents.", gives="latents", hop=64), "decode": Direction("Audio.", ("latents",))}
PARENT = ParentFacts("rave", {}, RATE, 1, DIRECTIONS, DIGEST)
CORPUS = CorpusFacts(
    "corpora/latents",
    (),
    RATE,
    1,
    {"encoded_by": (f"voice@{DIGEST[:16]}",)},
    arrays={"latents": ArrayFacts(8, 64)},
    parents={"codec": PARENT},
)


def test_latents_are_those_of_the_codec() -> None:
    assert latents_of(CORPUS, "codec", "runs/voice") == Latents("latents", 8, 64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": {"encoded_by": ("voice@fedcba9876543210",)}}, "encoded by voice@fedcba9876543210"),
        ({"values": {}}, "a run that it does not name"),
        ({"arrays": {"mel": ArrayFacts(8, 64)}}, "decodes the array latents"),
        ({"arrays": {"latents": ArrayFacts(8, 32)}}, "32 samples a frame"),
        ({"sample_rate": 8000}, "at 8000 Hz"),
    ],
)
def test_another_corpus_is_refused_with_the_command_that_encodes(change: dict[str, object], words: str) -> None:
    with pytest.raises(CorpusError, match="tonemill render runs/voice --as encode") as refused:
        latents_of(replace(CORPUS, **change), "codec", "runs/voice")
    assert words in str(refused.value)


def test_latents_decode_to_the_same_audio_in_blocks() -> None:
    torch.manual_seed(0)
    codec = MODEL(VocosConfig(width=8, blocks=2, sample_rate=RATE, channels=1)).eval()
    latents = torch.randn(2, 64, 70)
    with torch.inference_mode():
        whole = decoded(codec, "mel", latents, [1, 2])
        assert whole.shape == (2, 1, 70 * 160)
        blocks = (latents[1, :, first : first + 9].numpy() for first in range(0, 70, 9))
        streamed = np.concatenate(list(decoded_blocks(codec, "mel", blocks, 2)), axis=1)
    np.testing.assert_allclose(streamed, whole[1].numpy(), atol=1e-5)
