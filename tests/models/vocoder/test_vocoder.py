"""The vocoder: published sizes, silence stays silence, frames stay in their place, and a stream is the whole file."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.audiotools.synthetic import PATTERNS, loop
from tonemill.models.contract import Batch, CorpusFacts, Request
from tonemill.models.vocoder import MODEL
from tonemill.models.vocoder.generators import MelGAN, Vocos
from tonemill.models.vocoder.model import HELD_OUT_RESOLUTIONS, LOSS_RESOLUTIONS, Vocoder, distance
from tonemill.models.vocoder.player import FRAMES_AT_ONCE
from tonemill.models.vocoder.settings import MelGANConfig, VocoderConfig, VocosConfig

RATE = 16000
FEW = {"sample_rate": RATE, "channels": 1, "discriminators": ("stft",), "discriminator_widths": 0.25}
SMALL: dict[str, VocoderConfig] = {
    "vocos": VocosConfig(width=8, blocks=2, **FEW),
    "melgan": MelGANConfig(width=32, **FEW),
    "melgan, odd hop": MelGANConfig(width=8, ratios=(5, 5, 3), hop_length=75, n_fft=512, **FEW),
}


@cache
def small(name: str) -> Vocoder:
    torch.manual_seed(0)
    return MODEL(SMALL[name]).eval()


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_counts_of_melgan_are_the_published_ones() -> None:
    """Those of the published code of pjloop-gan and of LoopTest."""
    assert count(MelGAN(64, (5, 4, 4, 2), 512)) == 3_192_898
    assert count(MelGAN(80, (8, 8, 2, 2), 512)) == 4_266_050


def test_vocos_has_100_frames_a_second_and_at_most_5_million_parameters() -> None:
    config = VocosConfig()
    assert RATE / config.hop_length == 100
    assert count(Vocos(64, 1024, 160, config.width, config.blocks)) <= 5_000_000


@pytest.mark.parametrize("name", SMALL)
def test_frames_become_whole_hops(name: str) -> None:
    model = small(name)
    with torch.no_grad():
        audio = model.audio(torch.zeros(2, 64, 12))
    assert audio.shape == (2, 12 * model.config.hop_length)
    assert model.mel(audio).shape == (2, 64, 12)


@pytest.mark.parametrize("name", ["multiscale", "multiperiod", "stft"])
def test_each_discriminator_can_be_narrowed(name: str) -> None:
    """To a quarter: a thirteenth of the parameters or less."""
    few = MODEL(VocosConfig(width=8, blocks=1, **{**FEW, "discriminators": (name,)}))
    assert all(one.scores.shape[0] == 2 for one in few.discriminator(torch.randn(2, 1, 4096)))
    assert count(few.discriminator) < 16_924_086 / 13


def test_192_frames_give_30720_samples() -> None:
    with torch.no_grad():
        assert small("melgan").audio(torch.zeros(1, 64, 192)).shape == (1, 30720)


@pytest.mark.parametrize("name", SMALL)
def test_a_frame_moves_the_samples_that_it_reaches_and_no_others(name: str) -> None:
    """What a generator declares is what its gradient shows, and no frame more."""
    generator, hop = small(name).generator, small(name).config.hop_length
    frames, place = 81, 40
    mel = torch.randn(1, 64, frames, requires_grad=True)
    audio = generator(mel)[0]
    (gradient,) = torch.autograd.grad(audio[place * hop : (place + 1) * hop].square().sum(), mel)
    reached = gradient[0].abs().sum(dim=0).nonzero()[:, 0]
    assert int(reached.min()) == place - generator.before
    assert int(reached.max()) == place + generator.after


@pytest.mark.parametrize("samples", [0, 1, 300, 8000, 8037])
@pytest.mark.parametrize("name", SMALL)
def test_a_stream_is_the_whole_file_after_its_latency(name: str, samples: int) -> None:
    model = small(name)
    draws = np.random.default_rng(samples)
    audio = 0.1 * draws.standard_normal((2, samples)).astype(np.float32)
    whole = model.copied(torch.from_numpy(audio)).detach().numpy() if samples else audio
    for block in (37, 160, 2048):
        player = model.player(Request(0, {}, {}), 2)
        received, sounds = 0, []
        for start in range(0, samples, block):
            sounds.append(player.push(audio[:, start : start + block]))
            received += sounds[-1].shape[1]
            assert received >= min(start + block, samples)  # as many out as in, at any time
        sounds.append(player.flush())
        stream = np.concatenate(sounds, axis=1)
        assert stream.shape == (2, player.latency + samples)
        assert not stream[:, : player.latency].any()
        np.testing.assert_allclose(stream[:, player.latency :], whole, atol=1e-5)


def test_the_latency_is_what_windows_and_context_make_of_it() -> None:
    """At 16 kHz: a window of 1024 with a hop of 160 reaches 592 samples beyond a frame's start."""
    for name in ("vocos", "melgan"):
        model = small(name)
        latency = model.player(Request(0, {}, {}), 1).latency
        assert latency == 160 * (model.generator.after + FRAMES_AT_ONCE - 1) + 592


