"""Latents with the codec that encoded them: from seeds to audio, of any length, and no other codec."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from tonemill.audiotools.errors import CorpusError
from tonemill.models.contract import Batch, CorpusFacts, Request
from tonemill.models.diffusion import MODEL
from tonemill.models.diffusion import windows as long_clips
from tonemill.models.diffusion.model import Diffusion
from tonemill.models.diffusion.options import Generating
from tonemill.models.diffusion.settings import AutoencodeConfig, LatentConfig
from tonemill.models.directions import ParentFacts
from tonemill.models.exchange import ArrayFacts

RATE = 16000
NETWORK: dict[str, Any] = {
    "channels_per_level": (8,),
    "items": (1,),
    "attentions": (1,),
    "head_dim": 8,
    "modulation_dim": 16,
}
CODEC = AutoencodeConfig(
    **NETWORK, factors=(64,), length=1024, compression=64, latent_dim=4, encoder_dim=8, sample_rate=RATE, channels=2
)
FACTS = CorpusFacts(
    "corpora/latents",
    (),
    RATE,
    0,
    {"encoded_by": (f"ae@{'0123456789abcdef'}",)},
    arrays={"latents": ArrayFacts(4, 64)},
    parents={"codec": ParentFacts("diffusion", {}, RATE, 2, MODEL.directions(CODEC), "0123456789abcdef" + 48 * "0")},
)


@cache
def models() -> tuple[Diffusion, Diffusion]:
    """One that makes audio, and its codec."""
    torch.manual_seed(0)
    codec = MODEL(CODEC).eval()
    codec.fit([Batch({"audio": 0.1 * torch.randn(8, 2, 1024)}, {})])
    config = MODEL.settle(LatentConfig(**NETWORK, factors=(4,), length=6400, codec="runs/ae"), FACTS)
    model = MODEL(config, {"codec": codec}).eval()
    model.fit([Batch({}, {}, {"latents": torch.randn(8, 4, 100)})])
    return model, codec


def audio(model: Diffusion, options: Generating, seed: int = 3) -> torch.Tensor:
    request = Request(seed, {}, {}, {}, "render", options)
    inputs = {name: one[None] for name, one in model.inputs(request).items()}
    return model.render(inputs, "render", options)[0]


def test_a_codec_makes_audio_of_what_its_latents_are_made_like() -> None:
    """As many samples as wanted, in its channels, and the same as by hand."""
    model, codec = models()
    direction = MODEL.directions(model.config)["render"]
    assert (direction.gives, direction.samples, model.channels) == ("audio", 6400, 2)
    found = audio(model, Generating(seconds=0.1))
    assert found.shape == (2, 1600)
    bare = MODEL(replace(model.config, codec=None)).eval()
    bare.load_state_dict(model.state_dict())
    latents = audio(bare, Generating(seconds=0.1))
    assert latents.shape == (4, 25)
    request = Request(3, {}, {}, {"latents": latents.numpy()}, "decode", MODEL.directions(CODEC)["decode"].options())
    inputs = {name: one[None] for name, one in codec.inputs(request).items()}
    torch.testing.assert_close(codec.render(inputs, "decode", request.options)[0], found, atol=1e-5, rtol=0)
    assert not any(name.startswith("parents") for name in model.state_dict()), "a codec's weights stay in its own run"


@pytest.mark.slow
def test_a_long_clip_streams_through_the_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes block by block is the whole clip, to 1e-5."""
    monkeypatch.setattr(long_clips, "WHOLE_SECONDS", 0.1)
    monkeypatch.setattr(long_clips, "WINDOW_SECONDS", 0.2)
    (model, _), options = models(), Generating(seconds=0.73, steps=2)
    blocks = list(model.stream(Request(3, {}, {}, {}, "render", options)))
    whole = audio(model, options)
    assert whole.shape == (2, 11680)
    np.testing.assert_allclose(np.concatenate(blocks, axis=1), whole.numpy(), atol=1e-5)


def test_latents_of_another_codec_are_refused() -> None:
    config = LatentConfig(**NETWORK, factors=(4,), codec="runs/ae")
    with pytest.raises(
        CorpusError, match=r"encoded by ae@fedcba9876543210.*A decoder reads only what its own encoder wrote"
    ):
        MODEL.settle(config, replace(FACTS, values={"encoded_by": ("ae@fedcba9876543210",)}))
    with pytest.raises(CorpusError, match=r"tonemill render runs/ae --as encode"):
        MODEL.settle(config, replace(FACTS, arrays={}))


def test_a_codec_implies_that_latents_are_learned() -> None:
    assert MODEL.implied == {"codec": "latent"} and dict(MODEL.uses) == {"codec": "decode"}
