"""WaveGAN against the published architecture, and what it learns."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.contract import Batch, CorpusFacts, Request
from tonemill.models.wavegan import MODEL, WaveGAN, WaveGANConfig, strides

DRUMS = CorpusFacts("corpora/drums", ("audio",), 22050, 1, {"kind": ("kick", "snare"), "kit": ("one",)})
SMALL = WaveGANConfig(sample_rate=16000, channels=1, length=256, dim=2, latent_dim=8)
LABELLED = replace(SMALL, label="kind", labels=("kick", "snare"))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def latents(model: WaveGAN, seeds: list[int]) -> dict[str, Tensor]:
    inputs = [model.inputs(Request(seed, {}, {})) for seed in seeds]
    return {name: torch.stack([item[name] for item in inputs]) for name in inputs[0]}


class Training:
    """What the training loop does for a model, and a diary of it."""

    def __init__(self, model: WaveGAN) -> None:
        self.optimizers = model.optimizers()
        self.updates: list[str] = []

    def __call__(self, optimizer: str, loss: Tensor) -> None:
        loss.backward()
        self.optimizers[optimizer].step()
        self.optimizers[optimizer].zero_grad()
        self.updates.append(optimizer)


def clips(config: WaveGANConfig, size: int = 4) -> Tensor:
    return torch.rand(size, config.channels or 1, config.length) - 0.5


# Architecture


@pytest.mark.parametrize(
    ("lengths", "dim", "plain", "batch_norm", "stereo"),
    [
        ((16384,), 64, (19_065_345, 17_427_969), (19_069_313, 17_431_809), (19_066_946, 17_429_569)),
        ((16384,), 32, (5_180_673, 4_361_985), (5_182_657, 4_363_905), (5_181_474, 4_362_785)),
        ((32768, 65536), 64, (73_149_953, 69_875_201), (73_158_017, 69_883_137), (73_151_554, 69_876_801)),
        ((32768, 65536), 32, (19_115_777, 17_478_401), (19_119_809, 17_482_369), (19_116_578, 17_479_201)),
    ],
)
@pytest.mark.parametrize("upsampling", ["zeros", "nearest"])
def test_parameters_are_as_many_as_published(lengths, dim, plain, batch_norm, stereo, upsampling) -> None:
    for length in lengths:
        config = WaveGANConfig(sample_rate=16000, channels=1, length=length, dim=dim, upsampling=upsampling)
        variants = {config: plain, replace(config, batch_norm=True): batch_norm, replace(config, channels=2): stereo}
        for variant, expected in variants.items():
            with torch.device("meta"):
                model = WaveGAN(variant)
            assert (count(model.generator), count(model.discriminator)) == expected


def test_official_lengths_have_the_official_strides() -> None:
    assert strides(16384) == (4, 4, 4, 4, 4)
    assert strides(32768) == (4, 4, 4, 4, 4, 2)
    assert strides(65536) == (4, 4, 4, 4, 4, 4)


@pytest.mark.parametrize("upsampling", ["zeros", "nearest"])
@pytest.mark.parametrize("length", [64, 128, 4096, 8192, 16384, 32768, 65536, 131072])
def test_every_length_goes_out_and_in(length: int, upsampling) -> None:
    model = WaveGAN(replace(SMALL, length=length, dim=1, channels=2, upsampling=upsampling, post_filter=512)).eval()
    audio = model.render(latents(model, [0, 1]))
    assert audio.shape == (2, 2, length)
    assert model.discriminator(audio.clone()).shape == (2,)
    assert math.prod(strides(length)) * 16 == length


def test_post_filter_adds_its_taps_and_keeps_channels_apart() -> None:
    plain, filtered = WaveGAN(replace(SMALL, channels=2)), WaveGAN(replace(SMALL, channels=2, post_filter=512))
    assert count(filtered.generator) - count(plain.generator) == 2 * 512
    post_filter = filtered.generator.layers[-1]
    left = torch.zeros(1, 2, 256)
    left[:, 0] = torch.randn(256)
    assert post_filter(left)[:, 0].any()
    assert not post_filter(left)[:, 1].any()


def test_initial_weights_are_glorot_uniform_and_biases_zero() -> None:
    model = WaveGAN(replace(SMALL, dim=16))
    weight = model.discriminator.layers[3].weight  # 16 to 32 channels
    bound = math.sqrt(6 / (25 * (16 + 32)))
    assert weight.abs().max() <= 1.000001 * bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert not any(parameter.any() for name, parameter in model.named_parameters() if name.endswith("bias"))


def test_phase_shuffle_follows_the_first_four_stages_only() -> None:
    with torch.device("meta"):
        names = [type(layer).__name__ for layer in WaveGAN(replace(SMALL, length=65536)).discriminator.layers]
    assert names == ["SameConv1d", "LeakyReLU", "PhaseShuffle"] * 4 + ["SameConv1d", "LeakyReLU"] * 2


@pytest.mark.parametrize("upsampling", ["zeros", "nearest"])
def test_untrained_generators_ring_at_quarters_of_the_rate(upsampling) -> None:
    # The paper's appendix A: zeros between samples leave images of low frequencies at rate / 4^i, repetition does not.
    torch.manual_seed(0)
    power = torch.zeros(2049)
    for _ in range(8):
        model = WaveGAN(replace(SMALL, length=4096, dim=4, upsampling=upsampling))
        power += torch.fft.rfft(model.render(latents(model, list(range(8)))).squeeze(1)).abs().square().mean(0)
    around = [power[[*range(bin - 40, bin - 8), *range(bin + 8, bin + 40)]].mean() for bin in (256, 1024)]
    excess_db = [
        10 * math.log10(power[bin - 1 : bin + 2].max() / level) for bin, level in zip((256, 1024), around, strict=True)
    ]
    assert (min(excess_db) > 6) == (upsampling == "zeros")


def test_batch_norm_with_a_gradient_penalty_warns_when_training_starts() -> None:
    with pytest.warns(UserWarning, match="--batch-norm"):
        WaveGAN(replace(SMALL, batch_norm=True)).optimizers()


# Config and corpus


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "--dim is 0; it must be at least 1."),
        ({"post_filter": 0}, "--post-filter is 0; it must be at least 1."),
        ({"kernel_size": 3}, "--kernel-size is 3; it must be at least 4."),
        ({"length": 16000}, "--length is 16000; it must be a power of two, at least 64."),
        ({"length": 32}, "--length is 32; it must be a power of two, at least 64."),
        ({"phase_shuffle": 16}, "--phase-shuffle is 16; it must be from 0 to 15 samples."),
        ({"learning_rate": 0.0}, "--learning-rate is 0.0; it must be above 0."),
        ({"label_dropout": 1.0}, "--label-dropout is 1.0; it must be from 0 up to, not including, 1."),
        ({"labels": ("a", "b")}, "--labels is a, b, but --label is not given: it names the field that holds them."),
    ],
)
def test_wrong_settings_are_named_as_flags(settings, message: str) -> None:
    with pytest.raises(UsageError) as error:
        WaveGANConfig(**settings)
    assert str(error.value) == message


def test_settling_takes_rate_channels_and_labels_from_the_corpus() -> None:
    config = WaveGAN.settle(WaveGANConfig(label="kind"), DRUMS)
    assert (config.sample_rate, config.channels, config.labels) == (22050, 1, ("kick", "snare"))
    assert WaveGAN.settle(config, DRUMS) == config
    assert WaveGAN.settle(WaveGANConfig(), DRUMS).labels == ()


@pytest.mark.parametrize(
    ("settings", "facts", "words"),
    [
        ({}, {"roles": ("dry", "wet")}, ["holds dry and wet", "tonemill slice"]),
        ({"sample_rate": 44100}, {}, ["22050 Hz", "44100 Hz", "tonemill resample --rate 44100"]),
        ({"channels": 2}, {}, ["1 channel(s)", "--channels is 2", "tonemill train wavegan corpora/drums"]),
        ({"label": "sort"}, {}, ["no field 'sort'", "kind, kit", "tonemill train wavegan corpora/drums"]),
        ({"label": "sort"}, {"values": {}}, ["It has none"]),
        ({"label": "kit"}, {}, ["'kit' is 'one' in every example", "Train without --label"]),
        ({"label": "kind", "labels": ("kick", "hat")}, {}, ["has only kick, hat", "Leave --labels out"]),
    ],
)
def test_a_corpus_that_cannot_serve_is_refused(settings, facts, words: list[str]) -> None:
    with pytest.raises(CorpusError) as error:
        WaveGAN.settle(WaveGANConfig(**settings), replace(DRUMS, **facts))
    assert all(word in str(error.value) for word in ["corpora/drums", *words])


# Training steps


@pytest.mark.parametrize("loss", ["wgan-gp", "wgan", "dcgan", "lsgan"])
def test_the_generator_learns_at_every_fifth_step(loss) -> None:
    torch.manual_seed(0)
    model = WaveGAN(replace(SMALL, loss=loss)).train()
    training = Training(model)
    batch = Batch({"audio": clips(SMALL)}, {})
    for step in range(1, 11):
        before = [parameter.clone() for parameter in model.generator.parameters()]
        losses = model.training_step(batch, step, training)
        moved = any(not torch.equal(a, b) for a, b in zip(before, model.generator.parameters(), strict=True))
        assert moved == ("generator_loss" in losses) == (step % 5 == 0)
        assert ("gradient_penalty" in losses) == (loss == "wgan-gp")
        assert all(value.isfinite() and value.shape == () and not value.requires_grad for value in losses.values())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert training.updates == (["discriminator"] * 5 + ["generator"]) * 2
    if loss == "wgan":
        assert max(parameter.abs().max().item() for parameter in model.discriminator.parameters()) <= 0.01


@pytest.mark.filterwarnings("ignore:--batch-norm")
@pytest.mark.parametrize(
    "settings",
    [{"batch_norm": True}, {"phase_shuffle": 0}, {"phase_shuffle_per": "example"}, {"channels": 2, "post_filter": 16}],
)
def test_variants_train(settings) -> None:
    config = replace(SMALL, critic_steps=1, **settings)
    model = WaveGAN(config).train()
    losses = model.training_step(Batch({"audio": clips(config)}, {}), 1, Training(model))
    assert all(value.isfinite() for value in losses.values())


def test_silence_trains_too() -> None:
    model = WaveGAN(SMALL).train()
    losses = model.training_step(Batch({"audio": torch.zeros(2, 1, 256)}, {}), 5, Training(model))
    assert all(value.isfinite() for value in losses.values())


def test_clips_are_divided_by_their_peaks_or_left_alone() -> None:
    loud = clips(SMALL)
    quiet = loud * torch.tensor([0.5, 0.25, 0.125, 0.0625])[:, None, None]  # powers of two lose no bits

    def loss(audio: Tensor, normalize: bool) -> float:
        torch.manual_seed(0)
        model = WaveGAN(replace(SMALL, normalize=normalize)).train()
        return model.training_step(Batch({"audio": audio}, {}), 1, Training(model))["discriminator_loss"].item()

    assert loss(loud, True) == loss(quiet, True)
    assert loss(loud, False) != loss(quiet, False)


def test_training_under_autocast_stays_finite() -> None:
    model = WaveGAN(replace(SMALL, critic_steps=1)).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.training_step(Batch({"audio": clips(SMALL)}, {}), 1, Training(model))
    assert all(value.isfinite() and value.dtype == torch.float32 for value in losses.values())


# Classes


def test_classes_shape_the_audio() -> None:
    model = WaveGAN(LABELLED)
    kick, snare = (model.inputs(Request(7, {"kind": kind}, {})) for kind in ("kick", "snare"))
    assert torch.equal(kick["latent"], snare["latent"])
    audio = model.render({name: torch.stack([kick[name], snare[name]]) for name in kick})
    assert not torch.allclose(audio[0], audio[1], atol=1e-4)


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(UsageError, match="kind is 'hat', but this model was trained on kick, snare"):
        WaveGAN(LABELLED).inputs(Request(7, {"kind": "hat"}, {}))


def test_a_missing_class_is_drawn_from_the_seed_or_left_out_where_that_was_trained() -> None:
    model = WaveGAN(LABELLED)
    drawn = latents(model, list(range(40)))["label"]
    assert drawn.unique().tolist() == [0, 1]
    assert torch.equal(drawn, latents(model, list(range(40)))["label"])
    assert set(latents(WaveGAN(replace(LABELLED, label_dropout=0.1)), [0, 1])["label"].tolist()) == {2}


def test_classes_train_generator_and_discriminator() -> None:
    torch.manual_seed(0)
    model = WaveGAN(replace(LABELLED, critic_steps=1)).train()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    batch = Batch({"audio": clips(SMALL)}, {"kind": ["kick", "snare", "snare", None]})
    training = Training(model)
    for step in (1, 2):
        model.training_step(batch, step, training)
    for name in ("generator.embedding.weight", "discriminator.projection.weight"):
        assert (model.get_parameter(name) != before[name]).any(dim=1).all()  # both classes and "no label"


def test_all_labels_drop_out_at_a_share_near_one() -> None:
    torch.manual_seed(0)
    model = WaveGAN(replace(LABELLED, label_dropout=0.999)).train()
    model.training_step(Batch({"audio": clips(SMALL)}, {"kind": ["kick"] * 4}), 1, Training(model))
    assert not model.discriminator.projection.weight[:2].any()
    assert model.discriminator.projection.weight[2].any()


# Rendering


@pytest.mark.parametrize("size", [1, 5, 7, 16])
@pytest.mark.parametrize("upsampling", ["zeros", "nearest"])
def test_an_example_has_the_same_bits_whatever_its_neighbours_and_place(size: int, upsampling) -> None:
    torch.manual_seed(0)
    model = WaveGAN(replace(SMALL, length=4096, dim=8, upsampling=upsampling, post_filter=64))
    first = model.render(latents(model, [3, *range(100, 99 + size)]))[0]
    last = model.render(latents(model, [*range(200, 199 + size), 3]))[-1]
    assert torch.equal(first, last)


@pytest.mark.parametrize("upsampling", ["zeros", "nearest"])
def test_threads_change_no_more_than_the_last_bits(upsampling) -> None:
    # equal bits for "zeros" at all sizes tried; "nearest" differed at odd sizes (oneDNN, 1 against 2 threads)
    model = WaveGAN(replace(SMALL, length=4096, dim=8, upsampling=upsampling))
    inputs = latents(model, [0, 1, 2])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = model.render(inputs)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(model.render(inputs), one, atol=1e-5, rtol=0)


def test_rendering_uses_running_statistics_and_leaves_the_mode_alone() -> None:
    model = WaveGAN(replace(SMALL, batch_norm=True)).train()
    inputs = latents(model, [0, 1, 2])
    audio = model.render(inputs)
    alone = model.render({"latent": inputs["latent"][:1]})
    torch.testing.assert_close(audio[:1], alone, atol=1e-5, rtol=0)
    assert model.generator.training
    assert not audio.requires_grad


def test_seeds_differ_beyond_their_lower_32_bits() -> None:
    model = WaveGAN(SMALL)
    a, b, c = (model.inputs(Request(seed, {}, {}))["latent"] for seed in (5, 5 + 2**32, 2**64 - 1))
    assert not torch.equal(a, b)
    assert c.dtype == torch.float32
    assert c.abs().max() <= 1


def test_the_generator_alone_renders() -> None:
    model = WaveGAN(SMALL)
    other = WaveGAN(SMALL)
    other.rendering_parts()["generator"].load_state_dict(model.rendering_parts()["generator"].state_dict())
    inputs = latents(model, [0, 1])
    assert torch.equal(model.render(inputs), other.render(inputs))


# Learning


def drum_hits(count: int, length: int) -> Tensor:
    """Low-passed noise that dies away, with peaks of 1."""
    rng = np.random.default_rng(0)
    noise = np.stack([np.convolve(x, np.hanning(9), "same") for x in rng.standard_normal((count, length))])
    hits = noise * np.exp(-np.arange(length) / (length * rng.uniform(0.05, 0.2, (count, 1))))
    return torch.from_numpy((hits / np.abs(hits).max(axis=1, keepdims=True)).astype(np.float32))[:, None]


def level_db(x: Tensor) -> Tensor:
    return 10 * torch.log10(x.square().mean())


def envelope_db(x: Tensor) -> Tensor:
    return 10 * torch.log10(x.square().mean(dim=(0, 1)).view(16, -1).mean(1) + 1e-9)


def spectrum_db(x: Tensor) -> Tensor:
    power = torch.fft.rfft(x[:, 0]).abs().square().mean(0)[1:].view(32, -1).mean(1)
    return 10 * torch.log10(power / power.max() + 1e-3)


def learn(steps: int) -> dict[str, list[float]]:
    """Distances in dB between the corpus and what is rendered, before learning and after."""
    torch.manual_seed(0)
    corpus = drum_hits(256, 4096)
    config = replace(SMALL, length=4096, dim=8, latent_dim=100, learning_rate=1e-3, critic_steps=2)
    model = WaveGAN(config).train()
    training = Training(model)
    inputs = latents(model, list(range(64)))
    measures = {"level": level_db, "envelope": envelope_db, "spectrum": spectrum_db}
    distances: dict[str, list[float]] = {name: [] for name in measures}
    for step in range(steps + 1):
        if step > 0:
            model.training_step(Batch({"audio": corpus[torch.randint(256, (16,))]}, {}), step, training)
        if step in (0, steps):
            rendered = model.render(inputs)
            for name, measure in measures.items():
                distances[name].append((measure(rendered) - measure(corpus)).abs().mean().item())
    return distances


def test_a_hundred_steps_teach_the_level() -> None:
    before, after = learn(100)["level"]
    assert before > 15
    assert after < 8


@pytest.mark.slow
def test_more_steps_teach_envelope_and_spectrum() -> None:
    for before, after in learn(1200).values():
        assert after < before


def test_the_folder_scan_finds_it() -> None:
    assert MODEL is WaveGAN
