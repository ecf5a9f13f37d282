"""What a run states of itself: phase, latents, latency, cost and speed, each as measured or published."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tonemill.models.rave.codec import Codec
from tonemill.models.rave.cost import cost_of, speed_of
from tonemill.models.rave.player import ForwardPlayer
from tonemill.models.rave.settings import VARIANTS
from tonemill.models.rave.stating import stated

TINY: dict[str, Any] = {
    "latent_dim": 8,
    "capacity": 2,
    "filter_taps": 8,
    "attenuation_db": 40.0,
    "sample_rate": 16000,
    "channels": 1,
}


@pytest.mark.parametrize(("name", "billions"), [("v1", (0.27, 1.81)), ("v2", (1.60, 1.62)), ("v2-small", (0.80, 0.86))])
def test_the_cost_is_the_published_one(name: str, billions: tuple[float, float]) -> None:
    """Multiplications for a second at 44.1 kHz, of RAVE's published code."""
    found = [44100 * one / 1e9 for one in cost_of(VARIANTS[name](sample_rate=44100, channels=1))]
    assert found == pytest.approx(billions, abs=0.006)


def test_twice_the_channels_of_audio_cost_twice_the_filter_bank_and_no_more_layers() -> None:
    mono, stereo = (sum(cost_of(VARIANTS["v2"](channels=channels))) for channels in (1, 2))
    # First and last layers have 7 taps: 16 more bands to 96 channels, and 96 to 32 more, at a 16th of the rate.
    assert stereo - mono == pytest.approx(2 * 512 + 7 * 96 * (16 + 32) / 16)


def test_the_speed_is_that_of_blocks_through_the_player() -> None:
    codec = Codec(VARIANTS["live"](**TINY)).eval().plain()
    speed = speed_of(codec, 16000)
    assert speed.real_time > 0 and 0 < speed.block_seconds < 1
    assert speed_of(codec, 32000).real_time == pytest.approx(speed.real_time / 2, rel=0.9)


def test_phase_latency_and_fidelity_are_stated() -> None:
    codec = Codec(VARIANTS["live"](**TINY)).eval()
    config = codec.config
    before = stated(codec, config)
    latency = ForwardPlayer(codec, 1, 8, 0.0, 0.0).latency
    assert before["latency"].startswith(f"{latency} samples") and f"block of {config.hop_length}" in before["latency"]
    assert before["phase"].endswith("phase 2 begins at step 1,000,001") and "phase 2 begins" in before["latents"]
    assert "times real time" in before["speed here"] and "billion multiplications" in before["cost"]
    codec.axes.fitted.fill_(1)
    codec.axes.fidelity.copy_(torch.tensor([0.7, 0.85, 0.96, *[1.0] * 5]))
    after = stated(codec, config)
    assert after["phase"].startswith("2 of 2: since step 1,000,001")
    assert "1 hold 50%, 2 hold 80%, 3 hold 90%, 3 hold 95%, 4 hold 99% of the variance" in after["latents"]
    alone = VARIANTS["live"](**TINY, fine_tune_after=0)
    assert stated(Codec(alone).eval(), alone)["phase"].startswith("1 of 1")