def test_a_copy_without_norms_gives_the_same_sound() -> None:
    generator = small("melgan").generator
    mel = torch.randn(1, 64, 12)
    plain = generator.plain()
    assert not any("original" in name for name, _ in plain.named_parameters())
    with torch.no_grad():
        torch.testing.assert_close(plain(mel), generator(mel), atol=1e-6, rtol=0)


def test_silence_is_no_input_to_melgan() -> None:
    """Without biases nothing comes of it, whatever the weights."""
    model = small("melgan")
    plain = model.generator.plain()
    for name, parameter in plain.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    with torch.no_grad():
        assert not plain(model.mel(torch.zeros(1, 8000))).any()


def test_settling_fills_in_where_the_bands_end() -> None:
    config = Vocoder.settle(VocosConfig(), CorpusFacts("corpora/x", ("audio",), RATE, 2))
    assert (config.high_hz, config.sample_rate, config.channels) == (8000.0, RATE, 2)


def test_griffin_lim_of_silence_is_silence() -> None:
    """At least 60 dB below a full-scale sine: the floor of the mel spectrogram is not nothing."""
    assert float(small("vocos").searched(torch.zeros(1, 8000)).abs().max()) < 1e-3


def test_validation_measures_by_other_sizes_than_training() -> None:
    assert not {one.n_fft for one in LOSS_RESOLUTIONS} & {one.n_fft for one in HELD_OUT_RESOLUTIONS}
    short, audio = torch.randn(1, 1000), torch.randn(1, 40000)
    assert float(distance(short, short)) < 1e-5
    assert float(distance(audio / 2, audio)) == pytest.approx(0.5 + np.log(2), rel=0.02)


def test_validation_compares_with_griffin_lim_and_leaves_clips() -> None:
    model = small("vocos")
    sounds = [np.zeros((1, 4000), np.float32), 0.1 * np.ones((1, 4000), np.float32)]
    with torch.inference_mode():
        found = model.validate(Request(n, {}, {"audio": sound}) for n, sound in enumerate(sounds))
    assert found is not None
    assert found.values["validated_examples"] == 1
    assert found.score == found.values["stft_distance"]
    assert set(found.files) == {"0_real.wav", "0_generator.wav", "0_griffin_lim.wav"}
    assert model.validate([Request(0, {}, {"audio": sounds[0]})]) is None


def test_discriminators_begin_after_their_step_and_each_weight_counts_once() -> None:
    """Twice a weight adds the loss once more."""
    totals = {}
    for weight in (3.0, 6.0):
        torch.manual_seed(0)
        model = MODEL(VocosConfig(width=8, blocks=1, adversarial_after=2, matching_weight=weight, **FEW))
        batch = Batch({"audio": 0.1 * torch.randn(2, 1, 8192)}, {})
        updated: list[str] = []

        def update(name: str, loss: torch.Tensor, updated: list[str] = updated) -> None:
            updated.append(name)

        assert "discriminator_loss" not in model.training_step(batch, 2, update)
        assert updated == ["generator"]
        torch.manual_seed(1)
        totals[weight] = model.training_step(batch, 3, update)
        assert updated == ["generator", "discriminator", "generator"]
    more = totals[6.0]["generator_loss"] - totals[3.0]["generator_loss"]
    assert float(more) == pytest.approx(3 * float(totals[3.0]["matching_loss"]), rel=1e-3)


