"""Features of another run: one mel for all three, taps that see a loop as a circle, and weights that never change."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.classifier import Classifier, ClassifierConfig
from tonemill.models.contract import Batch, CorpusFacts, build_model
from tonemill.models.directions import ParentFacts
from tonemill.models.loopgan.features import TrainedFeatures
from tonemill.models.loopgan.model import LoopGAN
from tonemill.models.loopgan.settings import LoopGANConfig
from tonemill.models.parts.mel import mel_digest
from tonemill.models.parts.spectra import BandStatistics

RATE = 16000
MEL: dict[str, Any] = {"n_fft": 512, "hop_length": 160, "mel_bands": 64, "low_hz": 0.0, "high_hz": 8000.0}
TINY: dict[str, Any] = {"bpm": 400.0, "width": 4, "griffin_lim_rounds": 2}
LABELS = {"kit": ("a", "b")}


def ears(**changed: Any) -> Classifier:
    torch.manual_seed(0)
    config = ClassifierConfig(label="kit", labels=("a", "b"), sample_rate=RATE, channels=1, **{**MEL, **changed})
    return Classifier(config).eval().requires_grad_(False)


def facts(**parents: ParentFacts) -> CorpusFacts:
    return CorpusFacts("corpora/loops", ("audio",), RATE, 1, LABELS, parents=parents)


def parent(model: str, rate: int = RATE, **changed: Any) -> ParentFacts:
    return ParentFacts(model, {**MEL, **changed}, rate, 1, {})


def judged_by(features: Classifier) -> LoopGAN:
    torch.manual_seed(0)
    settings = LoopGANConfig(features="runs/ears", **TINY)
    config = LoopGAN.settle(settings, facts(features=parent("classifier")))
    model = build_model(LoopGAN, config, {"features": features})
    assert isinstance(model, LoopGAN)
    return model


def test_taps_have_four_scales_and_turn_with_the_loop() -> None:
    """The network has silence beyond the ends of a clip, and a loop has no ends."""
    features = TrainedFeatures(ears(), BandStatistics(64), circular=True)
    mel = torch.randn(1, 1, 64, 64)
    maps = features(mel)
    assert [tuple(one.shape[1:]) for one in maps] == [(128, 32, 32), (128, 16, 16), (256, 8, 8), (256, 4, 4)]
    assert [one.shape[1] for one in maps] == list(features.widths)
    for scale, (turned, straight) in enumerate(zip(features(mel.roll(16, dims=2)), maps, strict=True), start=1):
        torch.testing.assert_close(turned, straight.roll(16 >> scale, dims=2), atol=1e-4, rtol=1e-4)


def test_features_read_the_mel_they_were_trained_on() -> None:
    """Normalised spectrograms are brought back to bels first."""
    network, statistics = ears(), BandStatistics(64)
    statistics.mean.fill_(-2.0)
    statistics.deviation.fill_(0.7)
    logs = network.spectrogram(0.1 * torch.randn(1, 160 * 64))
    found = TrainedFeatures(network, statistics, circular=False)(statistics.normalized(logs.transpose(1, 2))[:, None])
    for one, other in zip(found, network.taps(logs), strict=True):
        torch.testing.assert_close(one, other.transpose(2, 3), atol=1e-4, rtol=1e-3)


def test_frozen_features_stay_and_pass_gradients_on() -> None:
    network = ears()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model = judged_by(network)
    assert not any("network" in name for name in model.state_dict()), "the weights of another run are saved again"
    optimizers = model.optimizers()

    def update(name: str, loss: Tensor) -> None:
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    start = model.generator.constant.detach().clone()
    for step in (1, 2, 3):
        batch = Batch({"audio": 0.1 * torch.randn(4, 1, model.length)}, {"kit": list("abab")})
        model.train().training_step(batch, step, update)
    assert not network.training
    assert not any(one.requires_grad for one in network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not torch.equal(start, model.generator.constant)


@pytest.mark.parametrize("features", ["random", "none"])
def test_what_is_made_and_seen_once_gives_the_losses_and_gradients_of_passes_of_their_own(
    features: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    small = {"n_fft": 512, "mel_bands": 16, "feature_width": 4, "discriminator_width": 8, "features": features}
    model = LoopGAN(LoopGAN.settle(LoopGANConfig(**TINY, **small), facts()), {})
    twin, seen, losses, gradients = deepcopy(model.discriminator), [], {}, {}
    see = model.discriminator.seen

    def noting(mel: Tensor) -> list[Tensor]:
        seen.append(mel)
        if mel.requires_grad:
            mel.retain_grad()
        return list(see(mel))

    def update(name: str, loss: Tensor) -> None:
        model.zero_grad()
        loss.backward()
        losses[name] = loss.detach()
        gradients[name] = [one.grad for one in model.discriminator.parameters() if one.requires_grad]

    monkeypatch.setattr(model.discriminator, "seen", noting)
    model.train().training_step(Batch({"audio": 0.1 * torch.randn(4, 1, model.length)}, {}), 1, update)
    fake, real = seen
    leaf = fake.detach().requires_grad_()
    real_logits, fake_logits = twin(real), twin(fake.detach())
    hinge = features == "random"
    expected = (
        torch.relu(1 - real_logits).mean() + torch.relu(1 + fake_logits).mean()
        if hinge
        else softplus(-real_logits).mean() + softplus(fake_logits).mean()
    )
    expected.backward()
    torch.testing.assert_close(losses["discriminator"], expected, atol=1e-5, rtol=1e-5)
    learned = [one for one in twin.parameters() if one.requires_grad]
    for found, one in zip(gradients["discriminator"], learned, strict=True):
        torch.testing.assert_close(found, one.grad, atol=1e-5, rtol=1e-4)
    logits = twin(leaf)
    expected = -logits.mean() if hinge else softplus(-logits).mean()
    expected.backward()
    torch.testing.assert_close(losses["generator"], expected.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fake.grad, leaf.grad, atol=1e-6, rtol=1e-4)


def test_a_model_that_is_loaded_to_render_needs_no_features() -> None:
    model = judged_by(ears())
    alone = build_model(LoopGAN, model.config, {})
    missing = alone.load_state_dict(model.state_dict(), strict=False)
    assert not missing.missing_keys
    assert {name.partition(".")[0] for name in missing.unexpected_keys} == {"discriminator"}


def test_one_mel_has_one_digest() -> None:
    digest = mel_digest(MEL, RATE)
    assert mel_digest({**MEL, "high_hz": None}, RATE) == digest, "half the sample rate, written or not"
    others = [{"n_fft": 1024}, {"hop_length": 128}, {"mel_bands": 80}, {"low_hz": 20}, {"high_hz": 7600}]
    found = {mel_digest({**MEL, **one}, RATE) for one in others} | {mel_digest(MEL, 22050), digest}
    assert len(found) == 7


def test_all_three_read_the_mel_of_the_vocoder() -> None:
    settled = Classifier.settle(ClassifierConfig(label="kit"), facts(mel_of=parent("vocoder", hop_length=128)))
    assert (settled.hop_length, settled.mel_bands, settled.n_fft) == (128, 64, 512)
    both = facts(vocoder=parent("vocoder", hop_length=128), features=parent("classifier", hop_length=128))
    assert LoopGAN.settle(LoopGANConfig(features="runs/ears", vocoder="runs/v"), both).hop_length == 128


@pytest.mark.parametrize(
    ("parents", "settings", "words"),
    [
        (
            {"vocoder": parent("vocoder"), "features": parent("classifier", hop_length=128)},
            {},
            ["must read the same mel", "hop_length 160 and 128", "--mel-of runs/v", mel_digest(MEL, RATE)],
        ),
        ({"features": parent("classifier", 22050)}, {}, ["--features works at 22050 Hz", "resample --rate 22050"]),
        ({"vocoder": parent("vocoder", 22050)}, {}, ["--vocoder works at 22050 Hz", "resample --rate 22050"]),
        (
            {"features": parent("classifier", n_fft=None)},
            {},
            ["no vocoder can turn into sound", "--mel-of runs/vocoder"],
        ),
        ({"vocoder": parent("vocoder")}, {"hop_length": 200}, ["--hop-length is 200", "is 160", "out"]),
    ],
)
def test_runs_that_do_not_fit_are_refused_with_the_mend(
    parents: dict[str, ParentFacts], settings: dict[str, Any], words: list[str]
) -> None:
    config = LoopGANConfig(features="runs/ears", vocoder="runs/v", **settings)
    with pytest.raises((CorpusError, UsageError)) as refused:
        LoopGAN.settle(config, facts(**parents))
    for word in words:
        assert word in str(refused.value)


def test_a_classifier_refuses_half_a_mel_and_one_too_small() -> None:
    with pytest.raises(UsageError, match="or take all from a run by --mel-of RUN"):
        ClassifierConfig(n_fft=512)
    with pytest.raises(UsageError, match="--mel-bands 64"):
        Classifier.settle(ClassifierConfig(), facts(mel_of=parent("vocoder", mel_bands=40)))
    with pytest.raises(UsageError, match=r"at least 1\.28"):
        Classifier.settle(ClassifierConfig(chunk_seconds=1.0), facts(mel_of=parent("vocoder", hop_length=320)))
