"""Audio through a model as a stream: blocks of any size, again from the start, at another rate, in channels."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tonemill.audiotools.errors import UsageError
from tonemill.audiotools.waveform import Flow, Waveform
from tonemill.models.contract import Request
from tonemill.pipelines.rendering.knobs import assigned, refuse_settings
from tonemill.pipelines.rendering.playback import streamed

RATE = 8000


class Player:
    """Its output is the sum of all input so far: a sample that is lost or played twice shows to the end."""

    def __init__(self) -> None:
        self.total = np.float64(0)

    def push(self, block: np.ndarray) -> np.ndarray:
        sums = self.total + np.cumsum(block, dtype=np.float64)
        self.total = sums[-1] if sums.size else self.total
        return sums.astype(np.float32)


class Model:
    sample_rate = RATE

    def player(self, request: Request) -> Player:
        return Player()


def dyadic(frames: int, channels: int) -> np.ndarray:
    """Samples whose sums are exact."""
    return (np.random.default_rng(0).integers(-8, 9, (channels, frames)) / 1024).astype(np.float32)


def flowing(samples: np.ndarray, sizes: list[int]) -> Flow:
    def blocks() -> Iterator[np.ndarray]:
        at = 0
        for size in [*sizes, samples.shape[1]]:
            if at < samples.shape[1]:
                yield samples[:, at : at + size]
            at += size

    return Flow(blocks, RATE, samples.shape[0])


@pytest.mark.parametrize("block", [1, 7, 100, 10_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_blocks_of_any_size_give_what_the_whole_gives(block: int, channels: int) -> None:
    samples = dyadic(500, channels)
    model: Any = Model()
    flow = streamed(model, Request(0, {}, {}), flowing(samples, [3, 250, 1]), block)
    assert isinstance(flow, Flow)
    expected = np.cumsum(samples, axis=1)
    for _ in range(2):  # each reading starts with new players
        assert np.array_equal(flow.whole().samples, expected)
    whole = streamed(model, Request(0, {}, {}), Waveform(samples, RATE), block)
    assert isinstance(whole, Waveform) and np.array_equal(whole.samples, expected)


def test_another_rate_comes_out_at_the_models() -> None:
    """A tone through a model that passes everything: the same tone, to 60 dB, at the model's rate."""

    class Wire(Model):
        def player(self, request: Request) -> Any:
            return SimpleNamespace(push=lambda block: block)

    times = np.arange(2 * 44100) / 44100
    tone = np.sin(2 * np.pi * 440 * times, dtype=np.float64).astype(np.float32)[None]
    model: Any = Wire()
    out = streamed(model, Request(0, {}, {}), Waveform(tone, 44100), 256)
    assert isinstance(out, Waveform) and (out.sample_rate, out.frames) == (RATE, 2 * RATE)
    expected = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    error = (out.samples[0] - expected)[400:-400]
    assert 10 * np.log10(np.mean(np.square(error)) / 0.5) < -60


def test_knobs_are_numbers_that_the_model_was_trained_at() -> None:
    assert assigned(["drive=0.7", "tone=-3"]) == {"drive": 0.7, "tone": -3.0}
    with pytest.raises(UsageError, match="drive=loud"):
        assigned(["drive=loud"])
    config = {"knobs": ["drive"], "knob_low": [0.0], "knob_high": [1.0]}
    run: Any = SimpleNamespace(folder="runs/amp", model_config=config)
    refuse_settings({"drive": 1.0}, run)
    with pytest.raises(UsageError, match="no knob 'tone'; it has drive"):
        refuse_settings({"tone": 0.5}, run)
    with pytest.raises(UsageError, match="from 0 to 1"):
        refuse_settings({"drive": 1.5}, run)
    with pytest.raises(UsageError, match="it has none"):
        refuse_settings({"drive": 1.0}, SimpleNamespace(folder="runs/x", model_config={}))  # type: ignore[arg-type]
