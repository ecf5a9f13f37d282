"""Changes of training clips: what stays of a clip in dB, cents and samples, and what a seed decides."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import Tonemill, write_wav

from tonemill.models.parts import augment
from tonemill.models.parts.augment import CHANGES, Augmentation
from tonemill.pipelines.corpus.corpus import open_corpus
from tonemill.pipelines.training.loader import Batches
from tonemill.pipelines.training.loader_processes import batches

RATE = 16000


def noise(frames: int = RATE) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (2, frames)).astype(np.float32)


def many(name: str, clip: np.ndarray, count: int = 200) -> list[np.ndarray]:
    return [CHANGES[name](clip, np.random.default_rng(seed), RATE) for seed in range(count)]


def test_a_change_of_phase_keeps_magnitudes_to_a_hundredth_of_a_db() -> None:
    click = np.zeros((1, 2**15), np.float32)
    click[0, 0] = 1
    for changed in many("phase", click, 20):
        magnitudes = np.abs(np.fft.rfft(changed[0].astype(np.float64)))
        assert np.abs(20 * np.log10(magnitudes)).max() < 0.01
        phases = np.unwrap(np.angle(np.fft.rfft(changed[0].astype(np.float64))))
        assert phases[-1] - phases[0] == pytest.approx(-2 * math.pi, abs=0.1), "two poles turn it once"


def test_a_gain_stays_in_its_range_and_below_full_scale() -> None:
    gains = [20 * math.log10(np.abs(one).max() / 0.25) for one in many("gain", np.full((1, 8), 0.25, np.float32))]
    assert min(gains) == pytest.approx(-6, abs=0.2) and max(gains) == pytest.approx(3, abs=0.2)
    assert max(np.abs(one).max() for one in many("gain", np.full((1, 8), 0.9, np.float32))) <= 1
    assert all(np.isfinite(one).all() for one in many("gain", np.zeros((1, 8), np.float32), 3))


def test_polarity_mute_and_shift_happen_as_often_as_they_should() -> None:
    clip = np.arange(1, 9, dtype=np.float32)[None]
    turned = sum(bool((one < 0).all()) for one in many("polarity", clip))
    assert 70 < turned < 130
    silent = sum(not one.any() for one in many("mute", clip))
    assert 5 < silent < 40
    shifted = many("shift", clip)
    assert {int(one[0, 0]) for one in shifted} == set(range(1, 9))
    assert all(np.array_equal(np.sort(one), clip) for one in shifted)


def test_dither_is_half_a_step_of_16_bits_at_most() -> None:
    (changed,) = many("dequantize", np.zeros((1, 10_000), np.float32), 1)
    assert np.abs(changed).max() <= 0.5 / 32768
    assert abs(changed.mean()) < 0.02 / 32768


def test_a_change_of_speed_is_two_semitones_at_most_and_changes_the_pitch() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE, dtype=np.float64).astype(np.float32)[None]
    for changed in many("speed", tone, 12):
        spectrum = np.abs(np.fft.rfft(changed[0] * np.hanning(changed.shape[1]), 2**18))
        cents = 1200 * math.log2(spectrum.argmax() * RATE / 2**18 / 440)
        assert abs(cents) <= 201
        assert 1200 * math.log2(RATE / changed.shape[1]) == pytest.approx(cents, abs=3)


def test_roles_change_alike_and_have_the_length() -> None:
    change = Augmentation(tuple(CHANGES), RATE, 4096)
    clip = noise(change.read_length)
    changed = change({"dry": clip, "wet": clip}, np.random.default_rng(3))
    assert changed["dry"].shape == (2, 4096)
    assert np.array_equal(changed["dry"], changed["wet"])
    assert Augmentation(("gain",), RATE, 4096).read_length == 4096


def test_the_loader_changes_clips_by_seed_epoch_and_key(tmp_path: Path, tonemill: Tonemill) -> None:
    for number in range(3):
        write_wav(tmp_path / f"raw/{number}.wav", frames=5000, seed=number, rate=RATE)
    tonemill("shard", tmp_path / "corpus", "-q", stdin=tonemill("scan", tmp_path / "raw", "-q").out).done()
    corpus = open_corpus(tmp_path / "corpus")

    def read(seed: int, augmentation: Augmentation | None) -> Batches:
        return Batches(corpus, "train", ("audio",), 4096, 3, seed, augmentation=augmentation)

    change = Augmentation(("speed", "phase", "gain"), RATE, 4096)
    dataset = read(0, change)
    first, second = dataset.batch(0).audio["audio"], dataset.batch(1).audio["audio"]
    assert first.shape == (3, 1, 4096)
    assert np.array_equal(first, read(0, change).batch(0).audio["audio"])
    assert not np.array_equal(first, read(1, change).batch(0).audio["audio"])
    assert not np.isin(first.numpy().ravel()[::500], second.numpy().ravel()).any(), "each epoch draws other changes"
    incoming = batches(read(0, change), 2, pin=False)
    assert np.array_equal(next(incoming).audio["audio"], first)
    with pytest.raises(Exception, match="this model reads"):
        Batches(corpus, "train", ("audio",), 4950, 3, augmentation=Augmentation(("speed",), RATE, 4950))
    assert pytest.approx(1.1225, abs=1e-4) == augment.FASTEST
