"""Diffusion as a model: what it keeps, varies and guides, its errors, and that it learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from autoregressive_noise import noise

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.contract import Batch, CorpusFacts, Request
from tonemill.models.diffusion import MODEL
from tonemill.models.diffusion.inpainting import kept
from tonemill.models.diffusion.model import Diffusion
from tonemill.models.diffusion.options import Continuing, Decoding, Generating, Inpainting, Reading, Varying
from tonemill.models.diffusion.settings import (
    AutoencodeConfig,
    DiffusionConfig,
    LatentConfig,
    UpsampleConfig,
    VocodeConfig,
)
from tonemill.models.diffusion.tasks import task_of
from tonemill.models.exchange import ArrayFacts
from tonemill.models.parts.spectra import stft

RATE = 16000
TINY: dict[str, Any] = {
    "length": 1024,
    "channels_per_level": (8, 8),
    "factors": (8, 4),
    "items": (1, 1),
    "attentions": (0, 1),
    "modulation_dim": 16,
    "head_dim": 8,
    "sample_rate": RATE,
    "channels": 1,
    "zero_init": False,
}
CLASSES = {"label": "kind", "labels": ("kick", "snare")}


@cache
def tiny(**settings: Any) -> Diffusion:
    torch.manual_seed(0)
    model = MODEL(DiffusionConfig(**{**TINY, **settings})).eval()
    model.fit([Batch({"audio": noise(16, 1024, 0)}, {})])
    if "classes" in model.denoiser.conditions:
        torch.nn.init.normal_(model.denoiser.conditions["classes"].weight)
    return model


def rendered(model: Diffusion, direction: str, options: Any, seed: int = 1, **given: Any) -> torch.Tensor:
    """One clip (channels, time)."""
    request = Request(seed, given.get("fields", {}), given.get("audio", {}), {}, direction, options)
    inputs = {name: one[None] for name, one in model.inputs(request).items()}
    return model.render(inputs, direction, options)[0]


def sound(seed: int, samples: int = 3000) -> Mapping[str, np.ndarray]:
    return {"audio": noise(1, samples, seed)[0].numpy()}


@pytest.mark.parametrize("seconds", [0.001, 0.05, 0.3])
def test_a_clip_has_the_length_that_was_wanted(seconds: float) -> None:
    assert rendered(tiny(), "render", Generating(seconds=seconds)).shape == (1, round(seconds * RATE))
    assert rendered(tiny(), "render", Generating()).shape == (1, 1024)


def test_strength_0_leaves_a_sound_and_1_makes_another() -> None:
    audio = sound(3)
    true = torch.from_numpy(audio["audio"])
    assert torch.equal(rendered(tiny(), "vary", Varying(strength=0.0), audio=audio), true)
    errors = []
    for strength in (0.05, 0.4, 1.0):
        found = rendered(tiny(), "vary", Varying(strength=strength), audio=audio)
        errors.append(float((found - true).square().mean() / true.square().mean()))
    assert errors == sorted(errors) and errors[0] < 0.1 and errors[2] > 0.5


@pytest.mark.parametrize("resamples", [1, 3])
def test_what_is_kept_is_equal_to_the_bit(resamples: int) -> None:
    audio = sound(4)
    true = torch.from_numpy(audio["audio"])
    options = Inpainting(keep="0-0.05,0.1-0.15", resamples=resamples)
    found, mask = rendered(tiny(), "inpaint", options, audio=audio), kept(options.keep, 3000, RATE)
    assert torch.equal(found[:, mask], true[:, mask])
    assert (found[:, ~mask] - true[:, ~mask]).abs().max() > 1e-2


def test_ranges_are_in_seconds() -> None:
    mask = kept("0-0.01, .05-0.06,9-10", 1000, RATE)
    assert mask.nonzero().flatten().tolist() == [*range(160), *range(800, 960)]
    assert not kept("", 1000, RATE).any()


def test_resampling_changes_what_is_made() -> None:
    """With the reference it does not: its step back undoes the step (audio-diffusion-pytorch's published code)."""
    audio = sound(4)
    once, thrice = (
        rendered(tiny(), "inpaint", Inpainting(keep="0-0.05", resamples=rounds), audio=audio) for rounds in (1, 3)
    )
    assert (once - thrice)[:, 800:].abs().max() > 1e-3


def test_nothing_kept_is_plain_sampling() -> None:
    """The first noise is the same; with one round no other noise matters."""
    made = rendered(tiny(), "inpaint", Inpainting(keep="", resamples=1, seed=0), audio=sound(4, 1024))
    torch.testing.assert_close(made, rendered(tiny(), "render", Generating()), atol=1e-5, rtol=0)


def test_a_sound_is_continued() -> None:
    audio = sound(5)
    found = rendered(tiny(zero_init=True), "continue", Continuing(seconds=0.1), audio=audio)
    assert found.shape == (1, 3000 + 1600)
    assert torch.equal(found[:, :3000], torch.from_numpy(audio["audio"]))
    assert found[:, 3000:].square().mean().sqrt() == pytest.approx(0.2, rel=0.5)


def test_seeds_decide_what_is_read_too() -> None:
    audio = sound(5)
    first, again, other, second = (
        rendered(tiny(), "vary", Varying(seed=option), seed=seed, audio=audio)
        for seed, option in ((1, 0), (1, 0), (2, 0), (1, 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other) and not torch.equal(first, second) and not torch.equal(other, second)


def test_guidance_1_goes_to_the_class_0_to_none_and_both_are_two_calls() -> None:
    model = tiny(**CLASSES)
    kick = {"fields": {"kind": "kick"}}
    slopes = {}
    for guidance in (0.0, 1.0, 3.0):
        options = Generating(steps=1, guidance=guidance)
        slopes[guidance] = rendered(model, "render", options, **kick)
    none = rendered(model, "render", Generating(steps=1))
    torch.testing.assert_close(slopes[0.0], none, atol=1e-6, rtol=0)
    torch.testing.assert_close(slopes[3.0], none + 3 * (slopes[1.0] - none), atol=1e-5, rtol=0)
    assert (slopes[1.0] - none).abs().max() > 1e-4
    outside = Generating(steps=1, guidance=3.0, guide_to=0.1)
    torch.testing.assert_close(rendered(model, "render", outside, **kick), slopes[1.0], atol=1e-6, rtol=0)


def test_the_low_bands_of_an_upsampled_sound_stay() -> None:
    """Below .8 of half the old rate to -40 dB; a network without training adds what it likes above."""
    torch.manual_seed(0)
    model = MODEL(UpsampleConfig(**TINY, factor=4)).eval()
    true = torch.randn(4, 1, 8192)
    model.fit([Batch({"audio": true}, {})])
    low = model.task.code(true)
    assert low is not None
    found = torch.stack([rendered(model, "render", Reading(), audio={"audio": one.numpy()}) for one in low])
    bands = [stft(one, 1024, 256).abs().square().mean(dim=(0, 1, 2)) for one in (found - true, true)]
    old = 512 // 4
    share_db = 10 * (bands[0][: int(0.8 * old)].sum() / bands[1][: int(0.8 * old)].sum()).log10()
    assert share_db < -40
    above = stft(found, 1024, 256)[..., int(1.2 * old) :].abs().square().mean()
    assert above > 0.1 * bands[1][int(1.2 * old) :].mean()


CODED: dict[str, DiffusionConfig] = {
    "vocode": VocodeConfig(**{**TINY, "channels": 2}, n_fft=256, hop_length=64, mel_bands=16),
    "autoencode": AutoencodeConfig(
        **{**TINY, "channels": 2}, compression=32, latent_dim=4, level_bands=2, encoder_dim=8
    ),
}


@cache
def coded(task: str) -> Diffusion:
    torch.manual_seed(0)
    model = MODEL(CODED[task]).eval()
    model.fit([Batch({"audio": noise(32, 1024, 0).reshape(16, 2, 1024)}, {})])
    return model


@pytest.mark.parametrize("samples", [1, 100, 3000, 3072])
@pytest.mark.parametrize("task", CODED)
def test_a_code_holds_all_that_a_render_takes_from_a_sound(task: str, samples: int) -> None:
    """Of any length and both channels: decoding what was encoded is rendering, but for the end of the last frame."""
    model, audio = coded(task), {"audio": noise(2, samples, 3)[:, 0].numpy()}
    about = model.config.array
    assert about is not None
    code = rendered(model, "encode", None, audio=audio)
    assert code.shape == (about.rows, -(-samples // about.hop))
    request = Request(1, {}, {}, {about.name: code.numpy()}, "decode", Reading())
    inputs = {name: one[None] for name, one in model.inputs(request).items()}
    decoded, whole = model.render(inputs, "decode", Reading())[0], rendered(model, "render", Reading(), audio=audio)
    assert decoded.shape == (2, code.shape[1] * about.hop) and whole.shape == (2, samples)
    if samples == 3072:
        torch.testing.assert_close(decoded, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("task", CODED)
def test_a_code_does_not_depend_on_neighbours_and_decides_the_sound(task: str) -> None:
    """The reference divides a mel by the largest value of its batch."""
    model, clips = coded(task), noise(8, 2048, 4).reshape(4, 2, 2048)
    clips[1] *= 5
    alone = model.render({"audio": clips[:1]}, "encode", None)
    torch.testing.assert_close(model.render({"audio": clips}, "encode", None)[:1], alone, atol=1e-5, rtol=1e-5)
    first, second = (rendered(model, "render", Reading(), audio={"audio": one.numpy()}) for one in clips[[0, 2]])
    assert (first - second).abs().max() > 1e-4


def test_the_reference_vocoder_has_as_many_weights_in_its_front() -> None:
    config = VocodeConfig(sample_rate=48000, channels=2, n_fft=1024, hop_length=256, mel_bands=80)
    task = task_of(config)
    assert sum(parameter.numel() for parameter in task.parameters()) == 81_920
    assert task.seen(task.code(torch.randn(1, 1, 2**15))).appended.shape == (1, 1, 2**15)


@pytest.mark.parametrize("begin", [0.3, 1.0])
@pytest.mark.parametrize("task", CODED)
def test_a_pause_in_a_code_stays_a_pause(task: str, begin: float) -> None:
    """Of a network that was not trained; the window of a frame is 8 or 16 ms.

    At -60 dB of what is around it, and of two bands of 4 kHz at -45, for silence is 1e-5 a hertz in a mel spectrogram.
    """
    model, audio = coded(task), noise(2, 6000, 3)[:, 0]
    audio[:, 2000:4000] = 0
    found = rendered(model, "render", Decoding(begin=begin), audio={"audio": audio.numpy()})
    levels = [float(found[:, place].square().mean().sqrt()) for place in (slice(2300, 3700), slice(0, 1800))]
    assert levels[0] < (1e-3 if task == "vocode" else 10 ** (-45 / 20)) * levels[1]


def test_an_encoder_learns_by_the_loss_of_the_sound() -> None:
    model = MODEL(CODED["autoencode"]).train()

    def update(_: str, loss: torch.Tensor) -> None:
        loss.backward()

    model.training_step(Batch({"audio": noise(8, 1024, 0).reshape(4, 2, 1024)}, {}), 1, update)
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in model.task.parameters())


def test_a_corpus_decides_rate_channels_and_classes() -> None:
    facts = CorpusFacts("corpora/drums", ("audio",), 22050, 2, {"kind": ("kick", "snare")})
    config = MODEL.settle(DiffusionConfig(label="kind"), facts)
    assert (config.sample_rate, config.channels, config.labels) == (22050, 2, ("kick", "snare"))
    with pytest.raises(CorpusError, match="has no field 'colour'"):
        MODEL.settle(DiffusionConfig(label="colour"), facts)
    with pytest.raises(CorpusError, match="diffusion learns from single clips"):
        MODEL.settle(DiffusionConfig(), dataclasses.replace(facts, roles=("dry", "wet")))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"length": 100}, "--length is 100; it must be at least the product of --factors, which is 512"),
        ({"items": (1, 2)}, "--items has 2 value(s), but there are 7 --channels-per-level; give as many"),
        ({"factors": (1, 4, 4, 4, 2, 2, 0)}, "--factors is 1 4 4 4 2 2 0; each must be at least 1"),
        ({"head_dim": 31}, "--head-dim is 31; it must be even"),
        ({"learning_rate": 0.0}, "--learning-rate is 0.0; it must be above 0"),
        ({"weight_decay": -1.0}, "--weight-decay is -1.0"),
        ({"condition_dropout": 1.0}, "--condition-dropout is 1.0"),
        ({"labels": ("a", "b")}, "--label is not given"),
        ({"cross_attentions": (0,) * 7}, "give --caption FIELD or --embedding ARRAY"),
        ({"caption_bytes": 0}, "--caption-bytes is 0; it must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        DiffusionConfig(**settings)
    assert words in str(refused.value)


@pytest.mark.parametrize("task", CODED)
def test_half_precision_trains_on_the_same_losses(task: str) -> None:
    """To 2 %, as losses and spectra stay in float32."""
    losses = []
    for enabled in (False, True):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            batch = Batch({"audio": noise(16, 1024, 0).reshape(8, 2, 1024)}, {})
            losses.append(float(coded(task).training_step(batch, 1, lambda _, __: None)["loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


OF_LATENT_NETWORK = {"channels_per_level": (8,), "factors": (4,), "items": (1,), "attentions": (1,), "head_dim": 8}
OF_LATENTS = CorpusFacts("corpora/latents", (), RATE, 0, arrays={"latents": ArrayFacts(6, 128)})


def test_latents_have_the_frames_and_the_statistics_of_a_corpus() -> None:
    """Each row its own level, and two rows that are one: the network, which gives zeros at first, adds nothing."""
    model = MODEL(MODEL.settle(LatentConfig(**OF_LATENT_NETWORK, length=12800), OF_LATENTS)).eval()
    drawn = torch.randn(64, 6, 100, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.2, 1.2, 6)[:, None]
    drawn[:, 5] = drawn[:, 4]
    model.fit([Batch({}, {}, {"latents": drawn})])
    assert rendered(model, "render", Generating()).shape == (6, 100)
    assert rendered(model, "render", Generating(seconds=0.5)).shape == (6, 63)
    seeds = {"seed": torch.tensor([[seed, 0] for seed in range(64)])}
    found = model.render(seeds, "render", Generating())
    deviations = [one.std(dim=(0, 2)) for one in (found, drawn)]
    torch.testing.assert_close(*deviations, rtol=0.1, atol=0)
    assert torch.corrcoef(found[:, 4:].transpose(0, 1).reshape(2, -1))[0, 1] > 0.99


def test_a_corpus_without_fitting_latents_is_refused() -> None:
    with pytest.raises(CorpusError, match="learns from the array latents"):
        MODEL.settle(LatentConfig(**OF_LATENT_NETWORK), dataclasses.replace(OF_LATENTS, roles=("audio",), arrays={}))
    with pytest.raises(CorpusError, match="holds latents with rows 6, but --rows is 4"):
        MODEL.settle(LatentConfig(**OF_LATENT_NETWORK, rows=4), OF_LATENTS)
    with pytest.raises(
        CorpusError, match="--length is 100, but the array of corpora/latents has frames of 128 samples"
    ):
        MODEL.settle(LatentConfig(**OF_LATENT_NETWORK, length=100), OF_LATENTS)


def test_levels_take_not_all_of_a_code() -> None:
    with pytest.raises(UsageError, match="--level-bands is 32; it must be at least 0 and below --latent-dim, which is"):
        AutoencodeConfig(level_bands=32)


def test_half_of_a_code_are_levels_and_none_of_a_run_that_knew_none() -> None:
    """Its run.json has no such setting, and its weights have no such buffers."""
    assert MODEL.settle(AutoencodeConfig(), CorpusFacts("corpora/loops", ("audio",), RATE, 1)).level_bands == 16
    earlier = dataclasses.replace(CODED["autoencode"], level_bands=None)
    assert MODEL.directions(earlier)["decode"].options is Reading
    assert not any("band" in name for name in MODEL(earlier).task.state_dict())


def test_a_code_states_levels_of_bands_of_a_corpus() -> None:
    """Noise of 20 dB less has its levels 20 dB lower, in rows that have mean 0 and deviation 1 over the corpus."""
    torch.manual_seed(0)
    model = MODEL(CODED["autoencode"]).eval()
    clips = 0.1 * torch.randn(16, 2, 1024) * torch.tensor([1.0, 0.1]).repeat(8)[:, None, None]
    model.fit([Batch({"audio": clips}, {})])
    with torch.no_grad():
        code = model.task.code(clips)
    levels = code[:, :2]
    torch.testing.assert_close(levels.mean(dim=(0, 2)), torch.zeros(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(levels.std(dim=(0, 2)), torch.ones(2), atol=1e-2, rtol=0)
    apart = (levels[0::2] - levels[1::2]).mean(dim=(0, 2)) * model.task.band_deviation
    torch.testing.assert_close(20 * apart, torch.full((2,), 20.0), atol=0.5, rtol=0)


def test_a_compression_between_levels_is_refused() -> None:
    with pytest.raises(UsageError, match="--compression is 100; it must be a product of the first --factors: 1, 4, 16"):
        AutoencodeConfig(compression=100)


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ("1", "it must be ranges in seconds, as --keep 0-1,1.5-2"),
        ("1-0.5", "a range must end after it begins"),
        ("0-0.1,1..2-3", "it must be ranges in seconds"),
    ],
)
def test_ranges_that_cannot_be_are_refused(keep: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        rendered(tiny(), "inpaint", Inpainting(keep=keep), audio=sound(1))
    assert words in str(refused.value)


def test_guidance_without_classes_or_dropout_is_refused() -> None:
    with pytest.raises(UsageError, match="trained without labels or other conditions"):
        rendered(tiny(), "render", Generating(guidance=2.0))
    with pytest.raises(UsageError, match="trained with --condition-dropout 0"):
        rendered(tiny(**CLASSES, condition_dropout=0.0), "render", Generating(guidance=2.0))
    with pytest.raises(UsageError, match="this model was trained on kick, snare"):
        rendered(tiny(**CLASSES), "render", Generating(), fields={"kind": "tom"})


def test_other_channels_and_silence_are_refused() -> None:
    with pytest.raises(UsageError, match="2 channel\\(s\\), but the model was trained on 1"):
        rendered(tiny(), "vary", Varying(), audio={"audio": np.zeros((2, 2000), np.float32)})
    with pytest.raises(CorpusError, match="only silence in it"):
        MODEL(DiffusionConfig(**TINY)).fit([Batch({"audio": torch.zeros(2, 1, 1024)}, {})])


@pytest.mark.parametrize("objective", ["v", "flow"])
@pytest.mark.parametrize("scale", [True, False])
def test_training_begins_at_the_loss_of_the_best_linear_denoiser(objective: str, scale: bool) -> None:
    """Which validation states, and its score is 1 there: filtered noise."""
    torch.manual_seed(1)
    model = MODEL(DiffusionConfig(**{**TINY, "zero_init": True, "scale": scale, "objective": objective})).eval()
    model.fit([Batch({"audio": noise(32, 1024, 0)}, {})])
    with torch.no_grad():
        found = model.validate(Request(n, {}, {"audio": noise(1, 1024, n)[0].numpy()}) for n in range(50, 60))
    assert found is not None and found.score == pytest.approx(1, abs=1e-4)
    assert found.values["loss_at_0.5"] == pytest.approx(found.values["gaussian_loss_at_0.5"], rel=1e-4)
    if objective == "v":
        batch = Batch({"audio": noise(64, 1024, 7)}, {})
        losses = model.training_step(batch, 1, lambda _, __: None)
        assert float(losses["loss"] * model.denoiser.gaussian.deviation ** (1 + scale)) != 0
        assert float(losses["loss_over_expected"]) == pytest.approx(1, abs=0.1)