def test_the_learning_rate_falls_to_a_tenth_and_stays() -> None:
    model = small("vocos")
    first, end = model.config.learning_rate, model.config.decay_steps + 1
    assert model.learning_rate("generator", 1) == first
    assert model.learning_rate("generator", end) == pytest.approx(first / 10)
    assert model.learning_rate("generator", 3 * end) == pytest.approx(first / 10)
    halfway = model.learning_rate("generator", 1 + model.config.decay_steps // 2)
    assert halfway == pytest.approx(first * 0.1**0.5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MelGANConfig(ratios=(8, 8, 2, 2)), "--ratios is 8 x 8 x 2 x 2, which is 256; .*which is 160"),
        (lambda: MelGANConfig(width=100), "--width is 100; it must be a multiple of 16"),
        (lambda: VocosConfig(length=1024), "--length is 1024; it must be at least 4096"),
        (lambda: VocosConfig(discriminators=("judge",)), "--discriminators is 'judge'"),
        (lambda: VocosConfig(discriminator_widths=0.1), "--discriminator-widths is 0.1"),
        (lambda: VocosConfig(learning_rate=0.0), "--learning-rate is 0.0"),
        (lambda: VocosConfig(mel_weight=0.0, stft_weight=0.0), "--mel-weight and --stft-weight are both 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def test_too_few_frames_and_foreign_corpora_are_refused() -> None:
    with pytest.raises(UsageError, match="has 3 frames, but the melgan generator takes at least 4"):
        small("melgan").audio(torch.zeros(1, 64, 3))
    facts = CorpusFacts("corpora/x", ("audio",), 8000, 1)
    with pytest.raises(UsageError, match="--high-hz is 5000; at 8000 Hz"):
        Vocoder.settle(VocosConfig(high_hz=5000.0), facts)
    with pytest.raises(CorpusError, match="vocoder learns from single clips"):
        Vocoder.settle(VocosConfig(), CorpusFacts("corpora/x", ("dry", "wet"), RATE, 1))


def drums(first: int, count: int) -> list[torch.Tensor]:
    """Bars of a drum machine, each of another seed, tempo and pattern."""
    patterns = list(PATTERNS.values())
    return [
        torch.from_numpy(loop(76 + 37 * seed % 99, 1, RATE, patterns[seed % len(patterns)], seed=seed))
        for seed in range(first, first + count)
    ]


@pytest.mark.slow
def test_two_minutes_of_training_come_near_griffin_lim_and_leave_silence_silent() -> None:
    """100 bars of a drum machine, 20 others held out; the benchmark passes Griffin-Lim after three minutes."""
    torch.manual_seed(0)
    model = MODEL(VocosConfig(**FEW))
    optimizers = model.optimizers()

    def update(name: str, loss: torch.Tensor) -> None:
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    loops, held_out = drums(0, 100), drums(1000, 20)
    draws = np.random.default_rng(0)
    for step in range(1, 801):
        clips = [loops[n] for n in draws.integers(len(loops), size=4)]
        places = [int(draws.integers(clip.shape[1] - model.length)) for clip in clips]
        audio = torch.stack([clip[:, at : at + model.length] for clip, at in zip(clips, places, strict=True)])
        model.training_step(Batch({"audio": audio}, {}), step, update)
    with torch.inference_mode():
        ours = np.mean([float(distance(model.eval().copied(clip), clip)) for clip in held_out])
        theirs = np.mean([float(distance(model.searched(clip), clip)) for clip in held_out])
        silence = model.copied(torch.zeros(1, RATE))
    assert ours < 1.3 * theirs
    assert float(silence.abs().max()) < 1e-3  # -60 dB
