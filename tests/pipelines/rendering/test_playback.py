"""Audio through a model as a stream: blocks of any size, again from the start, at another rate, in channels."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tonemill.audiotools.errors import UsageError
from tonemill.audiotools.waveform import Flow, Waveform
from tonemill.models.contract import Request
from tonemill.models.directions import RequestField
from tonemill.models.players import played
from tonemill.pipelines.rendering.playback import played_frames, streamed

RATE = 8000


class Player:
    """Its output is the sum of all input so far: a sample that is lost or played twice shows to the end."""

    latency = 0

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.total = np.zeros((channels, 1))

    def push(self, block: np.ndarray) -> np.ndarray:
        sums = self.total + np.cumsum(block, axis=1, dtype=np.float64)
        self.total = sums[:, -1:] if sums.size else self.total
        return sums.astype(np.float32)

    def flush(self) -> np.ndarray:
        return np.zeros((self.channels, 0), np.float32)


class Model:
    sample_rate = RATE

    def player(self, request: Request, channels: int) -> Player:
        return Player(channels)


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


@pytest.mark.parametrize("channels", [1, 2])
def test_blocks_of_any_size_give_what_the_whole_gives(channels: int) -> None:
    samples = dyadic(500, channels)
    model: Any = Model()
    flow = streamed(model, Request(0, {}, {}), flowing(samples, [3, 250, 1]))
    assert isinstance(flow, Flow) and flow.channels == channels
    expected = np.cumsum(samples, axis=1)
    for _ in range(2):  # each reading starts with a new player
        assert np.array_equal(flow.whole().samples, expected)
    whole = streamed(model, Request(0, {}, {}), Waveform(samples, RATE))
    assert isinstance(whole, Waveform) and np.array_equal(whole.samples, expected)


def test_another_rate_comes_out_at_the_models() -> None:
    """A tone through a model that passes everything: the same tone, to 60 dB, at the model's rate."""

    class Wire(Model):
        def player(self, request: Request, channels: int) -> Any:
            nothing = np.zeros((channels, 0), np.float32)
            return SimpleNamespace(channels=channels, latency=0, push=lambda block: block, flush=lambda: nothing)

    times = np.arange(2 * 44100) / 44100
    tone = np.sin(2 * np.pi * 440 * times, dtype=np.float64).astype(np.float32)[None]
    model: Any = Wire()
    out = streamed(model, Request(0, {}, {}), Waveform(tone, 44100))
    assert isinstance(out, Waveform) and (out.sample_rate, out.frames) == (RATE, 2 * RATE)
    expected = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    error = (out.samples[0] - expected)[400:-400]
    assert 10 * np.log10(np.mean(np.square(error)) / 0.5) < -60


class Late:
    """A stream of one channel from two, which is late by a number of samples and gives them up in blocks of 64."""

    channels, latency = 1, 37

    def __init__(self) -> None:
        self.waiting = np.zeros((1, self.latency), np.float32)

    def push(self, block: np.ndarray) -> np.ndarray:
        self.waiting = np.concatenate([self.waiting, block.sum(axis=0, keepdims=True)], axis=1)
        ready = self.waiting.shape[1] // 64 * 64
        out, self.waiting = self.waiting[:, :ready], self.waiting[:, ready:]
        return out

    def flush(self) -> np.ndarray:
        return self.waiting


@pytest.mark.parametrize("frames", [0, 1, 36, 64, 500])
@pytest.mark.parametrize("sizes", [[], [1] * 40, [200, 3]])
def test_a_latency_is_taken_off_and_the_end_comes_out(frames: int, sizes: list[int]) -> None:
    samples = dyadic(frames, 2)
    out = list(played(Late(), flowing(samples, sizes).blocks()))
    whole = np.concatenate([np.zeros((1, 0), np.float32), *out], axis=1)
    assert np.array_equal(whole, samples.sum(axis=0, keepdims=True))


def test_a_player_that_loses_the_end_is_an_error() -> None:
    player = Late()
    player.flush = lambda: np.zeros((1, 0), np.float32)  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match=r"Late ends \d+ columns early"):
        list(played(player, flowing(dyadic(500, 2), []).blocks()))


class Mean(Late):
    """A column for each 64, the last one rounded up, as from samples to latents."""

    latency = 0

    def push(self, block: np.ndarray) -> np.ndarray:
        return super().push(block).reshape(1, -1, 64).mean(axis=2)

    def flush(self) -> np.ndarray:
        return self.waiting.sum(axis=1, keepdims=True)[:, : self.waiting.shape[1]] / 64


def test_fewer_columns_may_come_out_than_go_in() -> None:
    samples = dyadic(500, 1)
    out = np.concatenate(list(played(Mean(), flowing(samples, [3, 99]).blocks(), Fraction(1, 64))), axis=1)
    assert out.shape == (1, 8)
    assert np.array_equal(out[0, :7], samples[0, :448].reshape(7, 64).mean(axis=1))


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_frames_of_a_long_sound_are_made_without_holding_the_sound(rate: int) -> None:
    """At any time at most two of its hundred blocks are in memory."""
    model: Any = SimpleNamespace(sample_rate=RATE, player=lambda request, channels: Mean())
    alive: list[weakref.ref[np.ndarray]] = []

    def blocks() -> Iterator[np.ndarray]:
        for number in range(100):
            block = np.full((1, 1001), number, np.float32)
            alive.append(weakref.ref(block))
            assert sum(one() is not None for one in alive) <= 2
            yield block

    frames = played_frames(model, Request(0, {}, {}), Flow(blocks, rate, 1), 64)
    assert frames.shape == (1, math.ceil(100 * 1001 * RATE / rate / 64))
    assert played_frames(model, Request(0, {}, {}), Flow(lambda: iter(()), rate, 1), 64).shape == (1, 0)


def test_fields_are_those_that_were_in_the_corpus() -> None:
    drive, kind = RequestField(0.0, 1.0), RequestField(choices=("kick", "snare"))
    drive.check("drive", 1, "runs/amp")
    kind.check("kind", "kick", "runs/d")
    with pytest.raises(UsageError, match=r"drive=1\.5: runs/amp was trained on drive from 0 to 1"):
        drive.check("drive", 1.5, "runs/amp")
    with pytest.raises(UsageError, match="drive='loud'"):
        drive.check("drive", "loud", "runs/amp")
    with pytest.raises(UsageError, match="kind=hat: runs/d was trained on kind kick, snare"):
        kind.check("kind", "hat", "runs/d")
    RequestField().check("caption", "anything", "runs/d")
