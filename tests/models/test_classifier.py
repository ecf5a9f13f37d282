"""The classifier is the published net, learns what can be distinguished, and reports what it mistakes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.classifier import Block, Classifier, ClassifierConfig, ShortChunkCNN
from tonemill.models.contract import Batch, CorpusFacts, Request
from tonemill.models.parts.mel import DecibelMel

RATE = 8000


def tones(label: int, count: int, seed: int, frames: int = 3200) -> np.ndarray:
    """Noisy tones around 500 Hz or 1500 Hz, (count, 1, frames)."""
    rng = np.random.default_rng(seed)
    hertz = (500, 1500)[label] * rng.uniform(0.9, 1.1, (count, 1, 1))
    wave = np.sin(2 * np.pi * hertz * np.arange(frames) / RATE + rng.uniform(0, 6, (count, 1, 1)))
    return (0.2 * wave + 0.02 * rng.standard_normal((count, 1, frames))).astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> Classifier:
    torch.manual_seed(0)
    config = ClassifierConfig(
        label="kind", labels=("low", "high"), chunk_seconds=0.4, sample_rate=RATE, channels=1, mask=0.1
    )
    model = Classifier(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 0.5  # a dozen steps must do for its statistics
    optimizer = model.optimizers()["network"]

    def update(_: str, loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for number in range(12):
        audio = np.concatenate([tones(0, 4, 2 * number), tones(1, 4, 2 * number + 1)])
        audio[::2, :, 1000:] = 0
        batch = Batch({"audio": torch.from_numpy(audio)}, {"kind": ["low"] * 4 + ["high"] * 4})
        model.train().training_step(batch, number + 1, update)
    return model.eval()


def test_counts_are_those_of_the_published_net() -> None:
    assert sum(parameter.numel() for parameter in ShortChunkCNN(66, 0.5).parameters()) == 2_300_100


@pytest.mark.parametrize("rate", [4000, 8000, 16000, 22050, 44100, 48000, 96000])
def test_windows_and_hops_last_as_long_at_every_rate(rate: int) -> None:
    mel = DecibelMel(rate, 64)
    assert mel.hop_length == pytest.approx(0.00625 * rate, abs=0.5)
    assert int((mel.window > 0).sum()) == pytest.approx(0.023 * rate, abs=2)
    assert (mel.filters.amax(dim=0) > 0).all(), "a band is empty"
    model = Classifier(ClassifierConfig(labels=("a", "b"), chunk_seconds=0.4, sample_rate=rate, channels=1))
    assert mel(torch.zeros(1, model.length)).shape == (1, 64, 64)
    assert (mel(torch.zeros(1, model.length)) == -80).all()


def test_a_sine_is_found_in_its_band_at_its_level() -> None:
    mel = DecibelMel(16000, 64)
    hertz = float((mel.filters[:, 30].argmax()) * 16000 / mel.n_fft)
    sine = torch.sin(2 * torch.pi * hertz * torch.arange(16000) / 16000)[None]
    loud, soft = (mel(gain * sine)[0, :, 40:120].mean(dim=1) for gain in (1.0, 0.1))
    assert int(loud.argmax()) == int(soft.argmax()) == 30
    # The power of a Hann window's main lobe is in 1.5 bins, more where it is padded.
    assert 0 < float(loud[30]) < 6
    assert float(loud[30] - soft[30]) == pytest.approx(20, abs=0.01)


@pytest.mark.parametrize("size", [(64, 64), (80, 81), (1, 3)])
def test_a_folded_block_is_the_block(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = Block(3, 5)
    for _ in range(3):
        block.train()(torch.randn(4, 3, 16, 16) * 2 + 1)
    x = torch.randn(2, 3, *size)
    wanted = F.relu(F.max_pool2d(block.eval().norm(block.conv(x)), 2, ceil_mode=True))
    torch.testing.assert_close(block(x), wanted, atol=1e-5, rtol=1e-5)


def test_it_learns_to_tell_tones_apart_at_any_length_and_level(trained: Classifier) -> None:
    requests = [
        Request(0, {}, {"audio": gain * tones(label, 1, 100 + seed, frames)[0]})
        for label in (0, 1)
        for seed, frames in enumerate((1000, 3200, 3201, 20_000))
        for gain in (np.float32(1), np.float32(0.01))
    ]
    with torch.inference_mode():
        described = trained.describe(requests, 4)
    assert [one["predicted"] for one in described] == ["low"] * 8 + ["high"] * 8
    for loud, soft in zip(described[::2], described[1::2], strict=True):
        np.testing.assert_allclose(loud["embedding"], soft["embedding"], atol=1e-3)


def test_chunks_cover_a_clip_to_both_ends(trained: Classifier) -> None:
    ramp = np.arange(1, 3 * trained.length + 2, dtype=np.float32)[None]
    chunks = trained._chunks(ramp)
    assert chunks.shape == (4, trained.length)
    assert (chunks[0, 0], chunks[-1, -1]) == pytest.approx((1 / ramp.max(), 1), rel=1e-6)
    assert (np.diff(chunks[:, 0]) <= np.float32(trained.length) / ramp.max() + 1e-6).all()


def test_validation_counts_what_was_taken_for_what(trained: Classifier) -> None:
    requests = [
        Request(number, {"kind": kind}, {"audio": tones(label, 1, number)[0]})
        for number, (kind, label) in enumerate(
            [("low", 0)] * 5 + [("high", 1)] * 3 + [("high", 0), (None, 0), ("x", 1)]
        )
    ]
    with torch.inference_mode():
        found = trained.validate(iter(requests))
    about = json.loads(found.files["confusion.json"])
    assert about["counts"] == [[5, 0], [1, 3]]
    assert (about["examples"], about["left_out"]) == (9, 2)
    assert found.values["accuracy"] == pytest.approx(8 / 9)
    assert found.values["balanced_accuracy"] == pytest.approx((1 + 3 / 4) / 2)
    assert found.values["accuracy_low"] < 8 / 9 < found.values["accuracy_high"]
    assert found.score == found.values["cross_entropy"] > 0
    assert found.files["confusion.png"].startswith(b"\x89PNG")


def test_clips_without_a_label_teach_nothing() -> None:
    torch.manual_seed(0)
    config = ClassifierConfig(label="kind", labels=("a", "b"), chunk_seconds=0.4, sample_rate=RATE, channels=1)
    model = Classifier(config).train()
    audio = torch.from_numpy(tones(0, 4, 0))
    losses: list[torch.Tensor] = []
    for kinds in (["a", None, "b", "else"], [None] * 4):
        torch.manual_seed(1)
        model.training_step(Batch({"audio": audio}, {"kind": kinds}), 1, lambda _, loss: losses.append(loss))
    assert float(losses[0].detach()) > 0 and float(losses[1].detach()) == 0


FACTS = CorpusFacts("corpora/x", ("audio",), RATE, 1, {"speaker": ("ann", "bob"), "take": ("1",), "folder": (".",)})


def test_labels_default_to_the_label_else_the_folder() -> None:
    with_label = CorpusFacts("c", ("audio",), RATE, 1, {"label": ("x", "y"), "folder": ("p", "q")})
    without = CorpusFacts("c", ("audio",), RATE, 1, {"folder": ("p", "q")})
    assert Classifier.settle(ClassifierConfig(), with_label).labels == ("x", "y")
    assert Classifier.settle(ClassifierConfig(), without).labels == ("p", "q")
    assert Classifier.settle(ClassifierConfig(label="speaker"), FACTS).labels == ("ann", "bob")


@pytest.mark.parametrize(
    ("label", "what"), [(None, "'folder' is '.' in every example"), ("take", "'take' is '1'"), ("x", "no field 'x'")]
)
def test_fewer_than_two_classes_show_how_to_get_some(label: str | None, what: str) -> None:
    with pytest.raises(CorpusError, match=what) as caught:
        Classifier.settle(ClassifierConfig(label=label), FACTS)
    assert "tonemill scan FOLDER --fields" in str(caught.value)
    assert "--label speaker" in str(caught.value)


@pytest.mark.parametrize("wrong", [{"n_mels": 63}, {"chunk_seconds": 0.3}, {"dropout": 1.0}, {"learning_rate": 0.0}])
def test_settings_are_checked_in_the_words_of_their_flags(wrong: dict[str, float]) -> None:
    flag = "--" + next(iter(wrong)).replace("_", "-")
    with pytest.raises(UsageError, match=flag):
        ClassifierConfig(**wrong)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"sample_rate": 44100}, "8000 Hz audio, but --sample-rate is 44100"), ({"channels": 2}, "--channels is 2")],
)
def test_a_corpus_of_another_kind_is_refused(change: dict[str, int], words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        Classifier.settle(ClassifierConfig(label="speaker", **change), FACTS)
    pairs = CorpusFacts("c", ("dry", "wet"), RATE, 1, FACTS.values)
    with pytest.raises(CorpusError, match="dry and wet"):
        Classifier.settle(ClassifierConfig(label="speaker"), pairs)
